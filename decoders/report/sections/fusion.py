"""Fusion: representations of MEG in time against those of fMRI in space, and what each network explains of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, Section, Table, parts, show, worded
from decoders.report.contrasts import models_of, numbers, places_in_order, scored
from decoders.report.curves import Span, time_chart
from decoders.report.heat import Floats
from decoders.report.lines import Series
from decoders.report.read import Results
from decoders.report.sections.time_curves import told_apart
from decoders.report.words import (
    ModelName,
    colour_of,
    control_title,
    is_control,
    layer_words,
    listed,
    model_words,
    size_words,
    text,
    title,
)

_PER_CHART = 6
_MOST_CHARTS = 48
_MOST_ROWS = 40_000
_COLUMNS = ("analysis", "region", "model", "time", "estimate", "ci_low", "ci_high", "p_corrected")


def section(results: Results) -> Section:
    """Return the section on fusion."""
    table = scored(results.table("fusion_table"))
    lead = (
        "The RDM of the sensors at every moment is compared with the RDM of every region: when each place represents "
        "the stimuli as MEG does at that moment. Commonality: the part of this that a network's RDM shares."
    )
    order = parts(
        ("MEG in time, fMRI in space", [region_curves(results, table), peak_table(results)]),
        ("What the networks explain of it", [commonality_curves(results, table)]),
        ("Tables", [significant_table(results, table)]),
    )
    return Section("fusion", "Fusion of MEG and fMRI", lead, order)


def _rows(table: pd.DataFrame, analysis: str) -> pd.DataFrame:
    known = np.isfinite(numbers(table, "time"))
    return table[(table["analysis"].map(text) == analysis) & known]


def region_curves(results: Results, table: pd.DataFrame) -> Figure | None:
    """Return one line per region, with intervals and what is significant below."""
    rows = _rows(table, "fusion")
    regions = list(dict.fromkeys(rows["region"].map(text)))
    drawings = []
    for first in range(0, len(regions), _PER_CHART):
        chosen = regions[first : first + _PER_CHART]
        lines = [_line(rows[rows["region"].map(text) == region], region, i) for i, region in enumerate(chosen)]
        bars = _bars(results, rows, "region", dict(zip(chosen, chosen, strict=True)))
        label = listed(chosen) if len(regions) > _PER_CHART else "regions"
        drawings.append((label, time_chart(f"Fusion: {label}", lines, "likeness of the RDMs", spans=bars)))
    if not drawings:
        return None
    caption = (
        "Likeness of the RDM of MEG at each moment with the RDM of each region, 95 % intervals as bands. Bars below: "
        f"moments that are significant, corrected over moments and regions at {results.settings.alignment.alpha:g}."
    )
    return Figure("fusion-regions", "Fusion per region", caption, drawings, _data(rows))


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
        here = rows[rows[column].map(text) == name]
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
        for region in dict.fromkeys(rows["region"].map(text)):
            here = rows[rows["region"].map(text) == region]
            beside = [
                n for n, m in models.items() if is_control(m.rule) or (m.rule == "untrained" and m.place == place)
            ]
            rules = [n for n, m in models.items() if n not in beside and (m.place == place or not m.layer)]
            for first in range(0, max(len(rules), 1), _PER_CHART):
                chosen = rules[first : first + _PER_CHART]
                names = {name: models[name] for name in [*chosen, *beside]}
                label = _label(region, place, [models[n] for n in chosen] if len(rules) > _PER_CHART else [])
                drawings.append((label, _commonality_chart(results, here, region, label, names)))
    if not len(rows):
        return None
    caption = (
        "Commonality: the variance of the region's RDM that MEG and the model explain together, a part of what MEG "
        "explains of it alone (dark line: the bound). It may be negative where one hides the other. Grey dashed lines: "
        "controls. Bars: significant moments, corrected."
    )
    if len(drawings) > _MOST_CHARTS:
        caption += f" {len(drawings) - _MOST_CHARTS} further charts are left to alignment/fusion.tsv."
    return Figure(
        "commonality", "Commonality of the networks", caption, drawings[:_MOST_CHARTS], _data(rows)
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
        rows = here[here["model"].map(text) == name]
        line = _line(rows, words, 7 if control else colour_of(model.rule, rules), int(control))
        lines.append(line if not control else Series(words, line.x, line.y, 7, 1))
    bound = _bound(results, region)
    everything = told_apart([*lines, *([bound] if bound is not None else [])])
    bars = _bars(results, here, "model", labels)
    return time_chart(f"Commonality: {label}", everything, "shared variance (R²)", spans=bars)


def _bound(results: Results, region: str) -> Series | None:
    """Return the variance that MEG explains of a region alone: no model can share more."""
    file = results.first("fusion_arrays")
    name = f"total/{region}"
    if file is None or name not in file.arrays or "times" not in file.arrays:
        return None
    return Series("MEG alone: the bound", file["times"].tolist(), file[name].astype(float).tolist(), 6)


def peak_table(results: Results) -> Table | None:
    """Return the peak of each region with its interval."""
    return None


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
