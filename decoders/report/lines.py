"""Lines over a number: training curves, identification by window length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from decoders.report.blocks import show
from decoders.report.figures import CHARACTER, COLOURS, Reference, shorten, show_tick, spread
from decoders.report.svg import Scale, Svg, domain, nice_ticks


@dataclass(frozen=True)
class Series:
    """A line; `dash` and `colour` tell it apart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dash: int = 0
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marks: bool = False


def line_chart(
    label: str,
    series: Sequence[Series],
    axes: tuple[str, str],
    *,
    band: Series | None = None,
    level: Reference | None = None,
    fixed: Sequence[float] = (),
    size: tuple[float, float] = (560, 280),
    log_x: bool = False,
) -> Markup:
    """Draw lines with their names at the right end, a band (the null) and a level (chance)."""

    def place(v: float) -> float:
        return math.log2(v) if log_x else v

    everything = [*series, *([band] if band else [])]
    xs = [place(v) for s in everything for v in s.x]
    ys = [v for s in everything for v in (*s.y, *s.low, *s.high)] + ([level.value] if level else [])
    names = 16 + 1.12 * CHARACTER * max(
        [len(shorten(s.label, 30)) for s in series] + [len(level.label) if level else 0]
    )
    left, top, width, height = 54.0, 14.0, *size
    drawing = Svg(left + width + names, top + height + 44, label)
    x_scale = Scale(*domain(xs, margin=0.02), left, left + width)
    y_scale = Scale(*domain(ys, fixed), top + height, top)
    ticks = sorted({v for s in everything for v in s.x}) if log_x else nice_ticks(x_scale.low, x_scale.high, 7)
    for tick in y_scale.ticks():
        drawing.line(left, y_scale(tick), left + width, y_scale(tick), "grid")
        drawing.text(left - 6, y_scale(tick) + 4, show_tick(tick), "t small", "end")
    for tick in ticks:
        drawing.text(x_scale(place(tick)), top + height + 16, show_tick(tick), "t small", "middle")
    if band:
        edge = [(x_scale(place(x)), y_scale(y)) for x, y in zip(band.x, band.high, strict=True)]
        edge += [(x_scale(place(x)), y_scale(y)) for x, y in zip(reversed(band.x), reversed(band.low), strict=True)]
        drawing.path(edge, "band", closed=True, tip=band.label)
    if level:
        drawing.line(left, y_scale(level.value), left + width, y_scale(level.value), "ref d1", level.label)
    drawing.line(left, top + height, left + width, top + height, "axis")
    drawing.text(left + width / 2, top + height + 36, axes[0], "t small", "middle")
    drawing.text(13, top + height / 2, axes[1], "t small", "middle", rotate=-90)
    for one in series:
        _line(drawing, one, [(x_scale(place(x)), y_scale(y)) for x, y in zip(one.x, one.y, strict=True)], y_scale)
    end_names(drawing, series, level, y_scale, left + width)
    return drawing.markup()


def _line(drawing: Svg, one: Series, points: list[tuple[float, float]], y_scale: Scale) -> None:
    css = f"c{one.colour % COLOURS}"
    drawing.path(points, f"line {css} d{one.dash % 4}")
    for i, (x, y) in enumerate(points if one.marks else []):
        if one.low and one.high and math.isfinite(one.low[i]) and math.isfinite(one.high[i]):
            drawing.line(x, y_scale(one.low[i]), x, y_scale(one.high[i]), f"ci {css}")
        drawing.mark(x, y, one.colour, 4, f"mark {css}", f"{one.label}: {show(one.y[i])}")


def end_names(drawing: Svg, series: Sequence[Series], level: Reference | None, y_scale: Scale, x: float) -> None:
    """Write the name of every line at its right end, moved apart where ends are near each other."""
    ends = [
        (next((v for v in reversed(s.y) if math.isfinite(v)), math.nan), s.label, f"t small name c{s.colour % COLOURS}")
        for s in series
    ]
    if level:
        ends.append((level.value, level.label, "t small muted"))
    named: dict[str, tuple[float, str, str]] = {}
    for end in ends:
        if math.isfinite(end[0]) and end[1]:
            named.setdefault(end[1], end)
    ordered = sorted(named.values(), key=lambda end: -end[0])
    places = spread([y_scale(value) for value, _, _ in ordered], 13.5, y_scale.stop, y_scale.start)
    for (_, name, css), place in zip(ordered, places, strict=True):
        drawing.text(x + 8, place + 4, shorten(name, 30), css)
