"""Counter-current learning, dendritic learning and NoProp in float64; each check fails for named, deliberate bugs."""

import math

import pytest
import torch
from target_nets import TOLERANCE, assert_equal, batch_for, conv, dense, recurrent, residual, set_up
from torch import nn
from torch.nn.functional import one_hot
from updates import StraightThrough, exact_gradients, gradients

from decoders.errors import Unsupported
from decoders.learning.rules.counter_current import CounterCurrentLearning, match_loss
from decoders.learning.rules.dendritic import DendriticLocalizedLearning
from decoders.learning.rules.noprop import NoProp, Schedule, cosine_schedule
from decoders.learning.rules.targets import DifferenceTargetPropagation
from decoders.models.architectures import build_network

# ---- counter-current learning ---------------------------------------------------------------------------------------


class Attached(CounterCurrentLearning):
    """Mutation: layers read the output of the one before them without cutting it off."""

    def detached(self, signal):
        return signal


def check_ccl_1(kind, build):
    net = build()
    rule = set_up(kind, net)
    losses, _ = rule.local_losses(batch_for(net))
    above = dict(zip(net.layers, [*net.layers[1:], None], strict=True))
    parameters = {f"net.{name}": value for name, value in net.named_parameters()}
    parameters |= {f"feedback.{name}": value for name, value in rule.companions.named_parameters()}
    for layer, loss in losses.items():
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        own = (f"net.blocks.{layer}.", f"feedback.descent_{above[layer]}.")
        for name, value in zip(parameters, found, strict=True):
            reached = value is not None and bool(value.abs().max() > 0)
            assert reached == name.startswith(own), (layer, name)


@pytest.mark.parametrize("build", [dense, conv])
def test_ccl_1_losses_reach_their_own_layer_of_both_networks_only(build):
    check_ccl_1(CounterCurrentLearning, build)


def test_ccl_1_fails_without_the_cuts():
    with pytest.raises(AssertionError):
        check_ccl_1(Attached, dense)


def unnormalised(activity, signal, match):
    """Mutation: inner products in place of cosines."""
    return (activity.flatten(1) @ signal.flatten(1).T - match).square().mean()


def check_ccl_2(loss):
    basis = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0][:4]
    y = torch.tensor([0, 1, 2, 3, 3, 1])
    match = one_hot(y, 4).double()
    sizes = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, 1.0], dtype=torch.float64)
    activity = (sizes[:, None] * basis[y]).view(6, 3, 2, 2)
    assert float(loss(activity, 2 * basis.view(4, 3, 2, 2), match)) < 1e-30
    assert float(loss(activity.roll(1, 0), basis.view(4, 3, 2, 2), match)) > 0.1


def test_ccl_2_no_loss_where_the_gram_matrix_is_the_match_of_labels():
    check_ccl_2(match_loss)
    with pytest.raises(AssertionError):
        check_ccl_2(unnormalised)


class SeesPictures(CounterCurrentLearning):
    """Mutation: the feedback network reads something of the pictures."""

    def local_losses(self, batch):
        self.seen = batch.x.mean()
        return super().local_losses(batch)

    def signals(self):
        return {name: signal + self.seen for name, signal in super().signals().items()}


def check_ccl_3(kind):
    net = dense()
    rule = set_up(kind, net)
    found = []
    for seed in range(2):
        rule.local_losses(batch_for(net, seed=seed))
        found.append(rule.signals())
    assert_equal(found[1], found[0])
    assert all(len(signal) == net.n_classes for signal in found[0].values())


def test_ccl_3_the_feedback_network_sees_labels_only():
    check_ccl_3(CounterCurrentLearning)
    with pytest.raises(AssertionError):
        check_ccl_3(SeesPictures)


# ---- dendritic localized learning -----------------------------------------------------------------------------------


def mirrored(rule):
    for block in rule.net:
        rule.theta(block).data.copy_(block.affine.weight.detach())
    return rule


def check_dll_mirror(kind, build):
    net = build()
    batch = batch_for(net)
    expected = exact_gradients(net, batch)
    assert_equal(gradients(mirrored(set_up(kind, net)), batch), expected)


class Mirrorless(DendriticLocalizedLearning):
    """Mutation: Theta with the wrong sign."""

    def theta(self, block):
        return super().theta(block) if block.kind == "output" else -super().theta(block)


class WithoutGain(DendriticLocalizedLearning):
    """Mutation: f'(z) is left out of the local error."""

    def gradients(self, batch):
        for name in self.net.taps:
            self.net[name].activation = StraightThrough(self.net[name].activation)
        return super().gradients(batch)


@pytest.mark.parametrize("build", [dense, conv, residual, recurrent])
def test_dll_with_theta_equal_w_has_the_errors_of_backpropagation(build):
    check_dll_mirror(DendriticLocalizedLearning, build)


@pytest.mark.parametrize("kind", [Mirrorless, WithoutGain])
def test_dll_mirror_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_dll_mirror(kind, dense)


def check_theta_gradient(rule):
    """Theta of layer l+1 receives the gradient of ||e_l||^2 / 2 for e_l = Theta' d, with d fixed."""
    net = rule.net
    batch = batch_for(net)
    gradients(rule, batch)
    h = [net["fc1"].reduce(batch.x)]
    for name in net.taps:
        h.append(torch.tanh(net[name].affine(h[-1])).detach())
    delta = (net["output"].affine(h[-1]).softmax(1) - one_hot(batch.y, net.n_classes)).detach() / len(batch.y)
    for index in range(len(net.layers) - 1, 0, -1):
        theta = rule.theta(net[net.layers[index]])
        local = delta @ theta
        (expected,) = torch.autograd.grad(local.square().sum() / 2, theta)
        torch.testing.assert_close(theta.grad, expected, **TOLERANCE)
        delta = local.detach() * (1 - h[index] ** 2)


def test_dll_theta_learns_by_the_local_errors_on_its_two_sides():
    check_theta_gradient(set_up(DendriticLocalizedLearning, dense()))
    with pytest.raises(AssertionError):
        check_theta_gradient(set_up(DendriticLocalizedLearning, dense(), theta_update="climb"))


def test_dll_theta_of_a_convolution_descends_the_energy_of_the_local_error():
    net = conv()
    rule = set_up(DendriticLocalizedLearning, net)
    x = torch.randn((3, 4, 6, 6), dtype=torch.float64, requires_grad=True)
    block, delta = net["conv2"], torch.randn((3, 6, 6, 6), dtype=torch.float64)
    rule.affine(block, x).backward(delta)
    theta = rule.theta(block)
    local = nn.functional.conv_transpose2d(delta, theta, padding=1)
    torch.testing.assert_close(x.grad, local.detach(), **TOLERANCE)
    (expected,) = torch.autograd.grad(local.square().sum() / 2, theta)
    torch.testing.assert_close(theta.grad, expected, **TOLERANCE)


# ---- NoProp ---------------------------------------------------------------------------------------------------------


class SwappedShares(NoProp):
    """Mutation: signal and noise are exchanged."""

    def noisy(self, t, embedding):
        kept = self.schedule
        self.schedule = Schedule(tuple(1 - share for share in kept.signal))
        z = super().noisy(t, embedding)
        self.schedule = kept
        return z


def check_nop_1(kind):
    """z_t has mean sqrt(abar_t) u and variance 1 - abar_t, within four standard errors."""
    rule = set_up(kind, dense())
    embedding = one_hot(torch.zeros(20_000, dtype=torch.long), 4).double()
    for t, share in enumerate(rule.schedule.signal):
        z = rule.noisy(t, embedding)
        error = 4 * math.sqrt((1 - share) / len(z))
        assert float((z.mean(0) - math.sqrt(share) * embedding[0]).abs().max()) < error
        assert float((z.var(0) / (1 - share) - 1).abs().max()) < 4 * math.sqrt(2 / len(z))


def check_schedule(schedule):
    """More signal from block to block, and a sampler that keeps mean and variance of z_t for the true embedding."""
    signal = schedule.signal
    for t in range(1, len(signal)):
        assert schedule.weight(t) > 0
        a, b, c = schedule.step(t)
        assert math.isclose(a + b * math.sqrt(signal[t - 1]), math.sqrt(signal[t]), rel_tol=1e-12)
        assert math.isclose(b**2 * (1 - signal[t - 1]) + c, 1 - signal[t], rel_tol=1e-12)


def test_nop_1_noisy_embeddings_have_the_shares_of_the_schedule():
    check_nop_1(NoProp)
    with pytest.raises(AssertionError):
        check_nop_1(SwappedShares)


def test_nop_1_the_schedule_rises_and_the_sampler_keeps_its_moments():
    check_schedule(cosine_schedule(5))
    with pytest.raises(AssertionError):
        check_schedule(Schedule(cosine_schedule(5).signal[::-1]))

    class WrongStep(Schedule):
        def step(self, t):
            a, b, c = super().step(t)
            return b, a, c

    with pytest.raises(AssertionError):
        check_schedule(WrongStep(cosine_schedule(5).signal))


class Joined(NoProp):
    """Mutation: blocks are not cut off from each other."""

    def paths(self, x):
        found = {}
        logits = self.net.run(x, after=lambda block, h: found.setdefault(block.name, h)).logits
        return {**{name: self.read(h) for name, h in found.items()}, self.net.layers[-1]: logits}


def check_nop_2(kind, build):
    net = build()
    rule = set_up(kind, net)
    parameters = {**dict(net.named_parameters()), **dict(rule.companions.named_parameters())}
    for layer, loss in rule.losses(batch_for(net)).items():
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, value in zip(parameters, found, strict=True):
            reached = value is not None and bool(value.abs().max() > 0)
            assert reached == name.startswith((f"blocks.{layer}.", f"head_{layer}.")), (layer, name)


@pytest.mark.parametrize("build", [dense, conv, recurrent])
def test_nop_2_each_loss_reaches_its_own_block_and_head_only(build):
    check_nop_2(NoProp, build)


def test_nop_2_fails_when_the_blocks_are_joined():
    with pytest.raises(AssertionError):
        check_nop_2(Joined, dense)


def check_nop_3(schedule):
    """With perfect estimates, the sampler ends at the embedding of the label when the last noise share is zero."""
    net = dense()
    rule = set_up(NoProp, net)
    y = torch.tensor([2, 0, 3, 1, 1])
    embedding = one_hot(y, 4).double()
    rule.estimate = lambda layer, path, z: embedding.expand_as(z)
    rule.schedule = schedule
    z = rule.sample(dict.fromkeys(net.layers, embedding))
    torch.testing.assert_close(z, embedding, **TOLERANCE)


def test_nop_3_perfect_estimates_lead_to_the_embedding():
    signal = (*cosine_schedule(4).signal[:-1], 1.0)
    check_nop_3(Schedule(signal))
    with pytest.raises(AssertionError):
        check_nop_3(Schedule((*signal[:-1], 0.9)))  # noise is left at the end


class FreshNoise(NoProp):
    """Mutation: every prediction draws its own noise."""

    def sample(self, paths):
        self.extra["noise"].normal_(generator=self.generator)
        return super().sample(paths)


def check_nop_4(kind):
    net = dense()
    x = batch_for(net).x
    rule = set_up(kind, net)
    first, second = rule.native_logits(x), rule.native_logits(x)
    assert torch.equal(first, second)
    torch.testing.assert_close(torch.cat([rule.native_logits(x[i : i + 1]) for i in range(6)]), first, **TOLERANCE)
    assert not torch.equal(set_up(kind, dense(), seed=4).native_logits(x), first)
    features = rule.features(x)
    for name, tap in rule.net.run(x).taps.items():
        torch.testing.assert_close(features[name], tap.detach(), **TOLERANCE)


def test_nop_4_noise_of_predictions_is_fixed_and_features_have_none():
    check_nop_4(NoProp)
    with pytest.raises(AssertionError):
        check_nop_4(FreshNoise)


@pytest.mark.parametrize(
    "kind", [DifferenceTargetPropagation, CounterCurrentLearning, DendriticLocalizedLearning, NoProp]
)
def test_spiking_networks_are_refused_with_a_reason(kind):
    with pytest.raises(Unsupported, match=kind.info.name):
        kind().check_support(build_network("spikingmlp", 4, 0, 0.1))
