"""Families of tests on held-out scores: the verdicts of encoding rest on them as those of RSA on its own.

The stimuli are not resampled: models of different folds share training stimuli, so the scores of stimuli are not
independent, and a resample that draws a stimulus twice puts its copies on both sides of a fold. Subjects and seeds are
resampled: the differences hold for new subjects who see these stimuli. The test against chance relabels the
stimuli, which needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Model, Scores, contrast, draw_all
from decoders.alignment.encoding.kernels import linear_cka
from decoders.alignment.encoding.scores import MEAN, VOXELS, Responses, held_out_scores, permuted_scores
from decoders.alignment.encoding.solver import band_weights
from decoders.alignment.families import region_families
from decoders.alignment.inference import Plan, contrast_family, permutation_family
from decoders.alignment.models import ModelRow, Models
from decoders.config import EncodingAlignmentSettings

ENCODING, CKA = "encoding", "linear_cka"
_FIXED = "models of different folds share training stimuli: holds for these stimuli"
_TOGETHER = "all controls"
_WORDS = {VOXELS: "held-out r, mean over voxels", MEAN: "held-out r of the mean over voxels"}


@dataclass(frozen=True, eq=False)
class Found:
    """Scores of every model row.

    Attributes
    ----------
    alone : array of shape (n_rows, n_owners)
    joint : array of shape (n_rows + 1, n_owners), or None
        Of each row together with all controls, in bands; last, the controls without a model. None without controls.
    null : array of shape (n_permutations, n_rows, n_owners)
    """

    alone: NDArray[np.float64]
    joint: NDArray[np.float64] | None
    null: NDArray[np.float64]


def kernels_of(models: Models) -> NDArray[np.float64]:
    """Return the kernels of all usable rows, array of shape (n_rows, n_stimuli, n_stimuli)."""
    n_stimuli = round(models.vectors.shape[1] ** 0.5)
    return models.vectors.reshape(-1, n_stimuli, n_stimuli)


def score_all(
    models: Models, responses: Responses, settings: EncodingAlignmentSettings, orders: NDArray[np.int64]
) -> Found:
    """Score every model by itself, with permuted rows, and together with all controls.

    Parameters
    ----------
    models : Models
        With kernels in place of RDMs.
    responses : Responses
    settings : EncodingAlignmentSettings
    orders : array of shape (n_permutations, n_stimuli)
        The same for all models.
    """
    kernels, alphas = kernels_of(models), settings.penalties
    alone = np.array([held_out_scores(kernel[None], responses, alphas) for kernel in kernels])
    null = np.stack([permuted_scores(kernel, responses, alphas, orders) for kernel in kernels], axis=1)
    controls = kernels[[row.kind == "control" for row in models.usable]]
    if not len(controls):
        return Found(alone, None, null)
    joint = np.full((len(kernels) + 1, alone.shape[1]), np.nan)
    for number, row in enumerate(models.usable):
        if row.kind != "control":
            bands = np.array([kernels[number], *controls])
            joint[number] = held_out_scores(bands, responses, alphas, band_weights(len(bands), settings.n_band_weights))
    weights = band_weights(len(controls), settings.n_band_weights)
    joint[-1] = held_out_scores(controls, responses, alphas, weights)
    return Found(alone, joint, null)


def encoding_families(
    models: Models, found: Found, responses: Responses, n_stimuli: int, plan: Plan, rng: np.random.Generator
) -> pd.DataFrame:
    """Return every family of every region; their names start with ``encoding: ``.

    Returns
    -------
    DataFrame
        Columns of `inference`, and null_mean, model, reference. Per region: all families of RSA within a region (on the
        mean over voxels), the models against chance on the mean of the region, and the models beyond all controls
        together (model and controls in bands, less the controls alone).
    """
    numbers = [len(model.rows) for model in models.joined("network")]
    wanted = range(2, max(numbers, default=1) + 1)
    everything = models.joined("control", "network", "user")
    tables = []
    for region in dict.fromkeys(region for _, region, _ in responses.owners):
        columns = {measure: _columns(responses, region, measure) for measure in (VOXELS, MEAN)}
        subjects, seeds = draw_all(len(columns[VOXELS]), wanted, plan.n_resamples, rng)
        for measure, chosen in columns.items():
            own = Plan(_WORDS[measure], plan.correction, plan.n_resamples, plan.level)
            scores = Scores(found.alone[:, chosen], None, n_stimuli, subjects, seeds, _FIXED)
            null = _null(everything, found.null[:, :, chosen].mean(axis=2))
            name = f"models against chance, {region}" if measure == VOXELS else f"region mean against chance, {region}"
            tables.append(permutation_family(name, region, everything, null, scores, own))
            if measure == VOXELS:
                tables += region_families(models, region, scores, own, rng)
                tables += _beyond(models, found, chosen, scores, region, own, rng)
    table = pd.concat([table for table in tables if len(table)], ignore_index=True)
    return table.assign(family="encoding: " + table["family"], analysis=ENCODING)


def _columns(responses: Responses, region: str, measure: str) -> list[int]:
    return [number for number, owner in enumerate(responses.owners) if owner[1:] == (region, measure)]


def _null(models: Sequence[Model], null: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([null[:, list(model.rows.values())].mean(axis=1) for model in models])


def _beyond(
    models: Models,
    found: Found,
    chosen: list[int],
    scores: Scores,
    region: str,
    plan: Plan,
    rng: np.random.Generator,
) -> list[pd.DataFrame]:
    others = models.joined("network", "user")
    if found.joint is None or not others:
        return []
    joint = Scores(
        found.joint[:, chosen], None, scores.n_stimuli, scores.subject_counts, scores.seed_counts, scores.stimuli_fixed
    )
    base = Model(_TOGETHER, {"": len(found.joint) - 1})
    tested = [contrast(joint, model, base) for model in others]
    note = "model and controls in bands less the controls in bands, weights chosen in inner folds"
    name = f"models beyond all controls together, {region}"
    return [contrast_family(name, region, tested, joint, plan, rng, "greater", note)]


def score_rows(
    models: Models, found: Found, responses: Responses, recorded: Mapping[tuple[str, str], NDArray[np.float64]]
) -> pd.DataFrame:
    """Return one row per subject, region, model row and measure; refused models have no score.

    Parameters
    ----------
    models : Models
    found : Found
    responses : Responses
    recorded : mapping of (subject, region) to array of shape (n_stimuli, n_stimuli)
        Kernels of the mean responses, for linear CKA (debiased).
    """
    kernels = kernels_of(models)
    index = {id(row): number for number, row in enumerate(models.usable)}
    rows = []
    for row in models.rows:
        number = index.get(id(row))
        for place, owner in enumerate(responses.owners):
            rows.append(_score_row(row, owner, np.nan if number is None else found.alone[number, place]))
        for (subject, region), kernel in recorded.items():
            cka = np.nan if number is None else linear_cka(kernels[number], kernel, debiased=True)
            rows.append(_score_row(row, (subject, region, CKA), cka))
    return pd.DataFrame(rows)


def _score_row(row: ModelRow, owner: tuple[str, str, str], score: float) -> dict[str, object]:
    subject, region, measure = owner
    return {
        "subject": subject, "region": region, "time": np.nan, "rule": row.rule,
        "architecture": row.architecture or None, "seed": row.seed or None, "layer": row.layer or None,
        "size": row.size, "comparator": measure, "score": score, "refused": row.refused or None,
    }  # fmt: skip
