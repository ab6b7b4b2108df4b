"""What is known of other people and of a new one: runs, texts and voxel gates on a common grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from decoders.config import VoxelMapSettings
from decoders.decoding.across_align import pieces
from decoders.decoding.bottleneck import GatePrior, null_pairing, paired, train_gate

Floats = NDArray[np.floating]
Moment = tuple[str, float, int]
"""What a run tells: the stimulus, seconds into it at the first volume, and the number of volumes."""


@dataclass(frozen=True)
class Person:
    """Training runs of one person on the common grid.

    Attributes
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        One per run, z-scored per run.
    targets : sequence of array of shape (n_volumes, n_targets)
        Text features.
    told : sequence of (stimulus, start, n_volumes)
    voxels : array of int
        Selected by the person's gate.
    """

    x: Sequence[Floats]
    targets: Sequence[Floats]
    told: Sequence[Moment]
    voxels: NDArray[np.int64]

    def first(self, n: int) -> Person:
        """Return the first runs."""
        return replace(self, x=self.x[:n], targets=self.targets[:n], told=self.told[:n])

    def with_null_text(self, rng: np.random.Generator) -> Person:
        """Return the same recordings with the texts of other runs, rolled in time."""
        return replace(self, targets=paired(self.targets, null_pairing([len(run) for run in self.x], rng)))


@dataclass(frozen=True)
class Common:
    """What holds for all people.

    Attributes
    ----------
    mask : array of shape (x, y, z), bool
        The grid that all share.
    tr : float
    lags : tuple of int
        Volumes after the text that answer to it.
    folds : int
        Inner folds over runs.
    """

    mask: NDArray[np.bool_]
    tr: float
    lags: tuple[int, ...]
    folds: int


@dataclass(frozen=True)
class Gates:
    """Gate maps of a new person, each of shape (n_voxels,).

    Attributes
    ----------
    prior : array
        Mean logits of the others.
    alone : array or None
        From the given runs alone; None without any.
    found : array
        From the given runs, started from and pulled to the prior; the prior itself without any.
    """

    prior: Floats
    alone: Floats | None
    found: Floats


def few_shot_gates(
    new: Person, prior: Floats, common: Common, settings: VoxelMapSettings, pull: float, seed: int,
    alone: Floats | None = None,
) -> Gates:  # fmt: skip
    """Train gates of a new person on the given runs, with and without what the others' gates say.

    Parameters
    ----------
    new : Person
        The given runs; a single one is cut in two, for the cross-fit.
    prior : array of shape (n_voxels,)
    common : Common
    settings : VoxelMapSettings
    pull : float
        Weight of the pull to the prior, divided here by the number of runs.
    seed : int
    alone : array of shape (n_voxels,), optional
        The gate without the prior, where it is there already.
    """
    if not new.x:
        return Gates(prior, None, prior)
    x, targets = pieces(new.x, 2), pieces(new.targets, 2)
    settings = settings.model_copy(update={"folds": min(settings.folds, len(x))})

    def trained(weight: GatePrior | None) -> Floats:
        return train_gate(x, targets, common.mask, settings, common.tr, seed, prior=weight).logits

    return Gates(prior, trained(None) if alone is None else alone, trained(GatePrior(prior, pull / len(new.x))))


def shared_rows(people: Sequence[Person]) -> list[list[int]]:
    """Return for each person the numbers of the runs that all of them heard, in one order.

    Empty lists where there is no such run.
    """
    first, *others = (list(person.told) for person in people)
    common = [moment for moment in dict.fromkeys(first) if all(moment in told for told in others)]
    return [[list(person.told).index(moment) for moment in common] for person in people]


def smooth_rows(values: Floats, mask: NDArray[np.bool_], sigma: float) -> Floats:
    """Smooth maps by a Gaussian within the mask, as `maps.smooth_in_mask` does one.

    Parameters
    ----------
    values : array of shape (n_maps, n_voxels)
    mask : array of shape (x, y, z), bool
    sigma : float
        In voxels.

    Returns
    -------
    array of shape (n_maps, n_voxels), float32
    """
    from scipy.ndimage import gaussian_filter

    volumes = np.zeros((len(values), *mask.shape), dtype=np.float32)
    volumes[:, mask] = values
    weight = gaussian_filter(mask.astype(float), sigma, mode="constant")[mask]
    smoothed = gaussian_filter(volumes, (0, sigma, sigma, sigma), mode="constant")[:, mask]
    return (smoothed / weight).astype(np.float32)


def smooth_run(run: Floats, mask: NDArray[np.bool_], sigma: float) -> Floats:
    """Smooth the volumes of a run in space and z-score its voxels again."""
    smoothed = smooth_rows(run, mask, sigma)
    return (smoothed - smoothed.mean(0)) / np.maximum(smoothed.std(0), 1e-6)
