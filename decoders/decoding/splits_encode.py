"""The splits of the encoding models: by run or by contiguous block, and by subject where all heard the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decoders.config import EncodingSettings
from decoders.stats.declared import Claim, Corpus, Declaration, DeclaredSplit, Fit, Rows, TimedRun
from decoders.stats.declared_rows import indices_of, rows_at
from decoders.stats.splits import Split, audit_split, contiguous_blocks, leave_one_run_out
from decoders.stats.timed_runs import by_subject

N_DRAWS = 20
SETTING = "decoding.encoding"
# Subjects by number: who trains, who is tested.
Members = tuple[tuple[int, ...], tuple[int, ...]]
_FITS = (
    Fit("scaling", "mean, drift and scale of the recording", "each run", "preprocess"),
    Fit("penalty", "the ridge penalty, by inner folds", "train", f"{SETTING}.alphas"),
)


def declare_encode(
    runs: Sequence[TimedRun],
    settings: EncodingSettings,
    shared: bool,
    stimuli: Sequence[str],
    rng: np.random.Generator,
) -> Declaration:
    """Declare the splits of all subjects.

    Parameters
    ----------
    runs : sequence of TimedRun
        Sorted by subject.
    settings : EncodingSettings
    shared : bool
        Whether all subjects heard the same at the same times: then they are scored as a group as well.
    stimuli : sequence of str
        All stimuli with words: word vectors are made of their texts.
    rng : Generator
        Draws the subjects that are averaged.
    """
    corpora = _corpora(settings, stimuli)
    listeners = by_subject(runs)
    splits: list[DeclaredSplit] = []
    if shared and len(listeners) > 1:
        own = list(listeners.values())
        for name, members in group_members(list(listeners), settings.average_subjects, rng).items():
            splits += _of_set(name, own, members, time_splits(own[0], settings), corpora)
    else:
        for subject, own_runs in listeners.items():
            name, folds = f"sub-{subject}/unseen_time", time_splits(own_runs, settings)
            splits += _of_set(name, [own_runs], ((0,), (0,)), folds, corpora)
    return Declaration("encode", SETTING, tuple(runs), tuple(splits))


def time_splits(runs: Sequence[TimedRun], settings: EncodingSettings) -> list[Split]:
    """Return the folds of one subject: by run, or by contiguous block when there is one run."""
    lengths = [run.n_rows for run in runs]
    return split_lengths(lengths, settings.n_blocks, settings.gap_tr)


def split_lengths(lengths: Sequence[int], n_blocks: int, gap: int) -> list[Split]:
    """Return the folds of runs of given lengths."""
    segment = np.repeat(np.arange(len(lengths)), lengths)
    if len(lengths) > 1:
        splits = leave_one_run_out([f"{run + 1:02d}" for run in segment])
        for split in splits:
            audit_split(split, groups=segment)
    else:
        splits = contiguous_blocks(lengths[0], n_blocks, gap)
        for split in splits:
            audit_split(split, gap=gap)
    return splits


def group_members(subjects: Sequence[str], n_average: int, rng: np.random.Generator) -> dict[str, Members]:
    """Return who trains and who is tested, by the name of the set.

    Sets are ``unseen_time`` (all), ``unseen_subject/sub-<label>``, and, with more subjects than are averaged,
    ``unseen_subjects_averaged/draw-<number>``: random choices of them, the others train.
    """
    n = len(subjects)
    everyone = tuple(range(n))
    members: dict[str, Members] = {"unseen_time": (everyone, everyone)}
    for i, subject in enumerate(subjects):
        members[f"unseen_subject/sub-{subject}"] = (tuple(k for k in everyone if k != i), (i,))
    if n > n_average:
        for draw in range(N_DRAWS):
            order = rng.permutation(n)
            tested, others = np.sort(order[:n_average]).tolist(), np.sort(order[n_average:]).tolist()
            members[f"unseen_subjects_averaged/draw-{draw + 1:02d}"] = (tuple(others), tuple(tested))
    return members


def declared_members(declared: Declaration, subjects: Sequence[str]) -> dict[str, Members]:
    """Return who trains and who is tested in each declared set, as numbers into `subjects`."""
    number = {run.key: list(subjects).index(run.subject) for run in declared.runs}
    found: dict[str, Members] = {}
    for split in declared.splits:
        if split.set not in found:
            train, test = (tuple(sorted({number[part.run] for part in rows})) for rows in (split.train, split.test))
            found[split.set] = (train, test)
    return found


def declared_folds(declared: Declaration, name: str, runs: Sequence[TimedRun]) -> list[Split]:
    """Return the folds of a declared set as indices into the joined runs of one subject."""
    return [
        Split(split.fold, indices_of(split.train, runs), indices_of(split.test, runs))
        for split in declared.splits
        if split.set == name
    ]


def _of_set(
    name: str, listeners: Sequence[Sequence[TimedRun]], members: Members, folds: Sequence[Split],
    corpora: tuple[Corpus, ...],
) -> list[DeclaredSplit]:  # fmt: skip
    claims: tuple[Claim, ...] = ("run", "stimulus") if len(listeners[0]) > 1 else ("time",)
    claims = claims if set(members[0]) & set(members[1]) else (*claims, "subject")
    return [
        DeclaredSplit(
            f"{name}/{fold.name}", claims, _rows(fold.train, listeners, members[0]),
            _rows(fold.test, listeners, members[1]), _FITS, corpora,
        )
        for fold in folds
    ]  # fmt: skip


def _rows(indices: np.ndarray, listeners: Sequence[Sequence[TimedRun]], chosen: Sequence[int]) -> tuple[Rows, ...]:
    return tuple(part for number in chosen for part in rows_at(indices, listeners[number]))


def _corpora(settings: EncodingSettings, stimuli: Sequence[str]) -> tuple[Corpus, ...]:
    if "embedding" not in settings.features:
        return ()
    if settings.other_text:
        what = "Word vectors of co-occurrence in passages that were not heard"
        return (Corpus("embedding", what, f"{SETTING}.other_text", sources=(settings.other_text,), unheard=True),)
    what = "Word vectors of co-occurrence in the study's own texts"
    return (Corpus("embedding", what, f"{SETTING}.features", tuple(sorted(stimuli))),)
