"""Named arrays with axes and units in HDF5, checksummed per chunk (fletcher32)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from decoders.errors import IntegrityError
from decoders.store.atomic import atomic_path

FORMAT = "corticode-arrays-1"
_CHUNK_BYTES = 1 << 20
_REMEDY = "Delete the file and run again: the stage that wrote it will write it anew."


@dataclass(frozen=True)
class Array:
    """An array with the names of its axes and its unit.

    Attributes
    ----------
    values : array
        Numbers, or an object/str array of text.
    axes : tuple of str
        One name per axis, e.g. ``("time", "voxel")``.
    unit : str
        Unit of the values; ``"1"`` for pure numbers.
    """

    values: NDArray[Any]
    axes: tuple[str, ...]
    unit: str = "1"

    def __post_init__(self) -> None:
        if len(self.axes) != np.ndim(self.values):
            raise ValueError(f"{np.ndim(self.values)} axes need as many names, got {self.axes}")


@dataclass(frozen=True)
class Arrays:
    """The content of one file: arrays by name, and attributes (anything JSON can hold)."""

    arrays: dict[str, Array]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name].values


def write_arrays(path: str | Path, arrays: Mapping[str, Array], attributes: Mapping[str, Any] | None = None) -> None:
    """Write arrays to HDF5 in one step; equal content gives equal bytes.

    Parameters
    ----------
    path : str or Path
    arrays : mapping of str to Array
        Names may hold slashes (groups).
    attributes : mapping, optional
        Written as JSON.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w", track_order=True) as file:
        file.attrs["format"] = FORMAT
        file.attrs["attributes"] = json.dumps(dict(attributes or {}), sort_keys=True)
        for name, array in arrays.items():
            _write_one(file, name, array)


def _write_one(file: h5py.File, name: str, array: Array) -> None:
    values = np.asarray(array.values)
    if values.dtype.kind in "OU":
        values = _fixed_length(values)
    # Scalars and empty arrays cannot be chunked, hence hold no checksum.
    checked = values.ndim > 0 and values.size > 0
    data = file.create_dataset(
        name, data=values, fletcher32=checked, chunks=_chunks(values) if checked else None, track_times=False
    )
    data.attrs["axes"] = json.dumps(array.axes)
    data.attrs["unit"] = array.unit


def _fixed_length(values: NDArray[Any]) -> NDArray[Any]:
    """Text as UTF-8 of fixed length: a checksum of variable-length text would cover its pointers only."""
    encoded = [str(value).encode("utf-8") for value in values.reshape(-1)]
    length = max([1, *map(len, encoded)])
    return np.array(encoded, dtype=h5py.string_dtype(length=length)).reshape(values.shape)


def _chunks(values: NDArray[Any]) -> tuple[int, ...]:
    """Chunks of whole rows of about one MiB."""
    row = max(1, values.nbytes // len(values))
    if row <= _CHUNK_BYTES:
        return (min(len(values), max(1, _CHUNK_BYTES // row)), *values.shape[1:])
    return (1, *_chunks(values[0])) if values.ndim > 1 else (min(len(values), _CHUNK_BYTES // values.itemsize),)


def read_arrays(path: str | Path, names: Iterable[str] | None = None, without: Collection[str] = ()) -> Arrays:
    """Read and verify arrays.

    Parameters
    ----------
    path : str or Path
    names : iterable of str, optional
        Arrays to read; all when absent.
    without : collection of str
        Arrays that are left on disk.

    Raises
    ------
    IntegrityError
        The file cannot be opened, was not written by Corticode, lacks an array, or fails its checksum.
    """
    with _opened(path) as file:
        found = [name for name in _dataset_names(file) if name not in without]
        wanted = found if names is None else list(names)
        _require(file, wanted, path)
        arrays = {name: _read_one(file[name]) for name in wanted}
        return Arrays(arrays, json.loads(file.attrs["attributes"]))


def read_columns(path: str | Path, name: str, columns: slice = slice(None)) -> NDArray[Any]:
    """Read and verify some columns of one array of numbers (n_rows, n_columns); the others stay on disk.

    Raises
    ------
    IntegrityError
        As `read_arrays`.
    """
    with _opened(path) as file:
        _require(file, [name], path)
        return np.asarray(file[name][:, columns])


def shape_of(path: str | Path, name: str) -> tuple[int, ...]:
    """Return the shape of one array, which stays on disk.

    Raises
    ------
    IntegrityError
        As `read_arrays`.
    """
    with _opened(path) as file:
        _require(file, [name], path)
        return tuple(int(n) for n in file[name].shape)


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise IntegrityError(f"the format {FORMAT}", f"{file.attrs.get('format')}", path, _REMEDY)
            yield file
    except OSError as error:
        raise IntegrityError("a readable HDF5 file", f"'{error}'", path, _REMEDY) from error


def _require(file: h5py.File, wanted: list[str], path: str | Path) -> None:
    missing = [name for name in wanted if name not in file]
    if missing:
        raise IntegrityError(f"the arrays {wanted}", f"no {missing}", path, _REMEDY)


def _dataset_names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names


def _read_one(data: h5py.Dataset) -> Array:
    text = h5py.check_string_dtype(data.dtype) is not None
    values = data.asstr()[()] if text else data[()]
    values = np.asarray(values, dtype=object) if text else np.asarray(values)
    return Array(values, tuple(json.loads(data.attrs["axes"])), str(data.attrs["unit"]))
