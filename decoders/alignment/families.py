"""Which tests form a family, in every region of a study.

===============================  ==========================================================================
models against chance            every model, layer and picture size; permutation of the stimulus labels
rules against rules              every pair of rules at the same architecture, layer and picture size
models against controls          every network layer and user model against the control it beats least clearly;
                                 for trained rules the same layer of the untrained and random-feature networks counts
controls against controls        every pair of control RDMs
user models against each other   every pair of the user's models
controls between regions         every control RDM, one region against another
===============================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Contrast, Model, Scores, contrast
from decoders.alignment.inference import (
    Plan,
    all_pairs,
    between_regions,
    chance_family,
    contrast_family,
    hardest_control,
)
from decoders.alignment.models import BASELINES, Models


def all_families(
    models: Models,
    rdms: Mapping[str, NDArray[np.float64]],
    subjects: Mapping[str, Sequence[str]],
    scores: Mapping[str, Scores],
    plan: Plan,
    orders: NDArray[np.int64],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return every family of every region.

    Parameters
    ----------
    models : Models
    rdms : mapping of region to array of shape (n_subjects, n_pairs)
    subjects : mapping of region to sequence of str
    scores : mapping of region to Scores
    plan : Plan
    orders : array of shape (n_permutations, n_stimuli)
    rng : Generator

    Returns
    -------
    DataFrame
    """
    everything = models.joined("control", "network", "user")
    tables = []
    for region, values in scores.items():
        name = f"models against chance, {region}"
        tables.append(chance_family(name, region, everything, models.vectors, rdms[region], values, plan, orders))
        tables += region_families(models, region, values, plan, rng)
    tables += _between(models, subjects, scores, plan, rng)
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def region_families(
    models: Models, region: str, scores: Scores, plan: Plan, rng: np.random.Generator
) -> list[pd.DataFrame]:
    """Return the families of differences between the models of one region."""
    # With the seed: the other seeds of a rule may be trained, and stay.
    left_out = sorted(f"{row.name} (seed {row.seed})" for row in models.usable if not row.ranked)
    note = f"left out as not trained: {', '.join(left_out)}" if left_out else ""
    hardest = "reference: the control that the model beats least clearly (test over all controls by intersection-union)"
    sets: list[tuple[str, list[Contrast | None], str]] = [
        ("rules against rules", _rule_pairs(models, scores), note),
        ("models against controls", _against_controls(models, scores), "; ".join(filter(None, [hardest, note]))),
        ("controls against controls", all_pairs(scores, models.joined("control")), ""),
        ("user models against each other", all_pairs(scores, models.joined("user")), ""),
    ]
    return [
        contrast_family(
            f"{name}, {region}", region, found, scores, plan, rng,
            "greater" if name == "models against controls" else "two-sided", text,
        )
        for name, found, text in sets
    ]  # fmt: skip


def _rule_pairs(models: Models, scores: Scores) -> list[Contrast | None]:
    networks = models.joined("network")
    return [
        contrast(scores, first, second)
        for first, second in combinations(networks, 2)
        if models.setting(first)[1:] == models.setting(second)[1:]
    ]


def _against_controls(models: Models, scores: Scores) -> list[Contrast | None]:
    controls, networks = models.joined("control"), models.joined("network")
    return [
        hardest_control(scores, model, [*controls, *_baselines_of(models, model, networks)])
        for model in [*networks, *models.joined("user")]
    ]


def _baselines_of(models: Models, model: Model, networks: Sequence[Model]) -> list[Model]:
    rule, *place = models.setting(model)
    if rule in BASELINES:
        return []
    settings = [(other, models.setting(other)) for other in networks]
    return [other for other, (name, *where) in settings if name in BASELINES and where == place]


def _between(
    models: Models,
    subjects: Mapping[str, Sequence[str]],
    scores: Mapping[str, Scores],
    plan: Plan,
    rng: np.random.Generator,
) -> list[pd.DataFrame]:
    tables = []
    for first, second in combinations(scores, 2):
        # Paired within subject: regions with other subjects cannot be contrasted so.
        if list(subjects[first]) != list(subjects[second]):
            continue
        pairs = between_regions(first, second, scores[first], scores[second], models.joined("control"))
        name, region = f"controls between regions, {first} - {second}", f"{first} - {second}"
        tables.append(contrast_family(name, region, pairs, scores[first], plan, rng))
    return tables
