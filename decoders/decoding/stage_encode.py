"""The stage ``encode``: encoding models of text, and identification of windows by them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import EncodingSettings
from decoders.data.manifest import Run, read_manifest
from decoders.decoding.content import CONTENT, Content, halves, passages_of, surrogate_words
from decoders.decoding.encode_scores import Result, own_scores, shared_scores
from decoders.decoding.encoding import Design, design_of
from decoders.decoding.splits_encode import declare_encode, declared_folds, declared_members
from decoders.errors import InputError
from decoders.signal.shared import share_features
from decoders.stage import Job
from decoders.stats.declared import Declaration, agreed, read_audited
from decoders.stats.splits import Split
from decoders.stats.timed_runs import recorded
from decoders.stimuli.embedding import Embedding, cooccurrence_embedding
from decoders.stimuli.features import feature_matrix
from decoders.stimuli.timings import Words, words_by_stimulus
from decoders.stimuli.training_text import training_documents
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import read_table, write_table

CONTROLS = ("word_rate", "position")
# Module with `read_sound_power(run)`, by task.
SOUND_POWER = {"alice": "decoders.data.adapters.alice"}
_TEXT_COLUMNS = ("stimulus", "word", "text")


def run(job: Job) -> None:
    """Write the scores and the arrays of the encoding models."""
    settings: EncodingSettings = job.settings.decoding.encoding
    words = words_by_stimulus(read_table(job.input("words"), text_columns=_TEXT_COLUMNS))
    read = [read_recording(path) for path in job.inputs["recording"]]
    recordings = with_common_features(runs_with_words(read, settings.task, words), job.log)
    sound = sound_powers(recordings, read_manifest(job.input("manifest")))
    audited = read_audited(job.input("splits"), job.input("leaks"))
    passages: list[tuple[str, ...]] = []
    if settings.other_text:
        passages = passages_of(training_documents(settings.other_text, job.settings.data.mirror), words)
    result = encode(recordings, words, settings, job.rng("encode"), sound, audited, passages)
    job.log.info("encoding models of %d recordings (%d left out)", len(recordings), len(read) - len(recordings))
    for row in result.table[(result.table["level"] == "group") & (result.table["model"] == "ridge")].to_dict("records"):
        job.log.info("%s, %s: %s %.3f, p %.3f", row["split"], row["task"], row["metric"], row["score"], row["p"])
    write_table(job.outputs["scores"], result.table, "decoding_scores")
    about = {"features": list(settings.features), "delays": list(settings.delays)}
    write_arrays(job.outputs["arrays"], _arrays(result, recordings), about)


def encode(
    recordings: Sequence[Recording],
    words: Mapping[str, Words],
    settings: EncodingSettings,
    rng: np.random.Generator,
    sound: Mapping[str, NDArray[np.float64]] | None = None,
    audited: Declaration | None = None,
    passages: Sequence[tuple[str, ...]] = (),
) -> Result:
    """Fit and score encoding models.

    Parameters
    ----------
    recordings : sequence of Recording
        Runs of all subjects (axis "time").
    words : mapping of str to Words
        By stimulus.
    settings : EncodingSettings
    rng : Generator
    sound : mapping of str to array of shape (n_samples,), optional
        Sound power at the samples of each stimulus; then it is a control as well.
    audited : Declaration, optional
        The splits that the leak audit has passed; they must be those of the recordings.
    passages : sequence of tuple of str
        With ``other_text``: what of it nobody heard, as words.

    Returns
    -------
    Result
        Of the group where all subjects heard the same in the same regions, else subject by subject.

    Raises
    ------
    InputError
        No recordings, a stimulus without words, or other splits than the audited ones.
    """
    if not recordings:
        remedy = "Check 'task' and what preprocessing excluded."
        raise InputError("at least one usable recording of continuous text", "none", "decoding.encoding", remedy)
    names = sorted({r.subject for r in recordings})
    by_subject = {subject: [r for r in recordings if r.subject == subject] for subject in names}
    shared = len(by_subject) > 1 and _heard_the_same(list(by_subject.values()))
    ordered = [recording for runs in by_subject.values() for recording in runs]
    own = declare_encode(recorded(ordered), settings, shared, sorted(words), rng)
    declared = agreed(own, audited, "decoding.encoding")
    if settings.other_text and not passages:
        raise InputError("passages that nobody heard", "none", "decoding.encoding.other_text", "Give another text.")
    learnt, told = halves(passages)
    corpus = learnt or [words[name].word for c in declared.splits[0].corpora for name in c.stimuli]
    embedding = cooccurrence_embedding(corpus) if "embedding" in settings.features else None
    texts = Texts(words, sound or {}, embedding, told)
    if shared:
        return _shared(by_subject, texts, settings, rng, declared)
    return _joined([_own(subject, runs, texts, settings, rng, declared) for subject, runs in by_subject.items()])


@dataclass(frozen=True)
class Texts:
    """What was heard: words, and sound power where it is known, by stimulus; and vectors of words.

    Attributes
    ----------
    words : mapping of str to Words
    sound : mapping of str to array of shape (n_samples,)
    embedding : Embedding, optional
        From the declared corpus, or from a half of what nobody heard; unsupervised, they never see a recording.
    passages : sequence of tuple of str
        The other half of what nobody heard.
    """

    words: Mapping[str, Words]
    sound: Mapping[str, NDArray[np.float64]]
    embedding: Embedding | None = None
    passages: Sequence[tuple[str, ...]] = ()


def sound_powers(recordings: Sequence[Recording], manifest: Sequence[Run]) -> dict[str, NDArray[np.float64]]:
    """Return the sound power that a data set ships, at the samples of each stimulus, averaged over subjects.

    Only a registered set with a reader in `SOUND_POWER` has one.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    for recording in recordings:
        reader = SOUND_POWER.get(recording.task)
        rows = [r for r in manifest if (r.subject, r.task, r.run) == (recording.subject, recording.task, recording.run)]
        if reader is None or not rows:
            continue
        series = import_module(reader).read_sound_power(rows[0])
        first = round((recording.time[0] - rows[0].start_time) / recording.tr)
        found.setdefault(recording.stimulus, []).append(series[first : first + len(recording.time)])
    return {stimulus: np.mean(series, axis=0) for stimulus, series in found.items()}


def runs_with_words(recordings: Sequence[Recording], task: str | None, words: Mapping[str, Words]) -> list[Recording]:
    """Return the usable runs of continuous text, in order of subject, session, run and stimulus.

    Excluded runs are left out; without a task, so are runs whose stimulus has no words (pictures).

    Raises
    ------
    InputError
        A run of the named task has no words.
    """
    kept = [r for r in recordings if not r.excluded and r.axis == "time" and (task is None or r.task == task)]
    if task is None:
        kept = [r for r in kept if r.stimulus in words]
    for recording in kept:
        _words_of(recording, words)
    return sorted(kept, key=lambda r: (r.subject, r.session, r.run, r.stimulus))


def with_common_features(recordings: Sequence[Recording], log: logging.Logger) -> list[Recording]:
    """Return runs whose features can be compared, in the same order; whatever is left out is logged.

    Preprocessing leaves out bad voxels and regions run by run. Voxels are matched within a subject; named
    regions and vertices over all subjects as well, if they have any in common: one subject's bad region must
    not cost the whole group its analysis.

    Parameters
    ----------
    recordings : sequence of Recording
        Usable runs, sorted by subject.
    log : Logger
    """
    by_subject: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_subject.setdefault(recording.subject, []).append(recording)
    shared = [recording for runs in by_subject.values() for recording in share_features(runs)]
    named = all(recording.mask is None and recording.names.size for recording in shared)
    if shared and named and set.intersection(*(set(recording.names) for recording in shared)):
        shared = share_features(shared)
    for before, after in zip(recordings, shared, strict=True):
        if len(lost := sorted(set(before.names) - set(after.names))):
            which = ", ".join(map(str, lost[:6])) + (", …" if len(lost) > 6 else "")
            log.warning("sub-%s: left out, as other runs lack them: %s", before.subject, which)
        elif before.data.shape[1] > after.data.shape[1]:
            n = before.data.shape[1] - after.data.shape[1]
            log.warning("sub-%s: %d features left out, as other runs lack them", before.subject, n)
    return shared


def text_features(names: Sequence[str], recordings: Sequence[Recording], texts: Texts) -> NDArray[np.float32]:
    """Return the features of several runs one after the other, shape (n_samples, n_features)."""
    words = texts.words
    blocks = [
        feature_matrix(
            names, _words_of(recording, words), recording.time, recording.tr,
            embedding=texts.embedding, sound_power=texts.sound.get(recording.stimulus),
        )[0]
        for recording in recordings
    ]  # fmt: skip
    return np.concatenate(blocks).astype(np.float32)


def _words_of(recording: Recording, words: Mapping[str, Words]) -> Words:
    if recording.stimulus not in words:
        raise InputError(
            f"the words of the stimulus '{recording.stimulus}'", f"words of {', '.join(sorted(words)) or 'none'}",
            f"sub-{recording.subject} run {recording.run or '1'}", "Name its timing file in the events.",
        )  # fmt: skip
    return words[recording.stimulus]


def _heard_the_same(subjects: Sequence[Sequence[Recording]]) -> bool:
    """Whether all subjects have the same stimuli at the same times, in as many named regions."""
    first = subjects[0]
    if any(len(runs) != len(first) or runs[0].kind not in ("region", "surface") for runs in subjects):
        return False
    return all(
        a.stimulus == b.stimulus
        and a.data.shape == b.data.shape
        and np.array_equal(a.time, b.time)
        and list(a.names) == list(b.names)
        for runs in subjects
        for a, b in zip(first, runs, strict=True)
    )


def _shared(
    by_subject: Mapping[str, Sequence[Recording]], texts: Texts, settings: EncodingSettings, rng: np.random.Generator,
    declared: Declaration,
) -> Result:  # fmt: skip
    runs = next(iter(by_subject.values()))
    data = np.stack([np.concatenate([r.data for r in own]) for own in by_subject.values()])
    folds = declared_folds(declared, "unseen_time", recorded(runs))
    features, controls, design = _material(runs, texts, settings, folds)
    members = declared_members(declared, list(by_subject))
    content = _content(runs, texts, settings, rng)
    return shared_scores(
        data, list(by_subject), features, controls, design, settings, runs[0].tr, rng, members, content
    )


def _own(
    subject: str, runs: Sequence[Recording], texts: Texts, settings: EncodingSettings, rng: np.random.Generator,
    declared: Declaration,
) -> Result:  # fmt: skip
    folds = declared_folds(declared, f"sub-{subject}/unseen_time", recorded(runs))
    features, controls, design = _material(runs, texts, settings, folds)
    data = np.concatenate([r.data for r in runs])
    content = _content(runs, texts, settings, rng)
    return own_scores(data, subject, features, controls, design, settings, runs[0].tr, rng, content)


def _material(
    runs: Sequence[Recording], texts: Texts, settings: EncodingSettings, folds: Sequence[Split]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], Design]:
    lengths = [len(r.data) for r in runs]
    design = design_of(lengths, settings.n_blocks, settings.gap_tr, settings.delays, settings.alphas, folds)
    known = [*CONTROLS, *(["sound_power"] if all(r.stimulus in texts.sound for r in runs) else [])]
    controls = {name: text_features([name], runs, texts) for name in known if (name,) != settings.features}
    return text_features(settings.features, runs, texts), controls, design


def _content(
    runs: Sequence[Recording], texts: Texts, settings: EncodingSettings, rng: np.random.Generator
) -> Content | None:
    """Return the features that test content; None where no other text is given."""
    if not settings.other_text:
        return None
    heard = {r.stimulus: texts.words[r.stimulus] for r in runs}
    told = [surrogate_words(heard, texts.passages, rng) for _ in range(settings.n_surrogates)]
    surrogates = [
        text_features(settings.features, runs, replace(texts, words={**texts.words, **words})) for words in told
    ]
    timing = [name for name in settings.features if name not in CONTENT]
    return Content(text_features(timing, runs, texts), surrogates)


def _joined(results: Sequence[Result]) -> Result:
    first = results[0]
    for other in results[1:]:
        first.predicted.update(other.predicted)
        first.measured.update(other.measured)
        first.nulls.update(other.nulls)
    same = len({result.region_r.shape for result in results}) == 1
    first.region_r = np.concatenate([r.region_r for r in results]) if same else np.zeros((0, 0))
    first.table = pd.concat([result.table for result in results], ignore_index=True)
    return first


def _arrays(result: Result, recordings: Sequence[Recording]) -> dict[str, Array]:
    arrays = {
        "region_r": Array(result.region_r, ("subject", "region")),
        "subjects": Array(np.array(sorted({r.subject for r in recordings}), dtype=object), ("subject",)),
        "regions": Array(recordings[0].names, ("region",)),
    }
    for name, predicted in result.predicted.items():
        arrays[f"predicted/{name}"] = Array(predicted.astype(np.float32), ("time", "region"), "z")
        arrays[f"measured/{name}"] = Array(result.measured[name].astype(np.float32), ("time", "region"), "z")
    for name, null in result.nulls.items():
        arrays[f"null/{name}"] = Array(null, ("shift",))
    return arrays
