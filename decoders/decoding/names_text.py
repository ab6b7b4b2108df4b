"""Rows of the text table for decoded names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.names import Samples


def text_rows(samples: Samples, unit: str, decoded: Sequence[str], model: str) -> list[dict[str, Any]]:
    """Return a row for each decoded block or volume, in the order of the samples.

    Parameters
    ----------
    samples : Samples
    unit : {"block", "volume"}
    decoded : sequence of str
        One text per block or volume.
    model : str
    """
    if unit == "volume":
        members: list[NDArray[Any]] = [np.array([index]) for index in range(len(samples.label))]
    else:
        members = [np.flatnonzero(samples.block == samples.block[index]) for index in samples.first]
    rows = []
    for inside, text in zip(members, decoded, strict=True):
        split = f"run-{samples.runs[samples.run[inside[0]]]}"
        rows.append(text_row(samples, inside, text, split, model))
    return rows


def text_row(samples: Samples, inside: NDArray[Any], decoded: str, split: str, model: str) -> dict[str, Any]:
    """Return the row of one text, decoded from the volumes `inside` (indices) of one block."""
    times, first = samples.time[inside], inside[0]
    return {
        "run": samples.runs[samples.run[first]],
        "split": split,
        "mode": "free",
        "onset": times[0],
        "duration": times[-1] - times[0] + samples.tr,
        "reference": samples.names[samples.label[first]],
        "decoded": decoded,
        "model": model,
    }
