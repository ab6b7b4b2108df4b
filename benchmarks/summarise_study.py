"""Summarise finished studies: the figures of their tables, their time and memory.

``python benchmarks/summarise_study.py objects92 haxby2001`` reads ``results/<study>`` and writes
``benchmarks/results/study_<study>.json``. With ``--renew COMMIT`` before them only the networks that were trained
again, by that commit, replace those in the file (after a rule was mended, or for one that was added); each row says
which commit trained it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from common import FOLDER, write_result

from decoders.store.arrays import read_arrays
from decoders.store.tables import read_table


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(table.to_json(orient="records", double_precision=6))


def _alignment(folder: Path) -> dict[str, Any]:
    ceilings = read_table(folder / "ceilings.tsv", ("region", "time"))
    scores = read_table(folder / "scores.tsv", ("subject", "region", "time", "layer", "size"))
    keys = ["region", "rule", "architecture", "layer", "size", "comparator"]
    mean = scores.groupby(keys, dropna=False, sort=False).score.agg(["mean", "std", "count"]).reset_index()
    return {"ceilings": _rows(ceilings), "mean_scores": _rows(mean)}


def _cost(folder: Path) -> dict[str, Any]:
    records = [json.loads(path.read_text()) for path in folder.rglob("*.prov.json")]
    jobs = {json.dumps([record["stage"], record["labels"]]): record for record in records}
    table = pd.DataFrame(jobs.values()).groupby("stage")
    cost = table.agg(jobs=("stage", "size"), wall_seconds=("wall_seconds", "sum"), peak_mb=("peak_mb", "max"))
    return {"stages": _rows(cost.reset_index()), "wall_seconds_of_all_jobs": float(cost.wall_seconds.sum())}


def summarise(folder: Path) -> dict[str, Any]:
    """Collect what the tables of one study say."""
    figures: dict[str, Any] = {"cost": _cost(folder), "verdicts": _rows(read_table(folder / "verdicts.tsv"))}
    if (folder / "networks/networks.tsv").exists():
        figures["networks"] = _rows(read_table(folder / "networks/networks.tsv"))
    if (folder / "alignment").exists():
        figures["alignment"] = _alignment(folder / "alignment")
    if (folder / "certificate.json").exists():
        figures["certificate"] = json.loads((folder / "certificate.json").read_text())
    if (folder / "decoding/scores.tsv").exists():
        figures["decoding"] = _rows(read_table(folder / "decoding/scores.tsv"))
        figures["recovery"] = _rows(read_table(folder / "decoding/recovery.tsv"))
        figures |= _gates(folder / "decoding")
    return figures


def _gates(folder: Path) -> dict[str, Any]:
    """Return what the spellers' gates let through, and how well those of halves of the runs agree beside a null."""
    found = {
        f"{path.name.split('_')[0]} {name}": record
        for path in sorted(folder.glob("*_names.h5"))
        for name, record in read_arrays(path, ()).attributes.items()
        if name.startswith("gate_seed-")
    }
    return {"gates": found} if found else {}


def renewed(study: str, trained_by: str) -> dict[str, Any]:
    """Return the committed figures, with the rows of the networks that are in the results now."""
    old = json.loads((FOLDER / f"study_{study}.json").read_text())
    figures, now = old["figures"], summarise(Path("results") / study)
    fresh = {_key(row): {**row, "commit": trained_by} for row in now["networks"]}
    kept = {_key(row): {"commit": old["commit"], **row} for row in figures["networks"]}
    figures["networks"] = list({**kept, **fresh}.values())
    return figures


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("rule", "architecture", "seed"))


if __name__ == "__main__":
    trained_by, studies = (sys.argv[2], sys.argv[3:]) if sys.argv[1] == "--renew" else ("", sys.argv[1:])
    for study in studies:
        name = "config/config.yaml" if study == "demo" else f"config/studies/{study}.yaml"
        command = f"snakemake --cores 2 --configfile {name}; python benchmarks/summarise_study.py {study}"
        figures = renewed(study, trained_by) if trained_by else summarise(Path("results") / study)
        print(write_result(f"study_{study}", command, figures))
