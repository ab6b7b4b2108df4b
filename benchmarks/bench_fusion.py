"""Fusion and commonality of a study: 8 people, 92 stimuli, 150 times, 5 regions, 60 model RDMs, 1,000 permutations.

Run ``python benchmarks/bench_fusion.py`` (one thread; minutes). The stage's own function, with 1,000 bootstrap
resamples of the stimuli besides. Beside it the relabelled commonalities as papers compute them, by three regressions
(numpy's least squares) on ranked RDMs per person, time, region, model and permutation: measured on 300 cells and scaled
to all, since every cell costs the same; the result says so. Both must give the same values in these cells.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from common import write_result
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from decoders.alignment.fusion.null import observed_statistics, relabelled_statistics
from decoders.alignment.fusion.pairing import Paired, SensorRDMs
from decoders.alignment.fusion.prepared import Resampler, Study
from decoders.alignment.fusion.resampled import resample, stimulus_counts
from decoders.alignment.fusion.stage import Options, fuse
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models
from decoders.stage import fix_threads
from decoders.stats.permutation import label_permutations

N_STIMULI, N_TIMES, N_REGIONS, N_CONTROLS, N_RULES, N_SEEDS = 92, 150, 5, 6, 18, 3


def geometry(rng: np.random.Generator) -> np.ndarray:
    return pdist(rng.standard_normal((N_STIMULI, 20)), "sqeuclidean")


def made_up(n_people: int) -> Study:
    rng = np.random.default_rng(0)
    base = [geometry(rng) for _ in range(N_REGIONS)]
    times = np.linspace(-0.1, 0.645, N_TIMES)
    bumps = [np.exp(-0.5 * ((times - 0.1 - 0.05 * r) / 0.04) ** 2) for r in range(N_REGIONS)]
    clean = sum(np.outer(bump, code) for bump, code in zip(bumps, base, strict=True))
    meg = clean + 20 * rng.standard_normal((n_people, N_TIMES, base[0].size))
    sensor = SensorRDMs([f"{i:02d}" for i in range(n_people)], times, [f"s{i}" for i in range(N_STIMULI)], meg)
    people = np.arange(n_people)
    regions = []
    for number, code in enumerate(base):
        own = code + 20 * rng.standard_normal((n_people, code.size))
        regions.append(Paired(f"r{number}", people, own))
    rows = [ModelRow("control", f"control:c{i}", 0.5 * base[0] + geometry(rng)) for i in range(N_CONTROLS)]
    for rule in range(N_RULES):
        for seed in range(N_SEEDS):
            rdm = base[rule % N_REGIONS] + geometry(rng)
            rows.append(ModelRow("network", f"rule{rule:02d}", rdm, "cnn3", str(seed), "fc1", "32"))
    return Study(sensor, regions, Models(rows), "spearman")


def seconds_per_cell(study: Study, n_cells: int) -> float:
    """Return CPU seconds of one commonality by regressions on ranks, and check that it equals ours."""
    prepared = Resampler(study).prepare()
    ours = [prepared.shared(prepared.relations(), r) for r in range(N_REGIONS)]
    rng, worst, spent = np.random.default_rng(1), 0.0, 0.0
    for _ in range(n_cells):
        s, t, r, m = (
            int(rng.integers(n)) for n in (len(study.sensor.rdms), N_TIMES, N_REGIONS, len(study.rows.usable))
        )
        rdms = (study.sensor.rdms[s, t], study.pairs[r].reference[s], study.rows.vectors[m])
        start = time.process_time()
        y, f, x = (rankdata(rdm) for rdm in rdms)
        share = explained(y, f) + explained(y, x) - explained(y, f, x)
        spent += time.process_time() - start
        worst = max(worst, abs(share - ours[r][s, t, m]))
    assert worst < 1e-9, worst
    return spent / n_cells


def explained(y: np.ndarray, *predictors: np.ndarray) -> float:
    design = np.column_stack([np.ones_like(y), *predictors])
    rest = np.linalg.lstsq(design, y, rcond=None)[1]
    return float(1 - rest[0] / ((y - y.mean()) ** 2).sum())


def timed(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--draws", type=int, default=1000, help="permutations, and bootstrap resamples")
    parser.add_argument("--profile", action="store_true", help="print the cost of one permutation and one resample")
    options = parser.parse_args()
    fix_threads(1)
    study = made_up(options.people)
    if options.profile:
        profile(study)
        return
    start_wall, start = time.perf_counter(), time.process_time()
    plan = Plan("spearman", "max", options.draws)
    found = fuse(study, Options(plan, options.draws, 0.05), np.random.default_rng(2))
    cpu, wall = time.process_time() - start, time.perf_counter() - start_wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cell = seconds_per_cell(study, 300)
    n_cells = options.draws * options.people * N_TIMES * N_REGIONS * len(study.rows.usable)
    permuting = timed(lambda: relabel(study, 100)) / 100 * options.draws
    figures = {
        "size": {
            "people": options.people, "stimuli": N_STIMULI, "times": N_TIMES, "regions": N_REGIONS,
            "model_rdms": len(study.rows.usable), "models": len(study.models), "permutations": options.draws,
            "resamples": options.draws,
        },
        "whole_stage": {"cpu_seconds": round(cpu, 1), "wall_seconds": round(wall, 1), "peak_mb": round(peak, 1)},
        "permutations_alone_cpu_seconds": round(permuting, 1),
        "regressions_cpu_seconds_scaled_from_300_cells": round(cell * n_cells, 1),
        "ratio_regressions_to_ours": round(cell * n_cells / permuting, 1),
        "rows": len(found.table),
    }  # fmt: skip
    print(figures)
    print(write_result("fusion", f"python benchmarks/bench_fusion.py --people {options.people}", figures))


def relabel(study: Study, n_permutations: int) -> None:
    orders = label_permutations(N_STIMULI, n_permutations, np.random.default_rng(3))
    relabelled_statistics(Resampler(study).prepare(), study.averaging, orders)


def profile(study: Study) -> None:
    resampler = Resampler(study)
    prepared, rng = resampler.prepare(), np.random.default_rng(3)
    observed_statistics(prepared, study.averaging)
    orders, counts = label_permutations(N_STIMULI, 20, rng), stimulus_counts(study, 20, rng)
    print("permutation", timed(lambda: relabelled_statistics(prepared, study.averaging, orders)) / 20)
    print("prepare", timed(lambda: [resampler.prepare(count) for count in counts]) / 20)
    print("resample", timed(lambda: resample(study, resampler, counts, {}, rng)) / 20)


if __name__ == "__main__":
    main()
