"""Stage `rdms-time`: one RDM per subject and moment, from trials of sensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.timed.distances import Cells, crossnobis, pattern_generalisation, plain_distances
from decoders.alignment.timed.noise import (
    baseline_covariance,
    own_scale,
    rank_of,
    residual_covariance,
    whitener_of,
)
from decoders.alignment.timed.trials import (
    NO_CONDITION,
    SensorTrials,
    cells_in,
    check_runs,
    join_trials,
    moments_in,
    same_times,
    single_fold,
)
from decoders.data.manifest import SENSORS, read_manifest
from decoders.errors import InputError
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording, read_recording_header

METHODS = {
    "correlation": "1 - Pearson correlation over channels of mean patterns, each channel in units of its own noise",
    "euclidean": "squared Euclidean distance of mean patterns, per channel, each in units of its own noise",
    "mahalanobis": "squared Mahalanobis distance of mean patterns, per whitened channel",
    "crossnobis": "crossnobis, per whitened channel",
}
NOISE = {
    "residuals": "noise from residuals of the trials about their condition and fold, shrunk",
    "baseline": "noise from the baselines",
}


@dataclass
class TimeRdms:
    """RDMs over time of all subjects, and who was left out.

    Attributes
    ----------
    stimuli : list of str
    times : array of shape (n_times,)
        Seconds from the onset.
    rdms : dict of subject to array of shape (n_times, n_pairs)
    generalisation : dict of subject to array of shape (n_times, n_times)
        Crossnobis between times (training time x test time); empty for other methods.
    folds : dict of subject to str
    excluded : dict of str to str
        Reason per subject, run or channel.
    """

    stimuli: list[str]
    times: NDArray[np.float64]
    rdms: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    generalisation: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    folds: dict[str, str] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """Trials of a subject, their cells, and their noise.

    Attributes
    ----------
    trials : SensorTrials
    cells : Cells
    covariance : array of shape (n_channels, n_channels)
    rank : int or None
    folds : str
        In words.
    """

    trials: SensorTrials
    cells: Cells
    covariance: NDArray[np.float64]
    rank: int | None
    folds: str


def prepare(recordings: Sequence[Recording], stimuli: Sequence[str], settings: Any, whose: str) -> Prepared:
    """Join a subject's trials and estimate their noise.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one subject.
    stimuli : sequence of str
    settings : AlignmentSettings or SettingsSlice
        rdm; time.window_s, ignore, noise, folds, n_folds.
    whose : str

    Raises
    ------
    InputError
        What `join_trials`, `cells_in` and the estimates of noise refuse.
    """
    time = settings.time
    trials = join_trials(recordings, time.window_s, whose, time.ignore)
    if settings.rdm == "crossnobis":
        cells, words = cells_in(trials, stimuli, time.folds, time.n_folds, whose)
    else:
        cells, words = single_fold(trials, stimuli, whose), "none"
    if time.noise == "baseline":
        covariance = baseline_covariance(trials.recordings, whose)
    else:
        covariance = residual_covariance(trials.patterns, cells, whose)
    return Prepared(trials, cells, covariance, rank_of(trials.recordings), words)


def subject_rdms(ready: Prepared, method: str, whose: str) -> NDArray[np.float64]:
    """Return the RDMs of one subject, array of shape (n_times, n_pairs).

    Raises
    ------
    InputError
        Dissimilarities that are not finite, or one throughout.
    """
    patterns = ready.trials.patterns
    if method in ("crossnobis", "mahalanobis"):
        whitener = whitener_of(ready.covariance, ready.rank, whose)
    else:
        whitener = own_scale(ready.covariance)
    if method == "crossnobis":
        rdms = crossnobis(patterns, ready.cells, whitener)
    else:
        rdms = plain_distances(patterns, ready.cells, whitener, method)
    flat = ~np.isfinite(rdms).all(axis=1) | (np.ptp(rdms, axis=1) == 0)
    if flat.any():
        found = f"none at {ready.trials.times[flat][0]:g} s"
        raise InputError("finite dissimilarities that vary, at every moment", found, whose, "Check the preprocessing.")
    return rdms


def collect(paths: Sequence[Path], settings: Any, log: Any) -> TimeRdms:
    """Compute the RDMs of all subjects, one subject in memory at a time.

    Parameters
    ----------
    paths : sequence of Path
        Recordings of trials; those that are not of sensors or of another task are passed over.
    settings : SettingsSlice
        The block `alignment`: rdm, time.
    log : Logger
    """
    by_subject, excluded = usable_subjects(paths, settings)
    found = shared_frame(by_subject, excluded, settings)
    for subject in sorted(by_subject):
        whose = f"subject {subject}"
        recordings = [read_recording(path) for path in by_subject[subject]]
        try:
            ready = prepare(recordings, found.stimuli, settings, whose)
            rdms = subject_rdms(ready, settings.rdm, whose)
        except InputError as error:
            # A subject that cannot be used is left out by name; the study goes on.
            found.excluded[subject] = str(error)
            continue
        found.excluded |= {f"{subject}, channel {name}": why for name, why in ready.trials.dropped.items()}
        found.rdms[subject], found.folds[subject] = rdms, ready.folds
        if settings.rdm == "crossnobis":
            whitener = whitener_of(ready.covariance, ready.rank, whose)
            found.generalisation[subject] = pattern_generalisation(ready.trials.patterns, ready.cells, whitener)
        log.info("subject %s: %d trials, %d channels, %d moments; folds: %s", subject, *ready.trials.patterns.shape,
                 ready.folds)  # fmt: skip
    return found


def usable_subjects(paths: Sequence[Path], settings: Any) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Return the files of each subject, and the reasons of runs that are left out."""
    by_subject: dict[str, list[Path]] = {}
    excluded: dict[str, str] = {}
    for path in paths:
        header = read_recording_header(path)
        if header.kind != "sensor" or settings.time.task not in (None, header.task):
            continue
        if header.excluded:
            label = ", ".join(filter(None, (header.subject, header.session, header.task, header.run)))
            excluded[label] = header.excluded
        else:
            by_subject.setdefault(header.subject, []).append(path)
    return by_subject, excluded


def shared_frame(by_subject: dict[str, list[Path]], excluded: dict[str, str], settings: Any) -> TimeRdms:
    """Return the stimuli and moments of a study, without RDMs yet; subjects that do not share them are taken out.

    The moments are those of most subjects, the stimuli all conditions of all subjects, sorted.

    Raises
    ------
    InputError
        No subject, or a window outside of the trials.
    """
    headers = {subject: [read_recording_header(path) for path in paths] for subject, paths in by_subject.items()}
    for subject, items in headers.items():
        try:
            check_runs(items, f"subject {subject}")
        except InputError as error:
            excluded[subject] = str(error)
            del by_subject[subject]
    if not by_subject:
        _nobody(excluded)
    axes = Counter(tuple(np.round(headers[subject][0].epoch_time, 6)) for subject in sorted(by_subject))
    times = np.array(axes.most_common(1)[0][0])
    for subject in sorted(by_subject):
        own = headers[subject][0].epoch_time
        if not same_times(own, times):
            excluded[subject] = (
                f"moments from {own[0]:g} to {own[-1]:g} s ({len(own)}), those of most subjects are from "
                f"{times[0]:g} to {times[-1]:g} s ({len(times)})"
            )
            del by_subject[subject]
    shown = {str(name) for subject in by_subject for item in headers[subject] for name in item.conditions}
    moments = moments_in(times, settings.time.window_s, "the trials of all subjects")
    return TimeRdms(sorted(shown - {*NO_CONDITION, *settings.time.ignore}), times[moments], excluded=excluded)


def _nobody(excluded: dict[str, str]) -> None:
    reasons = "; ".join(f"{who}: {why}" for who, why in list(excluded.items())[:3])
    found = f"none ({reasons})" if reasons else "none"
    remedy = "Check the events and the preprocessing of the MEG or EEG runs, and alignment.time.task."
    raise InputError(
        "trials of sensors of three or more stimuli of at least one subject", found, "the recordings", remedy
    )


def write_time_rdms(path: Path, found: TimeRdms, method: str) -> None:
    """Write time_rdms.h5: `rdms` (subject, time, pair), `subjects`, `times`, `stimuli`, `generalisation`.

    Raises
    ------
    InputError
        Nothing is left.
    """
    if not found.rdms or len(found.stimuli) < 3:
        _nobody(found.excluded if not found.rdms else {"all": f"{len(found.stimuli)} stimuli"})
    subjects = sorted(found.rdms)
    arrays = {
        "rdms": Array(np.array([found.rdms[subject] for subject in subjects]), ("subject", "time", "pair")),
        "subjects": Array(np.array(subjects, dtype=object), ("subject",)),
        "times": Array(found.times, ("time",), "s"),
        "stimuli": Array(np.array(found.stimuli, dtype=object), ("stimulus",)),
    }
    if found.generalisation:
        tables = np.array([found.generalisation[subject] for subject in subjects])
        arrays["generalisation"] = Array(tables, ("subject", "train_time", "test_time"))
    write_arrays(path, arrays, {"method": method, "excluded": found.excluded, "folds": found.folds})


def run(job: Job) -> None:
    """Write time_rdms.h5."""
    settings = job.settings.alignment
    if settings.time.noise is None:
        raise InputError("the settings alignment.time", "none", "the study", "Add the block alignment.time.")
    excluded = {
        f"{row.subject}, {row.task}, {row.run}": row.reason
        for row in read_manifest(job.input("manifest"))
        if row.modality in SENSORS and row.status != "ok" and settings.time.task in (None, row.task)
    }
    found = collect(job.inputs.get("estimates", []), settings, job.log)
    found.excluded = {**excluded, **found.excluded}
    for who, why in found.excluded.items():
        job.log.warning("%s is left out: %s", who, why)
    words = METHODS[settings.rdm]
    if settings.rdm == "crossnobis":
        words += f" across {' and '.join(sorted(set(found.folds.values()))) or 'runs'}"
    write_time_rdms(job.outputs["rdms"], found, f"{words}; {NOISE[settings.time.noise]}")
