"""Features of the study's pictures, at every size of the settings, as one file per network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from decoders.models.pictures import MAX_POSITIONS, picture_features
from decoders.store.arrays import Array, write_arrays

NATIVE = "native"
DEFINITION = (
    "Outputs of each block in eval mode. Convolutional layers: average-pooled to at most "
    f"{MAX_POSITIONS} x {MAX_POSITIONS} positions, then flattened (channel, row, column); <layer>_pooled: mean over "
    "all positions. Pictures are resized bilinearly with antialiasing and standardised by the CIFAR-10 constants."
)


def size_name(size: int) -> str:
    """Return the name of a size: pixels, or "native" for 0."""
    return str(size) if size else NATIVE


def study_features(
    extract: Callable[[Tensor], Mapping[str, Tensor]], pictures: NDArray[np.uint8], sizes: Sequence[int]
) -> dict[str, NDArray[np.float32]]:
    """Return ``<size>/<layer>`` to features of shape (n_stimuli, n_units)."""
    found: dict[str, NDArray[np.float32]] = {}
    for size in sizes:
        for layer, values in picture_features(extract, pictures, size).items():
            found[f"{size_name(size)}/{layer}"] = values
    return found


def write_features(
    path: Path, features: Mapping[str, NDArray[np.float32]], stimuli: Sequence[str], labels: Mapping[str, Any]
) -> None:
    """Write features with their definition.

    Parameters
    ----------
    path : Path
    features : mapping of str to array
        As `study_features` returns them; empty where the rule is unsupported.
    stimuli : sequence of str
        Names of the rows.
    labels : mapping
        rule, architecture, seed, status.
    """
    layers = list(dict.fromkeys(name.split("/", 1)[1] for name in features))
    attributes = {
        **labels,
        "layers": layers,
        "pooled": {layer: layer.endswith("_pooled") for layer in layers},
        "stimuli": list(stimuli),
        "definition": DEFINITION,
    }
    arrays = {name: Array(values, ("stimulus", "unit")) for name, values in features.items()}
    write_arrays(path, arrays, attributes)
