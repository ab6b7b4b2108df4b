"""What adapters share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError


def choose_variant(variant: str | None, known: Sequence[str], where: str | Path) -> str:
    """Return the variant, the first known one when none is asked for.

    Raises
    ------
    InputError
        It is not among the known ones.
    """
    if variant is None:
        return known[0]
    if variant not in known:
        expected = f"a variant among {', '.join(known)}"
        raise InputError(expected, f"'{variant}'", where, "Correct data.variant in the study.")
    return variant


def read_numbers(path: Path, n_columns: int | None = None) -> NDArray[np.float64]:
    """Read a table of numbers without a header.

    Returns
    -------
    array of shape (n_rows, n_columns)

    Raises
    ------
    InputError
        It is no such table, or has another number of columns.
    """
    try:
        values = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError("a table of numbers", f"'{error}'", path, "Fetch the data set again.") from error
    if n_columns is not None and values.shape[1] != n_columns:
        raise InputError(f"{n_columns} columns", f"{values.shape[1]}", path, "Fetch the data set again.")
    return values
