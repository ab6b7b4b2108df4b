"""Region time courses: means over ROI masks or atlas labels, and tables that others have extracted."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.confounds import read_number_file
from decoders.signal.masking import read_3d, read_mask
from decoders.signal.preflight import Grid, check_enough, check_grid
from decoders.signal.series import Series, no_series
from decoders.signal.steps import Steps
from decoders.signal.streaming import Image4D, judge_columns, read_masked

# Deterministic atlases that nilearn can fetch without a choice of its own: its function and the choice made.
ATLASES: dict[str, tuple[str, dict[str, Any]]] = {
    "schaefer_2018": ("fetch_atlas_schaefer_2018", {"n_rois": 400, "yeo_networks": 7, "resolution_mm": 2}),
    "harvard_oxford": ("fetch_atlas_harvard_oxford", {"atlas_name": "cort-maxprob-thr25-2mm"}),
    "juelich": ("fetch_atlas_juelich", {"atlas_name": "maxprob-thr25-2mm"}),
    "aal": ("fetch_atlas_aal", {"version": "SPM12"}),
    "destrieux_2009": ("fetch_atlas_destrieux_2009", {"lateralized": True}),
}


def roi_masks(rois: Mapping[str, str], image: Grid) -> dict[str, NDArray[np.bool_]]:
    """Read the user's ROI masks; each must lie on the grid of the run.

    Returns
    -------
    regions : dict of str to array of shape (x, y, z), bool
    """
    return {name: read_mask(path, image, f"mask of the region {name}") for name, path in rois.items()}


def label_masks(path: str | Path, image: Grid) -> dict[str, NDArray[np.bool_]]:
    """Read a label image on the grid of the run: one region per label above 0.

    Names come from the table ``<name>.tsv`` beside the image (columns index, name; BIDS dseg), else
    they are ``label_<number>``.

    Raises
    ------
    InputError
        Another grid, or values that are no labels.
    """
    values, grid = read_3d(path)
    check_grid(image, grid, "label image")
    return _split_labels(values, _label_names(Path(path)), path)


def _split_labels(values: NDArray[Any], names: Mapping[int, str], where: str | Path) -> dict[str, NDArray[np.bool_]]:
    found = np.unique(values)
    if not np.isfinite(found).all() or (found != np.round(found)).any() or found.size < 2:
        remedy = "Give a label image (whole numbers, 0 outside); a single mask goes to preprocess.rois."
        raise InputError("whole numbers as labels", f"{found.size} different values", where, remedy)
    labels = [int(label) for label in found if label > 0]
    return {names.get(label, f"label_{label}"): values == label for label in labels}


def _label_names(path: Path) -> dict[int, str]:
    table = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    if not table.exists():
        return {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    try:
        return {int(row["index"]): row["name"] for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the columns index and name", f"'{error}'", table, "Correct the table of labels.") from error


def atlas_masks(name: str, image: Grid, space: str, steps: Steps) -> dict[str, NDArray[np.bool_]]:
    """Fetch an atlas through nilearn and bring its labels to the grid of the run.

    The atlas is resampled (nearest label), never the run; that is noted in the steps.

    Parameters
    ----------
    name : str
        Key of `ATLASES`.
    image : Grid
    space : str
        Space of the run; only MNI spaces have voxels that an MNI atlas names.
    steps : Steps

    Raises
    ------
    InputError
        Unknown atlas, or a run in native space.
    """
    from nilearn import datasets

    if name not in ATLASES:
        expected = f"an atlas among {', '.join(ATLASES)}, or a label image"
        remedy = "Choose one of them, or give a label image on the grid of the runs."
        raise InputError(expected, f"'{name}'", "preprocess.atlas", remedy)
    if not space.startswith("MNI"):
        remedy = (
            "Give fMRIPrep-style derivatives in an MNI space (data.derivatives and data.space): raw data stay in native"
            " space, where an MNI atlas names nothing; or give a label image in the run's own space."
        )
        found = f"the space '{space or 'native'}'"
        raise InputError("runs in an MNI space for an MNI atlas", found, image.where, remedy)
    fetch, choices = ATLASES[name]
    try:
        atlas = getattr(datasets, fetch)(**choices, verbose=0)
    except (OSError, ValueError) as error:
        remedy = "Connect to the network once, or download the atlas and give its label image as preprocess.atlas."
        raise InputError(f"the atlas '{name}' through nilearn", f"'{error}'", "preprocess.atlas", remedy) from error
    steps.add("atlas", "nearest label on the grid of the run; the run is not resampled", name=name, **choices)
    return _atlas_on_grid(atlas, image)


def _atlas_on_grid(atlas: Any, image: Grid) -> dict[str, NDArray[np.bool_]]:
    import nibabel as nib
    from nilearn.image import resample_img

    maps = atlas.maps if hasattr(atlas.maps, "affine") else nib.load(atlas.maps)
    there = resample_img(maps, image.affine, image.shape, interpolation="nearest", copy_header=True)
    table = getattr(atlas, "lut", None)
    names = {} if table is None else dict(zip(table["index"].astype(int), table["name"].astype(str), strict=True))
    return _split_labels(np.asarray(there.dataobj), names, image.where)


def read_regions(
    image: Image4D, regions: Mapping[str, NDArray[np.bool_]], limit: float, steps: Steps, drop: int = 0
) -> Series:
    """Return the mean over the good voxels of each region.

    A region with more bad voxels (constant or not finite) than the limit is left out and named.

    Parameters
    ----------
    image : Image4D
    regions : mapping of str to array of shape (x, y, z), bool
        They may overlap.
    limit : float
        Share of bad voxels that is left out with a warning.
    steps : Steps
    drop : int
        Volumes left out at the start.
    """
    union = np.any(list(regions.values()), axis=0)
    voxels = read_masked(image, union, drop)
    bad = voxels.nonfinite | voxels.constant
    columns, names = list[NDArray[np.float32]](), list[str]()
    for name, region in regions.items():
        inside = region[union]
        share = bad[inside].mean()
        if share > limit:
            steps.warn(f"the region {name} is left out: {share:.1%} of its {inside.sum()} voxels are bad")
            continue
        if share > 0:
            steps.warn(f"{share:.1%} of the {inside.sum()} voxels of the region {name} are bad and not in its mean")
        columns.append(voxels.data[:, inside & ~bad].mean(axis=1, dtype=np.float64).astype(np.float32))
        names.append(name)
    return _series(columns, names, image.n_volumes, list(regions), steps)


def _series(
    columns: list[NDArray[np.float32]], names: list[str], n_file: int, wanted: list[str], steps: Steps
) -> Series:
    if not columns:
        return no_series("region", n_file, len(wanted), f"all regions are constant or not finite ({', '.join(wanted)})")
    n_bad = len(wanted) - len(names)
    named = np.array(names, dtype=object)
    return Series(np.stack(columns, axis=1), "region", n_file, names=named, n_bad=n_bad, n_features=len(wanted))


def read_region_table(path: Path, stated: str, steps: Steps, drop: int = 0) -> Series:
    """Read a table of region time courses: rows are volumes, columns are regions.

    Parameters
    ----------
    path : Path
        Text of numbers; a first line of names is read as such.
    stated : str
        Names of the regions, separated by commas, where the file has none.
    steps : Steps
    drop : int
        Volumes left out at the start.

    Returns
    -------
    series : Series
        Constant and non-finite regions are left out and named; excluded when none is left.

    Raises
    ------
    InputError
        No table, or other names than columns.
    """
    header = _header(path)
    values = _body(path, bool(header)).astype(np.float32)
    names = header or [name.strip() for name in stated.split(",") if name.strip()]
    if not names:
        names = [f"region_{number + 1}" for number in range(values.shape[1])]
        steps.warn("the table of region time courses names no regions: they are called region_1, region_2, …")
    if len(names) != values.shape[1]:
        remedy = "Name every column once."
        raise InputError(f"{len(names)} columns ({', '.join(names)})", str(values.shape[1]), path, remedy)
    check_enough(len(values), drop, path)
    data = values[drop:]
    nonfinite, constant = judge_columns(data)
    bad = nonfinite | constant
    if bad.any() and not bad.all():
        left_out = ", ".join(name for name, is_bad in zip(names, bad, strict=True) if is_bad)
        steps.warn(f"regions left out because they are constant or not finite: {left_out}")
    kept = np.flatnonzero(~bad)
    return _series([data[:, index] for index in kept], [names[index] for index in kept], len(values), names, steps)


def _header(path: Path) -> list[str]:
    """Return the words of the first line, if not all of them are numbers."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            words = file.readline().replace(",", " ").split()
    except (OSError, UnicodeDecodeError):
        return []  # the reader of the body says it
    return words if any(not _is_number(word) for word in words) else []


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _body(path: Path, has_header: bool) -> NDArray[np.float64]:
    return read_number_file(path, "a table of region time courses (rows are volumes, columns are regions)", has_header)
