"""Feature-weighted RSA: non-negative weights of a network's layers, fitted on some stimuli and tested on the others.

The scores of a fit on the tested pairs rise with the number of layers, whatever they hold; so weights are fitted on the
pairs within one half of the stimuli and scored on the pairs within the other (Storrs et al. 2021,
doi:10.1162/jocn_a_01755). No pair across the halves is used: it would share a stimulus with either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.comparators import compare
from decoders.alignment.contrasts import Model, Scores, contrast, draw_all
from decoders.alignment.inference import Plan, contrast_family
from decoders.alignment.models import ModelRow, Models
from decoders.stats.permutation import pair_indices

WEIGHTED = "weighted_rsa"
_FIXED = "weights are fitted on halves that share stimuli: holds for these stimuli"
_LEAST = 8  # stimuli; six pairs in each half


def halves_of(n_stimuli: int, n_halves: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return random halves of the stimuli, each followed by its complement, array (2 * n_halves, n_stimuli)."""
    first = rng.permuted(np.tile(np.arange(n_stimuli) < n_stimuli // 2, (n_halves, 1)), axis=1)
    return np.stack([first, ~first], axis=1).reshape(-1, n_stimuli)


def weighted_scores(
    components: NDArray[np.float64], recorded: NDArray[np.float64], halves: NDArray[np.bool_], comparator: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Score weighted components, and their equal mix, on the pairs of held-out stimuli.

    Parameters
    ----------
    components : array of shape (n_components, n_pairs)
        RDMs, each scaled here by its standard deviation over the training pairs.
    recorded : array of shape (n_subjects, n_pairs)
        Each subject has weights of its own, so that subjects stay independent.
    halves : array of shape (n_splits, n_stimuli)
        Stimuli on which weights are fitted; the others test.
    comparator : str
        Of the scores. The fit is by least squares, with a constant except for the cosines.

    Returns
    -------
    weighted, equal : array of shape (n_subjects,)
        Means over splits. Weights that are all zero predict nothing and count as a score of zero.
    weights : array of shape (n_subjects, n_components)
        Of the scaled components, mean over splits.
    """
    rows, columns = pair_indices(halves.shape[1])
    scores, weights = np.zeros((2, len(recorded))), np.zeros((len(recorded), len(components)))
    for half in halves:
        train, test = training_pairs(half, rows, columns), ~half[rows] & ~half[columns]
        spread = components[:, train].std(axis=1, keepdims=True)
        scaled = np.divide(components, spread, out=np.zeros_like(components), where=spread > 0)
        for subject, rdm in enumerate(recorded):
            weight = _fit(scaled[:, train], rdm[train], comparator not in ("cosine", "cosine_cov"))
            mixes = np.array([weight @ scaled[:, test], scaled[:, test].sum(axis=0)])
            found = compare(mixes, rdm[None, test], comparator)[:, 0]
            scores[:, subject] += np.where(np.ptp(mixes, axis=1) > 0, found, 0) / len(halves)
            weights[subject] += weight / len(halves)
    return scores[0], scores[1], weights


def training_pairs(half: NDArray[np.bool_], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the pairs of which both stimuli train."""
    return np.asarray(half[rows] & half[columns])


def _fit(components: NDArray[np.float64], target: NDArray[np.float64], constant: bool) -> NDArray[np.float64]:
    from scipy.optimize import nnls

    if constant:
        components, target = components - components.mean(axis=1, keepdims=True), target - target.mean()
    return np.asarray(nnls(components.T, target)[0])


def layer_groups(models: Models) -> dict[str, dict[str, list[int]]]:
    """Return the layers of each network: by name without the layer, then by seed, rows of `models.vectors`.

    Pooled versions of layers are left out, and networks with a single layer, and those that may not be ranked.
    """
    groups: dict[str, dict[str, list[int]]] = {}
    for index, row in enumerate(models.usable):
        if row.kind == "network" and row.ranked and not row.layer.endswith("_pooled"):
            groups.setdefault(_name(row), {}).setdefault(row.seed, []).append(index)
    several = {name: {s: rows for s, rows in seeds.items() if len(rows) > 1} for name, seeds in groups.items()}
    return {name: seeds for name, seeds in several.items() if seeds}


def _name(row: ModelRow) -> str:
    return ModelRow("network", row.rule, None, row.architecture, layer="all_layers", size=row.size).name


def weighted_families(
    models: Models,
    recorded: Mapping[str, NDArray[np.float64]],
    n_stimuli: int,
    n_halves: int,
    plan: Plan,
    rng: np.random.Generator,
) -> list[pd.DataFrame]:
    """Test each network's weighted layers against their equal mix, per region.

    Parameters
    ----------
    models : Models
    recorded : mapping of region to array of shape (n_subjects, n_pairs)
    n_stimuli, n_halves : int
    plan : Plan
    rng : Generator

    Returns
    -------
    list of DataFrame
        Family ``feature-weighted models, <region>``: bootstrap over subjects and seeds. None below eight stimuli, or
        without a network of several layers.
    """
    groups = layer_groups(models)
    if not groups or n_stimuli < _LEAST:
        return []
    halves = halves_of(n_stimuli, n_halves, rng)
    wanted = range(2, max(len(seeds) for seeds in groups.values()) + 1)
    tables = []
    for region, rdms in recorded.items():
        full, pairs = _score_groups(models, groups, rdms, halves, plan.comparator)
        scores = Scores(full, None, n_stimuli, *draw_all(len(rdms), wanted, plan.n_resamples, rng), _FIXED)
        tested = [contrast(scores, weighted, equal) for weighted, equal in pairs]
        note = f"non-negative weights per subject from {len(halves)} training halves, scored on pairs of the other half"
        name = f"feature-weighted models, {region}"
        table = contrast_family(name, region, tested, scores, plan, rng, "two-sided", note)
        tables.append(table.assign(analysis=WEIGHTED))
    return tables


def _score_groups(
    models: Models,
    groups: Mapping[str, Mapping[str, Sequence[int]]],
    rdms: NDArray[np.float64],
    halves: NDArray[np.bool_],
    comparator: str,
) -> tuple[NDArray[np.float64], list[tuple[Model, Model]]]:
    full: list[NDArray[np.float64]] = []
    pairs = []
    for name, seeds in groups.items():
        first, second = {}, {}
        for seed, rows in seeds.items():
            weighted, equal, _ = weighted_scores(models.vectors[list(rows)], rdms, halves, comparator)
            first[seed], second[seed] = len(full), len(full) + 1
            full += [weighted, equal]
        pairs.append((Model(name, first), Model("equal weights", second)))
    return np.array(full), pairs
