"""Trials of an MEG or EEG run: cut around the events, corrected for their baseline, the bad ones left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.events import Block, Events
from decoders.signal.glm import trial_events
from decoders.signal.meg_noise import shrunk_covariance
from decoders.signal.steps import Steps, parameter_of
from decoders.signal.whitening import numerical_rank
from decoders.store.recording import Recording

# A trial is rejected when its logarithm of the peak-to-peak amplitude lies so many deviations (MAD) above the median,
# and the amplitude is at least twice the median.
_REJECT_Z, _REJECT_RATIO = 5.0, 2.0
# Trials that a threshold from the data needs.
_LEAST_TRIALS = 10


def epoch_run(recording: Recording, events: Events, settings: MegSettings, run: Run, steps: Steps) -> Recording:
    """Turn a run in time into trials.

    Parameters
    ----------
    recording : Recording
        As `decoders.signal.meg.prepare_sensor_run` leaves it.
    events : Events
        Onsets in seconds from the first sample of the file.
    settings : MegSettings
    run : Run
    steps : Steps

    Returns
    -------
    recording : Recording
        Axis "trial", data of shape (n_trials, n_channels, n_times). `groups` is the index of each trial among all
        events with a trial type. With `excluded` set, and no data, if no trial is left.

    Raises
    ------
    InputError
        There are no trials, or none of them fits into the run.
    """
    trials = [trial for trial in trial_events(events) if not trial.condition.upper().startswith("BAD")]
    if not trials:
        remedy = "Add the column trial_type, or leave alignment.time out."
        raise InputError("events with a trial_type that are not BAD_…", "none", events.where, remedy)
    rate = recording.sfreq
    window = np.arange(round(settings.epoch_s[0] * rate), round(settings.epoch_s[1] * rate) + 1)
    shift = float(parameter_of(recording.steps, "triggers", "onset_shift_s", 0.0))
    starts = np.array([round((trial.onset - shift) * rate) for trial in trials])
    _say_spacing(trials, settings, steps)
    inside = (starts + window[0] >= 0) & (starts + window[-1] < len(recording.data))
    if not inside.any():
        found = f"{len(trials)} events, and no whole epoch inside the run of {len(recording.data) / rate:.4g} s"
        remedy = "Shorten preprocess.meg.epoch_s, or check that the events belong to this run."
        raise InputError(
            f"events with {settings.epoch_s[0]:g} to {settings.epoch_s[1]:g} s around them", found, events.where, remedy
        )
    bad = recording.quality.get("bad", np.zeros(len(recording.data), dtype=np.uint8)).astype(bool)
    marked = np.array(
        [
            ok and bool(bad[start + window[0] : start + window[-1] + 1].any())
            for start, ok in zip(starts, inside, strict=True)
        ]
    )
    data = _cut(recording.data, starts[inside & ~marked], window)
    times = window / rate
    _subtract_baseline(data, times, settings)
    kinds = _kinds(recording)
    keep, thresholds, reasons = judge_trials(data, kinds, settings, steps)
    places = np.flatnonzero(inside & ~marked)[keep]
    _note(trials, places, inside, marked, keep, thresholds, reasons, starts, rate, shift, settings, steps)
    base = replace(
        recording, axis="trial", sfreq=rate, epoch_time=times, quality={}, steps=[*recording.steps, *steps.entries]
    )
    if not places.size:
        reason = f"all {len(trials)} trials are rejected"
        steps.warn(f"the run is excluded, and the study goes on without it: {reason}")
        return replace(base, data=np.zeros((0, 0, 0), dtype=np.float32), excluded=reason, time=np.zeros(0),
                       conditions=np.zeros(0, dtype=object), groups=np.zeros(0, dtype=np.int64),
                       steps=[*recording.steps, *steps.entries])  # fmt: skip
    data = data[keep]
    covariance = _covariance(data, times, recording, kinds, settings, steps)
    return replace(
        base, data=data, time=recording.time[0] + np.array([trials[i].onset - shift for i in places]),
        conditions=np.array([trials[i].condition for i in places], dtype=object), groups=places.astype(np.int64),
        noise_covariance=covariance, steps=[*recording.steps, *steps.entries],
    )  # fmt: skip


def _kinds(recording: Recording) -> list[str]:
    return [str(kind) for kind in recording.channel_types] or ["region"] * recording.data.shape[1]


def _cut(data: NDArray[np.float32], starts: NDArray[np.int64], window: NDArray[np.int64]) -> NDArray[np.float32]:
    out = np.empty((len(starts), data.shape[1], len(window)), dtype=np.float32)
    for trial, start in enumerate(starts):
        out[trial] = data[start + window[0] : start + window[-1] + 1].T
    return out


def _subtract_baseline(data: NDArray[np.float32], times: NDArray[np.float64], settings: MegSettings) -> None:
    if settings.baseline_s is not None:
        used = within(times, settings.baseline_s)
        data -= data[:, :, used].mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)


def within(times: NDArray[np.float64], span: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which times lie in a span, its ends included."""
    return (times >= span[0] - 1e-9) & (times <= span[1] + 1e-9)


def judge_trials(
    data: NDArray[np.float32], kinds: Sequence[str], settings: MegSettings, steps: Steps
) -> tuple[NDArray[np.bool_], dict[str, float], dict[str, int]]:
    """Decide which trials are kept, by their peak-to-peak amplitude.

    Parameters
    ----------
    data : array of shape (n_trials, n_channels, n_times)
    kinds : sequence of str
        Type of each channel.
    settings : MegSettings
    steps : Steps

    Returns
    -------
    keep : array of bool of shape (n_trials,)
    thresholds : dict of str to float
        Per type of channel, in its unit.
    reasons : dict of str to int
        Trials that each type rejects.
    """
    keep = np.ones(len(data), dtype=bool)
    thresholds: dict[str, float] = {}
    reasons: dict[str, int] = {}
    if settings.reject == "none":
        return keep, thresholds, reasons
    if settings.reject == "auto" and len(data) < _LEAST_TRIALS:
        steps.warn(f"{len(data)} trials are too few for a threshold from the data: none is rejected for its amplitude")
        return keep, thresholds, reasons
    for kind in dict.fromkeys(kinds):
        own = [row for row, other in enumerate(kinds) if other == kind]
        size = np.ptp(data[:, own], axis=2).max(axis=1).astype(np.float64)
        limit = auto_threshold(size) if settings.reject == "auto" else settings.reject_above.get(kind)  # type: ignore[call-overload]
        if limit is not None:
            thresholds[kind] = float(limit)
            reasons[kind] = int((size > limit).sum())
            keep &= size <= limit
    return keep, thresholds, reasons


def auto_threshold(size: NDArray[np.float64]) -> float:
    """Return the amplitude of an outlier: 5 deviations (MAD) of the logarithm, and twice the median."""
    logs = np.log(np.maximum(size, 1e-300))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return float(np.exp(max(middle + _REJECT_Z * spread, middle + np.log(_REJECT_RATIO))))


def _say_spacing(trials: list[Block], settings: MegSettings, steps: Steps) -> None:
    """Events that follow each other within the epoch: the responses lie over each other."""
    gaps = np.diff(sorted(trial.onset for trial in trials))
    short = int((gaps < settings.epoch_s[1]).sum())
    if short:
        steps.warn(
            f"{short} of {len(trials)} events are shorter than the epoch: the next begins after"
            f" {gaps.min():.3g} s at the earliest, and the epoch, which ends at {settings.epoch_s[1]:g} s, holds it as well"
        )


def _note(
    trials: list[Block], places: NDArray[np.int64], inside: NDArray[np.bool_], marked: NDArray[np.bool_],
    keep: NDArray[np.bool_], thresholds: dict[str, float], reasons: dict[str, int], starts: NDArray[np.int64],
    rate: float, shift: float, settings: MegSettings, steps: Steps,
) -> None:  # fmt: skip
    rounding = max(abs(trial.onset - shift - start / rate) for trial, start in zip(trials, starts, strict=True))
    counts = Counter(trials[i].condition for i in places)
    lost = sorted({trial.condition for trial in trials} - set(counts))
    steps.add(
        "epochs", "cut around the events; those outside, in bad spans or too large are left out",
        n=len(places), n_events=len(trials), n_outside=int((~inside).sum()), n_in_bad_spans=int(marked.sum()),
        n_rejected=int((~keep).sum()), thresholds=thresholds, rejected_by=reasons, epoch_s=list(settings.epoch_s),
        baseline_s=None if settings.baseline_s is None else list(settings.baseline_s),
        rounding_ms=round(1000 * rounding, 3), conditions=len(counts), lost_conditions=lost[:20],
    )  # fmt: skip
    if (~inside).any():
        steps.warn(f"{int((~inside).sum())} of {len(trials)} events are left out: their epoch reaches beyond the run")
    if lost:
        steps.warn(f"no trial is left of {len(lost)} conditions: {', '.join(lost[:8])}{', …' if len(lost) > 8 else ''}")


def _covariance(
    data: NDArray[np.float32], times: NDArray[np.float64], recording: Recording, kinds: Sequence[str],
    settings: MegSettings, steps: Steps,
) -> NDArray[Any]:  # fmt: skip
    """Return the noise covariance of the baselines; that of the run where there is none, or another is asked for."""
    used = np.zeros(len(times), dtype=bool) if settings.baseline_s is None else within(times, settings.baseline_s)
    if settings.noise in ("empty_room", "run") or used.sum() < 2:
        return recording.noise_covariance
    samples = data[:, :, used].astype(np.float64)
    samples = (samples - samples.mean(axis=2, keepdims=True)).transpose(1, 0, 2).reshape(data.shape[1], -1)
    rank = int(parameter_of(recording.steps, "rank", "rank", data.shape[1]))
    if samples.shape[1] < rank // 2:
        steps.warn(
            f"{samples.shape[1]} samples of baselines are few for {rank} dimensions: the run's covariance is kept"
        )
        return recording.noise_covariance
    known = recording.noise_covariance if recording.noise_covariance.size else None
    covariance = shrunk_covariance(samples, kinds, rank, known)
    left = min(rank, numerical_rank(covariance))
    steps.add("noise covariance", f"of {len(data)} baselines, shrunk within {left} dimensions (Ledoit-Wolf)",
              source="baseline", n_samples=int(samples.shape[1]), rank=left)  # fmt: skip
    steps.add("rank", "dimensions in which to whiten", rank=left, n_channels=data.shape[1])
    return covariance
