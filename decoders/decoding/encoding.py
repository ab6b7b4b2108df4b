"""Encoding models of continuous text: predict held-out brain responses from features of what was heard.

Nothing of a test block, nor of the gap around it, enters the training of the model that predicts it;
where a subject is unseen, nothing of that subject does. One limit: preprocessing has filtered and z-scored each
run as a whole, so test blocks of the same run are not free of its slow drift and its scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.splits_encode import Members, split_lengths
from decoders.errors import InputError
from decoders.models.ridge import Fold, delayed, fit_ridge
from decoders.stats.splits import Split, contiguous_blocks


@dataclass(frozen=True)
class Design:
    """How a set of recordings is split and modelled.

    Attributes
    ----------
    segment : array of shape (n_samples,)
        Run of each sample; delays and shifts stay within a segment.
    splits : tuple of Split
        Outer folds; every sample is tested once.
    delays : tuple of int
        In samples.
    alphas : tuple of float
        Ridge penalties.
    gap : int
        Samples dropped between training and test, and between inner folds.
    """

    segment: NDArray[np.int64]
    splits: tuple[Split, ...]
    delays: tuple[int, ...]
    alphas: tuple[float, ...]
    gap: int


@dataclass(frozen=True)
class Sets:
    """What the models are trained on and what they are tested on; one column of scores per set.

    Attributes
    ----------
    train, test : array of shape (n_sets, n_samples, n_regions)
        Time courses; the model of a set sees `train` outside the test block and is scored on `test` inside.
    """

    train: NDArray[np.floating]
    test: NDArray[np.floating]


def design_of(
    lengths: Sequence[int],
    n_blocks: int,
    gap: int,
    delays: Sequence[int],
    alphas: Sequence[float],
    folds: Sequence[Split] | None = None,
) -> Design:
    """Return the design of runs of given lengths: by run, or by contiguous block when there is one run.

    Parameters
    ----------
    lengths : sequence of int
        Samples of each run.
    n_blocks, gap : int
        Used when there is one run.
    delays, alphas
        As in `Design`.
    folds : sequence of Split, optional
        Declared ones, in place of those by run or block.
    """
    segment = np.repeat(np.arange(len(lengths)), lengths)
    if min(lengths) <= max(delays):
        remedy = "Leave that run out, or shorten 'delays'."
        expected = f"runs of more than {max(delays)} volumes, the longest delay"
        raise InputError(expected, f"{min(lengths)}", "decoding.encoding.delays", remedy)
    splits = split_lengths(lengths, n_blocks, gap) if folds is None else folds
    return Design(segment, tuple(splits), tuple(delays), tuple(alphas), gap)


def inner_folds(design: Design, split: Split) -> list[Fold]:
    """Return the inner folds of one outer fold: each of the other blocks is validated on in turn.

    Returns
    -------
    list of (train, validation)
        Indices into the rows of ``split.train``; samples within the gap of the validation block are in neither.
    """
    folds = []
    for other in design.splits:
        validation = np.isin(split.train, other.test)
        if other is split or not validation.any():
            continue
        near = _near(split.train, split.train[validation], design)
        folds.append((np.flatnonzero(~near), np.flatnonzero(validation)))
    folds = [fold for fold in folds if len(fold[0])]
    return folds or _halves(len(split.train), design.gap)


def predict_held_out(
    features: NDArray[np.floating], train: NDArray[np.floating], design: Design
) -> NDArray[np.floating]:
    """Predict every sample by the model that has not seen its block.

    Parameters
    ----------
    features : array of shape (n_samples, n_features)
        At the samples' own times; the delays are added here.
    train : array of shape (n_sets, n_samples, n_regions)
    design : Design

    Returns
    -------
    array of shape (n_sets, n_samples, n_regions)
    """
    n_sets, n_samples, n_regions = train.shape
    X = delayed_by_segment(features, design)
    Y = train.transpose(1, 0, 2).reshape(n_samples, -1)
    predicted = np.full_like(Y, np.nan)
    for split in design.splits:
        model = fit_ridge(X[split.train], Y[split.train], design.alphas, inner_folds(design, split))
        predicted[split.test] = model.predict(X[split.test])
    return predicted.reshape(n_samples, n_sets, n_regions).transpose(1, 0, 2)


def held_out_r(
    measured: NDArray[np.floating], predicted: NDArray[np.floating], splits: Sequence[Split]
) -> NDArray[np.float64]:
    """Correlate prediction and measurement within each held-out block, and average over blocks.

    Within blocks, because the means of training and test data are anticorrelated across blocks.

    Parameters
    ----------
    measured, predicted : array of shape (n_sets, n_samples, n_regions)

    Returns
    -------
    array of shape (n_sets, n_regions)
        A prediction without variance says nothing and counts as zero.
    """
    return block_r(measured, predicted, splits).mean(0)


def block_r(
    measured: NDArray[np.floating], predicted: NDArray[np.floating], splits: Sequence[Split]
) -> NDArray[np.float64]:
    """Return the correlations of `held_out_r` block by block, shape (n_blocks, n_sets, n_regions)."""
    return np.stack([correlate(measured[:, split.test], predicted[:, split.test], axis=1) for split in splits])


def correlate(a: NDArray[np.floating], b: NDArray[np.floating], axis: int = 0) -> NDArray[np.floating]:
    """Return Pearson correlations along an axis; zero where either side has no variance."""
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    scale = np.sqrt((a**2).sum(axis) * (b**2).sum(axis))
    return np.divide((a * b).sum(axis), scale, out=np.zeros_like(scale), where=scale > 0)


def delayed_by_segment(features: NDArray[np.floating], design: Design) -> NDArray[np.floating]:
    """Delay features within each run, shape (n_samples, n_features * n_delays)."""
    parts = [delayed(features[design.segment == segment], design.delays) for segment in np.unique(design.segment)]
    return np.concatenate(parts)


def rolled(features: NDArray[np.floating], design: Design, shift: int) -> NDArray[np.floating]:
    """Roll features in time within each run: autocorrelation is kept, the pairing with the brain is not."""
    parts = [np.roll(features[design.segment == segment], shift, axis=0) for segment in np.unique(design.segment)]
    return np.concatenate(parts)


def sets_of(data: NDArray[np.floating], members: Sequence[Members]) -> Sets:
    """Return the means over those who train and over those who are tested, one set for each pair.

    All subjects heard the same, so ridge on a mean equals ridge on the stacked subjects (with the penalty
    scaled by their number).

    Parameters
    ----------
    data : array of shape (n_subjects, n_samples, n_regions)
    members : sequence of (tuple of int, tuple of int)
        Subjects by number, as `decoders.decoding.splits_encode` declares them.
    """
    train, test = (np.stack([data[list(pair[side])].mean(0) for pair in members]) for side in (0, 1))
    return Sets(train, test)


def jackknife_groups(data: NDArray[np.floating]) -> Sets:
    """Return the means without each subject in turn, for the interval of the group's score.

    A bootstrap would not do: a resample holds fewer different subjects, so its mean is noisier and its score lower.
    """
    n = len(data)
    _at_least(n, 2)
    means = (data.sum(0, keepdims=True) - data) / (n - 1)
    return Sets(means, means)


def own_sets(data: NDArray[np.floating]) -> Sets:
    """Return one set per subject, trained and tested on itself: unseen time."""
    return Sets(data, data)


def stack(sets: Sequence[Sets]) -> tuple[Sets, list[slice]]:
    """Join sets so that one ridge fit serves them all; return where each of them is."""
    ends = np.cumsum([len(part.train) for part in sets]).tolist()
    where = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return Sets(np.concatenate([part.train for part in sets]), np.concatenate([part.test for part in sets])), where


def _near(rows: NDArray[np.int64], block: NDArray[np.int64], design: Design) -> NDArray[np.bool_]:
    """Mark rows in or within the gap of a block of the same segment."""
    near = np.zeros(len(rows), dtype=bool)
    for segment in np.unique(design.segment[block]):
        inside = block[design.segment[block] == segment]
        near |= (design.segment[rows] == segment) & (rows >= inside[0] - design.gap) & (rows <= inside[-1] + design.gap)
    return near


def _halves(n: int, gap: int) -> list[Fold]:
    """Two contiguous folds, for designs with two outer blocks, where no other block is left."""
    return [(split.train, split.test) for split in contiguous_blocks(n, 2, gap)]


def _at_least(found: int, needed: int) -> None:
    if found < needed:
        raise InputError(
            f"at least {needed} subjects who heard the same",
            f"{found}",
            "decoding.encoding",
            "Add subjects, or lower average_subjects.",
        )
