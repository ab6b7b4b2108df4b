"""Rendered pictures: six shapes in two families, in any colour, texture, size, place and rotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
PICTURE_PX = 64
TEXTURES = ("plain", "stripes", "checks")


def _disc(u: Plane, v: Plane) -> Plane:
    return 0.8 - np.hypot(u, v)


def _ring(u: Plane, v: Plane) -> Plane:
    return 0.22 - np.abs(np.hypot(u, v) - 0.75)


def _crescent(u: Plane, v: Plane) -> Plane:
    return np.minimum(1.0 - np.hypot(u, v), np.hypot(u - 0.55, v) - 0.75)


def _triangle(u: Plane, v: Plane) -> Plane:
    sides = [u * np.cos(a) + v * np.sin(a) for a in 2 * np.pi * np.arange(3) / 3]
    return 0.52 - np.maximum.reduce(sides)


def _star(u: Plane, v: Plane) -> Plane:
    half = np.pi / 5
    angle = np.abs((np.arctan2(v, u) + half) % (2 * half) - half)
    # Straight edge from the tip (1, 0) to the notch between two tips.
    x, y = 0.42 * np.cos(half), 0.42 * np.sin(half)
    edge = y / (np.cos(angle) * y - np.sin(angle) * (x - 1))
    return edge - np.hypot(u, v)


def _cross(u: Plane, v: Plane) -> Plane:
    bars = [np.minimum(0.27 - np.abs(a), 1.0 - np.abs(b)) for a, b in ((u, v), (v, u))]
    return np.maximum(*bars)


# Positive inside. Order and family define the category geometry.
SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc, "triangle": _triangle, "ring": _ring, "star": _star, "crescent": _crescent, "cross": _cross,
}  # fmt: skip
ROUND = frozenset({"disc", "ring", "crescent"})


@dataclass(frozen=True)
class Look:
    """All of a picture but its shape: what a category must be told apart from.

    Attributes
    ----------
    place : (float, float)
        Centre, in half widths of the picture.
    size : float
        Radius, in half widths.
    angle : float
        Radians.
    colours : array of shape (2, 3)
        Ground and shape, RGB from 0 to 1.
    texture : str
        One of `TEXTURES`.
    """

    place: tuple[float, float]
    size: float
    angle: float
    colours: NDArray[np.float64]
    texture: str


def draw_look(texture: str, rng: np.random.Generator) -> Look:
    """Draw a look at random; ground and shape differ in brightness."""
    x, y = rng.uniform(-0.2, 0.2, 2)
    colours = rng.uniform(0.0, 1.0, (2, 3))
    dark = rng.integers(2)
    colours[dark], colours[1 - dark] = colours[dark] * 0.4, 0.6 + colours[1 - dark] * 0.4
    return Look(
        (float(x), float(y)), float(rng.uniform(0.45, 0.75)), float(rng.uniform(0, 2 * np.pi)), colours, texture
    )


def render(shape: str, look: Look, pixels: int = PICTURE_PX) -> NDArray[np.uint8]:
    """Render a picture.

    Parameters
    ----------
    shape : str
        Key of `SHAPES`.
    look : Look
    pixels : int
        Edge length.

    Returns
    -------
    array of shape (pixels, pixels, 3), uint8
    """
    axis = (np.arange(pixels) + 0.5) / pixels * 2 - 1
    x, y = np.meshgrid(axis - look.place[0], axis - look.place[1])
    c, s = np.cos(look.angle), np.sin(look.angle)
    u, v = (c * x + s * y) / look.size, (c * y - s * x) / look.size
    # An edge about one pixel wide: pictures are antialiased.
    cover = np.clip(SHAPES[shape](u, v) * look.size * pixels / 2 + 0.5, 0, 1)
    shade = 1 - 0.45 * _texture(look.texture, u, v)
    inner = look.colours[1] * shade[..., None]
    picture = look.colours[0] * (1 - cover[..., None]) + inner * cover[..., None]
    return np.round(picture * 255).astype(np.uint8)


def _texture(name: str, u: Plane, v: Plane) -> Plane:
    if name == "stripes":
        return (np.sin(12 * u) > 0).astype(float)
    if name == "checks":
        return ((np.sin(10 * u) > 0) ^ (np.sin(10 * v) > 0)).astype(float)
    return np.zeros_like(u)
