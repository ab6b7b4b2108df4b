"""The split of free text: that of the voxel maps, and what the language model may have read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from decoders.config import FreeTextSettings, VoxelMapSettings
from decoders.decoding.splits_voxels import declare_voxels
from decoders.errors import InputError
from decoders.stats.declared import Corpus, Declaration, TimedRun

ANALYSIS, SETTING = "free_text", "decoding.free_text"


def declare_free_text(
    runs: Sequence[TimedRun],
    voxels: VoxelMapSettings,
    settings: FreeTextSettings,
    stimuli: Collection[str],
    tested: Collection[str],
) -> Declaration:
    """Declare the split of one subject.

    Parameters
    ----------
    runs : sequence of TimedRun
        In order of session, run and stimulus.
    voxels : VoxelMapSettings
        Its runs are held out, and its voxels are read.
    settings : FreeTextSettings
    stimuli : collection of str
        All stimuli with words.
    tested : collection of str
        Stimuli of the held-out runs of any subject: one language model serves all of them.

    Raises
    ------
    InputError
        No run is left for training.
    """
    corpus = declare_corpus(settings, stimuli, tested)
    base = declare_voxels(runs, voxels, sorted(stimuli), corpus)
    splits = []
    for split in base.splits:
        embedding = split.corpora
        if voxels.features == "trigram":
            # The search spells words of the corpus, so their vectors need no other text.
            what = "Vectors of letter trigrams of the corpus"
            embedding = (*embedding, replace(corpus, kind="embedding", what=what))
        fits = tuple(fit for fit in split.fits if fit.kind != "scaling" or fit.on == "each run")
        splits.append(replace(split, fits=fits, corpora=(*embedding, corpus)))
    return Declaration(ANALYSIS, SETTING, base.runs, tuple(splits))


def declare_corpus(settings: FreeTextSettings, stimuli: Collection[str], tested: Collection[str]) -> Corpus:
    """Return what the language model learns from, and with it learnt word vectors; see `declare_free_text`."""
    heard = tuple(sorted(set(stimuli) - set(tested)))
    what = "The character language model and the words that it may write"
    return Corpus("language_model", what, f"{SETTING}.corpus", heard, settings.corpus, unheard=settings.corpus_unheard)


def held_out_stimuli(declared: Declaration) -> set[str]:
    """Return the stimuli of all held-out runs."""
    stimulus = {run.key: run.stimulus for run in declared.runs}
    return {stimulus[rows.run] for split in declared.splits for rows in split.test}


def language_corpus(declared: Declaration) -> Corpus:
    """Return the corpus of the language model, the same in every split.

    Raises
    ------
    InputError
        No subject can be decoded.
    """
    for split in declared.splits:
        for corpus in split.corpora:
            if corpus.kind == "language_model":
                return corpus
    remedy = "Look at preprocessed/quality.tsv for the runs that were excluded, and why."
    raise InputError("a subject who can be decoded", "none", SETTING, remedy)
