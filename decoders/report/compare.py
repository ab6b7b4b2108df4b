"""Two runs side by side: what differs in settings, data and code, and the scores of both. Nothing is tested anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decoders.errors import InputError
from decoders.report.compare_sections import Side, data_section, scores_section, settings_differences, settings_section
from decoders.report.page import MOST_BYTES, render_page
from decoders.report.read import read_mapping
from decoders.report.words import count
from decoders.store.atomic import write_text
from decoders.store.tables import read_table

_LABELS = (
    "run_id", "subject", "session", "task", "run", "status", "reason", "sha256", "modality", "level", "split", "seed",
    "analysis", "verdict", "explained_by", "model", "metric", "rule", "architecture", "layer", "control_of",
)  # fmt: skip
_TABLES = {
    "manifest": "manifest.tsv",
    "verdicts": "verdicts.tsv",
    "decoding": "decoding/scores.tsv",
    "networks": "networks/networks.tsv",
}


@dataclass(frozen=True)
class Difference:
    """What was found, for the command line.

    Attributes
    ----------
    path : Path
        Of the page.
    sentence : str
    """

    path: Path
    sentence: str


def compare(first: Path, second: Path, output: Path) -> Difference:
    """Write one offline page that shows two finished studies side by side.

    Parameters
    ----------
    first, second : Path
        Folders of results (``results/<study>``), each with its provenance.json.
    output : Path
        The page.

    Raises
    ------
    InputError
        A folder that holds no finished study, or the same folder twice.
    IntegrityError
        A table or a record that was changed after it was written.
    """
    if first.resolve() == second.resolve():
        remedy = "Name the folders of two runs, e.g. results/a and results/b."
        raise InputError("two folders", f"the same one twice ({first})", "the command line", remedy)
    sides = _named([read_side(first), read_side(second)])
    sections = [scores_section(*sides), settings_section(*sides), data_section(*sides)]
    a, b = sides
    sentence = _sentence(a, b)
    facts = [
        ("First", a.name), ("Folder", str(first)), ("Second", b.name), ("Folder of the second", str(second)),
        ("Seeds", f"{a.settings.get('seed', 0)} and {b.settings.get('seed', 0)}"),
    ]  # fmt: skip
    page = render_page(f"{a.name}, {b.name}", f"{a.name} beside {b.name}", [sentence], facts, sections)
    if len(page.encode("utf-8")) > MOST_BYTES:
        found = f"{len(page.encode('utf-8')) / 2**20:.1f} MiB"
        raise InputError(f"a page of at most {MOST_BYTES / 2**20:.0f} MiB", found, output, "Compare smaller studies.")
    write_text(output, page)
    return Difference(output, sentence)


def read_side(folder: Path) -> Side:
    """Read what is compared of one study: its record, and the tables that exist."""
    record = _record(folder)
    tables = {
        name: read_table(folder / place, _LABELS) for name, place in _TABLES.items() if (folder / place).is_file()
    }
    stages = [item for item in record.get("stages", []) if isinstance(item, dict)]
    raw = {str(item["path"]): str(item["sha256"]) for item in record.get("raw_inputs", [])}
    return Side(str(record.get("study") or folder.name), dict(record.get("settings", {})), tables, stages, raw)


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "provenance.json"
    if not path.is_file():
        remedy = (
            f"Run that study to its end: snakemake, or corticode run. Then name its folder, e.g. {Path('results')}/a."
        )
        raise InputError("a finished study (provenance.json)", "no such file", path, remedy)
    return read_mapping(path, "a record of a study", "Write the report again.")


def _named(sides: Sequence[Side]) -> tuple[Side, Side]:
    """Return both with names that tell them apart: two runs of one study have the same."""
    a, b = sides
    if a.name != b.name:
        return a, b
    return a.called(f"{a.name} (first)"), b.called(f"{b.name} (second)")


def _sentence(a: Side, b: Side) -> str:
    settings = len(settings_differences(a.settings, b.settings))
    verdicts = changed_verdicts(a.table("verdicts"), b.table("verdicts"))
    shared = len(_joined(a.table("verdicts"), b.table("verdicts")))
    return (
        f"{count(settings, 'setting')} {'differs' if settings == 1 else 'differ'}; of "
        f"{count(shared, 'analysis', 'analyses')} that both have, {count(verdicts, 'verdict')} "
        f"{'differs' if verdicts == 1 else 'differ'}. Scores stand side by side; their differences are not tested."
    )


def _joined(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    keys = ["level", "subject", "analysis"]
    if not len(a) or not len(b):
        return pd.DataFrame()
    return a.merge(b, on=keys, how="inner", suffixes=("_a", "_b"))


def changed_verdicts(a: pd.DataFrame, b: pd.DataFrame) -> int:
    """Return how many analyses that both have got another verdict."""
    both = _joined(a, b)
    return int((both["verdict_a"] != both["verdict_b"]).sum()) if len(both) else 0
