"""Alignment in time: RDMs, scores, clusters, latencies, generalisation and sensors of MEG or EEG."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from decoders.report.blocks import Data, Figure, Notice, Section, Table, parts, show, worded
from decoders.report.contrasts import models_of, numbers, places_in_order, scored
from decoders.report.figures import Dot, DotRow, dot_grid
from decoders.report.read import Results
from decoders.report.sections.time_curves import Curves, beyond_figure, curve_figure, curves_of, raster_figure
from decoders.report.sections.time_maps import generalisation_figure, rdm_strip, sensor_figure, sensor_notice
from decoders.report.words import control_title, is_control, model_words, text, title

_TITLE = "Alignment in time"
_MOST_ROWS = 5000
_MOST_DOTS = 48
_MOST_ITEMS = 12
_NUMBERS = {"n_subjects": "subjects", "n_stimuli": "stimuli", "n_seeds": "seeds"}


def section(results: Results) -> Section:
    """Return the section on alignment in time."""
    lead = (
        "Networks are compared with the RDM of the sensors at every moment after the onset. What is significant is "
        "corrected for the search over time; controls and the untrained network stand in every comparison."
    )
    if results.settings.alignment is None:
        return Section("time", _TITLE, lead, ())
    curves = curves_of(results)
    order = parts(
        ("Representations over time", [left_out(results), rdm_strip(results)]),
        (
            "Models over time",
            [untested(results, curves), curve_figure(results, curves), raster_figure(results, curves)],
        ),
        ("Onsets and peaks", [latency_figure(results), latency_table(results)]),
        ("Time generalisation", [generalisation_figure(results)]),
        ("Sensors", [sensor_notice(results), sensor_figure(results)]),
        ("Tables", [cluster_table(results), ceiling_table(results)]),
    )
    return Section("time", _TITLE, lead, order)


def _curve_figures(results: Results, curves: Curves) -> list[Figure | None]:
    return [curve_figure(results, curves), raster_figure(results, curves), beyond_figure(results)]


def left_out(results: Results) -> Notice | None:
    """Return who has no RDM over time and why, and what could not be computed."""
    file, planes = results.first("time_rdms"), results.first("time_generalisation")
    excluded = file.attributes.get("excluded", {}) if file is not None else {}
    items = [f"subject {text(who)}: {text(why)}" for who, why in excluded.items()]
    if len(items) > _MOST_ITEMS:
        items = [*items[:_MOST_ITEMS], f"and {len(items) - _MOST_ITEMS} more in alignment/time_rdms.h5"]
    notes = planes.attributes.get("notes", {}) if planes is not None else {}
    items += [f"generalisation of {text(what)}: {text(why)}" for what, why in notes.items()]
    return Notice("Left out of alignment in time", items) if items else None


def untested(results: Results, curves: Curves) -> Notice | None:
    """Return the note that the curves carry no test, where they do not."""
    if curves.tested or not curves.curves:
        return None
    n = results.table("time_scores")["subject"].nunique()
    return Notice("Not tested", [f"The scores over time of {n} subject(s) are shown without a test of the group."])


# As benchmarks/bench_latencies.py and the certificate over time measure it.
OF_PEOPLE = (
    "The intervals hold the spread over people, not what the estimator adds: in simulations of known latency it is "
    "late or early by 2 to 8 ms, so that differences between models say more than the moments themselves."
)


def latency_table(results: Results) -> Table | None:
    """Return the onset and the peak of every model, with intervals."""
    table = results.table("latencies")
    if not len(table):
        return None
    data = Data.of(table)
    bare = [name for name in table if table[name].isna().all()]
    bare += [name for name in ("region", "reference") if name in table and table[name].map(text).nunique() == 1]
    labels = {"latency_s": "latency (s)", "ci_low": "CI low (s)", "ci_high": "CI high (s)", **_NUMBERS}
    words = worded(data, {"model": model_words, "reference": model_words})
    return Table(
        "latencies", "Latencies", "When each model begins to weigh in the RDMs of the sensors, and when it weighs "
        "most: by itself (less chance) or beyond the other controls. Intervals: 95 %, bootstrap over subjects. "
        f"{OF_PEOPLE} A model without a significant cluster has no latency. How each was found is in the download.",
        data, labels, filters=("region", "measure", "model"), first=16, hide=(*bare, "method"), words=words,
    )  # fmt: skip


def latency_figure(results: Results) -> Figure | None:
    """Return onsets and peaks with their intervals, the last layer of each network and the controls."""
    table = results.table("latencies")
    table = table[np.isfinite(numbers(table, "latency_s"))]
    models = models_of(list(table["model"]))
    places = places_in_order(list(models.values()))
    kept = [name for name, model in models.items() if not model.layer or model.place == places[0]][:_MOST_DOTS]
    drawings = []
    groups = table[table["model"].isin(kept)].groupby(["reference", "region"], sort=False, dropna=False)
    for (reference, region), here in groups:
        rows = [_latency_row(here[here["model"] == name], name, models[name].rule) for name in kept]
        rows = sorted((row for row in rows if row.cells), key=lambda row: row.control)
        columns = list(dict.fromkeys(here["measure"].map(text)))
        label = f"{text(region) or 'sensors'}, {_BEYOND.get(text(reference), text(reference))}"
        drawings.append((label, dot_grid(f"Latencies: {label}", columns, rows, "ms after onset", (0.0,))))
    if not drawings:
        return None
    caption = (
        "Moments after the stimulus onset with 95 % intervals: models filled, controls open diamonds; only models with "
        "a significant cluster have any. Networks: the last layer; every layer is in the table. "
        f"{OF_PEOPLE}"
    )
    columns = [name for name in _LATENCY if name in table]
    return Figure("latency-dots", "Onset and peak", caption, drawings, Data.of(table[columns]))


_LATENCY = ("region", "model", "reference", "measure", "latency_s", "ci_low", "ci_high", "p")
_BEYOND = {"chance": "by itself", "": "by itself", "all other controls": "beyond the other controls"}


def _latency_row(rows: pd.DataFrame, name: str, rule: str) -> DotRow:
    label = control_title(rule) if is_control(rule) else title(rule)
    cells: dict[str, list[Dot]] = {}
    for row in rows.to_dict("records"):
        value, low, high = (1000 * _number(row, key) for key in ("latency_s", "ci_low", "ci_high"))
        interval = f" [{show(low, 0)}, {show(high, 0)}]" if math.isfinite(low) else ""
        tip = f"{model_words(name)}, {text(row['measure'])}: {show(value, 0)} ms{interval}"
        cells.setdefault(text(row["measure"]), []).append(Dot(value, low, high, "main", tip))
    return DotRow(label, is_control(rule), cells)


def _number(row: Mapping[object, object] | Mapping[str, object], name: str) -> float:
    value = pd.to_numeric(row.get(name), errors="coerce")
    return math.nan if value is None else float(value)


def cluster_table(results: Results, name: str = "time_clusters") -> Table | None:
    """Return every cluster with its place in time, its mass and its p."""
    table = results.table(name)
    if not len(table):
        return None
    table = scored(table)
    caption = (
        "Runs of moments whose statistic exceeds the threshold, or those that threshold-free enhancement finds; p is "
        "corrected for the search over time. The extent of a cluster is descriptive."
    )
    if len(table) > _MOST_ROWS:
        kept = numbers(table, "p") <= float(results.settings.alignment.alpha)
        caption += f" {len(table)} clusters: those that are not significant are in alignment/{name}.tsv."
        table = table[kept].head(_MOST_ROWS)
    data = Data.of(table)
    bare = [name for name in table if table[name].isna().all()] + (["contrast"] if "contrast" in table else [])
    labels = {"start_s": "from (s)", "stop_s": "to (s)", "peak_s": "peak (s)", "reference": "less", **_NUMBERS}
    labels["p_corrected"] = "corrected p"
    words = worded(data, {"model": model_words, "reference": model_words})
    return Table(
        name.replace("_", "-"), "Clusters in time", caption, data, labels,
        filters=("family", "region"), first=12, hide=(*bare, "method"), words=words,
    )  # fmt: skip


def ceiling_table(results: Results) -> Table | None:
    """Return the noise ceilings over time."""
    table = results.table("time_ceilings")
    if not len(table):
        return None
    bare = tuple(name for name in table if table[name].isna().all())
    labels = {"time": "time (s)", "ceiling_low": "lower bound", "ceiling_high": "upper bound", **_NUMBERS}
    caption = "Lower bound: each subject's RDM with the mean of the others; upper bound: with the mean of all."
    return Table("time-ceilings", "Noise ceilings over time", caption, Data.of(table), labels, first=6, hide=bare)
