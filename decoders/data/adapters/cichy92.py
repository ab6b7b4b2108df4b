"""fMRI dissimilarities of 92 object pictures, 15 people (Cichy et al. 2014; Algonauts 2019)."""

from __future__ import annotations

import gzip
import json
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.data.adapters.common import choose_variant
from decoders.data.images import joint_sha256
from decoders.data.manifest import Run, relative_root
from decoders.errors import InputError

REGIONS = ("EVC", "IT")
N_PICTURES = 92
STIMULUS = "objects92"
# Numbers of the files are rounded to eight digits.
_TOLERANCE = 1e-6


def read_runs(folder: Path, variant: str | None = None) -> list[Run]:
    """Return one row per subject and region.

    Parameters
    ----------
    folder : Path
        The data set, as `fetch` returns it.
    variant : str, optional
        There is none but "rdms".
    """
    choose_variant(variant, ("rdms",), folder)
    runs = []
    for region in REGIONS:
        image = f"92images_fmri_{region}_RDMs.gzip"
        sha256 = joint_sha256([folder / image])
        runs += [
            Run(
                run_id=f"sub-{subject:02d}_region-{region}",
                subject=f"{subject:02d}",
                task=STIMULUS,
                modality="rdm",
                root=relative_root(folder),
                image=image,
                stimulus=STIMULUS,
                region=region,
                sha256=sha256,
            )
            for subject in range(1, len(_read(folder / image)) + 1)
        ]
    return runs


def load_rdms(run: Run) -> tuple[NDArray[np.float64], list[str]]:
    """Return the dissimilarities of one subject in one region.

    Returns
    -------
    rdm : array of shape (n_pairs,)
        1 - correlation, in the condensed order of scipy's ``squareform``.
    stimuli : list of str
        92images_00001 … 92images_00092, the order of rows.

    Raises
    ------
    InputError
        The file is damaged, or its matrices are no dissimilarities.
    """
    path = run.path("image")
    if path is None:
        raise InputError("a file of dissimilarities", "none", run.run_id, "Fetch the data set again.")
    rows, columns = np.triu_indices(N_PICTURES, 1)
    return _read(path)[int(run.subject) - 1, rows, columns], picture_names()


def picture_names() -> list[str]:
    """Return the names of the pictures in the order of the matrices."""
    return [f"92images_{number:05d}" for number in range(1, N_PICTURES + 1)]


def _read(path: Path) -> NDArray[np.float64]:
    """Return the matrices, array of shape (n_subjects, n_pictures, n_pictures)."""
    return _read_once(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_once(path: Path, changed: int) -> NDArray[np.float64]:
    remedy = "Fetch the data set again."
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        matrices = np.asarray(content["data"], dtype=np.float64).reshape(content["shape"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise InputError("gzipped JSON with shape and data", f"'{error}'", path, remedy) from error
    if matrices.ndim != 3 or matrices.shape[1:] != (N_PICTURES, N_PICTURES):
        shape = " x ".join(map(str, matrices.shape))
        raise InputError(f"matrices of {N_PICTURES} x {N_PICTURES}", shape, path, remedy)
    good = np.isfinite(matrices).all() and np.allclose(matrices, matrices.transpose(0, 2, 1), atol=_TOLERANCE)
    if not good or np.abs(np.diagonal(matrices, axis1=1, axis2=2)).max() > _TOLERANCE:
        raise InputError("finite symmetric matrices with a zero diagonal", "others", path, remedy)
    return matrices
