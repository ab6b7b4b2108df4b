"""Names from a single run with two blocks per category: first halves against second halves.

One limit: preprocessing has filtered and z-scored the run as a whole, so the halves share its slow drift and scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import NamesSettings
from decoders.decoding.names import Samples
from decoders.decoding.names_text import text_row
from decoders.decoding.nearest_pattern import NearestPattern, nearest_pattern
from decoders.decoding.score_nulls import NULL
from decoders.errors import InputError
from decoders.stats.splits import Split
from decoders.store.arrays import Array

_EXACT = "all relabellings of the second half"
_SAMPLED = "random relabellings of the second half"


def halves_rows(
    samples: Samples,
    fold: Split,
    settings: NamesSettings,
    draw: Callable[..., np.random.Generator],
    rows: list[dict[str, Any]],
    text: list[dict[str, Any]],
    arrays: dict[str, Array],
) -> None:
    """Decode each half of the blocks, as declared, from the other one and append what was found.

    Raises
    ------
    InputError
        More than one run, or a category without exactly two blocks.
    """
    blocks = paired_blocks(samples, fold)
    patterns = np.stack([[block_pattern(samples, block) for block in half] for half in blocks])
    found = nearest_pattern(patterns[0], patterns[1], settings.n_voxels, draw("names", "halves"))
    rows.append(_row(found))
    rows.append(_chance(found))
    for half, answers, split in ((1, found.forward, "first-to-second"), (0, found.backward, "second-to-first")):
        text.extend(_text(samples, blocks[half], answers, split))
    n_names = len(samples.names)
    confusion = np.zeros((n_names, n_names), dtype=np.int64)
    for answers in (found.forward, found.backward):
        np.add.at(confusion, (np.arange(n_names), answers), 1)
    arrays["confusion/nearest_pattern_block"] = Array(confusion, ("reference", "decoded"), "count")
    arrays["null/nearest_pattern_block"] = Array(found.null, ("labelling",))


def paired_blocks(samples: Samples, fold: Split | None = None) -> NDArray[np.int64]:
    """Return the block numbers of the first and second block of each name, (2, n_names).

    Parameters
    ----------
    samples : Samples
    fold : Split, optional
        Samples of the first and of the second half; by order of the blocks when absent.
    """
    remedy = "Use leave_one_run_out, or name the conditions that have two blocks."
    if len(np.unique(samples.run)) != 1:
        found = f"{len(np.unique(samples.run))} runs"
        raise InputError("a single run for block_halves", found, "decoding.names.split", remedy)
    pairs = []
    for label, name in enumerate(samples.names):
        blocks = np.unique(samples.block[samples.label == label])
        if len(blocks) != 2:
            raise InputError("two blocks of each name", f"{len(blocks)} of '{name}'", "decoding.names.split", remedy)
        pairs.append(blocks if fold is None else _by_half(samples, fold, label, remedy))
    return np.stack(pairs, axis=1)


def _by_half(samples: Samples, fold: Split, label: int, remedy: str) -> NDArray[np.int64]:
    halves = [np.unique(samples.block[rows][samples.label[rows] == label]) for rows in (fold.train, fold.test)]
    if [len(half) for half in halves] != [1, 1]:
        found = f"{len(halves[0])} and {len(halves[1])} of '{samples.names[label]}'"
        raise InputError("a block of each name in either half", found, "decoding.names.split", remedy)
    return np.concatenate(halves)


def block_pattern(samples: Samples, block: int) -> NDArray[np.float64]:
    """Return the time average of a block, (V,)."""
    return np.asarray(samples.x[samples.block == block].mean(axis=0, dtype=np.float64))


def _row(found: NearestPattern) -> dict[str, Any]:
    from scipy.stats import binomtest

    n = 2 * len(found.forward)
    # The answers share patterns, so the binomial interval is a rough one; p does not rest on it.
    interval = binomtest(round(found.accuracy * n), n).proportion_ci(method="exact")
    return {
        **_common("nearest_pattern", n),
        "score": found.accuracy,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "null_mean": float(found.null.mean()),
        "p": found.p,
        "method": _EXACT if found.exact else _SAMPLED,
        NULL: found.others,
    }


def _chance(found: NearestPattern) -> dict[str, Any]:
    low, high = np.quantile(found.null, [0.025, 0.975])
    limits = {"score": float(found.null.mean()), "ci_low": low, "ci_high": high}
    note = {"control_of": "nearest_pattern", "method": "mean and central 95 % of the relabellings", NULL: found.others}
    return {**_common("control:shuffled", 2 * len(found.forward)), **limits, **note}


def _common(model: str, n: int) -> dict[str, Any]:
    return {"split": "block_halves", "task": "block", "model": model, "metric": "accuracy", "n": n}


def _text(samples: Samples, blocks: NDArray[np.int64], answers: NDArray[np.int64], split: str) -> list[dict[str, Any]]:
    members = [np.flatnonzero(samples.block == block) for block in blocks]
    pairs = zip(members, answers, strict=True)
    return [text_row(samples, inside, samples.names[answer], split, "nearest_pattern") for inside, answer in pairs]
