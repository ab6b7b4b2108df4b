"""Simulated studies over time: how often clusters and moments are found where there is nothing, power, latencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from decoders.alignment.certificate.findings import Finding, rate
from decoders.alignment.certificate.layout import TIME_LAYOUT, Size
from decoders.alignment.certificate.timed_population import ONSET_S, PEAK_S, TimedPopulation
from decoders.alignment.inference import Plan
from decoders.alignment.searchlight_group import MIN_SUBJECTS
from decoders.alignment.timed.families import CHANCE, RELABELLED, RULES, TimePlan, infer_times
from decoders.alignment.timed.generalise import TimeByTime
from decoders.alignment.timed.scores import time_scores
from decoders.alignment.timed.stage import OF_CHANCE, generalisations, latency_table

ALPHA = 0.05


@dataclass(frozen=True)
class TimedStudy:
    """What the pipeline says about one simulated study.

    Attributes
    ----------
    rows, clusters, latencies : DataFrame
    tables : dict of str to TimeByTime
    """

    rows: pd.DataFrame
    clusters: pd.DataFrame
    latencies: pd.DataFrame
    tables: dict[str, TimeByTime]

    def any_moment(self, family: str, model: str = "", reference: str = "") -> bool:
        """Return whether a moment of a family (or of one of its courses) has a corrected p of .05 or less."""
        return bool((_of(self.rows, family, model, reference)["p_corrected"] <= ALPHA).any())

    def any_cluster(self, family: str, model: str = "") -> bool:
        """Return whether a cluster of a family (or of one of its models) has a p of .05 or less."""
        return bool((_of(self.clusters, family, model, "")["p"] <= ALPHA).any())

    def latency(self, model: str, measure: str) -> pd.Series:
        """Return the latency of a model by itself."""
        rows = self.latencies
        chosen = (rows["model"].str.split(" ").str[0] == model) & (rows["measure"] == measure)
        return rows[chosen & (rows["reference"] == OF_CHANCE)].iloc[0]


def _of(rows: pd.DataFrame, family: str, model: str, reference: str) -> pd.DataFrame:
    found = rows[rows["family"] == f"{family}, over time"]
    for column, name in (("model", model), ("reference", reference)):
        if name:
            found = found[found[column].str.split(" ").str[0] == name]
    return found


@dataclass(frozen=True)
class TimedCell:
    """Studies over time of one design and size.

    Attributes
    ----------
    design : str
        Key of `TIMED_DESIGNS`.
    size : Size
    """

    design: str
    size: Size

    def study(self, plan: TimePlan, rng: np.random.Generator) -> TimedStudy:
        """Draw a study and run the pipeline's inference over time on it."""
        models, recorded = TIMED_DESIGNS[self.design][0].draw(self.size, rng)
        scores = time_scores(models, recorded, plan.comparator)
        found = infer_times(models, recorded, scores, plan, rng)
        latencies = latency_table(models, recorded, plan, plan.n_permutations, rng)
        rows, clusters = (pd.concat(parts, ignore_index=True) for parts in (found.rows, found.clusters))
        return TimedStudy(rows, clusters, latencies, generalisations(recorded, plan, rng)[0])


def _null(cell: TimedCell, studies: list[TimedStudy]) -> list[Finding]:
    counted = {"any cluster against relabelled stimuli": [study.any_cluster(RELABELLED) for study in studies]}
    if cell.size.n_subjects >= MIN_SUBJECTS:
        counted |= {
            "any corrected moment against chance": [study.any_moment(CHANCE) for study in studies],
            "any cluster against chance": [study.any_cluster(CHANCE) for study in studies],
            "any cluster between rules": [study.any_cluster(RULES) for study in studies],
            "any latency": [_any_latency(study) for study in studies],
            **{
                f"any cluster of generalisation over time ({kind})": [
                    bool((study.tables[kind].cluster_p <= ALPHA).any()) for study in studies
                ]
                for kind in ("rdms", "patterns")
            },
        }
    return [_rate(cell, f"{name} where there is nothing, p <= .05", found) for name, found in counted.items()]


def _any_latency(study: TimedStudy) -> bool:
    rows = study.latencies
    return bool(rows.loc[rows["reference"] == OF_CHANCE, "latency_s"].notna().any())


def _planted(cell: TimedCell, studies: list[TimedStudy]) -> list[Finding]:
    equal = [study.any_moment(RULES, "rule1", "rule2") for study in studies]
    shown = {
        "power: a cluster of the planted rule": [study.any_cluster(CHANCE, "rule1") for study in studies],
        "power: a cluster of the planted rule against relabelled stimuli": [
            study.any_cluster(RELABELLED, "rule1") for study in studies
        ],
        "power: a moment of the planted above the worthless rule": [
            study.any_moment(RULES, "rule1", "rule3") for study in studies
        ],
    }
    found = [_rate(cell, "any corrected moment between two equal rules, p <= .05", equal)]
    found += [rate(name, cell.design, cell.size.label, happened, "none", ALPHA) for name, happened in shown.items()]
    for measure, truth in (("onset", ONSET_S), ("peak", PEAK_S)):
        found += _latencies(cell, studies, measure, truth)
    return found


def _latencies(cell: TimedCell, studies: list[TimedStudy], measure: str, truth: float) -> list[Finding]:
    rows = [study.latency("rule1", measure) for study in studies]
    errors = np.array([float(row["latency_s"]) - truth for row in rows if pd.notna(row["latency_s"])])
    held = [bool(row["ci_low"] <= truth <= row["ci_high"]) for row in rows if pd.notna(row["latency_s"])]
    if len(errors) < 2:
        return []
    half = 1.96 * float(errors.std(ddof=1)) / np.sqrt(len(errors))
    bias = float(errors.mean())
    name = f"mean error of the planted {measure} in s (planted at {truth:g} s)"
    size = cell.size.label
    return [
        Finding(name, cell.design, size, bias, bias - half, bias + half, "none", 0.0, len(errors), 0),
        rate(f"95 % interval of the planted {measure} holds it", cell.design, size, held, "none", 0.95),
    ]


def _rate(cell: TimedCell, name: str, happened: list[bool]) -> Finding:
    return rate(name, cell.design, cell.size.label, happened, "at most", ALPHA)


TIMED_DESIGNS: dict[str, tuple[TimedPopulation, Callable[[TimedCell, list[TimedStudy]], list[Finding]]]] = {
    "time_nothing": (TimedPopulation((0.0, 0.0, 0.0), (0.0,)), _null),
    "time_planted": (TimedPopulation((0.7, 0.7, 0.0), (0.0,)), _planted),
}
TIMED_CELLS = {name: TimedCell(design, size) for name, (design, size) in TIME_LAYOUT.items()}


def certify_timed_cell(cell: TimedCell, n: int, plan: Plan, rng: np.random.Generator) -> list[Finding]:
    """Return the findings of one cell over time.

    Parameters
    ----------
    cell : TimedCell
    n : int
        Simulated studies.
    plan : Plan
        Comparator and number of permutations; a comparator that cannot be relabelled is certified by Spearman's.
    rng : Generator
    """
    comparator = "spearman" if plan.comparator == "tau_a" else plan.comparator
    timed = TimePlan(comparator, n_permutations=plan.n_resamples)
    studies = [cell.study(timed, rng) for _ in range(n)]
    return TIMED_DESIGNS[cell.design][1](cell, studies)
