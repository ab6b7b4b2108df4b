"""What a run's events say of its stimulus: a story with its text, or a set of pictures."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from decoders.data.manifest import inside
from decoders.errors import InputError

PICTURE_SET = "pictures"
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")
_TEXTS = ("_words.tsv", ".TextGrid")


@dataclass(frozen=True)
class Stimulus:
    """Name of a stimulus, its text (relative to the manifest's root) and the start of the run in it.

    Attributes
    ----------
    name : str
        Name of the story or of the picture set; "" where the events name none.
    text : str
    start_time : float
        Seconds from the onset of the story to the first volume (0 for other runs).
    """

    name: str
    text: str
    start_time: float


def find_stimulus(root: Path, events: Path, relative_to: Path) -> Stimulus:
    """Read the stimulus of a run from the column stim_file of its events.

    A story is an event whose stim_file is a table of words (``*_words.tsv``) or a TextGrid, or has
    one beside it of the same name. Paths are relative to the folder ``stimuli`` (as BIDS says) or to
    the root of the data set.

    Raises
    ------
    InputError
        The events cannot be read; a file is outside the data set; a text is missing; one run has two texts.
    """
    table = _read(events)
    if "stim_file" not in table:
        return Stimulus("", "", 0.0)
    files = [name for name in dict.fromkeys(table["stim_file"]) if name not in ("", "n/a")]
    texts = {name: path for name in files if (path := _text_of(root, inside(name, events), events)) is not None}
    distinct = sorted(set(texts.values()))
    if len(distinct) > 1:
        found = " and ".join(path.relative_to(root).as_posix() for path in distinct)
        raise InputError("one text per run", found, events, "Split the run, or join the texts.")
    if distinct:
        onset = _onset(table, set(texts), events)
        relative = Path(os.path.relpath(distinct[0], relative_to)).as_posix()
        return Stimulus(_stem(distinct[0].name), relative, -onset or 0.0)
    pictures = any(PurePosixPath(name).suffix.lower() in _PICTURES for name in files)
    named = pictures and (root / "stimuli" / f"{PICTURE_SET}.tsv").is_file()
    return Stimulus(PICTURE_SET if named else "", "", 0.0)


def _read(events: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(events, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError("a BIDS events table", f"'{error}'", events, "Open the file and correct it.") from error


def _text_of(root: Path, name: str, events: Path) -> Path | None:
    candidates = [root / "stimuli" / name, root / name]
    if name.endswith(_TEXTS):
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            remedy = "Add the file (BIDS keeps it in the folder stimuli), or correct the column stim_file."
            raise InputError(f"the text {name} of the stimulus", "no such file", events, remedy)
        return found
    beside = (path.with_name(path.stem + ending) for path in candidates for ending in _TEXTS)
    return next((path for path in beside if path.is_file()), None)


def _stem(name: str) -> str:
    return next(name.removesuffix(ending) for ending in _TEXTS if name.endswith(ending))


def _onset(table: pd.DataFrame, names: set[str], events: Path) -> float:
    values = pd.to_numeric(table.loc[table["stim_file"].isin(names)].get("onset"), errors="coerce")
    onset = float(values.min()) if values is not None and len(values) else math.nan
    if not math.isfinite(onset):
        raise InputError("an onset in seconds for the stimulus", "none", events, "Correct the column onset.")
    return onset
