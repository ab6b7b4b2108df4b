"""Noise covariance: shrunk within the dimensions that preprocessing left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.signal.whitening import numerical_rank

# Rounding of a covariance's small eigenvalues, relative to the largest (channels scaled to variance 1).
_EMPTY = 1e-10


def shrunk_covariance(
    samples: NDArray[np.floating], kinds: Sequence[str], rank: int, within: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the covariance of noise, shrunk by Ledoit and Wolf's estimate within its subspace.

    Parameters
    ----------
    samples : array of shape (n_channels, n_samples)
        Noise; the mean of each channel is removed.
    kinds : sequence of str
        Type of each channel; channels are scaled by the root mean square of their type, because shrinking toward
        equal variances makes no sense between teslas and volts.
    rank : int
        Dimensions of the data after SSS, SSP and ICA. Shrinking beyond them would put noise where none can be.

    within : array of shape (n_channels, n_channels), optional
        A covariance of the same subspace (of a former estimate, or of white noise after the same steps). It tells the
        subspace where there are fewer samples than dimensions.

    Returns
    -------
    covariance : array of shape (n_channels, n_channels)
        In the squared unit of the samples, of rank `rank` (or of as many dimensions as `within` or the samples have).

    Notes
    -----
    Ledoit & Wolf 2004 (J. Multivar. Anal. 88, 365-411); for MEG: Engemann & Gramfort 2015 (NeuroImage 108, 328-342).
    """
    from sklearn.covariance import ledoit_wolf

    samples = np.asarray(samples, dtype=np.float64)
    samples = samples - samples.mean(axis=1, keepdims=True)
    scale = type_scales(samples, kinds)
    scaled = samples / scale[:, None]
    known = within is not None and numerical_rank(within) >= rank
    own = within / np.outer(scale, scale) if known and within is not None else scaled @ scaled.T / samples.shape[1]
    basis = np.eye(len(scaled)) if rank == len(scaled) else subspace(own, rank)
    inner = ledoit_wolf((basis.T @ scaled).T, assume_centered=True)[0]
    return np.asarray((basis @ inner @ basis.T) * np.outer(scale, scale))


def type_scales(samples: NDArray[Any], kinds: Sequence[str]) -> NDArray[np.float64]:
    """Return the root mean square of the type of each channel."""
    power = (samples**2).mean(axis=1)
    kinds_array = np.asarray(kinds, dtype=object)
    scale = np.ones(len(power))
    for kind in set(kinds):
        own = kinds_array == kind
        scale[own] = np.sqrt(power[own].mean()) or 1.0
    return scale


def subspace(covariance: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """Return an orthonormal basis (n_channels, at most rank) of the largest directions of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = min(rank, int((values > _EMPTY * values[-1]).sum()))
    return np.asarray(vectors[:, ::-1][:, :kept])
