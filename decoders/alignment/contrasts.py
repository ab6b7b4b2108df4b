"""Estimates, variances and tests of contrasts between models, over stimuli, subjects and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from decoders.stats.resampling import Factors, crossed_variance, draw_counts, effective_df, factor_sets

MIN_STIMULI = 10


@dataclass(frozen=True)
class Model:
    """A model of one or several networks that differ in their seed only.

    Attributes
    ----------
    name : str
        As in contrasts, e.g. ``backprop cnn3 fc1 32`` or ``control:pixel``.
    rows : mapping of str to int
        Row of the model RDMs per seed; one row under "" where there is no seed.
    """

    name: str
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Contrast:
    """A score, or the difference of two scores, with its uncertainty.

    Attributes
    ----------
    model, reference : str
        What is compared, and with what ("" for a score by itself).
    estimate : float
        Mean over subjects and seeds, on the data as they are.
    variance : float
        Of the estimate, over the factors that were resampled; not a number when none was.
    df : float
        Effective degrees of freedom of the variance (`effective_df`); 0 when no factor was resampled.
    draws : array of shape (n_resamples,)
        Estimates when all factors are resampled; empty when none was.
    n_seeds : int
        1 where no seed varies.
    n_lost : int
        Resamples in which an RDM was constant.
    """

    model: str
    reference: str
    estimate: float
    variance: float
    df: float
    draws: NDArray[np.float64]
    n_seeds: int
    n_lost: int = 0

    @property
    def name(self) -> str:
        """Name for the tables: ``model - reference``."""
        return f"{self.model} - {self.reference}" if self.reference else self.model


@dataclass(frozen=True)
class Scores:
    """Scores of all model RDMs with the subjects of one region, with and without resampled stimuli.

    Attributes
    ----------
    full : array of shape (n_rows, n_subjects)
    resampled : array of shape (n_resamples, n_rows, n_subjects), or None
        None where the stimuli are too few to be resampled.
    n_stimuli : int
    subject_counts : array of shape (n_resamples, n_subjects), or None
        None for a single subject.
    seed_counts : dict of int to array of shape (n_resamples, n_seeds)
        By number of seeds.
    stimuli_fixed : str
        Why the stimuli are not resampled, where the reason is not their number.
    """

    full: NDArray[np.float64]
    resampled: NDArray[np.float64] | None
    n_stimuli: int
    subject_counts: NDArray[np.int64] | None
    seed_counts: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    stimuli_fixed: str = ""


def draw_all(
    n_subjects: int, numbers_of_seeds: Iterable[int], n_resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64] | None, dict[int, NDArray[np.int64]]]:
    """Return bootstrap counts of subjects (None for one) and of seeds, the same for every contrast."""
    subjects = draw_counts(n_subjects, n_resamples, rng) if n_subjects > 1 else None
    return subjects, {n: draw_counts(n, n_resamples, rng) for n in sorted(set(numbers_of_seeds)) if n > 1}


def contrast(scores: Scores, first: Model, second: Model | None = None) -> Contrast | None:
    """Return a score, or a paired difference, with its corrected bootstrap variance.

    Parameters
    ----------
    scores : Scores
    first, second : Model
        With a second model: first less second, paired within subject, stimulus sample and (where both have several)
        seed.

    Returns
    -------
    Contrast or None
        None where the models have seeds but none in common.
    """
    rows = _paired_rows(first, second)
    if rows is None:
        return None
    full = _difference(scores.full, *rows)
    resampled = None if scores.resampled is None else _difference(scores.resampled, *rows)
    return evaluate(scores, first.name, "" if second is None else second.name, full, resampled)


def region_contrast(scores: Scores, other: Scores, model: Model, reference: str) -> Contrast:
    """Return the score of a model in one region less that in another, paired within subject and stimulus sample."""
    rows = list(model.rows.values())
    full = _difference(scores.full, rows, None) - _difference(other.full, rows, None)
    if scores.resampled is None or other.resampled is None:
        return evaluate(scores, model.name, reference, full, None)
    resampled = _difference(scores.resampled, rows, None) - _difference(other.resampled, rows, None)
    return evaluate(scores, model.name, reference, full, resampled)


def _paired_rows(first: Model, second: Model | None) -> tuple[list[int], list[int] | None] | None:
    if second is None:
        return list(first.rows.values()), None
    if "" in first.rows or "" in second.rows:
        return list(first.rows.values()), list(second.rows.values())
    shared = [seed for seed in first.rows if seed in second.rows]
    return ([first.rows[seed] for seed in shared], [second.rows[seed] for seed in shared]) if shared else None


def _difference(table: NDArray[np.float64], first: list[int], second: list[int] | None) -> NDArray[np.float64]:
    """Return values (…, n_seeds, n_subjects)."""
    return table[..., first, :] if second is None else table[..., first, :] - table[..., second, :]


def evaluate(
    scores: Scores, model: str, reference: str, full: NDArray[np.float64], resampled: NDArray[np.float64] | None
) -> Contrast:
    """Return the estimate and its variance from values per seed and subject.

    Parameters
    ----------
    scores : Scores
        For the counts of subjects and seeds.
    model, reference : str
    full : array of shape (n_seeds, n_subjects)
    resampled : array of shape (n_resamples, n_seeds, n_subjects) or None

    Returns
    -------
    Contrast
    """
    n_seeds, n_subjects = full.shape
    levels = {}
    if resampled is not None:
        levels["stimuli"] = scores.n_stimuli
    if scores.subject_counts is not None:
        levels["subjects"] = n_subjects
    if n_seeds > 1:
        levels["seeds"] = n_seeds
    estimate = float(full.mean())
    if not levels:
        return Contrast(model, reference, estimate, float("nan"), 0, np.zeros(0), n_seeds)
    draws = {chosen: _draws(scores, chosen, full, resampled) for chosen in factor_sets(levels)}
    joint = draws[frozenset(levels)]
    parts = {key: float(np.nanvar(values, ddof=1)) for key, values in draws.items()}
    variance = float(crossed_variance(parts, levels))
    lost = int((~np.isfinite(joint)).sum())
    df = effective_df(variance, parts, levels)
    return Contrast(model, reference, estimate, variance, df, joint, n_seeds, lost)


def _draws(
    scores: Scores, factors: Factors, full: NDArray[np.float64], resampled: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return bootstrap means (n_resamples,) when exactly these factors are resampled."""
    n_seeds, n_subjects = full.shape
    values = resampled if "stimuli" in factors and resampled is not None else full[None]
    if "subjects" in factors and scores.subject_counts is not None:
        by_seed = np.einsum("bks,bs->bk", *_matched(values, scores.subject_counts)) / n_subjects
    else:
        by_seed = values.mean(axis=2)
    if "seeds" in factors:
        by_seed, counts = _matched(by_seed, scores.seed_counts[n_seeds])
        return np.asarray(np.einsum("bk,bk->b", by_seed, counts) / n_seeds)
    return np.asarray(by_seed.mean(axis=1))


def _matched(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    shape = (len(counts), *values.shape[1:])
    return np.broadcast_to(values, shape), counts.astype(np.float64)


def method_sentence(scores: Scores, contrasts: Sequence[Contrast], comparator: str, n_resamples: int) -> str:
    """Return how the contrasts were tested, for the column `method`."""
    resampled, missing = [], []
    if scores.resampled is not None:
        resampled.append("stimuli")
    else:
        why = scores.stimuli_fixed or f"{scores.n_stimuli}, fewer than {MIN_STIMULI}"
        missing.append(f"stimuli not resampled ({why})")
    if scores.subject_counts is not None:
        resampled.append("subjects")
    else:
        missing.append("one subject: no inference beyond this subject")
    if any(item.n_seeds > 1 for item in contrasts):
        resampled.append("seeds")
    over = f"bootstrap over {', '.join(resampled)} ({n_resamples})"
    text = f"{comparator}; {over}, corrected variance, t-test, effective df (Satterthwaite)"
    if not resampled:
        text = f"{comparator}; no factor to resample, no test"
    lost = max((item.n_lost for item in contrasts), default=0)
    if lost:
        missing.append(f"up to {lost} resamples with a constant RDM left out")
    return "; ".join([text, *missing])
