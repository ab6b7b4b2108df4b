"""Writing FIF: raw recordings as 16-bit integers, the same bytes every time and everywhere."""

from __future__ import annotations

import datetime
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.simulate.meg_head import FIDUCIALS_M, SPHERE_M

_ID_TYPE = 31
_TAG = struct.Struct(">iiii")
_MAX_STEP = 32767
_SCALP_M = 0.09


def write_fif(
    path: Path, info: Any, channels: NDArray[np.float64], date: datetime.datetime, line_hz: float | None, head: bool
) -> None:
    """Write a raw recording.

    Parameters
    ----------
    path : Path
        ``*_meg.fif``.
    info : mne.Info
    channels : array of shape (n_channels, n_times)
        T, T/m, V, and values of the trigger channel.
    date : datetime
        Start of the recording, UTC.
    line_hz : float, optional
        Frequency of the power line.
    head : bool
        Whether somebody's fiducials and head shape are part of the file.

    Raises
    ------
    InputError
        Values that the converter of the phantom's MEG cannot hold.
    """
    import mne

    steps = np.array([channel["cal"] for channel in info["chs"]])
    largest = np.abs(channels).max(axis=1) / steps
    if largest.max() > _MAX_STEP:
        name = info["ch_names"][int(largest.argmax())]
        found = f"{name} with {largest.max() / _MAX_STEP:.1f} times as much"
        remedy = "Lower the noise or the responses of data.phantom.meg."
        raise InputError(f"at most {_MAX_STEP} steps of the converter", found, path, remedy)
    # mne cuts off what is beyond the point: a quarter of a step beyond the nearest whole one is cut to that one.
    whole = np.rint(channels / steps[:, None])
    raw = mne.io.RawArray((whole + 0.25 * np.sign(whole)) * steps[:, None], info, verbose="error")
    raw.set_meas_date(date)
    raw.info["line_freq"] = line_hz
    if head:
        raw.set_montage(_head_shape(), on_missing="ignore", verbose="error")
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, fmt="short", overwrite=True, verbose="error")
    without_machine(path, date)


def without_machine(path: Path, date: datetime.datetime) -> None:
    """Replace the machine's address in a FIF file's identifiers, so that equal data give equal bytes.

    A FIF file is a list of tags: kind, type, size and next, four big-endian integers, and then the data. Identifiers
    (type 31) are a version, two integers of the machine, seconds and microseconds.
    """
    content = bytearray(path.read_bytes())
    seconds = int(date.timestamp())
    place = 0
    while place < len(content):
        _, kind, size, following = _TAG.unpack_from(content, place)
        if kind == _ID_TYPE:
            struct.pack_into(">iiii", content, place + _TAG.size + 4, 0, 0, seconds, 0)
        place = following if following > 0 else len(content) if following < 0 else place + _TAG.size + size
    path.write_bytes(content)


def _head_shape() -> Any:
    """Return fiducials, and head-shape points on the upper half of a sphere of 9 cm."""
    import mne

    golden = np.pi * (3 - np.sqrt(5))
    height = np.linspace(0.05, 0.95, 60)
    angle = golden * np.arange(len(height))
    ring = np.sqrt(1 - height**2)
    points = SPHERE_M + _SCALP_M * np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    fiducials = {name: np.array(place) for name, place in FIDUCIALS_M.items()}
    return mne.channels.make_dig_montage(hsp=points, coord_frame="head", **fiducials)
