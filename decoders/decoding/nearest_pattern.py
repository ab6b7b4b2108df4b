"""Nearest pattern by correlation, for one run with two blocks per category. The method is fixed.

Haxby et al. 2001 (Science 293:2425) by halves of the blocks: mean patterns of the first and of the
second block of each category, the voxels whose patterns differ most between the categories of the
training half, and for each test pattern the training pattern that correlates best with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

_ENUMERATED = 8  # categories up to which all labellings are enumerated


@dataclass(frozen=True)
class NearestPattern:
    """Answers in both directions.

    Attributes
    ----------
    forward : array of int of shape (n_categories,)
        Category given to each pattern of the second half by the first half.
    backward : array of int of shape (n_categories,)
        Category given to each pattern of the first half by the second half.
    accuracy : float
        Share of right answers of all 2 x n_categories.
    null : array
        Accuracies under relabellings of the second half, all of them or a random sample.
    p : float
        Share of labellings at least as good; the one found counts as one.
    exact : bool
        Whether all labellings were enumerated.
    """

    forward: NDArray[np.int64]
    backward: NDArray[np.int64]
    accuracy: float
    null: NDArray[np.float64]
    p: float
    exact: bool

    @property
    def others(self) -> NDArray[np.float64]:
        """The null without the labelling found, which p = (1 + k) / (1 + n) counts anyway."""
        return self.null[1:] if self.exact else self.null


def nearest_pattern(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    n_voxels: int,
    rng: np.random.Generator,
    n_permutations: int = 10_000,
) -> NearestPattern:
    """Match the patterns of two halves in both directions.

    Parameters
    ----------
    first, second : array of shape (n_categories, n_features)
        Mean patterns of the categories, in the same order.
    n_voxels : int
        Voxels kept in each direction: those with the largest spread over the training half's patterns.
    rng : Generator
        Draws labellings where there are too many to enumerate.
    n_permutations : int
        How many then.
    """
    forward = classify(first, second, n_voxels)
    backward = classify(second, first, n_voxels)
    orders, exact = _labellings(len(first), rng, n_permutations)
    # Neither the spread nor the correlations depend on names, so a relabelling of the second half
    # only changes which answers are right.
    null = np.array([_accuracy(forward, backward, order) for order in orders])
    accuracy = _accuracy(forward, backward, np.arange(len(first)))
    reached = int(np.sum(null >= accuracy - 1e-12))
    # The enumeration holds the labelling found; the random sample does not.
    p = reached / len(null) if exact else (1 + reached) / (1 + len(null))
    return NearestPattern(forward, backward, accuracy, null, p, exact)


def classify(train: NDArray[np.float64], test: NDArray[np.float64], n_voxels: int) -> NDArray[np.int64]:
    """Return the index of the training pattern that correlates best with each test pattern."""
    spread = train.std(axis=0)
    kept = np.sort(np.argsort(-spread, kind="stable")[:n_voxels])
    correlation = _unit(test[:, kept]) @ _unit(train[:, kept]).T
    return np.asarray(correlation.argmax(axis=1), dtype=np.int64)


def _unit(patterns: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = patterns - patterns.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


def _accuracy(forward: NDArray[np.int64], backward: NDArray[np.int64], order: NDArray[np.int64]) -> float:
    """Return the share of right answers when pattern k of the second half is called category order[k]."""
    right_forward = forward == order
    right_backward = order[backward] == np.arange(len(order))
    return float(np.mean(np.concatenate([right_forward, right_backward])))


def _labellings(n: int, rng: np.random.Generator, n_permutations: int) -> tuple[NDArray[np.int64], bool]:
    if n <= _ENUMERATED:
        return np.array(list(permutations(range(n))), dtype=np.int64).reshape(factorial(n), n), True
    return rng.permuted(np.tile(np.arange(n), (n_permutations, 1)), axis=1), False
