"""The brain mask of a run: the study's, else the data set's, else computed from the subject's first run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.preflight import Grid, check_grid
from decoders.signal.streaming import Image4D, load_nifti, mean_volume


class NoBrainError(InputError):
    """An image in which no brain can be told from air."""


def grid_of(image: Image4D) -> Grid:
    """Return the grid of a 4-D image."""
    return Grid(image.shape, image.affine, str(image.path))


def read_3d(path: str | Path) -> tuple[NDArray[Any], Grid]:
    """Read a 3-D image (mask, labels), voxels touched.

    Raises
    ------
    InputError
        No such image, a damaged one, or one that is not 3-D.
    """
    image = load_nifti(path)
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3 or getattr(image, "affine", None) is None:
        remedy = "Check that this is the mask or label image."
        raise InputError("a 3-D image", f"the shape {shape}", path, remedy)
    try:
        values = np.asarray(image.dataobj).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        raise InputError("a whole image", f"'{error}'", path, "Copy or download the file again.") from error
    return values, Grid(shape, np.asarray(image.affine, dtype=np.float64), str(path))


def read_mask(path: str | Path, image: Grid, what: str = "mask") -> NDArray[np.bool_]:
    """Read a mask that must lie on the grid of a run.

    Returns
    -------
    mask : array of shape (x, y, z), bool

    Raises
    ------
    InputError
        Another grid, more than two values (probabilities, labels), or nothing inside.
    """
    values, grid = read_3d(path)
    check_grid(image, grid, what)
    found = np.unique(values[np.isfinite(values)])
    if not np.isfinite(values).all() or found.size > 2 or (found.size == 2 and found[0] != 0):
        listed = ", ".join(f"{value:g}" for value in found[:4]) + ("…" if found.size > 4 else "")
        remedy = "Threshold probabilities, or pick the labels, and save 0 and 1 (label images go to preprocess.atlas)."
        raise InputError(f"a {what} of 0 and one other value", f"the values {listed}", path, remedy)
    mask = values.astype(bool)
    if not mask.any():
        raise InputError(f"a {what} with voxels inside", "only zeros", path, "Make the mask again.")
    return mask


def compute_mask(image: Image4D, drop: int = 0) -> NDArray[np.bool_]:
    """Compute a brain mask from the mean image by nilearn's histogram method.

    Parameters
    ----------
    image : Image4D
        Only its mean over time is held.
    drop : int
        Volumes left out at the start.

    Raises
    ------
    NoBrainError
        The mean image has no contrast, or nilearn finds nothing in it.
    """
    import nibabel as nib
    from nilearn.masking import compute_epi_mask

    expected = "an image in which a brain can be told from air"
    remedy = "Give a mask: preprocess.mask, or a brain mask in the data set."
    mean = mean_volume(image, drop).astype(np.float32)
    if mean.min() == mean.max():
        raise NoBrainError(expected, f"{mean.min():g} in every voxel", image.path, remedy)
    try:
        mask = np.asarray(compute_epi_mask(nib.Nifti1Image(mean, image.affine)).dataobj).astype(bool)
    except Exception as error:  # nilearn raises several kinds for an image without contrast
        raise NoBrainError(expected, f"'{error}'", image.path, remedy) from error
    if not mask.any():
        raise NoBrainError(expected, "an empty mask", image.path, remedy)
    return mask
