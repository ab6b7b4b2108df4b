"""Maps over the brain: read from NIfTI, turned to neurological orientation, sliced for the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.errors import IntegrityError
from decoders.report.svg import number

_NAME = re.compile(r"sub-(?P<subject>[A-Za-z0-9]+)_map-(?P<map>[A-Za-z0-9]+)_")


@dataclass(frozen=True)
class Volume:
    """A map on a grid, axes from left to right, back to front, bottom to top.

    Attributes
    ----------
    values : array of shape (x, y, z), float64
        nan outside the mask.
    affine : array of shape (4, 4)
        Voxel to millimetre.
    subject, name : str
        From the file's name ("gate", "encoding", "combined").
    description : str
        What the file says about its values.
    """

    values: NDArray[np.float64]
    affine: NDArray[np.float64]
    subject: str
    name: str
    description: str = ""


def read_volume(path: Path) -> Volume:
    """Read a 3-D map; voxels that are zero or not finite in the whole map count as outside.

    Raises
    ------
    IntegrityError
        The file cannot be read, or is not three-dimensional.
    """
    import nibabel as nib

    remedy = "Delete it and run again: the stage that wrote it will write it anew."
    try:
        image = nib.funcs.as_closest_canonical(nib.load(path))
        values = np.asarray(image.dataobj, dtype=np.float64)
    except (OSError, EOFError, nib.filebasedimages.ImageFileError, ValueError) as error:
        raise IntegrityError("a readable NIfTI map", f"'{error}'", path, remedy) from error
    if values.ndim != 3:
        raise IntegrityError("a map of three axes", f"{values.ndim}", path, remedy)
    match = _NAME.search(path.name)
    subject, name = (match["subject"], match["map"]) if match else ("", path.name.split(".")[0])
    description = bytes(image.header["descrip"]).split(b"\0")[0].decode("latin-1")
    outside = ~np.isfinite(values) | (values == 0)
    return Volume(np.where(outside, np.nan, values), np.asarray(image.affine), subject, name, description)


def canonical(
    values: NDArray[np.float64], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return an array with its axes turned to left-right, back-front, bottom-top, and the new affine.

    Parameters
    ----------
    values : array of shape (x, y, z)
    affine : array of shape (4, 4)
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    turn = io_orientation(affine)
    return np.asarray(apply_orientation(values, turn)), affine @ inv_ornt_aff(turn, values.shape)


def slice_choice(inside: NDArray[np.bool_], most: int = 16) -> list[int]:
    """Return the axial slices to draw: evenly spread over those that hold voxels.

    Parameters
    ----------
    inside : array of shape (x, y, z), bool
    most : int
        Largest number of slices.
    """
    filled = np.flatnonzero(inside.any(axis=(0, 1)))
    if len(filled) <= most:
        return [int(z) for z in filled]
    places = np.linspace(0, len(filled) - 1, most).round().astype(int)
    return [int(filled[place]) for place in places]


def crop(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the x and y ranges that hold voxels, with a margin of one."""
    ranges = []
    for axis in (0, 1):
        filled = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (int(filled[0]), int(filled[-1])) if len(filled) else (0, inside.shape[axis] - 1)
        ranges.append(slice(max(low - 1, 0), min(high + 2, inside.shape[axis])))
    return ranges[0], ranges[1]


def outline(mask: NDArray[np.bool_], cell: tuple[float, float] = (1, 1), at: tuple[float, float] = (0, 0)) -> str:
    """Return the SVG path along the borders of a 2-D mask.

    Parameters
    ----------
    mask : array of shape (n_rows, n_columns), bool
        Row 0 is drawn on top.
    cell : (float, float)
        Width and height of a pixel of the mask.
    at : (float, float)
        Place of its upper left corner.
    """
    padded = np.pad(mask, 1)
    (wide, tall), (x, y) = cell, at

    def start(row: int, column: int) -> str:
        return f"M{number(x + column * wide)} {number(y + row * tall)}"

    # A border lies wherever two neighbours differ.
    across, down = f"h{number(wide)}", f"v{number(tall)}"
    steps = [start(r, c - 1) + across for r, c in np.argwhere(padded[1:] != padded[:-1])]
    steps += [start(r - 1, c) + down for r, c in np.argwhere(padded[:, 1:] != padded[:, :-1])]
    return "".join(steps)
