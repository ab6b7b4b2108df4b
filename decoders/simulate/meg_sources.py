"""Planted sources of the phantom's MEG: when they answer, and what their patterns say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_courses import raised_cosine
from decoders.simulate.meg_dipoles import PATCHES, Dipoles, Patch, dipole_fields, draw_dipoles
from decoders.simulate.meg_head import meg_of
from decoders.simulate.meg_noise import noise_covariance
from decoders.simulate.streams import stream

_BEST_SHARE = 0.25


@dataclass(frozen=True)
class Source:
    """A patch in one person's head.

    Attributes
    ----------
    patch : Patch
    places, directions : array of shape (n_dipoles, 3)
        Head coordinates in metres, and unit vectors.
    onset_s, peak_s, end_s : float
        With the person's own jitter.
    shared : array of shape (n_dipoles,)
        Moments in Am at the peak of the response that all events share.
    weights : array of shape (n_dipoles, n_dimensions)
        Moments in Am at the peak per unit of each dimension.
    """

    patch: Patch
    places: NDArray[np.float64]
    directions: NDArray[np.float64]
    onset_s: float
    peak_s: float
    end_s: float
    shared: NDArray[np.float64]
    weights: NDArray[np.float64]

    def course(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the time course at seconds after the event: 0 at the onset, 1 at the peak."""
        return raised_cosine(seconds, self.onset_s, self.peak_s, self.end_s)


@lru_cache(maxsize=64)
def draw_sources(settings: PhantomSettings, task: str, subject: int) -> tuple[Source, ...]:
    """Draw a person's planted sources.

    Parameters
    ----------
    settings : PhantomSettings
        With its block `meg`.
    task : {"pictures", "story"}
    subject : int

    Returns
    -------
    tuple of Source
        In sensors that are whitened by the covariance of the person's noise, where the head rests, the dimensions of a
        source are orthogonal and of equal size: distances there are those of the geometry. Which pattern stands for
        which dimension is drawn anew for each person.
    """
    covariance, fields = noise_covariance(settings, subject), dipole_fields(settings, subject)
    dipoles = draw_dipoles(settings, subject)
    noise = np.sqrt(np.diag(covariance))
    whitener = np.linalg.inv(np.linalg.cholesky(covariance / np.outer(noise, noise))) / noise
    return tuple(
        _source(settings, patch, subject, dipoles[patch.name], fields[patch.name], noise, whitener)
        for patch in PATCHES[task]
    )


def _source(
    settings: PhantomSettings,
    patch: Patch,
    subject: int,
    dipoles: Dipoles,
    field: NDArray[np.float64],
    noise: NDArray[np.float64],
    whitener: NDArray[np.float64],
) -> Source:
    meg, rng = meg_of(settings), stream(settings.seed, "meg source", patch.name, subject)
    latencies = np.array([patch.onset_s, patch.peak_s, patch.end_s])
    latencies += meg.jitter_s * float(np.clip(rng.standard_normal(), -2, 2))
    shared = np.ones(field.shape[1]) / _best_rms(field.sum(axis=1) / noise)
    weights = _orthogonal(whitener @ field, patch.n_dimensions, rng)
    size = meg.story_snr if patch in PATCHES["story"] else meg.geometry_snr
    onset, peak, end = (float(latency) for latency in latencies)
    return Source(
        patch,
        dipoles[0],
        dipoles[1],
        onset,
        peak,
        end,
        (0.0 if meg.null == "response" else patch.shared * meg.evoked_snr) * shared,
        (0.0 if meg.null else size) * weights,
    )


def _orthogonal(field: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return weights whose fields are orthogonal and of unit norm: the n strongest patterns, turned at random."""
    _, size, patterns = np.linalg.svd(field, full_matrices=False)
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return patterns[:n].T / size[:n] @ turn


def _best_rms(field: NDArray[np.float64]) -> float:
    """Return the root mean square over the quarter of the sensors where a field is strongest."""
    best = np.sort(np.abs(field))[-int(_BEST_SHARE * len(field)) :]
    return float(np.sqrt(np.mean(best**2)))
