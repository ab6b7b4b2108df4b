"""Drift, confounds and scale: removed from the masked matrix in place, a stretch of columns at a time.

High-pass and confounds are one projection. One after the other would be wrong: regressing out
confounds puts slow drift back that the filter had taken away (Lindquist et al. 2019, Hum Brain Mapp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
_CHUNK_BYTES = 4 << 20
# What is left of a feature after the projection, relative to its own size, below which it is rounding noise.
FLAT = 1e-6


def cosine_basis(n_volumes: int, tr: float, period_s: float) -> NDArray[np.float64]:
    """Return the discrete cosines with periods longer than the cut-off, orthonormal.

    Parameters
    ----------
    n_volumes : int
    tr : float
        Repetition time in seconds.
    period_s : float
        Cut-off period in seconds.

    Returns
    -------
    basis : array of shape (n_volumes, n_cosines)
        DCT-II of orders 1 to floor(2 n_volumes tr / period_s), as in SPM; without the constant.
    """
    n_cosines = min(int(np.floor(2 * n_volumes * tr / period_s + 1e-9)), n_volumes - 1)
    phase = np.pi * (np.arange(n_volumes)[:, None] + 0.5) * np.arange(1, n_cosines + 1) / n_volumes
    return np.sqrt(2 / n_volumes) * np.cos(phase)


def nuisance_basis(
    n_volumes: int, tr: float, period_s: float | None, confounds: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return an orthonormal basis of all that is taken out: mean, drift and confounds together.

    Parameters
    ----------
    n_volumes : int
    tr : float
    period_s : float or None
        Cut-off period of the high-pass in seconds; None for no high-pass.
    confounds : array of shape (n_volumes, n_confounds), optional

    Returns
    -------
    basis : array of shape (n_volumes, rank)
        The first column is constant.
    """
    parts = [np.full((n_volumes, 1), 1 / np.sqrt(n_volumes))]
    if period_s is not None:
        parts.append(cosine_basis(n_volumes, tr, period_s))
    fixed = np.hstack(parts)
    if confounds is None or confounds.shape[1] == 0:
        return fixed
    return np.hstack([fixed, _new_directions(fixed, confounds)])


def _new_directions(basis: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal directions that `columns` add to an orthonormal `basis`."""
    columns = columns - columns.mean(axis=0)
    size = np.linalg.norm(columns, axis=0)
    # Confounds differ in unit (mm, radians, arbitrary): on one scale a rank can be told from rounding.
    scaled = columns[:, size > 0] / size[size > 0]
    if scaled.shape[1] == 0:
        return np.zeros((len(columns), 0))
    for _ in range(2):  # twice is enough to be orthogonal to rounding
        scaled = scaled - basis @ (basis.T @ scaled)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    return left[:, values > 1e-10]


@dataclass(frozen=True)
class CleanStats:
    """What is known of each feature from before and after cleaning.

    Attributes
    ----------
    tsnr : array of shape (n_features,)
        Mean over standard deviation of the linearly detrended series, before anything else; nan where
        that deviation is zero.
    flat : array of bool of shape (n_features,)
        Nothing but rounding noise is left of the feature.
    """

    tsnr: NDArray[np.float32]
    flat: NDArray[np.bool_]


def clean_in_place(data: Matrix, basis: NDArray[np.float64], standardize: bool) -> CleanStats:
    """Project the nuisance out of each column and, if wanted, scale it to unit deviation.

    Parameters
    ----------
    data : array of shape (n_volumes, n_features), float32
        Overwritten. Computed in float64, a stretch of columns at a time, so that no second matrix is held.
    basis : array of shape (n_volumes, rank)
        Orthonormal, see `nuisance_basis`.
    standardize : bool
        Scale to mean square 1 (deviation over n, not n - 1): the voxel bottleneck's KL assumes E x^2 = 1.

    Returns
    -------
    stats : CleanStats
    """
    n_volumes, n_features = data.shape
    trend = _trend_basis(n_volumes)
    tsnr, flat = np.zeros(n_features, dtype=np.float32), np.zeros(n_features, dtype=bool)
    step = max(1, _CHUNK_BYTES // (8 * n_volumes))
    for start in range(0, n_features, step):
        part = slice(start, start + step)
        values = data[:, part].astype(np.float64)
        tsnr[part] = _tsnr(values, trend)
        size = np.sqrt(np.mean(values**2, axis=0))
        values -= basis @ (basis.T @ values)
        deviation = np.sqrt(np.mean(values**2, axis=0))
        flat[part] = deviation <= FLAT * size
        if standardize:
            values /= np.where(flat[part], 1, deviation)
        data[:, part] = values
    return CleanStats(tsnr, flat)


def _trend_basis(n_volumes: int) -> NDArray[np.float64]:
    line = np.arange(n_volumes) - (n_volumes - 1) / 2
    size = np.linalg.norm(line)
    constant = np.full(n_volumes, 1 / np.sqrt(n_volumes))
    return np.column_stack([constant, line / size]) if size > 0 else constant[:, None]


def _tsnr(values: NDArray[np.float64], trend: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = values.mean(axis=0)
    deviation = np.sqrt(np.mean((values - trend @ (trend.T @ values)) ** 2, axis=0))
    return np.divide(mean, deviation, out=np.full_like(mean, np.nan), where=deviation > FLAT * np.abs(mean))


def keep_columns(data: Matrix, keep: NDArray[np.bool_]) -> Matrix:
    """Return the matrix without some columns, in the same memory (a copy would hold it twice).

    Parameters
    ----------
    data : array of shape (n_volumes, n_features), C order
        Must not be used afterwards.
    keep : array of bool of shape (n_features,)

    Returns
    -------
    data : array of shape (n_volumes, n_kept)
    """
    if keep.all():
        return data
    n_volumes, n_kept = len(data), int(keep.sum())
    flat = data.reshape(-1)
    for row in range(n_volumes):
        # Row by row forwards, what is overwritten has already been read.
        flat[row * n_kept : (row + 1) * n_kept] = data[row, keep]
    return flat[: n_volumes * n_kept].reshape(n_volumes, n_kept)
