"""Planted latencies and sensors of a group of eight, and a group of eight in whose recordings no geometry is planted.

Run ``python benchmarks/bench_meg_phantom.py [FOLDER]``; about an hour of CPU, most of it preprocessing, whose results
stay in FOLDER. Stages are called as the workflow calls them: simulate, manifest, preprocess (Maxwell filter, ICA,
band-pass), estimate, pictures, rdms-time, align-time, sensor-searchlight. Nothing here was chosen on this phantom: the
estimators of latencies were chosen in benchmarks/bench_latencies.py on courses of other shapes.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import write_result

from decoders.config import StudySettings, parse_settings
from decoders.data.manifest import SENSORS, read_manifest
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import read_arrays
from decoders.store.tables import read_table

GEOMETRIES = ("pixel", "category")
# Files of align-time.
FILES = {
    "scores": "time_scores.tsv", "ceilings": "time_ceilings.tsv", "inference": "time_inference.tsv",
    "clusters": "time_clusters.tsv", "latencies": "latencies.tsv", "generalisation": "time_generalisation.h5",
}  # fmt: skip
NULLS: dict[str, dict[str, str]] = {"planted": {}, "null": {"null": "geometry"}}


def study_of(case: str) -> StudySettings:
    """Return the study of a case: phantom, preprocessing and alignment by their defaults but for what is named here."""
    return parse_settings(
        {
            "study": f"meg_{case}",
            "data": {
                "source": "phantom",
                # People of the fMRI half cost time alone; the MEG half has its own number.
                "phantom": {"picture_subjects": 1, "story_subjects": 0, "meg": NULLS[case]},
            },
            # The empty room of the phantom is shorter than the filters of preprocessing: baselines in its place.
            "preprocess": {"estimates": "lsa", "meg": {"noise": "baseline"}},
            "alignment": {
                "rdm": "crossnobis", "controls": list(GEOMETRIES), "comparators": ["spearman"],
                "time": {"sensors": {"step": 2}},
            },
        }
    )  # fmt: skip


def call(study: StudySettings, stage: str, inputs: dict[str, Any], outputs: dict[str, Path], **labels: str) -> float:
    """Run a stage unless its outputs are there, and return its CPU seconds."""
    start = time.process_time()
    if not all(path.exists() for path in outputs.values()):
        run_stage(SettingsSlice.of(stage, study), inputs, outputs, labels)
    return time.process_time() - start


def recorded(study: StudySettings, folder: Path) -> dict[str, list[Path]]:
    """Write a phantom, and preprocess and epoch its MEG runs."""
    manifest = folder / "manifest.tsv"
    call(study, "simulate", {}, {"bids": folder / "bids"})
    call(study, "manifest", {"bids": [folder / "bids"]}, {"manifest": manifest})
    estimates = []
    for run in read_manifest(manifest):
        if run.modality not in SENSORS or run.task != "pictures":
            continue
        path = folder / f"{run.run_id}_recording.h5"
        estimates.append(folder / f"{run.run_id}_estimates.h5")
        if estimates[-1].exists():
            continue
        seconds = call(study, "preprocess", {"manifest": [manifest]}, {"recording": path}, run=run.run_id)
        inputs = {"manifest": [manifest], "recording": [path]}
        call(study, "estimate", inputs, {"estimates": estimates[-1]}, run=run.run_id)
        print(folder.name, run.run_id, f"{seconds:.0f} s", flush=True)
        path.unlink()
    return {"manifest": [manifest], "estimates": estimates}


def main() -> None:
    """Run both cases and write the result."""
    logging.basicConfig(level="WARNING")
    with tempfile.TemporaryDirectory() as name:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name)
        for case in NULLS:
            recorded(study_of(case), root / case)


if __name__ == "__main__":
    main()
