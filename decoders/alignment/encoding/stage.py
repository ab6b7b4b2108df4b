"""Stage `align-encoding`: held-out responses predicted from every model, control and network layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.encoding.folds import Block, blocks_of
from decoders.alignment.encoding.inference import encoding_families, score_all, score_rows
from decoders.alignment.encoding.kernels import linear_kernel
from decoders.alignment.encoding.scores import join
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models, Stimuli, check_layers, network_rows, read_card
from decoders.alignment.regions import Trials, subject_trials
from decoders.alignment.stage_rdms import subject_masks
from decoders.alignment.user_models import user_rows
from decoders.data.manifest import read_manifest
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.permutation import label_permutations
from decoders.stimuli.controls import control_features
from decoders.stimuli.images import Pictures
from decoders.store.arrays import read_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import read_table, write_table


def kernel_vector(features: NDArray[Any], conditions: Sequence[str], whose: str) -> NDArray[np.float64]:
    """Return the kernel of features as one row, array of shape (n_stimuli ** 2,)."""
    return linear_kernel(features, conditions, whose).ravel()


def gather_kernels(job: Job, stimuli: Stimuli) -> Models:
    """Return the kernels of controls, networks and the user's models, in this order."""
    settings = job.settings.alignment
    pictures = _pictures(job)
    rows = control_kernels(pictures, settings.controls, stimuli)
    layers = settings.encoding.layers or settings.layers
    found = zip(job.inputs.get("features", []), job.inputs.get("card", []), strict=True)
    for path, card in sorted(found, key=lambda pair: str(pair[0])):
        rows += network_rows(path, read_card(card), stimuli, layers, kernel_vector)
    check_layers(rows, layers)
    for model in settings.models:
        rows += user_rows(model, stimuli, (pictures.values, pictures.names), kernel_vector)
    for row in rows:
        if row.refused:
            job.log.warning("%s is left out: %s", row.name, row.refused)
    models = Models(rows)
    if not models.usable:
        remedy = "Set alignment.controls, alignment.models or a learning block."
        raise InputError("a model to encode from", "none", "alignment.encoding", remedy)
    return models


def _pictures(job: Job) -> Pictures:
    file = read_arrays(job.input("pictures"))
    return Pictures(file["pictures"], [str(name) for name in file["names"]], read_table(job.input("labels")))


def control_kernels(pictures: Pictures, controls: Sequence[str], stimuli: Stimuli) -> list[ModelRow]:
    """Return a row per control; one without variation over the stimuli is refused by name."""
    positions = stimuli.positions(pictures.names, "the pictures")
    shown = Pictures(pictures.values[positions], stimuli.names, pictures.labels.iloc[positions].reset_index(drop=True))
    rows = []
    for name in controls:
        try:
            kernel = kernel_vector(control_features(shown, name), stimuli.names, f"control {name}")
            rows.append(ModelRow("control", f"control:{name}", kernel))
        except InputError as error:
            rows.append(ModelRow("control", f"control:{name}", None, refused=str(error)))
    return rows


def collect(
    job: Job, stimuli: Stimuli, usable: set[str]
) -> tuple[dict[tuple[str, str], list[Block]], dict[tuple[str, str], NDArray[np.float64]]]:
    """Return the folds, and the kernel of the mean responses, of each subject and region.

    A subject or region that cannot be used is left out by name; the study goes on.
    """
    settings = job.settings.alignment
    roots = {run.subject: Path(run.root) for run in read_manifest(job.input("manifest"))}
    by_subject: dict[str, list[Recording]] = {}
    for recording in map(read_recording, job.inputs.get("estimates", [])):
        if not recording.excluded and settings.task in (None, recording.task) and recording.subject in usable:
            by_subject.setdefault(recording.subject, []).append(recording)
    found, kernels = {}, {}
    for subject, items in by_subject.items():
        for region, trials in subject_trials(items, subject_masks(subject, settings, roots)).items():
            whose = f"subject {subject}, region {region}"
            try:
                found[subject, region] = blocks_of(trials, stimuli.names, settings.encoding.n_folds, whose)
                kernels[subject, region] = mean_kernel(trials, stimuli.names)
            except InputError as error:
                job.log.warning("%s is left out: %s", whose, error)
    if not found:
        remedy = "See the log; without two runs per subject leave alignment.encoding out."
        raise InputError("a subject with responses to encode", "none", "the trial estimates", remedy)
    return found, kernels


def mean_kernel(trials: Trials, stimuli: Sequence[str]) -> NDArray[np.float64]:
    """Return the inner products of the mean responses to the stimuli."""
    labels, values = np.asarray(trials.conditions, dtype=object), np.asarray(trials.patterns, dtype=np.float64)
    means = np.array([values[labels == name].mean(axis=0) for name in stimuli])
    return np.asarray(means @ means.T)


def run(job: Job) -> None:
    """Write encoding.tsv and encoding_scores.tsv."""
    settings = job.settings.alignment
    file = read_arrays(job.input("rdms"))
    stimuli = Stimuli([str(name) for name in file["stimuli"]])
    found, recorded = collect(job, stimuli, {str(name) for name in file["subjects"]})
    models, responses = gather_kernels(job, stimuli), join(found)
    rng = job.rng("encoding")
    orders = label_permutations(len(stimuli.names), settings.encoding.n_permutations, rng)
    scored = score_all(models, responses, settings.encoding, orders)
    plan = Plan("encoding", settings.correction, settings.n_bootstrap)
    table = encoding_families(models, scored, responses, len(stimuli.names), plan, rng)
    write_table(job.outputs["encoding"], table, "inference")
    scores = score_rows(models, scored, responses, recorded)
    write_table(job.outputs["encoding_scores"], scores, "alignment_scores")
    job.log.info("%d models, %d folds, %d tests", len(models.usable), len(responses.blocks), len(table))
