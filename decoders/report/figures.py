"""Charts as SVG: rows of dots, bars with intervals, lines, and the small interval of a table cell.

Series differ in colour (Okabe and Ito) and in the shape of their marker or dash, never in colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from decoders.report.blocks import show
from decoders.report.svg import Scale, Svg, domain

CHARACTER = 6.9  # mean advance of a label's character in the widest of the fonts of the page, in pixels
COLOURS = 8


@dataclass(frozen=True)
class Dot:
    """A value with its interval (nan where there is none); `kind` is "main", "subject" or "split"."""

    value: float
    low: float = math.nan
    high: float = math.nan
    kind: str = "main"
    tip: str = ""
    shape: int = 0


@dataclass(frozen=True)
class DotRow:
    """A model, or a control, with its dots and the mean of its null per column."""

    label: str
    control: bool
    cells: Mapping[str, Sequence[Dot]]
    nulls: Mapping[str, float] = field(default_factory=dict)


def shorten(text: str, most: int) -> str:
    """Return text of at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def dot_grid(
    label: str, columns: Sequence[str], rows: Sequence[DotRow], axis: str, fixed: Sequence[float] = ()
) -> Markup:
    """Draw rows of dots, one column of panels per task, on one scale.

    Parameters
    ----------
    label : str
        What a screen reader says.
    columns : sequence of str
        Headings; keys of the rows' cells.
    rows : sequence of DotRow
        Models first, then controls.
    axis : str
        Name of the score.
    fixed : sequence of float
        Values that the scale must hold (0, 1).
    """
    left = 16 + CHARACTER * max([len(shorten(row.label, 36)) for row in rows] + [8])
    each, gap, top, step = max(150.0, min(300.0, (980 - left) / max(len(columns), 1))), 18.0, 34.0, 25.0
    bottom = top + step * len(rows)
    drawing = Svg(left + (each + gap) * len(columns), bottom + 44, label)
    dots = [dot for row in rows for cell in row.cells.values() for dot in cell]
    reach = [v for dot in dots for v in (dot.value, dot.low, dot.high)] + [
        v for row in rows for v in row.nulls.values()
    ]
    low, high = domain(reach, fixed)
    first_control = next((i for i, row in enumerate(rows) if row.control), None)
    if first_control:
        y = top + step * first_control
        drawing.line(0, y, drawing.width - gap, y, "rule")
    for i, row in enumerate(rows):
        drawing.text(
            left - 12, top + step * (i + 0.5) + 4, shorten(row.label, 36), "t muted" if row.control else "t", "end"
        )
    for k, column in enumerate(columns):
        x0 = left + k * (each + gap)
        scale = Scale(low, high, x0 + 6, x0 + each - 6)
        _dot_panel(drawing, scale, (x0, each, top, bottom), column, axis)
        for i, row in enumerate(rows):
            _dot_row(drawing, scale, top + step * (i + 0.5), step, row, column)
    return drawing.markup()


def _dot_panel(drawing: Svg, scale: Scale, box: tuple[float, float, float, float], title: str, axis: str) -> None:
    x0, width, top, bottom = box
    drawing.text(x0 + width / 2, top - 14, title, "t strong", "middle")
    for tick in scale.ticks(max(3, int(width / 60))):
        drawing.line(scale(tick), top, scale(tick), bottom, "grid")
        drawing.text(scale(tick), bottom + 15, show_tick(tick), "t small", "middle")
    drawing.line(x0, bottom, x0 + width, bottom, "axis")
    drawing.text(x0 + width / 2, bottom + 33, axis, "t small", "middle")


def _dot_row(drawing: Svg, scale: Scale, y: float, step: float, row: DotRow, column: str) -> None:
    null = row.nulls.get(column, math.nan)
    if math.isfinite(null):
        drawing.line(
            scale(null),
            y - step * 0.36,
            scale(null),
            y + step * 0.36,
            "null",
            f"{row.label}: mean of the null {show(null)}",
        )
    css = "c7" if row.control else "c0"
    dots = row.cells.get(column, ())
    mains = [dot for dot in dots if dot.kind == "main"]
    others = sorted((dot for dot in dots if dot.kind != "main"), key=lambda dot: dot.kind == "subject")
    for dot in others:
        size = 3.0 if dot.kind == "subject" else 2.2
        drawing.mark(scale(dot.value), y, 3 if row.control else 0, size, f"faint {css}", dot.tip)
    for i, dot in enumerate(mains):
        # Several equals (seeds, subjects) stand below each other, so that each interval can be read.
        place = y + (i + 0.5 - len(mains) / 2) * min(step * 0.8 / len(mains), 7)
        if math.isfinite(dot.low) and math.isfinite(dot.high):
            drawing.line(scale(dot.low), place, scale(dot.high), place, f"ci {css}", dot.tip)
        style, size = ("hollow" if row.control else "mark"), (5.0 if len(mains) == 1 else 3.2)
        drawing.mark(scale(dot.value), place, 3 if row.control else 0, size, f"{style} {css}", dot.tip)


def show_tick(value: float) -> str:
    """Return the label of a tick."""
    text = f"{value:.6g}"
    return text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Bar:
    """A bar with its interval and the dots behind it."""

    label: str
    estimate: float
    low: float
    high: float
    dots: Sequence[Dot]
    colour: int
    tip: str = ""


@dataclass(frozen=True)
class Reference:
    """A line across a panel: a control, or the untrained network."""

    label: str
    value: float
    dash: int = 0


@dataclass(frozen=True)
class BarPanel:
    """Bars of one region, the lines they are read against, and the noise ceiling."""

    title: str
    bars: Sequence[Bar]
    references: Sequence[Reference]
    ceiling: tuple[float, float] | None


def bar_panels(label: str, panels: Sequence[BarPanel], axis: str) -> Markup:
    """Draw one panel of bars per region on one scale, noise ceilings as bands, references as lines."""
    reach = [0.0]
    for panel in panels:
        reach += [v for bar in panel.bars for v in (bar.estimate, bar.low, bar.high, *(dot.value for dot in bar.dots))]
        reach += [ref.value for ref in panel.references] + list(panel.ceiling or ())
    low, high = domain(reach, margin=0.06)
    notes = 12 + CHARACTER * 0.92 * max([len(_note(ref)) for panel in panels for ref in panel.references] + [4])
    width = max([46 + 58.0 * len(panel.bars) for panel in panels] + [150.0])
    longest = max([len(bar.label) for panel in panels for bar in panel.bars] + [6])
    top, height = 30.0, 300.0
    below = 16 + min(longest, 26) * CHARACTER * 0.62
    drawing = Svg(52 + (width + notes + 26) * len(panels), top + height + below, label)
    for k, panel in enumerate(panels):
        x0 = 52 + k * (width + notes + 26)
        scale = Scale(low, high, top + height, top)
        _bar_panel(drawing, panel, scale, x0, width, axis if k == 0 else "")
    return drawing.markup()


def _note(reference: Reference) -> str:
    return f"{reference.label} {show(reference.value)}"


def _bar_panel(drawing: Svg, panel: BarPanel, scale: Scale, x0: float, width: float, axis: str) -> None:
    drawing.text(x0 + width / 2, 14, panel.title, "t strong", "middle")
    for tick in scale.ticks(6):
        drawing.line(x0, scale(tick), x0 + width, scale(tick), "grid")
        drawing.text(x0 - 6, scale(tick) + 4, show_tick(tick), "t small", "end")
    if axis:
        drawing.text(x0 - 42, (scale.start + scale.stop) / 2, axis, "t small", "middle", rotate=-90)
    if panel.ceiling is not None and all(math.isfinite(v) for v in panel.ceiling):
        bottom, top = panel.ceiling
        tip = f"noise ceiling {show(bottom)} to {show(top)}"
        drawing.rect(x0, scale(top), width, scale(bottom) - scale(top), "ceiling", tip)
        drawing.text(x0 + 5, scale(top) + 12, "noise ceiling", "t tiny")
    _references(drawing, panel.references, scale, x0, width)
    for i, bar in enumerate(panel.bars):
        _bar(drawing, bar, scale, x0 + 23 + 58.0 * (i + 0.5))
    drawing.line(x0, scale(0), x0 + width, scale(0), "axis")


def _references(drawing: Svg, references: Sequence[Reference], scale: Scale, x0: float, width: float) -> None:
    finite = sorted((ref for ref in references if math.isfinite(ref.value)), key=lambda ref: -ref.value)
    places = spread([scale(ref.value) for ref in finite], 13.0, scale.stop, scale.start)
    for ref, place in zip(finite, places, strict=True):
        y = scale(ref.value)
        drawing.line(x0, y, x0 + width, y, f"ref d{ref.dash % 4}", _note(ref))
        drawing.path([(x0 + width, y), (x0 + width + 6, place), (x0 + width + 9, place)], "leader")
        drawing.text(x0 + width + 12, place + 3.5, _note(ref), "t tiny")


def spread(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Move ascending places apart to at least `least`, as little as possible, inside `low` to `high`."""
    moved = list(places)
    for _ in range(200):
        apart = True
        for i, (a, b) in enumerate(pairwise(moved)):
            if b - a < least - 1e-6:
                middle = (a + b) / 2
                moved[i], moved[i + 1], apart = middle - least / 2, middle + least / 2, False
        if moved and moved[0] < low:
            moved = [v + low - moved[0] for v in moved]
        if moved and moved[-1] > high and moved[0] - (moved[-1] - high) >= low:
            moved = [v - (moved[-1] - high) for v in moved]
        if apart:
            break
    return moved


def _bar(drawing: Svg, bar: Bar, scale: Scale, x: float) -> None:
    css = f"c{bar.colour % COLOURS}"
    if math.isfinite(bar.estimate):
        top, bottom = sorted((scale(bar.estimate), scale(0)))
        drawing.rect(x - 18, top, 36, bottom - top, f"bar {css}", bar.tip)
    count = max(len(bar.dots), 1)
    for i, dot in enumerate(bar.dots):
        # Spread over the bar's width in a fixed order: no random jitter, so equal data give an equal picture.
        drawing.mark(x - 15 + 30 * (i + 0.5) / count, scale(dot.value), dot.shape, 2.1, f"faint {css}", dot.tip)
    if math.isfinite(bar.low) and math.isfinite(bar.high):
        drawing.line(x, scale(bar.low), x, scale(bar.high), "whisker")
    drawing.text(x + 5, scale.start + 14, shorten(bar.label, 26), "t small", "end", rotate=-38)


def strip_cell(
    points: Sequence[tuple[float, str, str]],
    nulls: Sequence[float],
    ceiling: tuple[float, float],
    ends: tuple[float, float],
    label: str,
    interval: tuple[float, float] = (math.nan, math.nan),
) -> Markup:
    """Draw every score of a row of the short verdict table: value, kind of its verdict, and tip of each point."""
    drawing = Svg(208, 24, label, "mini")
    scale = Scale(*ends, 6, 202)
    drawing.line(6, 12, 202, 12, "grid")
    if all(math.isfinite(v) for v in ceiling):
        tip = f"noise ceiling {show(ceiling[0])} to {show(ceiling[1])}"
        drawing.rect(scale(ceiling[0]), 3, scale(ceiling[1]) - scale(ceiling[0]), 18, "ceiling", tip)
    if ends[0] < 0 < ends[1]:
        drawing.line(scale(0), 3, scale(0), 21, "grid")
    for null in nulls:
        drawing.line(scale(null), 4, scale(null), 20, "null", f"mean of the null {show(null)}")
    if all(math.isfinite(v) for v in interval):
        tip = f"95 % interval {show(interval[0])} to {show(interval[1])}"
        drawing.line(scale(interval[0]), 12, scale(interval[1]), 12, "whisker", tip)
    style = {"above": (0, "mark c2"), "control": (3, "mark c1")}
    for value, kind, tip in points:
        shape, css = style.get(kind, (0, "hollow c7"))
        drawing.mark(scale(value), 12, shape, 4.0, css, tip)
    return drawing.markup()


def interval_cell(
    score: float,
    low: float,
    high: float,
    null: float,
    ceiling: tuple[float, float],
    ends: tuple[float, float],
    css: str,
    tip: str,
) -> Markup:
    """Draw the small interval of the verdict table: score and interval, mean of the null, noise ceiling."""
    drawing = Svg(168, 24, tip, "mini")
    scale = Scale(*ends, 6, 162)
    drawing.line(6, 12, 162, 12, "grid")
    if all(math.isfinite(v) for v in ceiling):
        drawing.rect(scale(ceiling[0]), 3, scale(ceiling[1]) - scale(ceiling[0]), 18, "ceiling", tip)
    if ends[0] < 0 < ends[1]:
        drawing.line(scale(0), 3, scale(0), 21, "grid")
    if math.isfinite(null):
        drawing.line(scale(null), 4, scale(null), 20, "null", tip)
    if math.isfinite(low) and math.isfinite(high):
        drawing.line(scale(low), 12, scale(high), 12, f"ci {css}", tip)
    drawing.mark(scale(score), 12, 0, 4.6, f"mark {css}", tip)
    return drawing.markup()
