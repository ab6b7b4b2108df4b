"""The features that all runs share: runs may differ in bad voxels or regions that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from decoders.errors import InputError
from decoders.signal.preflight import Grid, check_grid, same_grid
from decoders.store.recording import Recording


def share_features(recordings: Sequence[Recording]) -> list[Recording]:
    """Return recordings reduced to the features that all of them have, in one order.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one kind, none of them excluded. Voxels are matched by place, regions and vertices by name.

    Raises
    ------
    InputError
        Grids that differ, or no feature in common.
    """
    if not recordings or all(_same(recordings[0], other) for other in recordings[1:]):
        return list(recordings)
    if recordings[0].mask is not None:
        return _share_voxels(recordings)
    common = set.intersection(*(set(recording.names) for recording in recordings))
    wanted = [name for name in recordings[0].names if name in common]
    if not wanted:
        raise _nothing(recordings)
    return [_pick(recording, wanted) for recording in recordings]


def _same(one: Recording, other: Recording) -> bool:
    if one.data.shape[1] != other.data.shape[1] or (one.mask is None) != (other.mask is None):
        return False
    if one.mask is not None and other.mask is not None:
        return same_grid(_grid(one), _grid(other)) and bool((one.mask == other.mask).all())
    return np.array_equal(one.names, other.names)


def _grid(recording: Recording) -> Grid:
    if recording.mask is None or recording.affine is None:
        raise InputError("recordings of one kind", "voxels and others", _label(recording), "Choose one task.")
    return Grid(recording.mask.shape, recording.affine, _label(recording))


def _share_voxels(recordings: Sequence[Recording]) -> list[Recording]:
    grids = [_grid(recording) for recording in recordings]
    masks = [recording.mask for recording in recordings if recording.mask is not None]
    for grid in grids[1:]:
        check_grid(grids[0], grid, "run")
    common = np.logical_and.reduce(masks)
    if not common.any():
        raise _nothing(recordings)
    return [_within(recording, mask, common) for recording, mask in zip(recordings, masks, strict=True)]


def _within(recording: Recording, mask: np.ndarray, common: np.ndarray) -> Recording:
    keep = common[mask]
    return replace(recording, data=recording.data[:, keep], mask=common, quality=_kept(recording, keep))


def _pick(recording: Recording, wanted: list[str]) -> Recording:
    place = {name: number for number, name in enumerate(recording.names)}
    keep = np.array([place[name] for name in wanted])
    names = np.array(wanted, dtype=object)
    return replace(recording, data=recording.data[:, keep], names=names, quality=_kept(recording, keep))


def _kept(recording: Recording, keep: np.ndarray) -> dict[str, np.ndarray]:
    return {**recording.quality, **({"tsnr": recording.quality["tsnr"][keep]} if "tsnr" in recording.quality else {})}


def _label(recording: Recording) -> str:
    return f"sub-{recording.subject} task-{recording.task or 'n/a'} run-{recording.run or 'n/a'}"


def _nothing(recordings: Sequence[Recording]) -> InputError:
    listed = ", ".join(_label(recording) for recording in recordings[:4])
    remedy = "Look at the quality table for what was left out of which run."
    return InputError("features that all runs share", "none", listed, remedy)
