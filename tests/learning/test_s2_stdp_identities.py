"""Supervised STDP by firing times (S2-STDP) against closed forms; each check fails for named, deliberate bugs."""

import pytest
import torch
from spiking_nets import TOLERANCE, batch_for, set_up

from decoders.learning.rules.s2_stdp import S2STDP, crossing_times, desired_times, stdp_by_order
from decoders.learning.rules.spiking_gradient import integrator
from decoders.models.architectures import build_network
from decoders.models.trainer import Stage


def no_shift(times, target, n_steps, gap):
    """Mutation: targets and others are shifted by half the gap each, whatever their numbers."""
    mean = times.mean(1, keepdim=True)
    return mean - gap * (target - 0.5)


def check_s2_1(desired):
    times = torch.tensor([[2.0, 5.0, 4.5, 3.5], [8.0, 8.0, 1.0, 7.0]], dtype=torch.float64)
    target = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.float64)
    found = desired(times, target, 10, 1.2)
    torch.testing.assert_close(found.mean(1), times.mean(1), **TOLERANCE)
    gap = (found * (1 - target)).sum(1) / 3 - (found * target).sum(1)
    torch.testing.assert_close(gap, torch.full((2,), 1.2, dtype=torch.float64), **TOLERANCE)


def test_s2_1_desired_times_lie_around_the_mean_firing_time():
    check_s2_1(lambda *args: desired_times(*args).time)
    with pytest.raises(AssertionError):
        check_s2_1(no_shift)


def test_s2_1_silent_read_outs_are_given_times_that_can_be_reached():
    times = torch.full((1, 4), 10.0, dtype=torch.float64)
    found = desired_times(times, torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64), 10, 2.0)
    assert float(found.time.max()) == pytest.approx(10.0)
    assert float(found.error[0, 0]) > 0


def check_s2_1_sign(sign):
    target = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    errors = []
    for time in (1.0, 2.8, 4.0):  # too early, at the desired time (mean 3.7, less .9), too late
        times = torch.tensor([[time, 4.0, 4.0, 4.0]], dtype=torch.float64)
        errors.append(sign * float(desired_times(times, target, 10, 1.2).error[0, 0]))
    assert errors[0] < 0
    assert errors[1] == pytest.approx(0, abs=1e-12)
    assert errors[2] > 0


def test_s2_1_no_update_at_the_desired_time_and_the_sign_changes_across_it():
    check_s2_1_sign(1)
    with pytest.raises(AssertionError):
        check_s2_1_sign(-1)


def test_s2_1_an_update_moves_the_target_forward_and_the_others_back():
    net = build_network("spikingmlp", 4, seed=0, width=0.1).double()
    rule, batch = set_up(S2STDP, net, (3, 16, 16), group=1, gap=1.0), batch_for(net, n=1, edge=16)
    rule.begin_stage(Stage("output", 1), 300)
    first = rule.step(batch).monitors["gap"]
    for _ in range(298):
        rule.step(batch)
    assert rule.step(batch).monitors["gap"] == pytest.approx(1.0, abs=0.2)
    assert abs(first - 1.0) > 0.5
    assert int(rule.native_logits(batch.x).argmax()) == int(batch.y[0])


def test_crossing_times_are_interpolated_within_a_step():
    excess = torch.tensor([[0.5, -1.0, -0.3], [0.6, 3.0, -0.2], [0.7, 4.0, -0.1]], dtype=torch.float64)[None]
    assert crossing_times(excess, -1.0)[0].tolist() == pytest.approx([2 / 3, 1.25, 3.0])


def test_stdp_by_order_depresses_what_comes_later_or_never():
    wave = torch.tensor([[1.0, 0, 0], [1, 1, 0]], dtype=torch.float64)[None]
    assert stdp_by_order(wave, torch.tensor([[0.5, 1.5]], dtype=torch.float64), 0.5)[0].tolist() == [
        [1, -0.5, -0.5],
        [1, 1, -0.5],
    ]


class MovesHidden(S2STDP):
    """Mutation: the error leaks into a hidden layer."""

    def post_step(self):
        super().post_step()
        self.net["fc3"].affine.weight.add_(1e-9)


def check_s2_2(kind):
    net = build_network("spikingmlp", 4, seed=0, width=0.1).double()
    rule, batch = set_up(kind, net, (3, 16, 16)), batch_for(net, n=8, edge=16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    features = rule.features(batch.x)
    rule.begin_stage(Stage("output", 1), 5)
    for _ in range(5):
        rule.step(batch)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"blocks.output.affine.weight"}
    assert all(torch.equal(tap, features[name]) for name, tap in rule.features(batch.x).items())


def test_s2_2_hidden_layers_are_untouched():
    check_s2_2(S2STDP)


def test_s2_2_fails_when_hidden_layers_move():
    with pytest.raises(AssertionError):
        check_s2_2(MovesHidden)


class Drifts(S2STDP):
    """Mutation: the sums of the weights are not restored."""

    def read_outs(self):
        return []


def check_s2_3(kind):
    net = build_network("spikingmlp", 4, seed=0, width=0.1).double()
    rule, batch = set_up(kind, net, (3, 16, 16), group=2), batch_for(net, n=8, edge=16)
    weights = net["output"].affine.weight, rule.companions["group"].weight
    before = [weight.detach().clone() for weight in weights]
    rule.begin_stage(Stage("output", 1), 5)
    for _ in range(5):
        rule.step(batch)
    for weight, old in zip(weights, before, strict=True):
        assert not torch.equal(weight, old)
        torch.testing.assert_close(weight.sum(1), old.sum(1), **TOLERANCE)


def test_s2_3_the_weights_of_a_neuron_keep_their_sum():
    check_s2_3(S2STDP)
    with pytest.raises(AssertionError):
        check_s2_3(Drifts)


def test_competition_groups_hold_their_neurons_beside_the_network():
    net = build_network("spikingmlp", 4, seed=0, width=0.1)
    rule = set_up(S2STDP, net, (3, 16, 16), group=3)
    assert rule.companions["group"].weight.shape == (8, net["output"].affine.weight.shape[1])
    assert "group" not in set_up(S2STDP, net, (3, 16, 16), group=1).companions
    race = rule.race(batch_for(net, edge=16).x.float())
    won, times = rule.group_winners(race)
    assert bool((won.sum(1) == 1).all())
    torch.testing.assert_close((crossing_times(race.excess, race.rest) * won).sum(1), times)
    assert integrator(net).steps == race.excess.shape[1]
