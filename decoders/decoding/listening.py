"""What a subject heard, run by run, and the runs on the voxels that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.config import MegDecodingSettings, VoxelMapSettings
from decoders.data.manifest import Run, read_manifest, select_runs
from decoders.decoding import maps
from decoders.decoding.common_grid import common_mask, on_common_grid, on_grid, without_grid
from decoders.decoding.phantom_vectors import phantom_vectors
from decoders.decoding.run_parts import parts_of
from decoders.decoding.splits_voxels import LEARNT, SETTING, TEXT_SCALING, declare_voxels
from decoders.decoding.stage_encode import runs_with_words
from decoders.decoding.stored_runs import Runs, some_runs
from decoders.stage import Job
from decoders.stats.declared import Corpus, DeclaredSplit, agreed, read_audited
from decoders.stats.timed_runs import recorded
from decoders.stimuli.embedding import Embedding, read_embedding, trigram_embedding
from decoders.stimuli.features import feature_matrix, zscore_runs
from decoders.stimuli.timings import Words, words_by_stimulus
from decoders.store.recording import Recording, read_recording_header
from decoders.store.tables import read_table

_FEATURES = ("word_rate", "embedding")


@dataclass(frozen=True)
class Listening:
    """The runs of one subject, and what was heard in them.

    Attributes
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        One per run (or block of the only run), z-scored per run; runs on disk are read when they are needed.
    targets : list of array of shape (n_volumes, n_targets)
        Word count and word vectors per volume; z-scored by the training runs.
    features : list of array of shape (n_volumes, n_targets)
        The same with the haemodynamic response.
    mask : array of shape (x, y, z), bool
    tr : float
    trained, tested : sequence of int
        Runs by number, as declared.
    labels : sequence of str
        Names of the runs.
    stories : sequence of str
        What was heard in each of them.
    grid : bool
        Whether features are voxels on a grid; of regions and surfaces the mask is a list, and nothing is smoothed.
    """

    x: Runs
    targets: list[NDArray[np.float32]]
    features: list[NDArray[np.float32]]
    mask: NDArray[np.bool_]
    tr: float
    trained: Sequence[int] = ()
    tested: Sequence[int] = ()
    labels: Sequence[str] = ()
    stories: Sequence[str] = ()
    grid: bool = True

    @property
    def trained_labels(self) -> list[str]:
        """The names of the runs that train."""
        return [self.labels[run] for run in self.trained]

    def fitting(self, settings: VoxelMapSettings) -> VoxelMapSettings:
        """Return settings that fit these features."""
        return settings if self.grid else without_grid(settings)

    @property
    def training(self) -> Listening:
        """The runs that train."""
        return self._part(self.trained)

    @property
    def test(self) -> Listening:
        """The runs that are held out."""
        return self._part(self.tested)

    def _part(self, runs: Sequence[int]) -> Listening:
        targets, features = ([part[run] for run in runs] for part in (self.targets, self.features))
        x = some_runs(self.x, runs)
        stories = [self.stories[run] for run in runs]
        return replace(self, x=x, targets=targets, features=features, trained=(), tested=(), stories=stories)


def listen(job: Job) -> tuple[Listening, list[Recording]]:
    """Return the runs of the job's subject by the audited split, and their recordings, whose data stay on disk."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    words = words_by_stimulus(read_table(job.input("words"), text_columns=("stimulus", "word", "text")))
    recordings = runs_with_words(
        [read_recording_header(path) for path in job.inputs["recording"]], settings.task, words
    )
    rows = select_runs(read_manifest(job.input("manifest")), subject=subject)
    audited = read_audited(job.input("splits"), job.input("leaks")).of_subject(subject)
    own = declare_voxels(recorded(recordings), settings, sorted(words), audited.splits[0].corpora[0])
    split = agreed(own, audited, f"subject {subject}").splits[0]
    vectors = job.input("vectors") if settings.features in LEARNT else None
    embedding = words_embedding(settings, rows, words, split.corpora[0], job.input("manifest"), vectors)
    return prepare(recordings, words, embedding, split), recordings


def prepare(
    recordings: Sequence[Recording], words: Mapping[str, Words], embedding: Embedding, split: DeclaredSplit
) -> Listening:
    """Bring the runs of a subject to common voxels, and compute the features of their text.

    Parameters
    ----------
    recordings : sequence of Recording
        Kind "volume", axis "time", in order.
    words : mapping of str to Words
        By stimulus.
    embedding : Embedding
        Word vectors.
    split : DeclaredSplit
        Which runs train, which are held out, and which the text features are z-scored by.

    Raises
    ------
    InputError
        No volumes on one grid, or runs of different TR.
    """
    mask = common_mask(recordings, SETTING)
    found = parts_of(recordings, split)
    parts, trained = found.recordings, found.trained
    x = on_common_grid(parts, mask)
    plain, convolved = (text_targets(parts, words, embedding, hrf) for hrf in (False, True))
    side = {"train": trained, "test": found.tested}.get(split.fit("scaling", TEXT_SCALING).on, range(len(parts)))
    targets, features = ([run.astype(np.float32) for run in zscore_runs(runs, side)] for runs in (plain, convolved))
    stories = [part.stimulus for part in parts]
    return Listening(
        x, targets, features, mask, parts[0].tr, trained, found.tested, found.labels, stories, on_grid(parts)
    )


def text_targets(
    recordings: Sequence[Recording], words: Mapping[str, Words], embedding: Embedding, hrf: bool = False
) -> list[NDArray[np.float64]]:
    """Return word count and word vectors per volume of each run, of shape (n_volumes, n_targets)."""
    return [
        feature_matrix(_FEATURES, words[r.stimulus], r.time, r.tr, hrf=hrf, embedding=embedding)[0] for r in recordings
    ]


def words_embedding(
    settings: VoxelMapSettings | MegDecodingSettings,
    rows: Sequence[Run],
    words: Mapping[str, Words],
    corpus: Corpus,
    where: Path,
    vectors: Path | None = None,
) -> Embedding:
    """Return the word vectors that the targets are made of.

    Parameters
    ----------
    settings : VoxelMapSettings or MegDecodingSettings
    rows : sequence of Run
        Of the manifest, where a phantom's own vectors lie.
    words : mapping of str to Words
        By stimulus.
    corpus : Corpus
        As declared.
    where : Path
        The manifest, for errors.
    vectors : Path, optional
        Learnt word vectors, from the stage ``language``.
    """
    if settings.features in LEARNT:
        assert vectors is not None
        return read_embedding(vectors)
    if settings.features == "trigram":
        # From the letters of all words, those of the test runs too: no recording is seen.
        return trigram_embedding([word for name in corpus.stimuli for word in words[name].word])
    return phantom_vectors(rows, where)


def planted_voxels(
    rows: Sequence[Run], recordings: Sequence[Recording], mask: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Return the planted voxels of a phantom, shape (n_voxels,); None where nothing or everything is planted."""
    tasks = {r.task for r in recordings}
    paths = sorted({path for row in rows if row.task in tasks and (path := row.path("truth")) is not None})
    if not paths or not on_grid(recordings):
        return None
    planted = maps.read_planted(paths[0], mask)
    return planted if planted.any() and not planted.all() else None
