"""Stage quality: what the report says about the recordings."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from decoders.data.manifest import SENSORS, Run, read_manifest
from decoders.errors import InputError
from decoders.signal.meg_quality import SENSOR_COLUMNS, SENSOR_DEFINITIONS, sensor_arrays, sensor_values
from decoders.signal.quality import COLUMNS, DEFINITIONS, TsnrMap, maps_of, quality_arrays, quality_row
from decoders.signal.stage import find_run
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import read_recording, read_recording_header
from decoders.store.tables import write_table

SUFFIX, TRIALS = "_recording.h5", "_estimates.h5"


def run(job: Job) -> None:
    """Read all Recordings, one at a time, and write quality.tsv and quality.h5.

    Trials of MEG and EEG runs (input `estimates`, where the study has them) say how many were rejected.
    """
    manifest = job.input("manifest")
    runs = read_manifest(manifest)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    maps: dict[str, TsnrMap] = defaultdict(TsnrMap)
    trials = {path.name.removesuffix(TRIALS): path for path in job.inputs.get("estimates", [])}
    for path in sorted(job.inputs.get("recording", []), key=lambda item: item.name):
        row = find_run(runs, path.name.removesuffix(SUFFIX), manifest)
        recording = read_recording(path)
        rows.append(quality_row(row, recording))
        if row.modality in SENSORS:
            estimates = read_recording_header(trials[row.run_id]) if row.run_id in trials else None
            rows[-1] |= sensor_values(recording, estimates)
            arrays |= sensor_arrays(row.run_id, recording)
            continue
        arrays |= quality_arrays(row.run_id, recording)
        if not recording.excluded:
            maps[row.subject].add(recording)
    _check_left(rows, manifest)
    left_out = {subject: found.n_left_out for subject, found in sorted(maps.items()) if found.n_left_out}
    sensors = any("sfreq" in row for row in rows)
    definitions = {**DEFINITIONS, **SENSOR_DEFINITIONS} if sensors else DEFINITIONS
    attributes = {"definitions": definitions, "tsnr_runs_on_other_grids": left_out, "duplicates": duplicates(runs)}
    write_arrays(job.outputs["series"], {**arrays, **maps_of(maps)}, attributes)
    write_table(job.outputs["quality"], pd.DataFrame(rows, columns=[*COLUMNS, *(SENSOR_COLUMNS if sensors else ())]))


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
