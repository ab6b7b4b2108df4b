"""Trial patterns of the regions of one subject, over all of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.shared import share_features
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
    # Preprocessing drops bad voxels and regions run by run.
    recordings = share_features(recordings)
    shared = recordings[0].mask
    joined = np.concatenate([recording.data for recording in recordings])
    conditions = [str(name) for recording in recordings for name in recording.conditions]
    runs = [f"{r.session} {r.run} {number}" for number, r in enumerate(recordings) for _ in range(len(r.data))]
    kept = np.array([name not in ("", "n/a", "rest") for name in conditions], dtype=bool)
    names = [[text for text, flag in zip(values, kept, strict=True) if flag] for values in (conditions, runs)]
    if shared is None or not masks:
        return {ALL: Trials(joined[kept], *names)}
    affine = recordings[0].affine
    assert affine is not None
    inside = {region: region_mask(path, shared.shape, affine)[shared] for region, path in masks.items()}
    for region, chosen in inside.items():
        if not chosen.any():
            remedy = "Check the mask, or the mask of the preprocessing."
            raise InputError(f"recorded voxels in the region '{region}'", "none", masks[region], remedy)
    return {region: Trials(joined[kept][:, chosen], *names) for region, chosen in inside.items()}


def _whose(recording: Recording) -> str:
    return f"subject {recording.subject}"


def region_mask(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Read a region's mask and refuse another grid: a mask is never resampled in silence.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Of the recording's grid.
    affine : array of shape (4, 4)

    Returns
    -------
    array of shape `shape`, bool

    Raises
    ------
    InputError
        No such file, or another grid.
    """
    import nibabel

    if not path.is_file():
        remedy = "Check alignment.regions; paths are relative to the root of the data set."
        raise InputError("a mask image", "no such file", path, remedy)
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)  # type: ignore[attr-defined]
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    found = image.affine  # type: ignore[attr-defined]
    if values.shape != shape or not np.allclose(found, affine, atol=1e-3):
        raise InputError(
            f"the grid {shape} and affine {np.round(affine, 3).tolist()} of the recording",
            f"{values.shape} and {np.round(found, 3).tolist()}",
            path,
            "Resample the mask to the grid of the recordings (nearest neighbour).",
        )
    return np.asarray(np.nan_to_num(values) > 0)
