"""Onset and peak of time courses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HALF = 0.5


def peak_times(courses: NDArray[np.float64], times: NDArray[np.float64], since: float = 0.0) -> NDArray[np.float64]:
    """Return when courses are largest.

    Parameters
    ----------
    courses : array of shape (n_courses, n_times)
    times : array of shape (n_times,)
        Seconds, evenly spaced.
    since : float
        Earlier times are not searched.

    Returns
    -------
    array of shape (n_courses,)
        Between samples by the parabola through the largest value and its neighbours. Not a number where a course is.
    """
    place = _largest(courses, times, since)
    peaks = times[place].astype(np.float64)
    inner = (place > 0) & (place < len(times) - 1)
    rows = np.flatnonzero(inner)
    before, top, after = (courses[rows, place[rows] + step] for step in (-1, 0, 1))
    bend = before - 2 * top + after
    offset = np.divide(before - after, 2 * bend, out=np.zeros(len(rows)), where=bend < 0)
    peaks[rows] += np.clip(offset, -0.5, 0.5) * (times[1] - times[0])
    return np.where(np.isfinite(courses).all(axis=1), peaks, np.nan)


def onset_times(courses: NDArray[np.float64], times: NDArray[np.float64], since: float = 0.0) -> NDArray[np.float64]:
    """Return when courses first stay above half of their peak until it (half-amplitude onset).

    Parameters
    ----------
    courses, times, since
        As for `peak_times`.

    Returns
    -------
    array of shape (n_courses,)
        Seconds, interpolated between samples. Half is between the mean before `since` (0 where there is nothing
        before) and the peak. Unlike the first significant time it does not move with the number of people (Liesefeld
        2018, Front Neurosci 12:765). Not a number where the course is above half from the first time on.
    """
    place = _largest(courses, times, since)
    early = times < since
    base = courses[:, early].mean(axis=1) if early.any() else np.zeros(len(courses))
    cut = base + HALF * (courses[np.arange(len(courses)), place] - base)
    below = (courses <= cut[:, None]) & (np.arange(len(times)) < place[:, None])
    found = below.any(axis=1)
    last = np.where(found, len(times) - 1 - below[:, ::-1].argmax(axis=1), 0)
    last = np.minimum(last, len(times) - 2)
    rows = np.arange(len(courses))
    low, high = courses[rows, last], courses[rows, last + 1]
    share = np.divide(cut - low, high - low, out=np.zeros(len(courses)), where=high > low)
    onset = times[last] + share * (times[last + 1] - times[last])
    return np.where(found & np.isfinite(courses).all(axis=1), onset, np.nan)


def _largest(courses: NDArray[np.float64], times: NDArray[np.float64], since: float) -> NDArray[np.int64]:
    searched = np.where(times >= since, np.nan_to_num(courses, nan=-np.inf), -np.inf)
    return np.asarray(searched.argmax(axis=1))
