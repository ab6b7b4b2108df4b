"""Stage `searchlight`: scores of all models around some centres of one subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.regions import ALL, subject_trials
from decoders.alignment.searchlight import prepare_patterns, searchlight_scores
from decoders.alignment.spheres import find_spheres
from decoders.alignment.stage_searchlight_models import SearchlightModels, read_models
from decoders.errors import InputError
from decoders.signal.shared import share_features
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording


def chunk_of(centres: NDArray[np.int64], chunk: int, n_chunks: int) -> NDArray[np.int64]:
    """Return the centres of one job; those of all jobs together are all centres, in order."""
    if not 0 <= chunk < n_chunks:
        remedy = "Give --label chunk=NUMBER, counted from zero."
        raise InputError(f"a chunk from 0 to {n_chunks - 1}", f"{chunk}", "the label 'chunk'", remedy)
    return np.array_split(centres, n_chunks)[chunk]


def search(
    recordings: Sequence[Recording], models: SearchlightModels, settings: Any, chunk: int
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return arrays and attributes of one chunk.

    Parameters
    ----------
    recordings : sequence of Recording
        Trial estimates of one subject, none of them excluded.
    models : SearchlightModels
    settings : SettingsSlice
        The block `alignment`: searchlight.radius_mm, min_share, n_chunks; rdm; comparators.
    chunk : int

    Raises
    ------
    InputError
        No volumes, runs on other grids, a radius that reaches no neighbour, another comparator.
    """
    whose = f"subject {recordings[0].subject}"
    if any(recording.mask is None for recording in recordings):
        remedy = "Set preprocess.representation to 'volume', or leave alignment.searchlight out."
        raise InputError("volumes, for spheres of voxels", recordings[0].kind, whose, remedy)
    first = share_features(recordings)[0]
    assert first.mask is not None
    assert first.affine is not None
    block = settings.searchlight
    spheres = find_spheres(first.mask, first.affine, block.radius_mm, block.min_share)
    patterns = prepare_patterns(subject_trials(recordings, {})[ALL], settings.rdm, models.stimuli, whose)
    centres = chunk_of(spheres.centres, chunk, block.n_chunks)
    scores = searchlight_scores(patterns, spheres, centres, models.vectors, settings.comparators[0])
    arrays = {
        "scores": Array(scores, ("centre", "model"), settings.comparators[0]),
        "centres": Array(centres, ("centre",)),
        "mask": Array(first.mask.astype(np.uint8), ("x", "y", "z")),
        "affine": Array(first.affine, ("row", "column"), "mm"),
    }
    counts = {
        "n_centres": len(spheres.centres),
        "n_left_out": spheres.n_left_out,
        "n_undefined": int(np.isnan(scores).all(axis=1).sum()),
        "sphere_voxels": len(spheres.steps),
    }
    return arrays, counts


def run(job: Job) -> None:
    """Write the scores of one subject and chunk, or why there are none."""
    settings, subject, chunk = job.settings.alignment, job.labels["subject"], int(job.labels["chunk"])
    models = read_models(job.input("models"))
    recordings = [read_recording(path) for path in job.inputs.get("estimates", [])]
    usable = [r for r in recordings if not r.excluded and settings.task in (None, r.task)]
    attributes: dict[str, Any] = {"subject": subject, "chunk": chunk, "excluded": ""}
    reason = "all runs are excluded" if not usable else _lacking(usable, models.stimuli, settings.rdm)
    if reason:
        # As in the comparison of regions, a subject that cannot be used is left out by name; the study goes on.
        job.log.warning("subject %s is left out of the searchlight: %s", subject, reason)
        write_arrays(job.outputs["scores"], {}, {**attributes, "excluded": reason})
        return
    arrays, counts = search(usable, models, settings, chunk)
    job.log.info(
        "subject %s: %d centres, %d voxels left out (too little of their sphere in the mask); chunk %d: %d centres, "
        "%d of them without a score (constant or not finite)",
        subject, counts["n_centres"], counts["n_left_out"], chunk, len(arrays["centres"].values), counts["n_undefined"],
    )  # fmt: skip
    write_arrays(job.outputs["scores"], arrays, {**attributes, **counts})


def _lacking(recordings: Sequence[Recording], stimuli: Sequence[str], method: str) -> str:
    """Return why a subject has no RDM of all stimuli; empty where it has."""
    shown = [set(map(str, recording.conditions)) for recording in recordings]
    if method == "crossnobis" and len(recordings) < 2:
        return "crossnobis needs two or more runs, found one"
    # Crossnobis needs every stimulus in every run; the others in any.
    for found in shown if method == "crossnobis" else [set().union(*shown)]:
        if missing := [name for name in stimuli if name not in found]:
            return f"no trial of {', '.join(missing[:3])}" + (" in a run" if method == "crossnobis" else "")
    return ""
