"""Free text on phantoms: which windows can be told from the decoded text alone, and what the controls reach.

``python benchmarks/bench_free_text.py`` runs ``config/studies/phantom_text.yaml`` for the phantoms 0, 1 and 2 at the
response strengths .3, .2 and .1 (about six CPU minutes each). ``… .2`` runs one strength, ``… --seeds 0`` one phantom,
and ``… --features trigram`` (or ``language_model``, ``cooccurrence``) reads them through features that know nothing of
what the phantom responds to. The settings were chosen on phantom 100. Figures that are not run are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from common import FOLDER, write_result

from decoders.store.tables import read_table

STUDY = Path("config/studies/phantom_text.yaml")
STRENGTHS, SEEDS = (0.3, 0.2, 0.1), (0, 1, 2)
KEPT = ("model", "metric", "score", "ci_low", "ci_high", "n", "null_mean", "p")


def run(strength: float, seed: int, features: str) -> dict[str, Any]:
    """Run one phantom; return the scores of its text, of the refit, and the verdicts."""
    study = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    study["study"] = f"phantom_text_{features}_r{round(100 * strength)}_{seed}"
    study["decoding"]["voxels"]["features"] = features
    study["data"]["phantom"] |= {"seed": seed, "r0": strength}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(yaml.safe_dump(study), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", str(path)]
        subprocess.run(command, check=True, capture_output=True)
    results = Path("results") / study["study"]
    scores = read_table(results / "decoding/scores.tsv", ("subject", "model", "metric"))
    verdicts = read_table(results / "verdicts.tsv", ("subject", "analysis"))
    return {
        task: json.loads(scores[scores["task"] == task][list(KEPT)].to_json(orient="records", double_precision=6))
        for task in ("free_text", "window_20s")
    } | {"verdicts": dict(zip(verdicts["analysis"], verdicts["verdict"], strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Free text on phantoms.")
    parser.add_argument("strengths", nargs="*", type=float, default=list(STRENGTHS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--features", choices=("phantom", "trigram", "cooccurrence", "language_model"), default="phantom"
    )
    options = parser.parse_args()
    path = FOLDER / "free_text.json"
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path.exists() else {}
    unmatched = "" if options.features == "phantom" else f", {options.features}"
    for strength in options.strengths:
        found = figures.setdefault(f"r0 {strength:g}{unmatched}", {})
        for seed in options.seeds:
            found[f"phantom {seed}"] = run(strength, seed, options.features)
            print(
                write_result("free_text", "python benchmarks/bench_free_text.py", figures), strength, seed, flush=True
            )


if __name__ == "__main__":
    main()
