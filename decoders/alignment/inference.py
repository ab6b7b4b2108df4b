"""Families of tests: models against chance, against each other, against controls, and between regions.

Every family is declared by its name in the table; the correction runs over all of its rows, layers and
picture sizes included, so that no layer is chosen on the data that test it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.comparators import compare, embed
from decoders.alignment.contrasts import Contrast, Model, Scores, contrast, method_sentence, region_contrast
from decoders.stats.correction import fdr, max_correlated, max_statistic
from decoders.stats.permutation import permutation_p, permute_pairs
from decoders.stats.resampling import Alternative, t_interval, t_test

_PAIRS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Plan:
    """How the tests are run.

    Attributes
    ----------
    comparator : str
    correction : {"max", "fdr"}
    n_resamples : int
        Bootstrap resamples, and permutations.
    level : float
        Confidence level of the intervals.
    """

    comparator: str
    correction: Literal["max", "fdr"]
    n_resamples: int
    level: float = 0.95


def chance_family(
    name: str,
    region: str,
    models: Sequence[Model],
    vectors: NDArray[np.float64],
    recorded: NDArray[np.float64],
    scores: Scores,
    plan: Plan,
    orders: NDArray[np.int64],
) -> pd.DataFrame:
    """Test each model against relabelled stimuli.

    Parameters
    ----------
    name, region : str
    models : sequence of Model
    vectors : array of shape (n_rows, n_pairs)
        RDMs of the models' rows.
    recorded : array of shape (n_subjects, n_pairs)
    scores : Scores
        For the intervals.
    plan : Plan
    orders : array of shape (n_permutations, n_stimuli)
        Relabellings, the same for all models.

    Returns
    -------
    DataFrame
        One row per model; one-sided p (greater), interval from the bootstrap.
    """
    null = _permuted_scores(models, vectors, recorded, plan.comparator, orders)
    return permutation_family(name, region, models, null, scores, plan)


def permutation_family(
    name: str, region: str, models: Sequence[Model], null: NDArray[np.float64], scores: Scores, plan: Plan
) -> pd.DataFrame:
    """Test each model against its scores with relabelled stimuli, array (n_permutations, n_models)."""
    tested = [item for model in models if (item := contrast(scores, model)) is not None]
    observed = np.array([item.estimate for item in tested])
    p = permutation_p(observed, null)
    corrected = max_statistic(observed, null) if plan.correction == "max" else fdr(p)
    columns = _columns_of(name, region, tested, scores, plan)
    method = f"{plan.comparator}; {len(null)} permutations of the stimulus labels of the model, one-sided"
    interval = method_sentence(scores, tested, plan.comparator, plan.n_resamples).split("; ", 1)[1]
    columns |= {"p": p, "p_corrected": corrected, "null_mean": null.mean(axis=0)}
    columns["contrast"] = [f"{item.name} - chance" for item in tested]
    method = f"{method}; {_correction(plan, len(tested))}; interval: {interval.replace(', t-test', ', t')}"
    return _table(columns, method=method, reference="chance")


def contrast_family(
    name: str,
    region: str,
    contrasts: Sequence[Contrast | None],
    scores: Scores,
    plan: Plan,
    rng: np.random.Generator,
    alternative: Alternative | None = "two-sided",
    note: str = "",
    analysis: str = "rsa",
) -> pd.DataFrame:
    """Test differences by their corrected bootstrap variance.

    Parameters
    ----------
    name, region : str
    contrasts : sequence of Contrast or None
        None (nothing to pair) is left out.
    scores : Scores
    plan : Plan
    rng : Generator
        For the simulated maximum.
    alternative : {"two-sided", "greater"} or None
        None: intervals alone, no test.
    note : str
        Appended to the method.
    analysis : str

    Returns
    -------
    DataFrame
        Empty where there is no contrast.
    """
    tested = [item for item in contrasts if item is not None and np.isfinite(item.estimate)]
    columns = _columns_of(name, region, tested, scores, plan)
    sentence = [method_sentence(scores, tested, plan.comparator, plan.n_resamples)]
    if alternative is not None and tested:
        columns["p"] = _p(tested, alternative)
        columns["p_corrected"] = _corrected(columns["p"], tested, plan, rng, alternative)
        sentence[0] += f"; {'two-sided' if alternative == 'two-sided' else 'one-sided (greater)'}"
        sentence.append(_correction(plan, len(tested)))
    return _table(columns, method="; ".join([*sentence, *([note] if note else [])]), analysis=analysis)


def _corrected(
    p: NDArray[np.float64], tested: Sequence[Contrast], plan: Plan, rng: np.random.Generator, alternative: Alternative
) -> NDArray[np.float64]:
    if plan.correction == "fdr":
        return fdr(p)
    if not len(tested[0].draws):
        return np.full(len(p), np.nan)
    return max_correlated(p, np.column_stack([item.draws for item in tested]), rng, alternative)


def all_pairs(scores: Scores, models: Sequence[Model]) -> list[Contrast | None]:
    """Return the contrasts of every pair of models."""
    return [contrast(scores, first, second) for first, second in combinations(models, 2)]


def hardest_control(scores: Scores, model: Model, controls: Sequence[Model]) -> Contrast | None:
    """Return the contrast with the control that the model beats least clearly (largest one-sided p).

    A model is above *all* controls if it is above this one: the one-sided test of this contrast is the
    intersection-union test over the controls (Berger 1982), and needs no correction for their number.
    """
    found = [item for control in controls if (item := contrast(scores, model, control)) is not None]
    usable = [item for item in found if np.isfinite(item.estimate)]
    return max(usable, key=_hardness) if usable else None


def between_regions(
    first: str, second: str, scores: Scores, other: Scores, models: Sequence[Model]
) -> list[Contrast | None]:
    """Return, for each model, its score in the first region less that in the second."""
    return [
        replace(region_contrast(scores, other, model, second), model=f"{model.name} in {first}") for model in models
    ]


def _hardness(item: Contrast) -> tuple[float, float]:
    """Return a key that is largest for the contrast that is least clearly positive."""
    # By p, since controls with other numbers of seeds have other degrees of freedom; by t between equal p.
    p = float(_p([item], "greater")[0])
    # A difference without variance (a control that is a copy of the model) was not beaten.
    return p if np.isfinite(p) else 1.0, -_statistic(item)


def _statistic(item: Contrast) -> float:
    if not np.isfinite(item.variance) or item.variance <= 0:
        return item.estimate
    return item.estimate / float(np.sqrt(item.variance))


def _p(tested: Sequence[Contrast], alternative: Alternative) -> NDArray[np.float64]:
    estimates, variances, df = _numbers(tested)
    return np.where(df > 0, t_test(estimates, variances, np.maximum(df, 1), alternative), np.nan)


def _numbers(tested: Sequence[Contrast]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    estimates = np.array([item.estimate for item in tested], dtype=np.float64)
    variances = np.array([item.variance for item in tested], dtype=np.float64)
    return estimates, variances, np.array([item.df for item in tested], dtype=np.float64)


def _columns_of(name: str, region: str, tested: Sequence[Contrast], scores: Scores, plan: Plan) -> dict[str, Any]:
    """Return all columns of a family, in order; what all rows share as a single value."""
    estimates, variances, df = _numbers(tested)
    low, high = t_interval(estimates, variances, np.maximum(df, 1), plan.level)
    return {
        "family": name, "analysis": "rsa", "contrast": [item.name for item in tested], "region": region,
        "time": np.nan, "estimate": estimates, "ci_low": low, "ci_high": high, "p": np.nan, "p_corrected": np.nan,
        "n_subjects": scores.full.shape[1], "n_stimuli": scores.n_stimuli,
        "n_seeds": np.array([item.n_seeds for item in tested], dtype=np.int64), "method": "", "null_mean": np.nan,
        "model": [item.model for item in tested], "reference": [item.reference for item in tested],
    }  # fmt: skip


def _table(columns: dict[str, Any], **others: str) -> pd.DataFrame:
    """Return the rows of a family; columns are filled here, since pandas is slow at it and families are many."""
    columns, n = columns | others, len(columns["model"])
    return pd.DataFrame({name: _filled(values, n) for name, values in columns.items()})


def _filled(values: Any, n: int) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    filled = np.empty(n, dtype=object if isinstance(values, str | list) else type(values))
    filled[:] = values
    return filled


def _correction(plan: Plan, size: int) -> str:
    name = "max-statistic" if plan.correction == "max" else "Benjamini-Hochberg"
    return f"{name} over the {size} tests of the family"


def _permuted_scores(
    models: Sequence[Model],
    vectors: NDArray[np.float64],
    recorded: NDArray[np.float64],
    comparator: str,
    orders: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return mean scores over subjects and seeds under each relabelling, array (n_permutations, n_models)."""
    rows = [list(model.rows.values()) for model in models]
    if comparator == "tau_a":
        return np.array([_permuted_once(vectors, recorded, comparator, order, rows) for order in orders])
    # Linear comparators: the mean over subjects and seeds may be taken before the product.
    prepared = embed(vectors, comparator)
    target = embed(recorded, comparator).mean(axis=0)
    units = np.array([prepared[chosen].mean(axis=0) for chosen in rows])
    null = np.empty((len(orders), len(models)))
    step = max(1, _PAIRS_AT_ONCE // len(target))
    for start in range(0, len(orders), step):
        part = orders[start : start + step]
        null[start : start + step] = _relabelled(target, part) @ units.T
    return null


def _relabelled(target: NDArray[np.float64], orders: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return an embedded RDM under each relabelling (n_orders, n_stimuli)."""
    n = orders.shape[1]
    if len(target) == n * n:
        square = target.reshape(n, n)
        return np.asarray(square[orders[:, :, None], orders[:, None]]).reshape(len(orders), -1)
    return permute_pairs(target, orders)


def _permuted_once(
    vectors: NDArray[np.float64],
    recorded: NDArray[np.float64],
    comparator: str,
    order: NDArray[np.int64],
    rows: list[list[int]],
) -> NDArray[np.float64]:
    relabelled = np.array([permute_pairs(rdm, order) for rdm in recorded])
    means = compare(vectors, relabelled, comparator).mean(axis=1)
    return np.array([means[chosen].mean() for chosen in rows])
