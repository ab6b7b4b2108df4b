"""The phantom's brain: grid, mask, planted voxels and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate.streams import stream

VOXEL_MM = 3.0
N_SITES = 5
PLANTED_SHARE = 0.05
N_FEATURES = 25
_REFERENCE_SIZE = 16
_MAX_R = 0.95


@dataclass(frozen=True)
class Brain:
    """One person's brain.

    Attributes
    ----------
    mask : array of shape grid, bool
    site : array of shape (n_voxels,)
        Site of each in-mask voxel (C order), -1 where nothing is planted.
    weights : array of shape (n_planted, 25)
        Responses to word count and the 24 dimensions of the word vectors.
    r_true : array of shape (n_planted,)
        Correlation of a planted voxel with its signal before drift.
    """

    mask: NDArray[np.bool_]
    site: NDArray[np.int64]
    weights: NDArray[np.float64]
    r_true: NDArray[np.float64]

    @property
    def planted(self) -> NDArray[np.bool_]:
        """Planted voxels, shape (n_voxels,)."""
        return self.site >= 0

    @property
    def amplitude(self) -> NDArray[np.float64]:
        """Amplitude of the unit-variance signal in noise of unit variance, shape (n_planted,)."""
        return amplitude_of(self.r_true)


def scale_of(grid: Sequence[int]) -> float:
    """Return D/16: all distances of the phantom are in voxels of a grid whose shortest axis has 16."""
    return min(grid) / _REFERENCE_SIZE


def brain_mask(grid: Sequence[int]) -> NDArray[np.bool_]:
    """Return the ellipsoid of voxels whose squared coordinates (-1 to 1 per axis) sum to less than .92."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in grid]
    return sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)) < 0.92  # type: ignore[return-value]


def affine_of(grid: Sequence[int]) -> NDArray[np.float64]:
    """Return the affine of 3-mm voxels with the origin in the middle of the grid, shape (4, 4)."""
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = [-VOXEL_MM * (n - 1) / 2 for n in grid]
    return affine


def amplitude_of(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the amplitude r / sqrt(1 - r^2) that gives the correlation r in unit noise."""
    return r / np.sqrt(1 - r**2)


def draw_r(r0: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw true correlations r0 U(.5, 1.5)."""
    if 1.5 * r0 > _MAX_R:
        expected = f"a mean correlation r0 of at most {_MAX_R / 1.5:.2f}"
        raise InputError(expected, f"{r0}", "data.phantom.r0", "Single voxels reach 1.5 times r0: choose less.")
    return r0 * rng.uniform(0.5, 1.5, n)


def draw_brain(settings: PhantomSettings, subject: int = 0) -> Brain:
    """Draw a person's planted voxels.

    Parameters
    ----------
    settings : PhantomSettings
    subject : int
        From 0. Others than the first have their centres shifted by up to 2 voxels (times D/16)
        to either side on every axis; the weights of a site are shared, those of a voxel are not.

    Returns
    -------
    Brain
    """
    mask = brain_mask(settings.grid)
    voxels = np.argwhere(mask).astype(float)
    size = scale_of(settings.grid)
    centres = _centres(voxels, size, stream(settings.seed, "centres"))
    if subject:
        centres = centres + stream(settings.seed, "shift", subject).uniform(-2, 2, centres.shape) * size
    rng = stream(settings.seed, "brain", subject)
    per_site = int(PLANTED_SHARE * len(voxels) / N_SITES)
    if per_site < 1:
        expected = f"a grid whose mask has at least {round(N_SITES / PLANTED_SHARE)} voxels"
        raise InputError(expected, f"{len(voxels)}", "data.phantom.grid", "Choose a larger grid.")
    site = grow_sites(voxels, centres, per_site, 1.2 * size, rng)
    shared = stream(settings.seed, "site weights").standard_normal((N_SITES, N_FEATURES))
    own = rng.standard_normal((int((site >= 0).sum()), N_FEATURES))
    weights = 0.7 * shared[site[site >= 0]] + 0.7 * own
    return Brain(mask, site, weights, draw_r(settings.r0, len(own), rng))


def grow_sites(
    voxels: NDArray[np.float64], centres: NDArray[np.float64], n_voxels: int, ragged: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give each centre its nearest free voxels.

    Parameters
    ----------
    voxels : array of shape (n, 3)
    centres : array of shape (n_sites, 3)
    n_voxels : int
        Voxels per site.
    ragged : float
        Distances get U(0, ragged) added, so that the sites are no balls.
    rng : Generator

    Returns
    -------
    array of shape (n,)
        Site of each voxel, -1 for none.
    """
    site = np.full(len(voxels), -1)
    for index, centre in enumerate(centres):
        distance = np.linalg.norm(voxels - centre, axis=1) + rng.uniform(0, ragged, len(voxels))
        distance[site >= 0] = np.inf
        site[np.argsort(distance, kind="stable")[:n_voxels]] = index
    return site


def _centres(voxels: NDArray[np.float64], size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw five voxels that are at least 5 voxels (times D/16) apart."""
    for _ in range(1000):
        centres = voxels[rng.choice(len(voxels), N_SITES, replace=False)] if len(voxels) >= N_SITES else voxels[:0]
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(len(centres), 1)]
        if len(centres) == N_SITES and gaps.min() >= 5 * size:
            return centres
    found = f"a mask of {len(voxels)} voxels"
    raise InputError("room for five sites", found, "data.phantom.grid", "Choose a larger grid.")
