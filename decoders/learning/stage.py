"""Stage ``train``: one network by one learning rule, with its weights, features, curves and card."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError, Unsupported
from decoders.learning.features import study_features, write_features
from decoders.learning.network import Budget, Result, Seeds, TrainingSet, train_network
from decoders.learning.registry import create
from decoders.models.trainer import TrainingData
from decoders.stage import Job
from decoders.stages import STAGES, source_digest
from decoders.store.arrays import read_arrays
from decoders.store.atomic import sha256_of
from decoders.store.tables import write_json, write_table
from decoders.store.weights import write_weights

_CURVES = ("stage", "epoch", "step", "learning_rate", "loss", "accuracy")


def run(job: Job) -> None:
    """Train the network of the labels rule, architecture and seed; reads training_set and, where given, pictures."""
    rule, architecture, seed = job.labels["rule"], job.labels["architecture"], int(job.labels["seed"])
    settings = job.settings.learning
    data = read_training_set(job.input("training_set"))
    budget = Budget(settings.training.epochs, settings.training.batch_size, settings.training.learning_rate)
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
        "info": create(rule).info.as_dict(),
    }
    checkpoint = _checkpoint_folder(job, seeds) / "training.safetensors"
    try:
        result = train_network(rule, architecture, data, budget, seeds, checkpoint, job.log)
    except Unsupported as refusal:
        job.log.warning("%s", refusal)
        _write_unsupported(job, card, refusal)
        return
    _write(job, card, result)
    shutil.rmtree(checkpoint.parent, ignore_errors=True)


def read_training_set(path: Path) -> TrainingSet:
    """Read and verify a training set."""
    file = read_arrays(path)
    train, test = (TrainingData(file[f"x_{part}"], file[f"y_{part}"].astype(np.int64)) for part in ("train", "test"))
    return TrainingSet(train, test, [str(name) for name in file["class_names"]], str(file.attributes["dataset"]))


def _read_pictures(job: Job) -> tuple[NDArray[np.uint8], list[str]] | None:
    if not job.inputs.get("pictures"):
        return None
    file = read_arrays(job.input("pictures"))
    pictures = file["pictures"]
    if pictures.dtype != np.uint8:
        raise InputError("pictures of type uint8", str(pictures.dtype), job.input("pictures"), "Run `pictures` again.")
    return pictures, [str(name) for name in file["names"]]


def _write(job: Job, card: dict[str, Any], result: Result) -> None:
    labels = {key: card[key] for key in ("rule", "architecture", "seed")}
    study = _read_pictures(job)
    pictures, stimuli = study if study else (None, [])
    sizes = job.settings.learning.sizes
    features = {} if pictures is None else study_features(result.rule.features, pictures, sizes)
    write_features(job.outputs["features"], features, stimuli, {**labels, "status": "ok"})
    write_weights(job.outputs["weights"], result.rule.net.state_dict(), labels)
    rows = pd.DataFrame(result.history.rows, columns=None if result.history.rows else list(_CURVES))
    write_table(job.outputs["curves"], rows)
    cost = {"cpu_seconds": round(result.history.cpu_seconds, 2), "peak_mb": _peak_mb()}
    card = {**card, **result.measured, **cost, "counters": result.history.counters, "status": "ok"}
    write_json(job.outputs["card"], card)


def _write_unsupported(job: Job, card: dict[str, Any], refusal: Unsupported) -> None:
    labels = {key: card[key] for key in ("rule", "architecture", "seed")}
    status = f"unsupported: {refusal.why}"
    write_features(job.outputs["features"], {}, [], {**labels, "status": status})
    write_weights(job.outputs["weights"], {}, {**labels, "status": status})
    write_table(job.outputs["curves"], pd.DataFrame(columns=list(_CURVES)))
    accuracies = dict.fromkeys(("test_accuracy", "readout_accuracy", "untrained_readout_accuracy"))
    measured: dict[str, Any] = {**accuracies, "displacement": {}, "claimed": {}, "trained": "no", "counters": {}}
    write_json(job.outputs["card"], {**card, **measured, "cpu_seconds": 0.0, "peak_mb": 0.0, "status": status})


def _checkpoint_folder(job: Job, seeds: Seeds) -> Path:
    """Outside the declared outputs (Snakemake deletes those of a killed job), named by all that the bits depend on."""
    parts = {
        "labels": dict(job.labels),
        "training": job.settings.learning.training.model_dump(mode="json"),
        "training_set": sha256_of(job.input("training_set")),
        "seeds": asdict(seeds),
        "source": source_digest(STAGES["train"].module),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    study = job.outputs["weights"].parent.parent.parent
    return study / ".checkpoints" / digest


def _peak_mb() -> float:
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
