"""RDMs of all moments at once: distances as quadratic forms of the condition means of folds.

A cross-validated distance is (a_i - a_j) . (b_i - b_j), with a from one fold and b from the others. All of them follow
from the one matrix of products G = A B' (conditions x conditions): D_ij = G_ii + G_jj - G_ij - G_ji. Folds are
joined along the features, so that one batched matrix product per stretch of time gives every RDM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Condition means in float64 that are held at once.
_NUMBERS_AT_ONCE = 30_000_000


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


def cells_of(conditions: Sequence[int], folds: Sequence[int], n_conditions: int, n_folds: int) -> Cells:
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
    parts = []
    for means in _whitened_means(patterns, cells, whitener):
        parts.append(_condensed(_products(means, _others(means, counts))) / (len(counts) * len(whitener)))
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
    parts = []
    for means in _whitened_means(patterns, cells.joined(), whitener):
        if method == "correlation":
            means = means - means.mean(axis=-1, keepdims=True)
            means /= np.linalg.norm(means, axis=-1, keepdims=True)
            gram = means[0] @ means[0].transpose(0, 2, 1)
            rows, columns = np.triu_indices(gram.shape[1], 1)
            parts.append(1.0 - gram[:, rows, columns])
        else:
            parts.append(_condensed(_products(means, means)) / len(whitener))
    return np.concatenate(parts)


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
    means = np.concatenate(list(_whitened_means(patterns, cells, whitener)), axis=1)
    train = _others(means, counts)
    # The mean over pairs of (a_i - a_j).(b_i - b_j) is 2 / (n - 1) times the sum over conditions of centred products.
    scale = 2 / ((n_conditions - 1) * len(counts) * len(whitener))
    table = np.zeros((means.shape[1],) * 2)
    for fitted, tested in zip(train, means, strict=True):
        centred = [(item - item.mean(axis=1, keepdims=True)).reshape(len(item), -1) for item in (fitted, tested)]
        table += centred[0] @ centred[1].T
    return table * scale


def _whitened_means(
    patterns: NDArray[np.float32], cells: Cells, whitener: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield means (n_folds, n_some_times, n_conditions, n_whitened) of one stretch of time after the other."""
    n_folds, n_conditions = cells.members.shape
    step = max(1, _NUMBERS_AT_ONCE // (n_folds * n_conditions * patterns.shape[1]))
    for start in range(0, patterns.shape[2], step):
        part = patterns[:, :, start : start + step]
        means = np.empty((n_folds, n_conditions, *part.shape[1:]))
        for place, trials in np.ndenumerate(cells.members):
            means[place] = part[trials].mean(axis=0, dtype=np.float64)
        yield np.ascontiguousarray(np.matmul(whitener, means).transpose(0, 3, 1, 2))


def _others(means: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return, for each fold, the mean over all trials of the other folds."""
    weights = counts[:, None, :, None].astype(np.float64)
    weighted = means * weights
    return np.asarray((weighted.sum(axis=0) - weighted) / (weights.sum(axis=0) - weights))


def _products(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products of conditions, summed over folds and features, array (n_times, n_conditions, n_conditions)."""
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
