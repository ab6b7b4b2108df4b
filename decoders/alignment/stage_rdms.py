"""Stage `rdms`: one RDM per subject and region, shipped by the data set, or from trial estimates or text windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.models import Stimuli, reorder
from decoders.alignment.rdm import recorded_rdm
from decoders.alignment.regions import Trials, subject_trials
from decoders.alignment.text_windows import window_trials
from decoders.config import AlignmentSettings
from decoders.data.manifest import Run, inside, read_manifest
from decoders.errors import InputError
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import read_table

METHODS = {
    "correlation": "1 - Pearson correlation of mean patterns",
    "euclidean": "squared Euclidean distance of mean patterns, per feature",
    "mahalanobis": "squared Mahalanobis distance of mean patterns, per feature, noise from residuals of the trials",
    "crossnobis": "crossnobis across runs, noise from repeats within a run (none: features as they are)",
}


@dataclass
class Collected:
    """RDMs of all subjects and regions, and who was left out.

    Attributes
    ----------
    stimuli : list of str
    rdms : dict of region to dict of subject to array of shape (n_pairs,)
    excluded : dict of str to str
        Reason per ``subject`` or ``subject, region``.
    """

    stimuli: list[str]
    rdms: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)

    def add(self, subject: str, region: str, rdm: NDArray[np.float64]) -> None:
        """Keep an RDM, unless no score can follow from it."""
        if not np.isfinite(rdm).all():
            self.excluded[f"{subject}, {region}"] = "dissimilarities that are not finite"
        elif np.ptp(rdm) == 0:
            self.excluded[f"{subject}, {region}"] = "one dissimilarity throughout"
        else:
            self.rdms.setdefault(region, {})[subject] = rdm


def shipped_rdms(runs: Sequence[Run]) -> Collected:
    """Collect the RDMs that a data set ships, one manifest row (modality "rdm") per subject and region."""
    from decoders.data.adapters.cichy92 import load_rdms

    rows = [run for run in runs if run.modality == "rdm"]
    if not rows:
        remedy = "Set alignment.recordings to 'estimates', or use a data set that ships RDMs."
        raise InputError("RDMs in the manifest", "none", "the manifest", remedy)
    collected = Collected([])
    for run in rows:
        if run.status != "ok":
            collected.excluded[f"{run.subject}, {run.region}"] = run.reason
            continue
        rdm, names = load_rdms(run)
        collected.stimuli = collected.stimuli or [str(name) for name in names]
        positions = Stimuli(collected.stimuli).positions([str(name) for name in names], run.path("image") or run.run_id)
        collected.add(run.subject, run.region or "all", reorder(rdm, positions))
    return collected


def estimated_rdms(recordings: Sequence[Recording], settings: AlignmentSettings, roots: dict[str, Path]) -> Collected:
    """Compute RDMs from trial estimates.

    Parameters
    ----------
    recordings : sequence of Recording
        Of all subjects and runs, with axis "trial".
    settings : AlignmentSettings
    roots : dict of str to Path
        Folder per subject that region masks are relative to.

    Returns
    -------
    Collected
        The stimuli are all conditions of all subjects, sorted; a subject that lacks one, or has a constant pattern, is
        left out by name. So are excluded runs.
    """
    collected = Collected([])
    by_subject: dict[str, list[Recording]] = {}
    for recording in recordings:
        if recording.kind == "sensor":
            # Their RDMs are those of the stage `rdms-time`.
            continue
        if recording.excluded:
            label = ", ".join(filter(None, (recording.subject, recording.session, recording.task, recording.run)))
            collected.excluded[label] = recording.excluded
        elif settings.task in (None, recording.task):
            by_subject.setdefault(recording.subject, []).append(recording)
    conditions = {str(name) for items in by_subject.values() for item in items for name in item.conditions}
    collected.stimuli = sorted(conditions - {"", "n/a", "rest"})
    for subject, items in by_subject.items():
        for region, trials in subject_trials(items, subject_masks(subject, settings, roots)).items():
            _add_estimated(collected, subject, region, trials, settings.rdm)
    return collected


def subject_masks(subject: str, settings: AlignmentSettings, roots: dict[str, Path]) -> dict[str, Path]:
    """Return the mask image of each region of one subject."""
    return {
        region: mask_path(roots.get(subject, Path()), mask, subject, region)
        for region, mask in settings.regions.items()
    }


def mask_path(root: Path, mask: str, subject: str, region: str) -> Path:
    """Return a mask below the data set's root; only an absolute path, plain to see in the study, leads elsewhere."""
    mask = mask.replace("{subject}", subject)
    return Path(mask) if Path(mask).is_absolute() else root / inside(mask, f"alignment.regions.{region}")


def _add_estimated(collected: Collected, subject: str, region: str, trials: Trials, method: str) -> None:
    whose = f"subject {subject}, region {region}"
    try:
        rdm = recorded_rdm(trials.patterns, trials.conditions, trials.runs, method, whose, collected.stimuli)
    except InputError as error:
        # A whole subject or region that cannot be used is left out by name; the study goes on.
        collected.excluded[f"{subject}, {region}"] = str(error)
    else:
        collected.add(subject, region, rdm)


def write_rdms(path: Path, collected: Collected, method: str) -> None:
    """Write rdms.h5: one array (subject, pair) per region, not a number where a subject is left out.

    Raises
    ------
    InputError
        Nothing is left.
    """
    if not collected.rdms or len(collected.stimuli) < 3:
        reasons = "; ".join(f"{who}: {why}" for who, why in list(collected.excluded.items())[:3])
        found = f"none ({reasons})" if reasons else f"{len(collected.stimuli)} stimuli"
        remedy = "Check the events and the preprocessing of the runs."
        raise InputError("an RDM of three or more stimuli of at least one subject", found, "the recordings", remedy)
    subjects = sorted({subject for found in collected.rdms.values() for subject in found})
    n_pairs = len(collected.stimuli) * (len(collected.stimuli) - 1) // 2
    missing = np.full(n_pairs, np.nan)
    arrays = {
        region: Array(np.array([found.get(subject, missing) for subject in subjects]), ("subject", "pair"))
        for region, found in collected.rdms.items()
    }
    arrays["subjects"] = Array(np.array(subjects, dtype=object), ("subject",))
    arrays["stimuli"] = Array(np.array(collected.stimuli, dtype=object), ("stimulus",))
    write_arrays(path, arrays, {"method": method, "excluded": collected.excluded})


def _trials(job: Job) -> list[Recording]:
    """Return the trial estimates, or one sample per window of the stories."""
    settings = job.settings.alignment
    if settings.recordings != "windows":
        return [read_recording(path) for path in job.inputs.get("estimates", [])]
    windows = read_table(job.input("windows"), ("name", "stimulus"))
    # One run after the other: series in time are long.
    return [window_trials(read_recording(path), windows, settings.windows.lag_s) for path in job.inputs["recordings"]]


def run(job: Job) -> None:
    """Write rdms.h5."""
    settings = job.settings.alignment
    runs = read_manifest(job.input("manifest"))
    if settings.recordings == "rdms":
        collected = shipped_rdms(runs)
        method = "as the data set ships them"
    else:
        roots = {run.subject: Path(run.root) for run in runs}
        collected = estimated_rdms(_trials(job), settings, roots)
        method = METHODS[settings.rdm]
    for who, why in collected.excluded.items():
        job.log.warning("%s is left out: %s", who, why)
    write_rdms(job.outputs["rdms"], collected, method)
