"""Fusion, its part beyond the controls, and commonality as rows of `fusion.tsv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Model, Scores, contrast
from decoders.alignment.families import region_families
from decoders.alignment.fusion.clusters import FORMING_P, FusionCluster
from decoders.alignment.fusion.null import Statistics, Tested, over_window, shared_p
from decoders.alignment.fusion.prepared import Study
from decoders.alignment.fusion.resampled import Resampled, Windows
from decoders.alignment.inference import Plan, contrast_family, permutation_family
from decoders.alignment.partial import PLAIN

FUSION, PARTIAL, COMMONALITY = "fusion", "partial_fusion", "commonality"
ALL = "all regions and times"
PREFIX = "commonality: "
_CONDITIONS = "largest p of commonality, model with MEG, model with fMRI and fMRI with MEG (intersection-union)"
_UNTESTED = "intervals alone: what is computed non-linearly from the controls' features lies beyond them, too"


def plain_words(comparator: str) -> str:
    """Return the comparator, and what stands for it."""
    plain = PLAIN[comparator]
    return plain if plain == comparator else f"{plain} (for {comparator})"


def fusion_table(
    study: Study, scores: Mapping[str, Scores], null: Statistics, tested: Tested, clusters: Sequence[FusionCluster],
    plan: Plan, how: str, rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """Return MEG with fMRI per region and time: label permutation, bootstrap interval, and the cluster of each time."""
    # The corrected p of these tests is replaced: only their intervals are wanted.
    table = _timed(f"fusion, {ALL}", study, scores, replace(plan, correction="fdr"), rng)
    correction = "max-statistic" if plan.correction == "max" else "Benjamini-Hochberg"
    n_tests = tested.p.size
    table["method"] = (
        f"{plain_words(plan.comparator)}; {how}; {len(null.fusion)} permutations of the stimulus labels of fMRI, "
        f"one-sided; {correction} over the {n_tests} tests of the family; " + table["method"].map(_interval)
    )
    table["contrast"], table["reference"], table["analysis"] = "fusion - chance", "chance", FUSION
    table["p"], table["p_corrected"] = tested.p.ravel(), tested.corrected.ravel()
    table["null_mean"] = null.fusion.mean(axis=0).ravel()
    table["p_cluster"] = _cluster_p(tested.p.shape, clusters).ravel()
    table["maximum"] = maximum(scores, study).ravel()
    return table


def _interval(method: str) -> str:
    parts = [part for part in method.split("; ") if "bootstrap" in part or "resampled" in part or "subject" in part]
    return "interval: " + "; ".join(parts).replace(", t-test", ", t")


def maximum(scores: Mapping[str, Scores], study: Study) -> NDArray[np.float64]:
    """Return R2 of MEG by fMRI, mean over people: no commonality exceeds it; array (n_regions, n_times)."""
    return np.array([(scores[pair.region].full ** 2).mean(axis=1) for pair in study.pairs])


def _cluster_p(shape: tuple[int, ...], clusters: Sequence[FusionCluster]) -> NDArray[np.float64]:
    p = np.full(shape, np.nan)
    for cluster in clusters:
        p[cluster.region, cluster.start : cluster.stop + 1] = cluster.p
    return p


def partial_table(
    study: Study, scores: Mapping[str, Scores], plan: Plan, how: str, rng: np.random.Generator
) -> pd.DataFrame:
    """Return MEG with fMRI beyond linear mixtures of all control RDMs: one-sided bootstrap test over the family."""
    if not scores:
        return pd.DataFrame()
    note = f"{how}; partial, {study.n_controls} control RDMs held constant together"
    table = _timed(f"fusion beyond linear mixtures of the control RDMs, {ALL}", study, scores, plan, rng, note)
    return table.assign(analysis=PARTIAL, contrast="fusion - all controls", reference="all controls")


def _timed(
    name: str, study: Study, scores: Mapping[str, Scores], plan: Plan, rng: np.random.Generator, note: str = ""
) -> pd.DataFrame:
    rows, labels = [], []
    for pair in study.pairs:
        for number, time in enumerate(study.sensor.times):
            item = contrast(scores[pair.region], Model("fusion", {"": number}))
            if item is not None and np.isfinite(item.estimate):
                rows.append(item)
                labels.append((pair.region, time, len(pair.people)))
    first = scores[study.pairs[0].region]
    table = contrast_family(
        name, "", rows, first, replace(plan, comparator=PLAIN[plan.comparator]), rng, "greater", note
    )
    table["region"], table["time"], table["n_subjects"] = (list(part) for part in zip(*labels, strict=True))
    return table


def commonality_table(
    study: Study, observed: Statistics, null: Statistics, tested: Tested, resampled: Resampled, plan: Plan, how: str,
    most: NDArray[np.float64],
) -> pd.DataFrame:  # fmt: skip
    """Return the share of every model in every region at every time."""
    n_models, times = len(study.models), study.sensor.times
    correction = "max-statistic" if plan.correction == "max" else "Benjamini-Hochberg"
    method = (
        f"R2 shared, {plain_words(plan.comparator)}; {how}; {len(null.shared)} permutations of the stimulus labels of "
        f"the model; {_CONDITIONS}; {correction} over the {tested.p.size} tests; bootstrap interval"
    )
    tables = []
    for r, pair in enumerate(study.pairs):
        names = np.tile([model.name for model in study.models], len(times))
        tables.append(
            pd.DataFrame(
                {
                    "family": f"commonality, all models, {ALL}", "analysis": COMMONALITY,
                    "contrast": [f"{name} - chance" for name in names], "region": pair.region,
                    "time": np.repeat(times, n_models), "estimate": observed.shared[r].ravel(),
                    "ci_low": resampled.low[r].ravel(), "ci_high": resampled.high[r].ravel(),
                    "p": tested.p[r].ravel(), "p_corrected": tested.corrected[r].ravel(),
                    "n_subjects": len(pair.people), "n_stimuli": study.n_stimuli,
                    "n_seeds": np.tile([len(model.rows) for model in study.models], len(times)), "method": method,
                    "null_mean": null.shared[:, r].mean(axis=0, dtype=np.float64).ravel(), "model": names,
                    "reference": "chance", "maximum": np.repeat(most[r], n_models),
                }
            )
        )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def window_tables(
    study: Study, observed: Statistics, null: Statistics, resampled: Resampled, windows: Windows, plan: Plan,
    most: NDArray[np.float64], rng: np.random.Generator,
) -> list[pd.DataFrame]:  # fmt: skip
    """Return, per region, the families of alignment on the commonality averaged over times at which fusion survives.

    The window depends on MEG and fMRI alone, so that relabelling the models is a fair null within it.
    """
    tables = []
    for r, pair in enumerate(study.pairs):
        window = windows.get(pair.region)
        if window is None:
            continue
        times = study.sensor.times[window]
        words = f"mean over the {len(times)} times from {times[0]:.3f} to {times[-1]:.3f} s at which fusion survives"
        found = _window_families(study, observed, null, resampled, (r, pair.region, window), plan, rng)
        for table in found:
            table["family"] = PREFIX + table["family"]
            table["method"] = table["method"] + f"; {words}"
            table["maximum"] = float(most[r, window].mean())
        tables += found
    return tables


def _window_families(
    study: Study, observed: Statistics, null: Statistics, resampled: Resampled,
    where: tuple[int, str, NDArray[np.bool_]], plan: Plan, rng: np.random.Generator,
) -> list[pd.DataFrame]:  # fmt: skip
    r, region, window = where
    scores, seen, drawn = resampled.window[region], over_window(observed, r, window), over_window(null, r, window)
    plan = replace(plan, comparator=PLAIN[plan.comparator])
    chance = permutation_family(
        f"models against chance, {region}", region, study.models, drawn.shared[:, 0, 0], scores, plan
    )
    # The window was chosen by fusion: that MEG and fMRI are related is a condition that has been tested there.
    passed = Tested(np.zeros((1, 1)), np.zeros((1, 1)))
    tested = shared_p(seen, drawn, passed, plan.correction)
    chance["p"], chance["p_corrected"] = tested.p[0, 0], tested.corrected[0, 0]
    chance["method"] = chance["method"] + f"; {_CONDITIONS}"
    tables = [chance, *region_families(study.rows, region, scores, plan, rng)]
    if region in resampled.beyond:
        others = study.rows.joined("network", "user")
        items = [contrast(resampled.beyond[region], model) for model in others]
        name = f"models beyond linear mixtures of the control RDMs, {region}"
        table = contrast_family(name, region, items, resampled.beyond[region], plan, rng, note=_UNTESTED)
        tables.append(table.assign(reference="all controls", p=np.nan, p_corrected=np.nan))
    return [table.assign(analysis=COMMONALITY) for table in tables if len(table)]


def cluster_table(study: Study, clusters: Sequence[FusionCluster], n_flips: int) -> pd.DataFrame:
    """Return the clusters as rows of `time_clusters`."""
    from decoders.store.tables import COLUMNS

    times = study.sensor.times
    method = (
        f"sign flips of people ({n_flips}, or all), clusters at p = {FORMING_P} one-sided, mass = sum of t, "
        "largest over all regions"
    )
    rows = [
        {
            "family": f"fusion clusters, {ALL}", "model": "fusion", "reference": "chance",
            "region": study.pairs[cluster.region].region, "start_s": times[cluster.start],
            "stop_s": times[cluster.stop], "peak_s": times[cluster.peak], "mass": cluster.mass, "p": cluster.p,
            "n_subjects": len(study.pairs[cluster.region].people), "n_stimuli": study.n_stimuli, "method": method,
        }
        for cluster in clusters
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS["time_clusters"]))
