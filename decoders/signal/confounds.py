"""Confounds: fMRIPrep tables and motion files, and the framewise displacement.

Sources: Friston et al. 1996 (24 motion regressors), Power et al. 2012 (framewise displacement and
its cut of .5 mm), Behzadi et al. 2007 (CompCor).
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.events import read_text_table

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
STRATEGIES = ("motion6", "motion24", "compcor", "scrub")
HEAD_RADIUS_MM = 50.0
SCRUB_FD_MM = 0.5
N_COMPCOR = 6
_OUTLIERS = ("motion_outlier", "non_steady_state_outlier")


@dataclass(frozen=True)
class Confounds:
    """The confounds of a run.

    Attributes
    ----------
    table : DataFrame
        One row per volume, numbers; motion in mm and radians under fMRIPrep's names.
    kind : str
        "fmriprep", "fsl" or "spm": the convention by which the file was read.
    where : str
    masks : dict of str to str
        The tissue mask of each CompCor component, where the JSON beside the table says so.
    """

    table: pd.DataFrame
    kind: str
    where: str
    masks: dict[str, str]


def read_confounds(path: str | Path) -> Confounds:
    """Read a confounds table (.tsv) or a motion file of six columns.

    Conventions of motion files: SPM (``rp_*.txt``) has translations in mm first, then rotations in
    radians; FSL (``*.par``, and the ``moest`` files of the OpenfMRI layout) has the rotations first.

    Raises
    ------
    InputError
        No such file, no numbers, or a text file whose convention cannot be told from its name.
    """
    path = Path(path)
    if path.suffix == ".tsv":
        return _read_table(path)
    kind = _convention(path)
    values = read_number_file(path, "a motion file of six columns of numbers")
    if values.shape[1] != 6:
        remedy = "Correct the file, or write a .tsv with a header."
        raise InputError("a motion file of six columns", f"{values.shape[1]} columns", path, remedy)
    order = MOTION if kind == "spm" else (*MOTION[3:], *MOTION[:3])
    return Confounds(pd.DataFrame(values, columns=list(order)), kind, str(path), {})


def _convention(path: Path) -> str:
    name = path.name.lower()
    if path.suffix == ".par" or "moest" in name:
        return "fsl"
    if name.startswith("rp_") or "-rp_" in name or "_rp_" in name:
        return "spm"
    remedy = "Rename it (*.par for FSL, rp_*.txt for SPM), or write a .tsv with the columns trans_x … rot_z."
    raise InputError("a name that tells FSL's order of columns from SPM's", f"'{path.name}'", path, remedy)


def read_number_file(path: str | Path, expected: str, has_header: bool = False) -> NDArray[np.float64]:
    """Read a text file of numbers, separated by blanks, commas or tabs, as many in each row.

    Parameters
    ----------
    path : str or Path
    expected : str
        What the file should be, for messages.
    has_header : bool
        Skip the first line.

    Returns
    -------
    values : array of shape (n_rows, n_columns)

    Raises
    ------
    InputError
        No such file, an empty one, or an entry that is no number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise InputError(expected, "no such file", path, "Correct the path, or fetch the data again.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(expected, f"'{error}'", path, "Export the file again as plain text.") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if has_header and number == 1:
            continue
        try:
            row = [float(word) for word in line.replace(",", " ").split()]
        except ValueError as error:
            raise InputError(expected, f"'{line.strip()[:60]}' in line {number}", path, "Correct the line.") from error
        if row and rows and len(row) != len(rows[0]):
            found = f"{len(row)} values in line {number}, {len(rows[0])} before"
            raise InputError(expected, found, path, "Correct the line.")
        if row:
            rows.append(row)
    if not rows:
        raise InputError(expected, "an empty file", path, "Export the file again.")
    return np.array(rows, dtype=np.float64)


def _read_table(path: Path) -> Confounds:
    text = read_text_table(path, "a table of confounds (tab-separated, one row per volume)")
    table = text.replace("n/a", "nan").apply(pd.to_numeric, errors="coerce").astype(np.float64)
    wrong = table.isna() & ~text.isin(["n/a", "nan", "NaN", ""])
    if wrong.to_numpy().any():
        row, column = (int(index[0]) for index in np.nonzero(wrong.to_numpy()))
        found = f"'{text.iloc[row, column]}' in row {row + 2}, column {text.columns[column]}"
        raise InputError("a table of numbers and n/a", found, path, "Correct the entry.")
    return Confounds(table, "fmriprep", str(path), _compcor_masks(path.with_suffix(".json")))


def _compcor_masks(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        described: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("the JSON description of the confounds", f"'{error}'", path, "Correct the JSON.") from error
    entries = described.items() if isinstance(described, dict) else ()
    return {name: str(entry["Mask"]) for name, entry in entries if isinstance(entry, dict) and "Mask" in entry}


def fit_rows(confounds: Confounds, n_volumes: int, dropped_before: int) -> tuple[Confounds, int]:
    """Return confounds with one row per volume of the image.

    A table may be longer by exactly the volumes that were dropped before the image was published
    (they are known from the time of its first volume); these first rows are then left out.

    Parameters
    ----------
    confounds : Confounds
    n_volumes : int
        Volumes in the image.
    dropped_before : int
        Volumes between the start of the stimulus and the first one of the image.

    Returns
    -------
    confounds : Confounds
    n_left_out : int

    Raises
    ------
    InputError
        Any other number of rows.
    """
    surplus = len(confounds.table) - n_volumes
    if surplus == 0:
        return confounds, 0
    if surplus > 0 and surplus == dropped_before:
        table = confounds.table.iloc[surplus:].reset_index(drop=True)
        return Confounds(table, confounds.kind, confounds.where, confounds.masks), surplus
    remedy = "Check that the table belongs to this run, and that no volumes were removed from one of the two."
    raise InputError(f"{n_volumes} rows, one per volume", str(len(confounds.table)), confounds.where, remedy)


def framewise_displacement(confounds: Confounds) -> NDArray[np.float64]:
    """Return the framewise displacement of Power et al. 2012 in mm; 0 for the first volume.

    Sum of the absolute changes of the three translations (mm) and three rotations, as arcs on a
    sphere of 50 mm.

    Raises
    ------
    InputError
        The table has no motion columns.
    """
    motion = confounds.table[list(_present(confounds, MOTION))].to_numpy().copy()
    motion[:, 3:] *= HEAD_RADIUS_MM
    steps = np.abs(np.diff(motion, axis=0)).sum(axis=1)
    return np.concatenate([[0.0], steps])


def has_motion(confounds: Confounds) -> bool:
    """Return whether the six motion columns are there."""
    return all(name in confounds.table for name in MOTION)


def select(confounds: Confounds, wanted: tuple[str, ...], drop: int = 0) -> pd.DataFrame:
    """Return the wanted confounds as columns without missing values.

    Parameters
    ----------
    confounds : Confounds
    wanted : tuple of str
        Names of columns, or of strategies: 'motion6', 'motion24' (the six, their backward differences and
        the squares of both), 'compcor' (the first six anatomical components of the combined mask),
        'scrub' (one regressor per volume that fMRIPrep calls an outlier; from motion alone, per volume
        with a framewise displacement above .5 mm).
    drop : int
        Volumes left out at the start, after differences were taken.

    Returns
    -------
    columns : DataFrame of shape (n_volumes - drop, n_confounds)

    Raises
    ------
    InputError
        A column is absent, or has missing values beyond its first row.
    """
    parts = [_expand(confounds, name) for name in wanted]
    joined = pd.concat(parts, axis=1) if parts else pd.DataFrame(index=confounds.table.index)
    joined = joined.loc[:, ~joined.columns.duplicated()]
    # Differences have no first value; like nilearn, the second takes its place.
    filled = joined.copy()
    filled.iloc[:1] = joined.iloc[:2].bfill().iloc[:1]
    missing = filled.columns[~np.isfinite(filled.to_numpy()).all(axis=0)]
    if len(missing):
        row = int(np.flatnonzero(~np.isfinite(filled[missing[0]].to_numpy()))[0])
        found = f"a missing or infinite value in column {missing[0]}, row {row + 2}"
        raise InputError("numbers for every volume", found, confounds.where, "Choose another confound.")
    return filled.iloc[drop:].reset_index(drop=True)


def _expand(confounds: Confounds, name: str) -> pd.DataFrame:
    table = confounds.table
    if name == "motion6":
        return table[list(_present(confounds, MOTION))]
    if name == "motion24":
        return _motion24(table[list(_present(confounds, MOTION))])
    if name == "compcor":
        return table[_compcor(confounds)]
    if name == "scrub":
        return _spikes(confounds)
    return table[list(_present(confounds, (name,)))]


def _present(confounds: Confounds, names: tuple[str, ...]) -> tuple[str, ...]:
    columns = [str(column) for column in confounds.table.columns]
    for name in names:
        if name not in columns:
            close = difflib.get_close_matches(name, [*columns, *STRATEGIES], n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"It has: {', '.join(columns[:12])}."
            raise InputError(f"the column '{name}'", "no such column", confounds.where, hint)
    return names


def _motion24(motion: pd.DataFrame) -> pd.DataFrame:
    change = motion.diff()
    parts = [motion, change.add_suffix("_derivative1"), (motion**2).add_suffix("_power2")]
    return pd.concat([*parts, (change**2).add_suffix("_derivative1_power2")], axis=1)


def _compcor(confounds: Confounds) -> list[str]:
    names = [str(column) for column in confounds.table.columns if str(column).startswith("a_comp_cor_")]
    if confounds.masks:
        names = [name for name in names if confounds.masks.get(name) == "combined"]
    if not names:
        remedy = "Use fMRIPrep's table, or leave 'compcor' out."
        raise InputError("anatomical CompCor columns (a_comp_cor_00 …)", "none", confounds.where, remedy)
    return sorted(names)[:N_COMPCOR]


def _spikes(confounds: Confounds) -> pd.DataFrame:
    flagged = [column for column in confounds.table.columns if str(column).startswith(_OUTLIERS)]
    # fMRIPrep writes no outlier column for a run without outliers: its table is known by std_dvars.
    if flagged or "std_dvars" in confounds.table:
        return confounds.table[flagged]
    moved = np.flatnonzero(framewise_displacement(confounds) > SCRUB_FD_MM)
    spikes = np.eye(len(confounds.table))[:, moved]
    return pd.DataFrame(spikes, columns=[f"scrub_{volume}" for volume in moved])
