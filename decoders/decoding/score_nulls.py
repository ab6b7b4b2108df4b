"""The nulls behind scores: drawn alike for all people who got the same, and kept for scores of the group.

People who hear one story share more than its words: a language model's habits, the place in a run, what attention
does over minutes. None of it need know the text, and still it meets the text in all of them alike, by luck. Shifts
that are drawn for each person apart average this luck away in the null, but not in the score. One shift for all keeps
it: the same part of the run in everybody, as many seconds where the runs that heard a story are equally long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import IntegrityError
from decoders.store.arrays import Array, read_arrays, write_arrays

# A row of scores holds its null under this name until the table is written.
NULL = "null"
_KEYS = ("modality", "task", "split", "seed", "model", "metric", "control_of")
Draw = Callable[..., np.random.Generator]
Nulls = dict[str, NDArray[np.float64]]


def story_seeds(draw: Draw, stories: Sequence[str]) -> list[int]:
    """Return a seed of shifts for each held-out run: whoever is tested on the same story has the same shifts.

    Parameters
    ----------
    draw : callable
        Returns a generator for some keys, as ``Job.rng`` does.
    stories : sequence of str
        Of each held-out run, or block of a run, in order. Parts of one story are told apart by their order.
    """
    seen: Counter[str] = Counter()
    seeds = []
    for story in stories:
        seeds.append(int(draw("shifts of a story", story, seen[story]).integers(2**31)))
        seen[story] += 1
    return seeds


def run_shifts(lengths: Sequence[int], n_draws: int, seeds: Sequence[int]) -> NDArray[np.int64]:
    """Draw how far each run is moved round, shape (n_runs, n_draws): from none to the length of the run less one.

    Parameters
    ----------
    lengths : sequence of int
        Of each run.
    n_draws : int
    seeds : sequence of int
        Of each run, as `story_seeds` returns them.
    """
    drawn = [
        np.random.default_rng(seed).integers(length, size=n_draws) for length, seed in zip(lengths, seeds, strict=True)
    ]
    return np.stack(drawn)


def null_name(row: Mapping[Any, Any]) -> str:
    """Return what tells a score from all others of its subject, as the name of an array."""
    return "/".join(_word(row.get(key)) for key in _KEYS)


def _word(value: object) -> str:
    if value is None or value is pd.NA or value != value or value == "":
        return "-"
    # Seeds come back from tables as floats where others have none.
    return f"{value:.0f}" if isinstance(value, int | float | np.number) else str(value).replace("/", "|")


def scores_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows of scores as a table, without their nulls."""
    return pd.DataFrame([{key: value for key, value in row.items() if key != NULL} for row in rows])


def write_nulls(path: str | Path, rows: Iterable[Mapping[str, Any]], subject: str) -> None:
    """Write the nulls that rows of one subject hold, by what they are of.

    Raises
    ------
    ValueError
        Two rows of one name: the null of one of them would be lost.
    """
    nulls: dict[str, Array] = {}
    for row in rows:
        if row.get(NULL) is None:
            continue
        name = null_name(row)
        if name in nulls:
            raise ValueError(f"two rows of {name} hold a null")
        nulls[name] = Array(np.asarray(row[NULL], dtype=np.float64), ("draw",))
    write_arrays(path, nulls, {"subject": subject})


def read_nulls(paths: Iterable[Path]) -> dict[str, Nulls]:
    """Return nulls by subject and name, of all analyses of a subject together.

    Raises
    ------
    IntegrityError
        A file is damaged, or two files hold the same.
    """
    found: dict[str, Nulls] = {}
    for path in paths:
        arrays = read_arrays(path)
        own = found.setdefault(str(arrays.attributes["subject"]), {})
        twice = own.keys() & arrays.arrays.keys()
        if twice:
            remedy = "Delete it and run again: the stage that wrote it will write it anew."
            raise IntegrityError("nulls of an analysis of its own", f"again {min(twice)}", path, remedy)
        own |= {name: arrays[name] for name in arrays.arrays}
    return found
