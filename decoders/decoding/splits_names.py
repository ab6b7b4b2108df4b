"""The splits of names: one run left out at a time, or the first against the second block of each name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import NamesSettings
from decoders.errors import InputError
from decoders.stats.declared import Declaration, DeclaredSplit, Fit, TimedRun
from decoders.stats.declared_rows import stretches, whole

SETTING = "decoding.names"
REST = "rest"
_REMEDY = "Use leave_one_run_out, or name the conditions that have two blocks."


@dataclass(frozen=True)
class Labels:
    """What the volumes of a run show.

    Attributes
    ----------
    conditions : array of str of shape (n_volumes,)
    groups : array of int of shape (n_volumes,)
        Number of the block; -1 where there is none.
    """

    conditions: NDArray[Any]
    groups: NDArray[np.int64]


def declare_names(runs: Sequence[TimedRun], labels: Sequence[Labels], settings: NamesSettings) -> Declaration:
    """Declare the splits of one subject.

    Parameters
    ----------
    runs : sequence of TimedRun
        In order of session, task and run.
    labels : sequence of Labels
        Of the same runs; read for block_halves alone.
    settings : NamesSettings

    Raises
    ------
    InputError
        For block_halves more than one run, or a name without exactly two blocks.
    """
    halves = settings.split == "block_halves"
    splits = _halves(runs, labels, settings) if halves else _by_run(runs, settings)
    return Declaration("names", SETTING, tuple(runs), tuple(splits))


def lag_volumes(lag_s: float, tr: float) -> int:
    """Return a lag in volumes: rounded up, so that no volume is read before the lag has passed."""
    return int(np.ceil(lag_s / tr - 1e-9)) if lag_s else 0


def _fits(settings: NamesSettings) -> tuple[Fit, ...]:
    fits = [Fit("scaling", "mean, drift and scale of the recording", "each run", "preprocess")]
    if "nearest_pattern" in settings.models:
        fits.append(Fit("selection", "the choice of voxels by their spread", "train", f"{SETTING}.n_voxels"))
    if "ridge" in settings.models:
        fits.append(Fit("penalty", "the ridge penalty, by inner folds", "train", f"{SETTING}.models"))
    return tuple(fits)


def _by_run(runs: Sequence[TimedRun], settings: NamesSettings) -> list[DeclaredSplit]:
    found = []
    for number, run in enumerate(runs):
        others = [other for other in runs if other is not run]
        name = f"sub-{run.subject}/run-{number + 1:02d}"
        found.append(DeclaredSplit(name, ("run",), whole(others), whole([run]), _fits(settings)))
    return found


def _halves(runs: Sequence[TimedRun], labels: Sequence[Labels], settings: NamesSettings) -> list[DeclaredSplit]:
    if len(runs) != 1:
        raise InputError("a single run for block_halves", f"{len(runs)} runs", f"{SETTING}.split", _REMEDY)
    run, shown = runs[0], labels[0]
    lag = lag_volumes(settings.lag_s, run.tr)
    source = np.arange(max(0, min(run.n_rows, len(shown.groups)) - lag))
    source = source[shown.groups[source] >= 0]
    wanted = settings.conditions or tuple(sorted({str(name) for name in shown.conditions[source]} - {"", REST}))
    halves: list[list[int]] = [[], []]
    for name in wanted:
        mine = source[shown.conditions[source].astype(str) == name]
        blocks = np.unique(shown.groups[mine])
        if len(blocks) != 2:
            raise InputError("two blocks of each name", f"{len(blocks)} of '{name}'", f"{SETTING}.split", _REMEDY)
        for half, block in zip(halves, blocks, strict=True):
            half += (mine[shown.groups[mine] == block] + lag).tolist()
    first, second = (stretches(run.key, np.sort(np.array(half, dtype=np.int64))) for half in halves)
    sides = (("first-to-second", first, second), ("second-to-first", second, first))
    return [
        DeclaredSplit(f"sub-{run.subject}/{name}", ("time",), train, test, _fits(settings))
        for name, train, test in sides
    ]
