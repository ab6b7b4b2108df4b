"""Planted latencies and sensors of a group of eight, and a group of eight in whose recordings no geometry is planted.

Run ``python benchmarks/bench_meg_time.py [FOLDER]``; about an hour of CPU, most of it preprocessing, whose results
stay in FOLDER. Stages are called as the workflow calls them: simulate, manifest, preprocess (Maxwell filter, ICA,
band-pass), estimate, pictures, rdms-time, align-time, sensor-searchlight. The estimators of latencies were chosen by
benchmarks/bench_latencies.py on four shapes of responses, of which the phantom's is one; not on this phantom.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from itertools import product
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
PICTURES = {"pictures": "pictures.h5", "labels": "pictures.tsv", "controls": "control_rdms.h5"}
# As the truth of the phantom has it.
PLANTED_SHARE = 0.3
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


def figures_of(study: StudySettings, inputs: dict[str, list[Path]], bids: Path, folder: Path) -> dict[str, Any]:
    """Return what alignment over time says of a group, beside what is planted."""
    manifest, rdms = inputs["manifest"], folder / "time_rdms.h5"
    pictures = {name: folder / file for name, file in PICTURES.items()}
    call(study, "pictures", {"manifest": manifest}, pictures)
    seconds = {"rdms-time": call(study, "rdms-time", inputs, {"rdms": rdms})}
    models = {"controls": [pictures["controls"]], "pictures": [pictures["pictures"]]}
    outputs = {name: folder / file for name, file in FILES.items()}
    seconds["align-time"] = call(study, "align-time", {"rdms": [rdms], **models}, outputs)
    around = folder / "sensor_searchlight.h5"
    seconds["sensor-searchlight"] = call(study, "sensor-searchlight", {**inputs, **models}, {"searchlight": around})
    file = read_arrays(rdms, ["subjects"])
    return {
        "subjects": file["subjects"].tolist(),
        "left_out": file.attributes["excluded"],
        "rdms": file.attributes["method"],
        "latencies": _latencies(outputs["latencies"], bids),
        "clusters": _clusters(outputs["clusters"]),
        "sensors": _sensors(around, bids),
        "cpu_seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def _truth(bids: Path, name: str) -> list[pd.DataFrame]:
    paths = sorted((bids / "derivatives" / "truth").glob(f"sub-*/meg/*_task-pictures_desc-planted_{name}.tsv"))
    return [pd.read_csv(path, sep="\t", na_values=["n/a"]) for path in paths]


def _latencies(path: Path, bids: Path) -> dict[str, Any]:
    table = read_table(path)
    sources = pd.concat(_truth(bids, "sources"))
    found: dict[str, Any] = {}
    for geometry, reference, measure in product(GEOMETRIES, ("chance", "all other controls"), ("onset", "peak")):
        truth = float(sources.loc[sources["geometry"] == geometry, f"{measure}_s"].mean())
        chosen = (table["model"] == f"control:{geometry}") & (table["reference"] == reference)
        row = table[chosen & (table["measure"] == measure)].iloc[0]
        by = "by itself" if reference == "chance" else "beyond the other"
        found[f"{geometry}, {by}, {measure}"] = {
            "planted_ms": round(1000 * truth, 1),
            "error_ms": None if pd.isna(row["latency_s"]) else round(1000 * (float(row["latency_s"]) - truth), 1),
            "interval_ms": [None if pd.isna(row[k]) else round(1000 * float(row[k]), 1) for k in ("ci_low", "ci_high")],
            "p": round(float(row["p"]), 4),
        }
    return found


def _clusters(path: Path) -> list[str]:
    table = read_table(path)
    rows = table[table["p"] <= 0.05]
    return [
        f"{row.family}: {row.model} - {row.reference}, {row.start_s:g} to {row.stop_s:g} s, p {row.p:.4f}"
        for row in rows.itertuples()
    ]


def _sensors(path: Path, bids: Path) -> dict[str, Any]:
    """Return how well scores within 30 ms of the planted peak tell planted sensors from others (area under curve)."""
    file = read_arrays(path)
    sources, channels = pd.concat(_truth(bids, "sources")), _truth(bids, "channels")
    gains = pd.concat(channels).groupby("name")[["gain_visual", "gain_ventral"]].mean().loc[file["channels"].tolist()]
    planted, maps, found = np.zeros(len(gains), dtype=bool), [], {}
    for geometry, source in zip(GEOMETRIES, ("visual", "ventral"), strict=True):
        peak = float(sources.loc[sources["geometry"] == geometry, "peak_s"].mean())
        place = file["models"].tolist().index(f"control:{geometry}")
        near = np.abs(file["times"] - peak) <= 0.03
        gain = gains[f"gain_{source}"].to_numpy()
        truth = (gain >= PLANTED_SHARE * gain.max()) & (gain > 0)
        score = file["scores"][place][:, near].mean(axis=1)
        statistic = file["statistic"][place][:, near].mean(axis=1)
        significant = (file["p_corrected"][place] <= 0.05).any(axis=1)
        planted |= truth
        maps.append(statistic)
        found[geometry] = {
            "planted_sensors": int(truth.sum()),
            "auc_of_scores": _auc(truth, score),
            "auc_of_t": _auc(truth, statistic),
            "significant_sensors": int(significant.sum()),
            "of_them_planted": int((significant & truth).sum()),
        }
    found["both"] = {
        "planted_sensors": int(planted.sum()), "auc_of_t": _auc(planted, np.max(maps, axis=0))
    }  # fmt: skip
    return found


def _auc(truth: np.ndarray, scores: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(truth, scores)), 3) if truth.any() else None


def main() -> None:
    """Run both cases and write the result."""
    logging.basicConfig(level="WARNING")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name)
        for case in NULLS:
            (root / case).mkdir(parents=True, exist_ok=True)
            study = study_of(case)
            inputs = recorded(study, root / case)
            result[case] = figures_of(study, inputs, root / case / "bids", root / case)
            print(case, result[case], flush=True)
            write_result("meg_time", "python benchmarks/bench_meg_time.py", result)


if __name__ == "__main__":
    main()
