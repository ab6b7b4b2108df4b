"""Small BIDS folders for the tests of the data floor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest


def write_nifti(path: Path, n_volumes: int = 5, tr: float = 2.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 100, (3, 4, 2, n_volumes)).astype(np.int16)
    image = nibabel.Nifti1Image(data if n_volumes > 1 else data[..., 0], np.diag([2.0, 2, 2, 1]))
    if n_volumes > 1:
        image.header.set_zooms((2, 2, 2, tr))
    nibabel.save(image, path)
    return path


def write_gifti(path: Path, n_volumes: int = 5, n_vertices: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [
        nibabel.gifti.GiftiDataArray(np.full(n_vertices, volume, dtype=np.float32), intent="NIFTI_INTENT_TIME_SERIES")
        for volume in range(n_volumes)
    ]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)
    return path


def write_cifti(path: Path, n_volumes: int = 5, n_vertices: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    series = nibabel.cifti2.SeriesAxis(0, 2.0, n_volumes)
    brain = nibabel.cifti2.BrainModelAxis.from_surface(range(n_vertices), n_vertices, "CortexLeft")
    data = np.zeros((n_volumes, n_vertices), dtype=np.float32)
    nibabel.save(nibabel.Cifti2Image(data, (series, brain)), path)
    return path


def write_files(root: Path, files: Mapping[str, object]) -> Path:
    """Write text, JSON (a dict), or an image made by its ending (a number of volumes)."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            path.write_text(json.dumps(content))
        elif isinstance(content, int):
            writer = write_gifti if name.endswith(".gii") else write_cifti if ".dtseries" in name else write_nifti
            writer(path, content)
        else:
            path.write_text(str(content))
    return root


@pytest.fixture
def bids(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes files into a BIDS folder: `bids({"name": content}, folder="raw")`."""

    def make(files: Mapping[str, object], folder: str = "raw") -> Path:
        return write_files(tmp_path / folder, {"dataset_description.json": {"Name": "test"}, **files})

    return make
