"""Stage `align-time`: scores, ceilings, inference, latencies and generalisation of all models over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import MIN_STIMULI, Model
from decoders.alignment.models import Models
from decoders.alignment.partial import PLAIN
from decoders.alignment.searchlight_group import MIN_SUBJECTS
from decoders.alignment.stage import gather_models
from decoders.alignment.timed.families import (
    Courses,
    TimePlan,
    infer_times,
    mean_over_seeds,
    moment_table,
)
from decoders.alignment.timed.flips import Tested, flip_test, sign_patterns
from decoders.alignment.timed.generalise import (
    TimeByTime,
    across_subjects,
    pair_signs,
    rdm_similarities,
    untested,
    within_subjects,
)
from decoders.alignment.timed.latencies import DEGREE, HIGH, LOW, latency
from decoders.alignment.timed.scores import (
    REGION,
    RecordedTimes,
    partial_scores,
    read_recorded_times,
    time_ceiling_table,
    time_score_table,
    time_scores,
)
from decoders.alignment.timed.weights import weight_courses
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.resampling import draw_counts
from decoders.store.arrays import Array, write_arrays
from decoders.store.tables import COLUMNS, write_table

_UNTESTED = "intervals alone: what is computed non-linearly from the controls' features lies beyond them, too"
OF_CHANCE, OF_OTHERS = "chance", "all other controls"


def plan_of(job: Job) -> TimePlan:
    """Return how the study's tests over time are run."""
    settings = job.settings.alignment
    if settings.time.statistic is None:
        raise InputError("the settings alignment.time", "none", "the study", "Add the block alignment.time.")
    time = settings.time
    return TimePlan(settings.comparators[0], time.statistic, time.cluster_p, time.n_permutations, settings.alpha)


def beyond_table(models: Models, recorded: RecordedTimes, plan: TimePlan) -> pd.DataFrame | None:
    """Return partial scores of networks and user models beyond all controls, with intervals and without p."""
    controls = [index for model in models.joined("control") for index in model.rows.values()]
    others = models.joined("network", "user")
    if not controls or not others:
        return None
    partial = partial_scores(models, recorded, models.vectors[controls], plan.comparator)
    courses = Courses(
        "models beyond linear mixtures of the control RDMs", [model.name for model in others],
        ["all controls"] * len(others), [len(model.rows) for model in others], mean_over_seeds(partial, others),
        "two-sided",
    )  # fmt: skip
    method = (
        f"partial {PLAIN[plan.comparator]}, {len(controls)} control RDMs held constant together; interval: t over "
        f"subjects (stimuli as they are); {_UNTESTED}"
    )
    return moment_table(courses, recorded, plan, None, method).assign(analysis="partial_rsa")


def latency_table(
    models: Models, recorded: RecordedTimes, plan: TimePlan, n_bootstrap: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return when each model begins to weigh in the RDMs and when it weighs most, by itself and beyond the controls.

    Parameters
    ----------
    models : Models
    recorded : RecordedTimes
    plan : TimePlan
    n_bootstrap : int
        Resamples of the subjects behind the intervals.
    rng : Generator

    Returns
    -------
    DataFrame
        Columns of `latencies`. No latency where no cluster of the model's weight is significant, or where there are
        too few subjects for a test.
    """
    wanted = models.joined("control", "network", "user")
    n_subjects = len(recorded.subjects)
    counts = draw_counts(n_subjects, n_bootstrap, rng) if n_subjects > 1 else None
    signs, exact = sign_patterns(n_subjects, plan.n_permutations, rng)
    parts = []
    for reference in (OF_CHANCE, OF_OTHERS):
        weights = weight_courses(models, wanted, recorded, beyond=reference == OF_OTHERS)
        known: NDArray[np.bool_] = np.asarray(np.isfinite(weights).all(axis=(0, 2)))
        if reference == OF_OTHERS and len(models.joined("control")) == 0:
            continue
        shown = [model for model, flag in zip(wanted, known, strict=True) if flag]
        parts.append(_latencies(shown, weights[:, known], recorded, plan, reference, signs, exact, counts))
    return pd.concat(parts, ignore_index=True)


def _latencies(
    shown: Sequence[Model], weights: NDArray[np.float64], recorded: RecordedTimes, plan: TimePlan, reference: str,
    signs: NDArray[np.float64], exact: bool, counts: NDArray[np.int64] | None,
) -> pd.DataFrame:  # fmt: skip
    n_subjects = len(recorded.subjects)
    tested = None
    if n_subjects >= MIN_SUBJECTS and shown:
        tested = flip_test(weights, signs, plan.cluster_p, plan.statistic, "greater", exact)
    rows = []
    for place, model in enumerate(shown):
        stretches = [] if tested is None else _significant(tested, place, plan.alpha)
        # The onset is that of the first answer, the peak that of the strongest.
        spans = {"onset": stretches[0], "peak": (stretches[0][0], stretches[-1][1])} if stretches else {}
        for measure in ("onset", "peak"):
            row = dict.fromkeys(COLUMNS["latencies"])
            row |= {"model": model.name, "reference": reference, "region": REGION, "measure": measure}
            row |= {"n_subjects": n_subjects, "p": _smallest_p(tested, place)}
            row["method"] = _method(plan, tested, n_subjects, len(shown), bool(stretches), measure)
            if spans:
                found = latency(measure, weights[:, place], recorded.times, spans[measure], counts)
                row |= {"latency_s": found.seconds, "ci_low": found.low, "ci_high": found.high}
                if found.n_lost:
                    row["method"] = f"{row['method']}; {found.n_lost} resamples without a latency"
            rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS["latencies"]))


def _significant(tested: Tested, place: int, alpha: float) -> list[tuple[int, int]]:
    return [(item.start, item.stop) for item in tested.clusters if item.row == place and item.p <= alpha]


def _smallest_p(tested: Tested | None, place: int) -> float:
    found = [item.p for item in tested.clusters if item.row == place] if tested else []
    return min(found) if found else (float("nan") if tested is None else 1.0)


def _method(plan: TimePlan, tested: Tested | None, n_subjects: int, size: int, found: bool, measure: str) -> str:
    if tested is None:
        return f"{n_subjects} subjects: no test, hence no latency, below {MIN_SUBJECTS}"
    words = {
        "onset": f"line through {LOW:g} and {HIGH:g} of the peak of the first significant cluster, at zero",
        "peak": f"polynomial of degree {DEGREE} through the top of the largest value in significant clusters",
    }
    kind = "exact" if tested.exact else "random"
    test = f"p: {kind} sign flips ({tested.n_permutations}), largest cluster mass over {size} models and all moments"
    if not found:
        return f"no significant cluster, no latency; {test}"
    return (
        f"square root of the regression weight in the RDM, mean over subjects; {words[measure]}; "
        f"interval: bootstrap over subjects; {test}"
    )


def generalisations(
    recorded: RecordedTimes, plan: TimePlan, rng: np.random.Generator
) -> tuple[dict[str, TimeByTime], dict[str, str]]:
    """Return tables of time by time, and in words why there is none or no test.

    Parameters
    ----------
    recorded : RecordedTimes
    plan : TimePlan
    rng : Generator

    Returns
    -------
    tables : dict of str to TimeByTime
        `rdms`: the RDM of a subject at one time with those of the others at another; `patterns`: crossnobis between
        times, within subjects and across folds.
    notes : dict of str to str
    """
    from scipy.stats import norm

    n_subjects = len(recorded.subjects)
    tables, notes = {}, {}
    signs, _ = sign_patterns(n_subjects, plan.n_permutations, rng)
    few = f"{n_subjects} subjects: no test below {MIN_SUBJECTS}" if n_subjects < MIN_SUBJECTS else ""
    if n_subjects < 2:
        notes["rdms"] = "one subject: no other RDMs to generalise to"
    elif plan.comparator == "tau_a":
        notes["rdms"] = "tau_a takes hours between all times: put another comparator first"
    else:
        similar = rdm_similarities(recorded.rdms, plan.comparator)
        pairs = pair_signs(n_subjects, plan.n_permutations, rng)
        tables["rdms"] = across_subjects(similar, pairs, float(norm.isf(plan.cluster_p)))
        if few:
            tables["rdms"], notes["rdms"] = untested(tables["rdms"].scores), few
    if recorded.patterns is None:
        notes["patterns"] = "only crossnobis distances generalise between times within a subject"
    elif few:
        tables["patterns"], notes["patterns"] = untested(recorded.patterns), few
    else:
        tables["patterns"] = within_subjects(recorded.patterns, signs, plan.cluster_p)
    return tables, notes


def generalisation_arrays(tables: dict[str, TimeByTime], recorded: RecordedTimes, unit: str) -> dict[str, Array]:
    """Return the tables of time by time as arrays; those of patterns under names that begin with patterns/."""
    axes = ("train_time", "test_time")
    arrays = {
        "times": Array(recorded.times, ("time",), "s"),
        "subjects": Array(np.array(recorded.subjects, dtype=object), ("subject",)),
    }
    for kind, table in tables.items():
        prefix = "" if kind == "rdms" else f"{kind}/"
        arrays |= {
            f"{prefix}scores": Array(table.scores, ("subject", *axes), unit if kind == "rdms" else "crossnobis"),
            f"{prefix}statistic": Array(table.statistic, axes),
            f"{prefix}clusters": Array(table.labels, axes),
            f"{prefix}cluster_p": Array(table.cluster_p, (f"{kind}_cluster",)),
            f"{prefix}p_corrected": Array(table.p_corrected, axes),
        }
    return arrays


def run(job: Job) -> None:
    """Write the tables of scores, ceilings, inference, clusters and latencies over time, and the generalisation."""
    settings, plan = job.settings.alignment, plan_of(job)
    recorded = read_recorded_times(str(job.input("rdms")))
    models = gather_models(job, recorded.stimuli)
    n_stimuli = len(recorded.stimuli.names)
    if n_stimuli < MIN_STIMULI:
        job.log.warning("%d stimuli: fewer than %d, what is found is about these stimuli", n_stimuli, MIN_STIMULI)
    tables = []
    by_comparator = {name: time_scores(models, recorded, name) for name in settings.comparators}
    for name, scores in by_comparator.items():
        tables.append(time_score_table(models, recorded, scores, name))
    write_table(job.outputs["scores"], pd.concat(tables, ignore_index=True), "alignment_scores")
    ceilings = time_ceiling_table(recorded, settings.comparators)
    write_table(job.outputs["ceilings"], ceilings, "ceilings")
    found = infer_times(models, recorded, by_comparator[plan.comparator], plan, job.rng("align-time"))
    beyond = beyond_table(models, recorded, plan)
    rows = [*found.rows, *([] if beyond is None else [beyond])]
    write_table(job.outputs["inference"], pd.concat(rows, ignore_index=True), "inference")
    clusters = pd.concat(found.clusters, ignore_index=True)
    write_table(job.outputs["clusters"], clusters, "time_clusters")
    latencies = latency_table(models, recorded, plan, settings.n_bootstrap, job.rng("latencies"))
    write_table(job.outputs["latencies"], latencies, "latencies")
    maps, notes = generalisations(recorded, plan, job.rng("generalisation"))
    arrays = generalisation_arrays(maps, recorded, plan.comparator)
    write_arrays(job.outputs["generalisation"], arrays, {"notes": notes, "comparator": plan.comparator,
                                                         "n_permutations": plan.n_permutations})  # fmt: skip
    for note in notes.values():
        job.log.warning("generalisation over time: %s", note)
    job.log.info(
        "%d models, %d subjects, %d moments; %d significant clusters", len(models.usable), len(recorded.subjects),
        len(recorded.times), int((clusters["p"] <= settings.alpha).sum()),
    )  # fmt: skip
