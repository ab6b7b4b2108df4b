"""A run as it comes from its reader: samples x features, before anything is taken out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Series:
    """Time series of one run.

    Attributes
    ----------
    data : array of shape (n_volumes, n_features), float32
        Bad features are already left out.
    kind : {"volume", "region", "surface"}
    n_file : int
        Volumes in the file, before any were dropped.
    names : array of str of shape (n_features,) or (0,)
    mask : array of shape (x, y, z), bool, or None
    affine : array of shape (4, 4) or None
    n_bad : int
        Features left out because they are constant or not finite.
    n_features : int
        Features before they were left out.
    excluded : str
        Why the run cannot be used; `data` is then empty.
    """

    data: NDArray[np.float32]
    kind: Literal["volume", "region", "surface"]
    n_file: int
    names: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=object))
    mask: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None
    n_bad: int = 0
    n_features: int = 0
    excluded: str = ""


def no_series(kind: Literal["volume", "region", "surface"], n_file: int, n_features: int, reason: str) -> Series:
    """Return the series of a run that cannot be used."""
    empty = np.zeros((0, 0), dtype=np.float32)
    return Series(empty, kind, n_file, n_bad=n_features, n_features=n_features, excluded=reason)
