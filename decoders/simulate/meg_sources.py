"""Planted sources: patches of dipoles, when they answer, and what their patterns say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_courses import raised_cosine
from decoders.simulate.meg_head import leadfield, meg_of, person_info, tangential, within_brain
from decoders.simulate.meg_noise import noise_covariance
from decoders.simulate.streams import stream

_BEST_SHARE = 0.25


@dataclass(frozen=True)
class Patch:
    """A source: dipoles around one or two centres, and the time course of their answer.

    Attributes
    ----------
    name, geometry : str
        Geometry is what the pattern over its dipoles says.
    centres : tuple of (float, float, float)
        Head coordinates in metres: right, front, up.
    radius_m : float
        Dipoles lie within this ball around a centre.
    onset_s, peak_s, end_s : float
        Seconds after the event: the answer is zero until the onset and after the end.
    n_dimensions : int
        Independent patterns over its dipoles; 0 for one that says only that something happened.
    shared : float
        Size of the response that all events share, in `evoked_snr`.
    """

    name: str
    geometry: str
    centres: tuple[tuple[float, float, float], ...]
    radius_m: float
    onset_s: float
    peak_s: float
    end_s: float
    n_dimensions: int
    shared: float


# Of pictures: pixels at the back of the brain, categories farther forward and lower, as the fMRI regions are.
VISUAL = Patch("visual", "pixel", ((-0.02, -0.065, 0.045), (0.02, -0.065, 0.045)), 0.018, 0.065, 0.1, 0.22, 8, 1.0)
VENTRAL = Patch("ventral", "category", ((-0.04, -0.05, 0.0), (0.04, -0.05, 0.0)), 0.018, 0.12, 0.17, 0.35, 5, 0.7)
# Of words: that one begins, how loud speech is, and what it means.
AUDITORY = Patch("auditory", "word_rate", ((-0.055, 0.0, 0.05), (0.055, 0.0, 0.05)), 0.01, 0.055, 0.1, 0.2, 0, 0.35)
ENVELOPE = Patch(
    "envelope", "envelope", ((-0.055, -0.01, 0.055), (0.055, -0.01, 0.055)), 0.01, 0.04, 0.08, 0.16, 0, 0.3
)
TEMPORAL = Patch("temporal", "embedding", ((-0.06, -0.005, 0.025),), 0.022, 0.25, 0.4, 0.65, 6, 0.3)
PATCHES = {"pictures": (VISUAL, VENTRAL), "story": (AUDITORY, ENVELOPE, TEMPORAL)}
_DIPOLES = 16


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


@lru_cache(maxsize=32)
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
    info = person_info(settings, subject)
    whitener = np.linalg.inv(np.linalg.cholesky(noise_covariance(settings, subject)))
    return tuple(_draw_source(settings, patch, subject, info, whitener) for patch in PATCHES[task])


def _draw_source(
    settings: PhantomSettings, patch: Patch, subject: int, info: object, whitener: NDArray[np.float64]
) -> Source:
    rng = stream(settings.seed, "meg source", patch.name, subject)
    meg = meg_of(settings)
    places = np.concatenate([_ball(centre, patch.radius_m, _DIPOLES, rng) for centre in patch.centres])
    # The two hemispheres point the same way up to a spread: fields of a sheet that is folded.
    directions = tangential(places, rng.normal(0, 0.7, len(places)))
    field = whitener @ leadfield(info, places, directions)
    jitter = float(np.clip(rng.standard_normal(), -2, 2)) * meg.jitter_s
    shared = np.ones(len(places)) / _best_rms(field.sum(axis=1))
    weights = _orthogonal(field, patch.n_dimensions, rng)
    size = meg.story_snr if patch in PATCHES["story"] else meg.geometry_snr
    common = 0.0 if meg.null == "response" else patch.shared * meg.evoked_snr
    return Source(
        patch,
        places,
        directions,
        patch.onset_s + jitter,
        patch.peak_s + jitter,
        patch.end_s + jitter,
        common * shared,
        (0.0 if meg.null else size) * weights,
    )


def _ball(centre: Sequence[float], radius: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw places within a ball and the brain."""
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return within_brain(np.asarray(centre) + radius * direction * rng.random((n, 1)) ** (1 / 3))


def _orthogonal(field: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return weights whose fields are orthogonal and of unit norm: the n strongest patterns, turned at random."""
    _, size, patterns = np.linalg.svd(field, full_matrices=False)
    turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return patterns[:n].T / size[:n] @ turn


def _best_rms(field: NDArray[np.float64]) -> float:
    """Return the root mean square over the quarter of the sensors where a field is strongest."""
    best = np.sort(np.abs(field))[-int(_BEST_SHARE * len(field)) :]
    return float(np.sqrt(np.mean(best**2)))
