"""Simulated studies of one design and size: what is drawn, and how many wrong statements the inference makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.ceilings import noise_ceiling
from decoders.alignment.certificate.findings import Bound, Finding, rate
from decoders.alignment.certificate.layout import LAYOUT, Size
from decoders.alignment.certificate.pair_level import pair_level_p
from decoders.alignment.certificate.populations import REGION, Population
from decoders.alignment.comparators import compare
from decoders.alignment.contrasts import MIN_STIMULI
from decoders.alignment.inference import Plan
from decoders.alignment.models import Models
from decoders.alignment.stage import Recorded, infer

ALPHA = 0.05
# Studies behind the truth of the intervals: so many per study that is certified, and at most so many.
TRUTH_SHARE, N_TRUTH = 20, 4000
CHANCE, RULES = f"models against chance, {REGION}", f"rules against rules, {REGION}"
CONTROLS = f"models against controls, {REGION}"


@dataclass(frozen=True)
class Study:
    """One simulated study and what the pipeline says about it.

    Attributes
    ----------
    models : Models
    recorded : Recorded
    table : DataFrame
        All families of tests (`decoders.alignment.stage.infer`).
    """

    models: Models
    recorded: Recorded
    table: pd.DataFrame

    def family(self, name: str) -> pd.DataFrame:
        """Return the rows of a family."""
        return self.table[self.table["family"] == name]

    def row(self, family: str, model: str, reference: str = "chance") -> pd.Series:
        """Return the row of a rule (``rule1``) in a family, against another or against chance."""
        return self.table.loc[self._places[family, model, reference]]

    @cached_property
    def _places(self) -> dict[tuple[str, str, str], int]:
        """Where the first row of a family, rule and reference stands."""
        keys = zip(*(self.table[name] for name in ("family", "model", "reference")), strict=True)
        named = [(family, model.split(" ")[0], reference.split(" ")[0]) for family, model, reference in keys]
        return {key: place for place, key in reversed(list(enumerate(named)))}


@dataclass(frozen=True)
class Cell:
    """Studies of one design and size.

    Attributes
    ----------
    design : str
        Key of `DESIGNS`.
    size : Size
    """

    design: str
    size: Size

    @property
    def population(self) -> Population:
        """The population that studies are drawn from."""
        population = DESIGNS[self.design].population
        # Inference from one subject is about that subject: the others, whose weights differ, are none of its business.
        return replace(population, subject_sd=0.0) if self.size.n_subjects == 1 else population

    def studies(self, n: int, plan: Plan, rng: np.random.Generator) -> Iterator[Study]:
        """Draw studies, and run the pipeline's inference on each."""
        for _ in range(n):
            models, recorded = self.population.draw(self.size, rng)
            yield Study(models, recorded[0], infer(models, recorded, self.size.n_stimuli, plan, rng))

    def expected_scores(self, comparator: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return what each rule scores on average over studies of this size, (n_rules,): the truth of the intervals."""
        n_rules = len(self.population.rules)
        total = np.zeros(n_rules)
        for _ in range(n):
            models, recorded = self.population.draw(self.size, rng)
            scores = compare(models.vectors, recorded[0].rdms, comparator).mean(axis=1)
            total += scores[: n_rules * self.size.n_seeds].reshape(n_rules, -1).mean(axis=1)
        return total / n


Check = Callable[["Cell", list[Study], Plan, np.random.Generator], list[Finding]]


@dataclass(frozen=True)
class Design:
    """A population and what is counted in its studies.

    Attributes
    ----------
    population : Population
    check : callable
        Of cell, studies, plan and generator: the findings.
    """

    population: Population
    check: Check


def _null(cell: Cell, studies: list[Study], plan: Plan, rng: np.random.Generator) -> list[Finding]:
    alone = np.array([study.row(CHANCE, "rule1")["p"] for study in studies])
    any_wrong = [_any(study, CHANCE) for study in studies]
    found = [
        _rate(cell, "p against chance <= .05 where there is nothing", alone <= ALPHA, "at most"),
        _uniform(cell, alone, plan, rng),
        _rate(cell, "any corrected p against chance <= .05 where there is nothing", any_wrong, "at most"),
    ]
    return found if cell.size.n_stimuli < MIN_STIMULI else [*found, *_differences(cell, studies, rng)]


def _equal(cell: Cell, studies: list[Study], plan: Plan, rng: np.random.Generator) -> list[Finding]:
    truth = cell.expected_scores(plan.comparator, _n_truth(studies), rng)
    covered = [_inside(study.row(CHANCE, "rule1"), truth[0]) for study in studies]
    zero = [_inside(study.row(RULES, "rule1", "rule2"), 0.0) for study in studies]
    above = [study.row(CONTROLS, "rule1", "control:1")["p"] <= ALPHA for study in studies]
    return [
        *_differences(cell, studies, rng),
        _rate(cell, "a rule above a control that is its equal, p <= .05", above, "at most"),
        _rate(cell, "95 % interval of a score holds the true one", covered, "at least", 0.95),
        _rate(cell, "95 % interval of a difference holds the true one", zero, "at least", 0.95),
    ]


def _planted(cell: Cell, studies: list[Study], plan: Plan, rng: np.random.Generator) -> list[Finding]:
    truth = cell.expected_scores(plan.comparator, _n_truth(studies), rng)
    nothing = [study.row(CHANCE, "rule3")["p"] <= ALPHA for study in studies]
    strong = [study.row(CHANCE, "rule1")["p_corrected"] <= ALPHA for study in studies]
    weak = [study.row(CHANCE, "rule2")["p_corrected"] <= ALPHA for study in studies]
    better = [study.row(RULES, "rule1", "rule3")["p_corrected"] <= ALPHA for study in studies]
    covered = [_inside(study.row(CHANCE, "rule1"), truth[0]) for study in studies]
    between = [_inside(study.row(RULES, "rule1", "rule2"), truth[0] - truth[1]) for study in studies]
    effect, small = f"true score {truth[0]:.2f}", f"true score {truth[1]:.2f}"
    found = [
        _rate(cell, "p against chance <= .05 of a rule with nothing, beside others", nothing, "at most"),
        _rate(cell, "95 % interval of a score holds the true one", covered, "at least", 0.95),
        _rate(cell, "95 % interval of a difference holds the true one", between, "at least", 0.95),
        _rate(cell, f"power against chance, corrected: {effect}", strong, "none"),
        _rate(cell, f"power against chance, corrected: {small}", weak, "none"),
        _rate(cell, f"power of a difference, corrected: {truth[0] - truth[2]:.2f}", better, "none"),
    ]
    return [*found, *_ceilings(cell, studies, plan)] if cell.size.n_subjects > 1 else found


def _differences(cell: Cell, studies: list[Study], rng: np.random.Generator) -> list[Finding]:
    wrong = [study.row(RULES, "rule1", "rule2")["p"] <= ALPHA for study in studies]
    family = [_any(study, RULES) for study in studies]
    pairs = [pair_level_p(study.models, study.recorded, rng) <= ALPHA for study in studies]
    return [
        _rate(cell, "p of a difference <= .05 between equal rules", wrong, "at most"),
        _rate(cell, "any corrected p of a difference <= .05 between equal rules", family, "at most"),
        _rate(cell, "not used here: bootstrap over pairs, p <= .05 between equal rules", pairs, "none"),
    ]


def _ceilings(cell: Cell, studies: list[Study], plan: Plan) -> list[Finding]:
    above, below = [], []
    for study in studies:
        low, high = noise_ceiling(study.recorded.rdms, plan.comparator)
        scores = compare(study.models.vectors, study.recorded.rdms, plan.comparator).mean(axis=1)
        above.append(scores.max() > high + 1e-12)
        below.append(low > high)
    return [
        _rate(cell, "a model beyond the upper noise ceiling", above, "at most"),
        _rate(cell, "a lower noise ceiling above the upper one", below, "at most", 0.0),
    ]


def _uniform(cell: Cell, p: NDArray[np.float64], plan: Plan, rng: np.random.Generator) -> Finding:
    """Return whether small p-values are too frequent at any level (one-sided Kolmogorov-Smirnov test)."""
    from scipy.stats import kstest

    # p lies on a grid of 1 / (1 + n); spread evenly within a step it is uniform where nothing is there.
    spread = p - rng.uniform(size=len(p)) / (1 + plan.n_resamples)
    value = float(kstest(spread, "uniform", alternative="greater").pvalue)
    return Finding(
        "p of the test that p-values against chance are not too small (Kolmogorov-Smirnov)", cell.design,
        cell.size.label, value, value, value, "p", ALPHA, len(p), 0,
    )  # fmt: skip


def _rate(cell: Cell, name: str, happened: Iterable[bool], bound: Bound, limit: float = ALPHA) -> Finding:
    return rate(name, cell.design, cell.size.label, [bool(item) for item in happened], bound, limit)


def _n_truth(studies: list[Study]) -> int:
    return min(TRUTH_SHARE * len(studies), N_TRUTH)


def _any(study: Study, family: str) -> bool:
    return bool((study.family(family)["p_corrected"] <= ALPHA).any())


def _inside(row: pd.Series, truth: float) -> bool:
    return bool(row["ci_low"] <= truth <= row["ci_high"])


DESIGNS = {
    "nothing": Design(Population((0.0, 0.0, 0.0), (0.0, 0.0)), _null),
    "equal": Design(Population((0.6, 0.6, 0.6), (0.6,)), _equal),
    # What a seed adds outweighs what the rule is.
    "seeds": Design(Population((0.6, 0.6, 0.6), (0.6,), seed_sd=2.0), _equal),
    "planted": Design(Population((1.0, 0.6, 0.0), (0.3,)), _planted),
}
CELLS = {name: Cell(design, size) for name, (design, size) in LAYOUT.items()}


def certify_cell(cell: Cell, n: int, plan: Plan, rng: np.random.Generator) -> list[Finding]:
    """Return the findings of one cell.

    Parameters
    ----------
    cell : Cell
    n : int
        Simulated studies.
    plan : Plan
        As in the study that is certified: comparator, correction and number of resamples.
    rng : Generator
    """
    studies = list(cell.studies(n, plan, rng))
    return DESIGNS[cell.design].check(cell, studies, plan, rng)
