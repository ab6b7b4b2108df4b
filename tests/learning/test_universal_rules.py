"""What every registered rule must satisfy on every registered architecture (U1-U12)."""

import inspect

import pytest
import torch

from decoders.errors import CorticodeError, Unsupported
from decoders.learning.displacement import initial_weights, relative_displacement
from decoders.learning.registry import create, rule_infos, rule_names
from decoders.learning.rule import RuleSpec
from decoders.models.networks import ARCHITECTURES, build_network
from decoders.models.trainer import Batch, Stage

N_CLASSES, EDGE = 4, 16


def _supported():
    pairs = []
    for name in rule_names():
        for architecture in ARCHITECTURES:
            try:
                create(name).check_support(build_network(architecture, N_CLASSES, 0))
            except Unsupported:
                continue
            pairs.append((name, architecture))
    return pairs


ALL = _supported()
TRAINED = [(name, architecture) for name, architecture in ALL if create(name).info.trains]
SUPERVISED = [(name, architecture) for name, architecture in TRAINED if "labels" in create(name).info.needs]


def make(name, architecture, rate=3e-3, seed=0, n_steps=8, dtype=torch.float32):
    rule = create(name)
    rule.setup(build_network(architecture, N_CLASSES, seed).to(dtype), RuleSpec((3, EDGE, EDGE), rate), seed=seed + 10)
    rule.begin_stage(Stage("all", 1), n_steps)
    return rule


def batch(n=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((n, 3, EDGE, EDGE), generator=generator).to(dtype)
    return Batch(x.contiguous(memory_format=torch.channels_last), torch.arange(n) % N_CLASSES)


def trained(name, architecture, n=3, **options):
    rule = make(name, architecture, **options)
    for index in range(n if rule.info.trains else 0):
        rule.step(batch(seed=index))
    return rule


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


every = pytest.mark.parametrize(("name", "architecture"), ALL)
each_trained = pytest.mark.parametrize(("name", "architecture"), TRAINED)


def test_the_five_rules_of_the_first_room_are_there():
    assert {"untrained", "random_features", "backprop", "feedback_alignment", "direct_feedback_alignment"} <= set(
        rule_names()
    )
    assert all(info.source and info.summary and info.family for info in rule_infos())
    assert len(ALL) >= 2 * len(rule_names()) - 1


def test_every_rule_starts_at_the_same_weights():
    for architecture in ARCHITECTURES:
        states = [make(name, found).net.state_dict() for name, found in ALL if found == architecture]
        assert all(same(state, build_network(architecture, N_CLASSES, 0).state_dict()) for state in states)


@every
def test_u1_features_are_pure_and_do_not_depend_on_the_batch(name, architecture):
    rule = trained(name, architecture)
    before, x = rule.state_dict(), batch(9, seed=5).x
    first, second = rule.features(x), rule.features(x)
    assert list(first) == rule.net.taps
    assert same(first, second)
    assert same(before, rule.state_dict())
    assert not any(tap.requires_grad for tap in first.values())
    order = torch.randperm(9)
    permuted = rule.features(x[order])
    for tap, values in first.items():
        singles = torch.cat([rule.features(x[i : i + 1])[tap] for i in range(9)])
        torch.testing.assert_close(singles, values, rtol=1e-5, atol=1e-5 * float(values.abs().max()))
        torch.testing.assert_close(permuted[tap], values[order], rtol=1e-5, atol=1e-5 * float(values.abs().max()))


@every
def test_u2_modes_are_guarded(name, architecture):
    rule = trained(name, architecture)
    rule.features(batch().x)
    assert not any(norm.training for norm in rule.net.norms())
    rule.native_logits(batch().x)
    assert not any(norm.training for norm in rule.net.norms())
    assert rule.net.n_norms == {"cnn3": 3, "mlp": 0}[architecture]
    if rule.info.trains:
        rule.step(batch())
        assert all(norm.training for norm in rule.net.norms())


@pytest.mark.parametrize("name", rule_names())
def test_u2_an_eval_that_does_nothing_is_noticed(name):
    rule = make(name, "cnn3")
    rule.net.train()
    rule.net.blocks.train = lambda mode=True: rule.net.blocks
    with pytest.raises(CorticodeError, match="norm layers"):
        rule.features(batch().x)


@each_trained
def test_u3_learning_rate_zero_changes_no_parameter(name, architecture):
    rule = make(name, architecture, rate=0.0)
    before = rule.net.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    rule.step(batch())
    changed = {key for key, value in rule.net.state_dict().items() if not torch.equal(value, before[key])}
    # The statistics of batch norm follow the pictures whatever the learning rate.
    assert all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in changed)


@each_trained
def test_u4_same_seed_same_bits_other_seed_others(name, architecture):
    first, second, other = (trained(name, architecture, seed=seed).state_dict() for seed in (0, 0, 1))
    assert same(first, second)
    assert not same(first, other)


@every
def test_u5_claimed_layers_move_and_no_others(name, architecture):
    rule = make(name, architecture)
    before = initial_weights(rule.net)
    for index in range(5 if rule.info.trains else 0):
        report = rule.step(batch(seed=index))
        assert set(report.update_norms) == {layer for layer, claimed in rule.claims().items() if claimed}
        assert all(0 < norm < float("inf") for norm in report.update_norms.values())
    moved = relative_displacement(rule.net, before)
    for layer, claimed in rule.claims().items():
        assert moved[layer] > 1e-4 if claimed else moved[layer] == 0, layer
    frozen = [layer for layer, claimed in rule.claims().items() if not claimed]
    fresh = build_network(architecture, N_CLASSES, 0)
    for layer in frozen:
        pairs = zip(rule.net[layer].parameters(), fresh[layer].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), f"bias or gain of {layer}"


@pytest.mark.parametrize(("name", "architecture"), SUPERVISED)
def test_u6_one_batch_is_overfitted(name, architecture):
    rule = make(name, architecture, n_steps=40)
    for _ in range(40):
        report = rule.step(batch(16))
    assert report.accuracy >= 0.9


@every
def test_u7_labels_never_reach_features(name, architecture):
    for method in (create(name).features, create(name).native_logits):
        assert not {"y", "labels", "batch"} & set(inspect.signature(method).parameters)
    rule = make(name, architecture)
    if rule.info.trains and "labels" not in rule.info.needs:
        other = make(name, architecture)
        given = batch()
        rule.step(given)
        other.step(Batch(given.x, given.y.flip(0)))
        assert same(rule.net.state_dict(), other.net.state_dict())


@each_trained
def test_u8_a_restored_state_takes_the_same_next_step(name, architecture):
    rule = trained(name, architecture)
    state = rule.state_dict()
    other = make(name, architecture, seed=7)
    other.load_state_dict(state)
    assert same(other.state_dict(), state)
    rule.step(batch(seed=9))
    other.step(batch(seed=9))
    assert same(other.state_dict(), rule.state_dict())
    assert not same(rule.state_dict(), state)


@each_trained
def test_u9_divergence_and_dead_layers_are_errors(name, architecture):
    rule = make(name, architecture)
    broken = batch()
    broken.x[0, 0, 0, 0] = float("inf")
    with pytest.raises(CorticodeError, match="diverged"):
        rule.step(broken)
    rule = make(name, architecture)
    last = rule.net[rule.net.taps[-1]].affine
    with torch.no_grad():
        last.bias.fill_(-1e6)
    with pytest.raises(CorticodeError, match="dead or cut off"):
        rule.step(batch())


def test_untrained_has_no_step():
    assert make("untrained", "cnn3").stages(5) == ()
    with pytest.raises(CorticodeError, match="trains nothing"):
        make("untrained", "cnn3").step(batch())


def _gradients(rule, given):
    rule.net.train()
    rule.net.zero_grad()
    rule.gradients(given)
    return {key: value.grad.double() for key, value in rule.net.named_parameters() if value.grad is not None}


@each_trained
def test_u10_the_update_is_the_mean_over_the_batch(name, architecture):
    rule, given = make(name, architecture, dtype=torch.float64), batch(dtype=torch.float64)
    once = _gradients(rule, given)
    twice = _gradients(rule, Batch(torch.cat([given.x, given.x]), torch.cat([given.y, given.y])))
    for key, expected in once.items():
        torch.testing.assert_close(twice[key], expected, rtol=1e-8, atol=1e-12)


@each_trained
def test_u12_single_precision_agrees_with_double(name, architecture):
    single = _gradients(make(name, architecture), batch())
    double = _gradients(make(name, architecture, dtype=torch.float64), batch(dtype=torch.float64))
    for key, expected in double.items():
        assert float((single[key] - expected).norm()) < 1e-4 * float(expected.norm()), key


def test_random_features_refuses_networks_without_convolutions():
    with pytest.raises(Unsupported, match="no convolutional block to freeze"):
        make("random_features", "mlp")
