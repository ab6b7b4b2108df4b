"""Sensor maps: values over the head seen from above, nose up, left on the left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from decoders.report.blocks import show
from decoders.report.figures import shorten
from decoders.report.heat import Floats, colour_bar
from decoders.report.images import indexed_uri
from decoders.report.svg import Svg, number

Indices = NDArray[np.int64]
_PIXELS = 64
_RIM = 1.06  # radius of the head, in units of the outermost sensor
_TYPES = {"mag": "magnetometers", "grad": "gradiometers", "eeg": "EEG"}
# Sensors of one place (a magnetometer and two gradiometers of a triplet) lie this near to each other, in metres.
_SAME_PLACE = 0.004
_STEPS = (0.01, 0.02, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0)  # seconds between maps


def flat(positions: Floats) -> Floats:
    """Return sensors on a disc of radius 1: azimuthal equidistant projection from above.

    Parameters
    ----------
    positions : array of shape (n_sensors, 3)
        Head coordinates in metres: x to the right ear, y to the nose, z up. The centre of the projection is that of
        the sphere that fits the sensors best (least squares), as helmets do not lie around the origin.

    Returns
    -------
    array of shape (n_sensors, 2)
    """
    away = positions - _centre(positions)
    length = np.linalg.norm(away, axis=1)
    polar = np.arccos(np.clip(away[:, 2] / np.where(length > 0, length, 1.0), -1, 1))
    around = np.arctan2(away[:, 1], away[:, 0])
    points = polar[:, None] * np.stack([np.cos(around), np.sin(around)], axis=1)
    radius = float(np.nanmax(np.linalg.norm(points, axis=1), initial=0.0))
    return points / radius if radius > 0 else points


def _centre(positions: Floats) -> Floats:
    known = positions[np.isfinite(positions).all(axis=1)]
    if len(known) < 4:
        return np.zeros(3)
    # |p|² = 2 p·c + (r² - |c|²) is linear in the centre c.
    system = np.column_stack([2 * known, np.ones(len(known))])
    solution, _, rank, _ = np.linalg.lstsq(system, (known**2).sum(axis=1), rcond=None)
    centre: Floats = solution[:3]
    # Sensors in a plane fit any sphere: the origin is then as good as any.
    return centre if rank == 4 and np.linalg.norm(centre) < 0.2 else np.zeros(3)


def sensor_sets(positions: Floats, types: Sequence[str] = ()) -> list[tuple[str, Indices]]:
    """Return sensors that can be drawn on one map: of one type, and no two at one place.

    Parameters
    ----------
    positions : array of shape (n_sensors, 3)
        Rows that are not finite are left out.
    types : sequence of str
        "mag", "grad", "eeg"; empty where the types are not known.
    """
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    kinds = [str(kind) for kind in types] if len(types) == len(positions) else [""] * len(positions)
    found: list[tuple[str, Indices]] = []
    for kind in dict.fromkeys(kinds[i] for i in known):
        layers: list[list[int]] = []
        for i in (i for i in known if kinds[i] == kind):
            free = (k for k, layer in enumerate(layers) if not _occupied(positions, layer, int(i)))
            place = next(free, len(layers))
            layers += [[]] if place == len(layers) else []
            layers[place].append(int(i))
        words = _TYPES.get(kind, kind or "sensors")
        several = len(layers) > 1
        found += [(f"{words} {k + 1}" if several else words, np.array(layer)) for k, layer in enumerate(layers)]
    return found


def _occupied(positions: Floats, layer: Sequence[int], i: int) -> bool:
    return bool((np.linalg.norm(positions[list(layer)] - positions[i], axis=1) < _SAME_PLACE).any())


@dataclass(frozen=True)
class Head:
    """One map: sensors on the disc, their values, which of them are marked, and words for the pointer."""

    title: str
    points: Floats
    values: Floats
    marked: NDArray[np.bool_] | None = None
    names: Sequence[str] = field(default_factory=tuple)


def heads(
    label: str, rows: Sequence[tuple[str, Sequence[Head]]], scale: tuple[float, float, str, str], size: float = 92.0
) -> Markup:
    """Draw rows of sensor maps on one colour scale.

    Parameters
    ----------
    label : str
        What a screen reader says.
    rows : sequence of (str, sequence of Head)
        Name of each row and its maps.
    scale : (low, high, colour table, label of the bar)
    size : float
        Diameter of a head in pixels.
    """
    low, high, table_name, bar = scale
    across = max([len(maps) for _, maps in rows] + [1])
    step_x, step_y = size + 20, size * 1.07 + 46
    several = any(name for name, _ in rows)
    drawing = Svg(max(across * step_x + 8, 360), len(rows) * step_y + 40, label)
    for r, (name, maps) in enumerate(rows):
        y = r * step_y + (30 if several else 14)
        if name:
            drawing.text(2, y - 18, shorten(name, 60), "t small strong")
        for c, head in enumerate(maps):
            x = c * step_x + 8
            drawing.text(x + size / 2, y - 3, head.title, "t tiny", "middle")
            _head(drawing, head, (x, y + 2 + 0.07 * size, size), (low, high, table_name))
    colour_bar(drawing, 8, len(rows) * step_y + 6, 170, (low, high), table_name, bar)
    return drawing.markup()


def _head(drawing: Svg, head: Head, place: tuple[float, float, float], scale: tuple[float, float, str]) -> None:
    x, y, size = place
    radius, centre_x, centre_y = size / 2, x + size / 2, y + size / 2
    drawing.image(x, y, size, size, indexed_uri(interpolated(head.points, head.values), *scale), "smooth")
    # The pixels end in steps; a ring in the colour of the page rounds them off.
    drawing.add("circle", cx=centre_x, cy=centre_y, r=radius * 1.04 + 1, class_="rim", stroke_width=0.08 * radius + 2)
    nose = [(centre_x - 0.11 * size, y + 0.035 * size), (centre_x, y - 0.06 * size)]
    drawing.path([*nose, (centre_x + 0.11 * size, y + 0.035 * size)], "scalp")
    drawing.add("circle", cx=centre_x, cy=centre_y, r=radius, class_="scalp")
    spots = [(centre_x + px / _RIM * radius, centre_y - py / _RIM * radius) for px, py in head.points]
    marked = head.marked if head.marked is not None else np.zeros(len(spots), dtype=bool)
    for css, chosen in (("sensor", ~marked), ("sensor ring", marked), ("sensor on", marked)):
        # One path for all of them: a dot is a line without length and with round ends.
        steps = [f"M{number(a)} {number(b)}h.01" for (a, b), kept in zip(spots, chosen, strict=True) if kept]
        if steps:
            drawing.raw_path("".join(steps), css)
    for (a, b), name, value in zip(spots, head.names, head.values, strict=False):
        drawing.add("circle", cx=a, cy=b, r=5.0, class_="spot", data_tip=f"{name}: {show(float(value))}")


def interpolated(points: Floats, values: Floats) -> Floats:
    """Return values on a square grid over the head, row 0 at the nose.

    Linear between sensors (Delaunay), so that no colour lies beyond what was measured; beyond the outermost sensors
    the nearest one. Outside the head nan.

    Parameters
    ----------
    points : array of shape (n_sensors, 2)
        On the disc of radius 1.
    values : array of shape (n_sensors,)
        Sensors without a finite value are left out.
    """
    finite = np.isfinite(values) & np.isfinite(points).all(axis=1)
    if not finite.any():
        return np.full((_PIXELS, _PIXELS), np.nan)
    corners, weights = _blend(np.ascontiguousarray(points[finite], dtype=float).tobytes())
    found: Floats = np.full(_PIXELS * _PIXELS, np.nan)
    found[_inside()] = (values[finite][corners] * weights).sum(axis=1)
    return found.reshape(_PIXELS, _PIXELS)


def _grid() -> Floats:
    """Return the place of each pixel, row by row from the nose; the radius of the head is 1."""
    line = (np.arange(_PIXELS) + 0.5) / _PIXELS * 2 - 1
    x, y = np.meshgrid(line, -line)
    return np.column_stack([x.ravel(), y.ravel()])


def _inside() -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (_grid() ** 2).sum(axis=1) <= 1.05
    return inside


@lru_cache(maxsize=64)
def _blend(points: bytes) -> tuple[Indices, Floats]:
    """Return the sensors that each pixel of the head is mixed from, and their shares.

    A study draws the same sensors hundreds of times: their triangles are found once.

    Parameters
    ----------
    points : bytes
        Of a contiguous float64 array of shape (n_sensors, 2).

    Returns
    -------
    corners : array of int of shape (n_pixels, 3)
    weights : array of shape (n_pixels, 3)
    """
    from scipy.spatial import Delaunay, QhullError, cKDTree

    places = np.frombuffer(points).reshape(-1, 2)
    pixels = _grid()[_inside()] * _RIM
    corners = np.repeat(cKDTree(places).query(pixels)[1][:, None], 3, axis=1).astype(np.int64)
    weights = np.tile([1.0, 0.0, 0.0], (len(pixels), 1))
    try:
        triangles = Delaunay(places)
    except (QhullError, ValueError):
        # Fewer than three sensors, or all on one line: there is nothing between them, the nearest one stands.
        return corners, weights
    number = triangles.find_simplex(pixels)
    hit = number >= 0
    turn = triangles.transform[number[hit]]
    first = np.einsum("pij,pj->pi", turn[:, :2], pixels[hit] - turn[:, 2])
    shares = np.column_stack([first, 1 - first.sum(axis=1)])
    # Triangles without an area have no shares: the nearest sensor stays there.
    kept = np.isfinite(shares).all(axis=1)
    rows = np.flatnonzero(hit)[kept]
    corners[rows], weights[rows] = triangles.simplices[number[hit]][kept], shares[kept]
    return corners, weights


def even_times(times: Floats, most: int = 10) -> Indices:
    """Return the samples that are drawn: from the onset on, at one round distance, at most `most`.

    They depend on the times alone, never on the values: no best moment is chosen.
    """
    after = times[times >= -1e-9]
    if len(after) < 2:
        return np.arange(min(len(times), most))
    length = float(after[-1] - after[0])
    step = next((step for step in _STEPS if length / step < most), length / most)
    wanted = after[0] + step * np.arange(math.floor(length / step + 1e-9) + 1)
    return np.unique([int(np.abs(times - moment).argmin()) for moment in wanted])


def milliseconds(seconds: float) -> str:
    """Return a time in whole milliseconds, with its unit."""
    return f"{show(round(seconds * 1000))} ms"
