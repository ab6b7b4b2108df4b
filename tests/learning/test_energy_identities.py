"""Predictive coding, equilibrium propagation and contrastive Hebbian learning against closed forms, in float64.

Each check fails for its named mutation.
"""

from itertools import pairwise

import pytest
import torch
from energy_nets import EXACT, assert_same, backprop, batch_for, conv, dense, joined, registered, relative_error, set_up
from torch import nn
from torch.nn.functional import one_hot
from updates import written_gradients as gradients

from decoders.errors import Unsupported
from decoders.learning.rules import predictive_variants
from decoders.learning.rules.predictive_coding import Pace, PredictiveCoding, States, Variables, squares
from decoders.learning.rules.predictive_variants import (
    PredictiveCodingError,
    PredictiveCodingFixed,
    PredictiveCodingIncremental,
)
from decoders.models.networks import set_mode
from decoders.models.trainer import Stage

# ---- PC-1: fixed predictions are backpropagation, block by block ------------------------------------------------------


def check_pc_1(kind, net, n, **options):
    """With n sweeps the top n + 1 blocks are exact and all below receive exactly nothing."""
    batch = batch_for(net)
    expected = backprop(net, batch)
    found = gradients(set_up(kind, net, sweeps=n, **options), batch)
    reached = net.layers[-(n + 1) :]
    for name, value in expected.items():
        wanted = value if name.split(".")[1] in reached else torch.zeros_like(value)
        torch.testing.assert_close(found[name], wanted, **EXACT)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_pc_1_the_error_climbs_down_one_block_per_sweep(n):
    check_pc_1(PredictiveCodingFixed, dense(depth=4), n)


class StaleErrors(PredictiveCodingFixed):
    """Mutation: weights learn from the errors before the last sweep, so that one more sweep is needed."""

    def __init__(self, sweeps, **options):
        super().__init__(sweeps=max(sweeps - 1, 1), **options)


def test_pc_1_fails_with_errors_from_before_the_last_sweep():
    with pytest.raises(AssertionError):
        check_pc_1(StaleErrors, dense(depth=4), 4)


def test_pc_1_fails_at_another_rate():
    with pytest.raises(AssertionError):
        check_pc_1(PredictiveCodingFixed, dense(depth=4), 4, inference_rate=0.9)


def test_pc_1_fails_when_a_block_hears_the_error_after_its_move(monkeypatch):
    def move(self, name, from_above):
        old(self, name, from_above)
        return self.value[name]

    old = predictive_variants.Errors.move
    monkeypatch.setattr(predictive_variants.Errors, "move", move)
    with pytest.raises(AssertionError):
        check_pc_1(PredictiveCodingFixed, dense(depth=4), 1)


@pytest.mark.parametrize("architecture", ["cnn3", "resnet14", "mlp3", "rnn", "transformer"])
def test_pc_1_holds_on_every_kind_of_network_with_the_default(architecture):
    net = registered(architecture)
    batch = batch_for(net)
    rule = set_up(PredictiveCodingFixed, net)
    expected = backprop(net, batch)
    assert_same(gradients(rule, batch), expected)
    assert rule.gradients(batch).monitors["residual"] < 1e-12


# ---- the sweep is a descent of the energy on any graph of blocks -----------------------------------------------------


def moved_states(net, batch):
    """Return a rule, its feed-forward pass and states away from it."""
    rule = set_up(PredictiveCoding, net, order="at_once", adaptive=False, output_precision=1.0)
    start = rule.feed_forward(batch.x)
    torch.manual_seed(5)
    return rule, start, {name: tap + 0.3 * torch.randn_like(tap) for name, tap in start.taps.items()}


def check_sweep(net, energy=None):
    batch = batch_for(net)
    rule, start, values = moved_states(net, batch)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    total = (energy or rule.energy)(leaves, batch, start)
    expected = torch.autograd.grad(total.sum(), list(leaves.values()))
    states = States(values, rule.pace(batch), top_down=False)
    with rule.inference_norms():
        rule.sweep(states, batch, start)
    torch.testing.assert_close(states.energy, total.detach(), **EXACT)
    for (name, value), slope in zip(values.items(), expected, strict=True):
        torch.testing.assert_close((value - states.value[name]) / 0.3, slope, rtol=1e-8, atol=1e-10)


ARCHITECTURES = ["cnn3", "mlp3", "rnn", "transformer"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sweep_moves_every_state_along_the_gradient_of_the_energy(architecture):
    check_sweep(registered(architecture))


def test_a_sweep_differs_when_a_skip_connection_reads_the_feed_forward_pass():
    """Mutation: skipped taps are those of the pass before inference."""
    net = registered("transformer")

    def energy(states, batch, start):
        rule = set_up(PredictiveCoding, net, output_precision=1.0)
        total, below = 0.0, batch.x
        with rule.inference_norms():
            for block in net:
                mu = rule.predict(block, below, start.taps[block.skip] if block.skip else None, start)
                if block.kind == "output":
                    return total + rule.output_energy(mu, batch.y)
                below = states[block.name]
                total = total + 0.5 * squares(below - mu)

    with pytest.raises(AssertionError):
        check_sweep(net, energy)


def check_one_energy(**options):
    """Inference and learning descend the same energy, norms included."""
    net = registered("cnn3")
    batch = batch_for(net)
    _, start, values = moved_states(net, batch)
    rule = set_up(PredictiveCoding, net, output_precision=1.0, **options)
    learnt = rule.predictions(values, batch.x, start)
    errors = sum(squares(values[name] - learnt[name]) for name in values)
    expected = 0.5 * errors + rule.output_energy(learnt[net.layers[-1]], batch.y)
    torch.testing.assert_close(rule.energy(values, batch, start), expected, **EXACT)


def test_inference_and_learning_descend_one_energy():
    check_one_energy()


def test_they_do_not_with_frozen_norms():
    with pytest.raises(AssertionError):
        check_one_energy(norm_statistics="frozen")


VARIANTS = [PredictiveCoding, PredictiveCodingFixed, PredictiveCodingIncremental, PredictiveCodingError]


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("architecture", ["cnn3", "resnet14"])
def test_running_statistics_move_once_per_step_and_only_by_the_feed_forward_pass(kind, architecture):
    net, plain = registered(architecture), registered(architecture)
    if net.kind not in kind.info.architectures:
        with pytest.raises(Unsupported, match="rounding"):
            set_up(kind, net)
        return
    batch = batch_for(net)
    rule = set_up(kind, net)
    rule.begin_stage(Stage("all", 1), 4)
    rule.step(batch)
    set_mode(plain, training=True)
    plain(batch.x)
    for norm, reference in zip(net.norms(), plain.norms(), strict=True):
        assert int(norm.num_batches_tracked) == 1
        torch.testing.assert_close(norm.running_mean, reference.running_mean, **EXACT)
        torch.testing.assert_close(norm.running_var, reference.running_var, **EXACT)


# ---- PC-2 to PC-6: the energy, its minimum and its descent ------------------------------------------------------------

RELAXED = {"sweeps": 600, "inference_rate": 0.3, "output_precision": 1.0}


def minimal_energy(rule, batch):
    start = rule.feed_forward(batch.x)
    return float(rule.energy(rule.relax(batch, start).value, batch, start).mean().detach())


def check_pc_2(**options):
    """Derivative of the minimal energy, by finite differences over relaxed states, is the written update."""
    net = dense()
    batch = batch_for(net)
    rule = set_up(PredictiveCoding, net, **{**RELAXED, **options})
    exact = set_up(PredictiveCoding, net, **RELAXED)
    found = gradients(rule, batch)
    for layer in net.layers:
        weight, step = net[layer].affine.weight, 1e-5
        energies = []
        for sign in (1, -1):
            weight.data[0, 1] += sign * step
            energies.append(minimal_energy(exact, batch))
            weight.data[0, 1] -= sign * step
        expected = (energies[0] - energies[1]) / (2 * step)
        assert float(found[f"blocks.{layer}.affine.weight"][0, 1]) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_pc_2_the_update_is_the_derivative_of_the_minimal_energy():
    check_pc_2()


def test_pc_2_fails_before_the_states_have_relaxed():
    with pytest.raises(AssertionError):
        check_pc_2(sweeps=3)


def check_pc_3(**options):
    """As the output's precision b falls, update / b approaches backpropagation with an error linear in b."""
    net = dense()
    batch = batch_for(net)
    expected = joined(backprop(net, batch, squared=True))
    settings = {**RELAXED, **options}
    errors = []
    for b in (0.1, 0.05, 0.025):
        found = joined(gradients(set_up(PredictiveCoding, net, **{**settings, "output_precision": b}), batch)) / b
        errors.append(relative_error(found, expected))
    assert all(1.8 < a / b < 2.2 for a, b in pairwise(errors)), errors
    assert errors[-1] < 0.1


def test_pc_3_small_errors_are_backpropagation():
    check_pc_3()


def test_pc_3_fails_before_the_states_have_relaxed():
    with pytest.raises(AssertionError):
        check_pc_3(sweeps=3, order="at_once")


def check_pc_4(n_terms):
    """Linear network: E* = 1/2 r' S^-1 r, S = I + sum_l P_l P_l', P_l = W_L .. W_{l+1}."""
    net = dense("identity")
    batch = batch_for(net)
    rule = set_up(PredictiveCoding, net, **{**RELAXED, "sweeps": 2000})
    r = (one_hot(batch.y, net.n_classes) - net(batch.x)).detach()
    product, s = torch.eye(net.n_classes, dtype=torch.float64), torch.eye(net.n_classes, dtype=torch.float64)
    for layer in net.layers[:0:-1][:n_terms]:
        product = product @ net[layer].affine.weight.detach()
        s = s + product @ product.T
    expected = 0.5 * (r @ torch.linalg.inv(s) * r).sum(1).mean()
    assert minimal_energy(rule, batch) == pytest.approx(float(expected), rel=1e-10)


def test_pc_4_minimal_energy_of_a_linear_network():
    check_pc_4(n_terms=3)


def test_pc_4_fails_without_the_lowest_layer():
    with pytest.raises(AssertionError):
        check_pc_4(n_terms=2)


def check_pc_5(net, shift):
    """Without a target the feed-forward states have energy zero and slope zero."""
    batch = batch_for(net)
    rule = set_up(PredictiveCoding, net, output_precision=0.0)
    start = rule.feed_forward(batch.x)
    leaves = {name: (tap + shift).requires_grad_() for name, tap in start.taps.items()}
    energy = rule.energy(leaves, batch, start)
    assert float(energy.detach().abs().max()) < 1e-20
    assert all(float(slope.abs().max()) < 1e-10 for slope in torch.autograd.grad(energy.sum(), list(leaves.values())))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pc_5_the_feed_forward_pass_is_the_minimum_without_a_target(architecture):
    check_pc_5(registered(architecture), 0.0)


def test_pc_5_fails_away_from_it():
    with pytest.raises(AssertionError):
        check_pc_5(dense(), 0.01)


def check_pc_6(net, **options):
    batch = batch_for(net)
    rule = set_up(PredictiveCoding, net, **{"output_precision": 1.0, "adaptive": False, **options})
    start = rule.feed_forward(batch.x)
    states = rule.states(start.taps, rule.pace(batch))
    energies = []
    with rule.inference_norms():
        for _ in range(15):
            rule.sweep(states, batch, start)
            energies.append(states.energy)
    assert all(bool((b <= a + 1e-12).all()) for a, b in pairwise(energies))
    assert bool((energies[-1] < energies[0]).all())


@pytest.mark.parametrize("order", ["top_down", "at_once"])
@pytest.mark.parametrize("build", [dense, conv])
def test_pc_6_energy_never_rises_in_small_steps(build, order):
    for statistics in ("batch", "frozen"):
        check_pc_6(build(), order=order, inference_rate=0.05, norm_statistics=statistics)


def test_pc_6_fails_uphill(monkeypatch):
    along = Pace.along
    monkeypatch.setattr(Pace, "along", lambda self, slope: -along(self, slope))
    with pytest.raises(AssertionError):
        check_pc_6(dense(), inference_rate=0.05)


def test_steps_that_are_too_long_are_halved_and_the_next_batch_begins_there():
    net = dense("relu")
    with torch.no_grad():
        for block in net:
            block.affine.weight *= 6
    rule, batch = set_up(PredictiveCoding, net, sweeps=12, inference_rate=0.5, output_precision=1.0), batch_for(net)
    start = rule.feed_forward(batch.x)
    before = rule.energy(start.taps, batch, start)
    after = rule.energy(rule.relax(batch, start).value, batch, start)
    assert float(after.detach().mean()) < float(before.detach().mean())
    assert 0.01 <= float(rule.extra["rate"]) < 0.5


# ---- PC-7, PC-8: where the variants are backpropagation --------------------------------------------------------------


def check_pc_7(steps):
    """One step of the error variant, divided by its rate, is minus the backpropagated error of every tap."""
    net, rate = dense(depth=4), 0.1
    batch = batch_for(net)
    rule = set_up(PredictiveCodingError, net, steps=steps, inference_rate=rate, output_precision=1.0)
    start = rule.feed_forward(batch.x)
    done = net.run(batch.x)
    loss = 0.5 * squares(done.logits - one_hot(batch.y, net.n_classes)).sum()
    expected = torch.autograd.grad(loss, list(done.taps.values()))
    errors = Variables({name: torch.zeros_like(tap) for name, tap in start.taps.items()}, rule.pace(batch))
    for _ in range(steps):
        rule.step_errors(errors, batch, start)
    for error, delta in zip(errors.value.values(), expected, strict=True):
        torch.testing.assert_close(-error.detach() / rate, delta, **EXACT)


def test_pc_7_one_step_of_the_error_variant_is_backpropagation():
    check_pc_7(steps=1)


def test_pc_7_fails_for_two_steps():
    with pytest.raises(AssertionError):
        check_pc_7(steps=2)


def test_pc_7_weights_follow_in_the_limit_and_the_default_is_no_backpropagation_in_disguise():
    net = dense(depth=4)
    batch = batch_for(net)
    hidden = [name for name, _ in net.named_parameters() if "output" not in name]
    expected = backprop(net, batch, squared=True)
    rule = set_up(PredictiveCodingError, net, steps=1, inference_rate=1e-7, output_precision=1.0)
    found = gradients(rule, batch)
    for name in hidden:
        torch.testing.assert_close(found[name] / 1e-7, expected[name], rtol=1e-4, atol=1e-7)
    rule = set_up(PredictiveCodingError, net, output_precision=1.0)
    assert int(rule.option["steps"]) > 1
    found = gradients(rule, batch)
    cosine = nn.functional.cosine_similarity(found[hidden[0]].flatten(), expected[hidden[0]].flatten(), dim=0)
    assert float(cosine) < 0.999
    assert 0 < rule.gradients(batch).monitors["residual"] < 0.5


def check_pc_8(kind, **options):
    net = dense(depth=4)
    batch = batch_for(net)
    rule = set_up(kind, net, output_precision=0.7, inner_rate=0.05, **options)
    assert_same(gradients(rule, batch), backprop(net, batch, squared=True, precision=0.7))


def test_pc_8_the_staircase_schedule_is_backpropagation():
    check_pc_8(PredictiveCodingIncremental, schedule="staircase")


def test_pc_8_fails_when_all_blocks_learn_in_every_sweep():
    with pytest.raises(AssertionError):
        check_pc_8(PredictiveCodingIncremental, schedule="every", sweeps=5, inference_rate=1.0, adaptive=False)


def check_strict_and_error_variant_agree(**options):
    net = dense("tanh", depth=3)
    batch = batch_for(net)
    strict = gradients(set_up(PredictiveCoding, net, **RELAXED), batch)
    error = {"steps": 600, "inference_rate": 0.3, "output_precision": 1.0, **options}
    for name, value in gradients(set_up(PredictiveCodingError, net, **error), batch).items():
        torch.testing.assert_close(value, strict[name], rtol=1e-7, atol=1e-10)


def test_states_and_errors_relax_to_the_same_minimum():
    check_strict_and_error_variant_agree()


def test_states_and_errors_differ_before_it():
    with pytest.raises(AssertionError):
        check_strict_and_error_variant_agree(steps=5)


def check_incremental_is_a_sum(inner_rate):
    """Without a moving copy the incremental update is the sum of dE/dW over the states of the path."""
    net = dense()
    batch = batch_for(net)
    options = {"order": "at_once", "adaptive": False, "output_precision": 1.0}
    found = gradients(set_up(PredictiveCodingIncremental, net, sweeps=3, inner_rate=inner_rate, **options), batch)
    rule = set_up(PredictiveCoding, net, **options)
    start = rule.feed_forward(batch.x)
    states = States(start.taps, rule.pace(batch), top_down=False)
    net.zero_grad()
    for _ in range(3):
        rule.write_local(states.value, batch, start)
        rule.sweep(states, batch, start)
    assert_same(found, {name: value.grad for name, value in net.named_parameters()})


def test_incremental_updates_are_summed_over_the_sweeps():
    check_incremental_is_a_sum(inner_rate=0.0)


def test_incremental_weights_act_within_the_batch():
    with pytest.raises(AssertionError):
        check_incremental_is_a_sum(inner_rate=0.1)
