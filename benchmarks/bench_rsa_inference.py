"""Bootstrap inference of RSA: 40 models, 15 subjects, 92 stimuli, 1,000 resamples, beside rsatoolbox.

Run ``python benchmarks/bench_rsa_inference.py``; about a minute. rsatoolbox runs a few resamples of that size, and its
cost is scaled to 1,000 (each resample costs the same): the result says so. CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result
from rsatoolbox.inference import eval_bootstrap, eval_dual_bootstrap
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm import compare as rsatoolbox_compare

from decoders.alignment.bootstrap import resampled_scores
from decoders.alignment.comparators import compare
from decoders.alignment.contrasts import Model, Scores, contrast, draw_all
from decoders.alignment.inference import Plan, all_pairs, contrast_family
from decoders.alignment.rdm import correlation_rdm
from decoders.stage import fix_threads
from decoders.stats.resampling import draw_counts

N_MODELS, N_SUBJECTS, N_STIMULI, N_RESAMPLES = 40, 15, 92, 1000


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return RDMs of models and of subjects that share some structure, one in four models with ties."""
    shared = rng.standard_normal((N_STIMULI, 30))
    recorded = [correlation_rdm(shared + 2 * rng.standard_normal(shared.shape)) for _ in range(N_SUBJECTS)]
    models = [correlation_rdm(shared + 3 * rng.standard_normal(shared.shape)) for _ in range(N_MODELS)]
    models[::4] = [np.round(model, 1) for model in models[::4]]
    return np.array(models), np.array(recorded)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def all_contrasts(models: np.ndarray, recorded: np.ndarray, resampled: np.ndarray, rng: np.random.Generator) -> int:
    """Return the number of tests: every model by itself, and every pair with the correction over the family."""
    subjects, _ = draw_all(N_SUBJECTS, [], N_RESAMPLES, rng)
    scores = Scores(compare(models, recorded, "spearman"), resampled, N_STIMULI, subjects)
    units = [Model(f"m{i}", {"": i}) for i in range(N_MODELS)]
    single = [contrast(scores, model) for model in units]
    pairs = contrast_family("pairs", "x", all_pairs(scores, units), scores, Plan("spearman", "max", N_RESAMPLES), rng)
    return len(single) + len(pairs)


def largest_difference(models: np.ndarray, recorded: np.ndarray, counts: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference of scores from those of rsatoolbox in the same resamples."""
    rows, columns = np.triu_indices(N_STIMULI, 1)
    worst = 0.0
    for count, scores in zip(counts, found, strict=True):
        # Each pair as often as it is drawn; pairs of copies are no pairs.
        pairs = np.repeat(np.arange(len(rows)), count[rows] * count[columns])
        vectors: list[Any] = [models[:, pairs], recorded[:, pairs]]
        expected = [rsatoolbox_compare(*_rdms(vectors), method="spearman")]
        worst = max(worst, float(np.abs(expected[0] - scores).max()))
    return worst


def _rdms(vectors: list[np.ndarray]) -> list[Any]:
    """Pad vectors to the length of an RDM with missing pairs, which rsatoolbox leaves out."""
    n = int(np.ceil((1 + np.sqrt(1 + 8 * vectors[0].shape[1])) / 2))
    padding = n * (n - 1) // 2 - vectors[0].shape[1]
    return [RDMs(np.pad(vector, ((0, 0), (0, padding)), constant_values=np.nan)) for vector in vectors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference-resamples", type=int, default=20, help="Resamples of rsatoolbox; 0 for none.")
    n_reference = parser.parse_args().reference_resamples
    fix_threads(1)
    rng = np.random.default_rng(0)
    models, recorded = data(rng)
    counts = draw_counts(N_STIMULI, N_RESAMPLES, rng)
    boot_s, resampled = seconds(lambda: resampled_scores(models, recorded, counts, "spearman"))
    test_s, n_tests = seconds(lambda: all_contrasts(models, recorded, resampled, rng))
    result = {
        "models": N_MODELS, "subjects": N_SUBJECTS, "stimuli": N_STIMULI, "resamples": N_RESAMPLES, "tests": n_tests,
        "bootstrap_cpu_s": round(boot_s, 2), "tests_cpu_s": round(test_s, 2), "total_cpu_s": round(boot_s + test_s, 2),
        "largest_difference_from_rsatoolbox": largest_difference(models, recorded, counts[:5], resampled[:5]),
    }  # fmt: skip
    if n_reference:
        fixed = [ModelFixed(f"m{i}", model) for i, model in enumerate(models)]
        reference = RDMs(recorded)
        for name, function in (("eval_bootstrap", eval_bootstrap), ("eval_dual_bootstrap", eval_dual_bootstrap)):
            cost, _ = seconds(lambda f=function: f(fixed, reference, method="spearman", N=n_reference))  # type: ignore[misc]
            result[f"rsatoolbox_{name}_resamples_run"] = n_reference
            result[f"rsatoolbox_{name}_cpu_s_run"] = round(cost, 2)
            scaled = cost * N_RESAMPLES / n_reference
            result[f"rsatoolbox_{name}_cpu_s_scaled_to_{N_RESAMPLES}"] = round(scaled, 1)
            result[f"times_faster_than_{name}"] = round(scaled / (boot_s + test_s), 1)
    command = f"python benchmarks/bench_rsa_inference.py --reference-resamples {n_reference}"
    print(f"{write_result('rsa_inference', command, result)}: {result}")


if __name__ == "__main__":
    main()
