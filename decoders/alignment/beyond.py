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
    counts: NDArray[np.int64] | None,
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
    counts : array of shape (n_resamples, n_stimuli) or None
        Of the very resamples of the stimuli behind `scores`.
    plan : Plan
    rng : Generator

    Returns
    -------
    list of DataFrame
        Per region the partial scores, and unique and shared variance, with intervals and without p; none where there is
        no control or no other model.
    """
    controls = [index for model in models.joined("control") for index in model.rows.values()]
    others = models.joined("network", "user")
    if not controls or not others:
        return []
    held, n_stimuli = models.vectors[controls], next(iter(scores.values())).n_stimuli
    # All regions at once: the models' ranks are the cost.
    together = np.concatenate([rdms[region] for region in scores])
    once = np.ones((1, n_stimuli), dtype=np.int64)
    full = partition(models.vectors, held, together, once, plan.comparator)
    resampled = None if counts is None else partition(models.vectors, held, together, counts, plan.comparator)
    tables, start = [], 0
    for region, found in scores.items():
        stop = start + len(rdms[region])
        parts = {part: _scores(found, full, resampled, part, slice(start, stop)) for part in _PARTS}
        tables += [_partial(region, others, parts["partial"], plan, rng, len(controls))]
        tables += [_variance(region, others, parts, plan, rng)]
        start = stop
    return tables


def _scores(found: Scores, full: Parts, resampled: Parts | None, part: str, subjects: slice) -> Scores:
    drawn = None if resampled is None else getattr(resampled, part)[:, :, subjects]
    return replace(found, full=getattr(full, part)[0][:, subjects], resampled=drawn)


def _partial(
    region: str, others: list[Model], scores: Scores, plan: Plan, rng: np.random.Generator, n_controls: int
) -> pd.DataFrame:
    tested = [contrast(scores, model) for model in others]
    note = f"partial {PLAIN[plan.comparator]}, {n_controls} control RDMs held constant together; {_UNTESTED}"
    name = f"models beyond linear mixtures of the control RDMs, {region}"
    table = contrast_family(name, region, tested, scores, plan, rng, note=note)
    return table.assign(analysis=PARTIAL, reference="all controls", p=np.nan, p_corrected=np.nan)


def _variance(
    region: str, others: list[Model], parts: Mapping[str, Scores], plan: Plan, rng: np.random.Generator
) -> pd.DataFrame:
    found: list[Contrast | None] = []
    for part, words in (("unique", "beyond controls"), ("shared", "with controls")):
        for model in others:
            item = contrast(parts[part], model)
            found.append(None if item is None else replace(item, reference=words))
    name, note = f"explained variance, {region}", _UNTESTED
    table = contrast_family(name, region, found, parts["unique"], plan, rng, note=note)
    return table.assign(analysis=VARIANCE, p=np.nan, p_corrected=np.nan)
