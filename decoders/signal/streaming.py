"""4-D NIfTI images, read volume by volume in one pass into the masked matrix.

nibabel reads the header; the voxels are read here, in the order in which they lie in the file. So a
compressed image is decompressed once, is never held as a whole, and is read to its end: only then
does gzip compare its checksum, and a truncated or damaged file is noticed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

Volume = NDArray[np.float32]
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_DAMAGE = (OSError, EOFError, zlib.error)
_REMEDY = "Copy or download the file again, and compare its checksum with the source."


@dataclass(frozen=True)
class Image4D:
    """What the header of a 4-D image says.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        x, y, z.
    n_volumes : int
    affine : array of shape (4, 4)
    tr : float
        Seconds; nan where the header does not say.
    """

    path: Path
    shape: tuple[int, int, int]
    n_volumes: int
    affine: NDArray[np.float64]
    tr: float
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float


def open_image(path: str | Path) -> Image4D:
    """Read the header of a 4-D image.

    Raises
    ------
    InputError
        There is no such file, it is not a single-file NIfTI image, or it has not four dimensions.
    """
    import nibabel as nib

    path = Path(path)
    image = load_nifti(path)
    if not isinstance(image, nib.Nifti1Pair) or not path.name.endswith((".nii", ".nii.gz")):
        remedy = "Convert it, e.g. with dcm2niix or mri_convert."
        raise InputError("a NIfTI image (.nii or .nii.gz)", f"a {type(image).__name__}", path, remedy)
    if len(image.shape) != 4 or 0 in image.shape:
        found = f"the shape {tuple(image.shape)}"
        raise InputError("a 4-D image (x, y, z, time)", found, path, "Check that this is the BOLD image of the run.")
    dtype = image.header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise InputError("voxels that are real numbers", f"the type {dtype}", path, "Export the image again.")
    proxy: Any = image.dataobj
    shape = (int(image.shape[0]), int(image.shape[1]), int(image.shape[2]))
    affine = np.asarray(image.affine, dtype=np.float64)
    tr = header_tr(image.header)
    slope, inter = float(proxy.slope), float(proxy.inter)
    return Image4D(path, shape, int(image.shape[3]), affine, tr, dtype, int(proxy.offset), slope, inter)


def load_nifti(path: str | Path) -> Any:
    """Open an image with nibabel; what nibabel raises becomes a sentence."""
    import nibabel as nib

    try:
        return nib.load(path)
    except FileNotFoundError as error:
        raise InputError("an image", "no such file", path, "Correct the path, or fetch the data again.") from error
    except (*_DAMAGE, ValueError, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise InputError("an image that nibabel can open", f"'{error}'", path, _REMEDY) from error


def header_tr(header: Any) -> float:
    """Return the TR of a NIfTI header in seconds; nan where it does not say.

    Without a unit of time, 0 and 1 are what programs write that know no TR (nibabel among them).
    """
    zooms = header.get_zooms()
    unit = header.get_xyzt_units()[1]
    value = float(zooms[3]) if len(zooms) > 3 else 0.0
    silent = value <= 0 or unit not in _SECONDS or (unit == "unknown" and value == 1)
    # The header holds single precision; 2.2 s must not become 2.2000000476837 s.
    return float("nan") if silent else round(value * _SECONDS[unit], 6)


def iterate_raw(image: Image4D) -> Iterator[NDArray[Any]]:
    """Yield each volume as it lies in the file: flat, in Fortran order, not scaled.

    Raises
    ------
    InputError
        The file ends early or its checksum fails.
    """
    size = int(np.prod(image.shape)) * image.dtype.itemsize
    done = 0
    try:
        with _open(image.path) as stream:
            stream.seek(image.offset)
            for done in range(image.n_volumes):  # noqa: B007 (read in the message)
                buffer = stream.read(size)
                if len(buffer) < size:
                    raise EOFError("the file ends")
                yield np.frombuffer(buffer, dtype=image.dtype)
            while stream.read(1 << 20):
                pass
    except _DAMAGE as error:
        found = f"'{error}' at volume {done + 1}"
        raise InputError(f"{image.n_volumes} whole volumes", found, image.path, _REMEDY) from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def scaled(image: Image4D, values: NDArray[Any]) -> Volume:
    """Return stored values in the image's unit."""
    if image.slope == 1 and image.inter == 0:
        return values.astype(np.float32)
    return (values.astype(np.float64) * image.slope + image.inter).astype(np.float32)


def iterate_volumes(image: Image4D) -> Iterator[Volume]:
    """Yield each volume as an array of shape (x, y, z)."""
    for raw in iterate_raw(image):
        yield scaled(image, raw).reshape(image.shape, order="F")


def mean_volume(image: Image4D, drop: int = 0) -> NDArray[np.float64]:
    """Return the mean over time, one volume in memory.

    Voxels that are not finite at some time are 0, as outside the field of view.
    """
    total = np.zeros(image.shape)
    for index, volume in enumerate(iterate_volumes(image)):
        if index >= drop:
            total += volume
    return np.nan_to_num(total / (image.n_volumes - drop), nan=0.0, posinf=0.0, neginf=0.0)


@dataclass(frozen=True)
class Masked:
    """The voxels of a mask over time.

    Attributes
    ----------
    data : array of shape (n_volumes, n_voxels), float32
        Voxels in C order.
    nonfinite, constant : array of bool of shape (n_voxels,)
        Voxels that are NaN or infinite at some time; finite voxels that never change.
    """

    data: NDArray[np.float32]
    nonfinite: NDArray[np.bool_]
    constant: NDArray[np.bool_]


def read_masked(image: Image4D, mask: NDArray[np.bool_], drop: int = 0) -> Masked:
    """Read the voxels of a mask, in one pass and with one volume in memory.

    Parameters
    ----------
    image : Image4D
    mask : array of shape (x, y, z), bool
    drop : int
        Volumes left out at the start.
    """
    # Where the voxels, taken in C order, lie in the file.
    places = np.ravel_multi_index(np.nonzero(mask), image.shape, order="F")
    data = np.empty((image.n_volumes - drop, places.size), dtype=np.float32)
    for index, raw in enumerate(iterate_raw(image)):
        if index >= drop:
            data[index - drop] = scaled(image, raw[places])
    low, high = extremes(data)
    return Masked(data, *_judge(low, high))


def read_transformed(
    image: Image4D,
    mask: NDArray[np.bool_],
    transform: Callable[[Volume], Volume],
    carry_flags: Callable[[NDArray[np.bool_]], NDArray[np.bool_]],
    drop: int = 0,
) -> Masked:
    """Read the voxels of a mask after each volume went through a transform (resampling, smoothing).

    Parameters
    ----------
    image : Image4D
    mask : array of shape (x', y', z'), bool
        On the grid of the transform's output.
    transform : callable
        From a volume (x, y, z) to one on the grid of the mask. Values that are not finite reach it as 0.
    carry_flags : callable
        Takes the voxels of the image that are bad to the grid of the mask.
    drop : int
    """
    data = np.empty((image.n_volumes - drop, int(mask.sum())), dtype=np.float32)
    low, high = np.full(image.shape, np.inf, np.float32), np.full(image.shape, -np.inf, np.float32)
    for index, volume in enumerate(iterate_volumes(image)):
        if index < drop:
            continue
        np.minimum(low, volume, out=low)
        np.maximum(high, volume, out=high)
        data[index - drop] = transform(np.nan_to_num(volume, nan=0.0, posinf=0.0, neginf=0.0))[mask]
    nonfinite, constant = _judge(low, high)
    after = extremes(data)
    constant_after = (after[0] == after[1]) | carry_flags(constant)[mask]
    nonfinite_after = carry_flags(nonfinite)[mask]
    return Masked(data, nonfinite_after, constant_after & ~nonfinite_after)


def extremes(data: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return minimum and maximum of each column; NaN where a value is NaN."""
    return data.min(axis=0), data.max(axis=0)


def _judge(low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    nonfinite = ~(np.isfinite(low) & np.isfinite(high))
    return nonfinite, ~nonfinite & (low == high)


def judge_columns(data: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which columns are not finite at some time, and which finite ones never change."""
    return _judge(*extremes(data))
