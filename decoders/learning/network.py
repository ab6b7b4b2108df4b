"""One network of a study: built, trained by one rule, measured. Pure of files but for the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from decoders.errors import CorticodeError
from decoders.learning import registry
from decoders.learning.displacement import initial_weights, moved_without_claim, relative_displacement, trained
from decoders.learning.rule import LearningRule, RuleSpec
from decoders.models.networks import build_network
from decoders.models.pictures import batches, pooled_features
from decoders.models.readout import fit_readout
from decoders.models.trainer import History, TrainingData, train


@dataclass(frozen=True)
class TrainingSet:
    """Pictures (picture, row, column, channel) uint8 and labels (picture,), for training and for test."""

    train: TrainingData
    test: TrainingData
    class_names: list[str]
    dataset: str


@dataclass(frozen=True)
class Budget:
    """What every rule gets: epochs, pictures per batch, peak learning rate."""

    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Seeds:
    """Of the initial weights and of the order of pictures (the same for all rules), and of the rule's own noise."""

    network: int
    order: int
    rule: int


@dataclass(frozen=True)
class Result:
    """A trained network and its measurements.

    Attributes
    ----------
    rule : LearningRule
        With the trained network.
    history : History
        Training curve, counters, CPU seconds.
    measured : dict
        test_accuracy, readout_accuracy, untrained_readout_accuracy, displacement, claimed, trained.
    """

    rule: LearningRule
    history: History
    measured: dict[str, Any]


def train_network(
    rule_name: str,
    architecture: str,
    data: TrainingSet,
    budget: Budget,
    seeds: Seeds,
    checkpoint: Path | None = None,
    log: logging.Logger | None = None,
) -> Result:
    """Train one network by one rule and measure it.

    Parameters
    ----------
    rule_name, architecture : str
        Registered names.
    data : TrainingSet
    budget : Budget
    seeds : Seeds
    checkpoint : Path, optional
        A killed training resumes from it, to the same bits.

    Raises
    ------
    Unsupported
        The rule is not defined on the architecture.
    """
    rule = registry.create(rule_name)
    net = build_network(architecture, len(data.class_names), seeds.network)
    before = initial_weights(net)
    rows, columns = data.train.x.shape[1:3]
    rule.setup(net, RuleSpec((3, rows, columns), budget.learning_rate), seeds.rule)
    # The rule's own features before its first update: its random baseline, by the same code path.
    untrained = readout_accuracy(rule.features, data)
    history = train(rule, data.train, budget.epochs, budget.batch_size, seeds.order, checkpoint, log=log)
    displacement, claimed = relative_displacement(net, before), rule.claims()
    if strayed := moved_without_claim(displacement, claimed):
        raise CorticodeError(f"The rule '{rule_name}' moved {strayed}, which it claims to leave. Please report it.")
    measured = {
        "test_accuracy": native_accuracy(rule, data.test),
        # Without an update the network is the untrained one: the same numbers, not measured twice.
        "readout_accuracy": readout_accuracy(rule.features, data) if history.rows else untrained,
        "untrained_readout_accuracy": untrained,
        "displacement": displacement,
        "claimed": claimed,
        "trained": "yes" if trained(displacement, claimed) else "no",
    }
    return Result(rule, history, measured)


def native_accuracy(rule: LearningRule, test: TrainingData) -> float | None:
    """Return the accuracy of the rule's own prediction on the test pictures; None where it has none."""
    right: list[NDArray[np.bool_]] = []
    start = 0
    for x in batches(test.x, 0):
        logits = rule.native_logits(x)
        if logits is None:
            return None
        right.append(logits.argmax(1).numpy() == test.y[start : start + len(x)])
        start += len(x)
    return float(np.concatenate(right).mean())


def readout_accuracy(extract: Callable[[Tensor], Mapping[str, Tensor]], data: TrainingSet) -> float:
    """Return the test accuracy of the common read-out: linear on all taps, pooled over positions.

    It is fitted on the training pictures, detached from the network: the same for every rule, whatever the
    rule's own prediction is made of.
    """
    fitted = fit_readout(pooled_features(extract, data.train.x), data.train.y, len(data.class_names))
    return fitted.accuracy(pooled_features(extract, data.test.x), data.test.y)
