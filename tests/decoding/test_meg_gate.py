"""The gate per sensor on made-up listeners whose sensors are known; each property has a deliberate bug that breaks it."""

import dataclasses

import numpy as np
import pytest
import torch
from made_up_meg_story import EMBEDDING, SETTINGS, layout, listened, truth

from decoders.decoding.gate import VoxelGate
from decoders.decoding.maps import above_cut, recovery
from decoders.decoding.meg_gate import (
    SensorGate,
    SensorMap,
    fit_gate,
    map_sensors,
    null_z,
    sensor_kernel,
    with_null_text,
)
from decoders.decoding.meg_runs import fold_parts
from decoders.decoding.meg_windows import ridge_decode
from decoders.decoding.refit import identification_scores
from decoders.errors import InputError

POSITIONS, NAMES, TYPES = layout()
PLANTED, _ = truth()


@pytest.fixture(scope="module")
def found():
    train, _ = listened(strength=0.4)
    return map_sensors(train, POSITIONS, TYPES, SETTINGS, 0, np.random.default_rng(0))


def test_planted_sensors_are_found(found):
    auc, _ = recovery(found.fit.kl, PLANTED)
    false, true = above_cut(found.combined, found.cuts["combined"], PLANTED)
    assert auc >= 0.9
    assert true >= 0.5
    assert false <= 0.2
    assert recovery(found.encoding, PLANTED)[0] >= 0.9
    assert recovery(found.combined, PLANTED)[0] >= 0.9
    assert found.z[PLANTED].mean() > 3 > abs(found.z[~PLANTED].mean())
    assert {values.shape for values in found.nulls.values()} == {(SETTINGS.n_null_gates, len(NAMES))}
    np.testing.assert_array_equal(found.selected, np.flatnonzero(found.combined > found.cuts["combined"]))


def test_nulls_do_not_know_the_planted_sensors(found):
    for nats in found.nulls["gate"]:
        assert recovery(nats, PLANTED)[0] < 0.85
    # Mutation: null gates of the text as it was heard.
    assert recovery(found.fit.kl, PLANTED)[0] > 0.9


def test_a_gate_that_is_trained_on_its_own_fold_is_noticed():
    # On seen runs the read-out fits the noise of any sensor: gates open though nobody answers to anything.
    train, _ = listened(strength=0.0)
    kernel, free = np.eye(len(NAMES)), SETTINGS.model_copy(update={"beta": 0.0})
    crossed, own = (fit_gate(train, kernel, free, 0, cross).kl.mean() for cross in (True, False))
    assert own > 1.5 * crossed


def test_sensors_of_a_listener_who_answers_to_nothing_are_none():
    train, _ = listened(strength=0.0)
    quiet = map_sensors(train, POSITIONS, TYPES, SETTINGS, 0, np.random.default_rng(1))
    assert len(quiet.selected) <= 2
    assert 0.15 < recovery(quiet.fit.kl, PLANTED)[0] < 0.85


def test_no_sensor_above_the_cut_is_a_result():
    nats = np.full(4, 0.1, dtype=np.float32)
    nulls = dict.fromkeys(("gate", "encoding", "combined"), nats[None])
    assert SensorMap(fit_of(nats), nats, nats, nulls, np.zeros(4)).selected.size == 0


def fit_of(nats):
    from decoders.decoding.bottleneck import GateFit

    return GateFit(nats, nats, nats, nats, np.zeros((1, 3)))


def test_the_kernel_smooths_within_a_type_alone():
    places = np.array([[0, 0, 0], [0, 0, 0], [0.02, 0, 0], [0.02, 0, 0], [np.nan] * 3])
    types = ["grad", "grad", "grad", "mag", "eeg"]
    kernel = sensor_kernel(places, types, 0.02)
    near = np.exp(-0.5)
    np.testing.assert_allclose(kernel[0], np.array([1, 1, near, 0, 0]) / (2 + near), rtol=1e-12)
    np.testing.assert_allclose(kernel[3], [0, 0, 0, 1, 0])
    np.testing.assert_allclose(kernel[4], [0, 0, 0, 0, 1])
    np.testing.assert_allclose(kernel.sum(1), 1)
    np.testing.assert_array_equal(sensor_kernel(places, types, 0.0), np.eye(5))
    # Mutation: all sensors of one type are smoothed into each other.
    assert not np.allclose(sensor_kernel(places, ["mag"] * 5, 0.02)[0], kernel[0])


def test_a_sensor_gate_is_a_gate_of_smoothed_logits():
    kernel = sensor_kernel(POSITIONS, TYPES, 0.03)
    gate, plain = SensorGate(kernel), VoxelGate(len(kernel), 0.0)
    theta = torch.randn(len(kernel), generator=torch.Generator().manual_seed(0))
    gate.theta.data, plain.theta.data = theta, torch.from_numpy(kernel.astype(np.float32)) @ theta
    torch.testing.assert_close(gate.kl(), plain.kl())
    gate.theta.data = theta
    assert not torch.allclose(gate.logits(), theta), "mutation: logits that are not smoothed"


def test_z_is_by_type():
    nulls = np.array([[1.0, 3.0, 10.0, 30.0], [3.0, 1.0, 30.0, 10.0]])
    z = null_z(np.array([4.0, 2.0, 40.0, 20.0]), nulls, ["grad", "grad", "mag", "mag"])
    np.testing.assert_allclose(z, [2, 0, 2, 0])


def test_null_text_is_the_same_text_at_other_moments():
    train, _ = listened(strength=0.4)
    null = with_null_text(train, np.random.default_rng(0))
    for one, run in zip(null, train, strict=True):
        assert one.slow is run.slow
        assert not np.allclose(one.text, run.text)
    sums = [sorted(float(run.text.sum()) for run in runs) for runs in (null, train)]
    np.testing.assert_allclose(*sums, rtol=1e-3, atol=0.05)


def test_folds_are_runs_or_parts_with_a_gap():
    train, _ = listened(strength=0.4)
    parts = fold_parts(train, SETTINGS)
    assert len(parts) == len(train) * SETTINGS.folds
    gap = round(SETTINGS.response_s * SETTINGS.text_hz)
    lengths = sum(len(part.slow) for part in parts[: SETTINGS.folds])
    assert lengths == len(train[0].slow) - (SETTINGS.folds - 1) * gap
    few = SETTINGS.model_copy(update={"folds": 2})
    assert [one is run for one, run in zip(fold_parts(train, few), train, strict=True)] == [True] * len(train)
    with pytest.raises(InputError, match=r"training parts of .* s or more"):
        fold_parts(train, SETTINGS.model_copy(update={"window_s": 20.0}))


def test_the_refit_on_planted_sensors_is_better_than_all_sensors():
    train, test = listened(strength=0.1)
    kept = []
    for sensors in (np.flatnonzero(PLANTED), np.arange(len(NAMES)), np.flatnonzero(~PLANTED)):
        read = ridge_decode(train, test, sensors, SETTINGS)
        rng, texts = np.random.default_rng(0), [run.text for run in test]
        scores, _ = identification_scores(read, texts, 75, rng, range(len(test)), 20)
        kept.append(scores["percentile"].score)
    assert kept[0] > kept[1] > kept[2]


def test_a_loss_that_is_not_finite_is_refused():
    train, _ = listened(strength=0.4)
    broken = [dataclasses.replace(run, slow=np.full_like(run.slow, np.nan)) for run in train]
    with pytest.raises(InputError, match="a finite loss of the gate") as error:
        fit_gate(broken, np.eye(len(NAMES)), SETTINGS, 0)
    assert "decoding.meg" in str(error.value)


def test_equal_seeds_give_equal_bits():
    train, _ = listened(strength=0.4)
    short = SETTINGS.model_copy(update={"epochs": 2})
    one, other, third = (fit_gate(train, np.eye(len(NAMES)), short, seed).kl for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)
    assert EMBEDDING.vectors.shape[1] == 24
