"""The stage ``meg``: sensors of one subject that carry what is heard, windows that they tell, text that they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import MegDecodingSettings
from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding.beam import SearchOptions
from decoders.decoding.free_controls import MODEL, Reader, decode_with_controls, other_stories
from decoders.decoding.free_scores import window_rolls
from decoders.decoding.free_table import Compared, score_rows, shared_windows, text_rows
from decoders.decoding.language import Language
from decoders.decoding.language_fit import LanguageOptions, fit_language
from decoders.decoding.lexicon import corpus_words, lexicon_units
from decoders.decoding.listening import words_embedding
from decoders.decoding.meg_gate import SensorMap, map_sensors
from decoders.decoding.meg_runs import Stretch, run_name, stretch, stretches, with_text
from decoders.decoding.meg_text import REDUCTION, fit_sensor_listener, search_input
from decoders.decoding.meg_windows import METRICS, NO_SENSOR, window_rows
from decoders.decoding.responses import WordVectors
from decoders.decoding.score_nulls import scores_frame, story_seeds, write_nulls
from decoders.decoding.splits_free_text import held_out_stimuli, language_corpus
from decoders.decoding.splits_meg import SETTING, declare_meg, sensor_runs
from decoders.decoding.stage_encode import runs_with_words
from decoders.decoding.stage_free_text import PREFIXES
from decoders.decoding.stage_language import corpus_text
from decoders.decoding.text_extras import absent_row
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.declared import DeclaredSplit, Rows, agreed, read_audited
from decoders.stats.timed_runs import recorded
from decoders.stimuli.embedding import Embedding
from decoders.stimuli.timings import Words, words_by_stimulus
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import COLUMNS, read_table, write_table

MODALITY, TEXT_TASK = "meg", "text"
ONE_SUBJECT = "there is no usable run of text of another subject"


@dataclass(frozen=True)
class Heard:
    """The runs of one subject by the audited split.

    Attributes
    ----------
    train, test : list of Stretch
        With their text.
    others : list of Stretch, or str
        A recording of another subject for each of `test`, or why there is none.
    split : DeclaredSplit
    first : Recording
        Says which sensors there are.
    embedding : Embedding
    """

    train: list[Stretch]
    test: list[Stretch]
    others: list[Stretch] | str
    split: DeclaredSplit
    first: Recording
    embedding: Embedding


def run(job: Job) -> None:
    """Write the gate, the scores and the texts of one subject."""
    settings: MegDecodingSettings = job.settings.decoding.meg
    subject = job.labels["subject"]
    words = words_by_stimulus(read_table(job.input("words"), text_columns=("stimulus", "word", "text")))
    heard = _read(job, words)
    names, types = heard.first.names, heard.first.channel_types
    seed = job.torch_seed("meg gate", subject)
    found = map_sensors(heard.train, heard.first.positions, types, settings, seed, job.rng("meg nulls", subject))
    chosen = found.selected
    job.log.info("sub-%s: %d of %d sensors above the null pairings", subject, len(chosen), len(names))
    about = {"subject": subject, "seed": job.seed, "split": heard.split.fold}
    rows, decoded = window_rows(
        heard.train, heard.test, heard.others, chosen, settings, {**about, "task": f"window_{settings.window_s:g}s"},
        job.torch_seed("meg encoder", subject), job.rng("meg windows", subject), _shifts(job, heard),
    )  # fmt: skip
    table = pd.DataFrame(columns=list(COLUMNS["text"]))
    if settings.text is not None:
        more, table = _text(job, heard, found, words, {**about, "task": TEXT_TASK})
        rows += more
    rows = [{**row, "modality": MODALITY} for row in rows]
    for row in rows:
        if np.isfinite(row["p"]):
            job.log.info("sub-%s, %s, %s: %.3f, p %.4f", subject, *(row[k] for k in ("model", "metric", "score", "p")))
    write_table(job.outputs["scores"], scores_frame(rows), "decoding_scores")
    write_nulls(job.outputs["nulls"], rows, subject)
    write_table(job.outputs["text"], table, "text")
    _write(job.outputs["arrays"], heard, found, decoded, settings)


def _shifts(job: Job, heard: Heard) -> list[int]:
    return story_seeds(job.rng, [run.stimulus for run in heard.test])


def _read(job: Job, words: Mapping[str, Words]) -> Heard:
    settings: MegDecodingSettings = job.settings.decoding.meg
    subject, every = job.labels["subject"], [read_recording(path) for path in job.inputs["recording"]]
    usable = runs_with_words([r for r in every if r.kind == "sensor"], settings.task, words)
    own = [recording for recording in usable if recording.subject == subject]
    if not own:
        remedy = "Check 'task' and what preprocessing excluded."
        raise InputError("a usable run of text", "none", f"{SETTING} (sub-{subject})", remedy)
    audited = read_audited(job.input("splits"), job.input("leaks"))
    timed = sensor_runs(recorded(own), job.settings.preprocess.meg, settings.response_s)
    declared = declare_meg(timed, settings, sorted(words), held_out_stimuli(audited))
    split = agreed(declared, audited.of_subject(subject), f"subject {subject}").splits[0]
    manifest = job.input("manifest")
    rows = select_runs(read_manifest(manifest), subject=subject)
    embedding = words_embedding(settings, rows, words, split.corpora[0], manifest)
    by_key = dict(zip((item.key for item in timed), own, strict=True))
    train, test = stretches(by_key, split, words, settings)
    train, test = with_text(train, test, embedding, settings.text_hz)
    strangers = [recording for recording in usable if recording.subject != subject]
    others = others_stretches(test, strangers, own[0], words, settings)
    return Heard(train, test, others, split, own[0], embedding)


def others_stretches(
    test: Sequence[Stretch], strangers: Sequence[Recording], own: Recording, words: Mapping[str, Words],
    settings: MegDecodingSettings,
) -> list[Stretch] | str:  # fmt: skip
    """Return a recording of another subject for every held-out stretch, or why there is none.

    One who heard the same story is taken before one who heard another, at the same moments of it.
    """
    if not strangers:
        return ONE_SUBJECT
    fitting = [run for run in strangers if list(run.names) == list(own.names)]
    if not fitting:
        return f"no run of another subject has the {len(own.names)} sensors of {run_name(own)}"
    found = []
    for number, part in enumerate(test):
        same = [run for run in fitting if run.stimulus == part.stimulus]
        choice = (same or fitting)[number % len(same or fitting)]
        whole = stretch(choice, Rows("", 0, len(choice.data)), words[choice.stimulus], settings)
        first = max(0, round((part.start - whole.start) * part.hz)) if same else 0
        piece = whole.part(first, min(first + len(part.slow), len(whole.slow)))
        if len(piece.slow) < 2 * round((settings.window_s + settings.response_s) * part.hz):
            return f"the run of {run_name(choice)} ends before what is tested"
        found.append(piece)
    return found


def _text(
    job: Job, heard: Heard, found: SensorMap, words: Mapping[str, Words], about: dict[str, Any]
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Return the scores of the written text and of its controls, and the texts."""
    settings: MegDecodingSettings = job.settings.decoding.meg
    text, subject = settings.text, job.labels["subject"]
    assert text is not None
    if not len(found.selected):
        rows = [{**absent_row(about, MODEL, metric, NO_SENSOR), "control_of": None} for metric in METRICS[:2]]
        return rows, pd.DataFrame(columns=list(COLUMNS["text"]))
    language, lexicon = _language(job, words)
    order = found.selected[np.argsort(-found.combined[found.selected], kind="stable")]
    sensors = np.sort(order[: text.sensors])
    listener = fit_sensor_listener(heard.train, sensors, WordVectors(heard.embedding), settings)
    options = SearchOptions(text.width, PREFIXES * text.width, text.language_weight)
    reader = Reader(listener, language, lexicon_units(lexicon, language.alphabet), options)
    runs = [search_input(run) for run in heard.test]
    others = [] if isinstance(heard.others, str) else [search_input(run) for run in heard.others]
    told = decode_with_controls(reader, runs, job.rng("meg text controls", subject), others)
    told.append(other_stories([run.words for run in heard.train], len(runs), job.rng("meg other stories", subject)))
    tr = REDUCTION / settings.text_hz
    windows = shared_windows([len(run) for run in runs], tr, text.window_s, f"{SETTING}.text.window_s")
    meaning = WordVectors(heard.embedding, count=False)
    rolls = window_rolls([len(windows)] * len(runs), text.n_permutations, _shifts(job, heard))
    compared = Compared([run.words for run in heard.test], meaning, windows, tr, text.blur_s, rolls)
    rng = job.rng("meg text scores", subject)
    rows = score_rows(told, compared, subject, job.seed, rng, TEXT_TASK)
    texts = text_rows(told, compared, subject, [run.label for run in heard.test])
    split = about["split"]
    return [{**row, "split": split} for row in rows], pd.DataFrame(texts).assign(split=split)


def _language(job: Job, words: Mapping[str, Words]) -> tuple[Language, list[str]]:
    """Train the character language model: the same for every subject."""
    text = job.settings.decoding.meg.text
    corpus = language_corpus(read_audited(job.input("splits"), job.input("leaks")))
    plain = corpus_text(corpus, words, job.settings.data.mirror)
    fit = fit_language(plain, LanguageOptions(epochs=text.epochs), job.torch_seed("meg language"), log=job.log)
    return fit.language, corpus_words(plain, fit.language.alphabet, max_words=text.max_words)


def _write(
    path: Path, heard: Heard, found: SensorMap, decoded: Mapping[str, Sequence[NDArray[np.floating]]],
    settings: MegDecodingSettings,
) -> None:  # fmt: skip
    fit, first = found.fit, heard.first
    arrays = {
        "nats": Array(fit.kl, ("sensor",), "nat"),
        "z": Array(found.z, ("sensor",)),
        "cut": Array(np.array(found.cuts["gate"]), (), "nat"),
        "encoding": Array(found.encoding, ("sensor",)),
        "combined": Array(found.combined, ("sensor",)),
        "selected": Array(found.selected, ("selected",)),
        "names": Array(first.names, ("sensor",)),
        "channel_types": Array(first.channel_types, ("sensor",)),
        "positions": Array(first.positions, ("sensor", "xyz"), "m"),
        "gate/logits": Array(fit.logits, ("sensor",)),
        "gate/m": Array(fit.m, ("sensor",)),
        "gate/capacity": Array(fit.capacity, ("sensor",), "nat"),
        "gate/curve": Array(fit.curve, ("epoch", "held_out_training_kl"), "nat"),
        "null/nats": Array(found.nulls["gate"], ("null", "sensor"), "nat"),
        "null/encoding": Array(found.nulls["encoding"], ("null", "sensor")),
        "null/combined": Array(found.nulls["combined"], ("null", "sensor")),
    }
    for model, runs in decoded.items():
        for number, (read, run) in enumerate(zip(runs, heard.test, strict=True), 1):
            arrays[f"decoded/{model}/{number:02d}"] = Array(np.asarray(read, np.float32), ("time", "feature"), "z")
            arrays[f"heard/{number:02d}"] = Array(run.text[: len(read)], ("time", "feature"), "z")
    about = {
        "subject": first.subject, "trained": [rows.run for rows in heard.split.train], "features": settings.features,
        "text_hz": settings.text_hz, "bits_are_bounds": True, "null_maximum": found.cuts,
    }  # fmt: skip
    write_arrays(path, arrays, about)
