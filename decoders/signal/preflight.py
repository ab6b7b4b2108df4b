"""Checks before anything is computed. What does not fit is refused with both values, never mended in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.data.manifest import Run
from decoders.errors import InputError

# Two statements of the TR agree within this; over 1,000 volumes it is a second.
TR_TOLERANCE_S = 1e-3
# Two grids are one when no corner voxel moves by more than this.
GRID_TOLERANCE_MM = 0.05
# Cortical surfaces hold the medial wall, which has no data: 8.7 % of fsaverage5, 8.5-8.6 % of fsLR 32k.
MEDIAL_WALL_SHARE = 0.10


@dataclass(frozen=True)
class Grid:
    """Shape and affine of an image, and its file for messages."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    where: str

    def describe(self) -> str:
        """Return shape, orientation and affine as text."""
        import nibabel as nib

        codes = "".join(code or "?" for code in nib.aff2axcodes(self.affine))
        rows = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in self.affine[:3])
        return f"shape {tuple(self.shape)}, orientation {codes}, affine [{rows}]"


def same_grid(one: Grid, other: Grid) -> bool:
    """Return whether the voxels of two images coincide."""
    if tuple(one.shape) != tuple(other.shape):
        return False
    far = np.array(one.shape) - 1
    corners = np.array([[x, y, z, 1] for x in (0, far[0]) for y in (0, far[1]) for z in (0, far[2])])
    moved = corners @ (one.affine - other.affine).T
    return bool(np.linalg.norm(moved[:, :3], axis=1).max() <= GRID_TOLERANCE_MM)


def check_grid(image: Grid, other: Grid, what: str) -> None:
    """Refuse a mask or label image whose voxels are not those of the run.

    Parameters
    ----------
    image, other : Grid
        The run, and the image that must lie on its grid.
    what : str
        What `other` is, e.g. "mask".

    Raises
    ------
    InputError
        Shape, orientation or affine differ; both are printed.
    """
    if same_grid(image, other):
        return
    expected = f"a {what} on the grid of {image.where} ({image.describe()})"
    remedy = (
        f"Resample the {what} onto the run's grid yourself (nilearn.image.resample_to_img with interpolation='nearest')"
        " and look at the result, or give the one made for this space: Corticode does not resample in silence."
    )
    raise InputError(expected, other.describe(), other.where, remedy)


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """Read the JSON sidecar of an image.

    Raises
    ------
    InputError
        The file is absent or not a JSON object.
    """
    expected = "the JSON sidecar of the image, with RepetitionTime"
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        remedy = "Add the sidecar (dcm2niix writes it), or set data.tr."
        raise InputError(expected, "no such file", path, remedy) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(expected, f"'{error}'", path, "Correct the JSON, e.g. with the BIDS validator.") from error
    if not isinstance(value, dict):
        raise InputError(expected, f"a {type(value).__name__}", path, "Correct the JSON.")
    return value


def sidecar_seconds(sidecar: Mapping[str, Any], key: str, path: str | Path) -> float:
    """Return a time of the sidecar in seconds, nan where it is absent.

    Raises
    ------
    InputError
        The value is no number of seconds (milliseconds are a common slip).
    """
    value = sidecar.get(key)
    if value is None:
        return float("nan")
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if not 0 <= number < 100:
        remedy = f"BIDS gives {key} in seconds, as a number."
        raise InputError(f"{key} in seconds, below 100", f"{json.dumps(value)[:60]}", path, remedy)
    return number


def resolve_tr(statements: Mapping[str, float], chosen: float | None, where: str | Path) -> float:
    """Return the TR that all sources agree on, or the one that the settings choose among them.

    Parameters
    ----------
    statements : mapping of str to float
        What each source says in seconds; nan or 0 where it is silent.
    chosen : float or None
        The setting data.tr.
    where : str or Path
        The image, for messages.

    Raises
    ------
    InputError
        Nobody states a TR, the sources disagree and the settings do not choose, or the settings name
        a TR that no source states.
    """
    stated = {name: value for name, value in statements.items() if np.isfinite(value) and value > 0}
    listed = ", ".join(f"{value:g} s in {name}" for name, value in stated.items())
    if chosen is not None:
        if stated and not any(abs(value - chosen) <= TR_TOLERANCE_S for value in stated.values()):
            remedy = "Correct data.tr, or the header and sidecar if they are wrong."
            raise InputError(f"a TR of {chosen:g} s (data.tr)", listed, where, remedy)
        return chosen
    if not stated:
        remedy = "Set data.tr to the repetition time in seconds."
        raise InputError("a TR in the header or the sidecar", "none", where, remedy)
    values = list(stated.values())
    if max(values) - min(values) > TR_TOLERANCE_S:
        remedy = "Find out which is right (scan protocol), then correct the other or set data.tr to one of them."
        raise InputError("one TR", listed, where, remedy)
    return values[0]


def check_n_volumes(run: Run, found: int) -> None:
    """Refuse an image that has not the volumes of the manifest.

    Raises
    ------
    InputError
        The number differs.
    """
    if np.isfinite(run.n_volumes) and run.n_volumes != found:
        remedy = "The file has changed since the manifest was written: delete the manifest and run again."
        raise InputError(f"{run.n_volumes:g} volumes (manifest)", str(found), run.path("image") or run.image, remedy)


def check_enough(n_volumes: int, drop: int, where: str | Path) -> None:
    """Refuse a run of which fewer than 3 volumes would be left.

    Raises
    ------
    InputError
        Names both numbers.
    """
    if n_volumes - drop < 3:
        remedy = "Lower preprocess.drop_volumes, or leave this run out."
        raise InputError(f"at least 3 volumes after dropping {drop}", f"{n_volumes} in all", where, remedy)


def check_duplicates(run: Run, runs: Sequence[Run]) -> None:
    """Refuse a run whose image holds the same bytes as that of another run.

    Raises
    ------
    InputError
        Names the other runs.
    """
    comparable = [other for other in runs if other.modality == run.modality and other.status == "ok" and run.sha256]
    same = [other.run_id for other in comparable if other.run_id != run.run_id and other.sha256 == run.sha256]
    if same:
        found = f"the same bytes in {', '.join(same)} (SHA-256 {run.sha256[:12]}…)"
        remedy = "One of them is a copy: find out which run it is, and remove the other from the data set."
        raise InputError(f"data of its own in the run {run.run_id}", found, run.path("image") or run.image, remedy)


@dataclass(frozen=True)
class Verdict:
    """What is done about bad features.

    Attributes
    ----------
    keep : array of bool of shape (n_features,)
    n_nonfinite, n_constant : int
    warning, excluded : str
        A sentence, or empty text.
    """

    keep: NDArray[np.bool_]
    n_nonfinite: int
    n_constant: int
    warning: str = ""
    excluded: str = ""


def judge_features(
    nonfinite: NDArray[np.bool_],
    constant: NDArray[np.bool_],
    limit: float,
    what: str,
    where: str | Path,
    spared: float = 0.0,
) -> Verdict:
    """Decide on non-finite and constant features (voxels in the mask, vertices).

    Parameters
    ----------
    nonfinite, constant : array of bool of shape (n_features,)
    limit : float
        Share that may be dropped (preprocess.max_bad_share).
    what : str
        "voxels in the mask", "vertices", …
    where : str or Path
        The image.
    spared : float
        Share on top of `limit` that is expected to be empty (the medial wall of a surface).

    Raises
    ------
    InputError
        More than the limit is bad, but not all.
    """
    bad = nonfinite | constant
    counts = int(nonfinite.sum()), int((constant & ~nonfinite).sum())
    listed = f"{counts[0]} of {bad.size} {what} are not finite, {counts[1]} are constant"
    if bad.all():
        reason = f"all {bad.size} {what} are constant or not finite ({listed})"
        return Verdict(~bad, *counts, excluded=reason)
    if bad.mean() > limit + spared:
        remedy = (
            "Look at the image and at the mask (it may reach beyond the field of view); correct one of them,"
            " or raise preprocess.max_bad_share if these voxels may be left out."
        )
        expected = f"at most {limit + spared:.1%} bad {what}"
        raise InputError(expected, f"{bad.mean():.1%} ({listed})", where, remedy)
    return Verdict(~bad, *counts, warning=f"{listed}: they are left out" if bad.any() else "")
