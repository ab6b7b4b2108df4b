"""Stage `align`: scores of every model with every subject, noise ceilings and inference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.beyond import beyond_controls, held_controls
from decoders.alignment.bootstrap import resampled_scores, scores_and_parts
from decoders.alignment.ceilings import noise_ceiling
from decoders.alignment.comparators import compare
from decoders.alignment.contrasts import MIN_STIMULI, Scores, draw_all
from decoders.alignment.families import all_families
from decoders.alignment.fusion.maps import read_time_rows
from decoders.alignment.geometry import geometry_table
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models, Stimuli, check_layers, control_rows, network_rows, read_card
from decoders.alignment.partial import Parts
from decoders.alignment.recorded import Recorded, read_recorded
from decoders.alignment.user_models import user_rows
from decoders.alignment.weighted import weighted_families
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.permutation import label_permutations
from decoders.stats.resampling import draw_counts
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.tables import read_table, write_table


def score_table(models: Models, recorded: Sequence[Recorded], comparators: Sequence[str]) -> pd.DataFrame:
    """Return one row per subject, region, model row and comparator; refused models have no score."""
    parts = []
    index = {id(row): number for number, row in enumerate(models.usable)}
    for region in recorded:
        for comparator in comparators:
            scores = compare(models.vectors, region.rdms, comparator)
            for row in models.rows:
                values = scores[index[id(row)]] if row.rdm is not None else np.full(len(region.subjects), np.nan)
                parts.append(_score_rows(row, region, comparator, values))
    return pd.concat(parts, ignore_index=True)


def _score_rows(row: ModelRow, region: Recorded, comparator: str, values: NDArray[np.float64]) -> pd.DataFrame:
    labels = {"rule": row.rule, "architecture": row.architecture, "seed": row.seed, "layer": row.layer}
    return pd.DataFrame(
        {
            "subject": region.subjects, "region": region.region, "time": np.nan,
            **{key: value or None for key, value in labels.items()},
            "size": row.size, "comparator": comparator, "score": values, "refused": row.refused or None,
        }
    )  # fmt: skip


def ceiling_table(recorded: Sequence[Recorded], comparators: Sequence[str]) -> pd.DataFrame:
    """Return the noise ceilings per region and comparator."""
    rows = []
    for region in recorded:
        for comparator in comparators:
            low, high = noise_ceiling(region.rdms, comparator)
            rows.append((region.region, np.nan, comparator, low, high, len(region.subjects)))
    return pd.DataFrame(rows, columns=["region", "time", "comparator", "ceiling_low", "ceiling_high", "n_subjects"])


def bootstrap_scores(
    models: Models,
    recorded: Sequence[Recorded],
    n_stimuli: int,
    counts: NDArray[np.int64] | None,
    plan: Plan,
    rng: np.random.Generator,
) -> tuple[dict[str, Scores], Parts | None]:
    """Return the scores per region, with stimuli resampled alike in all regions, and what lies beyond the controls.

    Parameters
    ----------
    models : Models
    recorded : sequence of Recorded
    n_stimuli : int
    counts : array of shape (n_resamples, n_stimuli) or None
        How often each stimulus is drawn; None where the stimuli are not resampled.
    plan : Plan
    rng : Generator

    Returns
    -------
    scores : dict of str to Scores
    parts : Parts or None
        Of all regions, one behind the other, in the very resamples behind the scores; None where stimuli are not
        resampled, or no controls are held.
    """
    numbers = [len(model.rows) for model in models.joined("network")]
    # Contrasts of rules with other seeds pair those in common, so any smaller number may occur.
    wanted = range(2, max(numbers, default=1) + 1)
    # One draw for all regions with as many subjects, so that regions can be contrasted within subject.
    subject_draws = {n: draw_all(n, wanted, plan.n_resamples, rng) for n in sorted({len(r.subjects) for r in recorded})}
    together = np.concatenate([region.rdms for region in recorded])
    resampled, parts, held = None, None, held_controls(models)
    if counts is not None and held is not None:
        resampled, parts = scores_and_parts(models.vectors, held, together, counts, plan.comparator)
    elif counts is not None:
        resampled = resampled_scores(models.vectors, together, counts, plan.comparator)
    scores, start = {}, 0
    for region in recorded:
        stop = start + len(region.subjects)
        subjects, seeds = subject_draws[len(region.subjects)]
        own = None if resampled is None else resampled[:, :, start:stop]
        full = compare(models.vectors, region.rdms, plan.comparator)
        scores[region.region] = Scores(full, own, n_stimuli, subjects, seeds)
        start = stop
    return scores, parts


def infer(
    models: Models, recorded: Sequence[Recorded], n_stimuli: int, plan: Plan, rng: np.random.Generator
) -> pd.DataFrame:
    """Return all families of tests, for all regions.

    Parameters
    ----------
    models : Models
    recorded : sequence of Recorded
    n_stimuli : int
    plan : Plan
    rng : Generator

    Returns
    -------
    DataFrame
        Columns of `inference` and null_mean, model, reference.
    """
    orders = label_permutations(n_stimuli, plan.n_resamples, rng)
    # With fewer stimuli there are too few distinct resamples.
    counts = draw_counts(n_stimuli, plan.n_resamples, rng) if n_stimuli >= MIN_STIMULI else None
    scores, parts = bootstrap_scores(models, recorded, n_stimuli, counts, plan, rng)
    rdms = {region.region: region.rdms for region in recorded}
    subjects = {region.region: region.subjects for region in recorded}
    plain = all_families(models, rdms, subjects, scores, plan, orders, rng)
    tables = [plain, *beyond_controls(models, rdms, scores, parts, plan, rng)]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def gather_models(job: Job, stimuli: Stimuli) -> Models:
    """Return controls, networks and the user's models, in this order."""
    settings = job.settings.alignment
    pictures = None
    if job.inputs.get("pictures"):
        file = read_arrays(job.input("pictures"))
        pictures = (file["pictures"], file["names"].tolist())
    rows = control_rows(job.input("controls"), stimuli) if job.inputs.get("controls") else []
    cards = [read_card(path) for path in job.inputs.get("card", [])]
    features = job.inputs.get("features", [])
    if len(cards) != len(features):
        remedy = "Give --input card=… once per features file, in the same order."
        found = f"{len(cards)} cards for {len(features)} features files"
        raise InputError("a card for each features file", found, "the inputs", remedy)
    for path, card in sorted(zip(features, cards, strict=True), key=lambda pair: str(pair[0])):
        rows += network_rows(path, card, stimuli, settings.layers)
    check_layers(rows, settings.layers)
    for model in settings.models:
        rows += user_rows(model, stimuli, pictures)
    for row in rows:
        if row.refused:
            job.log.warning("%s is left out: %s", row.name, row.refused)
    models = Models(rows)
    if not models.usable:
        remedy = "Set alignment.controls, alignment.models or a learning block."
        raise InputError("a model to compare with the recordings", "none", "alignment", remedy)
    return models


def drawn_rdms(models: Models, recorded: Sequence[Recorded]) -> dict[str, Array]:
    """Return the RDMs that the report draws: recorded means, controls, and each rule's last layer (mean over seeds)."""
    drawn = {f"recorded:{region.region}": region.rdms.mean(axis=0) for region in recorded}
    last: dict[tuple[str, str, str], str] = {}
    for row, vector in zip(models.usable, models.vectors, strict=True):
        if row.kind != "network":
            drawn.setdefault(row.name, vector)
        elif not row.layer.endswith("_pooled"):
            last[row.rule, row.architecture, row.size] = row.name
    for model in models.joined("network"):
        if model.name in last.values():
            drawn[model.name] = models.vectors[list(model.rows.values())].mean(axis=0)
    return {name: Array(values, ("pair",)) for name, values in drawn.items()}


def run(job: Job) -> None:
    """Write scores.tsv, ceilings.tsv, inference.tsv, model_rdms.h5 and, where it is asked for, geometry.tsv."""
    settings = job.settings.alignment
    recorded, stimuli = read_recorded(str(job.input("rdms")))
    if job.inputs.get("windows"):
        stimuli = Stimuli(stimuli.names, read_table(job.input("windows"), ("name", "stimulus")))
    models = gather_models(job, stimuli)
    write_table(job.outputs["scores"], score_table(models, recorded, settings.comparators), "alignment_scores")
    write_table(job.outputs["ceilings"], ceiling_table(recorded, settings.comparators), "ceilings")
    plan = Plan(settings.comparators[0], settings.correction, settings.n_bootstrap)
    table = infer(models, recorded, len(stimuli.names), plan, job.rng("alignment"))
    rdms = {region.region: region.rdms for region in recorded}
    if settings.weighted_halves:
        rng = job.rng("weighted")
        weighted = weighted_families(models, rdms, len(stimuli.names), settings.weighted_halves, plan, rng)
        table = pd.concat([table, *(part for part in weighted if len(part))], ignore_index=True)
    if "geometry" in job.outputs:
        times = read_time_rows(job, stimuli)
        write_table(job.outputs["geometry"], geometry_table(models, rdms, plan.comparator, times), "geometry")
    write_table(job.outputs["inference"], table, "inference")
    write_arrays(job.outputs["models"], drawn_rdms(models, recorded), _attributes(job, models, stimuli))
    job.log.info("%d models, %d regions, %d tests", len(models.usable), len(recorded), len(table))


def _attributes(job: Job, models: Models, stimuli: Stimuli) -> Mapping[str, object]:
    definitions = {}
    if job.inputs.get("controls"):
        definitions = read_arrays(job.input("controls"), []).attributes.get("definitions", {})
    left_out = sorted({row.name for row in models.usable if not row.ranked})
    text = json.loads(json.dumps(definitions))
    return {"stimuli": stimuli.names, "definitions": text, "not_ranked": left_out}
