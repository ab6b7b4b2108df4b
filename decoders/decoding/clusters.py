"""Clusters of voxels above the maximum of the null: where they lie, how large they are, how high they reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ("map", "cluster", "x_mm", "y_mm", "z_mm", "peak", "volume_mm3", "cut", "region")
# Further peaks of a cluster, at least so far apart, have letters after its number.
MIN_DISTANCE_MM = 8.0


def clusters_above(
    image: nib.Nifti1Image, name: str, cut: float, regions: Mapping[str, NDArray[np.bool_]] | None = None
) -> pd.DataFrame:
    """Return the clusters of a map above a cut, the largest first, by nilearn.

    Parameters
    ----------
    image : Nifti1Image
        Larger is more; not a number outside of the mask.
    name : str
        Of the map.
    cut : float
        In the unit of the map: the maximum of its null.
    regions : mapping of str to array of shape (x, y, z), bool, optional
        On the grid of the image; the peak is named by the first region that holds it.

    Returns
    -------
    DataFrame
        The columns `COLUMNS`: clusters by number, their further peaks with a letter (and no volume of their own).
        No row where no voxel lies above the cut.
    """
    from nilearn.reporting import get_clusters_table

    values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float64), nan=-np.inf)
    if not np.isfinite(cut) or not (values > cut).any():
        return pd.DataFrame(columns=list(COLUMNS))
    # nilearn takes voxels above the threshold from zero on: counted from the cut, maps of any sign are alike.
    above = nib.Nifti1Image(np.where(values > cut, values - cut, 0.0), image.affine)
    found = get_clusters_table(above, stat_threshold=0.0, min_distance=MIN_DISTANCE_MM)
    rows = [_row(record, name, cut, image.affine, regions or {}) for record in found.to_dict("records")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    record: Mapping[str, Any], name: str, cut: float, affine: NDArray[np.float64],
    regions: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Any]:  # fmt: skip
    place = [float(record[axis]) for axis in "XYZ"]
    voxel = tuple(np.rint(nib.affines.apply_affine(np.linalg.inv(affine), place)).astype(int))
    size = record["Cluster Size (mm3)"]
    return {
        "map": name,
        "cluster": str(record["Cluster ID"]),
        **dict(zip(("x_mm", "y_mm", "z_mm"), place, strict=True)),
        "peak": float(record["Peak Stat"]) + cut,
        "volume_mm3": float(size) if str(size).strip() else np.nan,
        "cut": cut,
        "region": next((region for region, mask in regions.items() if mask[voxel]), ""),
    }
