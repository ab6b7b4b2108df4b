"""Time-resolved crossnobis: 306 channels, 92 conditions, 150 moments, 30 repeats in 3 to 30 folds, beside rsatoolbox.

Run ``python benchmarks/bench_time_rdms.py``; a few minutes. Both start from the same trials and the same precision of
the noise. rsatoolbox (`calc_rdm_movie`) runs some of the moments and its cost is scaled to all (each moment costs the
same): the result says so. CPU seconds of one thread; the largest difference is over the moments that both ran.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result
from rsatoolbox.data import TemporalDataset
from rsatoolbox.rdm import calc_rdm_movie

from decoders.alignment.timed.distances import cells_of, crossnobis
from decoders.alignment.timed.noise import whitener_of
from decoders.stage import fix_threads

N_CHANNELS, N_CONDITIONS, N_TIMES, N_REPEATS = 306, 92, 150, 30


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def theirs(data: np.ndarray, conditions: np.ndarray, folds: np.ndarray, precision: np.ndarray) -> np.ndarray:
    trials = TemporalDataset(
        data,
        obs_descriptors={"condition": conditions, "fold": folds},
        time_descriptors={"time": np.arange(data.shape[2])},
    )
    movie: Any = calc_rdm_movie(
        trials, method="crossnobis", descriptor="condition", noise=precision, cv_descriptor="fold"
    )
    return np.asarray(movie.dissimilarities)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=15, help="Moments that rsatoolbox runs.")
    moments = parser.parse_args().moments
    fix_threads(1)
    rng = np.random.default_rng(0)
    conditions = np.tile(np.arange(N_CONDITIONS), N_REPEATS)
    data = rng.standard_normal((len(conditions), N_CHANNELS, N_TIMES), dtype=np.float32)
    mixed = rng.standard_normal((N_CHANNELS, 2 * N_CHANNELS))
    covariance = mixed @ mixed.T / (2 * N_CHANNELS)
    whitener = whitener_of(covariance, None, "the benchmark")
    chosen = np.linspace(0, N_TIMES - 1, moments).round().astype(int)
    result: dict[str, Any] = {
        "channels": N_CHANNELS, "conditions": N_CONDITIONS, "moments": N_TIMES, "repeats": N_REPEATS,
        "moments_that_rsatoolbox_ran": moments,
    }  # fmt: skip
    for n_folds in (3, 10, N_REPEATS):
        folds = np.repeat(np.arange(n_folds), len(conditions) // n_folds)
        cells = cells_of(conditions, folds, N_CONDITIONS, n_folds)
        own_s, rdms = seconds(lambda cells=cells: crossnobis(data, cells, whitener))  # type: ignore[misc]
        # A copy of these moments alone: rsatoolbox does not pay for reading around the others.
        part = np.ascontiguousarray(data[:, :, chosen])
        other_s, expected = seconds(
            lambda part=part, folds=folds: theirs(part, conditions, folds, whitener.T @ whitener)  # type: ignore[misc]
        )
        scaled = other_s * N_TIMES / moments
        result[f"folds_{n_folds}"] = {
            "cpu_s": round(own_s, 2),
            "rsatoolbox_cpu_s_run": round(other_s, 2),
            "rsatoolbox_cpu_s_scaled_to_all_moments": round(scaled, 1),
            "times_faster": round(scaled / own_s, 1),
            "largest_difference": float(np.abs(rdms[chosen] - expected).max()),
        }
        print(result[f"folds_{n_folds}"], flush=True)
    result["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(write_result("time_rdms", f"python benchmarks/bench_time_rdms.py --moments {moments}", result))


if __name__ == "__main__":
    main()
