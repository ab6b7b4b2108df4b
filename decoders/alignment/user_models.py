"""The user's own models: RDMs, features, or weights of a registered architecture; matched to stimuli by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.models import ModelRow, Stimuli, Summary, reorder
from decoders.alignment.rdm import feature_rdm
from decoders.config import UserModel
from decoders.errors import InputError, SettingsError

_NAMES = ("names", "stimuli", "stimulus")


def user_rows(
    model: UserModel,
    stimuli: Stimuli,
    pictures: tuple[NDArray[np.uint8], Sequence[str]] | None,
    summary: Summary = feature_rdm,
) -> list[ModelRow]:
    """Return the rows ``user:<name>`` of one model of the user.

    Parameters
    ----------
    model : UserModel
        An RDM (HDF5 with ``rdm`` and ``names``, or a square TSV with names in its header and first column), features
        (HDF5 with ``features`` (stimulus, unit) and ``names``), or weights (safetensors state dict) of a
        registered architecture, which then sees the study's pictures at native size.
    stimuli : Stimuli
    pictures : tuple of array (n_pictures, n_rows, n_columns, n_channels) and names, or None
    summary : callable
        What stands for features: their RDM, or their kernel; a model that is an RDM has none, and is then refused.

    Returns
    -------
    list of ModelRow
        One, or one per layer for weights.

    Raises
    ------
    InputError, SettingsError
        A file of another form, a recorded stimulus that it lacks, or patterns that are constant.
    """
    path = Path(model.path)
    if not path.is_file():
        raise InputError("a file", "none", path, f"Check the path of the model '{model.name}'.")
    rule = f"user:{model.name}"
    if model.kind == "rdm" and summary is not feature_rdm:
        return [ModelRow("user", rule, None, refused="an RDM holds no features to encode from")]
    if model.kind == "rdm":
        square, names = _read_tsv(path) if path.suffix.lower() in (".tsv", ".txt") else _read_hdf5(path, "rdm")
        return [ModelRow("user", rule, _rdm(square, names, stimuli, path))]
    if model.kind == "features":
        values, names = _read_hdf5(path, "features")
        if values.ndim != 2 or len(values) != len(names):
            remedy = "Store 'features' as (stimulus, unit), in the order of 'names'."
            raise InputError(f"features of {len(names)} stimuli", f"the shape {values.shape}", path, remedy)
        return [ModelRow("user", rule, summary(values[stimuli.positions(names, path)], stimuli.names, str(path)))]
    return _weight_rows(model, path, stimuli, pictures, summary)


def _rdm(values: NDArray[Any], names: Sequence[str], stimuli: Stimuli, path: Path) -> NDArray[np.float64]:
    from scipy.spatial.distance import squareform

    n = len(names)
    if values.shape == (n, n):
        if not np.allclose(values, values.T, atol=1e-8, equal_nan=True) or not np.allclose(np.diag(values), 0):
            remedy = "Store dissimilarities: symmetric, with zeros on the diagonal."
            raise InputError("a symmetric RDM with a zero diagonal", "another matrix", path, remedy)
        values = squareform(np.asarray(values, dtype=np.float64), checks=False)
    if values.shape != (n * (n - 1) // 2,):
        remedy = "Store it square, or condensed in the order of scipy's squareform."
        raise InputError(f"an RDM of {n} stimuli", f"the shape {values.shape}", path, remedy)
    rdm = reorder(values, stimuli.positions(names, path))
    if not np.isfinite(rdm).all() or np.ptp(rdm) == 0:
        raise InputError("finite dissimilarities that vary", "others", path, "Check how the RDM was made.")
    return rdm


def _read_hdf5(path: Path, wanted: str) -> tuple[NDArray[Any], list[str]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = [key for key in file if isinstance(file[key], h5py.Dataset)]
            key = next((key for key in found if key in _NAMES), None)
            if wanted not in found or key is None or h5py.check_string_dtype(file[key].dtype) is None:
                remedy = f"Store '{wanted}' beside the stimulus names as text in 'names'."
                raise InputError(f"the datasets '{wanted}' and 'names'", ", ".join(found) or "none", path, remedy)
            return np.asarray(file[wanted][()]), [str(name) for name in file[key].asstr()[()]]
    except OSError as error:
        raise InputError("a readable HDF5 file", f"'{error}'", path, "Check the file.") from error


def _read_tsv(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    import pandas as pd

    remedy = "Write a square table with the stimulus names in the first row and the first column, separated by tabs."
    try:
        table = pd.read_csv(path, sep="\t", index_col=0, dtype={0: str})
        values = table.to_numpy(dtype=np.float64)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise InputError("a table of numbers", f"'{error}'", path, remedy) from error
    names = [str(name) for name in table.columns]
    if names != [str(name) for name in table.index]:
        raise InputError("the same names in rows and columns", "other names", path, remedy)
    return values, names


def _weight_rows(
    model: UserModel,
    path: Path,
    stimuli: Stimuli,
    pictures: tuple[NDArray[np.uint8], Sequence[str]] | None,
    summary: Summary,
) -> list[ModelRow]:
    if model.architecture is None:
        raise SettingsError(f"alignment.models: the weights '{model.name}' need the key 'architecture'.")
    if pictures is None:
        raise SettingsError(f"alignment.models: the weights '{model.name}' need pictures, and this study has none.")
    from decoders.models.architectures import load_network
    from decoders.models.pictures import network_features, picture_features
    from decoders.store.weights import read_weights

    weights, _ = read_weights(path)
    net = load_network(model.architecture, weights, str(path))
    values, names = pictures
    features = picture_features(partial(network_features, net), values[stimuli.positions(names, path)], 0)
    rdms = {layer: summary(taps, stimuli.names, f"{path}, {layer}") for layer, taps in features.items()}
    return [ModelRow("user", f"user:{model.name}", rdm, model.architecture, "", layer) for layer, rdm in rdms.items()]
