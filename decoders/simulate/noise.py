"""Noise and drift of the phantom's recordings (decoding.md, section 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from decoders.signal.filtering import cosine_basis

HIGH_PASS_S = 128.0


def autoregressive(innovations: NDArray[np.float64], phi: float) -> NDArray[np.float64]:
    """Turn innovations of unit variance into an AR(1) process of unit variance.

    Parameters
    ----------
    innovations : array of shape (n_volumes, …)
    phi : float
        Correlation of neighbouring volumes. Innovations but the first are scaled by sqrt(1 - phi^2).

    Returns
    -------
    array of the same shape
    """
    scaled = innovations * np.sqrt(1 - phi**2)
    scaled[0] = innovations[0]
    return lfilter([1.0], [1.0, -phi], scaled, axis=0)


def noise(mask: NDArray[np.bool_], n_volumes: int, size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw noise: white in space, smooth in space, and global; each autoregressive in time.

    Parameters
    ----------
    mask : array of shape grid, bool
    n_volumes : int
    size : float
        D/16, the scale of the grid.
    rng : Generator

    Returns
    -------
    array of shape (n_volumes, n_voxels)
        Unit variance.
    """
    n_voxels = int(mask.sum())
    white = autoregressive(rng.standard_normal((n_volumes, n_voxels)), 0.4)
    spread = 1.2 * np.sqrt(size)
    everywhere = rng.standard_normal((n_volumes, *mask.shape))
    smooth = gaussian_filter(everywhere, (0, spread, spread, spread), mode="constant")[:, mask]
    # Unit variance voxel by voxel, also where the kernel reaches over the border of the grid.
    smooth = autoregressive(smooth / _kernel_sd(mask, spread), 0.5)
    shared = autoregressive(rng.standard_normal((n_volumes, 1)), 0.5)
    return (0.7 * white + 0.7 * smooth + 0.3 * shared) / np.sqrt(1.07)


def drift(n_volumes: int, n_voxels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw slow drift: a shared random walk and a line, each with a weight N(0, 1) per voxel."""
    walk = 0.05 * np.cumsum(rng.standard_normal(n_volumes))
    line = np.linspace(-1, 1, n_volumes)
    return np.outer(walk, rng.standard_normal(n_voxels)) + np.outer(line, rng.standard_normal(n_voxels))


def high_pass_zscore(series: NDArray[np.float64], tr: float, cutoff_s: float = HIGH_PASS_S) -> NDArray[np.float64]:
    """Remove discrete cosines slower than a period and z-score each column.

    Parameters
    ----------
    series : array of shape (n_volumes, n_voxels)
    tr, cutoff_s : float
        Seconds.

    Returns
    -------
    array of the same shape
    """
    basis = cosine_basis(len(series), tr, cutoff_s)
    centred = series - series.mean(axis=0)
    cleaned = centred - basis @ (basis.T @ centred)
    return cleaned / cleaned.std(axis=0)


def _kernel_sd(mask: NDArray[np.bool_], spread: float) -> NDArray[np.float64]:
    """Return the standard deviation of smoothed white noise at each in-mask voxel."""
    # The kernel is separable: so is the sum of its squares.
    per_axis = []
    for n in mask.shape:
        kernel = gaussian_filter(np.eye(n), (0, spread), mode="constant")
        per_axis.append((kernel**2).sum(axis=0))
    variance = np.einsum("i,j,k->ijk", *per_axis)
    return np.sqrt(variance[mask])
