"""Stage ``names``: category names from the recordings of one subject."""

from __future__ import annotations

import logging

import numpy as np

from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding.names_study import decode_names
from decoders.decoding.score_nulls import write_nulls
from decoders.errors import InputError
from decoders.signal.shared import share_features
from decoders.stage import Job
from decoders.stats.declared import read_audited
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import write_table


def run(job: Job) -> None:
    """Read the subject's recordings, decode, and write scores, text and arrays."""
    settings, subject = job.settings.decoding.names, job.labels["subject"]
    if settings is None:
        raise InputError("the block decoding.names", "none", "the study file", "Add it, or do not ask for this stage.")
    runs = select_runs(read_manifest(job.input("manifest")), subject, settings.task)
    if not runs:
        remedy = "Correct decoding.names.task or the data set."
        raise InputError(f"runs of subject {subject}", "none", job.input("manifest"), remedy)
    recordings = [item for item in map(read_recording, job.inputs["recording"]) if item.subject == subject]
    recordings.sort(key=lambda item: (item.session, item.task, item.run))
    recordings = _comparable(recordings, settings.task, subject, job.log)
    audited = read_audited(job.input("splits"), job.input("leaks")).of_subject(subject)
    outcome = decode_names(recordings, settings, job.rng, job.log, audited)
    write_table(job.outputs["scores"], outcome.scores_table(subject), "decoding_scores")
    write_nulls(job.outputs["nulls"], outcome.rows, subject)
    write_table(job.outputs["text"], outcome.text_table(subject), "text")
    attributes = {"subject": subject, "settings": settings.model_dump(mode="json"), **outcome.attributes}
    write_arrays(job.outputs["arrays"], {**outcome.arrays, **_place(recordings)}, attributes)


def _comparable(recordings: list[Recording], task: str | None, subject: str, log: logging.Logger) -> list[Recording]:
    """Return the runs of the task that can be used, with the voxels that all of them have."""
    wanted = [item for item in recordings if task is None or item.task == task]
    usable = [item for item in wanted if not item.excluded]
    for item in wanted:
        if item.excluded:
            log.warning("run %s of subject %s is left out: %s", item.run or "n/a", subject, item.excluded)
    if not usable:
        remedy = "Correct the data, or leave the subject out by data.subjects."
        found = "; ".join(f"run {item.run or 'n/a'} excluded: {item.excluded}" for item in wanted[:4]) or "none"
        raise InputError("a run that can be used", found, f"subject {subject}", remedy)
    shared = share_features(usable)
    most = max(item.data.shape[1] for item in usable)
    if shared[0].data.shape[1] < most:
        log.warning("subject %s: %d of %d features are in all runs", subject, shared[0].data.shape[1], most)
    return shared


def _place(recordings: list[Recording]) -> dict[str, Array]:
    """Return where the voxels lie, so that maps over them can be drawn."""
    first = recordings[0]
    if first.mask is None or first.affine is None:
        return {}
    mask = Array(first.mask.astype(np.uint8), ("x", "y", "z"))
    return {"mask": mask, "affine": Array(first.affine, ("row", "column"), "mm")}
