"""One network of a study: built, trained by one rule, measured. Pure of files but for the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import CorticodeError, InputError, Unsupported
from decoders.learning import registry
from decoders.learning.displacement import initial_weights, moved_without_claim, relative_displacement, trained
from decoders.learning.measures import Readouts, last_trained_layer, native_predictions, read_out
from decoders.learning.options import OptionValue
from decoders.learning.rule import LearningRule, RuleSpec
from decoders.models.architectures import build_network
from decoders.models.trainer import History, TrainingData, train


@dataclass(frozen=True)
class TrainingSet:
    """Inputs (`TrainingData`) for training and for test."""

    train: TrainingData
    test: TrainingData
    class_names: list[str]
    dataset: str


@dataclass(frozen=True)
class Budget:
    """What every rule gets: epochs, inputs per batch, peak learning rate, training inputs of the read-outs."""

    epochs: int
    batch_size: int
    learning_rate: float
    n_readout: int = 10_000


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
        test_accuracy, readout_accuracy, untrained_readout_accuracy, layer, layer_accuracy,
        untrained_layer_accuracy, layer_p, displacement, claimed, trained, options.
    predictions : dict of str to array of shape (n_test,), int
        Classes of the test inputs: ``native`` (where the rule predicts), ``readout``, ``layer``, and the
        read-outs before training, ``untrained_readout`` and ``untrained_layer``.
    """

    rule: LearningRule
    history: History
    measured: dict[str, Any]
    predictions: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def train_network(
    rule_name: str,
    architecture: str,
    data: TrainingSet,
    budget: Budget,
    seeds: Seeds,
    checkpoint: Path | None = None,
    log: logging.Logger | None = None,
    options: Mapping[str, OptionValue] | None = None,
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
    options : mapping, optional
        Of the rule; its defaults where absent.

    Raises
    ------
    Unsupported
        The rule is not defined on the architecture, or the architecture does not read what the training set holds.
    TrainingFailed
        Something is not finite, or a layer no longer learns.
    InputError
        The training set has one class only.
    """
    rule = registry.create(rule_name, **(options or {}))
    if len(np.unique(data.train.y)) < 2:
        expected = "at least two classes among the training inputs"
        raise InputError(expected, f"{len(np.unique(data.train.y))}", data.dataset, "Add a class, or another data set.")
    net = build_network(architecture, len(data.class_names), seeds.network)
    if (holds := "text" if data.train.n_symbols else "pictures") != net.input_kind:
        why = f"it reads {net.input_kind}, and the training set '{data.dataset}' holds {holds}."
        raise Unsupported(rule_name, architecture, why)
    before = initial_weights(net)
    rule.setup(net, RuleSpec(data.train.input_shape, budget.learning_rate), seeds.rule)
    # The rule's own features before its first update: its random baseline, by the same code path.
    untrained = _read_out(rule, data, budget)
    history = train(rule, data.train, budget.epochs, budget.batch_size, seeds.order, checkpoint, log=log)
    displacement, claimed = relative_displacement(net, before), rule.claims()
    if strayed := moved_without_claim(displacement, claimed):
        raise CorticodeError(f"The rule '{rule_name}' moved {strayed}, which it claims to leave. Please report it.")
    # Without an update the network is the untrained one: the same numbers, not measured twice.
    final = _read_out(rule, data, budget) if history.rows else untrained
    native = native_predictions(rule, data.test)
    measured = {
        "test_accuracy": None if native is None else float(np.mean(native == data.test.y)),
        **final.measured(untrained, data.test.y),
        "displacement": displacement,
        "claimed": claimed,
        "trained": "yes" if trained(displacement, claimed) else "no",
        "options": dict(rule.option),
    }
    return Result(rule, history, measured, _predictions(native, final, untrained))


def _read_out(rule: LearningRule, data: TrainingSet, budget: Budget) -> Readouts:
    fitted_on = data.train.thinned(budget.n_readout)
    return read_out(rule.features, last_trained_layer(rule), fitted_on, data.test, rule.net.n_classes)


def _predictions(
    native: NDArray[np.int64] | None, final: Readouts, untrained: Readouts
) -> dict[str, NDArray[np.int64]]:
    found = {"readout": final.all_layers, "layer": final.last_layer}
    found |= {"untrained_readout": untrained.all_layers, "untrained_layer": untrained.last_layer}
    return found if native is None else {"native": native, **found}
