"""Pictures inside the page: PNG bytes of our own, colour tables that colour-blind readers can follow."""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]


def png(pixels: Rgb) -> bytes:
    """Encode pixels as PNG; equal pixels give equal bytes.

    Parameters
    ----------
    pixels : array of shape (n_rows, n_columns), (…, 3) or (…, 4), uint8
        Grey, RGB or RGBA.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"pixels must be uint8 of shape (rows, columns[, 3 or 4]), got {pixels.dtype} {pixels.shape}")
    rows, columns = pixels.shape[:2]
    kind = {1: 0, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    flat = np.ascontiguousarray(pixels).reshape(rows, -1)
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), flat], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def data_uri(pixels: Rgb) -> str:
    """Return pixels as a ``data:image/png`` address."""
    return _uri(png(pixels))


def _uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


@cache
def table(name: str) -> Rgb:
    """Return 256 colours, shape (256, 3): "viridis", "magma", "cividis", or our "diverging" (blue to vermilion)."""
    if name == "diverging":
        return _diverging()
    from matplotlib import colormaps

    return np.ascontiguousarray(colormaps[name](np.arange(256), bytes=True)[:, :3])


def _diverging() -> Rgb:
    # Ends are Okabe and Ito's blue and vermilion: red-green blind readers tell them apart.
    anchors = np.array([[0, 68, 136], [86, 160, 211], [243, 243, 240], [232, 144, 74], [176, 60, 0]], float)
    place = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(place, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def colour(values: NDArray[np.float64], low: float, high: float, name: str) -> Rgb:
    """Colour values between `low` and `high`; what is not finite becomes transparent.

    Returns
    -------
    array of shape (…, 4), uint8
    """
    span = high - low if high > low else 1.0
    finite = np.isfinite(values)
    place = np.clip((np.where(finite, values, low) - low) / span, 0, 1)
    rgb = table(name)[(place * 255).round().astype(int)]
    return np.concatenate([rgb, np.where(finite, 255, 0).astype(np.uint8)[..., None]], axis=-1)


def indexed_uri(values: NDArray[np.float64], low: float, high: float, name: str) -> str:
    """Return coloured values as a ``data:image/png`` address with a palette; what is not finite is transparent.

    A palette takes a byte per pixel instead of four.
    """
    span = high - low if high > low else 1.0
    finite = np.isfinite(values)
    place = np.clip((np.where(finite, values, low) - low) / span, 0, 1)
    levels = np.where(finite, 1 + (place * 254).round(), 0).astype(np.uint8)
    colours = table(name)[(np.arange(255) / 254 * 255).round().astype(int)]
    palette = np.concatenate([np.zeros((1, 3), np.uint8), colours]).tobytes()
    rows, columns = levels.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), levels], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"tRNS", b"\0"),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    return _uri(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks))


def packed(data: bytes) -> str:
    """Return bytes deflated (zlib) and in base64, as the page's script unpacks them."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
