"""RSA around every sensor: neighbourhoods, scores over time, and the group's test over sensors and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import compare
from decoders.alignment.timed.distances import Cells, distances_of, fold_means, whitened
from decoders.alignment.timed.flips import flip_test, flipped_t, sign_patterns
from decoders.alignment.timed.noise import own_scale
from decoders.errors import InputError
from decoders.signal.whitening import numerical_rank, whitener

# Sensors nearer than this lie at one site (the gradiometers and the magnetometer of a triplet).
_SITE_M = 0.002
_MIN_SITES, _MIN_CHANNELS = 4, 3


@dataclass(frozen=True)
class Neighbours:
    """Which sensors are looked at together.

    Attributes
    ----------
    members : list of array of int
        Per sensor, itself among them.
    touching : array of shape (n_channels, n_channels), bool
        Sensors of one type whose sites touch: what a cluster is connected by.
    """

    members: list[NDArray[np.int64]]
    touching: NDArray[np.bool_]


def find_neighbours(
    positions: NDArray[np.float64], types: Sequence[str], radius_mm: float | None, whose: str
) -> Neighbours:
    """Return the neighbourhood of every sensor: sensors of its type at its own and at touching sites.

    Parameters
    ----------
    positions : array of shape (n_channels, 3)
        Metres.
    types : sequence of str
    radius_mm : float or None
        Sites within this radius, instead of those that touch in mne's triangulation of the sites.
    whose : str

    Raises
    ------
    InputError
        Sensors without a place, fewer than four sites, or a radius that leaves fewer than three sensors.
    """
    kinds = np.asarray([str(kind) for kind in types], dtype=object)
    placed = np.isfinite(positions).all(axis=1) & (np.abs(positions).sum(axis=1) > 0)
    if len(positions) != len(kinds) or not placed.all():
        remedy = "Give the positions of the sensors (montage, coordsystem.json), or leave alignment.time.sensors out."
        found = f"none of {int((~placed).sum())}" if len(positions) else "none"
        raise InputError("a place for every sensor", found, whose, remedy)
    touching = np.zeros((len(kinds), len(kinds)), dtype=bool)
    near = np.zeros_like(touching)
    for kind in dict.fromkeys(kinds):
        rows = np.flatnonzero(kinds == kind)
        sites, own = _sites(positions[rows])
        beside = _touching_sites(sites, whose)
        touching[np.ix_(rows, rows)] = beside[np.ix_(own, own)]
        if radius_mm is not None:
            apart = np.linalg.norm(sites[:, None] - sites[None], axis=2)
            beside = apart <= radius_mm / 1000 + 1e-9
        near[np.ix_(rows, rows)] = beside[np.ix_(own, own)]
    members = [np.flatnonzero(row) for row in near]
    smallest = min(members, key=len)
    if len(smallest) < _MIN_CHANNELS:
        remedy = "Raise alignment.time.sensors.radius_mm, or leave it out."
        raise InputError(f"{_MIN_CHANNELS} or more sensors in every neighbourhood", f"{len(smallest)}", whose, remedy)
    return Neighbours(members, touching)


def _sites(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the sites, and the site of each sensor."""
    sites: list[NDArray[np.float64]] = []
    own = np.empty(len(positions), dtype=np.int64)
    for number, place in enumerate(positions):
        gaps = [float(np.linalg.norm(place - site)) for site in sites]
        if gaps and min(gaps) < _SITE_M:
            own[number] = int(np.argmin(gaps))
        else:
            own[number] = len(sites)
            sites.append(place)
    return np.array(sites), own


def _touching_sites(sites: NDArray[np.float64], whose: str) -> NDArray[np.bool_]:
    """Return which sites touch in mne's Delaunay triangulation of the flattened helmet, themselves among them."""
    import mne

    if len(sites) < _MIN_SITES:
        remedy = "Leave alignment.time.sensors out."
        raise InputError(f"{_MIN_SITES} or more sites of one type of sensor", f"{len(sites)}", whose, remedy)
    # To mne the sites are electrodes at these places: for them it triangulates, whatever the system.
    names = [f"S{number:04d}" for number in range(len(sites))]
    info = mne.create_info(names, 100.0, "eeg", verbose="ERROR")
    for channel, place in zip(info["chs"], sites, strict=True):
        channel["loc"][:3] = place
    with mne.use_log_level("ERROR"):
        adjacency, found = mne.channels.find_ch_adjacency(info, "eeg")
    order = [list(found).index(name) for name in names]
    table = np.asarray(adjacency.todense()).astype(bool)[np.ix_(order, order)]
    return np.asarray(table | np.eye(len(sites), dtype=bool))


def sensor_scores(
    patterns: NDArray[np.float32],
    cells: Cells,
    covariance: NDArray[np.float64],
    neighbours: Neighbours,
    vectors: NDArray[np.float64],
    method: str,
    comparator: str,
) -> NDArray[np.float64]:
    """Return the scores of models around every sensor.

    Parameters
    ----------
    patterns : array of shape (n_trials, n_channels, n_times)
    cells : Cells
    covariance : array of shape (n_channels, n_channels)
        Noise; that of a neighbourhood is whitened in as many dimensions as it has.
    neighbours : Neighbours
    vectors : array of shape (n_models, n_pairs)
    method : {"crossnobis", "mahalanobis", "euclidean", "correlation"}
    comparator : str

    Returns
    -------
    array of shape (n_models, n_channels, n_times)
    """
    used = cells if method == "crossnobis" else cells.joined()
    means = fold_means(patterns, used)
    scores = np.empty((len(vectors), len(neighbours.members), patterns.shape[2]))
    known: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for channel, members in enumerate(neighbours.members):
        key = tuple(members.tolist())
        # The two gradiometers of a site have one neighbourhood.
        if key not in known:
            noise = covariance[np.ix_(members, members)]
            full = method in ("crossnobis", "mahalanobis")
            matrix = whitener(noise, numerical_rank(noise)) if full else own_scale(noise)
            rdms = distances_of(whitened(means[:, :, members], matrix), used.counts, method)
            known[key] = compare(vectors, rdms, comparator)
        scores[:, channel] = known[key]
    return scores


@dataclass(frozen=True)
class SensorTest:
    """The group's test of one model over sensors and time.

    Attributes
    ----------
    statistic : array of shape (n_channels, n_times)
        t over subjects.
    p_corrected : array of shape (n_channels, n_times)
        Of the cluster of each point (1 outside of clusters), or of the point itself.
    n_permutations : int
    """

    statistic: NDArray[np.float64]
    p_corrected: NDArray[np.float64]
    n_permutations: int


def sensor_test(
    scores: NDArray[np.float64],
    touching: NDArray[np.bool_],
    statistic: Literal["cluster", "tfce", "max"],
    cluster_p: float,
    n_permutations: int,
    rng: np.random.Generator,
) -> SensorTest:
    """Test whether scores are above zero, by sign flips of subjects; clusters and TFCE by mne.

    Parameters
    ----------
    scores : array of shape (n_subjects, n_channels, n_times)
    touching : array of shape (n_channels, n_channels), bool
    statistic : {"cluster", "tfce", "max"}
        Mass of clusters that touch in space or time, threshold-free cluster enhancement, or the largest t.
    cluster_p : float
    n_permutations : int
        All patterns of signs where these are no more.
    rng : Generator
    """
    n_subjects, n_channels, n_times = scores.shape
    if statistic == "max":
        signs, exact = sign_patterns(n_subjects, n_permutations, rng)
        # One course through all sensors and moments: the largest t knows no neighbours.
        found = flip_test(scores.reshape(n_subjects, 1, -1), signs, cluster_p, "max", "greater", exact)
        shape = (n_channels, n_times)
        return SensorTest(found.statistic.reshape(shape), found.p_corrected.reshape(shape), len(signs))
    t = flipped_t(scores, np.ones((1, n_subjects)))[0]
    p, used = _by_mne(scores.transpose(0, 2, 1), touching, statistic, cluster_p, n_permutations, rng)
    return SensorTest(t, p.T, used)


def _by_mne(
    scores: NDArray[np.float64], touching: NDArray[np.bool_], statistic: str, cluster_p: float, n_permutations: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], int]:  # fmt: skip
    """Return p (n_times, n_channels) of scores (n_subjects, n_times, n_channels), and the number of permutations."""
    import mne
    from scipy.sparse import coo_array
    from scipy.stats import t as student

    n_subjects = len(scores)
    threshold: Any = float(student.isf(cluster_p, n_subjects - 1))
    if statistic == "tfce":
        threshold = {"start": 0, "step": 0.2}
    _, clusters, p, null = mne.stats.spatio_temporal_cluster_1samp_test(
        scores, threshold=threshold, n_permutations=min(n_permutations, 2**n_subjects), tail=1,
        adjacency=coo_array(touching & ~np.eye(len(touching), dtype=bool)), rng=rng,
        out_type="indices", verbose="ERROR",
    )  # fmt: skip
    table = np.ones(scores.shape[1:])
    for places, value in zip(clusters, p, strict=True):
        table[places] = value
    return table, len(null)
