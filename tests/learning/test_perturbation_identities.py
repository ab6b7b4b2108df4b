"""Perturbation and broadcast rules against autograd and closed forms in float64; each check fails for named bugs."""

import pytest
import torch
from perturbation_nets import (
    EXACT,
    assert_unbiased,
    batch_for,
    check_wp_unbiased,
    conv,
    dense,
    flat,
    recurrent,
    repeated,
    residual,
    seeded,
    set_up,
    vectorised,
)
from torch.nn.functional import cross_entropy
from updates import exact_gradients, gradients

from decoders.learning.passes import CleanPass, fixed_norms, loss_at, normal_like, per_sample, sample_losses
from decoders.learning.rules import perturbation
from decoders.learning.rules.evolution import EvolutionStrategies, GeneticAlgorithm
from decoders.learning.rules.forward_gradient import ForwardGradient, LocalForwardGradient
from decoders.learning.rules.pepita import Pepita
from decoders.learning.rules.perturbation import ActivityPerturbation, NodePerturbation, WeightPerturbation
from decoders.models.architectures import dense_network, to_pixels
from decoders.models.networks import set_mode
from decoders.models.trainer import Batch

# ---- weight perturbation --------------------------------------------------------------------------------------------


class WholeSigma(WeightPerturbation):
    """Mutation: the central difference is divided by sigma, not by 2 sigma."""

    def slope(self, noise, batch, loss, central):
        return super().slope(noise, batch, loss, central) * (2 if central else 1)


class OneSided(WeightPerturbation):
    """Mutation: only one side is measured where two are asked for."""

    def slope(self, noise, batch, loss, central):
        return super().slope(noise, batch, perturbation.loss_at(self.net, self.weights(), batch), False)


def check_wp_1(kind, quadratic, sigma):
    net, _, gradient = quadratic
    rule, batch = set_up(kind, net, sigma=sigma), batch_for(net)
    noise = {name: normal_like(weight, rule.generator) for name, weight in rule.weights().items()}
    found = rule.slope(noise, batch, torch.zeros(()), True)
    assert abs(found - float(flat(noise) @ gradient)) < 1e-9 * sigma**-1


@pytest.mark.parametrize("sigma", [1e-2, 1.0, 10.0])
def test_wp_1_central_difference_of_a_quadratic_is_the_directional_derivative(quadratic, sigma):
    check_wp_1(WeightPerturbation, quadratic, sigma)


@pytest.mark.parametrize("kind", [WholeSigma, OneSided])
def test_wp_1_fails_for_the_mutations(quadratic, kind):
    with pytest.raises(AssertionError):
        check_wp_1(kind, quadratic, 1.0)


@pytest.mark.parametrize("central", [True, False])
def test_wp_1_is_unbiased_at_any_sigma(quadratic, central):
    check_wp_unbiased(WeightPerturbation, quadratic, sigma=1.0, central=central, draws=1)


def test_wp_1_unbiasedness_fails_with_the_wrong_divisor(quadratic):
    with pytest.raises(AssertionError):
        check_wp_unbiased(WholeSigma, quadratic, sigma=1.0, draws=1)


@pytest.mark.parametrize("build", [dense, conv, recurrent, vectorised])
def test_wp_slope_is_the_derivative_of_the_network(build):
    net = build()
    batch = batch_for(net)
    expected = flat(exact_gradients(net, batch))
    rule = set_up(WeightPerturbation, net, sigma=1e-5)
    noise = {name: normal_like(weight, rule.generator) for name, weight in rule.weights().items()}
    with torch.no_grad():
        found = rule.slope(noise, batch, torch.zeros(()), True)
    assert found == pytest.approx(float(flat(noise) @ expected), rel=1e-6)


# ---- forward gradients ----------------------------------------------------------------------------------------------


class UniformDirections(ForwardGradient):
    """Mutation: directions of another variance, so that the estimate is a third of the gradient."""

    def slope(self, weights, direction, batch):
        for v in direction.values():
            v.copy_(torch.erf(v / 2**0.5))
        return super().slope(weights, direction, batch)


class WrongDirection(ForwardGradient):
    """Mutation: the tangent belongs to other noise than the one it multiplies."""

    def slope(self, weights, direction, batch):
        other = {name: normal_like(weight, self.generator) for name, weight in weights.items()}
        return super().slope(weights, other, batch)


@pytest.mark.parametrize("build", [dense, conv, residual, recurrent, vectorised])
def test_fg_1_tangent_equals_gradient_and_finite_difference(build):
    net = build()
    batch = batch_for(net)
    expected = flat(exact_gradients(net, batch))
    rule = set_up(ForwardGradient, net)
    weights = rule.weights()
    v = {name: normal_like(weight, rule.generator) for name, weight in weights.items()}
    slope = float(rule.slope(weights, v, batch))
    assert slope == pytest.approx(float(flat(v) @ expected), rel=1e-9)
    above, below = (
        loss_at(net, {name: w + side * 1e-6 * v[name] for name, w in weights.items()}, batch).detach()
        for side in (1, -1)
    )
    assert slope == pytest.approx(float(above - below) / 2e-6, rel=1e-5)


def fg_samples(kind, n_samples=1000):
    net = seeded(lambda: dense_network((3,), n_classes=3, activation="tanh", edge=1))
    batch = batch_for(net)
    expected = flat(exact_gradients(net, batch))
    rule = set_up(kind, net, draws=1)
    return torch.stack([flat(gradients(rule, batch)) for _ in range(n_samples)]), expected


def check_fg_moments(kind):
    samples, expected = fg_samples(kind)
    assert_unbiased(samples, expected)
    ratio = samples.square().sum(1) / ((len(expected) + 2) * expected.square().sum())
    assert_unbiased(ratio, torch.ones((), dtype=torch.float64))


def test_fg_1_moments_are_those_of_normal_directions():
    check_fg_moments(ForwardGradient)


@pytest.mark.parametrize("kind", [UniformDirections, WrongDirection])
def test_fg_1_moments_fail_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_fg_moments(kind)


# ---- local forward gradients ----------------------------------------------------------------------------------------


class LeakingLocal(LocalForwardGradient):
    """Mutation: taps are not cut off, so that upper local losses reach lower blocks."""

    def gradients(self, batch):
        held = []

        def after(block, tap):
            head = self.companions[block.name]
            read = head.cut(tap)
            held.append(cross_entropy(head(read).flatten(0, 2), batch.y.repeat_interleave(read[0, ..., 0].numel())))
            return tap

        logits = self.net.run(batch.x, after=after).logits
        (sum(held) + cross_entropy(logits, batch.y)).backward()


class HalfTangent(LocalForwardGradient):
    """Mutation: the draws are summed in place of averaged."""

    def estimate(self, head, read, error):
        return super().estimate(head, read, error) * int(self.option["draws"])


def local_gradients(rule, batch):
    """Return the exact gradients of the rule's local losses."""
    losses, net = [], rule.net

    def after(block, tap):
        head = rule.companions[block.name]
        read = head.cut(tap)
        losses.append(cross_entropy(head(read).flatten(0, 2), batch.y.repeat_interleave(read[0, ..., 0].numel())))
        return tap.detach()

    losses.append(cross_entropy(net.run(batch.x, after=after).logits, batch.y))
    parameters = dict([*net.named_parameters(), *rule.companions.named_parameters()])
    return dict(zip(parameters, torch.autograd.grad(sum(losses), parameters.values()), strict=True))


def check_local_unbiased(kind, build, times=100, samples=60):
    net = build()
    rule, batch = set_up(kind, net, groups=3, draws=2), batch_for(net)
    expected = local_gradients(rule, batch)
    many = repeated(batch, times)
    found = [gradients(rule, many) for _ in range(samples)]
    for name, value in found[0].items():
        stacked = torch.stack([one[name] for one in found])
        if name.startswith("blocks.output"):
            torch.testing.assert_close(value, expected[name], **EXACT)
        else:
            assert_unbiased(stacked, expected[name])
    for name, parameter in rule.companions.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], **EXACT)


@pytest.mark.parametrize("build", [dense, conv, residual])
def test_local_forward_gradient_estimates_the_gradient_of_its_local_losses(build):
    check_local_unbiased(LocalForwardGradient, build)


@pytest.mark.parametrize("kind", [HalfTangent, LeakingLocal])
def test_local_forward_gradient_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_local_unbiased(kind, dense)


def test_local_tangent_is_the_derivative_of_the_local_loss():
    net = conv()
    rule, batch = set_up(LocalForwardGradient, net), batch_for(net)
    head = rule.companions["conv1"]
    read = head.cut(net.run(batch.x).taps["conv1"].detach())
    v = torch.randn_like(read)

    def losses(at):
        logits = head(at)
        y = batch.y[:, None, None].expand(logits.shape[:-1])
        return cross_entropy(logits.movedim(-1, 1), y, reduction="none")

    _, expected = torch.func.jvp(losses, (read,), (v,))
    error = head(read).softmax(-1) - torch.nn.functional.one_hot(batch.y, 3)[:, None, None]
    torch.testing.assert_close((error * head.tangent(v)).sum(-1), expected, **EXACT)


# ---- node perturbation ----------------------------------------------------------------------------------------------


class BatchMean(NodePerturbation):
    """Mutation: one loss for the whole batch in place of one per sample."""

    def slopes(self, clean, noise, losses, y):
        slopes, changes = super().slopes(clean, noise, losses, y)
        return slopes.sum().expand_as(slopes), changes


class OtherSample(NodePerturbation):
    """Mutation: each sample gets its neighbour's change of loss."""

    def slopes(self, clean, noise, losses, y):
        slopes, changes = super().slopes(clean, noise, losses, y)
        return slopes.roll(1), changes


class NoGain(NodePerturbation):
    """Mutation: the noise at the pre-activation is what batch norm makes of it."""

    def slopes(self, clean, noise, losses, y):
        clean.to_response = lambda block, change: change
        return super().slopes(clean, noise, losses, y)


class TwiceSigma(NodePerturbation):
    """Mutation: divided by sigma^2 where the noise is already in units of sigma."""

    def slopes(self, clean, noise, losses, y):
        slopes, changes = super().slopes(clean, noise, losses, y)
        return slopes * 2, changes


def fixed_norm_gradients(net, batch):
    """Return what node perturbation estimates: backpropagation with the batch norms of upper blocks fixed.

    Per block, the gradient by the pre-activation with fixed statistics, then the exact derivative of the
    block's own batch norm and affine map.
    """
    clean = CleanPass(net, batch.x)
    signals = {}
    for layer in net.layers:
        zeros = [torch.zeros_like(z, requires_grad=True) for z in clean.responses[layer]]
        signals[layer] = autograd_through(clean, layer, zeros, batch.y)
    clean.write_gradients(signals)
    return {name: weight.grad.clone() for name, weight in net.named_parameters()}


def autograd_through(clean, layer, zeros, y):
    """Differentiate the mean loss by noise at one layer's pre-activations."""
    statistics, net, count = clean.statistics, clean.net, dict.fromkeys(clean.net.layers, 0)

    def affine(block, inputs):
        index = count[block.name]
        count[block.name] += 1
        z = block.affine(inputs)
        return z + clean.to_response(block, zeros[index]) if block.name == layer else z

    with fixed_norms(net, statistics):
        loss = sample_losses(net.run(clean.x, affine=affine).logits, y).mean()
    return torch.autograd.grad(loss, zeros)


def check_np_1(kind, build, times=100, samples=60, **options):
    net = build()
    rule, batch = set_up(kind, net, sigma=1e-4, draws=1, **options), batch_for(net)
    expected = fixed_norm_gradients(net, batch)
    many = repeated(batch, times)
    found = [gradients(rule, many) for _ in range(samples)]
    for name, value in expected.items():
        assert_unbiased(torch.stack([one[name] for one in found]), value)


@pytest.mark.parametrize("mode", ["layerwise", "joint"])
@pytest.mark.parametrize("build", [dense, conv, residual, recurrent, vectorised])
def test_np_1_the_mean_estimate_is_the_gradient(build, mode):
    check_np_1(NodePerturbation, build, mode=mode)


def test_np_1_holds_for_central_differences():
    check_np_1(NodePerturbation, dense, central=True)


@pytest.mark.parametrize("build", [dense, recurrent, vectorised])
def test_np_1_the_expected_gradient_is_that_of_backpropagation_without_batch_norm(build):
    net = build()
    batch = batch_for(net)
    expected = exact_gradients(net, batch)
    for name, value in fixed_norm_gradients(net, batch).items():
        torch.testing.assert_close(value, expected[name], **EXACT)


@pytest.mark.parametrize(("kind", "build"), [(OtherSample, dense), (TwiceSigma, dense), (NoGain, conv)])
def test_np_1_fails_for_the_mutations(kind, build):
    with pytest.raises(AssertionError):
        check_np_1(kind, build)


def check_np_2(kind, n=32):
    """The variance must be that of per-sample losses: an estimate from the batch's loss is about n times worse."""
    net = dense()
    batch = batch_for(net, n)
    name = "blocks.fc1.affine.weight"

    def variance(rule):
        return torch.stack([gradients(rule, batch)[name] for _ in range(200)]).var(0).sum()

    reference = set_up(BatchMean, net, sigma=1e-4, draws=1)
    ratio = float(variance(reference) / variance(set_up(kind, net, sigma=1e-4, draws=1)))
    assert ratio > n / 4


def test_np_2_each_sample_has_its_own_loss():
    check_np_2(NodePerturbation)


def test_np_2_fails_with_the_loss_of_the_batch():
    with pytest.raises(AssertionError):
        check_np_2(BatchMean)


class AddAndSubtract(WeightPerturbation):
    """Mutation: the noise is added to the weights and subtracted again, which leaves rounding errors."""

    def slope(self, noise, batch, loss, central):
        weights = dict(self.net.named_parameters())
        for name, v in noise.items():
            weights[name].add_(v)
        above = sample_losses(self.net(batch.x), batch.y).mean()
        for name, v in noise.items():
            weights[name].sub_(v)
        return float(above - loss)


def check_np_3(kind, build, **options):
    """Weights are the same bits after the passes, and running statistics moved as in one ordinary pass."""
    net, other = build().float(), build().float()
    batch = batch_for(net)
    batch = Batch(batch.x.float(), batch.y)
    rule = set_up(kind, net, **options)
    rule.gradients(batch)
    set_mode(other, training=True)
    other(batch.x)
    for name, value in other.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    assert all(norm.training for norm in net.norms())


EVERY = [
    WeightPerturbation,
    NodePerturbation,
    ActivityPerturbation,
    ForwardGradient,
    LocalForwardGradient,
    EvolutionStrategies,
    GeneticAlgorithm,
    Pepita,
]


DEFINED = [  # PEPITA is not defined on residual networks
    (kind, build) for kind in EVERY for build in (dense, conv, residual) if (kind, build) != (Pepita, residual)
]


@pytest.mark.parametrize(("kind", "build"), DEFINED)
def test_np_3_passes_leave_no_trace(kind, build):
    check_np_3(kind, build)


@pytest.mark.parametrize("build", [dense, conv])
def test_np_3_fails_for_noise_that_is_subtracted_again(build):
    with pytest.raises(AssertionError):
        check_np_3(AddAndSubtract, build)


# ---- activity-based node perturbation -------------------------------------------------------------------------------


class NoiseForActivity(ActivityPerturbation):
    """Mutation: the noise is used where the measured change of activity belongs."""

    def slopes(self, clean, noise, losses, y):
        slopes, _ = super().slopes(clean, noise, losses, y)
        sigma = float(self.option["sigma"])
        return slopes, {layer: [sigma * xi for xi in found] for layer, found in noise.items()}


def check_anp(kind):
    """The direction is the measured change: its product with the estimate is N dL in each sample."""
    net = dense()
    rule, batch = set_up(kind, net, sigma=1e-2), batch_for(net)
    clean = CleanPass(net, batch.x)
    losses = sample_losses(clean.logits, batch.y)
    state = rule.generator.get_state()
    signals = rule.signals(clean, net.layers, losses, batch.y)
    rule.generator.set_state(state)
    noise = {layer: [normal_like(z, rule.generator) for z in clean.responses[layer]] for layer in net.layers}
    # The noisy pass by hand: tanh layers.
    x, change = to_pixels(2)(batch.x), {}
    for block in net:
        z = block.affine(x) + 1e-2 * noise[block.name][0]
        change[block.name] = z - clean.responses[block.name][0]
        x = torch.tanh(z)
    difference = sample_losses(z, batch.y) - losses
    n_units = sum(value.shape[1] for value in change.values())
    squared = sum(value.square().sum(1) for value in change.values())
    for layer, value in change.items():
        expected = n_units * per_sample(difference / squared, value) * value
        torch.testing.assert_close(signals[layer][0], expected, rtol=1e-7, atol=1e-12)


def test_anp_uses_the_measured_change():
    check_anp(ActivityPerturbation)


def test_anp_fails_with_the_noise_itself():
    with pytest.raises(AssertionError):
        check_anp(NoiseForActivity)


@pytest.mark.parametrize("build", [dense, conv])
def test_anp_of_one_layer_is_node_perturbation_over_the_length_of_its_noise(build):
    net = build()
    batch = batch_for(net)
    clean, layer = CleanPass(net, batch.x), net.layers[0]
    losses = sample_losses(clean.logits, batch.y)
    found, expected = (
        set_up(kind, net).signals(clean, [layer], losses, batch.y)[layer][0]
        for kind in (ActivityPerturbation, NodePerturbation)
    )
    xi = normal_like(found, set_up(NodePerturbation, net).generator)
    length = xi.flatten(1).square().mean(1)
    torch.testing.assert_close(found * per_sample(length, found), expected, rtol=1e-7, atol=1e-10)
