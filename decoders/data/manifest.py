"""The manifest: one row per run. Whatever follows reads this table; nothing walks the input tree again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import pandas as pd

from decoders.errors import InputError
from decoders.store.tables import read_table, write_table

Modality = Literal["bold", "region", "surface", "rdm", "meg", "eeg"]
FileColumn = Literal[
    "image", "mask", "sidecar", "events", "confounds", "text", "truth",
    "channels", "calibration", "crosstalk", "empty_room",
]  # fmt: skip
FILE_COLUMNS: tuple[FileColumn, ...] = get_args(FileColumn)
SENSORS = ("meg", "eeg")
_MODALITIES = ("bold", "region", "surface", "rdm", *SENSORS)
_NUMBERS = ("tr", "n_volumes", "start_time", "sfreq")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Run:
    """One run (or, for modality "rdm", one subject x region): a row of the manifest.

    Text that does not apply is ``""``, a number that does not apply is nan; both are ``n/a`` on disk.

    Attributes
    ----------
    run_id : str
        Unique and safe as part of a file name, e.g. ``sub-01_task-story_run-01``.
    subject, session, task, run : str
        BIDS labels without their prefixes.
    modality : {"bold", "region", "surface", "rdm", "meg", "eeg"}
        What the image holds.
    root : str
        Folder of the data set; relative to the working directory when inside it.
    image, mask, sidecar, events, confounds, text, truth : str
        Files, relative to `root`. `text` is a TextGrid or a table of words; `truth` is the planted
        truth of the phantom. Surface runs hold both hemispheres in `image`, separated by ``;``.
    channels, calibration, crosstalk, empty_room : str
        Files of an MEG or EEG run: its channels.tsv, the fine calibration and the cross-talk of the Maxwell filter, the
        recording without a person.
    stimulus : str
        Name of the story or of the picture set.
    tr : float
        Repetition time in seconds.
    n_volumes : int or float
        Number of volumes (an int where known).
    start_time : float
        Seconds from the stimulus onset to the start of the first volume (or sample).
    sfreq : float
        Samples per second of an MEG or EEG run.
    region : str
        Region of an RDM.
    space : str
        Space entity of the image.
    sha256 : str
        Checksum of the image (of several images: of their checksums).
    status : {"ok", "excluded"}
        Excluded runs stay in the table, with their `reason`.
    reason : str
        Why the run is excluded.
    """

    run_id: str
    subject: str
    session: str = ""
    task: str = ""
    run: str = ""
    modality: Modality = "bold"
    root: str = "."
    image: str = ""
    mask: str = ""
    sidecar: str = ""
    events: str = ""
    confounds: str = ""
    text: str = ""
    stimulus: str = ""
    truth: str = ""
    tr: float = math.nan
    n_volumes: float = math.nan
    start_time: float = math.nan
    region: str = ""
    space: str = ""
    channels: str = ""
    calibration: str = ""
    crosstalk: str = ""
    empty_room: str = ""
    sfreq: float = math.nan
    sha256: str = ""
    status: Literal["ok", "excluded"] = "ok"
    reason: str = ""

    def path(self, column: FileColumn) -> Path | None:
        """Return a file of this run, or None where it has none.

        Raises
        ------
        InputError
            The manifest names a file outside the data set.
        """
        paths = self.paths(column)
        return paths[0] if paths else None

    def paths(self, column: FileColumn) -> list[Path]:
        """Return the files of one column: none, one, or one per hemisphere."""
        if column not in FILE_COLUMNS:
            raise ValueError(f"'{column}' is no file column; they are {FILE_COLUMNS}")
        return [Path(self.root) / inside(part, self.run_id) for part in getattr(self, column).split(";") if part]


COLUMNS = tuple(field.name for field in fields(Run))
_TEXT = tuple(column for column in COLUMNS if column not in _NUMBERS)


def inside(path: str, where: str | Path) -> str:
    """Return a relative path as it is, if it stays inside its data set.

    Raises
    ------
    InputError
        The path is absolute or climbs out by ``..``.
    """
    pure = PurePosixPath(path.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:", path):
        remedy = "Move the file into the data set and name it relative to its root."
        raise InputError("a path inside the data set", f"'{path}'", where, remedy)
    return path


def relative_root(root: str | Path) -> str:
    """Return a folder as the manifest names it: relative inside the working directory, absolute elsewhere."""
    root, here = Path(root).resolve(), Path.cwd()
    return root.relative_to(here).as_posix() if root.is_relative_to(here) else root.as_posix()


def write_manifest(path: str | Path, runs: Sequence[Run]) -> None:
    """Write the manifest, in the order of its run ids.

    Raises
    ------
    InputError
        Two runs share a run id, or a field cannot be written.
    """
    for run in runs:
        _check(run, path)
    ids = [run.run_id for run in runs]
    doubled = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if doubled:
        raise InputError("one row per run", f"{doubled} more than once", path, "Remove or rename the duplicated files.")
    ordered = sorted(runs, key=lambda run: run.run_id)
    rows = [{column: _to_disk(column, getattr(run, column)) for column in COLUMNS} for run in ordered]
    write_table(path, pd.DataFrame(rows, columns=list(COLUMNS)))


def read_manifest(path: str | Path) -> list[Run]:
    """Read and verify a manifest.

    Raises
    ------
    IntegrityError
        The table is absent or was changed since it was written.
    InputError
        It lacks a column, or holds a value that no run can have.
    """
    table = read_table(path, text_columns=_TEXT)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        expected = f"the columns {', '.join(COLUMNS)}"
        raise InputError(expected, f"no {', '.join(missing)}", path, "Delete it and run again.")
    runs = [Run(**{column: _from_disk(column, row[column]) for column in COLUMNS}) for row in table.to_dict("records")]
    for run in runs:
        _check(run, path)
    return runs


def select_runs(
    runs: Iterable[Run], subject: str | None = None, task: str | None = None, include_excluded: bool = False
) -> list[Run]:
    """Return the usable runs of a subject and a task; None takes all."""
    return [
        run
        for run in runs
        if (subject is None or run.subject == subject)
        and (task is None or run.task == task)
        and (include_excluded or run.status == "ok")
    ]


def _check(run: Run, where: str | Path) -> None:
    remedy = "Correct the data set or its adapter."
    if not _RUN_ID.fullmatch(run.run_id) or ".." in run.run_id:
        raise InputError("a run id of letters, digits, '-', '_', '+' and '.'", f"'{run.run_id}'", where, remedy)
    if run.modality not in _MODALITIES:
        raise InputError(f"a modality among {', '.join(_MODALITIES)}", f"'{run.modality}'", where, remedy)
    if run.status not in ("ok", "excluded"):
        raise InputError("the status 'ok' or 'excluded'", f"'{run.status}'", where, remedy)
    for column in _TEXT:
        value = getattr(run, column)
        # 'n/a' is how a missing value is written, and a control character would break the table's lines.
        if value == "n/a" or not value.isprintable():
            raise InputError(f"printable text in the column '{column}'", repr(value), where, remedy)
    for column in FILE_COLUMNS:
        run.paths(column)


def _to_disk(column: str, value: object) -> object:
    if column in _NUMBERS:
        return None if isinstance(value, float) and math.isnan(value) else value
    return value or None


def _from_disk(column: str, value: object) -> Any:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if column not in _NUMBERS:
        return "" if missing else value
    if missing:
        return math.nan
    return int(float(str(value))) if column == "n_volumes" else float(str(value))
