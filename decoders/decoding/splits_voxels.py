"""The split of the voxel maps and their refit: the last runs of a subject, or blocks of its run, are held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from decoders.config import MegDecodingSettings, VoxelMapSettings
from decoders.errors import InputError
from decoders.stats.declared import Claim, Corpus, Declaration, DeclaredSplit, Fit, Rows, TimedRun
from decoders.stats.declared_rows import whole
from decoders.stimuli.hrf import HRF_LENGTH_S

SETTING = "decoding.voxels"
LEARNT = ("cooccurrence", "language_model")
TEXT_SCALING = "mean and scale of the text features"
# Between blocks that train: they choose voxels and penalties on each other, and are not scored.
TRAINING_GAP_S = 10.0
_LEAST_ROWS = 2
_MATCHED = "features of a phantom's own making bound what is possible, and the page says so"
_SPELLING = "the vectors follow from the spelling of single words, whatever is told in the story"


def declare_voxels(
    runs: Sequence[TimedRun], settings: VoxelMapSettings, stimuli: Sequence[str], learnt: Corpus | None = None
) -> Declaration:
    """Declare the split of one subject.

    Parameters
    ----------
    runs : sequence of TimedRun
        In order of session, run and stimulus.
    settings : VoxelMapSettings
    stimuli : sequence of str
        All stimuli with words: word vectors are made of their texts.
    learnt : Corpus, optional
        From which word vectors are learnt, where the settings say so.

    Raises
    ------
    InputError
        No run is left for training, or a single run that is not to be cut, or is too short for its blocks.
    """
    n = settings.test_runs
    cut = len(runs) == 1 and settings.blocks is not None
    if len(runs) <= n and not cut:
        single = " With a single run, 'blocks' cuts it." if len(runs) == 1 else ""
        remedy = f"Lower 'test_runs' or add runs.{single}"
        raise InputError(f"more than {n} runs", f"{len(runs)}", f"{SETTING}.test_runs", remedy)
    name = f"sub-{runs[0].subject}/test_runs"
    claims: tuple[Claim, ...] = ("time",) if cut else ("run", "stimulus")
    train, test = cut_run(runs[0], settings) if cut else (whole(runs[:-n]), whole(runs[-n:]))
    split = DeclaredSplit(name, claims, train, test, _FITS, (word_vectors(settings, stimuli, learnt),))
    return Declaration("voxels", SETTING, tuple(runs), (split,))


def cut_run(run: TimedRun, settings: VoxelMapSettings) -> tuple[tuple[Rows, ...], tuple[Rows, ...]]:
    """Cut a run into contiguous blocks of equal length; return those that train and those that are held out.

    Before the held-out ones, the haemodynamic response and the memory of the filter are left out.

    Raises
    ------
    InputError
        Fewer than two blocks would train, or the run is too short.
    """
    n, n_test = settings.blocks or 0, settings.test_runs
    if n < n_test + 2:
        remedy = "Raise 'blocks', or lower 'test_runs'."
        raise InputError(f"{n_test + 2} blocks or more, two of which train", f"{n}", f"{SETTING}.blocks", remedy)
    long_gap = math.ceil((HRF_LENGTH_S + run.filter_s) / run.tr - 1e-9)
    short_gap = math.ceil(TRAINING_GAP_S / run.tr - 1e-9)
    left_out = long_gap + (n - n_test - 1) * short_gap
    length = (run.n_rows - left_out) // n
    if length < _LEAST_ROWS:
        expected = f"a run of {left_out + _LEAST_ROWS * n} volumes or more for {n} blocks ({left_out} volumes are gaps)"
        remedy = "Ask for fewer blocks, or filter less (preprocess.high_pass_s)."
        raise InputError(expected, f"{run.n_rows}", f"{SETTING}.blocks, {run.key}", remedy)
    train = [Rows(run.key, k * (length + short_gap), k * (length + short_gap) + length) for k in range(n - n_test)]
    first = run.n_rows - n_test * length
    test = [Rows(run.key, first + k * length, first + (k + 1) * length) for k in range(n_test)]
    return tuple(train), tuple(test)


_FITS = (
    Fit("scaling", "mean, drift and scale of the recording", "each run", "preprocess"),
    Fit("scaling", TEXT_SCALING, "train", SETTING),
    Fit("selection", "the choice of voxels by the gate", "train", f"{SETTING}.select_share"),
    Fit("penalty", "the ridge penalty, by inner folds over runs", "train", f"{SETTING}.folds"),
)


def word_vectors(
    settings: VoxelMapSettings | MegDecodingSettings,
    stimuli: Sequence[str],
    learnt: Corpus | None = None,
    block: str = SETTING,
) -> Corpus:
    """Return the text that word vectors come from, of one block of settings; `learnt` as in `declare_voxels`."""
    if settings.features in LEARNT:
        if learnt is None:
            raise ValueError(f"the corpus from which the features '{settings.features}' are learnt is missing")
        return replace(learnt, kind="embedding", what="Word vectors learnt from the corpus of the language model")
    setting, texts = f"{block}.features", tuple(sorted(stimuli))
    if settings.features == "phantom":
        return Corpus("embedding", "The phantom's own word vectors", setting, texts, allowed=_MATCHED)
    return Corpus("embedding", "Vectors of letter trigrams of the study's words", setting, texts, allowed=_SPELLING)
