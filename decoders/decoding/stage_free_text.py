"""The stage ``free_text``: the text of the held-out runs of one subject, word by word, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import FreeTextSettings, VoxelMapSettings
from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding import tang
from decoders.decoding.beam import SearchOptions
from decoders.decoding.bits_table import BITS, Bits, bits_rows, measure_bits
from decoders.decoding.bottleneck import lags_in_volumes
from decoders.decoding.common_grid import common_mask, on_common_grid
from decoders.decoding.free_controls import (
    LANGUAGE_MODEL,
    MODEL,
    NOISE,
    OTHER_SUBJECT,
    Reader,
    Told,
    decode_with_controls,
    noise_like,
    other_stories,
    rolled,
)
from decoders.decoding.free_others import others_runs
from decoders.decoding.free_scores import window_rolls
from decoders.decoding.free_table import TASK, Compared, score_rows, shared_windows, text_rows
from decoders.decoding.free_text import Listener, Timing, fit_listener
from decoders.decoding.lexicon import lexicon_units
from decoders.decoding.likelihood import Floats
from decoders.decoding.phantom_vectors import phantom_vectors
from decoders.decoding.refit import SHIFTED
from decoders.decoding.responses import WordVectors
from decoders.decoding.retrieval import retrieve_with_controls
from decoders.decoding.run_parts import parts_of
from decoders.decoding.score_nulls import scores_frame, story_seeds, write_nulls
from decoders.decoding.splits_free_text import SETTING, declare_free_text, language_corpus
from decoders.decoding.splits_voxels import LEARNT
from decoders.decoding.stage_encode import runs_with_words
from decoders.decoding.stage_language import corpus_text, read_language
from decoders.decoding.symbols import spelled, words_of
from decoders.decoding.tang_encoding import fit_encoder
from decoders.decoding.text_extras import ABSENT, absent_row, extra_rows, extra_scorers
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.declared import Corpus, agreed, read_audited
from decoders.stats.timed_runs import recorded
from decoders.stimuli.embedding import Embedding, read_embedding, trigram_embedding
from decoders.stimuli.timings import Words, words_by_stimulus
from decoders.store.arrays import read_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import read_table, write_table

PREFIXES = 3  # unfinished words that are kept per hypothesis


@dataclass(frozen=True)
class _Runs:
    """The runs of one subject by the audited split.

    Attributes
    ----------
    known_x, x : list of array of shape (n_volumes, n_voxels)
        Training and held-out runs, or blocks of the only run.
    known, heard : list of Words
        What was heard in them, in seconds of the run.
    names, stories : list of str
        Labels of the held-out runs, and what was heard in them.
    voxels : array of int
        Selected on the training runs.
    tr : float
    corpus : Corpus
        Of the language model.
    others : list of array of shape (n_volumes, n_voxels), or str
        A recording of another subject for each held-out run, or why there is none.
    """

    known_x: list[NDArray[np.float32]]
    x: list[NDArray[np.float32]]
    known: list[Words]
    heard: list[Words]
    names: list[str]
    stories: list[str]
    voxels: NDArray[np.int64]
    tr: float
    corpus: Corpus
    others: list[NDArray[np.float32]] | str


def run(job: Job) -> None:
    """Write the scores and the texts of one subject."""
    settings: FreeTextSettings = job.settings.decoding.free_text
    voxels: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    words = words_by_stimulus(read_table(job.input("words"), text_columns=("stimulus", "word", "text")))
    runs = _read(job, words)
    windows = shared_windows([len(run) for run in runs.x], runs.tr, settings.window_s)
    embedding = _embedding(job, voxels, words, runs.corpus)
    _log_unknown(job, runs.heard, embedding)
    timing = Timing(runs.tr, lags=lags_in_volumes(runs.tr))
    listener = fit_listener(runs.known_x, runs.known, runs.voxels, WordVectors(embedding), timing, voxels.folds)
    reader = _reader(job, listener, settings)
    told = _told(job, runs, reader, windows, voxels.folds)
    meaning = WordVectors(embedding, count=False)
    seeds = story_seeds(job.rng, runs.stories)
    rolls = window_rolls([len(windows)] * len(runs.x), settings.n_permutations, seeds)
    compared = Compared(runs.heard, meaning, windows, runs.tr, settings.blur_s, rolls)
    about = {"subject": subject, "seed": job.seed, "task": TASK}
    scores = score_rows(told, compared, subject, job.seed, job.rng("free text scores", subject))
    bits = _bits(job, runs, reader, settings, voxels.folds)
    scores += bits_rows(bits, about, settings.n_permutations, job.rng("bits scores", subject), seeds)
    scorers = extra_scorers(runs.heard, settings.bert_model, settings.bert_layer)
    scores += extra_rows(told, runs.heard, windows, scorers, about, job.rng("extra scores", subject))
    if isinstance(runs.others, str):
        scores.append({**absent_row(about, OTHER_SUBJECT, BITS, runs.others), "control_of": MODEL})
    for row in scores:
        if str(row["method"]).startswith(ABSENT):
            job.log.info("sub-%s, %s, %s: %s", subject, *(row[k] for k in ("model", "metric", "method")))
        elif not row["model"].startswith("control:"):
            job.log.info("sub-%s, %s, %s: %.3f, p %.4f", subject, *(row[k] for k in ("model", "metric", "score", "p")))
    write_table(job.outputs["scores"], scores_frame(scores), "decoding_scores")
    write_nulls(job.outputs["nulls"], scores, subject)
    write_table(job.outputs["text"], pd.DataFrame(text_rows(told, compared, subject, runs.names)), "text")


def _read(job: Job, words: dict[str, Words]) -> _Runs:
    settings, voxels = job.settings.decoding.free_text, job.settings.decoding.voxels
    every = runs_with_words([read_recording(path) for path in job.inputs["recording"]], voxels.task, words)
    recordings = [recording for recording in every if recording.subject == job.labels["subject"]]
    audited = read_audited(job.input("splits"), job.input("leaks"))
    unread = set(words) - set(language_corpus(audited).stimuli)
    own = declare_free_text(recorded(recordings), voxels, settings, sorted(words), unread)
    subject = job.labels["subject"]
    split = agreed(own, audited.of_subject(subject), f"subject {subject}").splits[0]
    mask = common_mask(recordings, SETTING)
    found = parts_of(recordings, split)
    parts, trained, tested = found.recordings, found.trained, found.tested
    x, heard = on_common_grid(parts, mask), [heard_in(r, words[r.stimulus]) for r in parts]
    selected = _selected(job, mask, found.trained_labels)
    others = others_runs([parts[i] for i in tested], every, mask, selected)
    return _Runs(
        [x[i] for i in trained], [x[i] for i in tested], [heard[i] for i in trained], [heard[i] for i in tested],
        [parts[i].run for i in tested], [parts[i].stimulus for i in tested], selected, parts[0].tr,
        language_corpus(audited), others,
    )  # fmt: skip


def _reader(job: Job, listener: Listener, settings: FreeTextSettings) -> Reader:
    language, lexicon = read_language(job.input("language"))
    options = SearchOptions(settings.width, PREFIXES * settings.width, settings.language_weight)
    return Reader(listener, language, lexicon_units(lexicon, language.alphabet), options)


def _told(job: Job, runs: _Runs, reader: Reader, windows: Floats, n_folds: int) -> list[Told]:
    """Return the texts of the search, of the baselines, and of all their controls."""
    settings: FreeTextSettings = job.settings.decoding.free_text
    subject, listener = job.labels["subject"], reader.listener
    n, width = len(listener.voxels), reader.options.width
    job.log.info("sub-%s: %d voxels, %d test runs, beams of %d", subject, n, len(runs.x), width)
    others = [] if isinstance(runs.others, str) else runs.others
    found = decode_with_controls(reader, runs.x, job.rng("free text controls", subject), others)
    if "retrieval" in settings.baselines:
        rng = job.rng("retrieval controls", subject)
        found += retrieve_with_controls(runs.known_x, runs.known, runs.x, listener, windows, n_folds, rng, others)
    if "tang2023" in settings.baselines:
        alone = next(told.texts for told in found if told.model == LANGUAGE_MODEL)
        found += _tang(job, runs, reader, alone, others)
    return [*found, other_stories(runs.known, len(runs.x), job.rng("other stories", subject))]


def _tang(
    job: Job, runs: _Runs, reader: Reader, alone: list[Words], others: Sequence[NDArray[np.float32]]
) -> list[Told]:
    """Return the texts of the baseline of Tang et al. 2023, and of its controls."""
    subject, rng = job.labels["subject"], job.rng("tang2023", job.labels["subject"])
    encoder = fit_encoder(runs.known_x, runs.known, reader.language, runs.tr, rng)
    sources: dict[str, Sequence[NDArray[np.floating]]] = {
        tang.MODEL: runs.x,
        SHIFTED: [rolled(run, rng) for run in runs.x],
        NOISE: [noise_like(run, reader.listener, rng) for run in runs.x],
    }
    if len(others):
        sources[OTHER_SUBJECT] = others
    width = job.settings.decoding.free_text.tang_width
    job.log.info("sub-%s: tang2023 with %d voxels, beams of %d", subject, len(encoder.voxels), width)
    return tang.decode_with_controls(reader.language, reader.units, encoder, reader.listener, sources, alone, width)


def _bits(job: Job, runs: _Runs, reader: Reader, settings: FreeTextSettings, n_folds: int) -> Bits:
    """Return the bits per character of what was heard, by the recording, by noise and by other subjects."""
    rng = job.rng("bits controls", job.labels["subject"])
    others = {NOISE: [noise_like(run, reader.listener, rng) for run in runs.x]}
    if not isinstance(runs.others, str):
        others[OTHER_SUBJECT] = list(runs.others)
    return measure_bits(reader, runs.known_x, runs.known, runs.x, runs.heard, others, settings.window_s, n_folds)


def _log_unknown(job: Job, heard: Sequence[Words], embedding: Embedding) -> None:
    vectors = set(embedding.words)
    n_unknown = sum(word not in vectors for words in heard for word in words.word)
    if n_unknown:
        n = sum(map(len, heard))
        job.log.info("sub-%s: %d of %d heard words have no vector", job.labels["subject"], n_unknown, n)


def heard_in(recording: Recording, words: Words) -> Words:
    """Return the words that are heard during a run, in seconds since its first volume, as plain text.

    Raises
    ------
    InputError
        The text lies outside of the run.
    """
    start = float(recording.time[0])
    stop = start + len(recording.time) * recording.tr
    inside = words.between(start, stop)
    if not len(inside):
        found = f"{len(words)} words, none of them there"
        where = f"sub-{recording.subject} run {recording.run or '1'}, stimulus '{recording.stimulus}'"
        remedy = "Check the onset of the stimulus in the events, and the times of its words."
        raise InputError(f"words between {start:g} and {stop:g} s of the stimulus", found, where, remedy)
    # As the search writes: marks and capitals are none of its business, and would count as errors.
    return replace(inside, onset=inside.onset - start, text=tuple(map(spelled, inside.word)))


def _embedding(job: Job, voxels: VoxelMapSettings, words: dict[str, Words], corpus: Corpus) -> Embedding:
    if voxels.features == "phantom":
        rows = select_runs(read_manifest(job.input("manifest")), subject=job.labels["subject"])
        return phantom_vectors(rows, job.input("manifest"))
    if voxels.features in LEARNT:
        return read_embedding(job.input("vectors"))
    return trigram_embedding(words_of(corpus_text(corpus, words, job.settings.data.mirror)))


def _selected(job: Job, mask: NDArray[np.bool_], trained: Sequence[str]) -> NDArray[np.int64]:
    """Return the voxels that the gate selected on the same training runs."""
    path = job.input("maps")
    maps = read_arrays(path)
    runs = maps.attributes.get("trained")
    if not np.array_equal(maps["mask"].astype(bool), mask) or list(runs or ()) != list(trained):
        remedy = "Delete the file and run again: it was made from other runs."
        raise InputError(f"maps of the training runs {', '.join(trained[:3])}, …", f"maps of {runs}", path, remedy)
    return np.asarray(maps["selected"], dtype=np.int64)
