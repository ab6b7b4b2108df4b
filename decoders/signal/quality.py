"""Quality of runs for the report: one row per run, motion, carpet, and tSNR maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.data.manifest import Run
from decoders.signal.preflight import Grid, same_grid
from decoders.signal.steps import parameter_of, warnings_of
from decoders.store.arrays import Array
from decoders.store.recording import Recording
from decoders.store.tables import read_table

COLUMNS = (
    "run_id", "subject", "session", "task", "run", "kind", "n_volumes", "tr", "n_features", "tsnr_median",
    "fd_mean", "fd_max", "n_bad", "excluded", "warnings",
)  # fmt: skip
CARPET_ROWS = 200
DEFINITIONS = {
    "tsnr": "mean over standard deviation of the linearly detrended series, before high-pass, confounds and z-score",
    "fd": "framewise displacement of Power et al. 2012 in mm: |change| of three translations plus three rotations as"
    " arcs on a sphere of 50 mm; 0 for the first volume of the file",
    "carpet": "preprocessed series; each row is the mean of neighbouring features, divided by its standard deviation",
    "n_bad": "features left out because they are constant or not finite",
}


def quality_row(run: Run, recording: Recording) -> dict[str, Any]:
    """Return the row of one run in quality.tsv (None where there is no value)."""
    tsnr = recording.quality.get("tsnr", np.zeros(0))
    tsnr = tsnr[np.isfinite(tsnr)]
    moved = recording.quality.get("framewise_displacement", np.zeros(0))
    return {
        "run_id": run.run_id,
        "subject": run.subject,
        "session": run.session or None,
        "task": run.task or None,
        "run": run.run or None,
        "kind": recording.kind,
        "n_volumes": len(recording.data),
        "tr": recording.tr or None,
        "n_features": recording.data.shape[1],
        "tsnr_median": float(np.median(tsnr)) if tsnr.size else None,
        "fd_mean": float(moved[1:].mean()) if moved.size > 1 else None,
        "fd_max": float(moved[1:].max()) if moved.size > 1 else None,
        "n_bad": parameter_of(recording.steps, "features", "n_bad"),
        "excluded": recording.excluded or None,
        "warnings": "; ".join(warnings_of(recording.steps)) or None,
    }


def decodable_subjects(path: str | Path, task: str | None, least: int, sensors: bool = False) -> list[str]:
    """Return the subjects of a quality table who can be decoded.

    Parameters
    ----------
    path : str or Path
        quality.tsv.
    task : str or None
        Runs of other tasks do not count; None takes all.
    least : int
        Usable runs that an analysis needs. A subject with fewer drops out if exclusions are the cause;
        one who never had as many stays, and the analysis says what it needs.
    sensors : bool
        Whether runs of MEG and EEG count, or those of fMRI: both may have the task of one name.

    Returns
    -------
    list of str
        Sorted.
    """
    table = read_table(path, text_columns=("subject", "task", "excluded"))
    table = table[(table["kind"] == "sensor") == sensors]
    table = table if task is None else table[table["task"] == task]
    usable = table[table["excluded"].isna()].groupby("subject").size()
    recorded = table.groupby("subject").size()
    return sorted(str(subject) for subject, n in usable.items() if n >= min(least, recorded[subject]))


def carpet(data: NDArray[np.float32], rows: int = CARPET_ROWS) -> NDArray[np.float16]:
    """Return the run as a picture of few rows.

    Parameters
    ----------
    data : array of shape (n_volumes, n_features)
    rows : int
        At most as many rows; neighbouring features (in the order of the mask) are averaged.

    Returns
    -------
    picture : array of shape (n_rows, n_volumes), float16
        Each row has mean 0 and deviation 1; rows without any are 0.
    """
    parts = np.array_split(np.arange(data.shape[1]), min(rows, data.shape[1]))
    picture = np.stack([data[:, part[0] : part[-1] + 1].mean(axis=1, dtype=np.float64) for part in parts])
    picture -= picture.mean(axis=1, keepdims=True)
    size = picture.std(axis=1, keepdims=True)
    return np.divide(picture, size, out=np.zeros_like(picture), where=size > 0).astype(np.float16)


def quality_arrays(run_id: str, recording: Recording) -> dict[str, Array]:
    """Return displacement and carpet of one run; nothing for an excluded one."""
    if recording.excluded:
        return {}
    arrays = {f"carpet/{run_id}": Array(carpet(recording.data), ("feature", "time"))}
    if "framewise_displacement" in recording.quality:
        arrays[f"fd/{run_id}"] = Array(recording.quality["framewise_displacement"], ("time",), "mm")
    return arrays


class TsnrMap:
    """Mean tSNR over the runs of one subject, without holding the runs.

    For voxels the map has the grid of the subject's first run; runs on other grids are not in it, and
    a voxel's mean is over the runs that have it. Regions and vertices are matched by name.
    """

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | None = None
        self._count: NDArray[np.float64] | None = None
        self._grid: Grid | None = None
        self._names: dict[str, int] = {}
        self.n_left_out = 0

    def add(self, recording: Recording) -> None:
        """Add a run."""
        values = np.nan_to_num(recording.quality["tsnr"].astype(np.float64))
        if recording.mask is None or recording.affine is None:
            self._add_named(recording.names, values)
            return
        grid = Grid(recording.mask.shape, recording.affine, "")
        if self._grid is None:
            self._grid = grid
            self._sum, self._count = np.zeros(grid.shape), np.zeros(grid.shape)
        if self._sum is None or self._count is None or not same_grid(self._grid, grid):
            self.n_left_out += 1
            return
        self._sum[recording.mask] += values
        self._count[recording.mask] += 1

    def _add_named(self, names: NDArray[Any], values: NDArray[np.float64]) -> None:
        for name in names:
            self._names.setdefault(str(name), len(self._names))
        old_sum = np.zeros(0) if self._sum is None else self._sum
        old_count = np.zeros(0) if self._count is None else self._count
        more = len(self._names) - old_sum.size
        self._sum, self._count = np.pad(old_sum, (0, more)), np.pad(old_count, (0, more))
        places = [self._names[str(name)] for name in names]
        self._sum[places] += values
        self._count[places] += 1

    def arrays(self, subject: str) -> dict[str, Array]:
        """Return ``tsnr/<subject>``, with affine and mask for voxels and names for other features."""
        if self._sum is None or self._count is None:
            return {}
        blank = np.full(self._sum.shape, np.nan)
        mean = np.divide(self._sum, self._count, out=blank, where=self._count > 0).astype(np.float32)
        if self._grid is None:
            names = np.array(list(self._names), dtype=object)
            return {f"tsnr/{subject}": Array(mean, ("feature",)), f"tsnr_names/{subject}": Array(names, ("feature",))}
        axes = ("x", "y", "z")
        return {
            f"tsnr/{subject}": Array(mean, axes),
            f"tsnr_mask/{subject}": Array((self._count > 0).astype(np.uint8), axes),
            f"tsnr_affine/{subject}": Array(self._grid.affine, ("row", "column"), "mm"),
        }


def maps_of(maps: Mapping[str, TsnrMap]) -> dict[str, Array]:
    """Return the arrays of all subjects, in the order of their labels."""
    found: dict[str, Array] = {}
    for subject in sorted(maps):
        found |= maps[subject].arrays(subject)
    return found
