"""Find the weight of the bottleneck that holds over grid sizes, on the phantoms that are set aside for choices.

``python benchmarks/search_beta.py [GRID ...]`` (default 16x20x16 32x40x32) trains the gate at several betas, whose
weight grows beyond 2,000 voxels (`kl_weight`), on the phantom seeds 100-102 at r0 .2 with matched features, 13 runs,
and writes the recovery of the planted voxels by the gate and by the smoothed encoding map to
``benchmarks/results/search_beta.json``. Seeds 0-2 are never read here.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from common import FOLDER, write_result
from numpy.typing import NDArray

from decoders.config import PhantomSettings, VoxelMapSettings
from decoders.decoding import maps
from decoders.decoding.bottleneck import train_gate
from decoders.simulate.brain import brain_mask
from decoders.simulate.story import simulate_story_runs
from decoders.stage import fix_threads
from decoders.stimuli.features import zscore_runs

SEEDS, R0, N_RUNS, TR = (100, 101, 102), 0.2, 13, 2.0
BETAS = (1.0, 3.0, 10.0, 30.0)


def recovered(values: NDArray[np.floating], planted: NDArray[np.bool_]) -> dict[str, float]:
    """Return AUC and average precision."""
    auc, ap = maps.recovery(values, planted)
    return {"auc": round(auc, 4), "ap": round(ap, 4)}


def search(grid: tuple[int, int, int], seed: int) -> dict[str, Any]:
    """Return the recovery at every beta on one phantom."""
    found = simulate_story_runs(PhantomSettings(grid=grid, seed=seed, r0=R0, text="alice", story_runs=18))
    x = list(found.x[:N_RUNS])
    sides = found.stories.targets[:N_RUNS], found.stories.features[:N_RUNS]
    targets, features = ([run.astype(np.float32) for run in zscore_runs(side)] for side in sides)
    mask, planted = brain_mask(grid), found.brain.planted
    start = time.process_time()
    r = maps.encoding_map(x, features, [1, features[0].shape[1] - 1], 4, 0)
    encoding = maps.smooth_in_mask(r, mask, 1.0)
    rows: dict[str, Any] = {
        "n_voxels": int(mask.sum()),
        "encoding": {**recovered(encoding, planted), "cpu_seconds": round(time.process_time() - start, 1)},
    }
    for beta in BETAS:
        start = time.process_time()
        fit = train_gate(x, targets, mask, VoxelMapSettings(beta=beta), TR, seed=0)
        rows[f"beta {beta:g}"] = {
            "gate": recovered(fit.logits, planted),
            "combined": recovered(maps.combine([fit.logits, encoding, r]), planted),
            "openness": round(float(fit.m.mean()), 3),
            "held_out_nats": round(float(fit.curve[-12:, 0].mean()), 3),
            "cpu_seconds": round(time.process_time() - start, 1),
        }
        print(grid, seed, beta, rows[f"beta {beta:g}"], flush=True)
    return rows


def main() -> None:
    fix_threads(1)
    kept = FOLDER / "search_beta.json"
    figures: dict[str, Any] = json.loads(kept.read_text())["figures"] if kept.exists() else {}
    for grid in sys.argv[1:] or ["16x20x16", "32x40x32"]:
        x, y, z = (int(part) for part in grid.split("x"))
        for seed in SEEDS:
            figures[f"{grid} seed {seed}"] = search((x, y, z), seed)
            write_result("search_beta", "python benchmarks/search_beta.py", figures)


if __name__ == "__main__":
    main()
