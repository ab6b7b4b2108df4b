"""The voxel gate against closed forms, scipy, autograd and Monte Carlo; named mutations must fail."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from decoders.decoding.gate import GatedReadout, VoxelGate, capacity_nats, kl_nats, parameter_groups, smoothing_matrix


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blob(shape=(7, 6, 5), share=0.6, seed=1):
    return np.random.default_rng(seed).random(shape) < share


def kl_numerically(logit, n=400_000):
    """Expectation of the KL over z-scored data, by a Gaussian x and the integral's closed form per x."""
    m, s = 1 / (1 + math.exp(-logit)), 1 / (1 + math.exp(logit))
    x = np.random.default_rng(0).standard_normal(n)
    x = (x - x.mean()) / x.std()
    return float(np.mean((s**2 + (m * x) ** 2 - 1) / 2) - math.log(s))


@pytest.mark.parametrize("logit", [-6.0, -1.0, 0.0, 0.7, 3.0])
def test_kl_is_the_expected_divergence(logit):
    assert kl_nats(torch.tensor(logit, dtype=torch.float64)).item() == pytest.approx(kl_numerically(logit), abs=1e-9)


@pytest.mark.parametrize(
    "mutation",
    [
        lambda v: torch.nn.functional.softplus(v) + torch.sigmoid(v) + torch.sigmoid(v) ** 2,  # sign of m
        lambda v: torch.nn.functional.softplus(-v) - torch.sigmoid(v) + torch.sigmoid(v) ** 2,  # log m for log(1 - m)
        lambda v: torch.nn.functional.softplus(v) - torch.sigmoid(v) + torch.sigmoid(v) ** 2 / 2,  # half of m^2
    ],
)
def test_mutated_kl_is_noticed(mutation):
    values = [mutation(torch.tensor(v, dtype=torch.float64)).item() for v in (-1.0, 0.7)]
    assert not np.allclose(values, [kl_numerically(-1.0), kl_numerically(0.7)], atol=1e-3)


def test_kl_at_the_start_and_its_extremes():
    gate = VoxelGate(blob())
    assert gate.kl().detach().numpy() == pytest.approx(0.4431, abs=1e-4)
    assert gate.information_bound().item() == pytest.approx(0.4431 * blob().sum(), rel=1e-3)
    extremes = kl_nats(torch.tensor([-200.0, 200.0]))
    assert torch.isfinite(extremes).all()
    assert extremes[0] == pytest.approx(0, abs=1e-12)
    assert extremes[1] == pytest.approx(200, abs=1e-4)


def test_kl_bounds_the_exact_capacity():
    logits = torch.linspace(-8, 8, 50, dtype=torch.float64)
    assert (kl_nats(logits) >= capacity_nats(logits) - 1e-12).all()
    assert capacity_nats(torch.zeros(1)).item() == pytest.approx(0.3466, abs=1e-4)


def test_gradients_of_kl_and_smoothing():
    gate = VoxelGate(blob((4, 3, 3)), 1.0).double()
    theta = torch.randn(len(gate.theta), dtype=torch.float64, generator=generator(), requires_grad=True)
    assert torch.autograd.gradcheck(kl_nats, (theta,))
    assert torch.autograd.gradcheck(lambda t: gate._smooth(t) / gate._weight, (theta,))


@pytest.mark.parametrize("shape", [(7, 6, 5), (12, 9, 1)])
@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.5])
def test_smoothing_is_scipys_normalised_by_the_mask(shape, sigma):
    mask = blob(shape)
    gate = VoxelGate(mask, sigma).double()
    theta = np.random.default_rng(2).standard_normal(mask.sum())
    gate.theta.data = torch.from_numpy(theta)
    volume = np.zeros(shape)
    volume[mask] = theta
    weight = gaussian_filter(mask.astype(float), sigma, mode="constant")
    smooth = gaussian_filter(volume, sigma, mode="constant") / weight
    assert gate.logits().detach().numpy() == pytest.approx(smooth[mask], abs=1e-12)
    # Mutation: without the normalisation the edge is pulled to zero.
    assert not np.allclose(gate._smooth(gate.theta).detach().numpy(), smooth[mask], atol=1e-3)


def test_smoothing_keeps_a_constant_map():
    gate = VoxelGate(blob(), 1.5)
    gate.theta.data.fill_(0.8)
    assert gate.logits().detach().numpy() == pytest.approx(0.8, abs=1e-6)
    assert smoothing_matrix(30, 1.0).sum(1)[10:20].numpy() == pytest.approx(1)


def test_logarithms_and_moments_of_the_sample():
    gate = VoxelGate(3, sigma_voxels=0)
    gate.theta.data = torch.tensor([-2.0, 0.0, 2.0])
    assert torch.exp(gate.log_m()).tolist() == pytest.approx(gate.m().tolist())
    assert torch.exp(gate.log_1m()).tolist() == pytest.approx((1 - gate.m()).tolist())
    x = torch.tensor([1.0, -2.0, 3.0]).expand(200_000, 3)
    z = gate.sample(x, generator())
    assert z.mean(0).tolist() == pytest.approx(gate.mean(x[0]).tolist(), abs=0.01)
    assert z.std(0).tolist() == pytest.approx((1 - gate.m()).tolist(), abs=0.01)
    assert torch.equal(gate.sample(x[:5], generator(3)), gate.sample(x[:5], generator(3)))


def test_a_gate_without_a_grid_refuses_smoothing():
    with pytest.raises(ValueError, match="without a grid"):
        VoxelGate(5, 1.0)


def reparametrised(covariance_of=GatedReadout.covariance, monkeypatch=None):
    gate = VoxelGate(60, 0)
    gate.theta.data = torch.randn(60, generator=generator(4))
    readout = GatedReadout(60, 3, generator(5))
    x = torch.randn(1, 60, generator=generator(6)).expand(200_000, 60)
    if monkeypatch is not None:
        monkeypatch.setattr(GatedReadout, "covariance", covariance_of)
    with torch.no_grad():
        fast = readout(x, gate, generator(7))
        parts = [gate.sample(part, generator(8 + i)) @ readout.weight for i, part in enumerate(x.split(50_000))]
    return fast, torch.cat(parts)


def test_local_reparametrisation_has_the_moments_of_voxel_noise():
    fast, slow = reparametrised()
    assert fast.mean(0).tolist() == pytest.approx(slow.mean(0).tolist(), abs=0.01)
    assert torch.cov(fast.T).numpy() == pytest.approx(torch.cov(slow.T).numpy(), abs=0.01)


def test_mutated_covariance_is_noticed(monkeypatch):
    def first_power(self, gate):
        return self.weight.T @ (torch.exp(gate.log_1m()).unsqueeze(1) * self.weight)

    fast, slow = reparametrised(first_power, monkeypatch)
    assert not np.allclose(torch.cov(fast.T).numpy(), torch.cov(slow.T).numpy(), atol=0.03)


def test_readout_without_noise_is_its_expectation_and_survives_open_gates():
    gate = VoxelGate(60, 0)
    readout = GatedReadout(60, 4, generator())
    x = torch.randn(5, 60, generator=generator(1))
    assert torch.equal(readout(x, gate), gate.mean(x) @ readout.weight)
    gate.theta.data.fill_(60.0)
    noisy = readout(x, gate, generator())
    assert torch.isfinite(noisy).all()
    assert noisy.detach().numpy() == pytest.approx(readout(x, gate).detach().numpy(), abs=1e-3)


def test_few_voxels_draw_noise_per_voxel_and_gradients_flow():
    gate = VoxelGate(3, 0)
    readout = GatedReadout(3, 8, generator())
    readout(torch.ones(4, 3), gate, generator()).square().sum().backward()
    assert torch.isfinite(gate.theta.grad).all()
    assert gate.theta.grad.abs().min() > 0


def test_gradient_through_the_cholesky_factor():
    readout = GatedReadout(6, 2, generator()).double()
    x = torch.randn(3, 6, dtype=torch.float64, generator=generator(1))

    def output(theta, weight):
        held = VoxelGate(6, 0).double()
        del held.theta  # a plain tensor in the parameter's place, so that gradcheck can vary it
        held.theta = theta
        return torch.func.functional_call(readout, {"weight": weight}, (x, held, generator(2)))

    # The jitter is detached on purpose (numerics, not model), so it is left out of the comparison.
    readout.jitter = 0.0
    theta = torch.randn(6, dtype=torch.float64, generator=generator(3), requires_grad=True)
    weight = readout.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(output, (theta, weight), atol=1e-6)


def test_parameter_groups_hold_every_parameter_once():
    gate, readout = VoxelGate(4, 0), GatedReadout(4, 2, generator())
    groups = parameter_groups([gate.theta], readout.parameters(), 0.05, 1e-3)
    assert [group["lr"] for group in groups] == [0.05, 1e-3]
    assert sum(len(group["params"]) for group in groups) == 2
