"""Scores of named volumes and blocks: accuracy and character error rate, with intervals, nulls and controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.names import Samples, by_block
from decoders.decoding.score_nulls import NULL
from decoders.decoding.text_scores import LOWER_IS_BETTER, distance_table
from decoders.stats.permutation import permutation_p
from decoders.stats.resampling import draw_counts

Unit = Literal["volume", "block"]
Labels = NDArray[np.int64]
METRICS = ("accuracy", "cer")
_N_BOOTSTRAP = 2000
_LEVEL = (0.025, 0.975)


@dataclass(frozen=True)
class Items:
    """The test items of one unit: true name and run of each, and the edit distances between names.

    Attributes
    ----------
    label, run : array of int of shape (n_items,)
    distance : array of int of shape (n_names, n_names)
        Edits from the decoded name (second axis) to the reference (first axis).
    length : array of int of shape (n_names,)
    """

    label: Labels
    run: Labels
    distance: NDArray[np.int64]
    length: NDArray[np.int64]


def items_of(samples: Samples, unit: Unit) -> Items:
    """Return the test items of "volume" or "block"."""
    kept = samples.first if unit == "block" else np.arange(len(samples.label))
    return Items(samples.label[kept], samples.run[kept], *distance_table(samples.names))


def chosen(decisions: NDArray[np.float64], samples: Samples, unit: Unit) -> Labels:
    """Return the likeliest name of each item, (..., n_items)."""
    pooled = by_block(decisions, samples) if unit == "block" else decisions
    return np.asarray(pooled.argmax(axis=-1), dtype=np.int64)


def tally(truth: Labels, decoded: Labels, items: Items, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return numerator and denominator of a metric for each item; the score is the ratio of their sums.

    For ``cer`` that is the corpus rate: all edits over all reference characters.
    """
    if metric == "accuracy":
        right = (truth == decoded).astype(np.float64)
        return right, np.ones_like(right)
    edits = items.distance[truth, decoded].astype(np.float64)
    return edits, np.broadcast_to(items.length[truth], edits.shape).astype(np.float64)


def ratio(parts: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the score over the last axis."""
    return np.asarray(parts[0].sum(axis=-1) / parts[1].sum(axis=-1))


def run_interval(
    parts: tuple[NDArray[np.float64], NDArray[np.float64]], run: Labels, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a score under resampling of whole runs."""
    number = np.unique(run, return_inverse=True)[1]
    sums = [np.bincount(number, weights=part) for part in parts]
    counts = draw_counts(len(sums[0]), _N_BOOTSTRAP, rng)
    low, high = np.quantile((counts @ sums[0]) / (counts @ sums[1]), _LEVEL)
    return float(low), float(high)


def score_row(
    items: Items, decoded: Labels, metric: str, null: NDArray[np.float64] | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Return score, interval, null mean, p and the null itself of one model, metric and unit.

    Parameters
    ----------
    items : Items
    decoded : array of int of shape (n_items,)
    metric : {"accuracy", "cer"}
    null : array of shape (n_permutations,), optional
        The metric under permuted labels. Large accuracies and small error rates count against it.
    rng : Generator
    """
    parts = tally(items.label, decoded, items, metric)
    low, high = run_interval(parts, items.run, rng)
    score = float(ratio(parts))
    row: dict[str, Any] = {"metric": metric, "score": score, "ci_low": low, "ci_high": high, "n": len(decoded)}
    if null is None or not len(null):
        return {**row, "null_mean": np.nan, "p": np.nan, NULL: None}
    sign = -1 if metric in LOWER_IS_BETTER else 1
    p = float(permutation_p(sign * score, sign * null))
    return {**row, "null_mean": float(null.mean()), "p": p, NULL: null}


def null_scores(items: Items, truths: Labels, decoded: Labels, metric: str) -> NDArray[np.float64]:
    """Return the metric under each labelling, truths and decoded names of shape (n_permutations, n_items)."""
    return ratio(tally(truths, decoded, items, metric))


def constant_name(items: Items) -> Labels:
    """Return, for each item, the one name with the smallest error rate on the other runs."""
    decoded = np.empty_like(items.label)
    for run in np.unique(items.run):
        others = items.label[items.run != run]
        decoded[items.run == run] = items.distance[others].sum(axis=0).argmin()
    return decoded


def random_name_scores(items: Items) -> dict[str, float]:
    """Return the expected scores of a name drawn evenly at random."""
    edits = items.distance[items.label].mean(axis=1).sum()
    return {"accuracy": 1 / len(items.length), "cer": float(edits / items.length[items.label].sum())}


def confusion(items: Items, decoded: Labels) -> NDArray[np.int64]:
    """Return counts of items, (n_names, n_names) as [reference, decoded]."""
    counts = np.zeros_like(items.distance)
    np.add.at(counts, (items.label, decoded), 1)
    return counts
