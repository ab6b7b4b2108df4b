"""The Recording: what preprocessing leaves on disk, one per run, and all that the wings read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from decoders.store.arrays import Array, Arrays, read_arrays, write_arrays

Kind = Literal["volume", "region", "surface", "sensor"]


@dataclass(frozen=True)
class Recording:
    """One run (time series) or its trials, samples x features; trials of sensors are samples x features x times.

    Attributes
    ----------
    data : array of shape (n_samples, n_features) or (n_trials, n_channels, n_times), float32
        Samples are volumes (of sensors: samples) in time, or trials.
    kind : {"volume", "region", "surface", "sensor"}
        What a feature is.
    subject, session, task, run, stimulus : str
        BIDS labels without their prefixes; empty when there is none.
    axis : {"time", "trial"}
        What a sample is.
    time : array of shape (n_samples,)
        Seconds since the stimulus onset (start of the volume, or of the trial).
    tr : float
        Repetition time in seconds.
    names : array of str of shape (n_features,) or (0,)
        Region or channel names.
    conditions : array of str of shape (n_samples,) or (0,)
        Condition of each trial, or of each volume where events say so.
    groups : array of int of shape (n_samples,) or (0,)
        Block number of each sample; -1 where there is none.
    mask : array of shape (x, y, z), bool, or None
        Voxels of the features, in C order (kind "volume").
    affine : array of shape (4, 4) or None
        Voxel to millimetre (kind "volume").
    unit : str
        "z" after standardisation.
    steps : list of dict
        What was done, in order, with its parameters.
    sfreq : float
        Samples per second (kind "sensor"); 0 for others.
    epoch_time : array of shape (n_times,) or (0,)
        Seconds from the onset of a trial, of trials of sensors.
    channel_types : array of str of shape (n_features,) or (0,)
        "mag", "grad" or "eeg" (kind "sensor").
    positions : array of shape (n_features, 3) or (0, 3)
        Sensors in metres, head coordinates (kind "sensor").
    noise_covariance : array of shape (n_features, n_features) or (0, 0)
        Of a sample of noise, in the squared unit of the data (kind "sensor").
    quality : dict of str to array
        "tsnr" per feature, "framewise_displacement" in mm per volume, …
    excluded : str
        Why this run must not be used; empty when it may. Data are then empty.
    path : Path or None
        Where the data lie, of a Recording whose data were left there (`read_recording_header`).
    """

    data: NDArray[np.float32]
    kind: Kind
    subject: str
    session: str = ""
    task: str = ""
    run: str = ""
    stimulus: str = ""
    axis: Literal["time", "trial"] = "time"
    time: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    tr: float = 0.0
    names: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=object))
    conditions: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=object))
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    mask: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None
    unit: str = "z"
    sfreq: float = 0.0
    epoch_time: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    channel_types: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=object))
    positions: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    noise_covariance: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    steps: list[dict[str, Any]] = field(default_factory=list)
    quality: dict[str, NDArray[Any]] = field(default_factory=dict)
    excluded: str = ""
    path: Path | None = None


_LABELS = ("kind", "subject", "session", "task", "run", "stimulus", "axis", "tr", "sfreq", "unit", "steps", "excluded")
# Arrays of sensors: name, axes, unit. A file of other kinds does not hold them.
_OF_SENSORS = (
    ("epoch_time", ("epoch_time",), "s"),
    ("channel_types", ("feature",), "1"),
    ("positions", ("feature", "xyz"), "m"),
    ("noise_covariance", ("feature", "other_feature"), "1"),
)


def write_recording(path: str | Path, recording: Recording) -> None:
    """Write a Recording as checksummed HDF5 in one step."""
    axis = recording.axis
    arrays = {
        "data": Array(
            recording.data.astype(np.float32, copy=False),
            (axis, "feature", "epoch_time")[: recording.data.ndim],
            recording.unit,
        ),
        "time": Array(recording.time, (axis,), "s"),
        "names": Array(recording.names, ("feature",)),
        "conditions": Array(recording.conditions, (axis,)),
        "groups": Array(recording.groups, (axis,)),
    }
    if recording.mask is not None and recording.affine is not None:
        arrays["mask"] = Array(recording.mask.astype(np.uint8), ("x", "y", "z"))
        arrays["affine"] = Array(recording.affine, ("row", "column"), "mm")
    if recording.kind == "sensor":
        arrays |= {name: Array(getattr(recording, name), axes, unit) for name, axes, unit in _OF_SENSORS}
    for name, values in recording.quality.items():
        values = np.asarray(values)
        arrays[f"quality/{name}"] = Array(values, tuple(f"{name}_{i}" for i in range(values.ndim)))
    write_arrays(path, arrays, {key: getattr(recording, key) for key in _LABELS})


def read_recording(path: str | Path) -> Recording:
    """Read and verify a Recording."""
    file = read_arrays(path)
    return _recording(file, file["data"])


def read_recording_header(path: str | Path) -> Recording:
    """Read a Recording but for its data, which have no columns here and stay in the file (`read_columns`, "data")."""
    file = read_arrays(path, without=("data",))
    return _recording(file, np.zeros((len(file["time"]), 0), dtype=np.float32), Path(path))


def _recording(file: Arrays, data: NDArray[np.float32], path: Path | None = None) -> Recording:
    quality = {
        name.removeprefix("quality/"): array.values
        for name, array in file.arrays.items()
        if name.startswith("quality/")
    }
    of_sensors: dict[str, Any] = {name: file[name] for name, _, _ in _OF_SENSORS if name in file.arrays}
    return Recording(
        data=data,
        time=file["time"],
        names=file["names"],
        conditions=file["conditions"],
        groups=file["groups"],
        mask=file["mask"].astype(bool) if "mask" in file.arrays else None,
        affine=file["affine"] if "affine" in file.arrays else None,
        quality=quality,
        **of_sensors,
        path=path,
        **file.attributes,
    )
