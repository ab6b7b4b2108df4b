"""Stage quality: what the report says about the recordings."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from decoders.data.manifest import Run, read_manifest
from decoders.errors import InputError
from decoders.signal.quality import COLUMNS, DEFINITIONS, TsnrMap, maps_of, quality_arrays, quality_row
from decoders.signal.stage import find_run
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import read_recording
from decoders.store.tables import write_table

SUFFIX = "_recording.h5"


def run(job: Job) -> None:
    """Read all Recordings, one at a time, and write quality.tsv and quality.h5."""
    manifest = job.input("manifest")
    runs = read_manifest(manifest)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    maps: dict[str, TsnrMap] = defaultdict(TsnrMap)
    for path in sorted(job.inputs.get("recording", []), key=lambda item: item.name):
        row = find_run(runs, path.name.removesuffix(SUFFIX), manifest)
        recording = read_recording(path)
        rows.append(quality_row(row, recording))
        arrays |= quality_arrays(row.run_id, recording)
        if not recording.excluded:
            maps[row.subject].add(recording)
    _check_left(rows, manifest)
    left_out = {subject: found.n_left_out for subject, found in sorted(maps.items()) if found.n_left_out}
    attributes = {"definitions": DEFINITIONS, "tsnr_runs_on_other_grids": left_out, "duplicates": duplicates(runs)}
    write_arrays(job.outputs["series"], {**arrays, **maps_of(maps)}, attributes)
    write_table(job.outputs["quality"], pd.DataFrame(rows, columns=list(COLUMNS)))


def _check_left(rows: list[dict[str, Any]], manifest: Path) -> None:
    if all(row["excluded"] for row in rows):
        reasons = "; ".join(f"{row['run_id']}: {row['excluded']}" for row in rows[:4])
        remedy = "Correct the data or the settings: there is nothing to analyse."
        found = f"{len(rows)} runs, all excluded ({reasons})" if rows else "none"
        raise InputError("at least one run that can be used", found, manifest, remedy)


def duplicates(runs: list[Run]) -> list[list[str]]:
    """Return groups of runs whose images hold the same bytes (preprocessing refuses them unless excluded)."""
    same: dict[tuple[str, str], list[str]] = defaultdict(list)
    for candidate in runs:
        if candidate.sha256 and candidate.modality != "rdm":
            same[candidate.modality, candidate.sha256].append(candidate.run_id)
    return [ids for ids in same.values() if len(ids) > 1]
