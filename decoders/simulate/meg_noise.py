"""Noise of the phantom's MEG: of the sensors and the brain, with its covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_courses import coloured, variance_of
from decoders.simulate.meg_dipoles import dipole_fields
from decoders.simulate.meg_head import magnetometers, meg_of
from decoders.simulate.streams import stream

FT = 1e-15
FT_PER_CM = 1e-13
# Sensor noise rises below this frequency as 1/f in power, as the drift of a SQUID and of the room does.
SENSOR_KNEE_HZ = 1.0
N_RHYTHMS = 3
NOISY = 20.0
_SENSOR_FLOOR_HZ, _BRAIN_FLOOR_HZ = 0.1, 0.5
_ALPHA_WIDTH_HZ = 0.8
_BEST_SHARE = 0.25
_BLOCK = 34


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


def brain_noise(settings: PhantomSettings, subject: int, run: str, n_times: int, rng: np.random.Generator) -> Part:
    """Draw the ongoing activity of 200 dipoles all over the brain, each 1/f."""
    fields = brain_fields(settings, subject, run)
    return Part(fields, coloured((fields.shape[1], n_times), meg_of(settings).sfreq, brain_density, rng))


def alpha_noise(settings: PhantomSettings, subject: int, run: str, n_times: int, rng: np.random.Generator) -> Part:
    """Draw alpha: three rhythms that wax and wane, over occipital and parietal dipoles."""
    frequency = 10 + float(np.clip(stream(settings.seed, "meg alpha", subject).standard_normal(), -2, 2)) * 0.7

    def density(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        peak = np.exp(-(((frequencies - frequency) / _ALPHA_WIDTH_HZ) ** 2) / 2)
        return np.asarray(peak / (_ALPHA_WIDTH_HZ * np.sqrt(2 * np.pi)), dtype=np.float64)

    fields = alpha_fields(settings, subject, run)
    return Part(fields, coloured((fields.shape[1], n_times), meg_of(settings).sfreq, density, rng))


def brain_fields(settings: PhantomSettings, subject: int, run: str | None = None) -> NDArray[np.float64]:
    """Return the fields of the brain's own noise at a density of 1, shape (306, 200)."""
    rest = dipole_fields(settings, subject)["brain"][magnetometers()]
    scale = meg_of(settings).brain_noise * FT / float(np.median(np.linalg.norm(rest, axis=1)))
    return dipole_fields(settings, subject, run)["brain"] * scale


def alpha_fields(settings: PhantomSettings, subject: int, run: str | None = None) -> NDArray[np.float64]:
    """Return the fields of the alpha rhythms at a variance of 1, shape (306, 3)."""
    rest = dipole_fields(settings, subject)["alpha"]
    mixture = stream(settings.seed, "meg rhythms", subject).standard_normal((rest.shape[1], N_RHYTHMS))
    power = ((rest[magnetometers()] @ mixture) ** 2).sum(axis=1)
    best = np.sort(power)[-int(_BEST_SHARE * len(power)) :]
    scale = meg_of(settings).alpha * FT / float(np.sqrt(best.mean()))
    return dipole_fields(settings, subject, run)["alpha"] @ mixture * scale


@lru_cache(maxsize=64)
def noise_covariance(settings: PhantomSettings, subject: int) -> NDArray[np.float64]:
    """Return the covariance of a sample of noise of sensors and brain, where the person's head rests.

    Returns
    -------
    array of shape (306, 306)
        Without eyes, heart and mains, and without bad sensors.
    """
    sfreq = meg_of(settings).sfreq
    brain, alpha = brain_fields(settings, subject), alpha_fields(settings, subject)
    own = white_levels(settings) ** 2 * variance_of(sensor_density, sfreq)
    return np.diag(own) + brain @ brain.T * variance_of(brain_density, sfreq) + alpha @ alpha.T
