"""Ridge and banded ridge regression: penalties per target, chosen on contiguous inner folds.

With more features than samples the solver is himalaya's kernel ridge (Dupré la Tour et al. 2022,
doi:10.1016/j.neuroimage.2022.119728). With fewer, ours: himalaya forms the hat matrix of every penalty, which for a
few features and thousands of voxels costs a hundred times more; a test holds both equal. Time series are
autocorrelated, so the folds are given by the caller, contiguous and with gaps; nothing is shuffled here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of one fold: (training, validation)."""


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge model.

    Attributes
    ----------
    weights : array of shape (n_features, n_targets)
        Of the standardised features.
    mean, scale : array of shape (n_features,)
        Of the training rows, with which features are standardised.
    intercept : array of shape (n_targets,)
    alphas : array of shape (n_targets,)
        Chosen penalties; for banded ridge the penalty of the first band.
    """

    weights: NDArray[np.floating]
    mean: NDArray[np.floating]
    scale: NDArray[np.floating]
    intercept: NDArray[np.floating]
    alphas: NDArray[np.floating]

    def predict(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Predict targets of shape (n_samples, n_targets) from features of shape (n_samples, n_features)."""
        return ((X - self.mean) / self.scale) @ self.weights + self.intercept


def delayed(X: NDArray[np.floating], delays: Sequence[int]) -> NDArray[np.floating]:
    """Stack delayed copies of the features of one run, so that ridge fits a response of free shape (FIR).

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Of one run: a delay must not reach into another run.
    delays : sequence of int
        In samples. A positive delay pairs the sample at t with the features at t - delay, a negative one
        with those at t + |delay|; rows beyond the ends are zero.

    Returns
    -------
    array of shape (n_samples, n_features * len(delays))
        Delay by delay.
    """
    n = len(X)
    out = np.zeros((n, X.shape[1] * len(delays)), dtype=X.dtype)
    for i, delay in enumerate(delays):
        block = out[:, i * X.shape[1] : (i + 1) * X.shape[1]]
        if abs(delay) >= n:
            continue
        if delay >= 0:
            block[delay:] = X[: n - delay]
        else:
            block[:delay] = X[-delay:]
    return out


def fit_ridge(
    X: NDArray[np.floating], Y: NDArray[np.floating], alphas: Sequence[float], folds: Sequence[Fold]
) -> Ridge:
    """Fit ridge with one penalty per target, chosen by the squared error on the folds.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Standardised here, by its own mean and standard deviation; constant features get no weight.
    Y : array of shape (n_samples, n_targets)
        Centred here.
    alphas : sequence of float
        Candidates for the penalty of ``||X b - y||^2 + alpha ||b||^2``.
    folds : sequence of (train, validation)
        Row indices into X and Y.

    Returns
    -------
    Ridge
    """
    Z, mean, scale = standardised(X)
    offset = Y.mean(0)
    grid = np.asarray(alphas, dtype=Z.dtype)  # float64 penalties would promote float32 data
    solve = _solve_primal if Z.shape[0] >= Z.shape[1] else _solve_dual
    best, weights = solve(Z, (Y - offset).astype(Z.dtype, copy=False), grid, _as_cv(folds))
    return Ridge(weights, mean, scale, offset, best)


def fit_ridge_by_run(
    X: Sequence[NDArray[np.floating]],
    Y: Sequence[NDArray[np.floating]],
    alphas: Sequence[float],
    fold: NDArray[np.int64],
) -> Ridge:
    """Fit ridge as `fit_ridge`, run by run: memory holds one run and one Gram matrix, however many runs there are.

    Parameters
    ----------
    X : sequence of array of shape (n_samples, n_features)
        One per run; indexed anew in every pass, so that a sequence may read its runs from disk.
    Y : sequence of array of shape (n_samples, n_targets)
    alphas : sequence of float
    fold : array of int of shape (n_runs,)
        The runs of each fold are validated on in turn.

    Returns
    -------
    Ridge
        That of `fit_ridge` on the joined runs, to rounding.
    """
    cv = _folds_of_runs(fold)
    mean, scale = _standard_by_run(X)
    offset = np.concatenate(list(Y)).mean(0)
    grid, error = np.asarray(alphas, dtype=np.float64), np.zeros((len(alphas), Y[0].shape[1]))

    def parts(runs: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
        for run in runs.tolist():
            yield (X[run] - mean) / scale, (Y[run] - offset).astype(mean.dtype, copy=False)

    for train, validation in cv:
        values, vectors, projected = _decomposed_parts(parts(train))
        n = sum(len(Y[run]) for run in validation.tolist())
        for Z, truth in parts(validation):
            rotated = Z @ vectors
            for i, alpha in enumerate(grid):
                misses = truth - rotated @ (projected / (values + alpha)[:, None])
                error[i] += (misses**2).sum(0) / n / len(cv)
    best = grid[error.argmin(0)]
    values, vectors, projected = _decomposed_parts(parts(np.arange(len(X))))
    weights = vectors @ (projected / (values[:, None] + best[None, :]))
    return Ridge(weights.astype(mean.dtype), mean, scale, offset, best)


def _folds_of_runs(fold: NDArray[np.int64]) -> list[Fold]:
    if len(np.unique(fold)) < 2:
        raise ValueError("ridge by run needs two folds of runs or more to choose its penalty")
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]


def _standard_by_run(X: Sequence[NDArray[np.floating]]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return what `standardised` does of the joined runs; in two passes, because differences of squares cancel."""
    n, dtype = sum(len(X[run]) for run in range(len(X))), X[0].dtype
    mean = sum(X[run].sum(0, dtype=np.float64) for run in range(len(X))) / n
    square = sum(((X[run] - mean) ** 2).sum(0) for run in range(len(X))) / n
    return mean.astype(dtype), _scale(mean, np.sqrt(square)).astype(dtype)


def _decomposed_parts(
    parts: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what `_decomposed` does of joined parts."""
    from scipy.linalg import eigh

    gram, target = np.zeros((), dtype=np.float64), np.zeros((), dtype=np.float64)
    for Z, Y in parts:
        wide = Z.astype(np.float64)
        if not gram.ndim:
            gram, target = np.zeros((Z.shape[1],) * 2), np.zeros((Z.shape[1], Y.shape[1]))
        _add_products(gram, wide)
        target += wide.T @ Y
    values, vectors = eigh(gram, overwrite_a=True, check_finite=False, driver="evr")
    return np.maximum(values, 0.0), vectors, vectors.T @ target


def _add_products(gram: NDArray[np.float64], Z: NDArray[np.float64], rows: int = 512) -> None:
    """Add Z'Z to a matrix in place; a product of its own would be as large as the matrix."""
    for start in range(0, len(gram), rows):
        gram[start : start + rows] += Z[:, start : start + rows].T @ Z


def fit_kernel_ridge(
    kernel: NDArray[np.floating], Y: NDArray[np.floating], alphas: Sequence[float], folds: Sequence[Fold]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Fit ridge from the kernel alone, where the features are too many to be held at once.

    Parameters
    ----------
    kernel : array of shape (n_samples, n_samples)
        Z Z' of standardised features (`standardised`), summed over blocks of features.
    Y, alphas, folds
        As in `fit_ridge`.

    Returns
    -------
    dual : array of shape (n_samples, n_targets)
        Predictions are (Z_new Z') dual + intercept.
    intercept : array of shape (n_targets,)
    """
    from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues

    offset = Y.mean(0)
    grid = np.asarray(alphas, dtype=kernel.dtype)
    centred = (Y - offset).astype(kernel.dtype, copy=False)
    _, dual, _ = solve_kernel_ridge_cv_eigenvalues(kernel, centred, alphas=grid, cv=_as_cv(folds))
    return np.asarray(dual), offset


def fit_banded_ridge(
    X: NDArray[np.floating],
    Y: NDArray[np.floating],
    bands: Sequence[int],
    alphas: Sequence[float],
    folds: Sequence[Fold],
    seed: int = 0,
    n_iter: int = 10,
) -> Ridge:
    """Fit ridge with one penalty per band of features and target (group ridge, random search on the simplex).

    Parameters
    ----------
    X, Y, alphas, folds
        As in `fit_ridge`; more samples than features.
    bands : sequence of int
        Number of consecutive columns in each band.
    seed : int
        Of the random search over band weights (Dirichlet, concentrations .1 and 1 in turn, as himalaya).
    n_iter : int
        Band weights tried; the first are equal weights, which is plain ridge.

    Returns
    -------
    Ridge
        Each target has the band weights and the penalty of least squared error on the folds.
    """
    if sum(bands) != X.shape[1]:
        raise ValueError(f"the bands hold {sum(bands)} columns, X has {X.shape[1]}")
    Z, mean, scale = standardised(X)
    offset = Y.mean(0)
    Y = (Y - offset).astype(Z.dtype, copy=False)
    grid, cv = np.asarray(alphas, dtype=np.float64), _as_cv(folds)
    least = np.full(Y.shape[1], np.inf)
    weights, chosen = np.zeros((X.shape[1], Y.shape[1]), dtype=Z.dtype), np.zeros(Y.shape[1])
    for gamma in _band_weights(len(bands), n_iter, seed):
        root = np.sqrt(np.repeat(gamma, bands)).astype(Z.dtype)
        error = _validation_error(Z * root, Y, grid, cv)
        better = np.flatnonzero(error.min(0) < least)
        if len(better):
            least[better] = error.min(0)[better]
            best = grid[error[:, better].argmin(0)]
            weights[:, better] = root[:, None] * _refit(Z * root, Y[:, better], best)
            chosen[better] = best / gamma[0] if gamma[0] > 0 else np.inf
    return Ridge(weights, mean, scale, offset, chosen)


def _band_weights(n_bands: int, n_iter: int, seed: int) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    drawn = [rng.dirichlet(np.full(n_bands, (0.1, 1.0)[i % 2])) for i in range(n_iter - 1)]
    return [np.full(n_bands, 1 / n_bands), *drawn]


def standardised(X: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Return features of mean 0 and sd 1, their means and their sds (infinite where a feature is constant)."""
    mean, scale = X.mean(0), X.std(0)
    scale = _scale(mean, scale).astype(X.dtype)
    return (X - mean) / scale, mean, scale


def _scale(mean: NDArray[np.floating], sd: NDArray[np.floating]) -> NDArray[np.floating]:
    # A constant feature is zero after centring, whatever it is divided by.
    return np.where(sd > 1e-7 * np.maximum(1, np.abs(mean)), sd, np.inf)


def _as_cv(folds: Sequence[Fold]) -> list[Fold]:
    if not folds:
        raise ValueError("ridge needs at least one inner fold to choose its penalty")
    for train, validation in folds:
        if np.intersect1d(train, validation).size:
            raise ValueError("an inner fold trains on rows that it validates on")
    return list(folds)


def _solve_primal(
    X: NDArray[np.floating], Y: NDArray[np.floating], alphas: NDArray[np.floating], cv: list[Fold]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    best = alphas[_validation_error(X, Y, alphas, cv).argmin(0)]
    return best, _refit(X, Y, best)


def _validation_error(
    X: NDArray[np.floating], Y: NDArray[np.floating], alphas: NDArray[np.floating], cv: list[Fold]
) -> NDArray[np.float64]:
    """Return the mean squared error on the folds, shape (n_alphas, n_targets)."""
    error = np.zeros((len(alphas), Y.shape[1]))
    for train, validation in cv:
        values, vectors, projected = _decomposed(X[train], Y[train])
        rotated = (X[validation] @ vectors.astype(X.dtype)).astype(X.dtype)
        for i, alpha in enumerate(alphas):
            predicted = rotated @ (projected / (values + alpha)[:, None]).astype(X.dtype)
            error[i] += ((Y[validation] - predicted) ** 2).mean(0, dtype=np.float64) / len(cv)
    return error


def _refit(X: NDArray[np.floating], Y: NDArray[np.floating], alphas: NDArray[np.floating]) -> NDArray[np.floating]:
    """Solve on all rows with the penalty of each target."""
    values, vectors, projected = _decomposed(X, Y)
    return (vectors @ (projected / (values[:, None] + alphas[None, :].astype(np.float64)))).astype(X.dtype)


def _decomposed(
    X: NDArray[np.floating], Y: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvalues and vectors of X'X, and X'Y in their basis."""
    # The Gram matrix squares the condition number: in double precision.
    gram = X.T.astype(np.float64) @ X.astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    return np.maximum(values, 0.0), vectors, vectors.T @ (X.T @ Y).astype(np.float64)


def _solve_dual(
    X: NDArray[np.floating], Y: NDArray[np.floating], alphas: NDArray[np.floating], cv: list[Fold]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """More features than samples: the same solution by the kernel X X'."""
    from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues

    best, dual, _ = solve_kernel_ridge_cv_eigenvalues(X @ X.T, Y, alphas=alphas, cv=cv)
    return best, X.T @ dual
