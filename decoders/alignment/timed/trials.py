"""Trials of the sensors of one subject, over all of its runs, with what is wrong with them said by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.timed.distances import Cells, cells_of
from decoders.errors import InputError
from decoders.store.recording import Recording

NO_CONDITION = ("", "n/a", "rest")
_CLOSE_S = 1e-6


@dataclass(frozen=True)
class SensorTrials:
    """Trials of one subject.

    Attributes
    ----------
    patterns : array of shape (n_trials, n_channels, n_times), float32
    conditions : list of str of length n_trials
    runs : array of int of shape (n_trials,)
        Number of the run of each trial, in the order in which the runs were given.
    times : array of shape (n_times,)
        Seconds from the onset.
    channels : list of str of length n_channels
    recordings : list of Recording
        The runs, without their data: noise, rank and places of the sensors that are kept.
    dropped : dict of str to str
        Reason per channel that is left out.
    """

    patterns: NDArray[np.float32]
    conditions: list[str]
    runs: NDArray[np.int64]
    times: NDArray[np.float64]
    channels: list[str]
    recordings: list[Recording]
    dropped: dict[str, str] = field(default_factory=dict)


def check_runs(recordings: Sequence[Recording], whose: str) -> None:
    """Refuse runs of one subject that cannot be joined.

    Raises
    ------
    InputError
        Not trials of sensors, or runs of different moments or channels.
    """
    first = recordings[0]
    for other in recordings:
        if other.kind != "sensor" or other.axis != "trial" or len(other.epoch_time) == 0:
            remedy = "Give the trial estimates of MEG or EEG runs."
            raise InputError("trials of sensors", f"{other.kind} x {other.axis}", whose, remedy)
        if not same_times(first.epoch_time, other.epoch_time):
            remedy = "Preprocess all runs with one sampling rate and one preprocess.meg.epoch_s."
            found = f"{_span(other.epoch_time)} in run {_name(other)}"
            raise InputError(f"the moments of run {_name(first)}, {_span(first.epoch_time)}", found, whose, remedy)
        if list(first.names) != list(other.names):
            apart = sorted({str(name) for name in first.names} ^ {str(name) for name in other.names})
            found = f"others in run {_name(other)} ({', '.join(apart[:3]) or 'in another order'})"
            remedy = "Preprocess the subject anew: bad channels must be interpolated or left out of all runs."
            raise InputError(f"the channels of run {_name(first)} in every run", found, whose, remedy)


def same_times(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Return whether two axes of time are equal."""
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=_CLOSE_S))


def join_trials(
    recordings: Sequence[Recording], window: tuple[float, float] | None, whose: str, ignore: Sequence[str] = ()
) -> SensorTrials:
    """Join the trials of a subject's runs.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one subject, kind "sensor", axis "trial".
    window : tuple of float or None
        First and last moment in seconds; all when None.
    whose : str
    ignore : sequence of str
        Trial types that are no stimuli.

    Returns
    -------
    SensorTrials
        Trials with a condition, moments in the window, channels that are finite and vary in every run.

    Raises
    ------
    InputError
        Runs that do not fit each other, a window outside of the trials, or fewer than three channels.
    """
    check_runs(recordings, whose)
    first = recordings[0]
    moments = moments_in(first.epoch_time, window, whose)
    dropped = _bad_channels(recordings)
    kept = np.array([str(name) not in dropped for name in first.names], dtype=bool)
    if kept.sum() < 3:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(dropped.items())[:3])
        found = f"{kept.sum()} ({reasons})" if reasons else f"{kept.sum()}"
        raise InputError("three or more channels that are finite and vary", found, whose, "Check the preprocessing.")
    data, conditions, runs = [], [], []
    for number, recording in enumerate(recordings):
        names = [str(name) for name in recording.conditions]
        shown = np.array([name not in NO_CONDITION and name not in ignore for name in names], dtype=bool)
        data.append(recording.data[shown][:, kept][:, :, moments])
        conditions += [name for name, flag in zip(names, shown, strict=True) if flag]
        runs += [number] * int(shown.sum())
    return SensorTrials(
        np.concatenate(data) if len(data) > 1 else data[0], conditions, np.array(runs, dtype=np.int64),
        first.epoch_time[moments], [str(name) for name in first.names[kept]],
        [without_data(recording, kept) for recording in recordings], dropped,
    )  # fmt: skip


def moments_in(times: NDArray[np.float64], window: tuple[float, float] | None, whose: str) -> slice:
    """Return the moments of a window, both ends included.

    Raises
    ------
    InputError
        A window that reaches beyond the trials, or holds fewer than two moments.
    """
    if window is None:
        return slice(0, len(times))
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    inside = np.flatnonzero((times >= window[0] - _CLOSE_S) & (times <= window[1] + _CLOSE_S))
    beyond = window[0] < times[0] - step - _CLOSE_S or window[1] > times[-1] + step + _CLOSE_S
    if beyond or len(inside) < 2:
        remedy = "Change alignment.time.window_s, or preprocess.meg.epoch_s."
        raise InputError(f"the window {window[0]:g} to {window[1]:g} s within trials", _span(times), whose, remedy)
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _span(times: NDArray[np.float64]) -> str:
    return f"{len(times)} moments from {times[0]:g} to {times[-1]:g} s"


def _name(recording: Recording) -> str:
    return " ".join(filter(None, (recording.session, recording.run))) or "1"


def _bad_channels(recordings: Sequence[Recording]) -> dict[str, str]:
    bad: dict[str, str] = {}
    for recording in recordings:
        finite = np.isfinite(recording.data).all(axis=(0, 2))
        constant = finite & (np.ptp(recording.data, axis=(0, 2)) == 0)
        for flags, what in ((~finite, "values that are not finite"), (constant, "one value throughout")):
            for name in recording.names[flags]:
                bad.setdefault(str(name), f"{what} in run {_name(recording)}")
    return bad


def without_data(recording: Recording, kept: NDArray[np.bool_]) -> Recording:
    """Return a Recording of some channels with everything but its data."""
    from dataclasses import replace

    def chosen(values: NDArray[Any]) -> NDArray[Any]:
        return values[kept] if len(values) == len(kept) else values

    covariance = recording.noise_covariance
    if covariance.shape == (len(kept), len(kept)):
        covariance = covariance[np.ix_(kept, kept)]
    return replace(
        recording, data=np.zeros((0, int(kept.sum())), dtype=np.float32), names=recording.names[kept],
        channel_types=chosen(recording.channel_types), positions=chosen(recording.positions),
        noise_covariance=covariance,
    )  # fmt: skip


def cells_in(trials: SensorTrials, stimuli: Sequence[str], folds: str, n_folds: int, whose: str) -> tuple[Cells, str]:
    """Return the conditions and folds of a subject's trials, and in words what the folds are.

    Parameters
    ----------
    trials : SensorTrials
    stimuli : sequence of str
        Conditions, as the RDM is to hold them.
    folds : {"runs", "trials"}
        "trials": the repeats of each condition in order, cut into blocks (a drift of the recording is then no common
        pattern of two folds). So it is done for a subject with one run, too.
    n_folds : int
        Blocks of trials at most; fewer where a condition has fewer repeats.
    whose : str

    Raises
    ------
    InputError
        A condition without a trial, or (runs) without one in a run, or (trials) with a single one.
    """
    place = {name: number for number, name in enumerate(stimuli)}
    codes = np.array([place.get(name, -1) for name in trials.conditions], dtype=np.int64)
    counts = np.bincount(codes[codes >= 0], minlength=len(stimuli))
    if missing := [name for name, count in zip(stimuli, counts, strict=True) if count == 0]:
        remedy = "Exclude the subject, or check its events."
        raise InputError(f"trials of all {len(stimuli)} conditions", f"none of {', '.join(missing[:3])}", whose, remedy)
    n_runs = int(trials.runs.max()) + 1
    if folds == "runs" and n_runs > 1:
        _check_every_run(codes, trials.runs, stimuli, whose)
        return cells_of(codes, trials.runs, len(stimuli), n_runs), f"{n_runs} runs"
    fewest = int(counts.min())
    if fewest < 2:
        remedy = "Use 'correlation', 'euclidean' or 'mahalanobis', which need no repeats across folds."
        found = f"one of {stimuli[int(counts.argmin())]}"
        raise InputError("two or more trials of every condition for folds of trials", found, whose, remedy)
    n = min(n_folds, fewest)
    why = "" if folds == "trials" else " (one run: no cross-validation across runs)"
    return cells_of(codes, _blocks(codes, n), len(stimuli), n), f"{n} blocks of trials{why}"


def _blocks(codes: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    folds = np.full(len(codes), -1, dtype=np.int64)
    for code in np.unique(codes[codes >= 0]):
        mine = np.flatnonzero(codes == code)
        for fold, part in enumerate(np.array_split(mine, n_folds)):
            folds[part] = fold
    return folds


def _check_every_run(codes: NDArray[np.int64], runs: NDArray[np.int64], stimuli: Sequence[str], whose: str) -> None:
    for run in np.unique(runs):
        absent = sorted(set(range(len(stimuli))) - set(codes[runs == run].tolist()))
        if absent:
            found = f"no {stimuli[absent[0]]} in run {run + 1} of {int(runs.max()) + 1}"
            remedy = "Set alignment.time.folds to 'trials', or use 'correlation'."
            raise InputError("every condition in every run", found, whose, remedy)


def single_fold(trials: SensorTrials, stimuli: Sequence[str], whose: str) -> Cells:
    """Return the conditions of each run, for distances that are not cross-validated; a run may lack conditions."""
    place = {name: number for number, name in enumerate(stimuli)}
    codes = [place.get(name, -1) for name in trials.conditions]
    cells = cells_of(codes, trials.runs, len(stimuli), int(trials.runs.max()) + 1)
    empty = cells.counts.sum(axis=0) == 0
    if empty.any():
        missing = [name for name, flag in zip(stimuli, empty, strict=True) if flag]
        remedy = "Exclude the subject, or check its events."
        raise InputError(f"trials of all {len(stimuli)} conditions", f"none of {', '.join(missing[:3])}", whose, remedy)
    return cells
