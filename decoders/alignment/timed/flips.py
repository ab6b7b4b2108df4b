"""Tests of courses over time: sign flips of subjects or other null courses, corrected over a family of courses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.timed.clusters import HIGHEST, enhance, find_runs, largest_mass
from decoders.stats.resampling import Alternative

Statistic = Literal["tfce", "max"]
NullMaps = Callable[[slice], NDArray[np.float64]]
"""From some of the courses to the null statistic of these, array of shape (n_permutations, n_some, n_times)."""
# Numbers of null maps that are held at once.
_NUMBERS_AT_ONCE = 20_000_000
# The same numbers summed in another order differ in the last bits.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cluster:
    """A stretch of one course.

    Attributes
    ----------
    row : int
        Course.
    start, stop : int
        First moment, and one past the last.
    mass : float
        Sum of the statistic, negative for a stretch below zero.
    p : float
        Corrected for the largest mass over all courses and moments of the family.
    """

    row: int
    start: int
    stop: int
    mass: float
    p: float


@dataclass(frozen=True)
class Tested:
    """A family of courses, tested.

    Attributes
    ----------
    statistic : array of shape (n_courses, n_times)
        t over subjects, or standard scores under the null.
    p : array of shape (n_courses, n_times)
        Of each moment by itself.
    p_corrected : array of shape (n_courses, n_times)
        Corrected over all courses and moments.
    clusters : list of Cluster
    n_permutations : int
        With the data as they are.
    exact : bool
        All sign patterns were taken.
    """

    statistic: NDArray[np.float64]
    p: NDArray[np.float64]
    p_corrected: NDArray[np.float64]
    clusters: list[Cluster]
    n_permutations: int
    exact: bool = False


def sign_patterns(n_subjects: int, n_permutations: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], bool]:
    """Return sign flips of the subjects, the data as they are first.

    Parameters
    ----------
    n_subjects, n_permutations : int
    rng : Generator

    Returns
    -------
    signs : array of shape (n_patterns, n_subjects)
        All 2^n patterns where these are no more than `n_permutations`; else the data as they are and
        `n_permutations` - 1 random patterns.
    exact : bool
    """
    if 2**n_subjects <= n_permutations:
        bits = (np.arange(2**n_subjects)[:, None] >> np.arange(n_subjects)) & 1
        return 1.0 - 2.0 * bits, True
    signs = rng.choice([-1.0, 1.0], size=(n_permutations, n_subjects))
    signs[0] = 1.0
    return signs, False


def flipped_t(scores: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t over subjects under each pattern of signs.

    Parameters
    ----------
    scores : array of shape (n_subjects, n_courses, n_times)
    signs : array of shape (n_patterns, n_subjects)

    Returns
    -------
    array of shape (n_patterns, n_courses, n_times)
        Zero where all scores are; cut at +-`HIGHEST` (scores that hardly differ between subjects).
    """
    n = len(scores)
    flat = scores.reshape(n, -1)
    mean = signs @ flat / n
    # Flips leave the mean square as it is.
    square = (flat**2).mean(axis=0)
    error = np.sqrt(np.maximum(square - mean**2, 1e-14 * square) / (n - 1))
    t = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return np.clip(t, -HIGHEST, HIGHEST).reshape(len(signs), *scores.shape[1:])


def flip_test(
    scores: NDArray[np.float64],
    signs: NDArray[np.float64],
    cluster_p: float,
    statistic: Statistic,
    alternative: Alternative,
    exact: bool = False,
) -> Tested:
    """Test whether the mean over subjects differs from zero, by sign flips of whole subjects.

    Parameters
    ----------
    scores : array of shape (n_subjects, n_courses, n_times)
        Finite; one family of courses, which are all flipped alike.
    signs : array of shape (n_patterns, n_subjects)
        The first row is the data as they are.
    cluster_p : float
        Uncorrected p of the t that a moment needs to be in a cluster.
    statistic : {"tfce", "max"}
    alternative : {"greater", "two-sided"}
    exact : bool
        The patterns are all that there are.

    Returns
    -------
    Tested

    Notes
    -----
    Valid where a subject's course is symmetric around zero under the null, as a whole. What is inferred is about
    subjects, with the stimuli as they are.
    """
    from scipy.stats import t as student

    tail = cluster_p if alternative == "greater" else cluster_p / 2
    threshold = float(student.isf(tail, len(scores) - 1))
    found = permutation_test(
        scores.shape[1:], lambda part: flipped_t(scores[:, part], signs), threshold, statistic, alternative
    )
    return Tested(found.statistic, found.p, found.p_corrected, found.clusters, len(signs), exact)


def permutation_test(
    shape: tuple[int, ...], maps: NullMaps, threshold: float, statistic: Statistic, alternative: Alternative
) -> Tested:
    """Test a family of courses by their statistic under permutations.

    Parameters
    ----------
    shape : (n_courses, n_times)
    maps : callable
        From a slice of the courses to their statistic, array of shape (n_permutations, n_some, n_times); the data as
        they are come first.
    threshold : float
        That a moment must exceed to be in a cluster.
    statistic : {"tfce", "max"}
    alternative : {"greater", "two-sided"}

    Returns
    -------
    Tested
    """
    two_sided = alternative == "two-sided"
    observed, enhanced, alone, masses, peaks = [], [], [], [], []
    for part in _slices(shape, maps):
        null = maps(part)
        observed.append(null[0])
        values = _enhanced(null, statistic, two_sided)
        enhanced.append(values[0])
        peaks.append(values.reshape(len(values), -1).max(axis=1))
        sides = [null, -null] if two_sided else [null]
        masses.append(np.max([largest_mass(side, threshold) for side in sides], axis=0))
        magnitude = np.abs(null) if two_sided else null
        alone.append(_share(magnitude[0], magnitude))
    stat, value = np.concatenate(observed), np.concatenate(enhanced)
    peak, mass = np.max(peaks, axis=0), np.max(masses, axis=0)
    corrected = _share_of_largest(value, peak)
    p = np.concatenate(alone)
    # A corrected p is never below the p of the moment by itself.
    clusters = _clusters(stat, mass, threshold, two_sided)
    return Tested(stat, p, np.maximum(corrected, p), clusters, len(peak))


def _slices(shape: tuple[int, ...], maps: NullMaps) -> Iterator[slice]:
    n_courses, n_times = shape
    n_permutations = len(maps(slice(0, 1)))
    step = max(1, _NUMBERS_AT_ONCE // (n_permutations * n_times))
    for start in range(0, n_courses, step):
        yield slice(start, min(start + step, n_courses))


def _enhanced(null: NDArray[np.float64], statistic: Statistic, two_sided: bool) -> NDArray[np.float64]:
    if statistic == "max":
        return np.abs(null) if two_sided else null
    return np.maximum(enhance(null), enhance(-null)) if two_sided else enhance(null)


def _share(observed: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    reached = null >= observed - _ROUNDING * np.maximum(1.0, np.abs(observed))
    return np.asarray(reached.mean(axis=0))


def _share_of_largest(values: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each value, the share of permutations (the data among them) whose largest value reaches it."""
    ordered = np.sort(largest)
    cut = values - _ROUNDING * np.maximum(1.0, np.abs(values))
    return np.asarray((len(ordered) - np.searchsorted(ordered, cut, side="left")) / len(ordered))


def _clusters(
    statistic: NDArray[np.float64], largest: NDArray[np.float64], threshold: float, two_sided: bool
) -> list[Cluster]:
    found = []
    for sign in (1.0, -1.0) if two_sided else (1.0,):
        runs = find_runs(sign * statistic, threshold)
        p = _share_of_largest(runs.mass, largest)
        for row, start, stop, mass, value in zip(runs.row, runs.start, runs.stop, runs.mass, p, strict=True):
            found.append(Cluster(int(row), int(start), int(stop), float(sign * mass), float(value)))
    return sorted(found, key=lambda item: (item.row, item.start))
