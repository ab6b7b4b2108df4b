"""Banded kernel ridge: one penalty, and one weight per band of features, for each target, chosen in inner folds.

Held equal to himalaya's random search (Dupré la Tour et al. 2022, doi:10.1016/j.neuroimage.2022.119728) by a test. Ours
because permutations need the same search over thousands of kernels of a few dozen stimuli.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.encoding.folds import Fold
from decoders.alignment.encoding.kernels import centred_on

ONE_BAND = np.ones((1, 1))


def band_weights(n_bands: int, n_weights: int, seed: int = 0) -> NDArray[np.float64]:
    """Return weights of bands to choose from.

    Parameters
    ----------
    n_bands : int
        The first band is the model, the others are controls.
    n_weights : int
        Equal weights, the first band alone and the others alone come first; the rest are drawn from Dirichlet
        distributions of concentration .1 and 1 in turn, as himalaya does.
    seed : int

    Returns
    -------
    array of shape (n_weights, n_bands)
        Rows sum to 1; a single row for a single band.
    """
    if n_bands == 1:
        return ONE_BAND
    rng = np.random.default_rng(seed)
    first = np.eye(n_bands)[0]
    fixed = [np.full(n_bands, 1 / n_bands), first, (1 - first) / (n_bands - 1)][:n_weights]
    drawn = [rng.dirichlet(np.full(n_bands, (0.1, 1.0)[i % 2])) for i in range(n_weights - len(fixed))]
    return np.array([*fixed, *drawn])


def predict(
    kernels: NDArray[np.float64],
    fold: Fold,
    train: NDArray[np.float64],
    alphas: Sequence[float],
    weights: NDArray[np.float64] = ONE_BAND,
) -> NDArray[np.float64]:
    """Predict the responses to held-out stimuli.

    Parameters
    ----------
    kernels : array of shape (n_bands, n_stimuli, n_stimuli)
        Of all stimuli; centred here on those that train.
    fold : Fold
    train : array of shape (n_train, n_targets)
        Responses to the training stimuli; centred here.
    alphas : sequence of float
        Penalties to choose from.
    weights : array of shape (n_weights, n_bands)

    Returns
    -------
    array of shape (n_test, n_targets)
        By the penalty and the weights of least squared error on the inner folds, per target.
    """
    offset = train.mean(axis=0)
    responses, grid = train - offset, np.asarray(alphas, dtype=np.float64)
    predicted = np.zeros((len(fold.test), train.shape[1]))
    least = np.full(train.shape[1], np.inf)
    for weight in weights:
        kernel = centred_on(np.tensordot(weight, kernels, axes=1), fold.train)
        inside = kernel[np.ix_(fold.train, fold.train)]
        error = _validation_error(inside, responses, grid, fold)
        better = np.flatnonzero(error.min(axis=0) < least)
        if len(better):
            least[better] = error.min(axis=0)[better]
            best = grid[error[:, better].argmin(axis=0)]
            values, vectors = _eigen(inside)
            dual = vectors @ (vectors.T @ responses[:, better] / (values[:, None] + best))
            predicted[:, better] = kernel[np.ix_(fold.test, fold.train)] @ dual
    return np.asarray(predicted + offset)


def _validation_error(
    kernel: NDArray[np.float64], responses: NDArray[np.float64], grid: NDArray[np.float64], fold: Fold
) -> NDArray[np.float64]:
    """Return the mean squared error on the inner folds, shape (n_alphas, n_targets)."""
    error = np.zeros((len(grid), responses.shape[1]))
    for fit, check in fold.inner:
        values, vectors = _eigen(kernel[np.ix_(fit, fit)])
        rotated, projected = kernel[np.ix_(check, fit)] @ vectors, vectors.T @ responses[fit]
        for number, alpha in enumerate(grid):
            missed = responses[check] - (rotated / (values + alpha)) @ projected
            error[number] += np.einsum("ij,ij->j", missed, missed) / len(check) / len(fold.inner)
    return error


def _eigen(kernel: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, vectors = np.linalg.eigh(kernel)
    return np.maximum(values, 0.0), vectors
