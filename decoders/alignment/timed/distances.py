"""RDMs of all moments at once: distances as quadratic forms of the condition means of folds.

A cross-validated distance is (a_i - a_j) . (b_i - b_j), with a from one fold and b from the others. All of them follow
from the one matrix of products G = A B' (conditions x conditions): D_ij = G_ii + G_jj - G_ij - G_ji. Folds are
joined along the features, so that one batched matrix product per stretch of time gives every RDM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Condition means in float64 that are held at once.
_NUMBERS_AT_ONCE = 30_000_000
# Trials that are summed in float32: their sum is rounded no more than they are themselves.
_FEW = 10


@dataclass(frozen=True)
class Cells:
    """Which trials of one subject belong to which condition and fold.

    Attributes
    ----------
    members : array of object of shape (n_folds, n_conditions)
        Numbers of the trials of each cell, each an array of int; none of them empty.
    """

    members: NDArray[np.object_]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Trials per fold and condition."""
        return np.array([[len(trials) for trials in fold] for fold in self.members], dtype=np.int64)

    def joined(self) -> Cells:
        """Return the cells with all folds in one."""
        joined = np.empty((1, self.members.shape[1]), dtype=object)
        for condition, column in enumerate(self.members.T):
            joined[0, condition] = np.concatenate(list(column))
        return Cells(joined)


def cells_of(conditions: ArrayLike, folds: ArrayLike, n_conditions: int, n_folds: int) -> Cells:
    """Return the cells of trials with a condition and a fold each (both numbered from zero; negative: not used)."""
    codes, places = np.asarray(conditions, dtype=np.int64), np.asarray(folds, dtype=np.int64)
    members = np.empty((n_folds, n_conditions), dtype=object)
    for fold in range(n_folds):
        for condition in range(n_conditions):
            members[fold, condition] = np.flatnonzero((codes == condition) & (places == fold))
    return Cells(members)


def crossnobis(patterns: NDArray[np.float32], cells: Cells, whitener: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cross-validated Mahalanobis distances of every moment.

    Parameters
    ----------
    patterns : array of shape (n_trials, n_channels, n_times)
    cells : Cells
        Of two folds or more. Each fold is held against the mean over all trials of the others.
    whitener : array of shape (n_whitened, n_channels)
        Its cross product is the precision of the noise.

    Returns
    -------
    array of shape (n_times, n_pairs)
        Per whitened channel; zero on average where patterns do not differ, hence negative at times. Equal to
        `rsatoolbox.rdm.calc_rdm(method="crossnobis")` at each time (Walther et al. 2016, NeuroImage 137:188).
    """
    counts = cells.counts
    if (counts == counts[0]).all():
        return _balanced_crossnobis(patterns, cells, whitener)
    parts = [distances_of(means, counts, "crossnobis") for means in _stretches(patterns, cells, whitener)]
    return np.concatenate(parts)


def _balanced_crossnobis(
    patterns: NDArray[np.float32], cells: Cells, whitener: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return crossnobis distances when each condition has as many trials in every fold, one fold in memory at a time.

    The mean of the other folds is then (sum - own) / (folds - 1), so that the sum and the squares of folds are enough.
    """
    n_folds, n_conditions = cells.members.shape
    step = min(patterns.shape[2], max(1, _NUMBERS_AT_ONCE // (4 * n_conditions * patterns.shape[1])))
    parts = []
    for start in range(0, patterns.shape[2], step):
        part = patterns[:, :, start : start + step]
        total = np.zeros((part.shape[2], n_conditions, len(whitener)))
        squares = np.zeros((part.shape[2], n_conditions, n_conditions))
        for fold in cells.members:
            own = whitened(fold_means(part, Cells(fold[None])), whitener)[0]
            total += own
            squares += own @ own.transpose(0, 2, 1)
        products = (total @ total.transpose(0, 2, 1) - squares) / (n_folds - 1)
        parts.append(_condensed(products) / (n_folds * len(whitener)))
    return np.concatenate(parts)


def plain_distances(
    patterns: NDArray[np.float32], cells: Cells, whitener: NDArray[np.float64], method: str
) -> NDArray[np.float64]:
    """Return distances between means over all trials, at every moment; they are positive where nothing differs.

    Parameters
    ----------
    patterns : array of shape (n_trials, n_channels, n_times)
    cells : Cells
    whitener : array of shape (n_whitened, n_channels)
        For "euclidean" and "correlation" a diagonal one: each channel in units of its own noise.
    method : {"mahalanobis", "euclidean", "correlation"}
        Squared distance per (whitened) channel, or 1 - Pearson correlation over channels.

    Returns
    -------
    array of shape (n_times, n_pairs)
    """
    joined = cells.joined()
    parts = [distances_of(means, joined.counts, method) for means in _stretches(patterns, joined, whitener)]
    return np.concatenate(parts)


def distances_of(means: NDArray[np.float64], counts: NDArray[np.int64], method: str) -> NDArray[np.float64]:
    """Return the distances between conditions, from the means of folds that are whitened (or scaled) already.

    Parameters
    ----------
    means : array of shape (n_folds, n_times, n_conditions, n_features)
        One fold, unless the distances are cross-validated.
    counts : array of shape (n_folds, n_conditions)
    method : {"crossnobis", "mahalanobis", "euclidean", "correlation"}

    Returns
    -------
    array of shape (n_times, n_pairs)
    """
    if method == "crossnobis":
        return _condensed(_across(means, counts)) / (len(counts) * means.shape[-1])
    if method != "correlation":
        return _condensed(_products(means, means)) / means.shape[-1]
    centred = means[0] - means[0].mean(axis=-1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=-1, keepdims=True)
    rows, columns = np.triu_indices(means.shape[2], 1)
    return np.asarray(1.0 - (centred @ centred.transpose(0, 2, 1))[:, rows, columns])


def fold_means(patterns: NDArray[np.float32], cells: Cells) -> NDArray[np.float64]:
    """Return the mean over the trials of each cell, array of shape (n_folds, n_conditions, n_channels, n_times)."""
    means = np.empty((*cells.members.shape, *patterns.shape[1:]))
    for place, trials in np.ndenumerate(cells.members):
        means[place] = _sum(patterns, trials) / len(trials)
    return means


def _sum(patterns: NDArray[np.float32], trials: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of trials; a few at a time in float32, which recordings are kept in, and these in float64."""
    parts = [trials[start : start + _FEW] for start in range(0, len(trials), _FEW)]
    total = patterns[parts[0]].sum(axis=0).astype(np.float64)
    for part in parts[1:]:
        total += patterns[part].sum(axis=0)
    return total


def whitened(means: NDArray[np.float64], whitener: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means (n_folds, n_conditions, n_channels, n_times) as (n_folds, n_times, n_conditions, n_whitened)."""
    n_folds, n_conditions, _, n_times = means.shape
    result = np.empty((n_folds, n_times, n_conditions, len(whitener)))
    # Each product is written where it belongs: to turn the axes round afterwards would cost as much again.
    np.matmul(means.transpose(0, 1, 3, 2), whitener.T, out=result.transpose(0, 2, 1, 3))
    return result


def pattern_generalisation(
    patterns: NDArray[np.float32], cells: Cells, whitener: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how well the differences between conditions at one moment hold at another, across folds.

    Parameters
    ----------
    patterns, cells, whitener
        As for `crossnobis`.

    Returns
    -------
    array of shape (n_times, n_times)
        Mean over pairs of conditions of the crossnobis between the training time (rows; means of all other folds) and
        the test time (columns; the fold left out). On the diagonal the mean of `crossnobis`. A pattern that turns
        round between two moments has a negative value there.
    """
    counts = cells.counts
    n_conditions = counts.shape[1]
    means = np.concatenate(list(_stretches(patterns, cells, whitener)), axis=1)
    train = _others(means, counts)
    # The mean over pairs of (a_i - a_j).(b_i - b_j) is 2 / (n - 1) times the sum over conditions of centred products.
    scale = 2 / ((n_conditions - 1) * len(counts) * len(whitener))
    table = np.zeros((means.shape[1],) * 2)
    for fitted, tested in zip(train, means, strict=True):
        centred = [(item - item.mean(axis=1, keepdims=True)).reshape(len(item), -1) for item in (fitted, tested)]
        table += centred[0] @ centred[1].T
    return table * scale


def _stretches(
    patterns: NDArray[np.float32], cells: Cells, whitener: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the whitened means of one stretch of time after the other."""
    step = max(1, _NUMBERS_AT_ONCE // (cells.members.size * patterns.shape[1]))
    for start in range(0, patterns.shape[2], step):
        yield whitened(fold_means(patterns[:, :, start : start + step], cells), whitener)


def _across(means: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the products of each fold with the mean of the others, summed over folds."""
    if (counts != counts[0]).any():
        return _products(means, _others(means, counts))
    # With as many trials in every fold the mean of the others is (sum - own) / (folds - 1).
    total = means.sum(axis=0)
    return np.asarray((total @ total.transpose(0, 2, 1) - _products(means, means)) / (len(counts) - 1))


def _others(means: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return, for each fold, the mean over all trials of the other folds."""
    weights = counts[:, None, :, None].astype(np.float64)
    weighted = means * weights
    return np.asarray((weighted.sum(axis=0) - weighted) / (weights.sum(axis=0) - weights))


def _products(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return products of conditions, summed over folds and features, array (n_times, n_conditions, n_conditions)."""
    total = first[0] @ second[0].transpose(0, 2, 1)
    for one, other in zip(first[1:], second[1:], strict=True):
        total += one @ other.transpose(0, 2, 1)
    return np.asarray(total)


def _condensed(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return D_ij = G_ii + G_jj - G_ij - G_ji of each matrix, in the order of scipy's squareform."""
    rows, columns = np.triu_indices(products.shape[1], 1)
    diagonal = np.einsum("tii->ti", products)
    both = products[:, rows, columns] + products[:, columns, rows]
    return np.asarray(diagonal[:, rows] + diagonal[:, columns] - both)
