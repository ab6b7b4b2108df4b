"""Voxels to category names: labelled volumes, one run left out at a time, and what each model says.

All models train on single volumes. A block is decided by the sum of the decisions (log-probabilities)
over its volumes, which for the linear models is the decision at the block's mean pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.closed_form import Decider
from decoders.decoding.splits_names import REST, lag_volumes
from decoders.errors import InputError
from decoders.stats.declared import DeclaredSplit, TimedRun
from decoders.stats.declared_rows import holds
from decoders.stats.splits import Split
from decoders.store.recording import Recording


@dataclass(frozen=True)
class Samples:
    """Volumes that carry a name.

    Attributes
    ----------
    x : array of shape (n_volumes, V), float32
    label : array of int of shape (n_volumes,)
        Index into `names`.
    run, block : array of int of shape (n_volumes,)
        Index into `runs`; number of the block, ascending over all runs.
    time : array of shape (n_volumes,)
        Start of each volume in seconds.
    names, runs : tuple of str
    tr : float
        Repetition time in seconds.
    row : array of int of shape (n_volumes,)
        Place of each volume in its run.
    """

    x: NDArray[np.float32]
    label: NDArray[np.int64]
    run: NDArray[np.int64]
    block: NDArray[np.int64]
    time: NDArray[np.float64]
    names: tuple[str, ...]
    runs: tuple[str, ...]
    tr: float
    row: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def first(self) -> NDArray[np.int64]:
        """Index of the first volume of each block."""
        return np.unique(self.block, return_index=True)[1]


def collect_samples(
    recordings: Sequence[Recording], conditions: Sequence[str] | None = None, lag_s: float = 0.0
) -> Samples:
    """Gather the volumes of the named conditions from the runs of one subject.

    Parameters
    ----------
    recordings : sequence of Recording
        Runs with `conditions` and `groups` per volume and the same features. Excluded ones are left out.
    conditions : sequence of str, optional
        Names to decode; every condition but "rest" when absent.
    lag_s : float
        Volumes are named after the condition this long before; rounded up to whole TR.

    Raises
    ------
    InputError
        No usable run, runs with different features, a name that no volume has, fewer than two names.
    """
    usable = [recording for recording in recordings if not recording.excluded]
    where = f"the runs of subject {recordings[0].subject}" if recordings else "the study"
    remedy = "Name the task with labelled events in decoding.names.task, and check the events files."
    if not usable:
        raise InputError("a run that can be used", "none", where, remedy)
    _check_features(usable, where)
    parts = [_labelled(recording, lag_s) for recording in usable]
    present = sorted({name for _, labels, _ in parts for name in labels} - {"", REST})
    names = tuple(conditions) if conditions is not None else tuple(present)
    missing = [name for name in names if name not in present]
    if missing or len(names) < 2:
        found = f"no volume named {', '.join(missing)}" if missing else f"{len(names)}"
        raise InputError(f"two or more names among {present}", found, where, remedy)
    return _join(usable, parts, names)


def _check_features(recordings: Sequence[Recording], where: str) -> None:
    reference = recordings[0]
    for recording in recordings[1:]:
        same = recording.data.shape[1] == reference.data.shape[1]
        if same and recording.mask is not None and reference.mask is not None:
            same = np.array_equal(recording.mask, reference.mask)
        if not same:
            found = f"{recording.data.shape[1]} in run {recording.run} against {reference.data.shape[1]}"
            remedy = "Reduce the runs to common voxels: decoders.signal.shared.share_features."
            raise InputError("the same voxels in every run", found, where, remedy)


def _labelled(recording: Recording, lag_s: float) -> tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.int64]]:
    """Return indices, names and block numbers of the volumes that lie in a block, shifted by the lag."""
    n = len(recording.data)
    if len(recording.conditions) != n or len(recording.groups) != n:
        found = f"{len(recording.conditions)} conditions for {n} volumes"
        where = f"run {recording.run} of subject {recording.subject}"
        raise InputError("a condition for each volume", found, where, "Check that the run has an events file.")
    lag = lag_volumes(lag_s, recording.tr)
    source = np.arange(n - lag)
    source = source[recording.groups[source] >= 0]
    return source + lag, recording.conditions[source], recording.groups[source]


def _join(
    recordings: Sequence[Recording],
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.object_], NDArray[np.int64]]],
    names: tuple[str, ...],
) -> Samples:
    columns: dict[str, list[Any]] = {key: [] for key in ("x", "label", "run", "block", "time", "row")}
    next_block = 0
    for number, (recording, (index, found, groups)) in enumerate(zip(recordings, parts, strict=True)):
        kept = np.isin(found.astype(str), names)
        blocks = np.unique(groups[kept], return_inverse=True)[1]
        columns["x"].append(recording.data[index[kept]])
        columns["label"].append(np.array([names.index(name) for name in found[kept]], dtype=np.int64))
        columns["run"].append(np.full(int(kept.sum()), number))
        columns["block"].append(blocks + next_block)
        columns["time"].append(recording.time[index[kept]])
        columns["row"].append(index[kept])
        next_block += int(blocks.max()) + 1 if len(blocks) else 0
    runs = tuple(recording.run or str(number + 1) for number, recording in enumerate(recordings))
    joined = {key: np.concatenate(values) for key, values in columns.items()}
    return Samples(**joined, names=names, runs=runs, tr=recordings[0].tr)


def check_folds(samples: Samples) -> None:
    """Refuse samples that cannot be decoded one run at a time.

    Raises
    ------
    InputError
        Fewer than three runs with names (two train, for the inner folds), or a name of a single run.
    """
    used = np.unique(samples.run)
    remedy = "Use decoding.names.split: block_halves for a single run, or name fewer conditions."
    if len(used) < 3:
        raise InputError("three or more runs to leave one out", f"{len(used)}", "decoding.names", remedy)
    for label, name in enumerate(samples.names):
        if len(np.unique(samples.run[samples.label == label])) < 2:
            raise InputError("each name in two runs or more", f"'{name}' in one", "decoding.names", remedy)


def permuted_labels(samples: Samples, n: int, seeds: Sequence[int]) -> NDArray[np.int64]:
    """Return labellings (n, n_volumes) with names dealt anew among the blocks of each run.

    Whole blocks are dealt, because the volumes of a block are not exchangeable one by one.

    Parameters
    ----------
    samples : Samples
    n : int
    seeds : sequence of int
        Of each run, as `story_seeds` returns them for its label: people who lack a run, or its last block, have all
        others dealt as everybody has.
    """
    first = samples.first
    by_block = np.tile(samples.label[first], (n, 1))
    for run in np.unique(samples.run):
        members = np.flatnonzero(samples.run[first] == run)
        order = np.random.default_rng(seeds[run]).random((len(members), n)).argsort(axis=0).T
        by_block[:, members] = np.take_along_axis(by_block[:, members], order, axis=1)
    return by_block[:, np.unique(samples.block, return_inverse=True)[1]]


def folds_of(
    samples: Samples, declared: Sequence[DeclaredSplit] | None = None, runs: Sequence[TimedRun] = ()
) -> list[Split]:
    """Return which samples train and which are tested; by run where nothing is declared.

    Parameters
    ----------
    samples : Samples
    declared : sequence of DeclaredSplit, optional
        Folds that test no sample (a run without a name) are left out.
    runs : sequence of TimedRun
        Runs of the samples, in their order.
    """
    if declared is None:
        every = ((f"run-{run}", samples.run != run, samples.run == run) for run in np.unique(samples.run))
    else:
        places = (runs, samples.run, samples.row)
        every = ((split.fold, holds(split.train, *places), holds(split.test, *places)) for split in declared)
    return [Split(name, np.flatnonzero(train), np.flatnonzero(test)) for name, train, test in every if test.any()]


def closed_form_decisions(
    samples: Samples, labels: NDArray[np.int64], decide: Decider, folds: Sequence[Split] | None = None
) -> NDArray[np.float64]:
    """Return decisions on each run by a model trained on the other runs, for each labelling.

    Parameters
    ----------
    samples : Samples
    labels : array of int of shape (n_labellings, n_volumes)
    decide : Decider
        Of `decoders.decoding.closed_form`.
    folds : sequence of Split, optional
        Of `folds_of`.

    Returns
    -------
    array of shape (n_labellings, n_volumes, n_names)
    """
    decisions = np.empty((*labels.shape, len(samples.names)))
    x = samples.x.astype(np.float64)
    for fold in folds or folds_of(samples):
        train, test = fold.train, fold.test
        decisions[:, test] = decide(x[train], labels[:, train], samples.run[train], x[test], len(samples.names))
    return decisions


def by_block(decisions: NDArray[np.float64], samples: Samples) -> NDArray[np.float64]:
    """Return decisions summed over the volumes of each block, (..., n_blocks, n_names)."""
    first = samples.first
    order = np.argsort(samples.block, kind="stable")
    starts = np.searchsorted(samples.block[order], samples.block[first])
    return np.add.reduceat(decisions[..., order, :], starts, axis=-2)
