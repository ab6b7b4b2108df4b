"""Clusters of fusion over time: sign flips of the people's curves, in all regions at once (mne)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.contrasts import Scores
from decoders.alignment.fusion.prepared import Study

FORMING_P = 0.05
# Sign flips of fewer people cannot reach p = .05: 1 / 2^4 = .0625.
MIN_PEOPLE = 5


@dataclass(frozen=True)
class Cluster:
    """Times in a row at which fusion exceeds the threshold.

    Attributes
    ----------
    region : int
        Number in what was given.
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


def fusion_clusters(curves: NDArray[np.float64], n_permutations: int, seed: int) -> list[Cluster]:
    """Return the clusters of fusion above zero.

    Parameters
    ----------
    curves : array of shape (n_people, n_regions, n_times)
        Of at least five people.
    n_permutations : int
        All sign flips where there are fewer.
    seed : int

    Returns
    -------
    list of Cluster
        Formed at p = .05 (one-sided t); times are neighbours within a region alone, and the largest mass is taken over
        all regions, which holds the family-wise error over both (Maris & Oostenveld 2007).
    """
    from mne import use_log_level
    from mne.stats import combine_adjacency, permutation_cluster_1samp_test
    from scipy.sparse import csr_array
    from scipy.stats import t

    n_people, n_regions, n_times = curves.shape
    neighbours = combine_adjacency(csr_array((n_regions, n_regions)), n_times)
    with use_log_level("error"):
        values, masks, p, _ = permutation_cluster_1samp_test(
            curves, t.isf(FORMING_P, n_people - 1), n_permutations, tail=1, adjacency=neighbours, seed=seed,
            out_type="mask",
        )  # fmt: skip
    found = []
    for mask, share in zip(masks, p, strict=True):
        region, times = np.nonzero(mask)
        peak = times[np.argmax(values[region, times])]
        ends = int(times.min()), int(times.max())
        found.append(Cluster(int(region[0]), *ends, int(peak), float(values[mask].sum()), float(share)))
    return sorted(found, key=lambda cluster: (cluster.region, cluster.start))


def clusters_of_regions(study: Study, scores: Mapping[str, Scores], n_permutations: int, seed: int) -> list[Cluster]:
    """Return the clusters of all regions with five people or more.

    Parameters
    ----------
    study : Study
    scores : mapping of region to Scores
        Fusion, one row per time.
    n_permutations, seed : int

    Returns
    -------
    list of Cluster
        Regions with the same people are flipped together; p is multiplied by the number of such groups.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, people in enumerate(study.people):
        if len(people) >= MIN_PEOPLE:
            groups.setdefault(tuple(people.tolist()), []).append(number)
    found = []
    for numbers in groups.values():
        curves = np.array([scores[study.pairs[number].region].full.T for number in numbers]).transpose(1, 0, 2)
        here = fusion_clusters(curves, n_permutations, seed)
        found += [replace(item, region=numbers[item.region], p=min(1.0, item.p * len(groups))) for item in here]
    return found
