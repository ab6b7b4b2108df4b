"""Stage `fusion`: MEG in time with fMRI in space, and the part of it that every model explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.fusion.clusters import MIN_PEOPLE, clusters_of_regions
from decoders.alignment.fusion.latencies import latency_table
from decoders.alignment.fusion.null import (
    Statistics,
    Tested,
    fusion_p,
    observed_statistics,
    relabelled_statistics,
    shared_p,
)
from decoders.alignment.fusion.pairing import (
    HOW,
    choose_reference,
    in_order,
    pair_region,
    read_time_rdms,
    shared_stimuli,
)
from decoders.alignment.fusion.prepared import Resampler, Study, choose_models
from decoders.alignment.fusion.resampled import Resampled, resample, stimulus_counts
from decoders.alignment.fusion.tables import (
    cluster_table,
    commonality_table,
    fusion_table,
    maximum,
    partial_table,
    window_tables,
)
from decoders.alignment.inference import Plan
from decoders.alignment.models import Models, Stimuli
from decoders.alignment.partial import PLAIN
from decoders.alignment.recorded import read_recorded
from decoders.alignment.stage import gather_models
from decoders.stage import Job
from decoders.stats.permutation import label_permutations
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.tables import write_table


@dataclass(frozen=True)
class Options:
    """How fusion is tested.

    Attributes
    ----------
    plan : Plan
    n_permutations : int
        Relabellings, and sign flips.
    alpha : float
        Level at which fusion must survive for a time to count for the shares of models.
    how : str
        What each person's MEG is compared with, in words.
    """

    plan: Plan
    n_permutations: int
    alpha: float
    how: str = HOW["own"]


@dataclass
class Fused:
    """What the stage writes.

    Attributes
    ----------
    table, clusters, latencies : DataFrame
    observed : Statistics
    fusion, shared : Tested
        `shared` None without a model.
    resampled : Resampled
    windows : dict of region to array of bool of shape (n_times,)
        Times at which fusion survives; only regions that have any.
    """

    table: pd.DataFrame
    clusters: pd.DataFrame
    latencies: pd.DataFrame
    observed: Statistics
    fusion: Tested
    shared: Tested | None
    resampled: Resampled
    windows: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def fuse(study: Study, options: Options, rng: np.random.Generator) -> Fused:
    """Compare MEG with fMRI, and find what the models explain of it.

    Parameters
    ----------
    study : Study
    options : Options
    rng : Generator

    Returns
    -------
    Fused
    """
    plan = options.plan
    resampler = Resampler(study)
    whole = resampler.prepare()
    orders = label_permutations(study.n_stimuli, options.n_permutations, rng)
    observed = observed_statistics(whole, study.averaging)
    null = relabelled_statistics(whole, study.averaging, orders)
    fusion = fusion_p(observed, null, plan.correction)
    windows = {
        pair.region: survives
        for pair, survives in zip(study.pairs, fusion.corrected <= options.alpha, strict=True)
        if survives.any()
    }
    counts = stimulus_counts(study, plan.n_resamples, rng)
    resampled = resample(study, resampler, counts, windows, rng)
    clusters = clusters_of_regions(study, resampled.fusion, options.n_permutations, rng)
    most = maximum(resampled.fusion, study)
    tables = [fusion_table(study, resampled.fusion, null, fusion, clusters, plan, options.how, rng)]
    tables.append(partial_table(study, resampled.partial, plan, options.how, rng))
    shared = None
    if study.models:
        shared = shared_p(observed, null, fusion, plan.correction)
        tables.append(commonality_table(study, observed, null, shared, resampled, plan, options.how, most))
        tables += window_tables(study, observed, null, resampled, windows, plan, most, rng)
    table = pd.concat([part for part in tables if len(part)], ignore_index=True)
    table["subject"] = study.sensor.subjects[0] if len(study.sensor.subjects) == 1 else None
    flips = cluster_table(study, clusters, options.n_permutations)
    latencies = latency_table(study, resampled.fusion, windows)
    return Fused(table, flips, latencies, observed, fusion, shared, resampled, windows)


def run(job: Job) -> None:
    """Write fusion.tsv, fusion_clusters.tsv, fusion_latencies.tsv and fusion.h5."""
    settings = job.settings.alignment
    study, reference = _study(job)
    plan = Plan(settings.comparators[0], settings.correction, settings.n_bootstrap)
    if PLAIN[plan.comparator] != plan.comparator:
        job.log.warning("fusion: %s stands for %s", PLAIN[plan.comparator], plan.comparator)
    options = Options(plan, settings.fusion.n_permutations, settings.alpha, HOW[reference])
    found = fuse(study, options, job.rng("fusion"))
    for pair in study.pairs:
        if pair.region not in found.windows:
            job.log.warning("fusion: %s is related to MEG at no time, so no model has a share there", pair.region)
        elif len(pair.people) < MIN_PEOPLE:
            job.log.warning("fusion: %d people in %s, no test by sign flips", len(pair.people), pair.region)
    write_table(job.outputs["fusion"], found.table, "inference")
    for name, table, kind in (
        ("clusters", found.clusters, "time_clusters"),
        ("latencies", found.latencies, "latencies"),
    ):
        if name in job.outputs:
            write_table(job.outputs[name], table, kind)
    write_arrays(job.outputs["arrays"], _arrays(study, found), _attributes(job, study, found, reference))
    job.log.info("fusion of %d regions with %d times: %s", len(study.pairs), len(study.sensor.times), HOW[reference])


def _study(job: Job) -> tuple[Study, Literal["own", "others"]]:
    settings, path = job.settings.alignment, str(job.input("time_rdms"))
    fmri_path = str(job.input("rdms"))
    fmri, shown = read_recorded(fmri_path)
    meg = read_time_rdms(path)
    stimuli = shared_stimuli(shown.names, meg.stimuli, settings.fusion.stimuli, f"{fmri_path}, {path}")
    if len(stimuli.names) < max(len(shown.names), len(meg.stimuli)):
        job.log.warning("fusion: %d stimuli are in both MEG and fMRI and are used", len(stimuli.names))
    meg, fmri = in_order(meg, fmri, shown.names, stimuli, path)
    reference = choose_reference(meg.subjects, fmri, settings.fusion.reference)
    plain = PLAIN[settings.comparators[0]]
    pairs = [pair_region(meg.subjects, region, reference, plain) for region in fmri]
    _say_who_lacks(job, fmri_path, [region.region for region in fmri], meg.excluded, pairs)
    rows = choose_models(_models(job, stimuli), settings.fusion.models)
    return Study(meg, pairs, rows, settings.comparators[0]), reference


def _models(job: Job, stimuli: Stimuli) -> Models:
    given = job.inputs.get("controls") or job.inputs.get("features") or job.settings.alignment.models
    if not given:
        job.log.warning("fusion: no control, network or model of your own, so nothing explains it")
        return Models([])
    return gather_models(job, stimuli)


def _say_who_lacks(job: Job, path: str, kept: Sequence[str], excluded: dict[str, str], pairs: Sequence[Any]) -> None:
    for name in read_arrays(path).arrays:
        if name not in (*kept, "subjects", "stimuli"):
            job.log.warning("fusion: region %s is left out, nobody has a usable fMRI RDM there", name)
    for who, why in excluded.items():
        job.log.warning("fusion: subject %s is left out, MEG with %s", who, why)
    for pair in pairs:
        for who, why in pair.left_out.items():
            job.log.warning("fusion: subject %s is left out in %s, %s", who, pair.region, why)


def _arrays(study: Study, found: Fused) -> dict[str, Array]:
    arrays = {
        "times": Array(study.sensor.times, ("time",), "s"),
        "models": Array(np.array([model.name for model in study.models], dtype=object), ("model",)),
    }
    most = maximum(found.resampled.fusion, study)
    timed = found.table[found.table["time"].notna()].groupby(["analysis", "region"], sort=False)
    for r, pair in enumerate(study.pairs):
        for analysis, name in (("fusion", "fusion"), ("partial_fusion", "partial")):
            if (analysis, pair.region) in timed.groups:
                arrays |= _curves(name, pair.region, timed.get_group((analysis, pair.region)), study.sensor.times)
        arrays[f"people/{pair.region}"] = Array(found.resampled.fusion[pair.region].full.T, ("subject", "time"))
        arrays[f"maximum/{pair.region}"] = Array(most[r], ("time",))
        if found.shared is None:
            continue
        values = {
            "commonality": found.observed.shared[r], "commonality_low": found.resampled.low[r],
            "commonality_high": found.resampled.high[r], "commonality_p": found.shared.p[r],
            "commonality_p_corrected": found.shared.corrected[r],
        }  # fmt: skip
        arrays |= {f"{name}/{pair.region}": Array(table.T, ("model", "time")) for name, table in values.items()}
    return arrays


def _curves(name: str, region: str, rows: pd.DataFrame, times: NDArray[np.float64]) -> dict[str, Array]:
    """Return the columns of one curve on all times; not a number where nothing was tested."""
    columns = {"": "estimate", "_low": "ci_low", "_high": "ci_high", "_p": "p", "_p_corrected": "p_corrected"}
    place = np.searchsorted(times, rows["time"].to_numpy(dtype=np.float64))
    curves = {}
    for suffix, column in columns.items():
        values = np.full(len(times), np.nan)
        values[place] = rows[column].to_numpy(dtype=np.float64)
        curves[f"{name}{suffix}/{region}"] = Array(values, ("time",))
    return curves


def _attributes(job: Job, study: Study, found: Fused, reference: str) -> dict[str, Any]:
    return {
        "reference": reference,
        "how": HOW[reference],
        "comparator": PLAIN[study.comparator],
        "stimuli": study.sensor.stimuli,
        "people": {pair.region: [study.sensor.subjects[row] for row in pair.people] for pair in study.pairs},
        "excluded": study.sensor.excluded | {
            f"{who}, {pair.region}": why for pair in study.pairs for who, why in pair.left_out.items()
        },
        "windows": {region: study.sensor.times[mask].tolist() for region, mask in found.windows.items()},
        "alpha": job.settings.alignment.alpha,
    }  # fmt: skip
