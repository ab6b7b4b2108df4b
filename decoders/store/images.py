"""Maps on disk as NIfTI: equal maps give equal bytes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.store.atomic import atomic_path


def write_map(
    path: str | Path, values: NDArray[np.floating], mask: NDArray[np.bool_], affine: NDArray[np.float64], what: str
) -> None:
    """Write a map as gzipped NIfTI, zero outside the mask; equal maps give equal bytes.

    Parameters
    ----------
    what : str
        Unit, written into the header's description (at most 79 characters).
    """
    import nibabel as nib

    volume = np.zeros(mask.shape, dtype=np.float32)
    volume[mask] = values
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header["descrip"] = what.encode("latin-1", "replace")[:79]
    with atomic_path(path) as temporary:
        # No time stamp and no file name in the gzip header.
        temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
