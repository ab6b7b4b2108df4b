"""Generalisation over time: whether what is represented at one moment is represented at another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import embed
from decoders.alignment.timed.flips import HIGHEST, flipped_t

_ROUNDING = 1e-9
_NUMBERS_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class TimeByTime:
    """A table of training time by test time, tested.

    Attributes
    ----------
    scores : array of shape (n_subjects, n_times, n_times)
    statistic : array of shape (n_times, n_times)
    labels : array of int of shape (n_times, n_times)
        Number of the cluster of each point, from one on; 0 outside.
    cluster_p : array of shape (n_clusters,)
        Corrected for the largest mass.
    p_corrected : array of shape (n_times, n_times)
        Of each point, corrected for the largest statistic.
    n_permutations : int
    """

    scores: NDArray[np.float64]
    statistic: NDArray[np.float64]
    labels: NDArray[np.int64]
    cluster_p: NDArray[np.float64]
    p_corrected: NDArray[np.float64]
    n_permutations: int


def rdm_similarities(rdms: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Return how alike the RDM of one subject at one time is to that of another at another time.

    Parameters
    ----------
    rdms : array of shape (n_subjects, n_times, n_pairs)
    comparator : str
        Any but `tau_a`.

    Returns
    -------
    array of shape (n_subjects, n_subjects, n_times, n_times)
    """
    n_subjects, n_times, _ = rdms.shape
    prepared = np.concatenate([embed(item, comparator) for item in rdms])
    table = (prepared @ prepared.T).reshape(n_subjects, n_times, n_subjects, n_times)
    return np.ascontiguousarray(table.transpose(0, 2, 1, 3))


def across_subjects(similarities: NDArray[np.float64], signs: NDArray[np.float64], threshold: float) -> TimeByTime:
    """Test whether RDMs at one time are like those of other subjects at another.

    Parameters
    ----------
    similarities : array of shape (n_subjects, n_subjects, n_times, n_times)
        From `rdm_similarities`.
    signs : array of shape (n_patterns, n_subjects)
        The data as they are first.
    threshold : float
        Standard score of a point in a cluster.

    Returns
    -------
    TimeByTime
        Scores per subject: mean over the others, the subject's time first. They hold each pair of subjects twice, so a
        test that flips them would be too sure (their mean has twice the variance of independent ones). Here the (centred
        or ranked) RDMs of whole subjects are flipped: a pair keeps its sign where both are flipped.
    """
    n = len(similarities)
    apart = similarities * (~np.eye(n, dtype=bool))[:, :, None, None]
    scores = apart.sum(axis=1) / (n - 1)
    pairs = apart.reshape(n * n, -1)
    shape = similarities.shape[2:]

    def maps(part: slice) -> NDArray[np.float64]:
        products = (signs[part, :, None] * signs[part, None]).reshape(-1, n * n)
        return (products @ pairs / (n * (n - 1))).reshape(-1, *shape)

    # Under the null the pairs are uncorrelated with mean zero, whatever the signs.
    spread = np.sqrt(((apart + apart.transpose(1, 0, 2, 3)) ** 2).sum(axis=(0, 1)) / 2) / (n * (n - 1))

    def scaled(part: slice) -> NDArray[np.float64]:
        table = maps(part)
        return np.divide(table, spread, out=np.zeros_like(table), where=spread > 0)

    return _tested(scores, scaled, len(signs), threshold)


def within_subjects(scores: NDArray[np.float64], signs: NDArray[np.float64], cluster_p: float) -> TimeByTime:
    """Test tables of independent subjects by sign flips, one-sided (greater), array (n_subjects, n_times, n_times)."""
    from scipy.stats import t as student

    threshold = float(student.isf(cluster_p, len(scores) - 1))
    return _tested(scores, lambda part: flipped_t(scores, signs[part]), len(signs), threshold)


def untested(scores: NDArray[np.float64]) -> TimeByTime:
    """Return a table without a test."""
    missing = np.full(scores.shape[1:], np.nan)
    return TimeByTime(scores, missing, np.zeros(scores.shape[1:], dtype=np.int64), np.zeros(0), missing, 0)


def _tested(
    scores: NDArray[np.float64], maps: Callable[[slice], NDArray[np.float64]], n_patterns: int, threshold: float
) -> TimeByTime:
    from scipy import ndimage

    shape = scores.shape[1:]
    step = max(1, _NUMBERS_AT_ONCE // int(np.prod(shape)))
    observed = np.zeros(shape)
    peaks, masses = [], []
    for start in range(0, n_patterns, step):
        found = np.clip(maps(slice(start, start + step)), -HIGHEST, HIGHEST)
        if start == 0:
            observed = found[0].copy()
        peaks.append(found.reshape(len(found), -1).max(axis=1))
        masses += [_largest_mass(table, threshold) for table in found]
    largest, mass = np.concatenate(peaks), np.array(masses)
    labels, n_clusters = ndimage.label(observed > threshold)
    own = np.atleast_1d(ndimage.sum(observed, labels, np.arange(1, n_clusters + 1))) if n_clusters else np.zeros(0)
    return TimeByTime(
        scores, observed, labels.astype(np.int64), _reached(own, mass), _reached(observed, largest), n_patterns
    )


def _largest_mass(table: NDArray[np.float64], threshold: float) -> float:
    from scipy import ndimage

    labels, n_clusters = ndimage.label(table > threshold)
    if n_clusters == 0:
        return 0.0
    return float(np.bincount(labels.ravel(), weights=table.ravel())[1:].max())


def _reached(values: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(largest)
    cut = values - _ROUNDING * np.maximum(1.0, np.abs(values))
    return np.asarray((len(ordered) - np.searchsorted(ordered, cut, side="left")) / len(ordered))
