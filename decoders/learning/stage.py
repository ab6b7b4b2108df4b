"""Stage ``train``: the networks of one rule and architecture, with weights, features, curves and a card for each seed.

One job trains all seeds (the import of torch costs more than a short training), or one of them where the job carries
the label ``seed``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError, TrainingFailed, Unsupported
from decoders.learning.features import study_features, write_features
from decoders.learning.network import Budget, Result, Seeds, TrainingSet, train_network
from decoders.learning.registry import create
from decoders.learning.text_features import read_word_windows, text_features, write_text_features
from decoders.models.trainer import History, TrainingData
from decoders.stage import Job
from decoders.stages import stage_digest
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.atomic import sha256_of
from decoders.store.tables import write_json, write_table
from decoders.store.weights import write_weights

_CURVES = ("stage", "epoch", "step", "learning_rate", "loss", "accuracy")
# Of a network without a result: the rule does not support it, or its training broke.
_UNMEASURED = (
    "test_accuracy", "readout_accuracy", "untrained_readout_accuracy", "layer", "layer_accuracy",
    "untrained_layer_accuracy", "layer_p",
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Outputs of one network."""

    card: Path
    weights: Path
    features: Path
    curves: Path
    predictions: Path


def run(job: Job) -> None:
    """Train the networks of the labels rule and architecture; reads training_set and, where given, pictures and words.

    Outputs are named card, weights, features, curves and predictions with the label ``seed``, and card_<seed> and so
    on without it.
    """
    data = read_training_set(job.input("training_set"))
    done = [_train(job, data, seed, files) for seed, files in networks_of(job.labels, job.outputs)]
    # Only now: a killed job loses the outputs of all its seeds, and finds the finished ones in their checkpoints.
    for folder in filter(None, done):
        shutil.rmtree(folder, ignore_errors=True)


def networks_of(labels: Mapping[str, str], outputs: Mapping[str, Path]) -> Iterator[tuple[int, Files]]:
    """Yield the seeds of a job with their files."""
    kinds = tuple(Files.__dataclass_fields__)
    if "seed" in labels:
        yield int(labels["seed"]), Files(**{kind: Path(outputs[kind]) for kind in kinds})
        return
    for seed in [name.removeprefix("card_") for name in outputs if name.startswith("card_")]:
        yield int(seed), Files(**{kind: Path(outputs[f"{kind}_{seed}"]) for kind in kinds})


def _train(job: Job, data: TrainingSet, seed: int, files: Files) -> Path | None:
    """Train a network and write its files; return the folder of its checkpoint, None where the state is kept."""
    rule, architecture = job.labels["rule"], job.labels["architecture"]
    training = job.settings.learning.training
    options = job.settings.learning.options.get(rule, {})
    budget = Budget(training.epochs, training.batch_size, training.learning_rate, training.n_readout)
    # The first two do not know the rule: every rule starts at the same weights and sees the same pictures.
    seeds = Seeds(
        network=job.torch_seed("network", architecture, seed),
        order=job.torch_seed("order", seed),
        rule=job.torch_seed("rule", rule, architecture, seed),
    )
    card: dict[str, Any] = {
        "rule": rule,
        "architecture": architecture,
        "seed": seed,
        "dataset": data.dataset,
        "epochs": budget.epochs,
        "budget": {**asdict(budget), "n_train": len(data.train.x), "n_test": len(data.test.x)},
        "info": create(rule, **options).info.as_dict(),
    }
    folder = _checkpoint_folder(job, seeds, options)
    checkpoint = folder / "training.safetensors"
    try:
        result = train_network(rule, architecture, data, budget, seeds, checkpoint, job.log, options)
    except Unsupported as refusal:
        job.log.warning("%s", refusal)
        _write_without_result(card, f"unsupported: {refusal.why}", files, History())
    except TrainingFailed as failure:
        job.log.warning("Seed %d: %s The state before that update stays in %s.", seed, failure, checkpoint)
        _write_without_result(card, f"failed: {failure}", files, failure.history)
        return None
    else:
        _write(job, card, result, data, files)
    return folder


def read_training_set(path: Path) -> TrainingSet:
    """Read and verify a training set."""
    file = read_arrays(path)
    names = [str(name) for name in file["class_names"]]
    n_symbols = len(names) if file["x_train"].ndim == 2 else 0
    train, test = (
        TrainingData(file[f"x_{part}"], file[f"y_{part}"].astype(np.int64), n_symbols) for part in ("train", "test")
    )
    return TrainingSet(train, test, names, str(file.attributes["dataset"]))


def _read_pictures(job: Job) -> tuple[NDArray[np.uint8], list[str]] | None:
    if not job.inputs.get("pictures"):
        return None
    file = read_arrays(job.input("pictures"))
    pictures = file["pictures"]
    if pictures.dtype != np.uint8:
        raise InputError("pictures of type uint8", str(pictures.dtype), job.input("pictures"), "Run `pictures` again.")
    return pictures, [str(name) for name in file["names"]]


def _write_features(job: Job, result: Result, data: TrainingSet, path: Path, labels: Mapping[str, Any]) -> None:
    """Write the features of what the study shows and the network reads: pictures, or words of a text."""
    extract = result.rule.features
    if result.rule.net.input_kind == "text":
        if not job.inputs.get("words"):
            write_features(path, {}, [], labels)
            return
        words = read_word_windows(job.input("words"), data.class_names, data.train.x.shape[1])
        write_text_features(path, text_features(extract, words, len(data.class_names)), words, labels)
        return
    pictures, stimuli = _read_pictures(job) or (None, [])
    features = {} if pictures is None else study_features(extract, pictures, job.settings.learning.sizes)
    write_features(path, features, stimuli, labels)


def _write(job: Job, card: dict[str, Any], result: Result, data: TrainingSet, files: Files) -> None:
    labels = {key: card[key] for key in ("rule", "architecture", "seed")}
    _write_features(job, result, data, files.features, {**labels, "status": "ok"})
    write_weights(files.weights, _weights(result), labels)
    _write_curves(files.curves, result.history)
    predictions = {name: Array(values, ("input",)) for name, values in result.predictions.items()}
    write_arrays(
        files.predictions, {"labels": Array(data.test.y, ("input",)), **predictions}, {**labels, "status": "ok"}
    )
    cost = {"cpu_seconds": round(result.history.cpu_seconds, 2), "peak_mb": _peak_mb()}
    card = {**card, **result.measured, **cost, "counters": result.history.counters, "status": "ok"}
    write_json(files.card, card)


def _weights(result: Result) -> dict[str, Any]:
    """Return the network's weights, and the rule's own parameters under rule.<name>."""
    own = {f"rule.{name}": value for name, value in result.rule.companions.state_dict().items()}
    own |= {f"rule.{name}": value for name, value in result.rule.extra.items()}
    return {**result.rule.net.state_dict(), **own}


def _write_without_result(card: dict[str, Any], status: str, files: Files, history: History) -> None:
    labels = {key: card[key] for key in ("rule", "architecture", "seed")}
    write_features(files.features, {}, [], {**labels, "status": status})
    write_weights(files.weights, {}, {**labels, "status": status})
    _write_curves(files.curves, history)
    write_arrays(files.predictions, {}, {**labels, "status": status})
    measured: dict[str, Any] = {**dict.fromkeys(_UNMEASURED), "displacement": {}, "claimed": {}, "trained": "no"}
    peak = _peak_mb() if history.rows else 0.0
    cost = {"counters": history.counters, "cpu_seconds": round(history.cpu_seconds, 2), "peak_mb": peak}
    write_json(files.card, {**card, **measured, **cost, "status": status})


def _write_curves(path: Path, history: History) -> None:
    write_table(path, pd.DataFrame(history.rows, columns=None if history.rows else list(_CURVES)))


def _checkpoint_folder(job: Job, seeds: Seeds, options: Mapping[str, Any]) -> Path:
    """Outside the declared outputs (Snakemake deletes those of a killed job), named by all that the bits depend on."""
    parts = {
        "labels": {"rule": job.labels["rule"], "architecture": job.labels["architecture"]},
        "training": job.settings.learning.training.model_dump(mode="json"),
        "options": dict(options),
        "training_set": sha256_of(job.input("training_set")),
        "seeds": asdict(seeds),
        "source": stage_digest("train", job.labels["rule"]),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    networks = next(iter(job.outputs.values())).parent.parent
    return networks.parent / ".checkpoints" / digest


def _peak_mb() -> float:
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
