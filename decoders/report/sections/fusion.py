"""Fusion: representations of MEG in time against those of fMRI in space, and what each network explains of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, Notice, Section, Table, parts, show, worded
from decoders.report.contrasts import models_of, numbers, places_in_order, scored
from decoders.report.curves import Span, time_chart
from decoders.report.heat import Floats
from decoders.report.lines import Series
from decoders.report.read import Results
from decoders.report.sections.alignment import score_bars
from decoders.report.sections.time import OF_PEOPLE, cluster_table
from decoders.report.sections.time_curves import MOST_CHARTS, PER_CHART, told_apart
from decoders.report.words import (
    ModelName,
    colour_of,
    comparator_words,
    control_title,
    is_control,
    layer_words,
    listed,
    model_words,
    size_words,
    text,
    title,
)

_TITLE = "Fusion of MEG and fMRI"
_MOST_ROWS = 40_000
_COLUMNS = ("analysis", "region", "model", "time", "estimate", "ci_low", "ci_high", "p_corrected")


def section(results: Results) -> Section:
    """Return the section on fusion."""
    lead = (
        "The RDM of the sensors at every moment is compared with the RDM of every region: when each place represents "
        "the stimuli as MEG does at that moment. Commonality: the part of this that a network's RDM shares."
    )
    if results.settings.alignment is None:
        return Section("fusion", _TITLE, lead, ())
    table = scored(results.table("fusion_table"))
    table = table.assign(**{name: table[name].map(text) for name in ("analysis", "region", "model", "family")})
    order = parts(
        (
            "MEG in time, fMRI in space",
            [left_out(results), region_curves(results, table), beyond_curves(results, table)],
        ),
        ("Peaks and clusters of fusion", [peak_table(results), cluster_table(results, "fusion_clusters")]),
        ("What the networks explain of it", [commonality_curves(results, table), window_bars(results, table)]),
        ("Tables", [significant_table(results, table)]),
    )
    return Section("fusion", _TITLE, lead, order)


def left_out(results: Results) -> Notice | None:
    """Return who is not part of the fusion, and why; and where fusion survives at no moment."""
    file = results.first("fusion_arrays")
    if file is None:
        return None
    items = [f"subject {text(who)}: {text(why)}" for who, why in file.attributes.get("excluded", {}).items()]
    windows = file.attributes.get("windows")
    without = [region for region in file.attributes.get("people", {}) if windows is not None and region not in windows]
    if without:
        items.append(f"{listed(without)}: related to MEG at no moment, so no model has a share there")
    return Notice("Left out of fusion", items) if items else None


def _rows(table: pd.DataFrame, analysis: str) -> pd.DataFrame:
    known = np.isfinite(numbers(table, "time"))
    return table[(table["analysis"] == analysis) & known]


def region_curves(results: Results, table: pd.DataFrame) -> Figure | None:
    """Return one line per region, with intervals and what is significant below."""
    caption = (
        "Likeness of the RDM of MEG at each moment with the RDM of each region, 95 % intervals as bands. Bars below: "
        f"moments that are significant, corrected over moments and regions at {results.settings.alignment.alpha:g}."
    )
    return _regions(results, _rows(table, "fusion"), ("fusion-regions", "Fusion per region", caption))


def beyond_curves(results: Results, table: pd.DataFrame) -> Figure | None:
    """Return the same where the RDMs of all controls are held constant."""
    caption = (
        "As above, with the RDMs of all controls held constant together: what linear mixtures of them cannot explain. "
        "Bars below: significant moments, corrected over moments and regions."
    )
    words = ("fusion-beyond", "Fusion beyond the controls", caption)
    return _regions(results, _rows(table, "partial_fusion"), words)


def _regions(results: Results, rows: pd.DataFrame, words: tuple[str, str, str]) -> Figure | None:
    key, heading, caption = words
    file = results.first("fusion_arrays")
    comparator = text(file.attributes.get("comparator")) if file is not None else ""
    axis = comparator_words(comparator) if comparator else "likeness of the RDMs"
    regions = list(dict.fromkeys(rows["region"]))
    drawings = []
    for first in range(0, len(regions), PER_CHART):
        chosen = regions[first : first + PER_CHART]
        lines = [_line(rows[rows["region"] == region], region, i) for i, region in enumerate(chosen)]
        bars = _bars(results, rows, "region", dict(zip(chosen, chosen, strict=True)))
        label = listed(chosen) if len(regions) > PER_CHART else "regions"
        drawings.append((label, time_chart(f"{heading}: {label}", lines, axis, spans=bars)))
    if not drawings:
        return None
    return Figure(key, heading, caption, drawings, _data(rows))


def _line(rows: pd.DataFrame, label: str, colour: int, dash: int = 0) -> Series:
    order = np.argsort(numbers(rows, "time"), kind="stable")
    x, y, low, high = (numbers(rows, name)[order] for name in ("time", "estimate", "ci_low", "ci_high"))
    limits = [column.tolist() if np.isfinite(column).any() else [] for column in (low, high)]
    return Series(label, x.tolist(), y.tolist(), colour, dash, *limits)


def _bars(results: Results, rows: pd.DataFrame, column: str, labels: Mapping[str, str]) -> dict[str, list[Span]]:
    """Return the significant stretches of each line, by its label."""
    alpha = float(results.settings.alignment.alpha)
    found = {}
    for name, label in labels.items():
        here = rows[rows[column] == name]
        order = np.argsort(numbers(here, "time"), kind="stable")
        times, p = numbers(here, "time")[order], numbers(here, "p_corrected")[order]
        if spans := stretches(times, p <= alpha, label):
            found[label] = spans
    return found


def stretches(times: Floats, marked: np.ndarray, label: str) -> list[Span]:
    """Return runs of marked moments as stretches of time."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(int)))
    found = []
    for start, stop in list(pairwise(edges))[::2]:
        first, last = float(times[start]), float(times[stop - 1])
        words = f"{label}: significant from {show(first * 1000, 0)} to {show(last * 1000, 0)} ms"
        found.append(Span(first, last, words))
    return found


def _data(rows: pd.DataFrame) -> Data:
    return Data.of(rows[[name for name in _COLUMNS if name in rows]].head(_MOST_ROWS))


def commonality_curves(results: Results, table: pd.DataFrame) -> Figure | None:
    """Return what every network shares with MEG and a region over time, below the bound of what there is."""
    rows = _rows(table, "commonality")
    models = models_of(list(rows["model"]))
    drawings: list[tuple[str, Markup]] = []
    for place in places_in_order(list(models.values())) or [("", "", "")]:
        for region in dict.fromkeys(rows["region"]):
            here = rows[rows["region"] == region]
            beside = [
                n for n, m in models.items() if is_control(m.rule) or (m.rule == "untrained" and m.place == place)
            ]
            rules = [n for n, m in models.items() if n not in beside and (m.place == place or not m.layer)]
            for first in range(0, max(len(rules), 1), PER_CHART):
                chosen = rules[first : first + PER_CHART]
                names = {name: models[name] for name in [*chosen, *beside]}
                label = _label(region, place, [models[n] for n in chosen] if len(rules) > PER_CHART else [])
                drawings.append((label, _commonality_chart(results, here, region, label, names)))
    if not len(rows):
        return None
    caption = (
        "Commonality: the share of the variance of MEG's RDM that the region and the model explain in common, a part "
        "of what the region explains (dark line: the bound). It lies below zero where both explain more in company "
        "than alone. Grey dashed lines: controls. Bars: significant moments, corrected over models, regions, moments."
    )
    if len(drawings) > MOST_CHARTS:
        caption += f" {len(drawings) - MOST_CHARTS} further charts are left to alignment/fusion.tsv."
    return Figure(
        "commonality", "Commonality of the networks", caption, drawings[:MOST_CHARTS], _data(rows)
    )  # fmt: skip


def _is_beside(model: ModelName, place: tuple[str, str, str]) -> bool:
    return is_control(model.rule) or (model.rule == "untrained" and model.place == place)


def _label(region: str, place: tuple[str, str, str], rules: Sequence[ModelName]) -> str:
    names = [title(rule.rule) for rule in rules]
    words = [region, layer_words(place[1]), size_words(place[2])]
    words += [f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]] if names else []
    return ", ".join(word for word in words if word)


def _commonality_chart(
    results: Results, here: pd.DataFrame, region: str, label: str, names: Mapping[str, ModelName]
) -> Markup:
    rules = [model.rule for model in names.values()]
    lines, labels = [], {}
    for name, model in names.items():
        control = is_control(model.rule)
        words = control_title(model.rule) if control else title(model.rule)
        labels[name] = words
        rows = here[here["model"] == name]
        line = _line(rows, words, 7 if control else colour_of(model.rule, rules), int(control))
        lines.append(line if not control else Series(words, line.x, line.y, 7, 1))
    bound = _bound(here)
    everything = told_apart([*lines, *([bound] if bound is not None else [])])
    bars = _bars(results, here, "model", labels)
    return time_chart(f"Commonality: {label}", everything, "shared variance (R²)", spans=bars)


def _bound(rows: pd.DataFrame) -> Series | None:
    """Return the variance that the region alone explains: no model can share more."""
    known = rows.assign(maximum=numbers(rows, "maximum"))
    known = known[np.isfinite(known["maximum"])].drop_duplicates("time")
    if not len(known):
        return None
    line = _line(known.assign(estimate=known["maximum"], ci_low=np.nan, ci_high=np.nan), "the region alone: bound", 6)
    return line


def window_bars(results: Results, table: pd.DataFrame) -> Figure | None:
    """Return commonality averaged over the moments at which fusion survives, as bars per rule and region."""
    rows = table[~np.isfinite(numbers(table, "time")) & (table["analysis"] == "commonality")]
    chance = rows["family"].astype(str).str.startswith("commonality: models against chance")
    none = {"alignment_scores": results.table("time_scores").iloc[:0], "ceilings": results.table("ceilings").iloc[:0]}
    own = replace(results, tables={**results.tables, **none})
    figure = score_bars(own, rows[chance], "commonality")
    if figure is None:
        return None
    caption = (
        "Mean over the moments at which fusion survives its correction; they were chosen by MEG and fMRI alone. Bar "
        "and whisker: estimate and 95 % interval over stimuli, subjects and seeds. Lines: controls, untrained network."
    )
    return replace(figure, key="commonality-window", title="Commonality where fusion survives", caption=caption)


def peak_table(results: Results) -> Table | None:
    """Return the peak of each region with its interval."""
    table = results.table("fusion_latencies")
    if not len(table):
        return None
    data = Data.of(table)
    bare = [name for name in table if table[name].isna().all()]
    labels = {"latency_s": "latency (s)", "ci_low": "CI low (s)", "ci_high": "CI high (s)", "n_subjects": "subjects"}
    labels["reference"] = "less"
    caption = (
        "Moments of onset and peak of each region's fusion, or their differences between regions, with 95 % intervals. "
        f"{OF_PEOPLE}"
    )
    return Table(
        "fusion-latencies", "Latencies per region", caption, data, labels, filters=("region", "measure"), first=12,
        hide=(*bare, "method"),
    )  # fmt: skip


def significant_table(results: Results, table: pd.DataFrame) -> Table | None:
    """Return the moments that survive correction."""
    if not len(table):
        return None
    kept = table[numbers(table, "p_corrected") <= float(results.settings.alignment.alpha)].head(5000)
    data = Data.of(kept)
    bare = [name for name in kept if kept[name].isna().all()]
    words = worded(data, {"model": model_words, "reference": model_words})
    caption = f"Of {len(table)} tests, those with a corrected p at or below {results.settings.alignment.alpha:g}."
    labels = {"p_corrected": "corrected p", "ci_low": "CI low", "ci_high": "CI high", "time": "time (s)"}
    return Table(
        "fusion-tests", "What survives correction", caption, data, labels,
        filters=("analysis", "region", "model"), first=10, hide=(*bare, "method", "contrast", "family"), words=words,
    )  # fmt: skip
