"""Held-out correlations of kernels with the responses of every subject and region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.encoding.folds import Block
from decoders.alignment.encoding.solver import ONE_BAND, predict

VOXELS, MEAN = "encoding_r", "encoding_r_region_mean"
Owner = tuple[str, str, str]
"""Subject, region, measure."""


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of all subjects and regions, folds of the same stimuli joined, since they share one model.

    Attributes
    ----------
    owners : list of (subject, region, measure)
        `encoding_r` is the mean over voxels of their correlations, `encoding_r_region_mean` the correlation of the
        voxels' mean.
    blocks : list of Block
    owner : list of array of int
        Per block, the owner of each target.
    """

    owners: list[Owner]
    blocks: list[Block]
    owner: list[NDArray[np.int64]]


def join(found: Mapping[tuple[str, str], Sequence[Block]]) -> Responses:
    """Join the blocks of all subjects and regions, and add the mean over voxels as a target."""
    owners: list[Owner] = []
    pieces: dict[tuple[bytes, bytes], list[tuple[Block, NDArray[np.int64]]]] = {}
    for (subject, region), blocks in found.items():
        for block in blocks:
            labels = np.append(np.full(block.train.shape[1], len(owners)), len(owners) + 1)
            key = (block.fold.train.tobytes(), block.fold.test.tobytes())
            pieces.setdefault(key, []).append((_with_mean(block), labels))
        owners += [(subject, region, VOXELS), (subject, region, MEAN)]
    joined, owner = [], []
    for same in pieces.values():
        parts = [block for block, _ in same]
        train, test = (np.hstack([getattr(part, side) for part in parts]) for side in ("train", "test"))
        joined.append(Block(parts[0].fold, train, test))
        owner.append(np.concatenate([labels for _, labels in same]))
    return Responses(owners, joined, owner)


def _with_mean(block: Block) -> Block:
    train, test = (np.column_stack([side, side.mean(axis=1)]) for side in (block.train, block.test))
    return Block(block.fold, train, test)


def held_out_scores(
    kernels: NDArray[np.float64],
    responses: Responses,
    alphas: Sequence[float],
    weights: NDArray[np.float64] = ONE_BAND,
) -> NDArray[np.float64]:
    """Return the score of each owner: the mean correlation over its folds and targets.

    Within folds, because the means of training and test data are anticorrelated across folds.

    Parameters
    ----------
    kernels : array of shape (n_bands, n_stimuli, n_stimuli)
    responses : Responses
    alphas : sequence of float
    weights : array of shape (n_weights, n_bands)

    Returns
    -------
    array of shape (n_owners,)
    """
    total, number = np.zeros(len(responses.owners)), np.zeros(len(responses.owners))
    for block, owner in zip(responses.blocks, responses.owner, strict=True):
        predicted = predict(kernels, block.fold, block.train, alphas, weights)
        np.add.at(total, owner, correlation(block.test, predicted))
        np.add.at(number, owner, 1)
    return total / number


def permuted_scores(
    kernel: NDArray[np.float64], responses: Responses, alphas: Sequence[float], orders: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the scores with the rows of the features in other orders, penalties chosen anew in each.

    Parameters
    ----------
    kernel : array of shape (n_stimuli, n_stimuli)
    orders : array of shape (n_permutations, n_stimuli)
        The same for all models, so that the largest score of a family has a null distribution.

    Returns
    -------
    array of shape (n_permutations, n_owners)
    """
    return np.array([held_out_scores(kernel[np.ix_(order, order)][None], responses, alphas) for order in orders])


def correlation(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's r per target; a prediction without variance says nothing and counts as zero."""
    a, b = measured - measured.mean(axis=0), predicted - predicted.mean(axis=0)
    scale = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    floor = 1e-10 * np.maximum(np.abs(measured).max(axis=0) * np.abs(predicted).max(axis=0), 1e-300)
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > floor)
