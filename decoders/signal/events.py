"""Events of a run: reading, blocks, and the condition of each volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError

# Events of one condition that follow each other within this many TR form one block.
BLOCK_GAP_TR = 2.0
# Volumes that start this close to the edge of a block are on it: onsets are decimal fractions.
_EDGE_S = 1e-6


@dataclass(frozen=True)
class Events:
    """Events in the order of their onsets.

    Attributes
    ----------
    onset, duration : array of shape (n_events,)
        Seconds after the start of the first volume of the file (BIDS).
    trial_type : array of str of shape (n_events,)
        Empty text where the file says n/a.
    typed : bool
        Whether the file has a column trial_type.
    where : str
        The file, for messages.
    """

    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    trial_type: NDArray[np.object_]
    typed: bool
    where: str


@dataclass(frozen=True)
class Block:
    """A stretch of one condition, in seconds after the start of the first volume of the file."""

    condition: str
    onset: float
    end: float


def read_events(path: str | Path) -> Events:
    """Read a BIDS events table.

    Raises
    ------
    InputError
        The file is absent, has no columns onset and duration, or an entry of them is not a number.
    """
    table = read_text_table(path, "a BIDS events table (tab-separated, with the columns onset and duration)")
    missing = [column for column in ("onset", "duration") if column not in table]
    if missing:
        remedy = "Name the columns as BIDS does: onset, duration, trial_type."
        raise InputError("the columns onset and duration", f"only {', '.join(map(str, table.columns))}", path, remedy)
    onset = _numbers(table["onset"], "onset", path)
    duration = _numbers(table["duration"], "duration", path)
    if (duration < 0).any():
        row = int(np.flatnonzero(duration < 0)[0])
        found = f"{duration[row]:g} s in row {row + 2}"
        raise InputError("durations of 0 s or more", found, path, "Correct the row.")
    typed = "trial_type" in table
    kinds = table["trial_type"].replace("n/a", "").str.strip() if typed else pd.Series([""] * len(table), dtype=object)
    order = np.argsort(onset, kind="stable")
    return Events(onset[order], duration[order], kinds.to_numpy(dtype=object)[order], typed, str(path))


def read_text_table(path: str | Path, expected: str) -> pd.DataFrame:
    """Read a tab-separated table as text, all values as they are written.

    Raises
    ------
    InputError
        The file is absent, empty, or no table.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(expected, "no such file", path, "Correct the data set, or the path to it.") from error
    except (OSError, ValueError) as error:
        raise InputError(expected, f"'{error}'", path, "Open the file and correct it.") from error
    if table.isna().to_numpy().any():
        row = int(np.flatnonzero(table.isna().any(axis=1))[0])
        found = f"too few values in row {row + 2}"
        raise InputError("as many values as columns in each row", found, path, "Correct the row.")
    return table


def _numbers(column: pd.Series, name: str, path: str | Path) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        found = f"'{column.iloc[wrong[0]]}' in row {wrong[0] + 2}"
        raise InputError(f"a number in the column {name} of each row", found, path, "Correct or remove the row.")
    return values


def check_events(events: Events, n_volumes: int, tr: float) -> None:
    """Refuse events that do not fit the run.

    An event may outlast the run by one TR at most, because durations are often rounded; it may
    start before the first volume, as BIDS allows.

    Parameters
    ----------
    events : Events
    n_volumes : int
        Volumes in the file, before any are dropped.
    tr : float
        Repetition time in seconds.

    Raises
    ------
    InputError
        An event starts after the end of the run, or outlasts it.
    """
    end = n_volumes * tr
    beyond = np.flatnonzero((events.onset >= end) | (events.onset + events.duration > end + tr))
    if beyond.size == 0:
        return
    first = beyond[0]
    name = f"'{events.trial_type[first]}' " if events.trial_type[first] else ""
    found = (
        f"the event {name}from {events.onset[first]:g} to {events.onset[first] + events.duration[first]:g} s"
        f" ({beyond.size} of {events.onset.size} events lie beyond)"
    )
    expected = f"events before the end of the run at {end:g} s ({n_volumes} volumes of {tr:g} s)"
    remedy = "Check that the events belong to this run, are in seconds, and that the TR is right."
    raise InputError(expected, found, events.where, remedy)


def merge_blocks(events: Events, tr: float, gap_tr: float = BLOCK_GAP_TR) -> list[Block]:
    """Join consecutive events of one condition with gaps of at most `gap_tr` TR.

    Events without a condition are left out, and do not part a block.

    Returns
    -------
    blocks : list of Block
        In the order of their onsets.
    """
    blocks: list[Block] = []
    for condition, onset, duration in zip(events.trial_type, events.onset, events.duration, strict=True):
        if not condition:
            continue
        last = blocks[-1] if blocks else None
        if last and last.condition == condition and onset - last.end <= gap_tr * tr + _EDGE_S:
            blocks[-1] = Block(condition, last.onset, max(last.end, float(onset + duration)))
        else:
            blocks.append(Block(str(condition), float(onset), float(onset + duration)))
    return blocks


def label_volumes(blocks: list[Block], times: NDArray[np.float64]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return condition and block of each volume, by the time at which it starts.

    Parameters
    ----------
    blocks : list of Block
    times : array of shape (n_volumes,)
        Start of each volume, in seconds after the first volume of the file.

    Returns
    -------
    conditions : array of str of shape (n_volumes,)
        Empty text where no block is. Where blocks overlap, the one that started last counts.
    groups : array of int of shape (n_volumes,)
        Number of the block in `blocks`, -1 where there is none.
    """
    conditions = np.full(times.size, "", dtype=object)
    groups = np.full(times.size, -1, dtype=np.int64)
    for number, block in enumerate(blocks):
        inside = (times >= block.onset - _EDGE_S) & (times < block.end - _EDGE_S)
        conditions[inside], groups[inside] = block.condition, number
    return conditions, groups


def overlaps(blocks: list[Block]) -> int:
    """Return the number of blocks that start before an earlier one has ended."""
    latest, count = -np.inf, 0
    for block in blocks:
        count += block.onset < latest - _EDGE_S
        latest = max(latest, block.end)
    return int(count)
