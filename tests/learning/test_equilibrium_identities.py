"""Equilibrium propagation and contrastive Hebbian learning in float64; each check fails for named, deliberate bugs."""

from itertools import pairwise

import pytest
import torch
from energy_nets import (
    EXACT,
    assert_same,
    batch_for,
    conv,
    dense,
    joined,
    registered,
    relative_error,
    set_up,
    unrolled_gradient,
)
from torch import nn
from torch.nn.functional import one_hot
from updates import derivatives
from updates import written_gradients as gradients

from decoders.errors import Unsupported
from decoders.learning.hopfield import Relaxation, drive
from decoders.learning.registry import create
from decoders.learning.rules.equilibrium import (
    CentredEquilibriumPropagation,
    ContrastiveHebbian,
    EquilibriumPropagation,
)
from decoders.learning.rules.predictive_coding import squares
from decoders.models.trainer import Stage

# ---- equilibrium propagation: EP-1 to EP-5 --------------------------------------------------------------------------

PHASES = {"free_sweeps": 300, "nudged_sweeps": 300}
HOPFIELD = [EquilibriumPropagation, CentredEquilibriumPropagation, ContrastiveHebbian]


def ep_errors(kind, net, batch, sign=1.0, **options):
    expected = joined(unrolled_gradient(net, batch))
    return [
        relative_error(sign * joined(gradients(set_up(kind, net, beta=beta, **PHASES, **options), batch)), expected)
        for beta in (0.02, 0.01, 0.005)
    ]


def check_ep_1(kind, order, sign=1.0, **options):
    """The error of the estimate falls with beta to the power `order`."""
    net = dense(depth=2, width=6, n_classes=3)
    errors = ep_errors(kind, net, batch_for(net), sign, **options)
    for a, b in pairwise(errors):
        assert float(torch.log2(torch.tensor(a / b))) == pytest.approx(order, abs=0.1), errors
    assert errors[-1] < 0.02


def test_ep_1_one_sided_error_halves_with_beta():
    check_ep_1(EquilibriumPropagation, 1, random_sign=False)


def test_ep_1_centred_error_quarters_with_beta():
    check_ep_1(CentredEquilibriumPropagation, 2)


def test_ep_1_fails_for_one_sided_where_two_are_claimed():
    with pytest.raises(AssertionError):
        check_ep_1(EquilibriumPropagation, 2, random_sign=False)


def test_ep_1_and_ep_3_fail_with_the_phases_exchanged():
    with pytest.raises(AssertionError):
        check_ep_1(CentredEquilibriumPropagation, 2, sign=-1.0)
    with pytest.raises(AssertionError):
        check_ep_3(-1.0)


def test_random_signs_of_beta_cancel_the_bias_on_average():
    net = dense(depth=2, width=6, n_classes=3)
    batch = batch_for(net)
    phases = {"beta": 0.02, "free_sweeps": 100, "nudged_sweeps": 60}
    rule = set_up(EquilibriumPropagation, net, **phases)
    found = [joined(gradients(rule, batch)) for _ in range(8)]
    both = list({round(float(value.sum()), 12): value for value in found}.values())
    assert len(both) == 2
    centred = joined(gradients(set_up(CentredEquilibriumPropagation, net, **phases), batch))
    torch.testing.assert_close(0.5 * (both[0] + both[1]), centred, rtol=1e-7, atol=1e-10)


def check_ep_2(free_sweeps):
    """With beta 0 the second phase moves nothing."""
    net = dense(depth=2)
    batch = batch_for(net)
    rule = set_up(CentredEquilibriumPropagation, net, free_sweeps=free_sweeps, nudged_sweeps=20)
    relaxation, free = rule.free(batch.x)
    (after,) = rule.nudged(relaxation, free, rule.target(batch), [0.0])
    assert max(float((after[name] - free[name]).abs().max()) for name in free) < 1e-10


def test_ep_2_no_nudge_moves_nothing():
    check_ep_2(free_sweeps=200)


def test_ep_2_fails_from_an_unrelaxed_free_phase():
    with pytest.raises(AssertionError):
        check_ep_2(free_sweeps=2)


def check_ep_3(sign):
    net = dense(depth=2)
    batch = batch_for(net)
    expected = joined(unrolled_gradient(net, batch))
    for options, least in (({}, 0.5), ({"beta": 0.05, **PHASES}, 0.9)):
        found = joined(gradients(set_up(CentredEquilibriumPropagation, net, **options), batch))
        assert float(nn.functional.cosine_similarity(sign * found, expected, dim=0)) > least


def test_ep_3_the_estimate_points_along_the_gradient():
    check_ep_3(1.0)


def average_pooled():
    net = conv(norm=False)
    for block in net:
        if isinstance(block.pool, nn.MaxPool2d):
            block.pool = nn.AvgPool2d(2)
    return net


NETS = {"dense": dense, "max-pooled": lambda: conv(norm=False), "mean-pooled": average_pooled, "with norm": conv}


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_ep_4_the_update_is_the_difference_of_the_slopes_of_the_energy(build):
    net = build()
    batch = batch_for(net)
    rule = set_up(CentredEquilibriumPropagation, net, beta=0.3)
    relaxation, free = rule.free(batch.x)
    towards, away = rule.nudged(relaxation, free, rule.target(batch), [0.3, -0.3])
    relaxation.input_drive = drive(next(iter(net)), batch.x)
    energy = (relaxation.energy(towards) - relaxation.energy(away)).mean() / 0.6
    parameters = dict(net.named_parameters())
    slopes = torch.autograd.grad(energy, list(parameters.values()), allow_unused=True)
    expected = {name: slope for name, slope in zip(parameters, slopes, strict=True) if slope is not None}
    assert_same(gradients(rule, batch), expected)
    if isinstance(net["output"].affine, nn.Linear):
        # The outer product of the states, and nothing else.
        products = [s["output"].T @ s[net.taps[-1]] for s in (towards, away)]
        torch.testing.assert_close(
            expected["blocks.output.affine.weight"], -(products[0] - products[1]) / (0.6 * len(batch.y)), **EXACT
        )


def check_symmetric(net, feedback=1.0):
    """At the free fixed point no state can lower the energy: what goes up and what comes down are the same couplings."""
    batch = batch_for(net)
    relaxation = Relaxation.of(list(net), batch.x, feedback)
    states = relaxation.run(relaxation.upwards(), 500)
    leaves = {name: state.clone().requires_grad_() for name, state in states.items()}
    slopes = torch.autograd.grad(relaxation.energy(leaves).sum(), list(leaves.values()))
    for (name, state), slope in zip(states.items(), slopes, strict=True):
        moved = state - slope
        settled = moved if name == "output" else moved.clamp(0, 1)
        torch.testing.assert_close(settled, state, rtol=0, atol=1e-9)


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_ep_4_the_fixed_point_is_a_minimum_of_the_symmetric_energy(build):
    check_symmetric(build())


def test_ep_4_fails_with_weaker_couplings_downwards():
    with pytest.raises(AssertionError):
        check_symmetric(dense(), feedback=0.5)


@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_ep_5_sweeps_lower_the_energy_and_the_residual_tells_how_far_they_are(build):
    net = build()
    relaxation = Relaxation.of(list(net), batch_for(net).x)
    states = relaxation.upwards()
    energies, residuals = [relaxation.energy(states).detach()], []
    for _ in range(60):
        states = relaxation.run(states, 1)
        energies.append(relaxation.energy(states).detach())
        residuals.append(relaxation.residual(states))
    assert all(bool((b <= a + 1e-12).all()) for a, b in pairwise(energies))
    assert residuals[0] > 1e-3
    assert residuals[-1] < 1e-6


def check_ep_5(net, free_sweeps):
    report = set_up(CentredEquilibriumPropagation, net, free_sweeps=free_sweeps).gradients(batch_for(net))
    assert report.monitors["residual"] < 1e-8
    assert report.counters["inference_steps"] == free_sweeps + 8


def test_ep_5_the_residual_of_the_free_phase_is_a_monitor():
    check_ep_5(dense(), 100)


def test_ep_5_flags_a_free_phase_that_is_too_short():
    with pytest.raises(AssertionError):
        check_ep_5(dense(), 2)


# ---- contrastive Hebbian learning: CHL-1 -----------------------------------------------------------------------------


def check_chl_1(beta):
    """A clamped output is a nudge without bound: beta times the one-sided estimate."""
    net = dense(depth=2)
    batch = batch_for(net)
    found = joined(gradients(set_up(ContrastiveHebbian, net, free_sweeps=20, clamped_sweeps=20), batch))
    options = {"free_sweeps": 20, "nudged_sweeps": 20, "random_sign": False}
    nudged = beta * joined(gradients(set_up(EquilibriumPropagation, net, beta=beta, **options), batch))
    torch.testing.assert_close(found, nudged, rtol=1e-5, atol=1e-7)


def test_chl_1_is_equilibrium_propagation_with_an_unbounded_nudge():
    check_chl_1(1e8)


def test_chl_1_fails_for_a_weak_nudge():
    with pytest.raises(AssertionError):
        check_chl_1(1.0)


class Unscaled(ContrastiveHebbian):
    """Mutation: the factor gamma^(l - L) is left out."""

    def gradients(self, batch):
        outcome = super().gradients(batch)
        for index, layer in enumerate(self.net.layers):
            for parameter in self.net[layer].parameters():
                parameter.grad *= float(self.option["feedback"]) ** (len(self.net.layers) - index - 1)
        return outcome


def check_weak_feedback(kind):
    """As gamma falls, the update approaches backpropagation in the feed-forward network of the same states."""
    net = dense(depth=2, width=6, n_classes=3)
    batch = batch_for(net)
    h = net["fc1"].reduce(batch.x)
    for block in net:
        z = block.affine(h)
        h = z if block.kind == "output" else z.clamp(0, 1)
    expected = joined(derivatives(net, 0.5 * squares(h - one_hot(batch.y, 3)).mean()))
    errors = []
    for gamma in (0.02, 0.01, 0.005):
        rule = set_up(kind, net, feedback=gamma, free_sweeps=50, clamped_sweeps=50)
        errors.append(relative_error(joined(gradients(rule, batch)), expected))
    assert all(1.7 < a / b < 2.3 for a, b in pairwise(errors)), errors
    assert errors[-1] < 0.05


def test_chl_1_weak_feedback_is_backpropagation():
    check_weak_feedback(ContrastiveHebbian)


def test_chl_1_weak_feedback_fails_without_its_factor():
    with pytest.raises(AssertionError):
        check_weak_feedback(Unscaled)


# ---- what the family claims ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HOPFIELD)
def test_norms_are_no_part_of_the_energy_and_do_not_move(kind):
    net = registered("cnn3")
    if net.kind not in kind.info.architectures:
        with pytest.raises(Unsupported, match="biased"):
            set_up(kind, net)
        return
    rule, batch = set_up(kind, net), batch_for(net)
    before = {name: value.clone() for name, value in net.state_dict().items() if ".norm." in name}
    features = rule.features(batch.x)
    rule.begin_stage(Stage("all", 1), 4)
    rule.step(batch)
    assert before
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    with torch.no_grad():
        for norm in net.norms():
            norm.weight.mul_(3)
    other = set_up(kind, registered("cnn3")).features(batch.x)
    assert all(torch.equal(features[name], other[name]) for name in features)
    assert all(0 <= float(tap.min()) <= float(tap.max()) <= 1 for tap in features.values())


@pytest.mark.parametrize("architecture", ["resnet14", "rnn", "transformer"])
@pytest.mark.parametrize("kind", HOPFIELD)
def test_networks_without_an_energy_are_refused(kind, architecture):
    with pytest.raises(Unsupported, match=kind.info.name):
        set_up(kind, registered(architecture))


def test_an_energy_needs_a_pooling_that_it_has_a_form_for():
    net = conv(norm=False)
    net["conv1"].pool = nn.LPPool2d(2, 2)
    with pytest.raises(Unsupported, match="conv1"):
        set_up(CentredEquilibriumPropagation, net)


def test_own_functions_have_an_untrained_control():
    assert create("untrained_equilibrium_propagation").stages(3) == ()
