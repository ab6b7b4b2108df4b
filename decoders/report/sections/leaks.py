"""The leak audit on the page: what lies between training and test data, and which leaks are allowed, and why."""

from __future__ import annotations

import re

import pandas as pd

from decoders.report.blocks import Block, Data, Notice, Table, worded
from decoders.report.read import Results
from decoders.report.words import count, text

_CHECKS = {
    "run": "runs on both sides",
    "subject": "subjects on both sides",
    "stimulus": "stimuli on both sides",
    "text": "test text told in training",
    "gap": "time between them within a run",
    "scaling": "where scaling was fitted",
    "selection": "where features were selected",
    "penalty": "where the penalty was chosen",
    "corpus": "test text in a corpus",
}
_ANALYSES = {"encode": "encoding models", "names": "names", "voxels": "voxel maps and refit", "across": "new people"}
_VERDICTS = {"yes": "apart", "allowed": "a leak, allowed", "no": "a leak"}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def leak_blocks(results: Results) -> list[Block]:
    """Return the note on allowed leaks and the table of checks; nothing where nothing was audited."""
    table = results.table("leaks")
    claimed = table[table["passed"].map(text) != "n/a"].dropna(subset=["passed"])
    if not len(claimed):
        return []
    note = _allowed(claimed)
    return [*([note] if note else []), _table(claimed)]


def _allowed(leaks: pd.DataFrame) -> Notice | None:
    first = leaks[leaks["passed"] == "allowed"].drop_duplicates(["analysis", "check"])
    items = [
        f"{_ANALYSES.get(text(row['analysis']), text(row['analysis']))}, "
        f"{_CHECKS.get(text(row['check']), text(row['check']))}: {text(row['detail'])}"
        for _, row in first.iterrows()
    ]
    return Notice("Leaks between training and test data that this study allows", items) if items else None


def _table(leaks: pd.DataFrame) -> Table:
    groups = leaks.groupby(["analysis", "check", "passed"], sort=False)
    rows = [
        (*keys, len(part), _range(part["found"]), _range(part["needed"]))
        for keys, part in groups
        if isinstance(keys, tuple)
    ]
    data = Data(("analysis", "check", "result", "splits", "found", "needed"), rows)
    words = {"analysis": _ANALYSES, "check": _CHECKS, "result": _VERDICTS}
    known = {column: (lambda name, of=names: of.get(name, name)) for column, names in words.items()}
    caption = (
        f"Every one of {count(leaks['split'].nunique(), 'split')} was audited before anything was decoded, from the "
        "manifest and the settings: a leak that is not allowed stops the study. leaks.tsv holds each split."
    )
    return Table("leaks", "Training apart from test data", caption, data, {}, first=12, words=worded(data, known))


def _range(values: pd.Series) -> str:
    """Return the one value, or the least and the largest by the number that they begin with."""
    found = sorted({text(value) for value in values}, key=_number)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _number(value: str) -> float:
    match = _NUMBER.match(value)
    return float(match[0]) if match else float("inf")
