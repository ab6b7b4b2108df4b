"""Folds of trials in which neither a run nor a stimulus of the test stands in the training.

Holding out runs alone is not enough where stimuli repeat over runs: a row of features, of noise even, is the name of
its stimulus, so a model that has met the stimulus in another run knows the response (the shuffled splits of Hadidi et
al. 2026 in another guise). Holding out stimuli alone is not enough either: neighbouring trials of a run share slow
noise, which features that are alike in neighbours would predict. So a fold tests the trials of some stimuli in some
runs on a model of the other stimuli in the other runs. Where stimuli do not repeat over runs this is leaving out runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.regions import Trials
from decoders.errors import InputError
from decoders.stats.splits import Split, audit_split

# Below three stimuli a correlation says nothing.
LEAST_TESTED = 3
_LEAST_GROUP = 4
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fold:
    """Stimuli of one fold.

    Attributes
    ----------
    train, test : array of int
        Stimuli, sorted; disjoint.
    inner : tuple of (fit, check)
        Rows of `train` on which penalties are chosen.
    """

    train: Indices
    test: Indices
    inner: tuple[tuple[Indices, Indices], ...]


@dataclass(frozen=True, eq=False)
class Block:
    """A fold with its responses.

    Attributes
    ----------
    fold : Fold
    train : array of shape (n_train, n_targets)
    test : array of shape (n_test, n_targets)
        Mean over the trials of a stimulus, each run less its mean over the trials on its side of the fold.
    """

    fold: Fold
    train: NDArray[np.float64]
    test: NDArray[np.float64]


def blocks_of(trials: Trials, stimuli: list[str], n_folds: int, whose: str) -> list[Block]:
    """Return the folds of the trials of one subject and region.

    Parameters
    ----------
    trials : Trials
        Trials of other conditions than `stimuli` are passed over.
    stimuli : list of str
    n_folds : int
        Groups of runs, and groups of stimuli, at most.
    whose : str
        Named in errors.

    Returns
    -------
    list of Block

    Raises
    ------
    InputError
        Fewer than two runs, a stimulus without a trial, values that are not finite, or too few stimuli.
    """
    code = {name: index for index, name in enumerate(stimuli)}
    kept = np.array([name in code for name in trials.conditions], dtype=bool)
    values = np.asarray(trials.patterns, dtype=np.float64)[kept]
    shown = np.array([code[name] for name in trials.conditions if name in code], dtype=np.int64)
    runs = np.asarray(trials.runs, dtype=object)[kept]
    _check(values, shown, runs, stimuli, whose)
    run_group, stimulus_group = _groups(shown, runs, len(stimuli), n_folds, whose)
    blocks = []
    for split in trial_splits(run_group, stimulus_group[shown]):
        audit_split(split, runs)
        audit_split(split, shown)
        block = _block(values, shown, runs, stimulus_group, split)
        if len(block.fold.test) >= LEAST_TESTED and block.fold.inner:
            blocks.append(block)
    if not blocks:
        raise InputError(
            f"{LEAST_TESTED} or more stimuli in a test",
            "fewer in every fold",
            whose,
            "Set fewer alignment.encoding.n_folds.",
        )
    return blocks


def trial_splits(run_group: Indices, stimulus_group: Indices) -> list[Split]:
    """Return, for each group of runs and each group of stimuli, the trials to test and those of neither to train on.

    Parameters
    ----------
    run_group, stimulus_group : array of int of shape (n_trials,)
    """
    splits = []
    for run in np.unique(run_group):
        for group in np.unique(stimulus_group[run_group == run]):
            test = np.flatnonzero((run_group == run) & (stimulus_group == group))
            train = np.flatnonzero((run_group != run) & (stimulus_group != group))
            splits.append(Split(f"runs-{run + 1}_stimuli-{group + 1}", train, test))
    return splits


def _check(
    values: NDArray[np.float64], shown: Indices, runs: NDArray[np.object_], stimuli: list[str], whose: str
) -> None:
    missing = sorted(set(range(len(stimuli))) - set(shown.tolist()))
    if missing:
        remedy = "Exclude the subject, or check its events."
        raise InputError(f"trials of all {len(stimuli)} stimuli", f"none of {stimuli[missing[0]]}", whose, remedy)
    if len(set(runs)) < 2:
        remedy = "Leave alignment.encoding out: within one run, training and test trials share slow noise."
        raise InputError("two or more runs for encoding", str(len(set(runs))), whose, remedy)
    if not np.isfinite(values).all():
        raise InputError("finite responses", "others", whose, "Check the mask and the preprocessing.")


def _groups(
    shown: Indices, runs: NDArray[np.object_], n_stimuli: int, n_folds: int, whose: str
) -> tuple[Indices, Indices]:
    """Return the group of runs of each trial, and the group of each stimulus."""
    names = list(dict.fromkeys(runs.tolist()))
    parts = np.array_split(np.arange(len(names)), min(n_folds, len(names)))
    group_of = {names[run]: number for number, part in enumerate(parts) for run in part}
    run_group = np.array([group_of[run] for run in runs], dtype=np.int64)
    seen = [np.unique(run_group[shown == stimulus]) for stimulus in range(n_stimuli)]
    if all(len(groups) == 1 for groups in seen):
        return run_group, np.array([groups[0] for groups in seen], dtype=np.int64)
    n_groups = min(n_folds, n_stimuli // _LEAST_GROUP)
    if n_groups < 2:
        remedy = "Leave alignment.encoding out."
        raise InputError(f"{2 * _LEAST_GROUP} or more stimuli for encoding", str(n_stimuli), whose, remedy)
    # Every n-th in the order of their names, so that exemplars of a category spread over the groups.
    return run_group, np.arange(n_stimuli, dtype=np.int64) % n_groups


def _block(
    values: NDArray[np.float64], shown: Indices, runs: NDArray[np.object_], group: Indices, split: Split
) -> Block:
    train, fitted = _means(values[split.train], shown[split.train], runs[split.train])
    test, checked = _means(values[split.test], shown[split.test], runs[split.test])
    return Block(Fold(train, test, inner_folds(group[train])), fitted, checked)


def inner_folds(groups: Indices) -> tuple[tuple[Indices, Indices], ...]:
    """Return inner folds that check each group of the training stimuli in turn; halves where there is one group."""
    if len(np.unique(groups)) < 2:
        groups = np.arange(len(groups)) % 2
    folds = [(np.flatnonzero(groups != group), np.flatnonzero(groups == group)) for group in np.unique(groups)]
    return tuple(fold for fold in folds if len(fold[0]) >= 2 and len(fold[1]))


def _means(
    values: NDArray[np.float64], shown: Indices, runs: NDArray[np.object_]
) -> tuple[Indices, NDArray[np.float64]]:
    """Return the stimuli shown and their mean responses, each run less its mean."""
    centred = values.copy()
    for run in set(runs.tolist()):
        centred[runs == run] -= values[runs == run].mean(axis=0)
    stimuli, place = np.unique(shown, return_inverse=True)
    sums = np.zeros((len(stimuli), values.shape[1]))
    np.add.at(sums, place, centred)
    return stimuli, sums / np.bincount(place, minlength=len(stimuli))[:, None]
