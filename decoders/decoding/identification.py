"""Identification: which stretch of text was heard, told from the recording alone.

The brain of every candidate window is predicted from its text; the measured window is
identified with the candidate whose prediction it correlates with best. Chance is a percentile of .5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.stats.splits import Split


@dataclass(frozen=True)
class Identified:
    """Identification of every window of a set of candidates.

    Attributes
    ----------
    percentile : array of shape (n_windows,)
        Share of the other candidates that fit worse than the true one; .5 at chance, 1 at best.
    correct : array of shape (n_windows,)
        Probability that the best candidate is the true one: 1 or 0, or 1 / k when k candidates tie.
    n_candidates : array of shape (n_windows,), int64
        The true one included.
    """

    percentile: NDArray[np.float64]
    correct: NDArray[np.float64]
    n_candidates: NDArray[np.int64]

    def within(self, k: int) -> NDArray[np.float64]:
        """Return whether the true candidate is among the k best, 1 or 0; of candidates that tie half are before it."""
        before = np.rint(2 * (1 - self.percentile) * (self.n_candidates - 1)) / 2
        return (before < k).astype(np.float64)

    @classmethod
    def joined(cls, runs: Sequence[Identified]) -> Identified:
        """Return the windows of several runs one after the other."""
        percentile, correct = (
            np.concatenate([getattr(run, name) for run in runs]) for name in ("percentile", "correct")
        )
        return cls(percentile, correct, np.concatenate([run.n_candidates for run in runs]))


def sliding_windows(series: NDArray[np.floating], length: int, step: int = 1) -> NDArray[np.floating]:
    """Cut a time course into windows.

    Parameters
    ----------
    series : array of shape (..., n_samples, n_features)
    length, step : int
        In samples.

    Returns
    -------
    array of shape (..., n_windows, length * n_features)
        Windows that do not fit are left out.
    """
    windows = np.lib.stride_tricks.sliding_window_view(series, length, axis=-2)[..., ::step, :, :]
    return windows.reshape(*windows.shape[:-2], -1)


def window_correlations(measured: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.floating]:
    """Correlate every measured with every predicted window.

    Parameters
    ----------
    measured, predicted : array of shape (..., n_windows, n_values)

    Returns
    -------
    array of shape (..., n_measured, n_predicted)
        Zero for a window without variance.
    """
    return _unit(measured) @ np.swapaxes(_unit(predicted), -1, -2)


def rank_true(similarity: NDArray[np.floating]) -> Identified:
    """Rank the true candidate, which stands on the diagonal.

    Parameters
    ----------
    similarity : array of shape (..., n, n)
        Rows are measured windows, columns candidates.

    Returns
    -------
    Identified
        Arrays of shape (..., n).

    Raises
    ------
    ValueError
        Fewer than two candidates.
    """
    n = similarity.shape[-1]
    if n < 2:
        raise ValueError("identification needs at least two candidate windows")
    true = np.diagonal(similarity, axis1=-2, axis2=-1)[..., None]
    # The sum over all candidates counts the true one as half below itself: taken off again.
    below = (similarity < true).sum(-1) + 0.5 * ((similarity == true).sum(-1) - 1)
    best = similarity >= similarity.max(-1, keepdims=True)
    hit = np.diagonal(best, axis1=-2, axis2=-1) / best.sum(-1)
    return Identified(below / (n - 1), hit, np.full(below.shape, n, dtype=np.int64))


def held_out_percentiles(
    measured: NDArray[np.floating], predicted: NDArray[np.floating], splits: Sequence[Split], length: int
) -> NDArray[np.float64]:
    """Return the mean percentile of overlapping windows within held-out blocks.

    Parameters
    ----------
    measured, predicted : array of shape (n_sets, n_samples, n_features)
        Predictions of each block come from a model that has not seen the block.
    splits : sequence of Split
        Candidates are the windows of the same test block, in steps of one sample.
    length : int
        Samples per window.

    Returns
    -------
    array of shape (n_sets,)
        Mean over windows, then over blocks; nan when no block holds two windows.
    """
    blocks = block_percentiles(measured, predicted, splits, length)
    return blocks.mean(0) if len(blocks) else np.full(len(measured), np.nan)


def block_percentiles(
    measured: NDArray[np.floating], predicted: NDArray[np.floating], splits: Sequence[Split], length: int
) -> NDArray[np.float64]:
    """Return the percentiles of `held_out_percentiles` block by block, shape (n_blocks with two windows, n_sets)."""
    blocks = []
    for split in splits:
        if len(split.test) > length:
            similarity = window_correlations(
                sliding_windows(measured[:, split.test], length), sliding_windows(predicted[:, split.test], length)
            )
            blocks.append(rank_true(similarity).percentile.mean(-1))
    return np.stack(blocks) if blocks else np.empty((0, len(measured)))


def identify_runs(
    measured: Sequence[NDArray[np.floating]], predicted: Sequence[NDArray[np.floating]], length: int
) -> Identified:
    """Identify windows without overlap among the windows of their own run.

    Parameters
    ----------
    measured, predicted : sequence of array of shape (n_samples, n_features)
        One pair per run.
    length : int
        Samples per window.

    Returns
    -------
    Identified
        Arrays of shape (n_windows,) over all runs.
    """
    ranked = [
        rank_true(window_correlations(sliding_windows(m, length, length), sliding_windows(p, length, length)))
        for m, p in zip(measured, predicted, strict=True)
    ]
    return Identified.joined(ranked)


def unit_length(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scale the last axis to length 1; what is zero stays zero."""
    norm = np.sqrt((rows**2).sum(-1, keepdims=True))
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)


def _unit(windows: NDArray[np.floating]) -> NDArray[np.floating]:
    return unit_length(windows - windows.mean(-1, keepdims=True))
