"""From indices of samples to declared rows, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.stats.declared import Rows, TimedRun

Indices = NDArray[np.int64]


def whole(runs: Sequence[TimedRun]) -> tuple[Rows, ...]:
    """Return all rows of some runs."""
    return tuple(Rows(run.key, 0, run.n_rows) for run in runs)


def stretches(key: str, rows: Indices) -> tuple[Rows, ...]:
    """Return sorted rows of one run as stretches without a hole."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else []
    return tuple(Rows(key, int(part[0]), int(part[-1]) + 1) for part in parts)


def rows_at(indices: Indices, runs: Sequence[TimedRun]) -> tuple[Rows, ...]:
    """Return the rows at some indices into runs that are joined one after the other."""
    found: list[Rows] = []
    ends = np.cumsum([0, *(run.n_rows for run in runs)])
    for run, first, stop in zip(runs, ends, ends[1:], strict=False):
        found += stretches(run.key, indices[(indices >= first) & (indices < stop)] - first)
    return tuple(found)


def holds(rows: Sequence[Rows], runs: Sequence[TimedRun], run: Indices, row: Indices) -> NDArray[np.bool_]:
    """Mark the samples that lie in declared rows.

    Parameters
    ----------
    rows : sequence of Rows
        Those of other runs are passed over.
    runs : sequence of TimedRun
    run, row : array of int of shape (n_samples,)
        Number of the run in `runs`, and volume within it.
    """
    numbers = {timed.key: number for number, timed in enumerate(runs)}
    inside = np.zeros(len(run), dtype=bool)
    for key, first, stop in rows:
        if key in numbers:
            inside |= (run == numbers[key]) & (row >= first) & (row < stop)
    return inside


def indices_of(rows: Sequence[Rows], runs: Sequence[TimedRun]) -> Indices:
    """Return the indices of declared rows into runs that are joined one after the other, sorted."""
    lengths = [run.n_rows for run in runs]
    number = np.repeat(np.arange(len(runs)), lengths)
    row = np.concatenate([np.arange(length) for length in lengths]) if lengths else np.zeros(0, dtype=np.int64)
    return np.flatnonzero(holds(rows, runs, number, row))
