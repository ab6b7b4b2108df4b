"""Spheres of a searchlight: for each centre the voxels of the mask within a radius in millimetres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

# The correlation of patterns of two voxels is 1 or -1 whatever they hold. Distances meet the radius beyond rounding.
MIN_VOXELS = 3
_ROUNDING = 1e-6
_RADIUS = "alignment.searchlight.radius_mm"


@dataclass(frozen=True)
class Spheres:
    """The centres of a mask and how to find their spheres.

    Attributes
    ----------
    centres : array of shape (n_centres,)
        Voxels of the mask (numbered in C order) whose sphere lies in it with the share that is asked for.
    n_left_out : int
        Voxels of the mask that are no centre.
    steps : array of shape (n_offsets,)
        The full sphere as steps in the flattened, padded grid; in C order.
    places : array of shape (n_voxels,)
        Where the voxels of the mask stand in that grid.
    lookup : array
        Number of the voxel at each place of that grid, -1 outside of the mask.
    """

    centres: NDArray[np.int64]
    n_left_out: int
    steps: NDArray[np.int64]
    places: NDArray[np.int64]
    lookup: NDArray[np.int64]

    def batches(self, centres: NDArray[np.int64], most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield spheres of one size together, so that no padding enters a pattern.

        Parameters
        ----------
        centres : array of shape (n,)
            Some of `self.centres`.
        most : int
            Largest number of voxels in the spheres of one batch together (one sphere at least).

        Yields
        ------
        rows : array of shape (n_batch,)
            Which of `centres` they are.
        neighbours : array of shape (n_batch, size)
            Voxels of each sphere, in C order.
        """
        sizes = self.sizes(centres)
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            step = max(1, most // int(size))
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                found = self._around(centres[part])
                yield part, found[found >= 0].reshape(len(part), int(size))

    def sizes(self, centres: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of voxels in each sphere, array of shape (n,)."""
        counts = np.zeros(len(centres), dtype=np.int64)
        for step in self.steps:
            counts += self.lookup[self.places[centres] + step] >= 0
        return counts

    def _around(self, centres: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(self.lookup[self.places[centres][:, None] + self.steps])


def sphere_offsets(affine: NDArray[np.float64], radius_mm: float) -> NDArray[np.int64]:
    """Return the voxel steps from a centre to all voxels within a radius, itself included.

    Parameters
    ----------
    affine : array of shape (4, 4)
        Voxel to millimetre; voxels need not be cubes.
    radius_mm : float
        A voxel whose centre lies at this distance is inside.

    Returns
    -------
    array of shape (n_offsets, 3)
        In C order.

    Raises
    ------
    InputError
        The radius reaches no neighbour.
    """
    turn = np.asarray(affine, dtype=np.float64)[:3, :3]
    reach = np.floor(radius_mm * (1 + _ROUNDING) * np.linalg.norm(np.linalg.inv(turn), axis=1)).astype(int)
    axes = [np.arange(-far, far + 1) for far in reach]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[np.linalg.norm(steps @ turn.T, axis=1) <= radius_mm * (1 + _ROUNDING)]
    if len(steps) == 1:
        sides = " x ".join(f"{side:.3g}" for side in np.linalg.norm(turn, axis=0))
        found = f"{radius_mm:g} mm with voxels of {sides} mm"
        raise InputError("a radius that reaches the next voxel", found, _RADIUS, "Choose a larger radius.")
    return np.asarray(steps, dtype=np.int64)


def find_spheres(mask: NDArray[np.bool_], affine: NDArray[np.float64], radius_mm: float, min_share: float) -> Spheres:
    """Return the centres whose sphere lies in the mask with at least a share of its voxels.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool
    affine : array of shape (4, 4)
    radius_mm : float
    min_share : float
        From 0 to 1. What lies beyond the volume counts as outside of the mask. A sphere of fewer than three voxels
        in the mask is left out at any share.

    Raises
    ------
    InputError
        A radius that reaches no neighbour, or no centre at all.
    """
    offsets = sphere_offsets(affine, radius_mm)
    pad = np.abs(offsets).max(axis=0)
    shape = tuple(int(n) for n in np.array(mask.shape) + 2 * pad)
    voxels = np.argwhere(mask)
    places = np.ravel_multi_index(tuple((voxels + pad).T), shape).astype(np.int64)
    lookup = np.full(int(np.prod(shape)), -1, dtype=np.int64)
    lookup[places] = np.arange(len(voxels))
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    everything = Spheres(np.arange(len(voxels)), 0, offsets @ strides, places, lookup)
    sizes = everything.sizes(everything.centres)
    kept = np.flatnonzero((sizes >= MIN_VOXELS) & (sizes >= min_share * len(offsets) * (1 - _ROUNDING)))
    if not len(kept):
        largest = f"full sphere: {len(offsets)} voxels, largest in the mask: {sizes.max(initial=0)}"
        found = f"none among {len(voxels)} voxels ({largest})"
        remedy = "Lower alignment.searchlight.min_share or the radius, or check the mask."
        raise InputError("centres with enough of their sphere in the mask", found, "alignment.searchlight", remedy)
    return Spheres(kept, len(voxels) - len(kept), everything.steps, places, lookup)
