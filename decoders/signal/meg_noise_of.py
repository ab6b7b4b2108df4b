"""Where the noise of a run is seen: its empty room, the baselines of its trials, or the run itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.data.raw_files import open_raw
from decoders.errors import InputError
from decoders.signal.events import read_events
from decoders.signal.glm import trial_events
from decoders.signal.meg_filter import Lines
from decoders.signal.meg_low import Low, filter_slow, to_low_rate
from decoders.signal.meg_maxwell import Maxwell
from decoders.signal.meg_open import Opened
from decoders.signal.meg_spatial import apply_in_place
from decoders.signal.steps import Steps, parameter_of

# Five minutes of an empty room, and as many samples of a run, say what its noise is.
_EMPTY_S, _MOST_SAMPLES = 300.0, 120_000


@dataclass(frozen=True)
class NoiseOf:
    """Samples of noise (n_channels, n_samples) and where they are from."""

    samples: NDArray[np.float64]
    kind: Literal["empty_room", "baseline", "run"]
    source: str


@dataclass(frozen=True)
class Processing:
    """What was done to a run, for its empty room to go through the same.

    Attributes
    ----------
    matrix : array of shape (n_sensors, n_sensors)
        Mixture of channels.
    kept : list of int
        Its rows that are kept.
    cleaning : array of shape (n_kept, n_kept)
        Removal of artefacts.
    lines : Lines
    """

    matrix: NDArray[np.float64]
    kept: list[int]
    cleaning: NDArray[np.float64]
    lines: Lines


def noise_samples(run: Run, opened: Opened, low: Low, done: Processing, settings: MegSettings, steps: Steps) -> NoiseOf:
    """Return samples of the noise of a run, processed as the run.

    Parameters
    ----------
    run : Run
    opened : Opened
    low : Low
        The run after all steps.
    done : Processing
    settings : MegSettings
    steps : Steps

    Raises
    ------
    InputError
        The settings name a source that the run does not have.
    """
    wanted, where = settings.noise, f"run {run.run_id} of the manifest"
    if wanted in ("auto", "empty_room"):
        if run.empty_room and "eeg" not in opened.kept:
            return NoiseOf(_of_empty_room(run, opened, done, settings), "empty_room", "the empty room")
        lack = "EEG, which has no empty room" if "eeg" in opened.kept else "none"
        if wanted == "empty_room":
            remedy = (
                "Add it (sub-emptyroom, or AssociatedEmptyRoom in the sidecar), or set preprocess.meg.noise to auto."
            )
            raise InputError("MEG sensors with an empty-room recording", lack, where, remedy)
        if run.modality == "meg":
            found = "EEG is kept, which has no empty room" if run.empty_room else "no empty-room recording"
            steps.warn(f"{found}: the noise covariance comes from the run's own data")
    if wanted in ("auto", "baseline"):
        found_here = _of_baselines(run, low, len(done.kept), settings, steps)
        if found_here is not None:
            return found_here
        if wanted == "baseline":
            remedy = (
                "Set preprocess.meg.baseline_s and give events with a trial_type, or set preprocess.meg.noise to auto."
            )
            raise InputError("baselines of trials", "none", where, remedy)
        steps.warn("no baselines of trials: the noise covariance is that of the whole run, the brain's signal in it")
    return _of_run(low, len(done.kept))


def _of_run(low: Low, n: int) -> NoiseOf:
    good = np.flatnonzero(~low.bad) if not low.bad.all() else np.arange(low.data.shape[1])
    chosen = good[:: max(1, good.size // _MOST_SAMPLES)]
    return NoiseOf(low.data[:n, chosen].astype(np.float64), "run", "the whole run")


def _of_baselines(run: Run, low: Low, n: int, settings: MegSettings, steps: Steps) -> NoiseOf | None:
    path = run.path("events")
    if path is None or settings.baseline_s is None or run.text:
        return None
    try:
        trials = trial_events(read_events(path))
    except InputError:
        return None
    shift = float(parameter_of(steps.entries, "triggers", "onset_shift_s", 0.0))
    start, stop = settings.baseline_s
    parts = []
    for trial in trials:
        first = round((trial.onset - shift + start) * low.rate)
        last = round((trial.onset - shift + stop) * low.rate)
        if first >= 0 and last <= low.data.shape[1] and not low.bad[first:last].any():
            part = low.data[:n, first:last].astype(np.float64)
            parts.append(part - part.mean(axis=1, keepdims=True))
    n_samples = sum(part.shape[1] for part in parts)
    if n_samples < n:
        return None
    return NoiseOf(np.concatenate(parts, axis=1), "baseline", f"the baselines of {len(parts)} trials")


def _of_empty_room(run: Run, opened: Opened, done: Processing, settings: MegSettings) -> NDArray[np.float64]:
    import mne

    path = run.path("empty_room")
    if path is None or not path.exists():
        remedy = "Add it, or take AssociatedEmptyRoom out of the sidecar."
        raise InputError("the empty-room recording of the manifest", "no such file", path or run.empty_room, remedy)
    empty, _ = open_raw([path])
    missing = [name for name in opened.sensors if name not in empty.ch_names]
    if missing:
        remedy = "It is of another system, or its channels were renamed: name the right one in AssociatedEmptyRoom."
        found = f"no {', '.join(missing[:5])} ({len(missing)} missing)"
        raise InputError("the sensors of the run in its empty room", found, path, remedy)
    empty = empty.crop(0, min(_EMPTY_S, empty.times[-1]))
    maxwell = _without_head(opened.maxwell)
    if maxwell.in_time:
        empty = mne.preprocessing.maxwell_filter_prepare_emptyroom(empty, raw=opened.raw, annotations="keep")
    low = to_low_rate(
        empty, [empty.ch_names.index(name) for name in opened.sensors], maxwell, done.lines, settings, path
    )
    apply_in_place(done.matrix, low.data)
    low.data = low.data[done.kept]
    filter_slow(low, done.lines, settings, path)
    apply_in_place(done.cleaning, low.data)
    return _of_run(low, len(done.kept)).samples


def _without_head(maxwell: Maxwell) -> Maxwell:
    """Nobody moves in an empty room."""
    options = {key: value for key, value in maxwell.options.items() if key != "head_pos"}
    return Maxwell(maxwell.how, options, maxwell.moves)
