"""Linear steps over channels as matrices: projectors of the acquisition, interpolation, reference.

Each is exact after decimation as well, because filters in time and mixtures of channels commute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

# Columns of a matrix product: a few MB at a time.
_BLOCK = 8192


def apply_in_place(operator: NDArray[np.float64], data: NDArray[np.float32]) -> None:
    """Mix channels: ``data[:] = operator @ data``, block by block; the first rows of `data` are the channels."""
    rows = data[: len(operator)]
    for start in range(0, rows.shape[1], _BLOCK):
        block = rows[:, start : start + _BLOCK].astype(np.float64)
        rows[:, start : start + _BLOCK] = operator @ block


def operator_rank(operator: NDArray[np.float64], sizes: NDArray[np.float64]) -> int:
    """Return the dimensions that a mixture of channels leaves.

    Parameters
    ----------
    operator : array of shape (n_channels, n_channels)
    sizes : array of shape (n_channels,)
        A typical size of each channel, which makes magnetometers and gradiometers comparable.
    """
    scaled = operator * sizes[None, :] / sizes[:, None]
    values = np.linalg.svd(scaled, compute_uv=False)
    return int((values > 1e-7 * values[0]).sum()) if values.size and values[0] > 0 else 0


def typical_sizes(kinds: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
    """Return the usual size of the signal of each type of channel in T, T/m and V (mne's defaults for rank)."""
    size = {"mag": 1e-13, "grad": 1e-11, "eeg": 1e-5}
    return np.array([size[str(kind)] for kind in kinds])


def acquisition_projector(info: Any) -> tuple[NDArray[np.float64], list[str]]:
    """Return the projector of the MEG projections that come with the file, and their names.

    EEG references among them are left to `eeg_reference`.
    """
    import mne

    names = list(info["ch_names"])
    chosen = [item for item in info["projs"] if not item["active"] and "EEG" not in item["desc"].upper()]
    chosen = [item for item in chosen if set(item["data"]["col_names"]) & set(names)]
    if not chosen:
        return np.eye(len(names)), []
    matrix, count, _ = mne.io.proj.make_projector(chosen, names, bads=info["bads"])
    return (np.asarray(matrix), [str(item["desc"]) for item in chosen]) if count else (np.eye(len(names)), [])


def interpolation(info: Any, where: object) -> NDArray[np.float64]:
    """Return the matrix that rebuilds the bad channels of an info from the good ones.

    EEG by spherical splines (Perrin et al. 1989), MEG by the field of a minimum-norm source layer, as
    `mne.io.Raw.interpolate_bads` does it.

    Raises
    ------
    InputError
        The places of the sensors are unknown.
    """
    import mne

    n = len(info["ch_names"])
    if not info["bads"]:
        return np.eye(n)
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    unknown = [
        name
        for name, place in zip(info["ch_names"], places, strict=True)
        if not np.isfinite(place).all() or not np.abs(place).sum()
    ]
    if unknown:
        remedy = "Add electrodes.tsv, or set preprocess.meg.bad_channels to drop."
        found = f"none for {', '.join(unknown[:5])} ({len(unknown)} channels)"
        expected = f"places of all sensors, from which the bad ones ({', '.join(info['bads'][:5])}) are interpolated"
        raise InputError(expected, found, str(where), remedy)
    info = in_head(info)
    unit = mne.io.RawArray(np.eye(n), info, verbose="ERROR")
    origin = (0.0, 0.0, 0.04)
    unit.interpolate_bads(reset_bads=False, mode="accurate", origin=origin, verbose="ERROR")
    matrix = np.asarray(unit.get_data())
    matrix[:, [info["ch_names"].index(name) for name in info["bads"]]] = 0.0
    return matrix


def in_head(info: Any) -> Any:
    """Return a copy whose sensors have a place in the head frame: the helmet's own where the head's is unknown."""
    import mne

    info = info.copy()
    if info["dev_head_t"] is None:
        with info._unlock():
            info["dev_head_t"] = mne.transforms.Transform("meg", "head")
    return info


def average_reference(kinds: Sequence[str]) -> NDArray[np.float64]:
    """Return the matrix that takes the mean of all EEG channels from each of them."""
    eeg = np.array([kind == "eeg" for kind in kinds])
    matrix = np.eye(len(kinds))
    if eeg.any():
        matrix[np.ix_(eeg, eeg)] -= 1.0 / eeg.sum()
    return matrix


def positions(info: Any) -> NDArray[np.float64]:
    """Return the places of the sensors in metres, head coordinates (nan where unknown)."""
    import mne

    transform = info["dev_head_t"]
    found = np.full((len(info["chs"]), 3), np.nan)
    for row, (channel, kind) in enumerate(zip(info["chs"], info.get_channel_types(), strict=True)):
        place = np.asarray(channel["loc"][:3], dtype=np.float64)
        if np.isfinite(place).all() and np.abs(place).sum():
            meg = kind in ("mag", "grad") and transform is not None
            found[row] = mne.transforms.apply_trans(transform, place) if meg else place
    return found
