"""Matrices and maps as SVG: pixels are embedded pictures, everything around them is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from decoders.report.blocks import show
from decoders.report.figures import CHARACTER, shorten, show_tick
from decoders.report.images import colour, data_uri, indexed_uri, table
from decoders.report.svg import Svg, nice_ticks
from decoders.report.volumes import Volume, crop, outline, slice_choice

Floats = NDArray[np.float64]


def colour_bar(
    drawing: Svg, x: float, y: float, width: float, ends: tuple[float, float], name: str, label: str
) -> None:
    """Draw a horizontal colour bar with its ticks and its unit."""
    strip = np.repeat(table(name)[None, :, :], 2, axis=0)
    drawing.image(x, y, width, 10, data_uri(strip))
    for tick in nice_ticks(*ends, 4):
        place = x + (tick - ends[0]) / ((ends[1] - ends[0]) or 1) * width
        drawing.line(place, y + 10, place, y + 14, "axis")
        drawing.text(place, y + 25, show_tick(tick), "t small", "middle")
    drawing.text(x + width + 10, y + 9, label, "t small")


def matrix(
    label: str,
    values: Floats,
    names: tuple[Sequence[str], Sequence[str]],
    axes: tuple[str, str],
    scale: tuple[float, float, str, str],
    notes: Sequence[Sequence[str]] | None = None,
) -> Markup:
    """Draw a small matrix with its values written in the cells.

    Parameters
    ----------
    label : str
        What a screen reader says.
    values : array of shape (n_rows, n_columns)
        nan is left empty.
    names : (row names, column names)
    axes : (name of the rows, name of the columns)
    scale : (low, high, colour table, label of the bar)
    notes : array of str of shape (n_rows, n_columns), optional
        A second line in each cell.
    """
    low, high, table_name, bar = scale
    rows, columns = values.shape
    cell = 40.0 if max(rows, columns) <= 14 else 26.0
    width = cell * (1.35 if notes else 1.0)
    left = 30 + CHARACTER * max([len(shorten(n, 34)) for n in names[0]] + [4])
    top = 30 + CHARACTER * 0.72 * max([len(shorten(n, 30)) for n in names[1]] + [4])
    right = CHARACTER * 0.6 * len(shorten(names[1][-1], 30)) if columns else 0
    drawing = Svg(max(left + columns * width + right, left + 330), top + rows * cell + 58, label)
    pixels = colour(values, low, high, table_name)
    drawing.image(left, top, columns * width, rows * cell, data_uri(pixels))
    for r in range(rows):
        drawing.text(left - 7, top + cell * (r + 0.5) + 4, shorten(names[0][r], 34), "t small", "end")
        for c in range(columns):
            if np.isfinite(values[r, c]) and cell >= 40:
                _cell_text(
                    drawing,
                    (left + width * (c + 0.5), top + cell * (r + 0.5)),
                    values[r, c],
                    notes[r][c] if notes else "",
                    pixels[r, c],
                )
    for c in range(columns):
        drawing.text(left + width * (c + 0.5), top - 7, shorten(names[1][c], 30), "t small", "start", rotate=-40)
    drawing.text(12, top + rows * cell / 2, axes[0], "t small muted", "middle", rotate=-90)
    drawing.text(left + columns * width / 2, top + rows * cell + 16, axes[1], "t small muted", "middle")
    colour_bar(drawing, left, top + rows * cell + 28, 170, (low, high), table_name, bar)
    return drawing.markup()


def _cell_text(drawing: Svg, place: tuple[float, float], value: float, note: str, rgba: NDArray[np.uint8]) -> None:
    bright = float(rgba[:3] @ np.array([0.299, 0.587, 0.114])) > 140
    css = "t tiny on-bright" if bright else "t tiny on-dark"
    drawing.text(place[0], place[1] + (0 if note else 4), show(round(float(value), 2) + 0.0, 2), css, "middle")
    if note:
        drawing.text(place[0], place[1] + 13, note, css, "middle")


def square(pairs: Floats) -> Floats:
    """Return the square matrix of a condensed one, nan on the diagonal."""
    from scipy.spatial.distance import squareform

    full: Floats = squareform(pairs, checks=False).astype(float)
    np.fill_diagonal(full, np.nan)
    return full


def percentiles(pairs: Floats) -> Floats:
    """Return the rank of each dissimilarity within its RDM, from 0 to 1: one scale for every unit."""
    from scipy.stats import rankdata

    ranks = np.full(pairs.shape, np.nan)
    finite = np.isfinite(pairs)
    count = int(finite.sum())
    ranks[finite] = (rankdata(pairs[finite]) - 1) / max(count - 1, 1)
    return ranks


def _two_lines(name: str) -> tuple[str, str]:
    first, separator, rest = name.partition(": " if ": " in name else ", ")
    return (rest, first) if separator == ": " else (first, rest)


def _thin(values: Floats, most: int = 400) -> Floats:
    """Every k-th row and column of a matrix that is larger than it is drawn."""
    step = math.ceil(len(values) / most)
    return values[::step, ::step]


def rdm_wall(
    label: str, rdms: Sequence[tuple[str, Floats]], size: float = 150.0
) -> tuple[Markup, list[dict[str, float | str]]]:
    """Draw RDMs in one order and on one scale (rank percentile).

    Parameters
    ----------
    label : str
    rdms : sequence of (name, array of shape (n_pairs,))
    size : float
        Edge of one matrix in pixels.

    Returns
    -------
    markup : Markup
    boxes : list of dict
        Name, place and edge of each matrix, for the pointer.
    """
    across = min(len(rdms), 6) or 1
    down = math.ceil(len(rdms) / across)
    gap, head = 18.0, 36.0
    drawing = Svg(across * (size + gap) - gap + 4, down * (size + head + 10) + 40, label)
    boxes: list[dict[str, float | str]] = []
    for i, (name, pairs) in enumerate(rdms):
        x, y = (i % across) * (size + gap) + 2, (i // across) * (size + head + 10) + head
        for line, words in enumerate(_two_lines(name)):
            drawing.text(
                x, y - 21 + 14 * line, shorten(words, int(size / 6.0)), "t small muted" if line else "t small strong"
            )
        drawing.image(x, y, size, size, indexed_uri(_thin(square(percentiles(pairs))), 0, 1, "viridis"))
        drawing.rect(x, y, size, size, "frame")
        boxes.append({"name": name, "x": x, "y": y, "size": size})
    colour_bar(
        drawing,
        12,
        down * (size + head + 10) + 10,
        170,
        (0.0, 1.0),
        "viridis",
        "rank of the dissimilarity within its RDM",
    )
    return drawing.markup(), boxes


def mosaic(
    label: str, volume: Volume, unit: str, truth: NDArray[np.bool_] | None = None, cut: float | None = None
) -> Markup:
    """Draw axial slices of a map, left on the left, front on top.

    Parameters
    ----------
    label : str
    volume : Volume
    unit : str
        Name and unit of the values.
    truth : array of shape (x, y, z), bool, optional
        Planted voxels, outlined.
    cut : float, optional
        Null maximum: voxels above it are outlined.
    """
    inside = np.isfinite(volume.values)
    chosen = slice_choice(inside)
    xs, ys = crop(inside)
    wide, tall = xs.stop - xs.start, ys.stop - ys.start
    # Few slices are drawn large.
    zoom = max(1.0, min(9.0, (112.0 if len(chosen) > 6 else 200.0) / max(wide, 1)))
    across = max(1, min(len(chosen), 8))
    down = math.ceil(len(chosen) / across)
    step_x, step_y = wide * zoom + 10, tall * zoom + 22
    drawing = Svg(max(across * step_x, 330 + CHARACTER * len(unit)), down * step_y + 52, label)
    finite = volume.values[inside]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    for i, z in enumerate(chosen):
        x, y = (i % across) * step_x, (i // across) * step_y + 14
        plane = volume.values[xs, ys, z].T[::-1]
        drawing.text(
            x + wide * zoom / 2, y - 3, f"z {show(float((volume.affine @ [0, 0, z, 1])[2]), 0)} mm", "t tiny", "middle"
        )
        drawing.image(x, y, wide * zoom, tall * zoom, indexed_uri(plane, low, high, "viridis"))
        move = f"translate({x:g} {y:g}) scale({zoom:g})"
        if cut is not None and (above := np.nan_to_num(plane, nan=-np.inf) > cut).any():
            drawing.raw_path(outline(above), "cut", transform=move)
        if truth is not None and (planted := truth[xs, ys, z].T[::-1]).any():
            drawing.raw_path(outline(planted), "truth", transform=move)
    drawing.text(0, 9, "L", "t tiny strong")
    foot = down * step_y + 18
    colour_bar(drawing, 12, foot, 170, (low, high), "viridis", unit)
    if truth is not None and truth.any():
        x = 200 + CHARACTER * len(unit)
        drawing.rect(x, foot, 11, 11, "truth-key")
        drawing.text(x + 18, foot + 10, "planted voxels", "t small")
    return drawing.markup()
