"""Exact weighted mid-ranks of RDMs without sorting again.

A bootstrap resample of the stimuli draws stimulus i c_i times, so the pair (i, j) appears c_i c_j times.
Each RDM is sorted once; the ranks in a resample are then cumulative sums of those multiplicities in sorted
order, with the middle of its group for a tie. The result equals ranking the resampled RDM from scratch; many
resamples are ranked at once, since for small RDMs the calls would cost more than the sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def midranks(rdms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from one on, with the mean rank for ties: `scipy.stats.rankdata` by rows, several times faster.

    Parameters
    ----------
    rdms : array of shape (n_rdms, n_pairs)

    Returns
    -------
    array of shape (n_rdms, n_pairs)
        Not a number throughout a row that holds one.
    """
    from scipy.stats import rankdata

    order = np.argsort(rdms, axis=1)
    ordered = np.take_along_axis(rdms, order, axis=1)
    ranks = np.empty(rdms.shape)
    np.put_along_axis(ranks, order, np.arange(1.0, rdms.shape[1] + 1)[None], axis=1)
    # Few RDMs have ties; only those need the slow way. Values that are not a number sort to the end.
    slow = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1) | np.isnan(ordered[:, -1:]).any(axis=1)
    if slow.any():
        ranks[slow] = rankdata(rdms[slow], axis=1)
    return ranks


class RankedRDMs:
    """RDMs that were sorted once.

    Parameters
    ----------
    rdms : array of shape (n_rdms, n_pairs)
        Finite dissimilarities.
    """

    def __init__(self, rdms: NDArray[np.float64]) -> None:
        self.orders = [PairOrder(rdm) for rdm in rdms]

    def centred(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return twice the weighted mid-ranks, less their weighted mean.

        Parameters
        ----------
        weights : array of shape (n_resamples, n_pairs)
            Whole multiplicities of all pairs.

        Returns
        -------
        array of shape (n_resamples, n_rdms, n_pairs)
            Whole numbers, hence exact. What stands at a pair of weight zero has no meaning.
        """
        # Doubled ranks reach twice the sum of the weights. 32 bits are faster where they hold them.
        largest = weights.sum(axis=1).max(initial=0)
        whole = weights.astype(np.int32 if largest < 2**30 else np.int64)
        totals = whole.sum(axis=1, keepdims=True, dtype=whole.dtype)
        centred = np.empty((len(whole), len(self.orders), whole.shape[1]))
        for number, order in enumerate(self.orders):
            np.subtract(order.doubled_ranks(whole), totals, out=centred[:, number])
        return centred


class PairOrder:
    """The pairs of one RDM in the order of their dissimilarity.

    Parameters
    ----------
    rdm : array of shape (n_pairs,)
    """

    def __init__(self, rdm: NDArray[np.float64]) -> None:
        self.order = np.argsort(rdm, kind="stable")
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(rdm))
        starts, ends = _tie_groups(rdm[self.order])
        self.tied = bool((ends - starts).max(initial=1) > 1)
        # Of each pair, where its group of equal values starts and where it ends, in sorted order.
        self.low, self.high = starts[place], ends[place]

    def doubled_ranks(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Return twice the mid-ranks (counted from one half) of whole weights (n_resamples, n_pairs), same shape."""
        ordered = weights[:, self.order]
        if not self.tied:
            # The last of a pair's copies has the rank of the sum so far, the first that less the weight.
            sums = np.cumsum(ordered, axis=1, dtype=weights.dtype)
            sums *= 2
            sums -= ordered
            return np.asarray(sums[:, self.low])
        sums = np.zeros((len(weights), weights.shape[1] + 1), dtype=weights.dtype)
        np.cumsum(ordered, axis=1, dtype=weights.dtype, out=sums[:, 1:])
        return np.asarray(sums[:, self.low] + sums[:, self.high])


def _tie_groups(ordered: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each position of sorted values, where its group of equal values starts and (one past) ends."""
    positions = np.arange(len(ordered))
    differs = ordered[1:] != ordered[:-1]
    starts = np.where(np.concatenate([[True], differs]), positions, 0)
    ends = np.where(np.concatenate([differs, [True]]), positions + 1, len(ordered))
    return np.maximum.accumulate(starts), np.minimum.accumulate(ends[::-1])[::-1]
