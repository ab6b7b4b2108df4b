"""The runs of one subject on the voxels that all of them share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.stored_runs import Runs, StoredRun, StoredRuns
from decoders.errors import InputError
from decoders.store.recording import Recording


def common_mask(recordings: Sequence[Recording], where: str) -> NDArray[np.bool_]:
    """Return the voxels that all runs have, shape (x, y, z).

    Raises
    ------
    InputError
        No volumes on one grid, runs of different TR, or no voxel in common.
    """
    if not recordings or any(r.mask is None or r.affine is None for r in recordings):
        remedy = "Set preprocess.representation to 'volume', and check what preprocessing excluded."
        raise InputError("runs of volumes on a voxel grid", "regions, a surface or no run at all", where, remedy)
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


def on_common_grid(recordings: Sequence[Recording], mask: NDArray[np.bool_]) -> Runs:
    """Return each run in the voxels of `common_mask`, shape (n_volumes, n_voxels).

    Of recordings whose data were left on disk (`read_recording_header`) so are those of the runs.
    """
    if recordings and all(r.path is not None for r in recordings):
        return StoredRuns([StoredRun(r.path, len(r.time), np.flatnonzero(mask[r.mask])) for r in recordings])  # type: ignore[arg-type]
    return [np.ascontiguousarray(r.data[:, mask[r.mask]]) for r in recordings]
