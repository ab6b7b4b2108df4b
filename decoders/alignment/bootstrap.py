"""Scores of models in bootstrap resamples of the stimuli, exact and fast.

Copies of one stimulus have dissimilarity zero to each other by construction, whatever the model, so
their pair is dropped: it would raise every score.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import RSATOOLBOX_NAMES, tau_a
from decoders.alignment.partial import PLAIN, Parts, partition
from decoders.alignment.resampled import Resampled, resample

_FAST = ("spearman", "rho_a", "pearson", "cosine")


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
    if comparator not in _FAST:
        return np.array([_expanded_scores(models, recorded, count, comparator) for count in counts])
    scores = np.empty((len(counts), len(models), len(recorded)))
    for part in resample(models, recorded, counts, PLAIN[comparator]):
        scores[part.resamples, part.chosen] = _scores(part, comparator)
    return scores


def scores_and_parts(
    models: NDArray[np.float64],
    controls: NDArray[np.float64],
    recorded: NDArray[np.float64],
    counts: NDArray[np.int64],
    comparator: str,
) -> tuple[NDArray[np.float64], Parts]:
    """Return `resampled_scores` and `decoders.alignment.partial.partition`, with every RDM ranked once for both.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    controls : array of shape (n_controls, n_pairs)
    recorded : array of shape (n_recorded, n_pairs)
    counts : array of shape (n_resamples, n_stimuli)
    comparator : str
    """
    if comparator not in _FAST:
        scores = resampled_scores(models, recorded, counts, comparator)
        return scores, partition(models, controls, recorded, counts, comparator)
    scores = np.empty((len(counts), len(models), len(recorded)))
    parts = Parts.empty(scores.shape)
    for part in resample(models, recorded, counts, PLAIN[comparator], controls):
        scores[part.resamples, part.chosen] = _scores(part, comparator)
        parts.put(part)
    return scores, parts


def _scores(part: Resampled, comparator: str) -> NDArray[np.float64]:
    if comparator != "rho_a":
        return part.similarity
    total = part.recorded.weights.sum(axis=1)[:, None, None]
    # Of doubled ranks, hence 12 / 4.
    return np.asarray(part.products * 3 / (total**3 - total))


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
