"""Decoding from the phantom's MEG: planted sensors, windows of text and free text, beside their controls.

``python benchmarks/bench_meg_decoding.py`` runs the phantoms 0, 1 and 2; ``… --seeds 100`` another one. Stages are
called as the workflow calls them. Signal space separation and ICA, which take most of the time of such a study, are
left out: blinks, heart beats and bad sensors stay in the recordings. Figures that are not run are kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import FOLDER, commit, write_result

from decoders.config import StudySettings, parse_settings
from decoders.data.manifest import read_manifest
from decoders.decoding.maps import above_cut, recovery
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.verdicts import decoding_verdicts
from decoders.store.arrays import read_arrays
from decoders.store.tables import read_table

SEEDS, RUNS, SECONDS = (0, 1, 2), 4, 150.0
KEPT = ("model", "control_of", "metric", "score", "ci_low", "ci_high", "n", "null_mean", "p")


def study(seed: int, features: str, text: bool = True) -> StudySettings:
    """Return a study of one person who listens to four stories in the MEG; the last one is held out."""
    return parse_settings(
        {
            "study": "phantom_meg",
            "data": {
                "source": "phantom",
                "phantom": {
                    "story_subjects": 0, "picture_subjects": 0, "seed": seed,
                    "meg": {
                        "story_subjects": 1, "story_runs": RUNS, "story_s": SECONDS, "picture_subjects": 0,
                    },
                },
            },
            "preprocess": {"meg": {"maxwell": "none", "artefacts": "none", "noise": "run"}},
            "decoding": {"meg": {"task": "story", "features": features, "text": {} if text else None}},
        }
    )  # fmt: skip


def _stage(
    of: StudySettings, stage: str, inputs: dict[str, list[Path]], outputs: dict[str, Path], **labels: str
) -> None:
    run_stage(SettingsSlice.of(stage, of), inputs, outputs, labels)


def recordings(of: StudySettings, folder: Path) -> dict[str, list[Path]]:
    """Write a phantom and preprocess its runs."""
    manifest = folder / "manifest.tsv"
    _stage(of, "simulate", {}, {"bids": folder / "bids"})
    _stage(of, "manifest", {"bids": [folder / "bids"]}, {"manifest": manifest})
    texts = {"words": folder / "words.tsv", "characters": folder / "characters.tsv"}
    _stage(of, "text", {"manifest": [manifest]}, texts)
    paths = []
    for run in read_manifest(manifest):
        paths.append(folder / f"{run.run_id}_recording.h5")
        _stage(of, "preprocess", {"manifest": [manifest]}, {"recording": paths[-1]}, run=run.run_id)
    quality = {"quality": folder / "quality.tsv", "series": folder / "quality.h5"}
    _stage(of, "quality", {"manifest": [manifest], "recording": paths}, quality)
    given = {"manifest": [manifest], "words": [texts["words"]]}
    splits, leaks = folder / "splits.json", folder / "leaks.tsv"
    _stage(of, "splits-meg", {**given, "quality": [quality["quality"]]}, {"splits": splits})
    _stage(of, "leaks", {**given, "splits": [splits]}, {"leaks": leaks})
    return {**given, "recording": paths, "splits": [splits], "leaks": [leaks]}


def planted(folder: Path, names: list[str]) -> np.ndarray:
    """Return which sensors see a planted source."""
    (path,) = (folder / "bids").glob("derivatives/truth/sub-01/**/*task-story*desc-planted_channels.tsv")
    table = pd.read_csv(path, sep="\t").set_index("name")
    return table.loc[names, "planted"].to_numpy() == 1


def recovered(values: np.ndarray, nulls: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return how well a map and its nulls recover planted sensors, and what lies above all nulls."""
    false, found = above_cut(values, float(nulls.max()), truth)
    auc, ap = recovery(values, truth)
    null_auc = float(np.mean([recovery(null, truth)[0] for null in nulls]))
    numbers = {"auc": auc, "ap": ap, "fdr": false, "tpr": found, "null_auc": null_auc}
    return {name: round(value, 4) for name, value in numbers.items()}


def figures(of: StudySettings, inputs: dict[str, list[Path]], folder: Path) -> dict[str, Any]:
    """Return the recovery of planted sensors, scores and verdicts of one phantom."""
    outputs = {"scores": folder / "scores.tsv", "text": folder / "text.tsv"}
    outputs |= {"arrays": folder / "meg.h5", "nulls": folder / "nulls.h5"}
    start = time.process_time()
    _stage(of, "meg", inputs, outputs, subject="01")
    arrays = read_arrays(outputs["arrays"])
    truth = planted(folder, [str(name) for name in arrays["names"]])
    scores = read_table(outputs["scores"], ("subject", "model", "metric", "control_of"))
    verdicts = decoding_verdicts(scores, 0.05)
    return {
        "sensors": {"base": round(float(truth.mean()), 4)}
        | {name: recovered(arrays[name], arrays[f"null/{name}"], truth) for name in ("nats", "encoding", "combined")},
        **{
            task: json.loads(part[list(KEPT)].to_json(orient="records", double_precision=4))
            for task, part in scores.groupby("task")
        },
        "verdicts": dict(zip(verdicts["analysis"], verdicts["verdict"], strict=True)),
        "cpu_seconds": round(time.process_time() - start, 1),
    }  # fmt: skip


def main() -> None:
    logging.basicConfig(level="WARNING")
    parser = argparse.ArgumentParser(description="Decoding from the phantom's MEG.")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--features", choices=("phantom", "trigram"), default="phantom")
    options = parser.parse_args()
    path = FOLDER / "meg_decoding.json"
    kept: dict[str, Any] = json.loads(path.read_text())["figures"] if path.exists() else {}
    for seed in options.seeds:
        of = study(seed, options.features)
        with tempfile.TemporaryDirectory() as name:
            case = f"phantom {seed}, {options.features}"
            kept[case] = {**figures(of, recordings(of, Path(name)), Path(name)), "commit": commit()}
        print(case, kept[case]["sensors"], kept[case]["verdicts"], flush=True)
        write_result("meg_decoding", "python benchmarks/bench_meg_decoding.py", kept)


if __name__ == "__main__":
    main()
