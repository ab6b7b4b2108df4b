"""Curves over the time of a trial: intervals as bands, the noise ceiling behind them, significant clusters below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from decoders.report.figures import CHARACTER, COLOURS, shorten, show_tick
from decoders.report.lines import Series, end_names
from decoders.report.svg import Scale, Svg, domain, nice_ticks

_NAME = 34  # characters of a name at the end of its line
_LEFT, _TOP, _ROW = 58.0, 16.0, 13.0


@dataclass(frozen=True)
class Span:
    """A stretch of time in seconds, and what the pointer reads there."""

    start: float
    stop: float
    tip: str


def time_chart(
    label: str,
    series: Sequence[Series],
    axis: str,
    *,
    ceiling: Series | None = None,
    spans: Mapping[str, Sequence[Span]] | None = None,
    size: tuple[float, float] = (640, 300),
) -> Markup:
    """Draw curves over time.

    Parameters
    ----------
    label : str
        What a screen reader says.
    series : sequence of Series
        x in seconds since the onset. The interval is a band, where there is one.
    axis : str
        Name of the score.
    ceiling : Series, optional
        Lower and upper bound of the noise ceiling, drawn behind everything.
    spans : mapping of str to sequence of Span
        Significant clusters by the label of their series: a row of bars each, below the curves.
    size : (float, float)
        Width and height of the plot in pixels.
    """
    rows = [one for one in series if (spans or {}).get(one.label)]
    names = 18 + 1.1 * CHARACTER * max([len(shorten(one.label, _NAME)) for one in series] + [8])
    width, height = size
    below = 6 + _ROW * len(rows)
    drawing = Svg(_LEFT + width + names, _TOP + height + below + 42, label)
    x_scale, y_scale = _scales(series, ceiling, size)
    _frame(drawing, x_scale, y_scale, below, axis)
    if ceiling is not None:
        drawing.path(_band(ceiling, x_scale, y_scale), "ceiling", closed=True, tip=ceiling.label)
    for one in series:
        if one.low and one.high:
            drawing.path(_band(one, x_scale, y_scale), f"shade c{one.colour % COLOURS}", closed=True)
    for one in series:
        points = [(x_scale(x), y_scale(y)) for x, y in zip(one.x, one.y, strict=True)]
        drawing.path(points, f"line c{one.colour % COLOURS} d{one.dash % 4}", tip=one.label)
    for i, one in enumerate(rows):
        _bars(drawing, one, (spans or {})[one.label], x_scale, _TOP + height + 6 + _ROW * i)
    end_names(drawing, series, None, y_scale, _LEFT + width)
    return drawing.markup()


def _scales(series: Sequence[Series], ceiling: Series | None, size: tuple[float, float]) -> tuple[Scale, Scale]:
    everything = [*series, *([ceiling] if ceiling is not None else [])]
    times = [x for one in everything for x in one.x if math.isfinite(x)]
    reach = [v for one in everything for v in (*one.y, *one.low, *one.high)]
    width, height = size
    low, high = domain(reach, (0.0,), margin=0.06)
    return (
        Scale(min(times, default=0.0), max(times, default=1.0), _LEFT, _LEFT + width),
        Scale(low, high, _TOP + height, _TOP),
    )


def _frame(drawing: Svg, x_scale: Scale, y_scale: Scale, below: float, axis: str) -> None:
    bottom, left, right = y_scale.start, x_scale.start, x_scale.stop
    for tick in y_scale.ticks():
        drawing.line(left, y_scale(tick), right, y_scale(tick), "grid")
        drawing.text(left - 7, y_scale(tick) + 4, show_tick(tick), "t small", "end")
    if y_scale.low <= 0 <= y_scale.high:
        drawing.line(left, y_scale(0), right, y_scale(0), "axis")
    if x_scale.low < 0 < x_scale.high:
        drawing.line(x_scale(0), _TOP, x_scale(0), bottom + below, "onset", "onset")
    time_ticks(drawing, x_scale, bottom + below)
    drawing.text((left + right) / 2, bottom + below + 35, "time since onset (ms)", "t small", "middle")
    drawing.text(14, (bottom + _TOP) / 2, axis, "t small", "middle", rotate=-90)


def time_ticks(drawing: Svg, scale: Scale, y: float, count: int = 8, css: str = "t small") -> None:
    """Draw a horizontal axis of times: seconds on the scale, milliseconds in the words."""
    drawing.line(scale.start, y, scale.stop, y, "axis")
    for tick in nice_ticks(scale.low, scale.high, count):
        drawing.line(scale(tick), y, scale(tick), y + 4, "axis")
        drawing.text(scale(tick), y + 16, show_tick(round(tick * 1000, 6)), css, "middle")


def _band(one: Series, x_scale: Scale, y_scale: Scale) -> list[tuple[float, float]]:
    """Return the outline of an interval; where it is unknown there is no band."""
    known = [
        (x, low, high)
        for x, low, high in zip(one.x, one.low, one.high, strict=True)
        if math.isfinite(low) and math.isfinite(high)
    ]
    there = [(x_scale(x), y_scale(high)) for x, _, high in known]
    return there + [(x_scale(x), y_scale(low)) for x, low, _ in reversed(known)]


def _bars(drawing: Svg, one: Series, spans: Sequence[Span], x_scale: Scale, y: float) -> None:
    css = f"c{one.colour % COLOURS}"
    for span in spans:
        start, stop = x_scale(max(span.start, x_scale.low)), x_scale(min(span.stop, x_scale.high))
        # A cluster of one sample has no length, but must be seen.
        drawing.rect(start - 1, y + 3, max(stop - start, 1.0) + 2, _ROW - 6, f"span {css}", span.tip)
    drawing.mark(x_scale.stop + 6, y + _ROW / 2, one.colour, 2.8, f"mark {css}")
    drawing.text(x_scale.stop + 13, y + _ROW / 2 + 4, shorten(one.label, _NAME), "t tiny")
