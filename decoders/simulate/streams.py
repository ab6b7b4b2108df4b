"""Random streams of the phantom: each depends on its seed and its name alone, not on the order of calls."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the generator of a seed and a name, e.g. ``stream(0, "noise", subject, run)``."""
    return np.random.default_rng([seed, *(zlib.crc32(str(key).encode()) for key in keys)])
