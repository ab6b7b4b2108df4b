"""The runs of one subject on the voxels that all of them share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.config import VoxelMapSettings
from decoders.decoding.splits_voxels import SETTING
from decoders.decoding.stored_runs import Runs, StoredRun, StoredRuns
from decoders.errors import InputError
from decoders.stage import SettingsSlice
from decoders.store.arrays import shape_of
from decoders.store.recording import Recording


def common_mask(recordings: Sequence[Recording], where: str) -> NDArray[np.bool_]:
    """Return the voxels that all runs have, shape (x, y, z); of regions and surfaces all features, shape (n, 1, 1).

    Raises
    ------
    InputError
        Volumes on several grids, other regions in other runs, runs of different TR, or no voxel in common.
    """
    kinds = {r.kind for r in recordings}
    if not kinds or (not on_grid(recordings) and not kinds <= {"region", "surface"}):
        remedy = "Check preprocess.representation, and what preprocessing excluded."
        found = f"the kinds {', '.join(sorted(kinds))} without a grid" if kinds else "no run at all"
        raise InputError("runs of volumes on a voxel grid, of regions or of a surface", found, where, remedy)
    if not on_grid(recordings):
        return _all_features(recordings, where)
    masks = [r.mask for r in recordings if r.mask is not None]
    first = recordings[0]
    for r in recordings:
        same = r.mask is not None and r.mask.shape == masks[0].shape and np.allclose(r.affine, first.affine)  # type: ignore[arg-type]
        if not same or not np.isclose(r.tr, first.tr):
            remedy = "Bring all runs to one space."
            raise InputError("runs of one grid and TR", f"another in run {r.run}", where, remedy)
    common = np.logical_and.reduce(masks)
    if not common.any():
        remedy = "Look at the quality table for what was left out."
        raise InputError("voxels that all runs share", "none", where, remedy)
    return common


def on_grid(recordings: Sequence[Recording]) -> bool:
    """Whether the features are voxels on a grid; regions and surfaces have neighbours that no grid tells."""
    return any(r.mask is not None and r.affine is not None for r in recordings)


def _all_features(recordings: Sequence[Recording], where: str) -> NDArray[np.bool_]:
    first, n = recordings[0], n_features_of(recordings[0])
    for r in recordings:
        if n_features_of(r) != n or list(r.names) != list(first.names) or not np.isclose(r.tr, first.tr):
            found = f"{n_features_of(r)} features in run {r.run}, {n} in run {first.run}, or others, or another TR"
            remedy = "Take the same regions from all runs: see preprocessed/quality.tsv for what was left out."
            raise InputError("runs of the same regions or vertices and TR", found, where, remedy)
    return np.ones((n, 1, 1), dtype=bool)


def n_features_of(recording: Recording) -> int:
    """Return the number of features of a run, whose data may lie on disk."""
    return recording.data.shape[1] if recording.path is None else shape_of(recording.path, "data")[1]


def on_common_grid(recordings: Sequence[Recording], mask: NDArray[np.bool_]) -> Runs:
    """Return each run in the voxels of `common_mask`, shape (n_volumes, n_voxels).

    Of recordings whose data were left on disk (`read_recording_header`) so are those of the runs.
    """
    if recordings and all(r.path is not None for r in recordings):
        return StoredRuns([StoredRun(r.path, len(r.time), np.flatnonzero(_kept(r, mask))) for r in recordings])  # type: ignore[arg-type]
    return [np.ascontiguousarray(r.data[:, _kept(r, mask)]) for r in recordings]


def _kept(recording: Recording, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask.ravel() if recording.mask is None else mask[recording.mask]


def without_grid(settings: VoxelMapSettings) -> VoxelMapSettings:
    """Return the settings of features without a grid: nothing is smoothed.

    Raises
    ------
    InputError
        A gate or a read-out that is a 3D-CNN.
    """
    for name, value, good in (("gate", settings.gate, "voxel"), ("head", settings.head, "linear")):
        if value != good:
            where, remedy = f"{SETTING}.{name}", f"Set it to '{good}', or preprocess.representation to 'volume'."
            raise InputError("voxels on a grid for a 3D-CNN", "regions or a surface", where, remedy)
    if isinstance(settings, SettingsSlice):
        return settings.changed(sigma_voxels=0.0)  # type: ignore[return-value]
    return settings.model_copy(update={"sigma_voxels": 0.0})
