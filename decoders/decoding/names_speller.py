"""The character speller on category names: leave one run out, and how stable its voxel gate is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.config import NamesSettings
from decoders.decoding.names import Samples, folds_of
from decoders.decoding.speller_fit import SpellerOptions, answers, cross_fitted_gate, fit_speller
from decoders.decoding.trie import build_trie
from decoders.errors import InputError
from decoders.stats.splits import Split

_TOP_SHARE = 0.25  # voxels compared by Dice: the most open quarter


@dataclass(frozen=True)
class SpellerResult:
    """What the speller says of each run after training on the others.

    Attributes
    ----------
    decisions : array of shape (n_volumes, n_names)
        Log-probability of every name.
    volume_text, block_text : list of str
        What it spells, character by character, from each volume and from each block.
    openness : array of shape (n_folds, V)
        m of each voxel.
    nats : array of shape (n_folds,)
        Upper bound of the information that all voxels pass per volume.
    """

    decisions: NDArray[np.float64]
    volume_text: list[str]
    block_text: list[str]
    openness: NDArray[np.float64]
    nats: NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of two gate maps: Spearman's rho of m, and Dice of the most open quarter (chance .25)."""

    rho: float
    dice: float


def speller_options(settings: NamesSettings, mask: NDArray[np.bool_] | int) -> SpellerOptions:
    """Return the speller's options; regions have no grid, so they take the linear front end without smoothing.

    Raises
    ------
    InputError
        A 3D-CNN is asked for where there is no grid.
    """
    grid = not isinstance(mask, int)
    if not grid and settings.head != "linear":
        remedy = "Set decoding.names.head: linear."
        raise InputError("voxels on a grid for a 3D-CNN", "features without a grid", "decoding.names.head", remedy)
    return SpellerOptions(
        bottleneck=settings.bottleneck,
        epochs=settings.epochs,
        head=settings.head,
        sigma_voxels=settings.sigma_voxels if grid else 0.0,
        folds=settings.gate_folds,
    )


def leave_one_run_out(
    samples: Samples,
    labels: NDArray[np.int64],
    mask: NDArray[np.bool_] | int,
    options: SpellerOptions,
    seed: int,
    folds: Sequence[Split] | None = None,
) -> SpellerResult:
    """Train one speller per left-out run on volumes and let it spell that run.

    Parameters
    ----------
    samples : Samples
    labels : array of int of shape (n_volumes,)
        Those of `samples`, or shuffled ones.
    mask : array of shape (x, y, z), bool, or int
    options : SpellerOptions
    seed : int
        The fold's number is added to it.
    folds : sequence of Split, optional
        Of `decoders.decoding.names.folds_of`.
    """
    decisions = np.empty((len(labels), len(samples.names)))
    volume_text, block_text = [""] * len(labels), [""] * len(samples.first)
    blocks = samples.block[samples.first]
    openness, nats = [], []
    for number, fold in enumerate(folds or folds_of(samples)):
        train, test = fold.train, fold.test
        given = (samples.x[train], labels[train], mask, build_trie(samples.names), options, seed + number)
        model = fit_speller(*given, samples.run[train])
        decisions[test], volumes, spelled = answers(model, samples.x[test], samples.block[test])
        _fill(volume_text, test, volumes)
        _fill(block_text, np.searchsorted(blocks, np.unique(samples.block[test])), spelled)
        openness.append(model.gate.m().detach().double().numpy())
        nats.append(model.gate.information_bound().item())
    return SpellerResult(decisions, volume_text, block_text, np.stack(openness), np.array(nats))


def _fill(texts: list[str], places: NDArray[np.int64], written: list[str]) -> None:
    for place, text in zip(places, written, strict=True):
        texts[place] = text


def half_split_agreement(
    samples: Samples, labels: NDArray[np.int64], mask: NDArray[np.bool_] | int, options: SpellerOptions, seed: int
) -> Agreement:
    """Train on the even and on the odd runs, and compare the gates.

    The halves share no run: gates of leave-one-run-out folds agree even with shuffled labels. Smoothing
    alone raises agreement, so the value means something beside that of shuffled labels only.
    """
    even = np.isin(samples.run, np.unique(samples.run)[::2])
    trie = build_trie(samples.names)
    maps = []
    for number, half in enumerate((even, ~even)):
        given = (samples.x[half], labels[half], mask, trie, options, seed + number, samples.run[half])
        gate = cross_fitted_gate(*given) if options.folds else fit_speller(*given).gate
        maps.append(gate.m().detach().double().numpy())
    return agreement(*maps)


def agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> Agreement:
    """Compare two maps (V,) by rank and by their top quarter."""
    from scipy.stats import spearmanr

    count = max(1, round(_TOP_SHARE * len(first)))
    tops = [set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (first, second)]
    return Agreement(float(spearmanr(first, second).statistic), len(tops[0] & tops[1]) / count)
