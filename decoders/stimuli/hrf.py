"""The haemodynamic response of the phantom and of text features (decoding.md, section 4)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

GRID_HZ = 10
HRF_LENGTH_S = 32.0


def double_gamma(rate_hz: float = GRID_HZ) -> NDArray[np.float64]:
    """Return the double-gamma response t^5 e^-t / 5! - t^15 e^-t / (15! 6) on 0 to 32 s.

    Parameters
    ----------
    rate_hz : float
        Samples per second.

    Returns
    -------
    array of shape (32 * rate_hz + 1,)
        Sum 1.
    """
    t = np.arange(round(HRF_LENGTH_S * rate_hz) + 1) / rate_hz
    response = t**5 * np.exp(-t) / math.factorial(5) - t**15 * np.exp(-t) / math.factorial(15) / 6
    return response / response.sum()


def convolve_events(
    seconds: NDArray[np.float64], values: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Put values on a 10-Hz grid, convolve them with the double gamma, sample at given times.

    Parameters
    ----------
    seconds : array of shape (n_events,)
        When each event happens.
    values : array of shape (n_events, n_features)
        What it adds to the grid.
    times : array of shape (n_times,)
        Seconds at which the result is sampled (starts of volumes), ascending.

    Returns
    -------
    array of shape (n_times, n_features)
    """
    times, values = np.asarray(times, float), np.asarray(values, float)
    # The grid starts one response before the first sample: earlier events cannot reach it.
    origin = times[0] - HRF_LENGTH_S
    n_bins = round((times[-1] - origin) * GRID_HZ) + 1
    # The small number keeps a time that is a multiple of .1 s in its own bin.
    bins = np.floor((np.asarray(seconds, float) - origin) * GRID_HZ + 1e-6).astype(int)
    inside = (bins >= 0) & (bins < n_bins)
    grid = np.zeros((n_bins, values.shape[1]))
    np.add.at(grid, bins[inside], values[inside])
    response = double_gamma()
    sampled = np.rint((times - origin) * GRID_HZ).astype(int)
    # Only the sampled rows are needed: one small product per sample, in fixed order.
    lags = sampled[:, None] - np.arange(len(response))[None, :]
    rows = np.where(lags[..., None] >= 0, grid[np.maximum(lags, 0)], 0.0)
    return np.einsum("tlf,l->tf", rows, response)


def sum_events(
    seconds: NDArray[np.float64], values: NDArray[np.float64], times: NDArray[np.float64], tr: float
) -> NDArray[np.float64]:
    """Sum the values of the events that fall in [t, t + tr) for every volume start t.

    Parameters
    ----------
    seconds : array of shape (n_events,)
    values : array of shape (n_events, n_features)
    times : array of shape (n_times,)
        Starts of the volumes, spaced by `tr`.
    tr : float
        Seconds.

    Returns
    -------
    array of shape (n_times, n_features)
    """
    values = np.asarray(values, float)
    bins = np.floor((np.asarray(seconds, float) - times[0]) / tr + 1e-9).astype(int)
    inside = (bins >= 0) & (bins < len(times))
    summed = np.zeros((len(times), values.shape[1]))
    np.add.at(summed, bins[inside], values[inside])
    return summed
