"""Noise of the phantom's MEG: of the sensors and the brain, with its covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_courses import coloured, variance_of
from decoders.simulate.meg_head import (
    BRAIN_RADIUS_M,
    SPHERE_M,
    leadfield,
    magnetometers,
    meg_of,
    person_info,
    tangential,
    within_brain,
)
from decoders.simulate.streams import stream

FT = 1e-15
FT_PER_CM = 1e-13
# Sensor noise rises below this frequency as 1/f in power, as the drift of a SQUID and of the room does.
SENSOR_KNEE_HZ = 1.0
N_BRAIN, N_ALPHA, N_RHYTHMS = 200, 24, 3
NOISY = 20.0
_SENSOR_FLOOR_HZ, _BRAIN_FLOOR_HZ = 0.1, 0.5
_ALPHA_CENTRES_M = ((-0.025, -0.045, 0.075), (0.025, -0.045, 0.075))
_ALPHA_SPREAD_M, _ALPHA_WIDTH_HZ = 0.01, 0.8
_INNER_M = 0.03
_BEST_SHARE = 0.25
_BLOCK = 34
Dipoles = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Part:
    """A part of a recording: fields times time courses.

    Attributes
    ----------
    fields : array of shape (306, n)
        T or T/m per unit of a course.
    courses : array of shape (n, n_times)
    """

    fields: NDArray[np.float64]
    courses: NDArray[np.float64]

    @property
    def data(self) -> NDArray[np.float64]:
        """The part in the sensors, shape (306, n_times)."""
        return self.fields @ self.courses


def sensor_density(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power spectral density of sensor noise, 1 where it is white."""
    return 1 + SENSOR_KNEE_HZ / np.maximum(frequencies, _SENSOR_FLOOR_HZ)


def brain_density(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power spectral density of brain noise: 1/f, 1 at 10 Hz, flat below .5 Hz."""
    return 10 / np.maximum(frequencies, _BRAIN_FLOOR_HZ)


def white_levels(settings: PhantomSettings) -> NDArray[np.float64]:
    """Return the white noise of the 306 sensors in T/rtHz or T/m/rtHz."""
    return meg_of(settings).sensor_noise * np.where(magnetometers(), FT, FT_PER_CM)


def sensor_noise(settings: PhantomSettings, n_times: int, noisy: NDArray[np.int64], rng: np.random.Generator) -> Any:
    """Draw the noise of the sensors themselves, independent between them.

    Parameters
    ----------
    settings : PhantomSettings
    n_times : int
    noisy : array of int
        Sensors with 20 times the noise.
    rng : Generator

    Returns
    -------
    array of shape (306, n_times), float32
    """
    levels = white_levels(settings)
    levels[noisy] *= NOISY
    data = np.empty((len(levels), n_times), dtype=np.float32)
    for start in range(0, len(levels), _BLOCK):
        rows = levels[start : start + _BLOCK, None]
        data[start : start + _BLOCK] = rows * coloured(
            (len(rows), n_times), meg_of(settings).sfreq, sensor_density, rng
        )
    return data


def brain_noise(settings: PhantomSettings, info: Any, subject: int, n_times: int, rng: np.random.Generator) -> Part:
    """Draw the ongoing activity of 200 dipoles all over the brain, each 1/f."""
    fields = brain_fields(settings, info, subject)
    return Part(fields, coloured((N_BRAIN, n_times), meg_of(settings).sfreq, brain_density, rng))


def alpha_noise(settings: PhantomSettings, info: Any, subject: int, n_times: int, rng: np.random.Generator) -> Part:
    """Draw alpha: three rhythms that wax and wane, over occipital and parietal dipoles."""
    frequency = 10 + float(np.clip(stream(settings.seed, "meg alpha", subject).standard_normal(), -2, 2)) * 0.7

    def density(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        peak = np.exp(-(((frequencies - frequency) / _ALPHA_WIDTH_HZ) ** 2) / 2)
        return np.asarray(peak / (_ALPHA_WIDTH_HZ * np.sqrt(2 * np.pi)), dtype=np.float64)

    fields = alpha_fields(settings, info, subject)
    return Part(fields, coloured((N_RHYTHMS, n_times), meg_of(settings).sfreq, density, rng))


def brain_fields(settings: PhantomSettings, info: Any, subject: int) -> NDArray[np.float64]:
    """Return the fields of the brain's own noise at a density of 1, shape (306, 200)."""
    dipoles, scale = _brain(settings, subject)
    return leadfield(info, *dipoles) * scale


def alpha_fields(settings: PhantomSettings, info: Any, subject: int) -> NDArray[np.float64]:
    """Return the fields of the alpha rhythms at a variance of 1, shape (306, 3)."""
    dipoles, mixture = _alpha(settings, subject)
    return leadfield(info, *dipoles) @ mixture


@lru_cache(maxsize=32)
def noise_covariance(settings: PhantomSettings, subject: int) -> NDArray[np.float64]:
    """Return the covariance of a sample of noise of sensors and brain, where the person's head rests.

    Returns
    -------
    array of shape (306, 306)
        Without eyes, heart and mains, and without bad sensors.
    """
    sfreq, info = meg_of(settings).sfreq, person_info(settings, subject)
    brain, alpha = brain_fields(settings, info, subject), alpha_fields(settings, info, subject)
    own = white_levels(settings) ** 2 * variance_of(sensor_density, sfreq)
    return np.diag(own) + brain @ brain.T * variance_of(brain_density, sfreq) + alpha @ alpha.T


@lru_cache(maxsize=32)
def _brain(settings: PhantomSettings, subject: int) -> tuple[Dipoles, float]:
    """Draw the dipoles of brain noise, and their size in Am: the median over magnetometers is that of the settings."""
    rng = stream(settings.seed, "meg brain", subject)
    out = rng.standard_normal((N_BRAIN, 3))
    # Upper part of the head: below it lies no brain.
    out[:, 2] = np.maximum(out[:, 2], -0.6 * np.hypot(out[:, 0], out[:, 1]))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    places = SPHERE_M + out * rng.uniform(_INNER_M, BRAIN_RADIUS_M, (N_BRAIN, 1))
    dipoles = places, tangential(places, rng.uniform(0, 2 * np.pi, N_BRAIN))
    fields = leadfield(person_info(settings, subject), *dipoles)[magnetometers()]
    return dipoles, meg_of(settings).brain_noise * FT / float(np.median(np.linalg.norm(fields, axis=1)))


@lru_cache(maxsize=32)
def _alpha(settings: PhantomSettings, subject: int) -> tuple[Dipoles, NDArray[np.float64]]:
    """Draw the dipoles of alpha, and their moments in Am per rhythm, shape (24, 3)."""
    rng = stream(settings.seed, "meg alpha dipoles", subject)
    centres = np.repeat(_ALPHA_CENTRES_M, N_ALPHA // len(_ALPHA_CENTRES_M), axis=0)
    places = within_brain(centres + rng.normal(0, _ALPHA_SPREAD_M, (N_ALPHA, 3)))
    dipoles = places, tangential(places, rng.normal(0, 0.7, N_ALPHA))
    mixture = rng.standard_normal((N_ALPHA, N_RHYTHMS))
    fields = leadfield(person_info(settings, subject), *dipoles)[magnetometers()] @ mixture
    best = np.sort((fields**2).sum(axis=1))[-int(_BEST_SHARE * len(fields)) :]
    return dipoles, mixture * meg_of(settings).alpha * FT / float(np.sqrt(best.mean()))
