"""Whitening of sensors in the subspace that their preprocessing left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Directions with less than this share of the largest variance (channels scaled to one) hold rounding errors only.
_EMPTY = 1e-10


def whitener(covariance: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Return the matrix that turns noise of a covariance into white noise.

    Parameters
    ----------
    covariance : array of shape (n_channels, n_channels)
        Of the noise; symmetric, in any units, which may differ between channels.
    rank : int
        Dimensions that the data still have after SSS, SSP, ICA and interpolation (step "rank" of a Recording).

    Returns
    -------
    W : array of shape (rank, n_channels)
        ``W @ covariance @ W.T`` is the identity. Channels are scaled to variance 1 before the eigenvectors are
        taken, so that magnetometers (1e-13 T) and gradiometers (1e-11 T/m) count alike
        (Engemann & Gramfort 2015, NeuroImage 108, 328-342).

    Raises
    ------
    ValueError
        The covariance is not symmetric, a channel has no variance, or it has fewer dimensions than `rank`.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    size = np.sqrt(np.diag(covariance).clip(min=0))
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9 * float(size.max(initial=0)) ** 2):
        raise ValueError("a covariance is symmetric")
    if not (size > 0).all():
        raise ValueError(f"{int((size <= 0).sum())} channels have no variance")
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    if not 0 < rank <= len(size) or values[-1] <= _EMPTY * values[0]:
        raise ValueError(f"a covariance of {numerical_rank(covariance)} dimensions cannot be whitened in {rank}")
    return np.asarray((vectors / np.sqrt(values)).T / size)


def numerical_rank(covariance: NDArray[np.float64]) -> int:
    """Return the number of dimensions of a covariance, channels scaled to variance 1."""
    size = np.sqrt(np.diag(covariance).clip(min=0))
    used = size > 0
    scaled = covariance[np.ix_(used, used)] / np.outer(size[used], size[used])
    values = np.linalg.eigvalsh(scaled) if used.any() else np.zeros(1)
    return int((values > _EMPTY * values[-1]).sum()) if values[-1] > 0 else 0
