"""The picture task of the phantom: pictures, their planted regions, and the recordings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate.brain import Brain, brain_mask, draw_r, grow_sites, scale_of
from decoders.simulate.shapes import PICTURE_PX, ROUND, SHAPES, TEXTURES, draw_look, render
from decoders.simulate.story import TR_S, recorded
from decoders.simulate.streams import stream
from decoders.stimuli.hrf import GRID_HZ, convolve_events

REGIONS = ("early", "late")
# Centres of the regions in coordinates from -1 to 1: early at the back, late farther forward and lower.
_CENTRES = ((0.0, -0.7, 0.1), (0.25, -0.1, -0.4))
REGION_SHARE = 0.05
REPEATS = 2
DURATION_S = 1.0
# Onsets are 3, 4 or 5 s apart: varied gaps let overlapping responses be told apart.
_GAPS_S = (3.0, 4.0, 5.0)
_LEAD_S, _TAIL_S = 4.0, 14.0
_SAMPLES_PX = 8
N_TRAIN, N_TEST = 200, 50


@dataclass(frozen=True)
class PictureSet:
    """The pictures that are shown.

    Attributes
    ----------
    pictures : array of shape (n, 64, 64, 3), uint8
    names : tuple of str
        Category and number, e.g. "disc01".
    categories : tuple of str
    """

    pictures: NDArray[np.uint8]
    names: tuple[str, ...]
    categories: tuple[str, ...]

    def labels(self) -> pd.DataFrame:
        """Return stimulus, file (relative to the folder stimuli), category, and one 0/1 column per category model."""
        files = [f"pictures/{name}.png" for name in self.names]
        table = pd.DataFrame({"stimulus": self.names, "file": files, "category": self.categories})
        table["round"] = [int(category in ROUND) for category in self.categories]
        for shape in SHAPES:
            table[shape] = [int(category == shape) for category in self.categories]
        return table


@dataclass(frozen=True)
class PictureBrain:
    """The picture regions of one person.

    Attributes
    ----------
    brain : Brain
        Its site is the number of the region in `REGIONS`; its weights are empty.
    patterns : array of shape (n_pictures, n_planted)
        Response of each planted voxel to each picture.
    """

    brain: Brain
    patterns: NDArray[np.float64]


def draw_pictures(settings: PhantomSettings) -> PictureSet:
    """Draw the picture set: shapes in turn, so that any number is spread over both families."""
    rng = stream(settings.seed, "pictures")
    categories = [list(SHAPES)[i % len(SHAPES)] for i in range(settings.n_pictures)]
    # One step further with each round of shapes: texture tells nothing of the shape.
    looks = [draw_look(TEXTURES[(i // len(SHAPES) + i) % len(TEXTURES)], rng) for i in range(settings.n_pictures)]
    pictures = np.stack([render(shape, look) for shape, look in zip(categories, looks, strict=True)])
    names = tuple(f"{category}{i // len(SHAPES) + 1:02d}" for i, category in enumerate(categories))
    return PictureSet(pictures, names, tuple(categories))


def training_pictures(settings: PhantomSettings) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yield file (relative to the folder stimuli), split and picture of the training set of the networks.

    200 training and 50 test pictures per shape, drawn apart from those that are shown.
    """
    for shape in SHAPES:
        rng = stream(settings.seed, "training", shape)
        for index in range(N_TRAIN + N_TEST):
            look = draw_look(TEXTURES[rng.integers(len(TEXTURES))], rng)
            split = "train" if index < N_TRAIN else "test"
            yield f"training/{shape}/{index + 1:04d}.png", split, render(shape, look)


def picture_features(shown: PictureSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the regions code, one row of unit norm per picture.

    Returns
    -------
    early : array of shape (n_pictures, 192)
        The picture at 8x8 pixels in RGB, mean removed: inner products are pixel correlations.
    late : array of shape (n_pictures, 8)
        Family and shape: inner product 1 within a shape, .5 within a family, 0 across.
    """
    block = PICTURE_PX // _SAMPLES_PX
    blocks = shown.pictures.reshape(-1, _SAMPLES_PX, block, _SAMPLES_PX, block, 3)
    small = blocks.mean(axis=(2, 4)).reshape(len(shown.names), -1)
    small = small - small.mean(axis=1, keepdims=True)
    family = np.array([[c in ROUND, c not in ROUND] for c in shown.categories], dtype=float)
    shape = np.array([[c == s for s in SHAPES] for c in shown.categories], dtype=float)
    return small / np.linalg.norm(small, axis=1, keepdims=True), np.hstack([family, shape]) * np.sqrt(0.5)


def draw_picture_brain(settings: PhantomSettings, shown: PictureSet, subject: int = 0) -> PictureBrain:
    """Draw a person's regions, and random weights of their voxels on what the regions code.

    The geometry is shared by all people, the weights are not: RDMs agree where patterns do not.
    """
    mask = brain_mask(settings.grid)
    voxels = np.argwhere(mask).astype(float)
    size = scale_of(settings.grid)
    half = (np.array(settings.grid) - 1) / 2
    rng = stream(settings.seed, "picture brain", subject)
    centres = half + np.array(_CENTRES) * half + rng.uniform(-1, 1, (len(REGIONS), 3)) * size
    per_region = int(REGION_SHARE * len(voxels))
    if per_region < 2:
        expected = f"a grid whose mask has at least {round(2 / REGION_SHARE)} voxels"
        raise InputError(expected, f"{len(voxels)}", "data.phantom.grid", "Choose a larger grid.")
    site = grow_sites(voxels, centres, per_region, 1.2 * size, rng)
    chosen = site[site >= 0]
    patterns = np.zeros((len(shown.names), len(chosen)))
    for region, code in enumerate(picture_features(shown)):
        here = chosen == region
        patterns[:, here] = code @ rng.standard_normal((code.shape[1], int(here.sum())))
    return PictureBrain(Brain(mask, site, np.zeros((len(chosen), 0)), draw_r(settings.r0, len(chosen), rng)), patterns)


def picture_events(settings: PhantomSettings, shown: PictureSet, subject: int, run: int) -> pd.DataFrame:
    """Draw the order and the onsets of a run: each picture twice, never the same twice in a row.

    Returns
    -------
    DataFrame
        Columns onset, duration (seconds), trial_type (name of the picture), stim_file.
    """
    rng = stream(settings.seed, "picture order", subject, run)
    indices = picture_order(len(shown.names), REPEATS, rng)
    gaps = rng.permutation(np.resize(_GAPS_S, len(indices)))
    onset = _LEAD_S + np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    names = [shown.names[i] for i in indices]
    files = [f"pictures/{name}.png" for name in names]
    return pd.DataFrame({"onset": onset, "duration": DURATION_S, "trial_type": names, "stim_file": files})


def picture_order(n_pictures: int, repeats: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an order of pictures: each once per block, never twice in a row; shape (n_pictures * repeats,)."""
    first, *others = (rng.permutation(n_pictures) for _ in range(repeats))
    order = [first]
    for block in others:
        order.append(np.roll(block, -1) if block[0] == order[-1][-1] else block)
    return np.concatenate(order)


def picture_volumes(settings: PhantomSettings) -> int:
    """Return the volumes of a picture run: all gaps, and time for the last response."""
    n_events = REPEATS * settings.n_pictures
    return int(np.ceil((_LEAD_S + np.resize(_GAPS_S, n_events).sum() + _TAIL_S) / TR_S))


def picture_series(
    settings: PhantomSettings, shown: PictureSet, person: PictureBrain, events: pd.DataFrame, subject: int, run: int
) -> NDArray[np.float64]:
    """Return one run as signal, noise and drift, in units of the noise's standard deviation.

    Returns
    -------
    array of shape (n_volumes, n_voxels)
    """
    times = TR_S * np.arange(picture_volumes(settings), dtype=np.float64)
    rows = {name: i for i, name in enumerate(shown.names)}
    responses = person.patterns[[rows[name] for name in events["trial_type"]]]
    bins = np.arange(round(DURATION_S * GRID_HZ)) / GRID_HZ
    seconds = (events["onset"].to_numpy()[:, None] + bins).ravel()
    signal = convolve_events(seconds, np.repeat(responses, len(bins), axis=0), times)
    rng = stream(settings.seed, "pictures", subject, run)
    return recorded(settings, person.brain, signal, rng)
