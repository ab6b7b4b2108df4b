"""The splits across people: every subject is held out in turn, with the story of its last runs.

Without any run of the held-out subject the split holds out subject, story and run. Where some runs are given, they
are declared apart from the training rows, as ``few_shot``: they share the subject with the test, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from decoders.config import AcrossSettings, VoxelMapSettings
from decoders.decoding.splits_voxels import TEXT_SCALING, word_vectors
from decoders.errors import InputError
from decoders.stats.declared import Corpus, Declaration, DeclaredSplit, Fit, Rows, TimedRun
from decoders.stats.declared_rows import whole

SETTING = "decoding.across"
Amount = int | Literal["all"]
_CLAIMS: tuple[Literal["run", "stimulus", "subject"], ...] = ("run", "stimulus", "subject")


def declare_across(
    people: Sequence[Sequence[TimedRun]], voxels: VoxelMapSettings, settings: AcrossSettings, stimuli: Sequence[str],
    learnt: Corpus | None = None,
) -> Declaration:  # fmt: skip
    """Declare the splits of all subjects and amounts of given runs.

    Parameters
    ----------
    people : sequence of sequence of TimedRun
        Runs of each subject in order of session, run and stimulus.
    voxels : VoxelMapSettings
        Its `test_runs` are held out of all subjects.
    settings : AcrossSettings
    stimuli : sequence of str
        All stimuli with words: word vectors are made of their texts.
    learnt : Corpus, optional
        As in `declare_voxels`.

    Raises
    ------
    InputError
        One subject only, too few runs, or recordings of different TR.
    """
    _check(people, voxels.test_runs, settings)
    corpus = word_vectors(voxels, stimuli, learnt)
    splits = [
        _split(number, people, voxels.test_runs, amount, corpus)
        for number in range(len(people))
        for amount in settings.few_shot
    ]
    return Declaration("across", SETTING, tuple(run for runs in people for run in runs), tuple(splits))


def condition(amount: Amount) -> str:
    """Return the name of the split of an amount of given runs, in the tables of scores."""
    return f"held_out_subject_{amount}_runs"


def amount_of(split: str) -> Amount:
    """Return the amount of given runs in the name of a split."""
    amount = split.removeprefix("held_out_subject_").removesuffix("_runs")
    return "all" if amount == "all" else int(amount)


def fold_name(subject: str, amount: Amount) -> str:
    """Return the name of a declared split."""
    return f"sub-{subject}/{amount}_runs"


def _split(
    number: int, people: Sequence[Sequence[TimedRun]], n_test: int, amount: Amount, corpus: Corpus
) -> DeclaredSplit:
    own = people[number]
    train = [run for i, runs in enumerate(people) if i != number for run in runs[:-n_test]]
    given: tuple[Rows, ...] = whole(own[:-n_test] if amount == "all" else own[:amount])
    fits = _FITS + (_FEW_SHOT_FITS if given else ())
    return DeclaredSplit(
        fold_name(own[0].subject, amount), _CLAIMS, whole(train), whole(own[-n_test:]), fits, (corpus,), given
    )


_FITS = (
    Fit("scaling", "mean, drift and scale of the recording", "each run", "preprocess"),
    Fit("scaling", TEXT_SCALING, "train", "decoding.voxels"),
    Fit("selection", "the choice of voxels by the others' gates", "train", "decoding.voxels.select_share"),
    Fit("penalty", "the ridge penalties, by inner folds", "train", "decoding.voxels.folds"),
)
_FEW_SHOT_FITS = (
    Fit("selection", "the choice of voxels of the new subject", "few_shot", f"{SETTING}.gate_prior"),
    Fit("penalty", "the ridge penalties of the new subject, by inner folds", "few_shot", SETTING),
)


def _check(people: Sequence[Sequence[TimedRun]], n_test: int, settings: AcrossSettings) -> None:
    if len(people) < 2:
        found = f"{len(people)} ({', '.join(runs[0].subject for runs in people)})"
        remedy = "Decoding across subjects needs others to learn from: add subjects, or drop the block 'across'."
        raise InputError("at least two subjects with enough runs of a story", found, SETTING, remedy)
    times = {run.tr: run.subject for runs in people for run in runs}
    if len(times) > 1:
        found = ", ".join(f"{tr:g} s in subject {who}" for tr, who in sorted(times.items()))
        remedy = "One network reads all subjects: choose subjects of one protocol by data.subjects."
        raise InputError("recordings of one TR", found, SETTING, remedy)
    most = max((amount for amount in settings.few_shot if amount != "all"), default=0)
    for runs in people:
        if len(runs) - n_test < max(most, 1):
            remedy = "Lower 'few_shot' or decoding.voxels.test_runs, or leave the subject out."
            expected = f"{most + n_test} runs of every subject ({most} given, {n_test} held out)"
            raise InputError(expected, f"{len(runs)} of subject {runs[0].subject}", f"{SETTING}.few_shot", remedy)
