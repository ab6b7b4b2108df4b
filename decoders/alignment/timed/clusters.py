"""Cluster masses and threshold-free cluster enhancement along one axis, for many maps at once.

A map is a course over time; maps do not touch each other. All runs above a threshold of all maps and all permutations
are found together, so that a family of hundreds of courses under a thousand permutations costs seconds. mne finds the
same clusters and values one map at a time (`mne.stats.permutation_cluster_1samp_test`), and is what tests compare with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# As in mne's examples; the integral over heights is a sum of steps.
TFCE_STEP = 0.2
# Heights beyond this add nothing that a p could show.
HIGHEST = 100.0


@dataclass(frozen=True)
class Runs:
    """Stretches of maps above a threshold.

    Attributes
    ----------
    row : array of int of shape (n_runs,)
        Map of each.
    start, stop : array of int of shape (n_runs,)
        First point, and one past the last.
    mass : array of shape (n_runs,)
        Sum of the map over the stretch.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    mass: NDArray[np.float64]


def find_runs(maps: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> Runs:
    """Return all stretches of consecutive points above a threshold.

    Parameters
    ----------
    maps : array of shape (n_maps, n_times)
    threshold : float, or array that broadcasts to `maps`
    """
    n_times = maps.shape[1]
    points = np.flatnonzero(maps > threshold)
    if len(points) == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Runs(nothing, nothing, nothing, np.zeros(0))
    first = np.flatnonzero(_begins(points, n_times))
    mass = np.add.reduceat(maps.ravel()[points], first)
    ends = np.append(first[1:], len(points)) - 1
    return Runs(points[first] // n_times, points[first] % n_times, points[ends] % n_times + 1, mass)


def largest_mass(maps: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Return the largest mass in each of several sets of maps.

    Parameters
    ----------
    maps : array of shape (n_sets, n_maps, n_times)
    threshold : float

    Returns
    -------
    array of shape (n_sets,)
        0 where nothing is above the threshold.
    """
    n_sets, n_maps, n_times = maps.shape
    runs = find_runs(maps.reshape(-1, n_times), threshold)
    largest = np.zeros(n_sets)
    np.maximum.at(largest, runs.row // n_maps, runs.mass)
    return largest


def enhance(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the threshold-free cluster enhancement of what is above zero.

    Parameters
    ----------
    maps : array of shape (..., n_times)
        A statistic; cut at `HIGHEST`.

    Returns
    -------
    array of the same shape
        Sum over heights h of h^2 times the square root of the extent of the stretch above h, in steps of `TFCE_STEP`
        (Smith & Nichols 2009, NeuroImage 44:83), as `mne.stats` sums it; zero at and below zero.
    """
    n_times = maps.shape[-1]
    flat = np.minimum(maps, HIGHEST).ravel()
    result = np.zeros(flat.shape)
    points = np.flatnonzero(flat > TFCE_STEP)
    level = 1
    while len(points):
        height = level * TFCE_STEP
        begins = _begins(points, n_times)
        first = np.flatnonzero(begins)
        extent = np.diff(np.append(first, len(points)))
        result[points] += np.repeat(height**2 * TFCE_STEP * np.sqrt(extent), extent)
        level += 1
        points = points[flat[points] > level * TFCE_STEP]
    return result.reshape(maps.shape)


def _begins(points: NDArray[np.int64], n_times: int) -> NDArray[np.bool_]:
    """Return which points (numbered through all maps) do not follow the one before them in the same map."""
    begins = np.ones(len(points), dtype=bool)
    begins[1:] = (np.diff(points) != 1) | (points[1:] % n_times == 0)
    return begins
