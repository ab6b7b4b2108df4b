"""The cross-fitted gate: planted voxels are found, noise is not, and joint training fails where it must."""

import numpy as np
import pytest
import torch

from decoders.config import VoxelMapSettings
from decoders.decoding.bottleneck import (
    Answers,
    _window_starts,
    info_nce,
    kl_weight,
    lags_in_volumes,
    null_pairing,
    paired,
    train_gate,
)
from decoders.decoding.maps import recovery
from decoders.errors import InputError

MASK = np.ones((5, 6, 5), dtype=bool)
PLANTED = np.zeros(MASK.shape, dtype=bool)
PLANTED[:2, :2, :3] = True
SETTINGS = VoxelMapSettings(epochs=60, hidden=16)


def brain(seed=0, signal=0.5, n_runs=8, n=100, n_features=6):
    """A small phantom: planted voxels answer to the text 4 s later."""
    rng = np.random.default_rng(seed)
    targets = [rng.normal(size=(n, n_features)).astype(np.float32) for _ in range(n_runs)]
    weights = rng.normal(size=(n_features, int(PLANTED.sum())))
    x = []
    for target in targets:
        run = rng.normal(size=(n, int(MASK.sum()))).astype(np.float32)
        answer = np.roll(target, 2, axis=0) @ weights
        run[:, PLANTED[MASK]] += signal * answer / answer.std(0)
        x.append((run - run.mean(0)) / run.std(0))
    return x, targets


def auc(fit):
    return recovery(fit.logits, PLANTED[MASK])[0]


def test_planted_voxels_are_recovered_and_the_null_is_not():
    x, targets = brain()
    fit = train_gate(x, targets, MASK, SETTINGS, 2.0, seed=0)
    assert auc(fit) > 0.95
    assert fit.curve[-1, 0] < fit.curve[0, 0] - 0.2  # the held-out loss fell
    rng = np.random.default_rng(0)
    short = SETTINGS.model_copy(update={"epochs": 30})
    pairings = [null_pairing([len(run) for run in x], rng) for _ in range(4)]
    nulls = [train_gate(x, paired(targets, pairing), MASK, short, 2.0, seed=0) for pairing in pairings]
    assert 0.25 < np.mean([auc(null) for null in nulls]) < 0.75
    assert max(null.logits.max() for null in nulls) < np.quantile(fit.logits[PLANTED[MASK]], 0.8)


def test_no_signal_stays_at_chance():
    aucs = [auc(train_gate(*brain(seed, signal=0.0), MASK, SETTINGS, 2.0, seed=seed)) for seed in range(4)]
    assert 0.35 < np.mean(aucs) < 0.65


def test_an_unrolled_null_fails_that_check():
    x, targets = brain()
    unrolled = [(run, 0) for run in range(len(x))]
    assert auc(train_gate(x, paired(targets, unrolled), MASK, SETTINGS, 2.0, seed=0)) > 0.95


def test_joint_training_without_kl_fails_where_cross_fitting_finds():
    # Few volumes for many voxels: a jointly trained gate opens wherever the read-out can overfit.
    x, targets = brain(signal=0.25, n=60)
    settings = SETTINGS.model_copy(update={"epochs": 150})
    cross = train_gate(x, targets, MASK, settings, 2.0, seed=0)
    joint = train_gate(x, targets, MASK, settings.model_copy(update={"beta": 0.0}), 2.0, seed=0, cross_fit=False)
    assert auc(cross) > 0.85
    assert auc(joint) < auc(cross) - 0.1
    assert joint.m.mean() > 2 * cross.m.mean()


def test_held_out_runs_do_not_train_the_readout():
    """With one step, the read-out of fold 0 must not depend on the runs of fold 0, except through the gate."""
    from decoders.decoding.bottleneck import _Trainer

    def readout(x):
        trainer = _Trainer(x, targets, MASK, SETTINGS, Answers((1, 2), "decoding.voxels"), 5, 0, True, SETTINGS.beta)
        trainer._step([[0, 2], [1, 3], [4], [5]])
        return trainer.predictors[0].linear.weight.detach().numpy()

    x, targets = brain(n_runs=6)
    other = [run.copy() for run in x]
    other[0] = other[0][::-1].copy()
    np.testing.assert_array_equal(readout(x), readout(other))
    other[1] = other[1][::-1].copy()
    assert not np.array_equal(readout(x), readout(other))


def test_same_seed_same_bits():
    x, targets = brain(n_runs=4)
    short = SETTINGS.model_copy(update={"epochs": 3})
    torch.manual_seed(1)
    first = train_gate(x, targets, MASK, short, 2.0, seed=3)
    torch.manual_seed(2)  # the global generator has no say
    second = train_gate(x, targets, MASK, short, 2.0, seed=3)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert not np.array_equal(first.logits, train_gate(x, targets, MASK, short, 2.0, seed=4).logits)


@pytest.mark.parametrize("head", ["patchify", "k7"])
def test_convolutional_heads_train_the_gate(head):
    x, targets = brain(n_runs=4, n=60)
    settings = SETTINGS.model_copy(update={"epochs": 2, "head": head})
    torch.manual_seed(0)
    fit = train_gate(x, targets, MASK, settings, 2.0, seed=0)
    torch.manual_seed(1)
    np.testing.assert_array_equal(fit.logits, train_gate(x, targets, MASK, settings, 2.0, seed=0).logits)
    assert np.isfinite(fit.logits).all()
    assert np.abs(fit.logits).max() > 0


def test_regions_have_no_grid():
    x, targets = brain(n_runs=4)
    few = [run[:, :20] for run in x]
    fit = train_gate(few, targets, 20, SETTINGS.model_copy(update={"epochs": 2}), 2.0, seed=0)
    assert fit.m.shape == (20,)


def test_lags_of_the_specification():
    assert lags_in_volumes(2.0) == (1, 2, 3, 4)
    assert lags_in_volumes(1.5) == (2, 3, 4, 6)
    assert lags_in_volumes(0.71) == (3, 6, 9, 12)


def test_windows_and_their_lags_stay_in_their_run():
    starts = _window_starts([30, 20], 5, 2, 4).numpy()
    first, second = starts[starts < 30], starts[starts >= 30]
    assert first[0] == 2
    assert second[0] == 32
    assert (first + 4 + 4 < 30).all()
    assert (second + 4 + 4 < 50).all()
    assert (np.diff(first) == 5).all()


def test_info_nce_by_hand():
    predicted, target = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    expected = np.log(1 + np.exp(-10.0))
    assert float(info_nce(predicted, target)) == pytest.approx(expected, rel=1e-3)
    same = torch.ones(7, 3)
    assert float(info_nce(same, same)) == pytest.approx(np.log(7), rel=1e-5)


def test_null_pairing_moves_every_run_and_keeps_lengths():
    lengths = [40, 40, 30, 40, 30, 50]
    pairing = null_pairing(lengths, np.random.default_rng(0))
    for run, (source, shift) in enumerate(pairing):
        assert lengths[source] == lengths[run]
        assert source != run or lengths[run] == 50
        assert lengths[run] // 4 <= shift <= 3 * lengths[run] // 4 + 1
    assert sorted(source for source, _ in pairing) == list(range(6))


def test_too_few_runs_or_volumes_are_refused():
    x, targets = brain(n_runs=3)
    with pytest.raises(InputError, match="at least 4 training runs"):
        train_gate(x, targets, MASK, SETTINGS, 2.0, seed=0)
    with pytest.raises(InputError, match="one per fold, found 1"):
        train_gate(x[:1], targets[:1], MASK, SETTINGS, 2.0, seed=0)
    short = [run[:15] for run in x]
    with pytest.raises(InputError, match="runs of at least 19 volumes, found 15"):
        train_gate(short, targets, MASK, SETTINGS.model_copy(update={"folds": 3}), 2.0, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_training(value):
    x, targets = brain(n_runs=4)
    x[2][50, 7] = value
    with pytest.raises(InputError, match="a finite loss of the gate"):
        train_gate(x, targets, MASK, SETTINGS.model_copy(update={"epochs": 2}), 2.0, seed=0)


def test_the_price_of_a_nat_is_the_same_on_all_large_grids():
    assert [kl_weight(10.0, n) for n in (20, 2000, 20000)] == [10, 10, 100]
    assert kl_weight(10.0, 60000) / 60000 == pytest.approx(kl_weight(10.0, 2000) / 2000)


def test_the_loss_of_the_gate_is_weighed_so(monkeypatch):
    x, targets = brain(n_runs=4)
    short = SETTINGS.model_copy(update={"epochs": 3})
    plain, dearer = (train_gate(x, targets, MASK, short, 2.0, seed=0, beta=beta).logits for beta in (10.0, 50.0))
    monkeypatch.setattr("decoders.decoding.bottleneck.VOXELS_OF_BETA", int(MASK.sum()) / 5)
    np.testing.assert_array_equal(train_gate(x, targets, MASK, short, 2.0, seed=0).logits, dearer)
    assert not np.array_equal(plain, dearer)
