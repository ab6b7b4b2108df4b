"""Families of tests over time: each is corrected over all of its models and all moments together.

===============================  ==========================================================================
models against chance            every model; sign flips of subjects, one-sided
models against relabelled        every model; permutation of the stimulus labels, one-sided
rules against rules              every pair of rules at the same architecture, layer and picture size; two-sided
models against controls          every network layer and user model against all controls (intersection-union);
                                 for trained rules the same layer of the untrained and random-feature networks counts
controls against controls        every pair of control RDMs, two-sided
user models against each other   every pair of the user's models, two-sided
===============================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Model
from decoders.alignment.families import _baselines_of
from decoders.alignment.models import Models
from decoders.alignment.searchlight_group import MIN_SUBJECTS
from decoders.alignment.timed.clusters import find_runs
from decoders.alignment.timed.flips import Cluster, Statistic, Tested, flip_test, sign_patterns
from decoders.alignment.timed.labels import label_test, relabelled_scores
from decoders.alignment.timed.scores import REGION, RecordedTimes
from decoders.stats.permutation import label_permutations
from decoders.stats.resampling import Alternative, t_interval

CHANCE, RELABELLED, RULES = "models against chance", "models against relabelled stimuli", "rules against rules"
CONTROLS = "models against controls"


@dataclass(frozen=True)
class TimePlan:
    """How the tests over time are run.

    Attributes
    ----------
    comparator : str
    statistic : {"tfce", "max"}
    cluster_p : float
    n_permutations : int
    alpha : float
        Level of the stretches in which a model is above all controls.
    level : float
        Confidence level of the intervals.
    """

    comparator: str
    statistic: Statistic = "tfce"
    cluster_p: float = 0.05
    n_permutations: int = 1000
    alpha: float = 0.05
    level: float = 0.95


@dataclass(frozen=True)
class Courses:
    """Courses of one family.

    Attributes
    ----------
    family : str
    models, references : list of str
    n_seeds : list of int
    values : array of shape (n_subjects, n_courses, n_times)
    alternative : {"greater", "two-sided"}
    """

    family: str
    models: list[str]
    references: list[str]
    n_seeds: list[int]
    values: NDArray[np.float64]
    alternative: Alternative


@dataclass
class TimeInference:
    """What is inferred over time.

    Attributes
    ----------
    rows : list of DataFrame
        Columns of `inference`, and null_mean, model, reference; one row per course and moment.
    clusters : list of DataFrame
        Columns of `time_clusters`.
    chance : Tested or None
        Of the models against chance, in the order of `Models.joined`: by flips, or (few subjects) by relabelling.
    """

    rows: list[pd.DataFrame] = field(default_factory=list)
    clusters: list[pd.DataFrame] = field(default_factory=list)
    chance: Tested | None = None


def mean_over_seeds(scores: NDArray[np.float64], models: Sequence[Model]) -> NDArray[np.float64]:
    """Return the courses of models from those of their rows, array (n_subjects, n_models, n_times)."""
    return np.stack([scores[:, list(model.rows.values())].mean(axis=1) for model in models], axis=1)


def no_flips(n_subjects: int, comparator: str, cross_validated: bool) -> str:
    """Return why subjects cannot be flipped against chance; empty where they can."""
    if n_subjects < MIN_SUBJECTS:
        count = f"{n_subjects} subject" + ("" if n_subjects == 1 else "s")
        return f"{count}: no inference over subjects below {MIN_SUBJECTS}"
    if comparator == "cosine" and not cross_validated:
        return "the cosine of distances that are not cross-validated is above zero by chance: no test against zero"
    return ""


def infer_times(
    models: Models, recorded: RecordedTimes, scores: NDArray[np.float64], plan: TimePlan, rng: np.random.Generator
) -> TimeInference:
    """Return all families of tests over time.

    Parameters
    ----------
    models : Models
    recorded : RecordedTimes
    scores : array of shape (n_subjects, n_rows, n_times)
        From `time_scores`, by `plan.comparator`.
    plan : TimePlan
    rng : Generator
    """
    found = TimeInference()
    signs, exact = sign_patterns(len(recorded.subjects), plan.n_permutations, rng)
    orders = label_permutations(len(recorded.stimuli.names), plan.n_permutations - 1, rng)
    cross_validated = recorded.method.startswith("crossnobis")
    everything = models.joined("control", "network", "user")
    chance = Courses(
        CHANCE, [model.name for model in everything], ["chance"] * len(everything),
        [len(model.rows) for model in everything], mean_over_seeds(scores, everything), "greater",
    )  # fmt: skip
    why = no_flips(len(recorded.subjects), plan.comparator, cross_validated)
    found.chance = _flipped(found, chance, recorded, plan, signs, exact, why)
    relabelled = _relabelled(found, models, everything, chance, recorded, plan, orders)
    found.chance = found.chance or relabelled
    why = no_flips(len(recorded.subjects), plan.comparator, True)
    for courses in _differences(models, scores):
        _flipped(found, courses, recorded, plan, signs, exact, why)
    _against_controls(found, models, scores, recorded, plan, signs, exact, why)
    return found


def _flipped(
    found: TimeInference, courses: Courses, recorded: RecordedTimes, plan: TimePlan, signs: NDArray[np.float64],
    exact: bool, why_not: str,
) -> Tested | None:  # fmt: skip
    if not courses.models:
        return None
    tested = None
    if not why_not:
        tested = flip_test(courses.values, signs, plan.cluster_p, plan.statistic, courses.alternative, exact)
    method = why_not or flip_sentence(plan, courses.alternative, tested, len(courses.models))
    found.rows.append(moment_table(courses, recorded, plan, tested, f"{plan.comparator}; {method}"))
    if tested:
        found.clusters.append(cluster_table(courses, tested.clusters, recorded, f"{plan.comparator}; {method}"))
    return tested


def flip_sentence(plan: TimePlan, alternative: Alternative, tested: Tested | None, size: int) -> str:
    """Return how a family was tested over subjects, for the column `method`."""
    if tested is None:
        return "not tested"
    flips = f"all {tested.n_permutations}" if tested.exact else f"{tested.n_permutations} random"
    sided = "two-sided" if alternative == "two-sided" else "one-sided (greater)"
    return (
        f"{flips} sign flips of subjects (stimuli as they are), {sided}; {_corrected_by(plan)} over {size} courses and "
        f"all moments; clusters of t beyond p {plan.cluster_p:g}, by mass; interval: t over subjects"
    )


def _corrected_by(plan: TimePlan) -> str:
    return "threshold-free cluster enhancement" if plan.statistic == "tfce" else "largest statistic"


def _relabelled(
    found: TimeInference, models: Models, everything: Sequence[Model], chance: Courses, recorded: RecordedTimes,
    plan: TimePlan, orders: NDArray[np.int64],
) -> Tested | None:  # fmt: skip
    courses = Courses(RELABELLED, chance.models, chance.references, chance.n_seeds, chance.values, "greater")
    if plan.comparator == "tau_a":
        method = "tau_a; not tested by relabelling (hours): put another comparator first"
        found.rows.append(moment_table(courses, recorded, plan, None, method))
        return None
    null = relabelled_scores(everything, models.vectors, recorded, plan.comparator, orders)
    tested = label_test(null, plan.cluster_p, plan.statistic)
    one = "; one subject: no inference beyond this subject" if len(recorded.subjects) == 1 else ""
    method = (
        f"{plan.comparator}; {tested.n_permutations} orders of the stimulus labels of the model (subjects as they are), "
        f"one-sided (greater); {_corrected_by(plan)} over {len(everything)} courses and all moments; clusters of "
        f"standard scores beyond p {plan.cluster_p:g}, by mass; interval: t over subjects{one}"
    )
    found.rows.append(moment_table(courses, recorded, plan, tested, method, null[1:].mean(axis=0)))
    found.clusters.append(cluster_table(courses, tested.clusters, recorded, method))
    return tested


def _differences(models: Models, scores: NDArray[np.float64]) -> list[Courses]:
    networks, controls, users = (models.joined(kind) for kind in ("network", "control", "user"))
    alike = [pair for pair in combinations(networks, 2) if models.setting(pair[0])[1:] == models.setting(pair[1])[1:]]
    return [
        _paired(family, pairs, scores, "two-sided")
        for family, pairs in (
            (RULES, alike),
            ("controls against controls", list(combinations(controls, 2))),
            ("user models against each other", list(combinations(users, 2))),
        )
    ]


def _paired(
    family: str, pairs: Sequence[tuple[Model, Model]], scores: NDArray[np.float64], alternative: Alternative
) -> Courses:
    """Return the courses of differences, paired within subject and (where both have several in common) seed."""
    names, references, n_seeds, values = [], [], [], []
    for first, second in pairs:
        rows = paired_rows(first, second)
        if rows is not None:
            names.append(first.name)
            references.append(second.name)
            n_seeds.append(len(rows[0]))
            values.append(scores[:, rows[0]].mean(axis=1) - scores[:, rows[1]].mean(axis=1))
    stacked = np.stack(values, axis=1) if values else np.zeros((len(scores), 0, scores.shape[2]))
    return Courses(family, names, references, n_seeds, stacked, alternative)


def paired_rows(first: Model, second: Model) -> tuple[list[int], list[int]] | None:
    """Return the rows of two models to compare: those of common seeds where both have seeds; None where none is."""
    if "" in first.rows or "" in second.rows:
        return list(first.rows.values()), list(second.rows.values())
    shared = [seed for seed in first.rows if seed in second.rows]
    return ([first.rows[seed] for seed in shared], [second.rows[seed] for seed in shared]) if shared else None


def _against_controls(
    found: TimeInference, models: Models, scores: NDArray[np.float64], recorded: RecordedTimes, plan: TimePlan,
    signs: NDArray[np.float64], exact: bool, why_not: str,
) -> None:  # fmt: skip
    """Test whether a model is above all of its controls.

    All pairs of model and control are one family; a model is above all controls where its largest corrected p is small
    (Berger 1982). With one family per control, the error over models whose equal is another control would add up.
    """
    networks, controls = models.joined("network"), models.joined("control")
    pairs = [
        (model, control)
        for model in [*networks, *models.joined("user")]
        for control in [*controls, *_baselines_of(models, model, networks)]
    ]
    courses = _paired(CONTROLS, pairs, scores, "greater")
    if not courses.models:
        return
    tested = None
    if not why_not:
        tested = flip_test(courses.values, signs, plan.cluster_p, plan.statistic, "greater", exact)
    method = why_not or flip_sentence(plan, "greater", tested, len(courses.models))
    hardest = "reference: at each moment the control that the model beats least clearly (intersection-union)"
    method = f"{plan.comparator}; {method}; {hardest}"
    full = moment_table(courses, recorded, plan, tested, method)
    full["statistic"] = np.nan if tested is None else tested.statistic.ravel()
    full["order"] = np.repeat(np.arange(len(courses.models)), len(recorded.times))
    full = full.sort_values(["p", "statistic"], ascending=[False, True], kind="stable", na_position="first")
    if tested is None:
        full = full.sort_values("estimate", kind="stable")
    worst = full.groupby(["model", "time"], sort=False)["p_corrected"].max().rename("worst")
    kept = full.drop_duplicates(["model", "time"]).join(worst, on=["model", "time"])
    kept["p_corrected"] = kept["worst"]
    kept = kept.sort_values(["order", "time"], kind="stable")
    found.rows.append(kept.drop(columns=["statistic", "order", "worst"]).reset_index(drop=True))
    if tested:
        found.clusters.append(_above_all(courses, tested, recorded, plan, method))


def _above_all(courses: Courses, tested: Tested, recorded: RecordedTimes, plan: TimePlan, method: str) -> pd.DataFrame:
    """Return the stretches in which each model is in a significant cluster against every control."""
    p = np.ones(tested.statistic.shape)
    for cluster in tested.clusters:
        p[cluster.row, cluster.start : cluster.stop] = cluster.p
    names = list(dict.fromkeys(courses.models))
    joint = Courses(CONTROLS, names, ["all controls"] * len(names), [1] * len(names), courses.values[:, :0], "greater")
    stretches, statistic = [], np.zeros((len(names), p.shape[1]))
    for place, name in enumerate(names):
        mine = [number for number, other in enumerate(courses.models) if other == name]
        largest, statistic[place] = p[mine].max(axis=0), tested.statistic[mine].min(axis=0)
        runs = find_runs((largest <= plan.alpha).astype(np.float64)[None], 0.5)
        for start, stop in zip(runs.start, runs.stop, strict=True):
            mass, worst = float(statistic[place, start:stop].sum()), float(largest[start:stop].max())
            stretches.append(Cluster(place, int(start), int(stop), mass, worst))
    return cluster_table(joint, stretches, recorded, method, statistic)


def moment_table(
    courses: Courses, recorded: RecordedTimes, plan: TimePlan, tested: Tested | None, method: str,
    null_mean: NDArray[np.float64] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return courses as rows of `inference`: mean over subjects, t interval, and p where they were tested."""
    n_subjects, n_courses, n_times = courses.values.shape
    mean = courses.values.mean(axis=0)
    if n_subjects > 1:
        low, high = t_interval(mean, courses.values.var(axis=0, ddof=1) / n_subjects, n_subjects - 1, plan.level)
    else:
        low = high = np.full(mean.shape, np.nan)
    names = [f"{a} - {b}" for a, b in zip(courses.models, courses.references, strict=True)]
    missing = np.full(mean.shape, np.nan)
    zero = np.zeros(mean.shape) if tested is not None else missing

    def long(values: Sequence[object]) -> NDArray[np.object_]:
        return np.repeat(np.array(values, dtype=object), n_times)

    return pd.DataFrame(
        {
            "family": f"{courses.family}, over time", "analysis": "rsa", "contrast": long(names), "region": REGION,
            "time": np.tile(recorded.times, n_courses), "estimate": mean.ravel(), "ci_low": low.ravel(),
            "ci_high": high.ravel(), "p": (tested.p if tested else missing).ravel(),
            "p_corrected": (tested.p_corrected if tested else missing).ravel(), "n_subjects": n_subjects,
            "n_stimuli": len(recorded.stimuli.names), "n_seeds": np.repeat(courses.n_seeds, n_times), "method": method,
            "null_mean": (zero if null_mean is None else null_mean).ravel(), "model": long(courses.models),
            "reference": long(courses.references),
        }
    )  # fmt: skip


def cluster_table(
    courses: Courses, clusters: Sequence[Cluster], recorded: RecordedTimes, method: str,
    statistic: NDArray[np.float64] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return clusters as rows of `time_clusters`; the peak is that of the mean course (or of `statistic`) within."""
    course = courses.values.mean(axis=0) if statistic is None else statistic
    rows: list[Mapping[str, object]] = []
    for item in clusters:
        inside = np.sign(item.mass) * course[item.row, item.start : item.stop]
        rows.append(
            {
                "family": f"{courses.family}, over time", "model": courses.models[item.row],
                "reference": courses.references[item.row], "region": REGION,
                "start_s": recorded.times[item.start], "stop_s": recorded.times[item.stop - 1],
                "peak_s": recorded.times[item.start + int(np.argmax(inside))], "mass": item.mass, "p": item.p,
                "n_subjects": len(recorded.subjects), "n_stimuli": len(recorded.stimuli.names), "method": method,
            }
        )  # fmt: skip
    columns = (
        "family", "model", "reference", "region", "start_s", "stop_s", "peak_s", "mass", "p", "n_subjects",
        "n_stimuli", "method",
    )  # fmt: skip
    return pd.DataFrame(rows, columns=list(columns))
