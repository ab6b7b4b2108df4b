"""Scores of models in bootstrap resamples of the stimuli, exact and fast.

Copies of one stimulus have dissimilarity zero to each other by construction, whatever the model, so
their pair is dropped: it would raise every score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import RSATOOLBOX_NAMES, tau_a
from decoders.alignment.ranks import RankedRDMs

_FAST = ("spearman", "rho_a", "pearson", "cosine")
_NUMBERS_AT_ONCE = 20_000_000


def resampled_scores(
    models: NDArray[np.float64], recorded: NDArray[np.float64], counts: NDArray[np.int64], comparator: str
) -> NDArray[np.float64]:
    """Return the scores of all models with all recorded RDMs in each resample of the stimuli.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    recorded : array of shape (n_recorded, n_pairs)
        One RDM per subject (and region).
    counts : array of shape (n_resamples, n_stimuli)
        How often each stimulus was drawn.
    comparator : str
        `spearman`, `rho_a`, `pearson` and `cosine` are fast; the others are compared anew in each resample.

    Returns
    -------
    array of shape (n_resamples, n_models, n_recorded)
        Not a number where a resample leaves an RDM constant.
    """
    scores = np.empty((len(counts), len(models), len(recorded)))
    step = max(1, _NUMBERS_AT_ONCE // models.shape[1])
    for start in range(0, len(models), step):
        part = slice(start, start + step)
        scores[:, part] = _chunk_scores(models[part], recorded, counts, comparator)
    return scores


def _chunk_scores(
    models: NDArray[np.float64], recorded: NDArray[np.float64], counts: NDArray[np.int64], comparator: str
) -> NDArray[np.float64]:
    rows, columns = np.triu_indices(counts.shape[1], 1)
    ranked = (RankedRDMs(models), RankedRDMs(recorded)) if comparator in ("spearman", "rho_a") else None
    scores = np.empty((len(counts), len(models), len(recorded)))
    for number, count in enumerate(counts.astype(np.float64)):
        if comparator not in _FAST:
            scores[number] = _expanded_scores(models, recorded, count.astype(np.int64), comparator)
            continue
        # Only pairs of different stimuli have a place in the condensed RDM, so copies are dropped here.
        weights = count[rows] * count[columns]
        pairs = np.flatnonzero(weights)
        if ranked is not None:
            first, second = (table.ranks(weights, pairs) for table in ranked)
        else:
            first, second = models[:, pairs], recorded[:, pairs]
        scores[number] = weighted_similarity(first, second, weights[pairs], comparator)
    return scores


def weighted_similarity(
    first: NDArray[np.float64], second: NDArray[np.float64], weights: NDArray[np.float64], comparator: str
) -> NDArray[np.float64]:
    """Return a correlation or cosine in which each pair counts as often as its weight says.

    Parameters
    ----------
    first : array of shape (n_first, n_pairs)
        Values, or weighted ranks for the rank comparators.
    second : array of shape (n_second, n_pairs)
    weights : array of shape (n_pairs,)
    comparator : {"spearman", "rho_a", "pearson", "cosine"}

    Returns
    -------
    array of shape (n_first, n_second)
    """
    total = weights.sum()
    if comparator != "cosine":
        first = first - (first @ weights / total)[:, None]
        second = second - (second @ weights / total)[:, None]
    products = (first * weights) @ second.T
    if comparator == "rho_a":
        return np.asarray(products * 12 / (total**3 - total))
    norms = np.outer(_norms(first, weights), _norms(second, weights))
    return np.asarray(np.divide(products, norms, out=np.full(products.shape, np.nan), where=norms > 0))


def _norms(vectors: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,ij,j->i", vectors, vectors, weights)))


def _expanded_scores(
    models: NDArray[np.float64], recorded: NDArray[np.float64], count: NDArray[np.int64], comparator: str
) -> NDArray[np.float64]:
    """Return scores on the resampled RDMs themselves, with the pairs of copies missing."""
    drawn = np.repeat(np.arange(len(count)), count)
    first, second = _expanded(models, drawn), _expanded(recorded, drawn)
    kept = np.isfinite(first[0])
    if comparator == "tau_a":
        return tau_a(first[:, kept], second[:, kept])
    from rsatoolbox.rdm import compare as rsatoolbox_compare

    # It takes plain vectors too, whatever its annotations say.
    whitened: Any = rsatoolbox_compare
    return np.asarray(whitened(first, second, method=RSATOOLBOX_NAMES.get(comparator, comparator)))


def _expanded(rdms: NDArray[np.float64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    from scipy.spatial.distance import squareform

    rows, columns = np.triu_indices(len(drawn), 1)
    expanded = np.array([squareform(rdm, checks=False)[drawn[rows], drawn[columns]] for rdm in rdms])
    expanded[:, drawn[rows] == drawn[columns]] = np.nan
    return expanded
