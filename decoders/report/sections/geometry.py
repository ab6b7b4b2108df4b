"""The map of models and regions: near each other where their RDMs are alike."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, show
from decoders.report.figures import shorten
from decoders.report.read import Results
from decoders.report.svg import Scale, Svg, domain
from decoders.report.words import colour_of, comparator_words, control_title, model_words, parse_model, text

_EDGE, _MARGIN, _MOST_NAMED = 520.0, 30.0, 16
_MOST_ROWS = 20_000
_SHAPES = {"recorded": 1, "control": 3, "network": 0, "user": 2, "time": 0}


def geometry_figure(results: Results) -> Figure | None:
    """Return the map of all RDMs by classical scaling, with their distances as data."""
    table = results.table("geometry")
    points = table.drop_duplicates("item")
    if len(points) < 3:
        return None
    # The distances of five hundred items are a quarter of a million rows: too many for a page.
    large = len(table) > _MOST_ROWS
    data = points.drop(columns=["other", "distance"]) if large else table
    where = " The distances are in geometry.tsv." if large else ""
    comparator = comparator_words(text(points["comparator"].iloc[0]))
    return Figure(
        "geometry", "How models and regions lie to each other",
        f"Points are RDMs: squares recorded (mean over subjects), diamonds controls, circles layers of networks (mean "
        f"over seeds), triangles the user's models{_times_words(points)}. Distance: 1 - {comparator}; the plane holds "
        f"{100 * float(points['share'].iloc[0]):.0f} % of the configuration, so near points may differ. Nothing is "
        f"tested here.{where}",
        [("map", scatter(points))], Data.of(data),
    )  # fmt: skip


def _times_words(points: pd.DataFrame) -> str:
    return ", hollow circles MEG at a time (mean over subjects)" if (points["kind"] == "time").any() else ""


def scatter(points: pd.DataFrame) -> Markup:
    """Draw one mark per item, on axes of one scale."""
    x, y = (points[name].astype(float).tolist() for name in ("x", "y"))
    ends = domain([*x, *y], margin=0.06)
    across, down = Scale(*ends, _MARGIN, _EDGE - _MARGIN), Scale(*ends, _EDGE - _MARGIN, _MARGIN)
    drawing = Svg(_EDGE + 180, _EDGE, "Map of models and regions by the likeness of their RDMs")
    drawing.line(across(ends[0]), down(0.0), across(ends[1]), down(0.0), "grid")
    drawing.line(across(0.0), down(ends[0]), across(0.0), down(ends[1]), "grid")
    rules = [parse_model(text(name)).rule for name in points["item"]]
    # A time of MEG takes no colour from a rule.
    known = [rule for rule, kind in zip(rules, points["kind"], strict=True) if kind != "time"]
    for item, kind, rule, a, b in zip(points["item"], points["kind"], rules, x, y, strict=True):
        kind, words = text(kind), _words(text(item), text(kind))
        colour = 7 if kind in ("control", "recorded", "time") else colour_of(rule, known)
        style = "hollow" if kind in ("control", "time") else "mark"
        drawing.mark(across(a), down(b), _SHAPES[kind], 5.5, f"{style} c{colour}", f"{words}: {show(a)}, {show(b)}")
        if kind != "network" or len(points) <= _MOST_NAMED:
            drawing.text(across(a) + 9, down(b) + 4, shorten(words, 30), "t small")
    return drawing.markup()


def _words(item: str, kind: str) -> str:
    if kind == "recorded":
        return item.removeprefix("recorded:")
    if kind == "time":
        return model_words(item)
    return control_title(item) if kind == "control" else parse_model(item).words
