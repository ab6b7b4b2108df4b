"""Maps with time on their axes: models x time, training time x testing time; what is significant is outlined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from decoders.report.curves import time_ticks
from decoders.report.figures import CHARACTER, shorten, show_tick
from decoders.report.heat import Floats, colour_bar
from decoders.report.images import indexed_uri
from decoders.report.svg import Scale, Svg
from decoders.report.volumes import outline

Mask = NDArray[np.bool_]
_WIDTH, _ROW, _TOP = 620.0, 15.0, 12.0


def reach_of(values: Floats) -> tuple[float, float]:
    """Return ends that lie evenly around zero and hold every finite value."""
    finite = np.abs(values[np.isfinite(values)])
    reach = float(finite.max()) if finite.size else 1.0
    return (-reach, reach) if reach > 0 else (-1.0, 1.0)


def edges_of(times: Floats) -> tuple[float, float]:
    """Return where the first pixel of a row of samples starts, and where the last one ends."""
    half = (times[-1] - times[0]) / (2 * (len(times) - 1)) if len(times) > 1 else 0.5
    return float(times[0] - half), float(times[-1] + half)


def raster(label: str, values: Floats, names: Sequence[str], times: Floats, marked: Mask, bar: str) -> Markup:
    """Draw one row of colours per model, time to the right.

    Parameters
    ----------
    label : str
        What a screen reader says.
    values : array of shape (n_models, n_times)
        nan is left empty.
    names : sequence of str
    times : array of shape (n_times,)
        Seconds since the onset, ascending and evenly spaced.
    marked : array of shape (n_models, n_times), bool
        Outlined.
    bar : str
        Label of the colour bar.
    """
    left = 20 + CHARACTER * max([len(shorten(name, 40)) for name in names] + [8])
    tall = _ROW * len(names)
    drawing = Svg(left + _WIDTH + 20, _TOP + tall + 92, label)
    scale = Scale(*edges_of(times), left, left + _WIDTH)
    ends = reach_of(values)
    drawing.image(left, _TOP, _WIDTH, tall, indexed_uri(values, *ends, "diverging"))
    if marked.any():
        drawing.raw_path(outline(marked, (_WIDTH / len(times), _ROW), (left, _TOP)), "edge")
    for i, name in enumerate(names):
        drawing.text(left - 8, _TOP + _ROW * (i + 0.5) + 4, shorten(name, 40), "t small", "end")
    if scale.low < 0 < scale.high:
        drawing.line(scale(0), _TOP, scale(0), _TOP + tall, "onset", "onset")
    time_ticks(drawing, scale, _TOP + tall)
    drawing.text(left + _WIDTH / 2, _TOP + tall + 35, "time since onset (ms)", "t small", "middle")
    colour_bar(drawing, left, _TOP + tall + 54, 170, ends, "diverging", bar)
    return drawing.markup()


def plane(label: str, values: Floats, times: Floats, marked: Mask, axes: tuple[str, str], bar: str) -> Markup:
    """Draw a matrix over two axes of time, the second upwards; the diagonal is drawn where both are equal.

    Parameters
    ----------
    label : str
    values : array of shape (n_times, n_times)
        First axis upwards, second to the right.
    times : array of shape (n_times,)
        Seconds since the onset, ascending and evenly spaced.
    marked : array of shape (n_times, n_times), bool
        Outlined.
    axes : (str, str)
        Names of the first axis (upwards) and of the second.
    bar : str
        Label of the colour bar.
    """
    edge, left = 360.0, 66.0
    drawing = Svg(left + edge + 120, _TOP + edge + 92, label)
    across = Scale(*edges_of(times), left, left + edge)
    up = Scale(*edges_of(times), _TOP + edge, _TOP)
    ends = reach_of(values)
    drawing.image(left, _TOP, edge, edge, indexed_uri(values[::-1], *ends, "diverging"))
    cell = edge / len(times)
    if marked.any():
        drawing.raw_path(outline(marked[::-1], (cell, cell), (left, _TOP)), "edge")
    drawing.line(left, _TOP + edge, left + edge, _TOP, "diagonal")
    for tick in up.ticks():
        drawing.line(left - 4, up(tick), left, up(tick), "axis")
        drawing.text(left - 8, up(tick) + 4, show_tick(round(tick * 1000, 6)), "t small", "end")
    for scale, line in ((across, (across(0), _TOP, across(0), _TOP + edge)), (up, (left, up(0), left + edge, up(0)))):
        if scale.low < 0 < scale.high:
            drawing.line(*line, "onset", "onset")
    time_ticks(drawing, across, _TOP + edge, 5)
    drawing.text(left + edge / 2, _TOP + edge + 35, axes[1], "t small", "middle")
    drawing.text(14, _TOP + edge / 2, axes[0], "t small", "middle", rotate=-90)
    colour_bar(drawing, left, _TOP + edge + 54, 170, ends, "diverging", bar)
    return drawing.markup()
