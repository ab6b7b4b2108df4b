"""Closed-form classifiers for many labellings at once: LDA with Ledoit-Wolf shrinkage, and ridge.

A permutation test needs the same classifier refitted some hundred times on the same volumes with
other labels. Every fit is exact; what depends on the volumes alone (the kernel's eigenvectors of the
ridge) is computed once per fold.

Labels are integers 0..n_classes-1. Decisions are larger for likelier classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Decider = Callable[[Floats, Labels, Labels, Floats, int], Floats]

ALPHAS = tuple(10.0 ** (exponent / 2) for exponent in range(0, 13))  # 1 … 1e6 in half decades
INNER_FOLDS = 4
_FLOOR = 1e-9  # of the largest variance: keeps the system solvable where nothing is shrunk


def lda_decisions(x: Floats, labels: Labels, runs: Labels, x_test: Floats, n_classes: int) -> Floats:
    """Fit linear discriminants to each labelling and return their decisions on test samples.

    The estimator of scikit-learn's ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")``:
    each class has its correlation matrix shrunk by the amount of Ledoit & Wolf (2004, J Multivar Anal
    88:365); the covariances are averaged with the class frequencies, which are the priors too. Here
    the V x V covariance is never formed where there are more features than samples.

    Parameters
    ----------
    x : array of shape (n, n_features)
    labels : array of int of shape (n_labellings, n)
    runs : array of int of shape (n,)
        Not used; there for a common signature with `ridge_decisions`.
    x_test : array of shape (n_test, n_features)
    n_classes : int
        Every class needs a training sample.

    Returns
    -------
    array of shape (n_labellings, n_test, n_classes)
        Log-posteriors up to a constant per sample.
    """
    del runs
    fits = (_discriminants(x, row, n_classes) for row in labels)
    return np.stack([x_test @ weights + offset for weights, offset in fits])


def _discriminants(x: Floats, labels: Labels, n_classes: int) -> tuple[Floats, Floats]:
    """Return weights (n_features, n_classes) and offsets (n_classes,) of one labelling.

    The shrunk covariance is R'R + diag(d): R holds the weighted residuals about the class means.
    """
    means = np.stack([x[labels == label].mean(axis=0) for label in range(n_classes)])
    residuals, target = np.empty_like(x), np.zeros(x.shape[1])
    for label in range(n_classes):
        member = labels == label
        own = x[member] - means[label]
        variance = (own**2).mean(axis=0)
        varies = variance > 0
        units = np.where(varies, variance, 1.0)
        amount = ledoit_wolf_amount(own / np.sqrt(units))
        residuals[member] = own * np.sqrt((1 - amount) / len(x))
        # The mean variance of standardised features is 1, less where some are constant.
        target += units * varies.mean() * amount * member.mean()
    scale = np.sqrt(np.maximum(target, _FLOOR * (residuals**2).sum(axis=0).max()))
    weights = solve_identity_plus(residuals / scale, (means / scale).T) / scale[:, None]
    priors = np.bincount(labels, minlength=n_classes) / len(labels)
    return weights, np.log(priors) - np.sum(means.T * weights, axis=0) / 2


def ledoit_wolf_amount(x: Floats) -> float:
    """Return Ledoit and Wolf's shrinkage of the covariance of centred samples (n, n_features), in 0..1.

    All norms are taken from the smaller of the two Gram matrices.
    """
    n, n_features = x.shape
    gram = x @ x.T if n < n_features else x.T @ x
    norm = (gram**2).sum() / n**2
    squares = (x**2).sum(axis=1)
    scale = squares.sum() / n / n_features
    spread = ((squares**2).sum() / n - norm) / n / n_features
    distance = norm / n_features - scale**2
    spread = min(spread, distance)
    return float(spread / distance) if spread > 0 else 0.0


def solve_identity_plus(r: Floats, b: Floats) -> Floats:
    """Return (R'R + I)^-1 B for R (n, n_features), by the smaller of the two systems."""
    from scipy.linalg import solve

    n, n_features = r.shape
    if n_features <= n:
        return np.asarray(solve(r.T @ r + np.eye(n_features), b, assume_a="pos"))
    return np.asarray(b - r.T @ solve(r @ r.T + np.eye(n), r @ b, assume_a="pos"))


def ridge_decisions(
    x: Floats, labels: Labels, runs: Labels, x_test: Floats, n_classes: int, alphas: Sequence[float] = ALPHAS
) -> Floats:
    """Fit ridge regressions of one-hot targets for each labelling and return their predictions.

    The penalty is one for all classes of a labelling, chosen by the squared error on inner folds over
    training runs (contiguous groups of runs); the fits at the chosen penalties are himalaya's.

    Parameters
    ----------
    x, labels, x_test, n_classes
        As in `lda_decisions`.
    runs : array of int of shape (n,)
        Run of each training sample; inner folds keep runs whole.
    alphas : sequence of float
        Penalties on squared weights, in units of the squared features summed over samples.

    Returns
    -------
    array of shape (n_labellings, n_test, n_classes)
    """
    from himalaya.kernel_ridge import solve_kernel_ridge_eigenvalues

    targets = np.eye(n_classes)[labels].transpose(1, 0, 2)  # (n, n_labellings, n_classes)
    chosen = np.asarray(alphas)[_inner_losses(x, targets, runs, alphas).argmin(axis=0)]
    centre, level = x.mean(axis=0), targets.mean(axis=0)
    kernel = (x - centre) @ (x - centre).T
    outward = (x_test - centre) @ (x - centre).T
    predicted = np.empty((len(labels), len(x_test), n_classes))
    for alpha in np.unique(chosen):
        same = np.flatnonzero(chosen == alpha)
        flat = (targets - level)[:, same].reshape(len(x), -1)
        dual = np.asarray(solve_kernel_ridge_eigenvalues(kernel, flat, alpha=float(alpha)))
        predicted[same] = (outward @ dual).reshape(len(x_test), len(same), n_classes).transpose(1, 0, 2)
    return predicted + level[:, None, :]


def _inner_losses(x: Floats, targets: Floats, runs: Labels, alphas: Sequence[float]) -> Floats:
    """Return squared errors summed over inner folds, of shape (n_alphas, n_labellings)."""
    losses = np.zeros((len(alphas), targets.shape[1]))
    for test in inner_folds(runs):
        centre, level = x[~test].mean(axis=0), targets[~test].mean(axis=0)
        fit_x = x[~test] - centre
        values, vectors = np.linalg.eigh(fit_x @ fit_x.T)
        rotated = vectors.T @ (targets[~test] - level).reshape(len(fit_x), -1)
        outward = (x[test] - centre) @ fit_x.T @ vectors
        truth = (targets[test] - level).reshape(int(test.sum()), -1)
        for row, alpha in enumerate(alphas):
            error = (truth - (outward / (np.maximum(values, 0) + alpha)) @ rotated) ** 2
            losses[row] += error.sum(axis=0).reshape(targets.shape[1:]).sum(axis=1)
    return losses


def inner_folds(runs: Labels) -> list[NDArray[np.bool_]]:
    """Return test masks that part the runs into at most `INNER_FOLDS` contiguous groups.

    Raises
    ------
    ValueError
        A single run: nothing can be held out.
    """
    labels = np.unique(runs)
    if len(labels) < 2:
        raise ValueError("inner folds over runs need two training runs or more")
    return [np.isin(runs, part) for part in np.array_split(labels, min(INNER_FOLDS, len(labels)))]


DECIDERS: dict[str, Decider] = {"lda": lda_decisions, "ridge": ridge_decisions}
