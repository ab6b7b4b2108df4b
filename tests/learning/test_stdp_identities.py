"""Rules of spike times against closed forms; each check fails for named, deliberate bugs."""

import math

import pytest
import torch
from spiking_nets import TOLERANCE, batch_for, set_up
from torch import nn
from torch.nn.functional import unfold
from updates import written_gradients as gradients

from decoders.learning.first_spike import (
    Fired,
    Window,
    change_per_post_spike,
    fire,
    first_spikes,
    input_wave,
    onsets,
    pair_stdp,
    winners,
)
from decoders.learning.rules.reward_stdp import RECENT, RewardSTDP, race_eligibility
from decoders.learning.rules.stdp import STDP, _outer_conv, _outer_dense
from decoders.models.architectures import build_network
from decoders.models.networks import Block
from decoders.models.trainer import Stage

# ---- STDP -----------------------------------------------------------------------------------------------------------

WINDOW = Window(plus=0.7, minus=0.4, tau_plus=3.0, tau_minus=5.0)


def train_of(*times, steps=40):
    spikes = torch.zeros((1, steps, 1), dtype=torch.float64)
    spikes[0, list(times)] = 1
    return spikes


def online(pre, post):
    return pair_stdp(pre, post, WINDOW)


def booked_at_post(pre, post):
    return torch.einsum("ntj,nti->ji", post, change_per_post_spike(pre, WINDOW)) / len(pre)


def published_with_the_wrong_sign(pre, post):
    """Mutation: a published window, A exp(-max(dt, 0)/tau) - A exp(min(dt, 0)/tau): potentiates post before pre."""
    dt = float(post[0, :, 0].argmax() - pre[0, :, 0].argmax())
    return torch.tensor(math.exp(-max(dt, 0) / 3) - math.exp(min(dt, 0) / 3), dtype=torch.float64)


def exchanged(pre, post):
    """Mutation: pre and post are exchanged."""
    return pair_stdp(post, pre, WINDOW).T


FORMS = [online, booked_at_post]


def check_stdp_1(form):
    found = {dt: float(form(train_of(15), train_of(15 + dt))) for dt in range(-8, 9)}
    for dt, change in found.items():
        expected = 0.7 * math.exp(-dt / 3) if dt >= 0 else -0.4 * math.exp(dt / 5)
        assert change == pytest.approx(expected, abs=1e-12)
    for dt in range(1, 8):
        assert abs(found[dt + 1]) < abs(found[dt])
        assert abs(found[-dt - 1]) < abs(found[-dt])


@pytest.mark.parametrize("form", FORMS)
def test_stdp_1_one_pair_gives_the_window(form):
    check_stdp_1(form)


@pytest.mark.parametrize("form", [published_with_the_wrong_sign, exchanged])
def test_stdp_1_fails_for_wrong_windows(form):
    with pytest.raises(AssertionError):
        check_stdp_1(form)


def random_trains(n=4, steps=30, units=3, rate=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand((n, steps, units), generator=generator, dtype=torch.float64) < rate).double()


def all_pairs(pre, post):
    total = torch.zeros((post.shape[2], pre.shape[2]), dtype=torch.float64)
    for sample in range(len(pre)):
        for t_post, j in post[sample].nonzero().tolist():
            for t_pre, i in pre[sample].nonzero().tolist():
                dt = t_post - t_pre
                total[j, i] += 0.7 * math.exp(-dt / 3) if dt >= 0 else -0.4 * math.exp(dt / 5)
    return total / len(pre)


def nearest_spike(pre, post):
    """Mutation: traces are set to 1 in place of being raised by 1 (nearest neighbours only)."""
    total = torch.zeros((post.shape[2], pre.shape[2]), dtype=torch.float64)
    x, y = torch.zeros_like(pre[:, 0]), torch.zeros_like(post[:, 0])
    for s_pre, s_post in zip(pre.unbind(1), post.unbind(1), strict=True):
        x = torch.where(s_pre > 0, s_pre, math.exp(-1 / 3) * x)
        y = math.exp(-1 / 5) * y
        total += (0.7 * s_post.T @ x - 0.4 * y.T @ s_pre) / len(pre)
        y = torch.where(s_post > 0, s_post, y)
    return total


def check_stdp_2(form):
    pre, post = random_trains(seed=1), random_trains(units=2, seed=2)
    torch.testing.assert_close(form(pre, post), all_pairs(pre, post), **TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
def test_stdp_2_traces_equal_the_sum_over_all_pairs(form):
    check_stdp_2(form)


def test_stdp_2_fails_for_nearest_neighbours():
    with pytest.raises(AssertionError):
        check_stdp_2(nearest_spike)


@pytest.mark.parametrize("form", FORMS)
def test_stdp_3_silence_changes_nothing_and_time_has_no_origin(form):
    pre, post = random_trains(seed=1), random_trains(units=2, seed=2)
    assert not form(pre, torch.zeros_like(post)).any()
    assert not form(torch.zeros_like(pre), post).any()
    late = [nn.functional.pad(trains, (0, 0, 9, 4)) for trains in (pre, post)]
    torch.testing.assert_close(form(*late), form(pre, post), **TOLERANCE)


def check_stdp_4(coincident):
    steps, r_pre, r_post = 3000, 0.1, 0.2
    pre, post = random_trains(60, steps, 1, r_pre, 5), random_trains(60, steps, 1, r_post, 6)
    up, down = math.exp(-1 / 3), math.exp(-1 / 5)
    drift = r_pre * r_post * (0.7 * (coincident + up / (1 - up)) - 0.4 * down / (1 - down))
    assert float(online(pre, post)) / steps == pytest.approx(drift, rel=0.05)


def test_stdp_4_independent_trains_drift_as_predicted():
    """r_pre r_post (A+ (1 + a+/(1-a+)) - A- a-/(1-a-)), a = exp(-1/tau); the 1 is the pair of the same step."""
    check_stdp_4(1.0)


def test_stdp_4_fails_without_the_coincident_pair():
    with pytest.raises(AssertionError):
        check_stdp_4(0.0)


def stdp_rule(kind=STDP, architecture="spikingmlp", width=0.05, **options):
    net = build_network(architecture, 4, seed=0, width=width).double()
    rule = set_up(kind, net, (3, 16, 16), **options)
    rule.begin_stage(rule.stages(4)[0], 12)
    return rule, batch_for(net, n=12, edge=16)


class Unbounded(STDP):
    """Mutation: neither soft bounds nor clamping."""

    def update(self, block, *args):
        return torch.sign(super().update(block, *args)) * self.bound(block)

    def post_step(self):
        pass


def check_stdp_5(kind):
    rule, batch = stdp_rule(kind, learning_rate=1000.0)
    for _ in range(12):
        rule.step(batch)
    block = rule.net["fc1"]
    assert float(block.affine.weight.detach().abs().max()) <= rule.bound(block) * (1 + 1e-12)
    assert not torch.equal(block.affine.weight, build_network("spikingmlp", 4, 0, 0.05)["fc1"].affine.weight.double())


def test_stdp_5_weights_stay_within_their_bounds_at_any_learning_rate():
    check_stdp_5(STDP)


def test_stdp_5_fails_without_bounds():
    with pytest.raises(AssertionError):
        check_stdp_5(Unbounded)


def convolution_case():
    torch.manual_seed(0)
    block = Block("conv1", "conv", nn.Conv2d(2, 5, 3, padding=1, bias=False)).double()
    inputs = (torch.rand(3, 6, 2, 7, 7, dtype=torch.float64) < 0.2).double().cumsum(1).clamp(max=1)
    fired = fire(block, inputs, torch.full((5,), 0.1, dtype=torch.float64))
    won = winners(fired, 1, 1)
    assert 3 <= float(won.sum()) < won.numel()
    return block, inputs, fired, won


def flipped_kernel(*args):
    """Mutation: the kernel is turned by half a circle (convolution in place of correlation)."""
    return _outer_conv(*args).flip((2, 3))


def check_stdp_6(outer):
    block, inputs, fired, won = convolution_case()
    change = change_per_post_spike(onsets(inputs), WINDOW)
    found = outer(block, change, fired, won, 0.5 * won)
    columns = unfold(change.flatten(0, 1), 3, padding=1).unflatten(0, (3, 6))  # sample, time, 18, position
    patches = columns.permute(0, 3, 1, 2).flatten(0, 1)
    flat = [entry.permute(0, 2, 3, 1).flatten(0, 2) for entry in (fired.when, fired.excess, won)]
    layer = Block("fc1", "fc", nn.Linear(18, 5, bias=False)).double()
    dense_fired = Fired(torch.empty(0), flat[0], flat[1])
    expected = _outer_dense(layer, patches, dense_fired, flat[2], 0.5 * flat[2])
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected.view_as(found), **TOLERANCE)


def test_stdp_6_a_convolution_is_the_dense_rule_on_patches():
    check_stdp_6(_outer_conv)


def test_stdp_6_fails_for_a_flipped_kernel():
    with pytest.raises(AssertionError):
        check_stdp_6(flipped_kernel)


def check_batch(reduce):
    pre, post = random_trains(seed=1), random_trains(units=2, seed=2)
    singles = torch.stack([online(pre[i : i + 1], post[i : i + 1]) for i in range(len(pre))])
    torch.testing.assert_close(online(pre, post), reduce(singles), **TOLERANCE)


def test_stdp_6_a_batch_is_the_mean_of_its_members():
    check_batch(lambda singles: singles.mean(0))
    with pytest.raises(AssertionError):
        check_batch(lambda singles: singles.sum(0))


def test_gathered_winners_equal_the_pairs_of_first_spikes():
    rule, batch = stdp_rule()
    block = rule.net["fc1"]
    inputs = input_wave(block, batch.x, 8)
    fired = fire(block, inputs, rule.extra["threshold.fc1"])
    won = winners(fired, 3, 1)
    change = change_per_post_spike(onsets(inputs), rule.window)
    expected = pair_stdp(onsets(inputs), onsets(fired.wave) * won[:, None], rule.window) * len(inputs)
    torch.testing.assert_close(_outer_dense(block, change, fired, won, won), expected, **TOLERANCE)


def test_stdp_touches_neither_biases_nor_norms():
    rule, batch = stdp_rule(architecture="spikingcnn")
    before = {name: value.clone() for name, value in rule.net.state_dict().items()}
    for stage in rule.stages(4):
        rule.begin_stage(stage, 3)
        for _ in range(3):
            rule.step(batch)
    changed = {name for name, value in rule.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"blocks.{name}.affine.weight" for name in rule.net.taps}


# ---- first spikes ---------------------------------------------------------------------------------------------------


class HighestFirst(Fired):
    """Mutation: the highest potential wins, whenever it comes."""

    @property
    def score(self):
        return torch.where(self.when < self.wave.shape[1], self.excess + 100, self.excess)


def check_ttfs_1(kind):
    # Neurons: late and high, early and low, early and higher, silent.
    excess = torch.tensor([[-1, -1, -1, -1], [-1, 0.1, 0.2, -1], [9.0, 5.0, -1.0, -0.5]], dtype=torch.float64)[None]
    found = first_spikes(excess)
    fired = kind(found.wave, found.when, found.excess)
    assert found.when.tolist() == [[2, 1, 1, 3]]
    assert float(onsets(found.wave).sum(1).max()) == 1
    assert set(onsets(found.wave).unique().tolist()) == {0.0, 1.0}
    assert winners(fired, 1, 0).tolist() == [[0, 0, 1, 0]]
    assert winners(fired, 2, 0).tolist() == [[0, 1, 1, 0]]
    assert winners(fired, 4, 0).sum() <= 3, "a silent neuron never wins"


def test_ttfs_1_each_neuron_spikes_at_most_once_and_the_earliest_then_highest_wins():
    check_ttfs_1(Fired)


def test_ttfs_1_fails_when_the_highest_potential_wins():
    with pytest.raises(AssertionError):
        check_ttfs_1(HighestFirst)


def test_ttfs_1_a_winner_of_a_convolution_inhibits_its_surround():
    _, _, fired, won = convolution_case()
    assert bool((won.sum(1) <= 1).all())
    for sample in won.amax(1):
        places = sample.nonzero()
        gaps = (places[:, None] - places[None]).abs().amax(2) + 99 * torch.eye(len(places), dtype=torch.long)
        assert int(gaps.min()) > 1
    assert bool((fired.when[won.bool()] < 6).all())


def test_features_are_how_early_a_neuron_spikes():
    rule, batch = stdp_rule()
    taps = rule.features(batch.x)
    (_, _, fired), *_ = rule.reach(batch.x)
    torch.testing.assert_close(taps["fc1"], (8 - fired.when).double() / 8)
    assert rule.native_logits(batch.x) is None


# ---- reward ---------------------------------------------------------------------------------------------------------


class Offset(RewardSTDP):
    """Mutation: learning goes on without reward."""

    def compete(self, block, fired, batch):
        won, reward = super().compete(block, fired, batch)
        return won, reward + 0.5


class Given(RewardSTDP):
    """The rule under a given reward."""

    given = 1.0

    def reward(self, right):
        return torch.full_like(right, self.given)


class GivenOffset(Offset, Given):
    pass


def update_under(kind, reward, architecture):
    rule, batch = stdp_rule(kind, architecture, losers=0.0, winners=1, tau=4.0)
    rule.given = reward
    return gradients(rule, batch)[f"blocks.{rule.net.layers[0]}.affine.weight"]


def check_r_1(kind, architecture):
    one = update_under(kind, 1.0, architecture)
    assert float(one.abs().max()) > 0
    assert not update_under(kind, 0.0, architecture).any()
    torch.testing.assert_close(update_under(kind, -2.5, architecture), -2.5 * one, **TOLERANCE)
    rule, batch = stdp_rule(STDP, architecture, winners=1)
    torch.testing.assert_close(gradients(rule, batch)[f"blocks.{rule.net.layers[0]}.affine.weight"], one, **TOLERANCE)


@pytest.mark.parametrize("architecture", ["spikingmlp", "spikingcnn"])
def test_r_1_reward_scales_the_stdp_of_the_winner(architecture):
    check_r_1(Given, architecture)


@pytest.mark.parametrize("architecture", ["spikingmlp", "spikingcnn"])
def test_r_1_fails_when_learning_goes_on_without_reward(architecture):
    with pytest.raises(AssertionError):
        check_r_1(GivenOffset, architecture)


def test_r_1_balanced_rewards_cancel_over_the_batch():
    rule, _ = stdp_rule(RewardSTDP)
    right = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert rule.reward(right).tolist() == [0.25, 0.25, 0.25, -0.75]
    plain, _ = stdp_rule(RewardSTDP, balance=False)
    assert plain.reward(right).tolist() == [1, 1, 1, -1]


def no_losers(drive, losers, temperature):
    """Mutation: the groups that lost keep their weights."""
    return race_eligibility(drive, 0.0, temperature)


def check_r_3(kind):
    torch.manual_seed(0)
    drive = torch.randn(5, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    decision, eligibility = kind(drive, 1.0, 0.7)
    assert torch.equal(decision, drive.argmax(1))
    chosen = torch.log_softmax(drive / 0.7, 1).gather(1, decision.unsqueeze(1)).sum()
    torch.testing.assert_close(eligibility / 0.7, torch.autograd.grad(chosen, drive)[0], **TOLERANCE)


def test_r_3_eligibility_is_the_gradient_of_the_log_probability_of_the_decision():
    check_r_3(race_eligibility)


def test_r_3_fails_when_losers_do_not_take_part():
    with pytest.raises(AssertionError):
        check_r_3(no_losers)


def test_r_3_neurons_stand_for_classes_in_turn():
    rule, batch = stdp_rule(RewardSTDP, winners=1, losers=0.0)
    block, _, fired = rule.reach(batch.x)[0]
    won, _ = rule.compete(block, fired, batch)
    decided = fired.score[:, : won.shape[1] // 4 * 4].argmax(1)
    for sample, row in enumerate(won):
        assert row.bool().sum() <= 4, "one neuron per class at most"
        assert bool(row[decided[sample]])


class Attached(RewardSTDP):
    """Mutation: the thresholds keep the graph of all updates before."""

    def post_step(self):
        super().post_step()
        with torch.enable_grad():
            weight = self.net["fc1"].affine.weight
            self.extra["threshold.fc1"] = self.extra["threshold.fc1"] + 0 * weight.sum()


def check_r_2(kind):
    rule, batch = stdp_rule(kind)
    for _ in range(2):
        rule.step(batch)
        kept = [*rule.extra.values(), *(p.grad for p in rule.net.parameters() if p.grad is not None)]
        assert all(tensor.grad_fn is None and not tensor.requires_grad for tensor in kept)


@pytest.mark.parametrize("kind", [RewardSTDP, STDP])
def test_r_2_nothing_that_is_kept_holds_a_graph(kind):
    check_r_2(kind)


def test_r_2_fails_for_attached_thresholds():
    with pytest.raises(AssertionError):
        check_r_2(Attached)


class Unweighted(RewardSTDP):
    """Mutation: every layer counts the same."""

    def weight(self, layer):
        return torch.ones_like(self.extra[f"right.{layer}"])


def check_r_4(kind):
    """The prediction is the posterior over classes of decisions that err independently, each class as often."""
    rule, batch = stdp_rule(kind)
    shares = (0.9, 0.5, 0.35, 0.6)
    for layer, share in zip(rule.net.layers, shares, strict=True):
        rule.extra[f"right.{layer}"].fill_(share)
    expected = torch.ones(len(batch.x), 4, dtype=torch.float64)
    for share, (_, _, fired) in zip(shares, rule.reach(batch.x), strict=True):
        decision = rule.race(fired)[1].argmax(1)
        for sample, decided in enumerate(decision):
            likelihood = torch.full((4,), (1 - share) / 3, dtype=torch.float64)
            likelihood[decided] = share
            expected[sample] *= likelihood
    found = torch.softmax(rule.native_logits(batch.x), 1)
    torch.testing.assert_close(found, expected / expected.sum(1, keepdim=True), **TOLERANCE)


def test_r_4_layers_vote_by_how_often_they_were_right():
    check_r_4(RewardSTDP)


def test_r_4_fails_when_every_layer_counts_the_same():
    with pytest.raises(AssertionError):
        check_r_4(Unweighted)


def test_r_4_the_share_of_right_decisions_follows_the_rewards():
    rule, batch = stdp_rule(RewardSTDP)
    block, _, fired = rule.reach(batch.x)[0]
    right = float((rule.votes(fired).argmax(1) == batch.y).double().mean())
    rule.begin_stage(Stage(block.name, 1), 4)
    rule.step(batch)
    assert float(rule.extra[f"right.{block.name}"]) == pytest.approx(0.25 + RECENT * (right - 0.25))
    assert all(float(rule.extra[f"right.{name}"]) == 0.25 for name in rule.net.layers if name != block.name)


def test_r_4_the_output_alone_on_request():
    rule, batch = stdp_rule(RewardSTDP, prediction="output")
    torch.testing.assert_close(rule.native_logits(batch.x), rule.reach(batch.x)[-1][2].score)
