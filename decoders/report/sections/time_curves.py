"""Scores over time: which curves there are, which are drawn together, and what is significant in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, show, show_p
from decoders.report.contrasts import models_of, numbers, of_family, places_in_order, scored
from decoders.report.curves import Span, time_chart
from decoders.report.heat import Floats
from decoders.report.lines import Series
from decoders.report.read import Results
from decoders.report.timemaps import Mask, raster
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

PER_CHART = 6  # rules: more lines in one picture cannot be told apart
MOST_CHARTS = 48
_MOST_ROWS = 60_000
CHANCE, RELABELLED = "models against chance", "models against relabelled stimuli"
_COLUMNS = ("region", "model", "time", "estimate", "ci_low", "ci_high", "p_corrected")


@dataclass(frozen=True)
class Curve:
    """The score of a model in a region over time; limits are nan where they are not known."""

    region: str
    model: ModelName
    name: str
    times: Floats
    values: Floats
    low: Floats
    high: Floats
    p: Floats


@dataclass(frozen=True)
class Curves:
    """All curves of a study, and whether they come from the table of tests (else they are means of the scores)."""

    curves: Sequence[Curve]
    tested: bool


def curves_of(results: Results) -> Curves:
    """Return the curves: estimates of the tests where there are such, else means over subjects and seeds."""
    tests = scored(results.table("time_inference"))
    tests = tests[np.isfinite(numbers(tests, "time"))]
    rows = of_family(tests, tested_family(results))
    if len(rows):
        return Curves([_curve(key, part) for key, part in _grouped(rows)], bool(np.isfinite(numbers(rows, "p")).any()))
    means = _means(results)
    return Curves([_curve(key, rows) for key, rows in _grouped(means)], False)


def tested_family(results: Results) -> str:
    """Return the family against chance that was tested: over subjects, or (few subjects) over labels of stimuli."""
    tests = results.table("time_inference")
    flipped, relabelled = (of_family(tests, name) for name in (CHANCE, RELABELLED))
    return RELABELLED if len(relabelled) and not np.isfinite(numbers(flipped, "p")).any() else CHANCE


def _grouped(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    groups = table.groupby(["region", "model"], sort=False, dropna=False)
    return [((text(region), text(model)), rows) for (region, model), rows in groups]


def _curve(key: tuple[str, str], rows: pd.DataFrame) -> Curve:
    region, name = key
    order = np.argsort(numbers(rows, "time"), kind="stable")
    columns = [numbers(rows, column)[order] for column in ("time", "estimate", "ci_low", "ci_high", "p_corrected")]
    return Curve(region, models_of([name])[name], name, *columns)


def _means(results: Results) -> pd.DataFrame:
    """Return the mean over subjects and seeds of every model at every time, by the first comparator."""
    table = results.table("time_scores")
    known = table[(table["comparator"].map(text) == comparator_of(results)) & np.isfinite(numbers(table, "time"))]
    parts = [known[column].map(text) for column in ("rule", "architecture", "layer", "size")]
    names = [_name(*part) for part in zip(*parts, strict=True)]
    named = known.assign(model=names, estimate=numbers(known, "score"), time=numbers(known, "time"))
    return named.groupby(["region", "model", "time"], sort=False, as_index=False)["estimate"].mean()


def _name(rule: str, architecture: str, layer: str, size: str) -> str:
    if not layer:
        return rule
    size = size.removesuffix(".0").removesuffix("px")
    return f"{rule} {architecture} {layer} {size if size in ('', 'native') else size + 'px'}"


def comparator_of(results: Results) -> str:
    """Return the comparator of the tests: the first of the settings."""
    return str(results.settings.alignment.comparators[0])


def clusters_of(results: Results) -> dict[tuple[str, str], list[Span]]:
    """Return the significant clusters of each region and model against chance."""
    table = results.table("time_clusters")
    if not len(table):
        return {}
    table = of_family(scored(table), tested_family(results))
    p = numbers(table, "p_corrected" if "p_corrected" in table else "p")
    table = table.assign(_p=p)[p <= float(results.settings.alignment.alpha)]
    found: dict[tuple[str, str], list[Span]] = {}
    for row in table.to_dict("records"):
        start, stop = float(row["start_s"]), float(row["stop_s"])
        words = f"{model_words(text(row['model']))}: {show(start * 1000, 0)} to {show(stop * 1000, 0)} ms"
        key = (text(row["region"]), text(row["model"]))
        found.setdefault(key, []).append(Span(start, stop, f"{words}, cluster p {show_p(float(row['_p']))}"))
    return found


def curve_figure(results: Results, found: Curves) -> Figure | None:
    """Return the curves of the rules with controls and the noise ceiling, a few rules at a time."""
    if not found.curves:
        return None
    spans = clusters_of(results)
    axis = comparator_words(comparator_of(results))
    charts = _charts(found.curves)
    drawings = [(label, _chart(results, label, curves, spans, axis)) for label, curves in charts[:MOST_CHARTS]]
    left = len(charts) - len(drawings)
    caption = (
        "Lines: estimates over subjects and seeds with 95 % intervals as bands; grey dashed lines: controls; solid "
        "grey: the untrained network; grey band behind: noise ceiling. Bars below: significant clusters of each line "
        f"against chance, corrected at {results.settings.alignment.alpha:g}; a cluster says that there is an effect, "
        "not exactly when it starts."
        if found.tested
        else "Lines: means over subjects and seeds; nothing is tested, so there are no intervals and no clusters. Grey "
        "dashed lines: controls; grey band: noise ceiling."
    )
    caption += " The last layer at the first size comes first; other layers, sizes and rules are chosen in the menu."
    caption += f" {left} further charts are left to the map below and to the data." if left else ""
    data, cut = _data(found.curves)
    caption += " The data hold the last layers; all are in alignment/time_inference.tsv." if cut else ""
    return Figure("time-curves", "Scores over time", caption, drawings, data)


def beyond_figure(results: Results) -> Figure | None:
    """Return the scores with all controls held constant, intervals without a test."""
    tests = scored(results.table("time_inference"))
    rows = of_family(tests[np.isfinite(numbers(tests, "time"))], "models beyond linear mixtures of the control RDMs")
    curves = [_curve(key, part) for key, part in _grouped(rows)]
    if not curves:
        return None
    axis = f"partial {comparator_words(comparator_of(results))}"
    drawings = [
        (label, time_chart(f"Beyond the controls: {label}", _lines(chosen), axis))
        for label, chosen in _charts(curves)[:MOST_CHARTS]
    ]
    caption = (
        "Scores with the RDMs of all controls held constant together, 95 % intervals as bands. Nothing is tested here: "
        "what is computed non-linearly from the controls' features lies beyond linear mixtures of them, too."
    )
    return Figure("time-beyond", "Scores over time beyond the controls", caption, drawings, _data(curves)[0])


def _charts(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    """Return what is drawn together: one region, one layer, up to six rules, and everything to compare them with."""
    charts: list[tuple[str, list[Curve]]] = []
    regions = list(dict.fromkeys(curve.region for curve in curves))
    for place in places_in_order([curve.model for curve in curves]) or [("", "", "")]:
        for region in regions:
            here = [curve for curve in curves if curve.region == region]
            beside = [curve for curve in here if _is_beside(curve, place)]
            rules = [curve for curve in here if curve not in beside and curve.model.place in (place, ("", "", ""))]
            for first in range(0, max(len(rules), 1), PER_CHART):
                chosen = rules[first : first + PER_CHART]
                label = _label(place, region if len(regions) > 1 else "", chosen if len(rules) > PER_CHART else [])
                if chosen or beside:
                    charts.append((label, [*chosen, *beside]))
    return charts


def _is_beside(curve: Curve, place: tuple[str, str, str]) -> bool:
    return is_control(curve.model.rule) or (curve.model.rule == "untrained" and curve.model.place == place)


def _label(place: tuple[str, str, str], region: str, rules: Sequence[Curve]) -> str:
    names = [title(curve.model.rule) for curve in rules]
    words = [region, layer_words(place[1]), size_words(place[2]), listed(names) if len(names) < 3 else ""]
    words += [f"{names[0]} to {names[-1]}"] if len(names) > 2 else []
    return ", ".join(word for word in words if word) or "models"


def _chart(
    results: Results,
    label: str,
    curves: Sequence[Curve],
    spans: Mapping[tuple[str, str], Sequence[Span]],
    axis: str,
) -> Markup:
    lines = _lines(curves)
    bars = {
        one.label: spans[curve.region, curve.name]
        for one, curve in zip(lines, curves, strict=True)
        if (curve.region, curve.name) in spans
    }
    ceiling = _ceiling(results, curves[0].region)
    return time_chart(f"Scores over time: {label}", lines, axis, ceiling=ceiling, spans=bars)


def _lines(curves: Sequence[Curve]) -> list[Series]:
    rules = [curve.model.rule for curve in curves]
    return told_apart([_series(curve, rules) for curve in curves])


def _series(curve: Curve, rules: list[str]) -> Series:
    rule = curve.model.rule
    values = curve.times.tolist(), curve.values.tolist()
    if is_control(rule):
        return Series(control_title(rule), *values, 7, 1)
    limits = [column.tolist() if np.isfinite(column).any() else [] for column in (curve.low, curve.high)]
    return Series(title(rule), *values, colour_of(rule, rules), 0, *limits)


def told_apart(series: Sequence[Series]) -> list[Series]:
    """Give lines of one colour different dashes."""
    seen: Counter[int] = Counter()
    lines = []
    for one in series:
        lines.append(replace(one, dash=one.dash + seen[one.colour]))
        seen[one.colour] += 1
    return lines


def _ceiling(results: Results, region: str) -> Series | None:
    table = results.table("time_ceilings")
    chosen = (table["region"].map(text) == region) & (table["comparator"].map(text) == comparator_of(results))
    rows = table[chosen & np.isfinite(numbers(table, "time"))]
    if not len(rows):
        return None
    order = np.argsort(numbers(rows, "time"), kind="stable")
    x, low, high = (numbers(rows, name)[order].tolist() for name in ("time", "ceiling_low", "ceiling_high"))
    return Series("noise ceiling", x, low, 7, 0, low, high)


def _data(curves: Sequence[Curve]) -> tuple[Data, bool]:
    """Return the numbers of the curves, and whether only those of the last layers fit on the page."""
    kept = curves
    if sum(len(curve.times) for curve in curves) > _MOST_ROWS:
        places = places_in_order([curve.model for curve in curves])
        kept = [curve for curve in curves if not curve.model.layer or curve.model.place == places[0]]
    rows = [
        (curve.region, curve.name, *row)
        for curve in kept
        for row in zip(
            *(column.tolist() for column in (curve.times, curve.values, curve.low, curve.high, curve.p)), strict=True
        )
    ]
    return Data(_COLUMNS, rows), len(kept) < len(curves)


def raster_figure(results: Results, found: Curves) -> Figure | None:
    """Return every model of a layer as a row of colours over time: readable however many rules there are."""
    drawings, rows = [], []
    spans = clusters_of(results)
    regions = list(dict.fromkeys(curve.region for curve in found.curves))
    for place in (places_in_order([curve.model for curve in found.curves]) or [("", "", "")]) if found.curves else []:
        for region in regions:
            kept = [c for c in found.curves if c.region == region and (c.model.place == place or not c.model.layer)]
            times, values, marked = _matrix(kept, spans)
            label = _label(place, region if len(regions) > 1 else "", [])
            names = [control_title(c.model.rule) if is_control(c.model.rule) else title(c.model.rule) for c in kept]
            bar = comparator_words(comparator_of(results))
            drawings.append((label, raster(f"Scores over time: {label}", values, names, times, marked, bar)))
            rows += [(label, c.name, s.start, s.stop) for c in kept for s in spans.get((region, c.name), [])]
    if not drawings:
        return None
    caption = (
        "One row per rule and control, time to the right. Orange: likeness above zero; blue: below. Outlined: "
        "significant clusters against chance. Values are those of the curves above; the data are the clusters."
    )
    return Figure(
        "time-raster", "All rules over time", caption, drawings, Data(("layer", "model", "start_s", "stop_s"), rows)
    )


def _matrix(curves: Sequence[Curve], spans: Mapping[tuple[str, str], Sequence[Span]]) -> tuple[Floats, Floats, Mask]:
    times = np.unique(np.concatenate([curve.times for curve in curves]))
    values = np.full((len(curves), len(times)), np.nan)
    marked = np.zeros(values.shape, dtype=bool)
    for i, curve in enumerate(curves):
        values[i, np.searchsorted(times, curve.times)] = curve.values
        for span in spans.get((curve.region, curve.name), []):
            marked[i] |= (times >= span.start - 1e-9) & (times <= span.stop + 1e-9)
    return times, values, marked
