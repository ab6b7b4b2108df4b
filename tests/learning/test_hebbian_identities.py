"""Identities of the Hebbian rules in float64; each check fails for a named, deliberate bug."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, unfold

from decoders.learning.local_updates import correlate, patch_energy, response, rows
from decoders.learning.rule import RuleSpec
from decoders.learning.rules.hebbian import BCM, Oja, Sanger, WinnerTakeAll
from decoders.learning.rules.soft_hebb import SoftHebb
from decoders.learning.rules.three_factor import ThreeFactorHebb, modulated
from decoders.models.architectures import conv_network, dense_network
from decoders.models.networks import Block
from decoders.models.trainer import Batch

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def block(n_in=6, units=3, seed=0):
    torch.manual_seed(seed)
    return Block("fc1", "fc", nn.Linear(n_in, units)).double().requires_grad_(False)


def set_up(kind, net=None, **options):
    torch.manual_seed(1)
    net = net or dense_network((3,), n_classes=3, edge=2, activation="tanh").double()
    rule = kind(**options)
    rule.setup(net, RuleSpec((3, 2, 2)), seed=3)
    net.requires_grad_(False)
    return rule


def data(n=400, n_in=6):
    """Zero-mean inputs whose covariance is diagonal with clear gaps."""
    torch.manual_seed(5)
    x = torch.linalg.qr(torch.randn(n, n_in, dtype=torch.float64)).Q
    x = torch.linalg.qr(x - x.mean(0)).Q * n**0.5
    return x * torch.tensor([3.0, 2.2, 1.6, 1.0, 0.5, 0.2], dtype=torch.float64)[:n_in]


def follow(rule, target, x, steps=4000, rate=0.02):
    for _ in range(steps):
        target.affine.weight += rate * rule.local_update(target, x)[0]
    return target.affine.weight


class NoDecay(Oja):
    """Mutation: plain Hebb."""

    def forgetting(self, y, weight):
        return torch.zeros_like(weight)


class FullInPlaceOfTril(Sanger):
    """Mutation: the subspace rule."""

    def forgetting(self, y, weight):
        return rows(y).T @ (rows(y) @ weight) / len(rows(y))


def check_oja_1(kind):
    target, x = block(), data(1)[:1]
    change, _ = set_up(kind, competition="none").local_update(target, x)
    y, w = response(target, x)[0], target.affine.weight
    torch.testing.assert_close((w * change).sum(1), y**2 * (1 - w.square().sum(1)), **CLOSE)


def test_oja_1_growth_of_the_norm():
    check_oja_1(Oja)
    with pytest.raises(AssertionError):
        check_oja_1(NoDecay)


def check_oja_2(kind):
    w = follow(set_up(kind, competition="none"), block(units=1), data(), steps=400)
    torch.testing.assert_close(w.abs(), torch.eye(6, dtype=torch.float64)[:1], rtol=0, atol=1e-6)


def test_oja_2_finds_the_first_component_with_norm_1():
    check_oja_2(Oja)
    with pytest.raises(AssertionError):
        check_oja_2(NoDecay)


def check_gha_1(kind):
    w = follow(set_up(kind), block(), data())
    torch.testing.assert_close(w.abs(), torch.eye(6, dtype=torch.float64)[:3], rtol=0, atol=1e-6)


def test_gha_1_components_in_order_and_the_subspace_rule_only_their_span():
    check_gha_1(Sanger)
    with pytest.raises(AssertionError):
        check_gha_1(FullInPlaceOfTril)
    w = follow(set_up(Oja), block(), data())
    torch.testing.assert_close(w @ w.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close((w.T @ w).diagonal(), torch.tensor([1.0] * 3 + [0.0] * 3).double(), rtol=0, atol=1e-6)


class Furthest(WinnerTakeAll):
    """Mutation: the update of the winner has the wrong sign."""

    def local_update(self, block, x):
        change, loss = super().local_update(block, x)
        return -change, loss


def check_wta_1(kind):
    target, x = block(), torch.nn.functional.normalize(data(20), dim=1)
    found, _ = set_up(kind, average="batch", conscience=0.0).local_update(target, x)
    w = target.affine.weight.clone().requires_grad_()
    (torch.cdist(x, w).square().min(1).values.mean() / 2).backward()
    torch.testing.assert_close(found, -w.grad, **CLOSE)


def test_wta_1_is_the_gradient_of_the_quantisation_error_and_a_step_of_k_means():
    check_wta_1(WinnerTakeAll)
    with pytest.raises(AssertionError):
        check_wta_1(Furthest)
    target, x = block(), torch.nn.functional.normalize(data(60), dim=1)
    winner = torch.cdist(x, target.affine.weight).argmin(1)
    moved = target.affine.weight + set_up(WinnerTakeAll, conscience=0.0).local_update(target, x)[0]
    for unit in winner.unique():
        torch.testing.assert_close(moved[unit], x[winner == unit].mean(0), **CLOSE)


class FixedThreshold(BCM):
    """Mutation: the threshold does not slide."""

    def local_update(self, block, x):
        self.option["threshold_rate"] = 0.0
        self.extra["seen.fc1"].fill_(2)
        self.extra["theta.fc1"].fill_(0.5)
        return super().local_update(block, x)


def check_bcm(kind):
    net = dense_network((1,), n_classes=3, edge=2).double()
    rule = set_up(kind, net, inhibition=0.0, threshold_rate=1.0)
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    target = block(2, 1)
    target.affine.weight.copy_(torch.tensor([[0.4, 0.1]]))
    follow(rule, target, x, 5000, 0.05)
    y = response(target, x)
    # Selective fixed point of two equally frequent patterns: 1/p = 2 for one, 0 for the other.
    torch.testing.assert_close(y.flatten().sort().values, torch.tensor([0.0, 2.0]).double(), rtol=0, atol=1e-6)


def test_bcm_becomes_selective_to_one_of_two_patterns():
    check_bcm(BCM)
    with pytest.raises(AssertionError):
        check_bcm(FixedThreshold)


class WrongDecay(SoftHebb):
    """Mutation: the decay forgets u."""

    def hebbian(self, block, x, u, signed):
        return correlate(block, signed, x) - rows(signed).mean(0)[:, None] * block.affine.weight


def check_sh_1(kind, anti):
    rule = set_up(kind, anti_hebbian=anti)
    target, x = rule.net["fc1"], torch.randn(1, 12, dtype=torch.float64)
    u = rule.respond(target, x)
    signed, _ = rule.competition(target, u)
    v = target.affine.weight * rule.extra["gain.fc1"]
    found = (v * rule.hebbian(target, x, u, signed)).sum(1)
    torch.testing.assert_close(found, (signed * u)[0] * (1 - v.square().sum(1)), **CLOSE)


@pytest.mark.parametrize("anti", [0.0, 1.0])
def test_sh_1_growth_of_the_norm_and_largest_entry(anti):
    check_sh_1(SoftHebb, anti)
    with pytest.raises(AssertionError):
        check_sh_1(WrongDecay, anti)
    rule = set_up(SoftHebb, norm_power=0.0)
    change, _ = rule.local_update(rule.net["fc1"], torch.randn(9, 12, dtype=torch.float64))
    assert float((change * rule.extra["gain.fc1"]).abs().max()) == pytest.approx(1)


class Lukewarm(SoftHebb):
    """Mutation: the competition does not know its temperature."""

    def competition(self, block, u):
        y = torch.softmax(u, 1)
        winner = u.argmax(1, keepdim=True)
        return (-y).scatter(1, winner, y.gather(1, winner)), y.gather(1, winner)


def check_sh_2(kind):
    u = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    rule = set_up(kind, t_invert="1e6")
    signed, _ = rule.competition(rule.net["fc1"], u)
    torch.testing.assert_close(signed, nn.functional.one_hot(u.argmax(1), 3).double())
    warm = set_up(kind)
    signed, won = warm.competition(warm.net["fc1"], u)
    torch.testing.assert_close(signed.abs().sum(1), torch.ones(7, dtype=torch.float64))
    assert bool((won > 0).all())


def test_sh_2_cold_competition_is_hard():
    check_sh_2(SoftHebb)
    with pytest.raises(AssertionError):
        check_sh_2(Lukewarm)


def true_convolution(target, post, pre):
    """Mutation: the kernel is flipped, as in a convolution in the sense of mathematics."""
    return correlate(target, post, pre).flip(-1, -2)


def check_sh_3(kind, stride, padding):
    torch.manual_seed(2)
    conv = Block("c", "conv", nn.Conv2d(2, 4, 3, stride, padding, bias=False)).double().requires_grad_(False)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    patches = unfold(x, 3, padding=padding, stride=stride).transpose(1, 2).flatten(0, 1)
    post = torch.randn_like(response(conv, x))
    torch.testing.assert_close(rows(response(conv, x)), patches @ conv.affine.weight.flatten(1).T, **CLOSE)
    torch.testing.assert_close(kind(conv, post, x).flatten(1), rows(post).T @ patches / len(patches), **CLOSE)
    torch.testing.assert_close(rows(patch_energy(conv, x))[:, 0], patches.square().sum(1), **CLOSE)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_sh_3_convolution_is_the_dense_rule_on_patches(stride, padding):
    check_sh_3(correlate, stride, padding)
    with pytest.raises(AssertionError):
        check_sh_3(true_convolution, stride, padding)


class LearnsWhileRead(SoftHebb):
    """Mutation: whoever asks for features trains the network."""

    def features(self, x, taps=None):
        found = super().features(x, taps)
        with torch.no_grad():
            self.net["fc1"].affine.weight.mul_(0.99)
        return found


def check_sh_4(kind):
    rule = set_up(kind)
    before = {name: value.clone() for name, value in rule.state_dict().items()}
    rule.features(torch.randn(4, 3, 2, 2, dtype=torch.float64))
    assert all(torch.equal(value, rule.state_dict()[name]) for name, value in before.items())


def test_sh_4_features_change_nothing():
    check_sh_4(SoftHebb)
    with pytest.raises(AssertionError):
        check_sh_4(LearnsWhileRead)


def test_3f_1_modulator_1_is_hebb_and_a_delta_per_unit_is_backpropagation():
    torch.manual_seed(4)
    net = conv_network((4,), hidden=5, n_classes=3, norm=False, positions=2).double()
    x, y, seen, z = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6) % 3, {}, {}

    def keep(block, inputs):
        seen[block.name], z[block.name] = inputs.detach(), block.affine(inputs)
        z[block.name].retain_grad()
        return z[block.name]

    cross_entropy(net.run(x, affine=keep).logits, y, reduction="sum").backward()
    for part in net:
        delta = z[part.name].grad
        found = modulated(part, delta, torch.ones_like(delta), seen[part.name])
        torch.testing.assert_close(found, part.affine.weight.grad / 6, **CLOSE)
    post = z["fc1"].detach()
    hebb = modulated(net["fc1"], torch.ones(6, dtype=torch.float64), post, seen["fc1"])
    torch.testing.assert_close(hebb, post.T @ seen["fc1"] / 6, **CLOSE)


class NoBaseline(ThreeFactorHebb):
    """Mutation: the reward itself modulates."""

    def modulator(self, reward):
        return reward


def check_3f_1(kind):
    rule = set_up(kind, presentations=1)
    noise = []
    explore = rule.explore
    rule.explore = lambda block, z: noise.append(explore(block, z)) or noise[-1]
    batch = Batch(torch.randn(5, 3, 2, 2, dtype=torch.float64), torch.arange(5) % 3)
    rule.gradients(batch)
    hidden = rule.net["fc1"]
    x = hidden.reduce(batch.x)
    h = torch.tanh(hidden.affine(x) + noise[0])
    losses = cross_entropy(rule.net["output"].affine(h) + noise[1], batch.y, reduction="none")
    variance = (rule.extra["sd.fc1"] * rule.option["sigma"]) ** 2
    estimate = ((losses - losses.mean())[:, None] * noise[0] / variance).T @ x / 5
    torch.testing.assert_close(hidden.affine.weight.grad, estimate, **CLOSE)


def test_3f_1_loss_minus_its_mean_is_the_estimator_of_node_perturbation():
    check_3f_1(ThreeFactorHebb)
    with pytest.raises(AssertionError):
        check_3f_1(NoBaseline)


class SharedBaseline(ThreeFactorHebb):
    """Mutation: the reward expected of a stimulus is that of all stimuli."""

    def modulator(self, reward):
        return reward - reward.mean()


def check_3f_2(kind):
    rule = set_up(kind, presentations=3)
    reward = torch.tensor([1.0, 2.0, 6.0, 10.0, 10.0, 13.0], dtype=torch.float64)
    expected = [1 - 4.0, 2 - 3.5, 6 - 1.5, 10 - 11.5, 10 - 11.5, 13 - 10.0]
    assert rule.modulator(reward).tolist() == pytest.approx(expected)


def test_3f_2_the_reward_expected_is_that_of_the_other_presentations():
    check_3f_2(ThreeFactorHebb)
    with pytest.raises(AssertionError):
        check_3f_2(SharedBaseline)
