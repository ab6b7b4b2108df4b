"""Time courses of the phantom's MEG: bumps of known onset and peak, their sums over events, and coloured noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def raised_cosine(seconds: Array, onset: float, peak: float, end: float) -> Array:
    """Return a bump that leaves 0 at the onset, is 1 at the peak and 0 again from the end on; smooth throughout."""
    rise = np.clip((seconds - onset) / (peak - onset), 0, 1)
    fall = np.clip((seconds - peak) / (end - peak), 0, 1)
    return np.asarray((1 - np.cos(np.pi * rise)) / 2 * (1 + np.cos(np.pi * fall)) / 2, dtype=np.float64)


def superpose(
    times: Array, events: Array, values: Array, kernel: Callable[[Array], Array], span: tuple[float, float]
) -> Array:
    """Add a kernel at every event, evaluated at the event's exact time and not at the nearest sample.

    Parameters
    ----------
    times : array of shape (n_times,)
        Seconds, evenly spaced.
    events : array of shape (n_events,)
        Seconds.
    values : array of shape (n_events, n)
        Size of the kernel at each event.
    kernel : function of seconds since the event
    span : (float, float)
        Seconds since the event outside which the kernel is zero.

    Returns
    -------
    array of shape (n, n_times)
    """
    total = np.zeros((values.shape[1], len(times)))
    starts, stops = (np.searchsorted(times, events + edge) for edge in span)
    for event, value, start, stop in zip(events, values, starts, stops, strict=True):
        total[:, start:stop] += np.outer(value, kernel(times[start:stop] - event))
    return total


def coloured(
    shape: tuple[int, int], sfreq: float, density: Callable[[Array], Array], rng: np.random.Generator
) -> Array:
    """Draw Gaussian noise of a spectrum.

    Parameters
    ----------
    shape : (int, int)
        Rows and samples.
    sfreq : float
        Hz.
    density : function of frequencies in Hz
        One-sided power spectral density, unit^2 per Hz.
    rng : Generator

    Returns
    -------
    array of that shape
    """
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    rows, n = shape
    padded = next_fast_len(n, real=True)
    gain = np.sqrt(density(rfftfreq(padded, 1 / sfreq)) * sfreq / 2)
    return np.asarray(irfft(rfft(rng.standard_normal((rows, padded))) * gain, padded)[:, :n], dtype=np.float64)


def variance_of(density: Callable[[Array], Array], sfreq: float) -> float:
    """Return the variance of a sample of `coloured` noise: the integral of its density up to half the sampling rate."""
    width = 0.01
    return float(density(np.arange(width / 2, sfreq / 2, width)).sum() * width)
