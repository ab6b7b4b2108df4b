"""Surface data: GIFTI hemispheres and CIFTI dense series, as samples x vertices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.filtering import keep_columns
from decoders.signal.preflight import MEDIAL_WALL_SHARE, check_enough, judge_features
from decoders.signal.series import Series, no_series
from decoders.signal.steps import Steps
from decoders.signal.streaming import judge_columns, load_nifti

_REMEDY = "Give both hemispheres as GIFTI (hemi-L and hemi-R, .func.gii), or one CIFTI dense series (.dtseries.nii)."


def read_surface(paths: Sequence[Path], limit: float, steps: Steps, drop: int = 0) -> tuple[Series, float]:
    """Read a run on the surface.

    Parameters
    ----------
    paths : sequence of Path
        Two GIFTI files (left and right, in any order), or one CIFTI file.
    limit : float
        Share of bad vertices that is left out with a warning. GIFTI files hold the medial wall as well, which
        has no data: a tenth of the vertices on top is expected to be empty.
    steps : Steps
    drop : int
        Volumes left out at the start.

    Returns
    -------
    series : Series
        Features are named ``L:<vertex>``, ``R:<vertex>``; in CIFTI ``<structure>:<vertex or i,j,k>``.
    tr : float
        What the file says, in seconds; nan where it is silent.

    Raises
    ------
    InputError
        Other files, hemispheres of different length, or too many bad vertices.
    """
    if len(paths) == 1 and paths[0].name.endswith(".dtseries.nii"):
        data, names, tr, n_file = _read_cifti(paths[0], drop)
        spared = 0.0
    elif len(paths) == 2 and all(path.name.endswith(".gii") for path in paths):
        data, names, tr, n_file = _read_gifti(paths, drop)
        spared = MEDIAL_WALL_SHARE
    else:
        found = ", ".join(path.name for path in paths)
        raise InputError("two hemispheres (.func.gii) or a .dtseries.nii", found, paths[0], _REMEDY)
    nonfinite, constant = judge_columns(data)
    verdict = judge_features(nonfinite, constant, limit, "vertices", paths[0], spared)
    if verdict.excluded:
        return no_series("surface", n_file, verdict.keep.size, verdict.excluded), tr
    if verdict.warning and spared and (~verdict.keep).mean() <= spared:
        steps.add("medial wall", verdict.warning, share=float((~verdict.keep).mean()))
    elif verdict.warning:
        steps.warn(verdict.warning)
    n_bad = int((~verdict.keep).sum())
    kept = keep_columns(data, verdict.keep)
    return Series(kept, "surface", n_file, names[verdict.keep], n_bad=n_bad, n_features=verdict.keep.size), tr


def _read_gifti(paths: Sequence[Path], drop: int) -> tuple[NDArray[np.float32], NDArray[Any], float, int]:
    sides = {_side(path): path for path in paths}
    if set(sides) != {"L", "R"}:
        raise InputError("hemi-L and hemi-R", ", ".join(path.name for path in paths), paths[0], _REMEDY)
    left, right = _load_gifti(sides["L"]), _load_gifti(sides["R"])
    n_file = len(left.darrays)
    if len(right.darrays) != n_file:
        found = f"{n_file} left and {len(right.darrays)} right"
        raise InputError("as many volumes in both hemispheres", found, sides["R"], "Export the two again.")
    n_left, n_right = (_n_vertices(image, path) for image, path in ((left, sides["L"]), (right, sides["R"])))
    check_enough(n_file, drop, sides["L"])
    trs = [_gifti_tr(image) for image in (left, right)]
    data = np.empty((n_file - drop, n_left + n_right), dtype=np.float32)
    for image, part, path in ((left, slice(None, n_left), sides["L"]), (right, slice(n_left, None), sides["R"])):
        _fill(data[:, part], image, drop, path)
    names = np.array([f"L:{i}" for i in range(n_left)] + [f"R:{i}" for i in range(n_right)], dtype=object)
    known = [tr for tr in trs if np.isfinite(tr)]
    return data, names, known[0] if known else float("nan"), n_file


def _side(path: Path) -> str:
    match = re.search(r"(?:hemi-|[._])([LR])(?=[._])", path.name)
    return match.group(1) if match else ""


def _load_gifti(path: Path) -> Any:
    from xml.parsers.expat import ExpatError

    import nibabel as nib

    try:
        image = load_nifti(path)
    except ExpatError as error:
        raise InputError("a whole GIFTI file", f"'{error}'", path, "Copy or download the file again.") from error
    if not isinstance(image, nib.GiftiImage) or not image.darrays:
        raise InputError("a GIFTI file with one array per volume", "none", path, _REMEDY)
    return image


def _n_vertices(image: Any, path: Path) -> int:
    shapes = {np.shape(array.data) for array in image.darrays}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 1:
        raise InputError("one array of one value per vertex for each volume", "other shapes", path, _REMEDY)
    return int(shape[0])


def _gifti_tr(image: Any) -> float:
    """Return TimeStep (milliseconds, by the GIFTI standard) in seconds, nan where it is absent."""
    for meta in (image.darrays[0].meta, image.meta):
        try:
            value = float(meta.get("TimeStep", "nan"))
        except ValueError:
            continue
        if value > 0:
            return round(value / 1000, 6)
    return float("nan")


def _fill(data: NDArray[np.float32], image: Any, drop: int, path: Path) -> None:
    # GIFTI is XML: nibabel has decoded it whole. Each array is let go as it is copied, so that it is held once.
    image.darrays = image.darrays[drop:]
    image.darrays.reverse()
    for row in data:
        row[:] = image.darrays.pop().data


def _read_cifti(path: Path, drop: int) -> tuple[NDArray[np.float32], NDArray[Any], float, int]:
    import nibabel as nib

    image = load_nifti(path)
    if not isinstance(image, nib.Cifti2Image) or len(image.shape) != 2:
        raise InputError("a CIFTI dense series", f"a {type(image).__name__}", path, _REMEDY)
    time, grayordinates = image.header.get_axis(0), image.header.get_axis(1)
    if not isinstance(time, nib.cifti2.SeriesAxis) or not isinstance(grayordinates, nib.cifti2.BrainModelAxis):
        raise InputError("time by grayordinates (dtseries)", "other axes", path, _REMEDY)
    check_enough(image.shape[0], drop, path)
    data = np.empty((image.shape[0] - drop, image.shape[1]), dtype=np.float32)
    try:
        for row in range(len(data)):
            data[row] = image.dataobj[row + drop]
    except (OSError, EOFError, ValueError) as error:
        raise InputError("a whole CIFTI file", f"'{error}'", path, "Copy or download the file again.") from error
    tr = float(time.step) if time.unit == "SECOND" and time.step > 0 else float("nan")
    return data, _grayordinate_names(grayordinates), tr, int(image.shape[0])


def _grayordinate_names(axis: Any) -> NDArray[Any]:
    names = [
        f"{structure.removeprefix('CIFTI_STRUCTURE_')}:{vertex}"
        if vertex >= 0
        else f"{structure.removeprefix('CIFTI_STRUCTURE_')}:{','.join(map(str, voxel))}"
        for structure, vertex, voxel in zip(axis.name, axis.vertex, axis.voxel, strict=True)
    ]
    return np.array(names, dtype=object)
