"""Figures of the reference numbers on real pictures: one seed here, all of them in config/studies/objects92.yaml."""

import numpy as np
import pytest

from decoders.data.registry import fetch
from decoders.learning.measures import native_predictions
from decoders.learning.registry import create
from decoders.learning.rule import RuleSpec
from decoders.models.architectures import build_network
from decoders.models.trainer import TrainingData, train
from decoders.stimuli.training import choose
from decoders.stimuli.training_sources import cifar10


@pytest.fixture(scope="module")
def cifar():
    chosen = choose(cifar10(fetch("img_cifar10_subset")), 8000, 2000, 32, np.random.default_rng(0))
    return TrainingData(chosen.x_train, chosen.y_train), TrainingData(chosen.x_test, chosen.y_test)


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("backprop", 0.48, 0.65), ("random_features", 0.45, 0.53), ("feedback_alignment", 0.33, 0.48)],
)
def test_accuracy_at_8000_pictures_and_two_epochs(cifar, name, low, high):
    rule = create(name)
    rule.setup(build_network("cnn3", 10, seed=0), RuleSpec(), seed=1)
    train(rule, cifar[0], epochs=2, batch_size=128, seed=2)
    assert low <= np.mean(native_predictions(rule, cifar[1]) == cifar[1].y) <= high
