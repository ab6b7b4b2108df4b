"""Runs as splits see them, from the manifest (for the audit) and from recordings (for the analysis)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from decoders.data.manifest import Run, select_runs
from decoders.errors import InputError
from decoders.signal.steps import parameter_of
from decoders.stats.declared import TimedRun
from decoders.store.recording import Recording
from decoders.store.tables import read_table

_DIGITS = 6  # of seconds: tables keep fewer digits than arrays


@dataclass(frozen=True)
class Usable:
    """A run of the manifest that preprocessing left, with its volumes and the kind of its features."""

    row: Run
    n_rows: int
    tr: float
    kind: str


def usable_runs(manifest: Sequence[Run], quality: str | Path, task: str | None) -> list[Usable]:
    """Return the runs that an analysis can use, in the order of the manifest.

    Parameters
    ----------
    manifest : sequence of Run
    quality : str or Path
        quality.tsv: what was excluded, and how many volumes are left.
    task : str or None
        None takes all.

    Raises
    ------
    InputError
        A run of the manifest has no row in quality.tsv.
    """
    table = read_table(quality, ("run_id", "kind", "excluded")).set_index("run_id")
    found = []
    for run in select_runs(manifest, task=task):
        if run.modality == "rdm":
            continue
        if run.run_id not in table.index:
            remedy = "Delete quality.tsv and run again: it belongs to another manifest."
            raise InputError(f"the run {run.run_id} of the manifest", "no such row", quality, remedy)
        row = table.loc[run.run_id]
        if pd.isna(row["excluded"]):
            step = float(row["tr"])
            if math.isnan(step) and "sfreq" in table:
                step = 1 / float(row["sfreq"])
            found.append(Usable(run, int(row["n_volumes"]), step, str(row["kind"])))
    return found


def planned(usable: Sequence[Usable], drop_volumes: int, high_pass_s: float | None) -> list[TimedRun]:
    """Return runs of the manifest as splits see them, in the same order.

    Parameters
    ----------
    usable : sequence of Usable
    drop_volumes : int
        Volumes that preprocessing drops from the start.
    high_pass_s : float or None
        Cut-off period of its high-pass.
    """
    keys = _keys([(u.row.subject, u.row.session, u.row.task, u.row.run) for u in usable])
    return [
        TimedRun(
            key, u.row.subject, u.row.stimulus, u.n_rows,
            _seconds((0.0 if math.isnan(u.row.start_time) else u.row.start_time) + drop_volumes * u.tr),
            _seconds(u.tr), _seconds(high_pass_s or 0.0), u.row.run_id,
        )
        for key, u in zip(keys, usable, strict=True)
    ]  # fmt: skip


def recorded(recordings: Sequence[Recording]) -> list[TimedRun]:
    """Return recordings as splits see them, in the same order."""
    keys = _keys([(r.subject, r.session, r.task, r.run) for r in recordings])
    return [
        TimedRun(
            key, r.subject, r.stimulus, len(r.data), _seconds(_start(r)),
            _seconds(r.tr or (1 / r.sfreq if r.sfreq else 0.0)),
            _seconds(parameter_of(r.steps, "project out", "high_pass_s") or 0.0),
        )
        for key, r in zip(keys, recordings, strict=True)
    ]  # fmt: skip


def _start(recording: Recording) -> float:
    """Return the start as the manifest has it: without what triggers of sensors corrected of it."""
    first = float(recording.time[0]) if len(recording.time) else 0.0
    return first - float(parameter_of(recording.steps, "triggers", "onset_shift_s") or 0.0)


def by_subject(runs: Sequence[TimedRun]) -> dict[str, list[TimedRun]]:
    """Return the runs of each subject, subjects and runs in the order given."""
    found: dict[str, list[TimedRun]] = {}
    for run in runs:
        found.setdefault(run.subject, []).append(run)
    return found


def _seconds(value: float) -> float:
    return round(float(value), _DIGITS)


def _keys(labels: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Name runs by their labels; of runs that share them, later ones get a number."""
    seen: Counter[str] = Counter()
    keys = []
    for label in labels:
        key = "_".join(
            f"{name}-{part}" for name, part in zip(("sub", "ses", "task", "run"), label, strict=True) if part
        )
        seen[key] += 1
        keys.append(key if seen[key] == 1 else f"{key}#{seen[key]}")
    return keys
