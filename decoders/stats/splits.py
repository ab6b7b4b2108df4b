"""Splits into training and test samples that never leak: contiguous blocks with gaps, one run left out.

Neighbouring volumes share noise and haemodynamics, so shuffled splits let even noise "predict"
(Hadidi et al. 2026). A split here is by run or by contiguous block, and it can be audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from decoders.errors import InputError


@dataclass(frozen=True)
class Split:
    """One division of the samples.

    Attributes
    ----------
    name : str
        For tables, e.g. ``block-1`` or ``run-03``.
    train, test : array of int
        Sorted indices of samples; disjoint.
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def contiguous_blocks(n_samples: int, n_blocks: int, gap: int = 0) -> list[Split]:
    """Divide a time course into contiguous test blocks, with a gap to the training samples on either side.

    Parameters
    ----------
    n_samples, n_blocks : int
        Blocks differ in length by at most one sample.
    gap : int
        Samples dropped from the training set before and after the test block.

    Returns
    -------
    list of Split
        In order of time.

    Raises
    ------
    InputError
        Too few samples to leave both a test block and training samples.
    """
    if n_blocks < 2 or n_samples < n_blocks or gap < 0:
        raise InputError(
            "at least two blocks of at least one sample, and a gap of zero or more",
            f"{n_samples} samples, {n_blocks} blocks, gap {gap}",
            "the split into contiguous blocks",
            "Ask for fewer blocks.",
        )
    samples = np.arange(n_samples)
    splits = []
    for number, test in enumerate(np.array_split(samples, n_blocks), start=1):
        train = samples[(samples < test[0] - gap) | (samples > test[-1] + gap)]
        if len(train) == 0:
            raise InputError(
                "training samples outside the gap",
                f"none for block {number} of {n_blocks} with a gap of {gap} of {n_samples} samples",
                "the split into contiguous blocks",
                "Shorten the gap or ask for more blocks.",
            )
        splits.append(Split(f"block-{number}", train, test))
    return splits


def leave_one_run_out(runs: Sequence[str] | NDArray[np.str_] | NDArray[np.object_]) -> list[Split]:
    """Hold out each run in turn.

    Parameters
    ----------
    runs : sequence of str of shape (n_samples,)
        Run of each sample.

    Returns
    -------
    list of Split
        In order of the runs' first appearance; named ``run-<label>``.

    Raises
    ------
    InputError
        Fewer than two runs.
    """
    labels = np.asarray(runs, dtype=object)
    names = list(dict.fromkeys(labels.tolist()))
    if len(names) < 2:
        raise InputError(
            "two or more runs",
            f"{len(names)} ({', '.join(map(str, names))})",
            "the split by run",
            "Use a split inside the run (contiguous blocks, or halves of the blocks).",
        )
    return [Split(f"run-{name}", np.flatnonzero(labels != name), np.flatnonzero(labels == name)) for name in names]


def audit_split(split: Split, groups: ArrayLike | None = None, gap: int = 0) -> None:
    """Refuse a split that leaks.

    Parameters
    ----------
    split : Split
    groups : array of shape (n_samples,), optional
        Run, story or stimulus of each sample; no group may stand on both sides.
        Without it, samples are taken as one time course and `gap` is checked.
    gap : int
        Least number of samples between any training and any test sample.

    Raises
    ------
    InputError
        A sample, or a group, on both sides; or a gap that is too short.
    """
    remedy = "Split by run, or in contiguous blocks with a gap."
    shared: NDArray[np.int64] = np.intersect1d(split.train, split.test)
    if len(shared):
        raise InputError("training apart from test samples", f"{len(shared)} shared", f"split {split.name}", remedy)
    if groups is not None:
        labels = np.asarray(groups)
        both = np.intersect1d(labels[split.train], labels[split.test])
        if len(both):
            raise InputError("groups on one side only", f"{both[0]!s} on both", f"split {split.name}", remedy)
        return
    # Nearest training sample on either side of each test sample.
    after = np.searchsorted(split.train, split.test)
    distances = [np.inf]
    distances += list(split.train[after[after < len(split.train)]] - split.test[after < len(split.train)])
    distances += list(split.test[after > 0] - split.train[after[after > 0] - 1])
    if min(distances) <= gap:
        found = f"{int(min(distances)) - 1} samples between"
        raise InputError(f"a gap of {gap} samples", found, f"split {split.name}", remedy)
