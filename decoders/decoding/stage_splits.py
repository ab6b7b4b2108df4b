"""Stages ``splits-<analysis>`` (names, encode, voxels, free_text, across, meg): declare what trains and what tests.

From the manifest, quality.tsv (what was excluded) and the settings: no recording is opened.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decoders.data.manifest import Run, read_manifest
from decoders.decoding.splits_across import declare_across
from decoders.decoding.splits_encode import declare_encode
from decoders.decoding.splits_free_text import declare_corpus, declare_free_text
from decoders.decoding.splits_meg import declare_meg, held_out_of, sensor_runs
from decoders.decoding.splits_names import Labels, declare_names
from decoders.decoding.splits_voxels import LEARNT, declare_voxels
from decoders.errors import InputError
from decoders.signal.events import label_volumes, merge_blocks, read_events
from decoders.signal.quality import decodable_subjects
from decoders.stage import Job
from decoders.stats.declared import Corpus, Declaration, TimedRun, write_declaration
from decoders.stats.timed_runs import Usable, planned, usable_runs
from decoders.store.tables import read_table


def run(job: Job) -> None:
    """Write the declared splits of one analysis."""
    declare = {
        "splits-names": _names,
        "splits-encode": _encode,
        "splits-voxels": _voxels,
        "splits-free_text": _free_text,
        "splits-across": _across,
        "splits-meg": _meg,
    }[job.settings.stage]
    declared = declare(job)
    job.log.info("%d splits of %d runs", len(declared.splits), len(declared.runs))
    write_declaration(job.outputs["splits"], declared)


def same_times(listeners: Sequence[Sequence[tuple[str, int, float, float]]], kinds: set[str]) -> bool:
    """Whether all subjects heard the same at the same times, in features that can be shared.

    Parameters
    ----------
    listeners : sequence of sequences of (stimulus, n_volumes, start, tr)
        Runs of each subject in order.
    kinds : set of str
        Kinds of all recordings.
    """
    return kinds <= {"region", "surface"} and all(list(runs) == list(listeners[0]) for runs in listeners)


def timing(runs: Sequence[TimedRun]) -> list[tuple[str, int, float, float]]:
    """Return what `same_times` compares."""
    return [(run.stimulus, run.n_rows, run.start, run.tr) for run in runs]


def _usable(job: Job, task: str | None, sensors: bool = False) -> list[Usable]:
    """Return the usable runs of fMRI, or of MEG and EEG: both may have the task of one name."""
    found = usable_runs(read_manifest(job.input("manifest")), job.input("quality"), task)
    return [usable for usable in found if (usable.kind == "sensor") == sensors]


def _planned(job: Job, usable: Sequence[Usable]) -> list[TimedRun]:
    preprocess = job.settings.preprocess
    return planned(usable, preprocess.drop_volumes or 0, preprocess.high_pass_s)


def _told(job: Job, task: str | None, sensors: bool = False) -> tuple[list[Usable], list[str]]:
    """Return runs with words, and the names of all stimuli with words."""
    table = read_table(job.input("words"), text_columns=("stimulus", "word", "text"))
    stimuli = sorted(set(table["stimulus"]))
    usable = [u for u in _usable(job, task, sensors) if u.row.stimulus in stimuli]
    return sorted(usable, key=lambda u: (u.row.subject, u.row.session, u.row.run, u.row.stimulus)), stimuli


def _encode(job: Job) -> Declaration:
    settings = job.settings.decoding.encoding
    usable, stimuli = _told(job, settings.task)
    if not usable:
        remedy = "Check 'task' and what preprocessing excluded."
        raise InputError("at least one usable recording of continuous text", "none", "decoding.encoding", remedy)
    runs = _planned(job, usable)
    listeners = [timing([r for r in runs if r.subject == s]) for s in dict.fromkeys(r.subject for r in runs)]
    shared = len(listeners) > 1 and same_times(listeners, {u.kind for u in usable})
    return declare_encode(runs, settings, shared, stimuli, job.rng("encode"))


def _voxels(job: Job) -> Declaration:
    settings = job.settings.decoding.voxels
    parts, stimuli = _mapped(job)
    learnt = _learnt(job, parts, stimuli)
    return _joined("voxels", [declare_voxels(part, settings, stimuli, learnt) for part in parts])


def _free_text(job: Job) -> Declaration:
    voxels, settings = job.settings.decoding.voxels, job.settings.decoding.free_text
    # Noise is measured on residuals of training runs that the encoding model has not seen: that takes three.
    parts, stimuli = _mapped(job, 3)
    # Word vectors that are learnt from the same corpus serve those too whose text is not decoded.
    tested = _tested(_mapped(job)[0], voxels.test_runs)
    return _joined("free_text", [declare_free_text(part, voxels, settings, stimuli, tested) for part in parts])


def _across(job: Job) -> Declaration:
    voxels, settings = job.settings.decoding.voxels, job.settings.decoding.across
    parts, stimuli = _mapped(job)
    return declare_across(parts, voxels, settings, stimuli, _learnt(job, parts, stimuli))


def _tested(parts: Sequence[Sequence[TimedRun]], n: int) -> set[str]:
    """Return the stimuli that are held out of any subject."""
    return {run.stimulus for part in parts for run in part[-n:]}


def _learnt(job: Job, parts: Sequence[Sequence[TimedRun]], stimuli: Sequence[str]) -> Corpus | None:
    """Return the corpus of the language model, where word vectors are learnt from it."""
    voxels, settings = job.settings.decoding.voxels, job.settings.decoding.free_text
    if voxels.features not in LEARNT:
        return None
    return declare_corpus(settings, stimuli, _tested(parts, voxels.test_runs))


def _meg(job: Job) -> Declaration:
    settings, meg = job.settings.decoding.meg, job.settings.preprocess.meg
    usable, stimuli = _told(job, settings.task, sensors=True)
    wanted = decodable_subjects(job.input("quality"), settings.task, settings.test_runs + 1, sensors=True)
    # The volumes that are dropped are of fMRI; so is the high-pass in seconds.
    runs = sensor_runs(planned(usable, 0, None), meg, settings.response_s)
    parts = [[run for run in runs if run.subject == subject] for subject in wanted]
    parts = [part for part in parts if part]
    if not parts:
        remedy = "Check 'task' and what preprocessing excluded."
        raise InputError("a subject with usable MEG or EEG of continuous text", "none", "decoding.meg", remedy)
    tested = held_out_of(parts, settings)
    return _joined("meg", [declare_meg(part, settings, stimuli, tested) for part in parts])


def _mapped(job: Job, training_runs: int = 2) -> tuple[list[list[TimedRun]], list[str]]:
    """Return the runs of each subject whose voxels are mapped, and the names of all stimuli with words."""
    settings = job.settings.decoding.voxels
    usable, stimuli = _told(job, settings.task)
    # Two runs at least train: one fold each.
    wanted = decodable_subjects(job.input("quality"), settings.task, settings.test_runs + training_runs)
    runs = _planned(job, usable)
    parts = [[run for run in runs if run.subject == subject] for subject in wanted]
    return [part for part in parts if part], stimuli


def _names(job: Job) -> Declaration:
    settings = job.settings.decoding.names
    usable = sorted(_usable(job, settings.task), key=lambda u: (u.row.session, u.row.task, u.row.run))
    least = 3 if settings.split == "leave_one_run_out" else 1
    found = []
    for subject in decodable_subjects(job.input("quality"), settings.task, least):
        own = [u for u in usable if u.row.subject == subject]
        runs, drop = _planned(job, own), job.settings.preprocess.drop_volumes or 0
        labels = [_labels(u.row, u.n_rows, u.tr, drop) for u in own] if settings.split == "block_halves" else []
        found.append(declare_names(runs, labels, settings))
    return _joined("names", found)


def _labels(row: Run, n_volumes: int, tr: float, drop: int) -> Labels:
    """Return condition and block of each volume, as preprocessing does."""
    path = row.path("events")
    if path is None:
        where, remedy = f"the run {row.run_id}", "Name the task with labelled events in decoding.names.task."
        raise InputError("events that name the blocks", "no events file", where, remedy)
    frame = tr * np.arange(drop, drop + n_volumes, dtype=np.float64)
    return Labels(*label_volumes(merge_blocks(read_events(path), tr), frame))


def _joined(analysis: str, parts: Sequence[Declaration]) -> Declaration:
    runs = tuple(run for part in parts for run in part.runs)
    return Declaration(analysis, f"decoding.{analysis}", runs, tuple(s for part in parts for s in part.splits))
