"""Writing BIDS: images, tables and sidecars, the same bytes every time."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BIDS_VERSION = "1.10.0"


def write_image(path: Path, data: NDArray[Any], affine: NDArray[np.float64], tr: float | None = None) -> None:
    """Write a gzipped NIfTI-1 image in millimetres and seconds.

    Parameters
    ----------
    path : Path
        ``*.nii.gz``.
    data : array of shape (x, y, z) or (x, y, z, t)
    affine : array of shape (4, 4)
    tr : float, optional
        Repetition time in seconds of a 4-D image.
    """
    import nibabel as nib

    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    if tr is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    path.parent.mkdir(parents=True, exist_ok=True)
    # No time stamp: the same data give the same file. Level 1: noise does not compress further.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def write_tsv(path: Path, table: pd.DataFrame) -> None:
    """Write a tab-separated table, n/a for missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", lineterminator="\n", float_format="%.10g", encoding="utf-8")


def write_sidecar(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON with a line per key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(values), indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG", compress_level=1)


def raw_like(series: NDArray[np.float64], mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int16]:
    """Turn series in units of noise into what a scanner stores.

    Parameters
    ----------
    series : array of shape (n_volumes, n_voxels)
    mask : array of shape (x, y, z), bool
    rng : Generator

    Returns
    -------
    array of shape (x, y, z, n_volumes), int16
        About 1,000 inside the mask with 20 per unit of noise (2 %); small positive noise outside.
        The rounding adds 1/4,800 of the noise's variance.
    """
    n_volumes = len(series)
    image = rng.integers(0, 30, (*mask.shape, n_volumes), dtype=np.int16)
    baseline = 1000.0 + 60 * rng.standard_normal((series.shape[1], 1))
    image[mask] = np.rint(baseline + 20 * series.T).astype(np.int16)
    return image
