"""Control RDMs of pictures: what simple features and category labels predict.

A control's definition matters more than any learning rule (pixels by squared Euclidean distance correlate with EVC
.06, by correlation .18), so each carries a sentence that defines it, and the tables print it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stimuli.filters import gabor_energy, grey, grid_means, normalised, wavelengths
from decoders.stimuli.images import Pictures
from decoders.store.arrays import Array, write_arrays

WHITE = 0.97
Features = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class ControlRDM:
    """A control and what it is.

    Attributes
    ----------
    name : str
    rdm : array of shape (n_pairs,)
        Condensed in the order of scipy's squareform; not a number where `refused`.
    definition : str
        One sentence.
    refused : str
        Why it cannot be computed for these pictures; empty where it can.
    """

    name: str
    rdm: NDArray[np.float64]
    definition: str
    refused: str = ""


def control_rdms(pictures: Pictures, names: Sequence[str]) -> list[ControlRDM]:
    """Compute control RDMs.

    Parameters
    ----------
    pictures : Pictures
    names : sequence of str
        `pixel`, `luminance`, `silhouette`, `gabor`, `gabor_flat`, `gist`, `hog`, and category models `animacy`,
        `human`, `face`, `natural`, `category` from the labels.

    Returns
    -------
    list of ControlRDM
        In the order of `names`. A control without variation in a picture (a silhouette where there is no white ground)
        is refused with its reason: the others stand.

    Raises
    ------
    InputError
        A category model without its column of labels.
    """
    return [_control(pictures, name) for name in names]


def write_controls(path: Path, names: Array, controls: Sequence[ControlRDM]) -> None:
    """Write control RDMs: an array per control, ``names`` of their stimuli, definitions and refusals as attributes."""
    arrays = {"names": names, **{control.name: Array(control.rdm, ("pair",)) for control in controls}}
    attributes = {
        "definitions": {control.name: control.definition for control in controls},
        "refused": {control.name: control.refused for control in controls if control.refused},
    }
    write_arrays(path, arrays, attributes)


def _control(pictures: Pictures, name: str) -> ControlRDM:
    if name in CATEGORY_COLUMNS:
        column = CATEGORY_COLUMNS[name]
        return ControlRDM(name, category_rdm(pictures.labels, column), f"0/1: whether the label '{column}' differs.")
    n_rows, n_columns = pictures.values.shape[1:3]
    definition = DEFINITIONS[name].format(
        size=f"{n_columns} x {n_rows}", waves=", ".join(f"{wave:g}" for wave in wavelengths(n_rows, n_columns))
    )
    if name == "luminance":
        means = grey(pictures.values).mean(axis=(1, 2))
        return ControlRDM(name, _pairs(np.abs(means[:, None] - means)), definition)
    # One picture at a time: the maps of all pictures would not fit in memory.
    features = np.array([FEATURES[name](picture) for picture in pictures.values])
    flat = [f"'{label}'" for label, row in zip(pictures.names, features, strict=True) if np.ptp(row) == 0]
    if flat or features.shape[1] < 2:
        n_pairs = len(features) * (len(features) - 1) // 2
        reason = f"the feature '{name}' has one value throughout in {len(flat)} pictures ({', '.join(flat[:3])})"
        return ControlRDM(name, np.full(n_pairs, np.nan), definition, reason)
    return ControlRDM(name, _pairs(1 - np.corrcoef(features)), definition)


def control_features(pictures: Pictures, name: str) -> NDArray[np.float64]:
    """Return the features behind a control, array of shape (n_pictures, n_features).

    Parameters
    ----------
    pictures : Pictures
    name : str
        As for `control_rdms`; a category model has one column per label.

    Raises
    ------
    InputError
        A category model without its column of labels.
    """
    if name in CATEGORY_COLUMNS:
        labels = _labels(pictures.labels, CATEGORY_COLUMNS[name])
        return (labels[:, None] == np.unique(labels)).astype(np.float64)
    if name == "luminance":
        return np.asarray(grey(pictures.values).mean(axis=(1, 2)))[:, None]
    return np.array([FEATURES[name](picture) for picture in pictures.values])


def category_rdm(labels: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Return 1 where the labels of two pictures differ, else 0; condensed.

    Raises
    ------
    InputError
        No such column.
    """
    values = _labels(labels, column)
    return _pairs((values[:, None] != values).astype(np.float64))


def _labels(labels: pd.DataFrame, column: str) -> NDArray[np.object_]:
    if column not in labels:
        raise InputError(
            f"the label column '{column}'",
            f"the columns {', '.join(map(str, labels.columns))}",
            "the table of picture labels",
            "Add the column, or take the category model out of alignment.controls.",
        )
    return np.asarray(labels[column].astype(str), dtype=object)


def pixel_features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return all RGB values in 0..1."""
    return np.asarray(picture.ravel() / 255)


def silhouette_features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return 1 where any channel is below .97 (not the white ground), else 0."""
    return (picture / 255 < WHITE).any(axis=-1).astype(np.float64).ravel()


def gabor_features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return Gabor energy averaged over an 8 x 8 grid."""
    return grid_means(gabor_energy(grey(picture)), 8)


def gabor_flat_features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return Gabor energy at every fourth pixel."""
    return gabor_energy(grey(picture))[:, ::4, ::4].ravel()


def gist_features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return Gabor energy of the contrast-normalised picture, averaged over a 4 x 4 grid."""
    return grid_means(gabor_energy(normalised(grey(picture))), 4)


def hog_features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return histograms of oriented gradients."""
    from skimage.feature import hog

    return np.asarray(
        hog(grey(picture), orientations=8, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys")
    )


def _pairs(square: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(square[np.triu_indices(len(square), 1)])


FEATURES: dict[str, Features] = {
    "pixel": pixel_features,
    "silhouette": silhouette_features,
    "gabor": gabor_features,
    "gabor_flat": gabor_flat_features,
    "gist": gist_features,
    "hog": hog_features,
}
CATEGORY_COLUMNS = {
    "animacy": "animate", "human": "human", "face": "face", "natural": "natural", "category": "category"
}  # fmt: skip
DEFINITIONS = {
    "pixel": "1 - Pearson over all RGB values (0..1) of the picture at its native {size} pixels.",
    "luminance": "Absolute difference of the mean of .299 R + .587 G + .114 B.",
    "silhouette": "1 - Pearson over the mask of pixels with any channel below .97 (objects on a white ground).",
    "gabor": "1 - Pearson over Gabor energy (wavelengths {waves} pixels, 8 orientations) averaged over an 8 x 8 grid.",
    "gabor_flat": "1 - Pearson over Gabor energy (wavelengths {waves} pixels, 8 orientations) at every fourth pixel.",
    "gist": "1 - Pearson over Gabor energy (wavelengths {waves} pixels, 8 orientations) of the contrast-normalised "
    "picture, averaged over a 4 x 4 grid (GIST-like).",
    "hog": "1 - Pearson over histograms of oriented gradients: 8 orientations, cells of 8 x 8 pixels, blocks of "
    "2 x 2 cells.",
}
