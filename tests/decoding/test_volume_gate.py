"""The gate per volume: its cost is the KL, it begins as the gate per voxel, and it passes that gate's tests."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from decoders.decoding.bottleneck import null_pairing, paired, train_gate
from decoders.decoding.gate import VoxelGate, kl_nats
from decoders.decoding.volume_gate import VolumeGate, kl_of_volumes
from decoders.errors import InputError
from tests.decoding.test_bottleneck import MASK, PLANTED, SETTINGS, auc, brain

PER_VOLUME = SETTINGS.model_copy(update={"gate": "volume", "epochs": 40})


def averaged_over_data(logits, _x):
    """Mutation: E x^2 = 1 stands for every volume."""
    return kl_nats(logits)


def check_kl(kind):
    x, logits = torch.randn(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    m = torch.sigmoid(logits)
    expected = kl_divergence(Normal(m * x, 1 - m), Normal(0.0, 1.0))
    torch.testing.assert_close(kind(logits, x), expected, rtol=1e-10, atol=1e-12)


def test_cost_is_the_kl_of_each_volume():
    check_kl(kl_of_volumes)
    with pytest.raises(AssertionError):
        check_kl(averaged_over_data)


def test_it_begins_as_the_gate_per_voxel():
    x = torch.randn(4, int(MASK.sum()))
    x = (x - x.mean(0)) / x.std(0, correction=0)
    gate, shared = VolumeGate(MASK), VoxelGate(MASK)
    torch.testing.assert_close(gate.mean(x), shared.mean(x))
    torch.testing.assert_close(gate.cost([x[:1], x[1:]]), shared.cost([x]))
    for found, expected in zip(gate.maps([x[:3], x[3:]]), (shared.logits(), shared.kl()), strict=True):
        torch.testing.assert_close(found, expected)


def test_it_opens_by_what_the_volume_shows():
    torch.manual_seed(0)
    gate = VolumeGate(MASK)
    torch.nn.init.normal_(gate.layers[-1].weight)
    one, other = gate.logits(torch.randn(2, int(MASK.sum())))
    assert not torch.allclose(one, other)
    # A voxel in a corner hears of its neighbours alone: two kernels of three reach two voxels.
    x = torch.zeros(1, int(MASK.sum()), requires_grad=True)
    gate.logits(x)[0, 0].backward()
    reached = np.zeros(MASK.shape, dtype=bool)
    reached[MASK] = (x.grad[0] != 0).numpy()
    assert reached.any()
    assert not reached[3:].any()
    assert not reached[:, 3:].any()


def test_planted_voxels_are_recovered_and_the_null_is_not():
    x, targets = brain()
    assert auc(train_gate(x, targets, MASK, PER_VOLUME, 2.0, seed=0)) > 0.9
    rng = np.random.default_rng(0)
    short = PER_VOLUME.model_copy(update={"epochs": 20})
    pairings = [null_pairing([len(run) for run in x], rng) for _ in range(3)]
    nulls = [auc(train_gate(x, paired(targets, pairing), MASK, short, 2.0, seed=0)) for pairing in pairings]
    assert 0.2 < np.mean(nulls) < 0.8


@pytest.mark.parametrize("head", ["linear", "patchify"])
def test_same_seed_same_bits(head):
    x, targets = brain(n_runs=4, n=60)
    short = PER_VOLUME.model_copy(update={"epochs": 2, "head": head})
    torch.manual_seed(1)
    first = train_gate(x, targets, MASK, short, 2.0, seed=3)
    torch.manual_seed(2)
    np.testing.assert_array_equal(first.kl, train_gate(x, targets, MASK, short, 2.0, seed=3).kl)
    assert PLANTED[MASK].shape == first.kl.shape


def test_it_needs_a_grid():
    x, targets = brain(n_runs=4)
    with pytest.raises(InputError, match="voxels on a grid"):
        train_gate(x, targets, int(MASK.sum()), PER_VOLUME, 2.0, seed=0)
