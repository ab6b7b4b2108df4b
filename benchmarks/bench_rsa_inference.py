"""Inference of RSA by three bootstraps: 40 models, 15 subjects, 92 stimuli, 1,000 resamples, beside rsatoolbox.

Run ``python benchmarks/bench_rsa_inference.py``; a few minutes. Stimuli, subjects, or both at once are resampled, each
time with all tests of the models and of their paired differences. rsatoolbox runs a few resamples of that size, and its
cost is scaled to 1,000 (each resample costs the same): the result says so. CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result
from rsatoolbox.inference import eval_bootstrap, eval_bootstrap_pattern, eval_bootstrap_rdm, eval_dual_bootstrap
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
REFERENCES = {
    "stimuli": ("eval_bootstrap_pattern", eval_bootstrap_pattern),
    "subjects": ("eval_bootstrap_rdm", eval_bootstrap_rdm),
    "both": ("eval_bootstrap", eval_bootstrap),
}


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


def ours(models: np.ndarray, recorded: np.ndarray, counts: np.ndarray, kind: str, rng: np.random.Generator) -> int:
    """Return the number of tests: every model by itself, and every pair with the correction over the family."""
    resampled = resampled_scores(models, recorded, counts, "spearman") if kind != "subjects" else None
    subjects = draw_all(N_SUBJECTS, [], N_RESAMPLES, rng)[0] if kind != "stimuli" else None
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
    parser.add_argument("--reference-resamples", type=int, default=20, help="Resamples of rsatoolbox.")
    n_reference = parser.parse_args().reference_resamples
    fix_threads(1)
    rng = np.random.default_rng(0)
    models, recorded = data(rng)
    counts = draw_counts(N_STIMULI, N_RESAMPLES, rng)
    found = resampled_scores(models, recorded, counts[:5], "spearman")
    result: dict[str, Any] = {
        "models": N_MODELS, "subjects": N_SUBJECTS, "stimuli": N_STIMULI, "resamples": N_RESAMPLES,
        "largest_difference_from_rsatoolbox": largest_difference(models, recorded, counts[:5], found),
        "rsatoolbox_resamples_run": n_reference,
    }  # fmt: skip
    fixed, reference = [ModelFixed(f"m{i}", model) for i, model in enumerate(models)], RDMs(recorded)
    for kind, (name, function) in REFERENCES.items():
        own_s, n_tests = seconds(lambda k=kind: ours(models, recorded, counts, k, rng))  # type: ignore[misc]
        other_s, _ = seconds(lambda f=function: f(fixed, reference, method="spearman", N=n_reference))  # type: ignore[misc]
        scaled = other_s * N_RESAMPLES / n_reference
        result[kind] = {
            "tests": n_tests, "cpu_s": round(own_s, 2), "rsatoolbox": name, "rsatoolbox_cpu_s_run": round(other_s, 2),
            f"rsatoolbox_cpu_s_scaled_to_{N_RESAMPLES}": round(scaled, 1), "times_faster": round(scaled / own_s, 1),
        }  # fmt: skip
        print(kind, result[kind], flush=True)
    both = result["both"]["cpu_s"]
    dual_s, _ = seconds(lambda: eval_dual_bootstrap(fixed, reference, method="spearman", N=n_reference))
    result["dual_bootstrap_of_rsatoolbox"] = {
        "rsatoolbox_cpu_s_run": round(dual_s, 2), "times_faster": round(dual_s * N_RESAMPLES / n_reference / both, 1),
    }  # fmt: skip
    command = f"python benchmarks/bench_rsa_inference.py --reference-resamples {n_reference}"
    print(f"{write_result('rsa_inference', command, result)}: {result}")


if __name__ == "__main__":
    main()
