"""What else is in a recording of MEG: blinks, heart beats and the mains, with EOG and ECG."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_courses import coloured, raised_cosine, superpose
from decoders.simulate.meg_head import magnet_field, magnetometers, meg_of
from decoders.simulate.meg_noise import FT, Part, brain_density
from decoders.simulate.streams import stream

EOG_V, ECG_V = 180e-6, 1.2e-3
_EOG_NOISE_V, _ECG_NOISE_V = 3e-6, 15e-6
_BLINK_S = (0.0, 0.09, 0.33)
_BLINK_GAP_S = 0.5
_BEAT_S, _BEAT_SD_S = 0.85, 0.04
# Waves of a beat: size, seconds from its peak, width in seconds.
_BEAT = (
    (0.12, -0.17, 0.025), (-0.12, -0.035, 0.01), (1.0, 0.0, 0.012), (-0.25, 0.035, 0.012), (0.28, 0.27, 0.05),
)  # fmt: skip
_BEAT_SPAN_S = (-0.3, 0.5)
# The heart: metres from the middle between the ears, and the direction of its current loop.
_HEART_M, _HEART_AXIS = np.array([0.05, 0.0, -0.35]), np.array([0.5, 0.6, 0.6])
# Two sources of mains noise in the room, and the directions of their magnets.
_MAINS_M = np.array([[2.0, 1.0, -0.5], [-1.5, -2.0, 1.0]])
_MAINS_AXES = np.array([[0.2, 0.5, 0.8], [0.9, -0.3, 0.3]])
_HARMONICS = (1.0, 0.15, 0.3, 0.08, 0.12)
_SWELL, _SWELL_HZ, _WANDER_HZ = 0.25, 0.05, 0.01


def blinks(settings: PhantomSettings, field: NDArray[np.float64], n_times: int, rng: np.random.Generator) -> Part:
    """Draw blinks: a Poisson process whose events keep half a second apart, sizes that vary by a fifth.

    Parameters
    ----------
    settings : PhantomSettings
    field : array of shape (306, 2)
        Of the two eyes, in any unit.
    n_times : int
    rng : Generator

    Returns
    -------
    Part
        One course, 1 at the peak of a blink of mean size.
    """
    meg = meg_of(settings)
    times = np.arange(n_times) / meg.sfreq
    events = _poisson(meg.blinks_per_s, times[-1] - _BLINK_S[2], rng)
    sizes = np.exp(rng.normal(0, 0.2, (len(events), 1)))
    course = superpose(times, events, sizes, lambda t: raised_cosine(t, *_BLINK_S), (0.0, _BLINK_S[2]))
    return Part(_scaled(field.sum(axis=1), meg.blink)[:, None], course)


def heart(
    settings: PhantomSettings, device_to_head: NDArray[np.float64], n_times: int, rng: np.random.Generator
) -> Part:
    """Draw heart beats: intervals of .85 s that vary by .04 s; one course, 1 at the R wave."""
    meg = meg_of(settings)
    times = np.arange(n_times) / meg.sfreq
    n_beats = int(times[-1] / (_BEAT_S - 4 * _BEAT_SD_S)) + 2
    events = rng.uniform(0, _BEAT_S) + np.cumsum(np.clip(rng.normal(_BEAT_S, _BEAT_SD_S, n_beats), 0.7, 1.0))
    events = events[events < times[-1] - _BEAT_SPAN_S[1]]
    course = superpose(times, events, np.ones((len(events), 1)), _beat, _BEAT_SPAN_S)
    return Part(_scaled(magnet_field(device_to_head, _HEART_M, _HEART_AXIS), meg.heart)[:, None], course)


def line(
    settings: PhantomSettings, device_to_head: NDArray[np.float64], n_times: int, rng: np.random.Generator
) -> Part:
    """Draw the mains: two sources with harmonics, whose size drifts by a quarter and whose phase wanders.

    Returns
    -------
    Part
        One course per source; harmonics above half the sampling rate are left out.
    """
    meg = meg_of(settings)
    fields = np.stack(
        [magnet_field(device_to_head, *source) for source in zip(_MAINS_M, _MAINS_AXES, strict=True)], axis=1
    )
    if meg.line_hz is None:
        return Part(fields[:, :0], np.zeros((0, n_times)))
    fields /= np.linalg.norm(fields[magnetometers()], axis=0)
    rms = np.sqrt((fields[magnetometers()] ** 2).sum(axis=1).mean())
    courses = np.stack([_mains(meg.line_hz, meg.sfreq, n_times, rng) for _ in _MAINS_M])
    return Part(fields * meg.line * FT / rms, courses)


def electrode(course: NDArray[np.float64], volts: float, noise: float, sfreq: float, rng: np.random.Generator) -> Any:
    """Return what EOG or ECG records: the course of blinks or beats in V, with 1/f noise, shape (n_times,)."""
    own = coloured((1, course.shape[-1]), sfreq, brain_density, rng)[0]
    return volts * course.sum(axis=0) + noise * own


def eog_ecg(
    eyes: Part, beats: Part, sfreq: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return EOG and ECG in V, each of shape (n_times,)."""
    return (
        electrode(eyes.courses, EOG_V, _EOG_NOISE_V, sfreq, rng),
        electrode(beats.courses, ECG_V, _ECG_NOISE_V, sfreq, rng),
    )


def bad_sensors(settings: PhantomSettings, subject: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a person's flat and noisy sensors: their numbers among the 306."""
    meg = meg_of(settings)
    n = meg.flat_channels + meg.noisy_channels
    chosen = stream(settings.seed, "meg bad", subject).choice(len(magnetometers()), n, replace=False)
    return np.sort(chosen[: meg.flat_channels]), np.sort(chosen[meg.flat_channels :])


def _poisson(rate: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    if rate == 0:
        return np.zeros(0)
    gaps = _BLINK_GAP_S + rng.exponential(1 / rate - _BLINK_GAP_S, int(seconds / _BLINK_GAP_S) + 1)
    events = np.cumsum(gaps)
    return np.asarray(events[events < seconds], dtype=np.float64)


def _beat(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    waves = [size * np.exp(-(((seconds - at) / width) ** 2) / 2) for size, at, width in _BEAT]
    return np.asarray(np.sum(waves, axis=0), dtype=np.float64)


def _mains(hertz: float, sfreq: float, n_times: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw one source of unit variance at its fundamental."""

    def slow(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-((frequencies / _SWELL_HZ) ** 2) / 2) * 2 / np.sqrt(2 * np.pi) / _SWELL_HZ)

    swell, wander = coloured((2, n_times), sfreq, slow, rng)
    phase = 2 * np.pi * np.cumsum(hertz + _WANDER_HZ * wander) / sfreq
    starts = rng.uniform(0, 2 * np.pi, len(_HARMONICS))
    sines = [
        size * np.sin((k + 1) * phase + start)
        for k, (size, start) in enumerate(zip(_HARMONICS, starts, strict=True))
        if (k + 1) * (hertz + 1) < sfreq / 2
    ]
    return np.asarray(np.sqrt(2) * (1 + _SWELL * swell) * np.sum(sines, axis=0), dtype=np.float64)


def _scaled(field: NDArray[np.float64], peak_ft: float) -> NDArray[np.float64]:
    """Scale a field to a largest absolute value over the magnetometers."""
    return field * peak_ft * FT / np.abs(field[magnetometers()]).max()
