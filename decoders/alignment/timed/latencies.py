"""When a geometry begins and when it is strongest, with intervals from a bootstrap over subjects.

Read from the course of a model's weight, mean over subjects (`decoders.alignment.timed.weights`). Its signed square
root is proportional to the amplitude of the response (distances are squared). The onset is where the line through
the rise, from `LOW` to `HIGH` of the peak, meets zero. In simulations of known onset
(benchmarks/bench_latencies.py) it is biased less than the first moment of a significant cluster, which depends on
the number of trials and subjects, or the moment of a share of the peak, which is late by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 0.5, 0.9
# Points around the largest one that lie above this share of it are fitted by a polynomial of this degree: responses
# rise faster than they fall, and the vertex of a parabola, which cannot be skewed, would be late.
TOP, DEGREE = 0.8, 4
_GRID, _NEWTON = 101, 4


@dataclass(frozen=True)
class Latency:
    """One latency.

    Attributes
    ----------
    seconds, low, high : float
        Not a number where there is none; the limits of the interval, too, for a single subject.
    n_lost : int
        Bootstrap draws without a latency.
    """

    seconds: float
    low: float
    high: float
    n_lost: int


def amplitude(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signed square root: squared distances grow with the square of a response."""
    return np.asarray(np.sign(weights) * np.sqrt(np.abs(weights)))


def peak_times(courses: NDArray[np.float64], times: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
    """Return the moment of the largest value within a stretch, between samples.

    Parameters
    ----------
    courses : array of shape (n_courses, n_times)
    times : array of shape (n_times,)
        Evenly spaced.
    start, stop : int
        First moment of the stretch, and one past the last.

    Returns
    -------
    array of shape (n_courses,)
        Of the polynomial through the contiguous points above `TOP` of the largest one the maximum that is nearest to
        it; the largest point itself where there is no maximum among them.
    """
    n = courses.shape[1]
    peak = start + np.argmax(courses[:, start:stop], axis=1)
    rows = np.arange(len(courses))
    largest = courses[rows, peak]
    low = courses < TOP * largest[:, None]
    place = np.arange(n)
    first = np.where(low & (place < peak[:, None]), place, -1).max(axis=1) + 1
    last = np.where(low & (place > peak[:, None]), place, n).min(axis=1) - 1
    first, last = np.minimum(first, np.maximum(peak - 1, 0)), np.maximum(last, np.minimum(peak + 1, n - 1))
    found = np.where(largest > 0, peak + _vertex(courses, peak, first, last), np.nan)
    return np.asarray(times[0] + (times[-1] - times[0]) / (n - 1) * found)


def _vertex(
    courses: NDArray[np.float64], peak: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return where a polynomial through points first to last is highest, in samples after the peak; 0 for nowhere."""
    place, width = np.arange(courses.shape[1]), np.maximum(last - first, 1)
    within = (place >= first[:, None]) & (place <= last[:, None])
    u = np.where(within, (place - peak[:, None]) / width[:, None], 0.0)
    # Few points have a polynomial of lower degree: three are those of a parabola.
    powers = np.arange(DEGREE + 1)
    design = within[:, :, None] * u[:, :, None] ** powers * (powers <= width[:, None])[:, None]
    given = np.where(within, courses, 0.0)[:, :, None]
    normal = design.transpose(0, 2, 1) @ design
    fitted = (np.linalg.pinv(normal, hermitian=True) @ (design.transpose(0, 2, 1) @ given))[..., 0]
    low, high = (first - peak) / width, (last - peak) / width
    grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _GRID)
    values = _polynomial(fitted, grid)
    rising = np.diff(values, axis=1) > 0
    highest = rising[:, :-1] & ~rising[:, 1:]
    found = grid[:, 1:-1]
    best = np.argmin(np.where(highest, np.abs(found), np.inf), axis=1)
    found = np.take_along_axis(found, best[:, None], axis=1)
    slope = fitted[:, 1:] * powers[1:]
    bend = slope[:, 1:] * powers[1:-1]
    for _ in range(_NEWTON):
        curvature = _polynomial(bend, found)
        found = found - np.divide(_polynomial(slope, found), curvature, out=np.zeros_like(found), where=curvature < 0)
    inside = highest.any(axis=1) & (found[:, 0] > low) & (found[:, 0] < high)
    return np.where(inside, width * found[:, 0], 0.0)


def _polynomial(coefficients: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values (n, m) of polynomials (n, degree + 1), lowest power first, at x (n, m)."""
    return np.asarray(np.polynomial.polynomial.polyval(x.T, coefficients.T, tensor=False).T)


def onset_times(courses: NDArray[np.float64], times: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
    """Return where the line through the rise to the largest value of a stretch meets zero.

    Parameters
    ----------
    courses : array of shape (n_courses, n_times)
        Amplitudes.
    times : array of shape (n_times,)
    start, stop : int
        Stretch of the peak; the rise may begin before it.

    Returns
    -------
    array of shape (n_courses,)
        Not a number where the course does not rise from below `LOW` of its peak.
    """
    peak = start + np.argmax(courses[:, start:stop], axis=1)
    largest = courses[np.arange(len(courses)), peak]
    upper = _last_crossing(courses, times, peak, HIGH * largest)
    lower = _last_crossing(courses, times, peak, LOW * largest)
    found = lower - LOW / (HIGH - LOW) * (upper - lower)
    return np.asarray(np.where(largest > 0, found, np.nan))


def _last_crossing(
    courses: NDArray[np.float64], times: NDArray[np.float64], peak: NDArray[np.int64], level: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the last moment before the peak at which each course rises through its level, between samples."""
    place, rows = np.arange(courses.shape[1]), np.arange(len(courses))
    below = np.where((courses < level[:, None]) & (place < peak[:, None]), place, -1).max(axis=1)
    before = courses[rows, np.maximum(below, 0)]
    after = courses[rows, np.minimum(below + 1, courses.shape[1] - 1)]
    gap = after - before
    share = np.divide(level - before, gap, out=np.zeros_like(gap), where=gap > 0)
    step = times[np.minimum(below + 1, len(times) - 1)] - times[np.maximum(below, 0)]
    return np.asarray(np.where(below < 0, np.nan, times[np.maximum(below, 0)] + share * step))


def latency(
    measure: str,
    weights: NDArray[np.float64],
    times: NDArray[np.float64],
    stretch: tuple[int, int],
    counts: NDArray[np.int64] | None,
    level: float = 0.95,
) -> Latency:
    """Return a latency of the mean over subjects, with percentile limits.

    Parameters
    ----------
    measure : {"onset", "peak"}
    weights : array of shape (n_subjects, n_times)
    times : array of shape (n_times,)
    stretch : (int, int)
        Moments in which the peak is looked for: of a significant cluster.
    counts : array of shape (n_resamples, n_subjects) or None
        Bootstrap counts of the subjects; None for a single one.
    level : float
    """
    of = onset_times if measure == "onset" else peak_times
    value = float(of(amplitude(weights.mean(axis=0))[None], times, *stretch)[0])
    if counts is None:
        return Latency(value, float("nan"), float("nan"), 0)
    draws = of(amplitude(counts @ weights / len(weights)), times, *stretch)
    kept = draws[np.isfinite(draws)]
    if len(kept) < 2 or not np.isfinite(value):
        return Latency(value, float("nan"), float("nan"), len(draws) - len(kept))
    low, high = np.quantile(kept, [0.5 - level / 2, 0.5 + level / 2])
    return Latency(value, float(low), float(high), len(draws) - len(kept))
