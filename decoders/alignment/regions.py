"""Trial patterns of the regions of one subject, over all of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.store.recording import Recording

ALL = "all"


@dataclass(frozen=True)
class Trials:
    """Trials of one subject in one region.

    Attributes
    ----------
    patterns : array of shape (n_trials, n_features)
    conditions, runs : list of str of length n_trials
    """

    patterns: NDArray[np.float32]
    conditions: list[str]
    runs: list[str]


def subject_trials(recordings: Sequence[Recording], masks: Mapping[str, Path]) -> dict[str, Trials]:
    """Join the trials of a subject's runs, per region.

    Parameters
    ----------
    recordings : sequence of Recording
        Trial estimates of one subject.
    masks : mapping of str to Path
        Mask image per region, on the voxel grid of the recordings; all features form the region ``all`` when empty.

    Returns
    -------
    dict of str to Trials

    Raises
    ------
    InputError
        Runs of different features, masks for recordings without voxels, a mask on another grid or without
        a recorded voxel.
    """
    volumes = all(recording.mask is not None for recording in recordings)
    if masks and not volumes:
        remedy = "Leave alignment.regions empty: the features then form the region 'all'."
        raise InputError("volumes, for masks of regions", recordings[0].kind, _whose(recordings[0]), remedy)
    shared = _shared_mask(recordings) if volumes else None
    columns = [_columns(recording, shared) for recording in recordings]
    if len({len(chosen) for chosen in columns}) > 1:
        remedy = "Preprocess all runs of a subject alike."
        found = " and ".join(sorted({str(len(chosen)) for chosen in columns}))
        raise InputError("equally many features in all runs", found, _whose(recordings[0]), remedy)
    joined = np.concatenate([r.data[:, chosen] for r, chosen in zip(recordings, columns, strict=True)])
    conditions = [str(name) for recording in recordings for name in recording.conditions]
    runs = [f"{r.session} {r.run} {number}" for number, r in enumerate(recordings) for _ in range(len(r.data))]
    kept = np.array([name not in ("", "n/a", "rest") for name in conditions], dtype=bool)
    names = [[text for text, flag in zip(values, kept, strict=True) if flag] for values in (conditions, runs)]
    if shared is None or not masks:
        return {ALL: Trials(joined[kept], *names)}
    inside = {region: _inside(path, recordings[0])[shared] for region, path in masks.items()}
    for region, chosen in inside.items():
        if not chosen.any():
            remedy = "Check the mask, or the mask of the preprocessing."
            raise InputError(f"recorded voxels in the region '{region}'", "none", masks[region], remedy)
    return {region: Trials(joined[kept][:, chosen], *names) for region, chosen in inside.items()}


def _whose(recording: Recording) -> str:
    return f"subject {recording.subject}"


def _shared_mask(recordings: Sequence[Recording]) -> NDArray[np.bool_]:
    """Return the voxels that every run has: preprocessing drops bad voxels run by run."""
    first = recordings[0]
    assert first.mask is not None
    shared = first.mask.copy()
    for recording in recordings[1:]:
        mask, affine = recording.mask, recording.affine
        assert mask is not None
        if mask.shape != shared.shape or not np.allclose(affine, first.affine, atol=1e-3):  # type: ignore[arg-type]
            found = f"{mask.shape} in run {recording.run or 'n/a'}"
            remedy = "Resample the runs to one grid (preprocess.resample_mm), or use derivatives in one space."
            raise InputError(f"the grid {shared.shape} with one affine", found, _whose(recording), remedy)
        shared &= mask
    if not shared.any():
        raise InputError("voxels that all runs share", "none", _whose(first), "Check the masks of the runs.")
    return shared


def _columns(recording: Recording, shared: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    if shared is None or recording.mask is None:
        return np.arange(recording.data.shape[1])
    return np.flatnonzero(shared[recording.mask])


def _inside(path: Path, recording: Recording) -> NDArray[np.bool_]:
    """Read a region's mask and refuse another grid: a mask is never resampled in silence."""
    import nibabel

    assert recording.mask is not None
    assert recording.affine is not None
    if not path.is_file():
        remedy = "Check alignment.regions; paths are relative to the root of the data set."
        raise InputError("a mask image", "no such file", path, remedy)
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)  # type: ignore[attr-defined]
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    affine = image.affine  # type: ignore[attr-defined]
    if values.shape != recording.mask.shape or not np.allclose(affine, recording.affine, atol=1e-3):
        raise InputError(
            f"the grid {recording.mask.shape} and affine {np.round(recording.affine, 3).tolist()} of the recording",
            f"{values.shape} and {np.round(affine, 3).tolist()}",
            path,
            "Resample the mask to the grid of the recordings (nearest neighbour).",
        )
    return np.asarray(np.nan_to_num(values) > 0)
