"""What models share with recordings beyond the control RDMs: partial RSA, and the partition of explained variance.

Estimates and intervals, no tests: a model that computes anything non-linear from the controls' features (an untrained
network does) has an RDM that no linear mixture of the control RDMs equals, and a partial score above zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Contrast, Model, Scores, contrast
from decoders.alignment.inference import Plan, contrast_family
from decoders.alignment.models import Models
from decoders.alignment.partial import PLAIN, Parts, partition

PARTIAL, VARIANCE = "partial_rsa", "variance_partition"
_UNTESTED = "intervals alone: what is computed non-linearly from the controls' features lies beyond them, too"
_PARTS = ("partial", "unique", "shared")


def beyond_controls(
    models: Models,
    rdms: Mapping[str, NDArray[np.float64]],
    scores: Mapping[str, Scores],
    resampled: Parts | None,
    plan: Plan,
    rng: np.random.Generator,
) -> list[pd.DataFrame]:
    """Return what networks and user models share with each region beyond all control RDMs, mixed linearly.

    Parameters
    ----------
    models : Models
    rdms : mapping of region to array of shape (n_subjects, n_pairs)
    scores : mapping of region to Scores
        For the resampled subjects and seeds.
    resampled : Parts or None
        Of `held_controls`, in the very resamples of the stimuli behind `scores`, for all regions in their order.
    plan : Plan
    rng : Generator

    Returns
    -------
    list of DataFrame
        Per region the partial scores, and unique and shared variance, with intervals and without p; none where there is
        no control or no other model.
    """
    held = held_controls(models)
    if held is None:
        return []
    others, n_stimuli = models.joined("network", "user"), next(iter(scores.values())).n_stimuli
    together = np.concatenate([rdms[region] for region in scores])
    full = partition(models.vectors, held, together, np.ones((1, n_stimuli), dtype=np.int64), plan.comparator)
    tables, start = [], 0
    for region, found in scores.items():
        stop = start + len(rdms[region])
        parts = {part: _scores(found, full, resampled, part, slice(start, stop)) for part in _PARTS}
        tables += [_partial(region, others, parts["partial"], plan, rng, len(held))]
        tables += [_variance(region, others, parts, plan, rng)]
        start = stop
    return tables


def held_controls(models: Models) -> NDArray[np.float64] | None:
    """Return the control RDMs (n_controls, n_pairs) that are held constant; None without them, or without a model."""
    controls = [index for model in models.joined("control") for index in model.rows.values()]
    return models.vectors[controls] if controls and models.joined("network", "user") else None


def _scores(found: Scores, full: Parts, resampled: Parts | None, part: str, subjects: slice) -> Scores:
    drawn = None if resampled is None else getattr(resampled, part)[:, :, subjects]
    return replace(found, full=getattr(full, part)[0][:, subjects], resampled=drawn)


def _partial(
    region: str, others: list[Model], scores: Scores, plan: Plan, rng: np.random.Generator, n_controls: int
) -> pd.DataFrame:
    tested = [contrast(scores, model) for model in others]
    note = f"partial {PLAIN[plan.comparator]}, {n_controls} control RDMs held constant together; {_UNTESTED}"
    name = f"models beyond linear mixtures of the control RDMs, {region}"
    table = contrast_family(name, region, tested, scores, plan, rng, None, note, PARTIAL)
    return table.assign(reference="all controls")


def _variance(
    region: str, others: list[Model], parts: Mapping[str, Scores], plan: Plan, rng: np.random.Generator
) -> pd.DataFrame:
    found: list[Contrast | None] = []
    for part, words in (("unique", "beyond controls"), ("shared", "with controls")):
        for model in others:
            item = contrast(parts[part], model)
            found.append(None if item is None else replace(item, reference=words))
    name, note = f"explained variance, {region}", _UNTESTED
    return contrast_family(name, region, found, parts["unique"], plan, rng, None, note, VARIANCE)
