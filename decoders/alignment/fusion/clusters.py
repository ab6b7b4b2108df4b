"""Clusters of fusion over time: sign flips of the people's curves, in all regions at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.contrasts import Scores
from decoders.alignment.fusion.prepared import Study
from decoders.alignment.timed.flips import flip_test, sign_patterns

FORMING_P = 0.05
# Sign flips of fewer people cannot reach p = .05: 1 / 2^4 = .0625.
MIN_PEOPLE = 5


@dataclass(frozen=True)
class FusionCluster:
    """Times in a row at which fusion exceeds the threshold.

    Attributes
    ----------
    region : int
        Number in the study.
    start, stop, peak : int
        Numbers of the first and last time, and of the time with the largest t.
    mass : float
        Sum of t.
    p : float
        Share of sign flips whose largest mass in any region is no smaller.
    """

    region: int
    start: int
    stop: int
    peak: int
    mass: float
    p: float


def fusion_clusters(
    curves: NDArray[np.float64], n_permutations: int, rng: np.random.Generator
) -> list[FusionCluster]:  # fmt: skip
    """Return the clusters of fusion above zero.

    Parameters
    ----------
    curves : array of shape (n_people, n_regions, n_times)
        Of at least five people.
    n_permutations : int
        All sign flips where there are no more.
    rng : Generator

    Returns
    -------
    list of FusionCluster
        Formed at p = .05 (one-sided t), within regions; the largest mass is taken over all regions, which holds the
        family-wise error over both (Maris & Oostenveld 2007).
    """
    signs, exact = sign_patterns(len(curves), n_permutations, rng)
    tested = flip_test(curves, signs, FORMING_P, "max", "greater", exact)
    found = []
    for item in tested.clusters:
        peak = item.start + int(np.argmax(tested.statistic[item.row, item.start : item.stop]))
        found.append(FusionCluster(item.row, item.start, item.stop - 1, peak, item.mass, item.p))
    return found


def clusters_of_regions(
    study: Study, scores: Mapping[str, Scores], n_permutations: int, rng: np.random.Generator
) -> list[FusionCluster]:
    """Return the clusters of all regions with five people or more.

    Parameters
    ----------
    study : Study
    scores : mapping of region to Scores
        Fusion, one row per time.
    n_permutations : int
    rng : Generator

    Returns
    -------
    list of FusionCluster
        Regions with the same people are flipped together; p is multiplied by the number of such groups.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, people in enumerate(study.people):
        if len(people) >= MIN_PEOPLE:
            groups.setdefault(tuple(people.tolist()), []).append(number)
    found = []
    for numbers in groups.values():
        curves = np.array([scores[study.pairs[number].region].full.T for number in numbers]).transpose(1, 0, 2)
        for item in fusion_clusters(curves, n_permutations, rng):
            p = min(1.0, item.p * len(groups))
            found.append(FusionCluster(numbers[item.region], item.start, item.stop, item.peak, item.mass, p))
    return found
