"""Slices of an fMRI run in DICOM files, joined to a NIfTI image; no more of DICOM than that needs.

Read are uncompressed single-slice files with explicit value representations, little endian
(transfer syntax 1.2.840.10008.1.2.1; DICOM PS3.5, section 7.1.2). Anything else is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UR", b"UT", b"UN"}
_UNDEFINED = 0xFFFFFFFF
_SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1"
_SYNTAX, _TIME, _SPACING, _POSITION, _ORIENTATION, _VOLUME, _ROWS, _COLUMNS, _BITS, _PIXELS = (
    (0x0002, 0x0010), (0x0018, 0x0080), (0x0028, 0x0030), (0x0020, 0x0032), (0x0020, 0x0037),
    (0x0020, 0x0100), (0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0100), (0x7FE0, 0x0010),
)  # fmt: skip
_NEEDED = (_SYNTAX, _TIME, _SPACING, _POSITION, _ORIENTATION, _VOLUME, _ROWS, _COLUMNS, _BITS, _PIXELS)


@dataclass(frozen=True)
class Slice:
    """One slice.

    Attributes
    ----------
    pixels : array of shape (n_rows, n_columns), uint16
    volume : int
        Temporal position, from 1.
    tr : float
        Repetition time in seconds.
    position : array of shape (3,)
        Centre of the first pixel in mm; DICOM axes (left, posterior, superior).
    orientation : array of shape (2, 3)
        Direction of a row and of a column.
    spacing : tuple of float
        Distance of rows and of columns in mm.
    """

    pixels: NDArray[np.uint16]
    volume: int
    tr: float
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]


def read_slice(content: bytes, where: str) -> Slice:
    """Read one slice.

    Raises
    ------
    InputError
        It is no such DICOM file.
    """
    remedy = "Convert the files with dcm2niix."
    try:
        elements = _elements(content)
        tags = [elements[tag] for tag in _NEEDED]
        syntax, tr, spacing, position, orientation, volume = (value.decode("ascii").strip("\0 ") for value in tags[:6])
        rows, columns, bits = (struct.unpack("<H", value)[0] for value in tags[6:9])
        if syntax.encode() != _EXPLICIT_LITTLE or bits != 16:
            raise ValueError(f"transfer syntax {syntax}, {bits} bits")
        pixels = np.frombuffer(tags[9], dtype="<u2").reshape(rows, columns)
        row_distance, column_distance = _decimals(spacing, 2)
        return Slice(
            pixels, int(volume), float(tr) / 1000, _decimals(position, 3), _decimals(orientation, 6).reshape(2, 3),
            (float(row_distance), float(column_distance)),
        )  # fmt: skip
    except (KeyError, ValueError, IndexError, struct.error) as error:
        raise InputError("an uncompressed DICOM slice", f"'{error}'", where, remedy) from error


def _decimals(text: str, n: int) -> NDArray[np.float64]:
    values = np.array([float(part) for part in text.split("\\")])
    if len(values) != n:
        raise ValueError(f"{len(values)} numbers in place of {n}")
    return values


def _elements(content: bytes) -> dict[tuple[int, int], bytes]:
    """Return the values of the needed elements; sequences are passed over."""
    if content[128:132] != b"DICM":
        raise ValueError("no DICOM file")
    found: dict[tuple[int, int], bytes] = {}
    at = 132
    while at < len(content):
        tag = struct.unpack_from("<HH", content, at)
        long = content[at + 4 : at + 6] in _LONG
        start = at + (12 if long else 8)
        length = struct.unpack_from("<I" if long else "<H", content, at + (8 if long else 6))[0]
        if length == _UNDEFINED:
            start, length = _after_sequence(content, start), 0
        if start + length > len(content):
            raise ValueError("the file is cut off")
        if tag in _NEEDED:
            found[tag] = content[start : start + length]
        at = start + length
    return found


def _after_sequence(content: bytes, start: int) -> int:
    """Return where a sequence of undefined length ends: sequences inside it have their own delimiters."""
    depth, at = 1, start
    while depth:
        end = content.index(_SEQUENCE_END, at)
        depth += content.count(b"SQ\0\0\xff\xff\xff\xff", at, end) - 1
        at = end + len(_SEQUENCE_END)
    return at


def join_slices(slices: Iterable[Slice], where: str) -> tuple[NDArray[np.int16], NDArray[np.float64], float]:
    """Join the slices of a run.

    Returns
    -------
    data : array of shape (n_columns, n_rows, n_slices, n_volumes), int16
        Rows from bottom to top, as NIfTI images are stored.
    affine : array of shape (4, 4)
        Voxel to mm, NIfTI axes (right, anterior, superior), rounded to 1e-4 mm.
    tr : float
        Seconds, rounded to the millisecond.

    Raises
    ------
    InputError
        A slice is missing, double, or of another size or orientation.
    """
    ordered = sorted(slices, key=lambda one: (one.volume, _height(one)))
    remedy = "Fetch the files again, of one run only."
    if not ordered:
        raise InputError("DICOM slices", "none", where, remedy)
    volumes = sorted({one.volume for one in ordered})
    first = [one for one in ordered if one.volume == volumes[0]]
    same = len({(one.pixels.shape, one.tr, one.spacing, one.orientation.tobytes()) for one in ordered}) == 1
    heights = np.array([_height(one) for one in ordered])
    if not same or len(heights) != len(first) * len(volumes) or len(first) < 2:
        found = f"{len(heights)} slices in {len(volumes)} volumes" if same else "slices of several kinds"
        raise InputError("as many slices in every volume, all of one kind", found, where, remedy)
    grid = heights.reshape(len(volumes), len(first))
    if np.ptp(grid, axis=0).max() > 1e-3 or np.diff(grid[0]).min() < 1e-3:
        raise InputError("slices at the same places in every volume", "others", where, remedy)
    if max(one.pixels.max() for one in ordered) > np.iinfo(np.int16).max:
        raise InputError("values below 32768", "larger ones", where, "Convert the files with dcm2niix.")
    stack = np.stack([one.pixels[::-1].T.astype(np.int16) for one in ordered], axis=-1)
    data = stack.reshape(*stack.shape[:2], len(volumes), len(first)).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(data), _affine(first), round(first[0].tr, 3)


def _height(one: Slice) -> float:
    """Return the place of a slice along its normal in mm."""
    return float(np.cross(*one.orientation) @ one.position)


def _affine(slices: list[Slice]) -> NDArray[np.float64]:
    first, last = slices[0], slices[-1]
    along_row = first.orientation[0] * first.spacing[1]
    along_column = first.orientation[1] * first.spacing[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row, -along_column
    affine[:3, 2] = (last.position - first.position) / (len(slices) - 1)
    affine[:3, 3] = first.position + (first.pixels.shape[0] - 1) * along_column
    # DICOM's left and posterior are NIfTI's right and anterior.
    return np.round(np.diag([-1.0, -1, 1, 1]) @ affine, 4) + 0.0


def nifti_bytes(data: NDArray[np.int16], affine: NDArray[np.float64], tr: float) -> bytes:
    """Return a NIfTI-1 file, the same bytes on every machine.

    Parameters
    ----------
    data : array of shape (n_x, n_y, n_z, n_volumes), int16
    affine : array of shape (4, 4)
        Voxel to mm (scanner coordinates).
    tr : float
        Seconds.

    Notes
    -----
    Fields and offsets as in nifti1.h; those that are not set are zero.
    """
    zooms = [round(float(length), 3) for length in np.linalg.norm(affine[:3, :3], axis=0)]
    header = bytearray(352)
    for layout, offset, values in (
        ("<i", 0, [348]),
        ("<8h", 40, [4, *data.shape, 1, 1, 1]),
        ("<2h", 70, [4, 16]),  # int16
        ("<8f", 76, [1.0, *zooms, tr, 0, 0, 0]),
        ("<3f", 108, [352.0, 1.0, 0.0]),  # offset of the data, slope, intercept
        ("<B", 123, [2 | 8]),  # mm and seconds
        ("<h", 254, [1]),  # sform: scanner coordinates
        ("<12f", 280, affine[:3].ravel()),
        ("<4s", 344, [b"n+1\0"]),
    ):
        struct.pack_into(layout, header, offset, *values)
    return bytes(header) + data.astype("<i2").tobytes(order="F")
