"""The split of the voxel maps and their refit: the last runs of a subject are held out."""

from __future__ import annotations

from collections.abc import Sequence

from decoders.config import MegDecodingSettings, VoxelMapSettings
from decoders.errors import InputError
from decoders.stats.declared import Corpus, Declaration, DeclaredSplit, Fit, TimedRun
from decoders.stats.declared_rows import whole

SETTING = "decoding.voxels"
TEXT_SCALING = "mean and scale of the text features"
_MATCHED = "features of a phantom's own making bound what is possible, and the page says so"
_SPELLING = "the vectors follow from the spelling of single words, whatever is told in the story"


def declare_voxels(runs: Sequence[TimedRun], settings: VoxelMapSettings, stimuli: Sequence[str]) -> Declaration:
    """Declare the split of one subject.

    Parameters
    ----------
    runs : sequence of TimedRun
        In order of session, run and stimulus.
    settings : VoxelMapSettings
    stimuli : sequence of str
        All stimuli with words: word vectors are made of their texts.

    Raises
    ------
    InputError
        No run is left for training.
    """
    n = settings.test_runs
    if len(runs) <= n:
        remedy = "Lower 'test_runs' or add runs."
        raise InputError(f"more than {n} runs", f"{len(runs)}", f"{SETTING}.test_runs", remedy)
    name = f"sub-{runs[0].subject}/test_runs"
    train, test = whole(runs[:-n]), whole(runs[-n:])
    split = DeclaredSplit(name, ("run", "stimulus"), train, test, _FITS, (word_vectors(settings, stimuli),))
    return Declaration("voxels", SETTING, tuple(runs), (split,))


_FITS = (
    Fit("scaling", "mean, drift and scale of the recording", "each run", "preprocess"),
    Fit("scaling", TEXT_SCALING, "train", SETTING),
    Fit("selection", "the choice of voxels by the gate", "train", f"{SETTING}.select_share"),
    Fit("penalty", "the ridge penalty, by inner folds over runs", "train", f"{SETTING}.folds"),
)


def word_vectors(
    settings: VoxelMapSettings | MegDecodingSettings, stimuli: Sequence[str], block: str = SETTING
) -> Corpus:
    """Return the text that the word vectors of the voxel maps come from, or those of another block of settings."""
    setting, texts = f"{block}.features", tuple(sorted(stimuli))
    if settings.features == "phantom":
        return Corpus("embedding", "The phantom's own word vectors", setting, texts, allowed=_MATCHED)
    return Corpus("embedding", "Vectors of letter trigrams of the study's words", setting, texts, allowed=_SPELLING)
