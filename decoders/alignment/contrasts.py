"""Estimates, variances and tests of contrasts between models, over stimuli, subjects and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from decoders.stats.resampling import Factors, crossed_variance, draw_counts, effective_df, factor_sets

MIN_STIMULI = 10
Draws = dict[Factors, NDArray[np.float64]]
# Standard deviation of a score below which there is nothing but rounding.
_ROUNDING = 1e-13


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
    _kept: dict[tuple[tuple[int, ...], bool], Draws] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )

    def draws(self, rows: Sequence[int], stimuli: bool = True) -> Draws:
        """Return the bootstrap means of a model, kept for its next contrast.

        Parameters
        ----------
        rows : sequence of int
            One row per seed.
        stimuli : bool
            Whether stimuli are resampled at all.

        Returns
        -------
        dict of frozenset of str to array of shape (n_resamples,)
            By the factors that are resampled, every subset of those that can be (the empty one: of length 1).
        """
        key = tuple(rows), stimuli
        if key not in self._kept:
            chosen = list(rows)
            resampled = self.resampled[:, chosen] if stimuli and self.resampled is not None else None
            self._kept[key] = _all_draws(self, self.full[chosen], resampled)
        return self._kept[key]


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
    own = scores.draws(rows[0])
    draws = own if rows[1] is None else _less(own, scores.draws(rows[1]))
    reference, n_seeds = "" if second is None else second.name, max(len(part or ()) for part in rows)
    return _from_draws(scores, first.name, reference, draws, n_seeds)


def region_contrast(scores: Scores, other: Scores, model: Model, reference: str) -> Contrast:
    """Return the score of a model in one region less that in another, paired within subject and stimulus sample."""
    rows = list(model.rows.values())
    both = scores.resampled is not None and other.resampled is not None
    draws = _less(scores.draws(rows, both), other.draws(rows, both))
    return _from_draws(scores, model.name, reference, draws, len(rows))


def _paired_rows(first: Model, second: Model | None) -> tuple[list[int], list[int] | None] | None:
    if second is None:
        return list(first.rows.values()), None
    if "" in first.rows or "" in second.rows:
        return list(first.rows.values()), list(second.rows.values())
    shared = [seed for seed in first.rows if seed in second.rows]
    return ([first.rows[seed] for seed in shared], [second.rows[seed] for seed in shared]) if shared else None


def _less(first: Draws, second: Draws) -> Draws:
    """Return the draws of a difference: the difference of the draws, since all models are drawn alike."""
    return {chosen: _at(first, chosen) - _at(second, chosen) for chosen in {**first, **second}}


def _at(draws: Draws, factors: Factors) -> NDArray[np.float64]:
    # A model without seeds is the same whichever seeds are drawn.
    return draws[factors] if factors in draws else draws[factors - {"seeds"}]


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
    return _from_draws(scores, model, reference, _all_draws(scores, full, resampled), len(full))


def _from_draws(scores: Scores, model: str, reference: str, draws: Draws, n_seeds: int) -> Contrast:
    numbers = {"stimuli": scores.n_stimuli, "subjects": scores.full.shape[1], "seeds": n_seeds}
    levels = {name: n for name, n in numbers.items() if frozenset({name}) in draws}
    estimate = float(draws[frozenset()][0])
    if not levels:
        return Contrast(model, reference, estimate, float("nan"), 0, np.zeros(0), n_seeds)
    sets = factor_sets(levels)
    table = np.stack([draws[chosen] for chosen in sets])
    missing = ~np.isfinite(table)
    spread = np.nanvar(table, axis=1, ddof=1) if missing.any() else table.var(axis=1, ddof=1)
    # What rounding leaves between two copies of a model is no variance.
    spread = np.where(spread > _ROUNDING**2, spread, 0.0)
    parts = {chosen: float(value) for chosen, value in zip(sets, spread, strict=True)}
    variance = float(crossed_variance(parts, levels))
    df = effective_df(variance, parts, levels)
    return Contrast(model, reference, estimate, variance, df, table[-1], n_seeds, int(missing[-1].sum()))


def _all_draws(scores: Scores, full: NDArray[np.float64], resampled: NDArray[np.float64] | None) -> Draws:
    """Return bootstrap means by the factors that are resampled (none: length 1), from values per seed and subject."""
    n_seeds, n_subjects = full.shape
    by_seed: Draws = {frozenset(): full.mean(axis=1)[None]}
    if resampled is not None:
        by_seed[frozenset({"stimuli"})] = resampled.mean(axis=2)
    if scores.subject_counts is not None:
        weights = scores.subject_counts / n_subjects
        by_seed[frozenset({"subjects"})] = weights @ full.T
        if resampled is not None:
            by_seed[frozenset({"stimuli", "subjects"})] = (resampled @ weights[:, :, None])[:, :, 0]
    draws = {factors: values.mean(axis=1) for factors, values in by_seed.items()}
    if n_seeds > 1:
        counts = scores.seed_counts[n_seeds] / n_seeds
        draws |= {factors | {"seeds"}: (values * counts).sum(axis=1) for factors, values in by_seed.items()}
    return draws


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
