"""Null distributions by permutation, and their p-values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def permutation_p(
    observed: NDArray[np.float64] | float, null: NDArray[np.float64], two_sided: bool = False
) -> NDArray[np.float64]:
    """Return p = (1 + k) / (1 + n), with k null values at least as large as the observed one.

    Parameters
    ----------
    observed : array of shape (n_tests,) or scalar
    null : array of shape (n_permutations, n_tests) or (n_permutations,)
    two_sided : bool
        Compare absolute values.

    Returns
    -------
    array of shape (n_tests,) or ()
        Never zero: the observed labelling counts as one permutation (Phipson & Smyth 2010).
    """
    value, draws = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if two_sided:
        value, draws = np.abs(value), np.abs(draws)
    # Equal values differ in the last bit when they are summed in another order.
    reached = draws >= value - 1e-12 * np.maximum(1.0, np.abs(value))
    p = (1 + reached.sum(axis=0)) / (1 + len(draws))
    return np.where(np.isfinite(value), p, np.nan)


def label_permutations(n_labels: int, n_permutations: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return random orders of labels, array of shape (n_permutations, n_labels)."""
    return rng.permuted(np.tile(np.arange(n_labels), (n_permutations, 1)), axis=1)


@lru_cache(maxsize=8)
def pair_indices(n_stimuli: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first and second stimulus of each pair of a condensed RDM, in the order of scipy's squareform."""
    rows, columns = np.triu_indices(n_stimuli, 1)
    for indices in (rows, columns):
        indices.setflags(write=False)
    return rows, columns


def permute_pairs(condensed: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Relabel the stimuli of a condensed RDM.

    Permuting stimuli, not pairs, keeps the dependence between the pairs of one stimulus.

    Parameters
    ----------
    condensed : array of shape (n_pairs,)
        In the order of scipy's squareform.
    order : array of shape (n_stimuli,) or (n_orders, n_stimuli)

    Returns
    -------
    array of shape (n_pairs,) or (n_orders, n_pairs)
    """
    from scipy.spatial.distance import squareform

    square = squareform(np.asarray(condensed), checks=False)
    rows, columns = pair_indices(order.shape[-1])
    return np.asarray(square[order[..., rows], order[..., columns]])


def circular_shifts(n_samples: int, n_shifts: int, rng: np.random.Generator, minimum: int = 1) -> NDArray[np.int64]:
    """Return distinct shifts in samples, at least `minimum` away from zero in both directions.

    A time course that is rolled keeps its autocorrelation, which a shuffled one loses.
    When there are fewer possible shifts than asked for, all are returned.
    """
    possible: NDArray[Any] = np.arange(minimum, n_samples - minimum + 1)
    return np.sort(rng.choice(possible, size=min(n_shifts, len(possible)), replace=False))
