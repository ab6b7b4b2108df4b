"""Courses of scores when the stimuli of a model are relabelled: a test for few subjects, and about the stimuli."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import embed
from decoders.alignment.contrasts import Model
from decoders.alignment.timed.flips import Statistic, Tested, permutation_test
from decoders.alignment.timed.scores import RecordedTimes


def relabelled_scores(
    models: Sequence[Model],
    vectors: NDArray[np.float64],
    recorded: RecordedTimes,
    comparator: str,
    orders: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return scores, mean over subjects and seeds, under relabellings of the stimuli.

    Parameters
    ----------
    models : sequence of Model
    vectors : array of shape (n_rows, n_pairs)
    recorded : RecordedTimes
    comparator : str
        Any but `tau_a`.
    orders : array of shape (n_permutations, n_stimuli)

    Returns
    -------
    array of shape (n_permutations + 1, n_models, n_times)
        The data as they are first. Stimuli are relabelled at all moments alike, so that noise keeps its course.
    """
    prepared = embed(vectors, comparator)
    units = np.array([prepared[list(model.rows.values())].mean(axis=0) for model in models])
    # The comparator is linear in what was embedded: the mean over subjects may be taken first.
    target = np.mean([embed(rdms, comparator) for rdms in recorded.rdms], axis=0)
    n_stimuli = orders.shape[1]
    found = np.empty((len(orders) + 1, len(models), len(target)))
    found[0] = units @ target.T
    for number, order in enumerate(orders, start=1):
        found[number] = units[:, _moved(order, units.shape[1] == n_stimuli**2)] @ target.T
    return found


def _moved(order: NDArray[np.int64], square: bool) -> NDArray[np.int64]:
    """Return where each entry of a relabelled RDM comes from."""
    n = len(order)
    if square:
        return np.asarray((order[:, None] * n + order[None]).ravel())
    rows, columns = np.triu_indices(n, 1)
    low, high = np.minimum(order[rows], order[columns]), np.maximum(order[rows], order[columns])
    return np.asarray(low * n - low * (low + 1) // 2 + high - low - 1)


def label_test(found: NDArray[np.float64], cluster_p: float, statistic: Statistic) -> Tested:
    """Test courses against their relabelled ones, one-sided (greater).

    Parameters
    ----------
    found : array of shape (n_permutations + 1, n_models, n_times)
        From `relabelled_scores`.
    cluster_p : float
    statistic : {"tfce", "max"}

    Returns
    -------
    Tested
        On standard scores under the null, so that models of wide and narrow nulls weigh alike. The permutation is over
        stimuli: what is inferred is about stimuli, with the subjects as they are.
    """
    from scipy.stats import norm

    spread = found.std(axis=0)
    scaled = np.divide(found - found.mean(axis=0), spread, out=np.zeros_like(found), where=spread > 0)
    return permutation_test(
        found.shape[1:], lambda part: scaled[:, part], float(norm.isf(cluster_p)), statistic, "greater"
    )
