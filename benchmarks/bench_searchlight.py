"""Searchlight RSA: 34,700 centres, 100 conditions, one model and five, beside rsatoolbox.

Run ``python benchmarks/bench_searchlight.py``; a few minutes. Both compute correlation RDMs and compare them by
Spearman, with the same spheres (93 voxels where the mask is whole, cut at the mask). rsatoolbox runs a random tenth of
the centres, spheres included, and its cost is scaled to all (each centre costs the same): the result says so. CPU
seconds of one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.util.searchlight import (
    _get_searchlight_neighbors,
    evaluate_models_searchlight,
    get_searchlight_RDMs,
)

from decoders.alignment.regions import Trials
from decoders.alignment.searchlight import prepare_patterns, searchlight_scores
from decoders.alignment.spheres import find_spheres
from decoders.stage import fix_threads

N_CENTRES, N_CONDITIONS, RADIUS_VOXELS, VOXEL_MM = 34_700, 100, 3, 3.0
NAMES = [f"c{i:03d}" for i in range(N_CONDITIONS)]
AFFINE = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])


def ball() -> np.ndarray:
    """Return a round mask of exactly N_CENTRES voxels."""
    grid = np.stack(np.meshgrid(*[np.arange(48) - 23.5] * 3, indexing="ij"))
    distance = (grid**2).sum(axis=0).ravel()
    mask = np.zeros(distance.size, dtype=bool)
    mask[np.argsort(distance, kind="stable")[:N_CENTRES]] = True
    return mask.reshape(48, 48, 48)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(mask: np.ndarray, data: np.ndarray, models: np.ndarray) -> np.ndarray:
    # rsatoolbox takes voxels nearer than the radius; the next ones lie at the radius itself.
    spheres = find_spheres(mask, AFFINE, VOXEL_MM * (RADIUS_VOXELS - 0.01), 0.0)
    patterns = prepare_patterns(Trials(data, NAMES, ["1"] * len(data)), "correlation", NAMES, "noise")
    return searchlight_scores(patterns, spheres, spheres.centres, models, "spearman")


def theirs(mask: np.ndarray, data: np.ndarray, models: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    voxels = np.argwhere(mask)
    near = [_get_searchlight_neighbors(mask, voxels[i], RADIUS_VOXELS, True) for i in chosen]
    neighbours: list[Any] = [np.ravel_multi_index(places, mask.shape) for places in near]
    centres = np.ravel_multi_index(tuple(voxels[chosen].T), mask.shape)
    volume = np.zeros((len(data), mask.size))
    volume[:, mask.ravel()] = data
    with contextlib.redirect_stderr(io.StringIO()):
        rdms = get_searchlight_RDMs(volume, centres, neighbours, np.arange(N_CONDITIONS), "correlation", verbose=False)
        fixed = [ModelFixed(f"m{i}", model) for i, model in enumerate(models)]
        results = evaluate_models_searchlight(rdms, fixed, eval_fixed, method="spearman", n_jobs=1)
    return np.array([result.evaluations.ravel() for result in results])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.1, help="Share of the centres that rsatoolbox runs.")
    share = parser.parse_args().share
    fix_threads(1)
    rng = np.random.default_rng(0)
    mask = ball()
    data = rng.standard_normal((N_CONDITIONS, N_CENTRES)).astype(np.float32)
    models = rng.random((5, N_CONDITIONS * (N_CONDITIONS - 1) // 2))
    chosen = np.sort(rng.choice(N_CENTRES, round(share * N_CENTRES), replace=False))
    before = peak_mb()
    result: dict[str, Any] = {
        "centres": N_CENTRES, "conditions": N_CONDITIONS, "rdm": "correlation", "comparator": "spearman",
        "centres_that_rsatoolbox_ran": len(chosen), "peak_mb_before": round(before),
    }  # fmt: skip
    for n in (1, len(models)):
        own_s, scores = seconds(lambda n=n: ours(mask, data, models[:n]))  # type: ignore[misc]
        if n == 1:
            result["peak_mb"] = round(peak_mb())
        other_s, expected = seconds(lambda n=n: theirs(mask, data, models[:n], chosen))  # type: ignore[misc]
        scaled = other_s * N_CENTRES / len(chosen)
        result[f"models_{n}"] = {
            "cpu_s": round(own_s, 2),
            "rsatoolbox_cpu_s_run": round(other_s, 2),
            "rsatoolbox_cpu_s_scaled_to_all_centres": round(scaled, 1),
            "times_faster": round(scaled / own_s, 1),
            "largest_difference": float(np.abs(scores[chosen] - expected).max()),
        }
        print(result[f"models_{n}"], flush=True)
    command = f"python benchmarks/bench_searchlight.py --share {share:g}"
    print(f"{write_result('searchlight', command, result)}: {result}")


if __name__ == "__main__":
    main()
