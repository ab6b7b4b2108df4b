"""Where the dipoles of the phantom's MEG lie: planted patches, the rest of the brain, the eyes; and their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_head import BRAIN_RADIUS_M, SPHERE_M, leadfield, person_info, tangential, within_brain
from decoders.simulate.streams import stream

N_BRAIN, N_ALPHA, N_PATCH = 200, 24, 16
_INNER_M = 0.03
_ALPHA_CENTRES_M, _ALPHA_SPREAD_M = ((-0.025, -0.045, 0.075), (0.025, -0.045, 0.075)), 0.01
_EYES_M = np.array([[-0.032, 0.08, 0.012], [0.032, 0.08, 0.012]])
# Currents of a patch point along the sphere, this far from its own direction (radians): the cortex is folded.
_FOLDS = 0.7
Dipoles = tuple[NDArray[np.float64], NDArray[np.float64]]


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


@lru_cache(maxsize=64)
def draw_dipoles(settings: PhantomSettings, subject: int) -> dict[str, Dipoles]:
    """Draw all dipoles of a person: places (n, 3) in head coordinates in metres, and unit vectors (n, 3).

    Returns
    -------
    dict of str to (array, array)
        One entry per planted source, "brain", "alpha" and "eyes".
    """
    planted = {patch.name: _patch(settings, patch, subject) for patches in PATCHES.values() for patch in patches}
    return {
        **planted, "brain": _brain(settings, subject), "alpha": _alpha(settings, subject), "eyes": _eyes()
    }  # fmt: skip


@lru_cache(maxsize=8)
def dipole_fields(settings: PhantomSettings, subject: int, run: str | None = None) -> dict[str, NDArray[np.float64]]:
    """Return the fields of a person's dipoles in one run, or where the head rests: T or T/m per Am, (306, n) each."""
    dipoles = draw_dipoles(settings, subject)
    # One forward solution for all: they are linear, and it is the overhead that costs.
    places, directions = (np.concatenate([both[i] for both in dipoles.values()]) for i in range(2))
    fields = leadfield(person_info(settings, subject, run), places, directions)
    ends = np.cumsum([len(places) for places, _ in dipoles.values()])
    return dict(zip(dipoles, np.split(fields, ends[:-1], axis=1), strict=True))


def _patch(settings: PhantomSettings, patch: Patch, subject: int) -> Dipoles:
    rng = stream(settings.seed, "meg patch", patch.name, subject)
    places = np.concatenate([_ball(centre, patch.radius_m, N_PATCH, rng) for centre in patch.centres])
    return places, tangential(places, rng.normal(0, _FOLDS, len(places)))


def _brain(settings: PhantomSettings, subject: int) -> Dipoles:
    rng = stream(settings.seed, "meg brain", subject)
    out = rng.standard_normal((N_BRAIN, 3))
    # Upper part of the head: below it lies no brain.
    out[:, 2] = np.maximum(out[:, 2], -0.6 * np.hypot(out[:, 0], out[:, 1]))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    places = SPHERE_M + out * rng.uniform(_INNER_M, BRAIN_RADIUS_M, (N_BRAIN, 1))
    return places, tangential(places, rng.uniform(0, 2 * np.pi, N_BRAIN))


def _alpha(settings: PhantomSettings, subject: int) -> Dipoles:
    rng = stream(settings.seed, "meg alpha dipoles", subject)
    centres = np.repeat(_ALPHA_CENTRES_M, N_ALPHA // len(_ALPHA_CENTRES_M), axis=0)
    places = within_brain(centres + rng.normal(0, _ALPHA_SPREAD_M, (N_ALPHA, 3)))
    return places, tangential(places, rng.normal(0, _FOLDS, N_ALPHA))


def _eyes() -> Dipoles:
    """Return both eyes: currents of a blink run upwards along the sphere."""
    out = (_EYES_M - SPHERE_M) / np.linalg.norm(_EYES_M - SPHERE_M, axis=1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0]) - out[:, 2:] * out
    return _EYES_M, up / np.linalg.norm(up, axis=1, keepdims=True)


def _ball(centre: Sequence[float], radius: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw places within a ball and the brain."""
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return within_brain(np.asarray(centre) + radius * direction * rng.random((n, 1)) ** (1 / 3))
