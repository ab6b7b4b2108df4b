"""A small SVG writer: equal calls give equal bytes, colours come from the page's style sheet.

Shapes carry classes, not colours, so that one drawing serves the light theme, the dark theme and print.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from markupsafe import Markup

# Characters that XML cannot hold would make a downloaded SVG unreadable.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: object) -> str:
    """Return text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", str(text))


def escape(text: object) -> str:
    """Return text escaped for HTML and XML, in elements and in attributes."""
    return html.escape(clean(text), quote=True)


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class Svg:
    """A drawing of a given size in CSS pixels.

    Parameters
    ----------
    width, height : float
        Size of the view box.
    label : str
        What a screen reader says.
    css : str
        Class of the root element.
    """

    def __init__(self, width: float, height: float, label: str, css: str = "chart") -> None:
        self.width, self.height = width, height
        self._label, self._css = label, css
        self._parts: list[str] = []

    def add(self, tag: str, text: object | None = None, **attributes: object) -> None:
        """Add an element; underscores of attribute names become hyphens, ``None`` is left out."""
        pairs = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, float) else escape(value)}"'
            for name, value in attributes.items()
            if value is not None
        )
        self._parts.append(f"<{tag}{pairs}/>" if text is None else f"<{tag}{pairs}>{escape(text)}</{tag}>")

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str, tip: str | None = None) -> None:
        """Add a straight line."""
        self.add("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=css, data_tip=tip)

    def rect(self, x: float, y: float, width: float, height: float, css: str, tip: str | None = None) -> None:
        """Add a rectangle; negative sizes are drawn as none."""
        self.add(
            "rect",
            x=float(x),
            y=float(y),
            width=float(max(width, 0)),
            height=float(max(height, 0)),
            class_=css,
            data_tip=tip,
        )

    def text(self, x: float, y: float, text: object, css: str = "t", anchor: str = "start", rotate: float = 0) -> None:
        """Add a line of text."""
        turn = f"rotate({number(rotate)} {number(x)} {number(y)})" if rotate else None
        self.add("text", text, x=float(x), y=float(y), class_=css, text_anchor=anchor, transform=turn)

    def path(
        self, points: Sequence[tuple[float, float]], css: str, closed: bool = False, tip: str | None = None
    ) -> None:
        """Add a polyline; points that are not finite break it."""
        steps: list[str] = []
        pen_up = True
        for x, y in points:
            if not (math.isfinite(x) and math.isfinite(y)):
                pen_up = True
                continue
            steps.append(f"{'M' if pen_up else 'L'}{number(x)} {number(y)}")
            pen_up = False
        if steps:
            self.add("path", d="".join(steps) + ("Z" if closed else ""), class_=css, data_tip=tip)

    def raw_path(self, d: str, css: str, tip: str | None = None, transform: str | None = None) -> None:
        """Add a path from its own description."""
        self.add("path", d=d, class_=css, data_tip=tip, transform=transform)

    def mark(self, x: float, y: float, shape: int, size: float, css: str, tip: str | None = None) -> None:
        """Add a marker; its shape tells series apart without colour.

        Shapes: 0 circle, 1 square, 2 triangle, 3 diamond, 4 triangle downwards, 5 cross.
        """
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        r = size
        corners = {
            1: [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
            2: [(0, -1.15), (1.05, 0.8), (-1.05, 0.8)],
            3: [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
            4: [(0, 1.15), (1.05, -0.8), (-1.05, -0.8)],
            5: [
                (-1, -0.35),
                (-0.35, -0.35),
                (-0.35, -1),
                (0.35, -1),
                (0.35, -0.35),
                (1, -0.35),
                (1, 0.35),
                (0.35, 0.35),
                (0.35, 1),
                (-0.35, 1),
                (-0.35, 0.35),
                (-1, 0.35),
            ],
        }.get(shape % 6)
        if corners is None:
            self.add("circle", cx=float(x), cy=float(y), r=float(r), class_=css, data_tip=tip)
        else:
            self.path([(x + r * a, y + r * b) for a, b in corners], css, closed=True, tip=tip)

    def image(self, x: float, y: float, width: float, height: float, uri: str, css: str = "pix") -> None:
        """Add an embedded picture, pixels kept sharp."""
        self.add(
            "image",
            x=float(x),
            y=float(y),
            width=float(width),
            height=float(height),
            href=uri,
            class_=css,
            preserveAspectRatio="none",
            image_rendering="pixelated",
        )

    def open_group(self, css: str | None = None, transform: str | None = None, **attributes: object) -> None:
        """Open a group."""
        pairs = {"class": css, "transform": transform, **attributes}
        text = "".join(
            f' {key.replace("_", "-")}="{escape(value)}"' for key, value in pairs.items() if value is not None
        )
        self._parts.append(f"<g{text}>")

    def close_group(self) -> None:
        """Close the group that was opened last."""
        self._parts.append("</g>")

    def markup(self) -> Markup:
        """Return the drawing as an ``<svg>`` element that scales with its column."""
        size = (
            f'viewBox="0 0 {number(self.width)} {number(self.height)}" width="{number(self.width)}" '
            f'height="{number(self.height)}"'
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{escape(self._css)}" {size} role="img" '
            f'aria-label="{escape(self._label)}">'
        )
        return Markup(head + "".join(self._parts) + "</svg>")


class Scale:
    """A linear map from values to pixels.

    Parameters
    ----------
    low, high : float
        Ends of the values.
    start, stop : float
        Pixels of these ends; ``start > stop`` for an axis that points up.
    """

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values inside the scale."""
        return nice_ticks(self.low, self.high, count)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers between `low` and `high`."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def domain(values: Sequence[float], include: Sequence[float] = (), margin: float = 0.04) -> tuple[float, float]:
    """Return ends that hold all finite values, with a margin beyond the data."""
    finite = [v for v in [*values, *include] if v is not None and math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    pad = (high - low or abs(high) or 1.0) * margin
    # Ends that are asked for (0, 1, chance) stay where they are.
    return (low if low in include else low - pad), (high if high in include else high + pad)
