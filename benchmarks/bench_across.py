"""Decoding of a new person from no, one, three and all runs: phantoms with four listeners of 18 runs of the Alice book.

``python benchmarks/bench_across.py`` (about ten CPU minutes) holds out the last of four listeners of the phantoms 0, 1
and 2 at the response strengths .3 and .2; ``… 100`` runs one phantom and writes nothing. Runs 1-15 train, 16-18 test.
Settings were chosen on phantom 100. Word features are matched: an upper bound. Gates and decoders are those of the
stages ``voxels`` and ``across``; everything is on the same simulated arrays, without files in between.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import write_result

from decoders.config import AcrossSettings, PhantomSettings, VoxelMapSettings
from decoders.decoding import maps
from decoders.decoding.across_methods import Given, Others
from decoders.decoding.across_people import Common, Person, few_shot_gates
from decoders.decoding.across_scores import HeldOut, Read, read_new_person
from decoders.decoding.bottleneck import lags_in_volumes, train_gate
from decoders.simulate.story import TR_S, StoryRuns, simulate_story_runs
from decoders.stimuli.features import feature_matrix, zscore_runs

N_PEOPLE, N_RUNS, N_TRAIN = 4, 18, 15
STRENGTHS, SEEDS = (0.3, 0.2), (0, 1, 2)
VOXELS, ACROSS = VoxelMapSettings(features="phantom"), AcrossSettings()


def _listeners(seed: int, r0: float) -> list[StoryRuns]:
    settings = PhantomSettings(r0=r0, story_subjects=N_PEOPLE, story_runs=N_RUNS, text="alice", seed=seed)
    return [simulate_story_runs(settings, who, os.environ.get("CORTICODE_MIRROR")) for who in range(N_PEOPLE)]


def _targets(heard: StoryRuns) -> list[np.ndarray]:
    times, stories = TR_S * np.arange(heard.x.shape[1]), heard.stories
    features = ("word_rate", "embedding")
    runs = [
        feature_matrix(features, words, times, TR_S, hrf=False, embedding=stories.embedding)[0]
        for words in stories.words
    ]
    return [run.astype(np.float32) for run in zscore_runs(runs, range(N_TRAIN))]


def _read(
    case: str, amount: Any, person: Person, alone: Any, found: Any, others: Others, null: Others, test: HeldOut
) -> Read:
    given = Given(replace(person, voxels=found), alone)
    rolled = given.person.with_null_text(np.random.default_rng(1)) if person.x else given.person
    return read_new_person(
        others, (null, Given(rolled, alone)), given, test, ACROSS.methods, amount,
        lambda *keys: np.random.default_rng([len(case), *(sum(map(ord, key)) for key in keys)]),
    )  # fmt: skip


def _figures(read: Read) -> dict[str, Any]:
    def shown(score: Any) -> list[float]:
        return [round(float(value), 4) for value in (score.score, score.low, score.high)]

    return {
        **{
            f"{model} {metric}": [*shown(score), round(score.p, 4)]
            for model, (scores, _) in read.models.items()
            for metric, score in scores.items()
        },
        **{
            f"control:{name} {model} {metric}".replace("  ", " "): shown(score)
            for (name, model), scores in read.controls.items()
            for metric, score in scores.items()
        },
    }


def run(seed: int, r0: float) -> dict[str, Any]:
    """Return scores and recovery of the last listener of a phantom, by the runs given."""
    people, start = _listeners(seed, r0), time.process_time()
    targets, mask = _targets(people[0]), people[0].brain.mask
    common = Common(mask, TR_S, lags_in_volumes(TR_S), VOXELS.folds)
    logits = [train_gate(list(who.x[:N_TRAIN]), targets[:N_TRAIN], mask, VOXELS, TR_S, 1).logits for who in people]
    told = [(str(i), 0.0, len(run)) for i, run in enumerate(targets)]

    def select(values: np.ndarray) -> np.ndarray:
        return maps.top_share(values, VOXELS.select_share)

    known = [
        Person(list(who.x[:N_TRAIN]), targets[:N_TRAIN], told[:N_TRAIN], select(own))
        for who, own in zip(people, logits, strict=True)
    ]
    new, prior = known.pop(), np.mean(logits[:-1], axis=0)
    rng = np.random.default_rng(seed)
    others = Others(known, select(prior), common, ACROSS, 0)
    null = Others([person.with_null_text(rng) for person in known], select(prior), common, ACROSS, 0)
    test = HeldOut(list(people[-1].x[N_TRAIN:]), targets[N_TRAIN:], round(20 / TR_S), range(len(targets) - N_TRAIN))
    planted, figures = people[-1].brain.planted, {}
    for amount in ACROSS.few_shot:
        person = new.first(N_TRAIN if amount == "all" else amount)
        own = logits[-1] if amount == "all" else None
        gates = few_shot_gates(person, prior, common, VOXELS, ACROSS.gate_prior, 1, own)
        alone = None if gates.alone is None else select(gates.alone)
        read = _read(f"{seed} {r0}", amount, person, alone, select(gates.found), others, null, test)
        recovered = {"with prior": gates.found} | ({} if gates.alone is None else {"alone": gates.alone})
        figures[f"{amount} runs"] = _figures(read) | {
            f"gate {name}: AUC, AP": [round(value, 4) for value in maps.recovery(values, planted)]
            for name, values in recovered.items()
        }
    return figures | {"cpu_seconds": round(time.process_time() - start, 1)}


def main() -> None:
    """Run all cases and write the result."""
    torch.set_num_threads(1)
    chosen, figures = [int(seed) for seed in sys.argv[1:]], {}
    for r0 in STRENGTHS:
        for seed in chosen or SEEDS:
            figures[f"phantom {seed}, r0 {r0}"] = found = run(seed, r0)
            if not chosen:
                write_result("across", "python benchmarks/bench_across.py", figures)
            for amount, values in found.items():
                print(seed, r0, amount, values, flush=True)


if __name__ == "__main__":
    main()
