"""The stage ``clusters``: a table of the clusters of one subject's maps, named by an atlas where one is given."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import VoxelMapSettings
from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding.clusters import clusters_above
from decoders.signal.preflight import Grid
from decoders.signal.regions import atlas_masks, label_masks
from decoders.signal.steps import Steps
from decoders.stage import Job
from decoders.store.arrays import read_arrays
from decoders.store.tables import write_table


def run(job: Job) -> None:
    """Write the clusters of all maps above the maximum of their nulls."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    arrays = read_arrays(job.input("arrays"))
    cuts: dict[str, float] = arrays.attributes["null_maximum"]
    n_nulls = len(arrays["null/gate"]) if cuts else 0
    found = []
    for name in ("gate", "encoding", "combined"):
        image = nib.Nifti1Image.from_filename(job.input(name))
        regions = _regions(job, settings, subject, image, str(job.input(name)))
        found.append(clusters_above(image, name, float(cuts.get(name, np.nan)), regions))
    table = pd.concat([part for part in found if len(part)] or found[:1], ignore_index=True)
    if not cuts:
        job.log.warning("sub-%s: no null gates were trained, so that nothing says which clusters count", subject)
    job.log.info("sub-%s: %d clusters and peaks", subject, len(table))
    table.insert(0, "subject", subject)
    table["n_nulls"] = n_nulls
    write_table(job.outputs["clusters"], table, "clusters")


def _regions(
    job: Job, settings: VoxelMapSettings, subject: str, image: nib.Nifti1Image, where: str
) -> dict[str, NDArray[np.bool_]]:
    if settings.atlas is None:
        return {}
    grid = Grid(image.shape[:3], image.affine, where)
    if settings.atlas.endswith((".nii", ".nii.gz")):
        return label_masks(settings.atlas.replace("{subject}", subject), grid)
    runs = select_runs(read_manifest(job.input("manifest")), subject=subject, task=settings.task)
    return atlas_masks(settings.atlas, grid, runs[0].space if runs else "", Steps(f"sub-{subject}", job.log))
