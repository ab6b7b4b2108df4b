"""Small, valid runs on disk, and the places of the real ones."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from decoders.data.manifest import Run

AFFINE = np.diag([3.0, 3.0, 3.5, 1.0])
AFFINE[:3, 3] = [-20, -30, -10]


def save_image(path, data, tr=2.0, affine=AFFINE, unit="sec", dtype=None, slope=None):
    image = nib.Nifti1Image(data if dtype is None else data.astype(dtype), affine)
    image.header.set_xyzt_units("mm", unit)
    if data.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nib.save(image, path)
    return Path(path)


def brain(rng, shape=(7, 6, 5), n_volumes=60, tr=2.0):
    """Voxels with a mean, a drift, and noise; zeros outside an inner box."""
    mask = np.zeros(shape, dtype=bool)
    mask[1:-1, 1:-1, 1:-1] = True
    line = np.linspace(-1, 1, n_volumes)
    data = np.zeros((*shape, n_volumes), dtype=np.float32)
    inside = 1000 + 30 * rng.standard_normal((mask.sum(), 1)) * line + 10 * rng.standard_normal((mask.sum(), n_volumes))
    data[mask] = inside
    return data, mask


class Study:
    """A folder with one run (image, mask, sidecar) and its row of the manifest."""

    def __init__(self, root, rng, n_volumes=60, tr=2.0):
        self.root, self.tr, self.n_volumes = Path(root), tr, n_volumes
        self.data, self.mask = brain(rng, n_volumes=n_volumes, tr=tr)
        self.run = Run(
            "sub-01_task-x_run-1", "01", task="x", run="1", root=str(root), image="bold.nii.gz", mask="mask.nii.gz",
            sidecar="bold.json", sha256="a" * 64,
        )  # fmt: skip
        self.write()

    def write(self):
        save_image(self.root / "bold.nii.gz", self.data, self.tr)
        save_image(self.root / "mask.nii.gz", self.mask.astype(np.uint8))
        (self.root / "bold.json").write_text(json.dumps({"RepetitionTime": self.tr}))

    def change(self, **fields):
        self.run = replace(self.run, **fields)
        return self.run

    def events(self, rows, columns=("onset", "duration", "trial_type")):
        lines = ["\t".join(columns), *("\t".join(str(value) for value in row) for row in rows)]
        (self.root / "events.tsv").write_text("\n".join(lines) + "\n")
        return self.change(events="events.tsv")


@pytest.fixture
def affine():
    return AFFINE.copy()


@pytest.fixture
def save():
    return save_image


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def study(tmp_path, rng):
    return Study(tmp_path, rng)
