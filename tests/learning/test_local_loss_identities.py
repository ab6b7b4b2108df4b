"""Local losses, auxiliary networks and cascaded forward in float64; each check fails for named, deliberate bugs."""

import pytest
import torch
from local_nets import CLOSE, EDGE, N_CLASSES, NotCut, assert_equal, batch_for, conv, dense, residual, set_up
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from updates import exact_gradients
from updates import written_gradients as gradients

from decoders.errors import SettingsError
from decoders.learning.registry import create
from decoders.learning.rule import RuleSpec
from decoders.learning.rules import local_losses
from decoders.learning.rules.auxiliary import AugLocal, MomentumAuxiliary, pyramid_depth, sampled_layers
from decoders.learning.rules.cascaded_forward import CascadedForward
from decoders.learning.rules.local_losses import (
    LocalLossPred,
    LocalLossPredSim,
    LocalLossSim,
    ModuleRule,
    isolated_taps,
    module_ends,
    similarity,
)
from decoders.learning.rules.mono_forward import MonoForward
from decoders.models.sequence import recurrent_network, transformer_network
from decoders.models.trainer import Batch

# ---- pred, sim, predsim ---------------------------------------------------------------------------------------------


def plain_cosine(h):
    """Mutation: not centred."""
    unit = nn.functional.normalize(h, dim=1)
    return unit @ unit.T


def check_ps_1(function):
    generator = torch.Generator().manual_seed(0)
    h = torch.rand((6, 9), generator=generator, dtype=torch.float64)
    scale, shift = torch.rand((2, 6, 1), generator=generator, dtype=torch.float64) + 0.5
    expected = function(h)
    torch.testing.assert_close(expected.diagonal(), torch.ones(6).double(), **CLOSE)
    for other in (scale * h, h + shift, h[:, torch.randperm(9, generator=generator)]):
        torch.testing.assert_close(function(other), expected, **CLOSE)


def test_ps_1_similarity_ignores_scale_shift_and_order_of_units():
    check_ps_1(similarity)


def test_ps_1_fails_without_centring():
    with pytest.raises(AssertionError):
        check_ps_1(plain_cosine)


class ExchangedWeights(LocalLossPredSim):
    """Mutation: beta weighs the cross-entropy, as in some re-implementations."""

    @property
    def beta(self):
        return 1 - float(self.option["beta"])


def parts_of(rule, name, batch):
    taps = rule.net.run(batch.x).taps
    head = rule.companions[name]
    scores = cross_entropy(head.scores(taps[name]), batch.y)
    wanted = similarity(one_hot(batch.y, N_CLASSES).double())
    return taps, scores, (similarity(head.map(taps[name])) - wanted).square().mean()


def check_ps_2_convention(kind):
    rule = set_up(kind, dense())
    batch = batch_for(rule.net)
    taps, scores, match = parts_of(rule, "fc2", batch)
    torch.testing.assert_close(rule.local_loss("fc2", taps, batch), 0.01 * scores + 0.99 * match, **CLOSE)


def test_ps_2_beta_is_99_percent_on_the_similarity():
    check_ps_2_convention(LocalLossPredSim)


def test_ps_2_fails_with_the_weights_exchanged():
    with pytest.raises(AssertionError):
        check_ps_2_convention(ExchangedWeights)


def test_ps_2_the_ends_of_beta_are_pred_and_sim():
    for beta, kind in ((0.0, LocalLossPred), (1.0, LocalLossSim)):
        net = conv()
        batch = batch_for(net)
        assert_equal(gradients(set_up(LocalLossPredSim, net, beta=beta), batch), gradients(set_up(kind, net), batch))


def test_ps_single_inputs_have_no_pairs_and_teach_nothing():
    rule = set_up(LocalLossSim, dense())
    before = rule.net.state_dict()["blocks.fc1.affine.weight"].clone()
    batch = batch_for(rule.net, 1)
    assert rule.step(batch).loss == 0.0
    assert torch.equal(rule.net["fc1"].affine.weight, before)


MODULAR = [LocalLossPred, LocalLossSim, LocalLossPredSim, MonoForward, AugLocal, MomentumAuxiliary]


def check_ps_4(kind, net, **options):
    batch = batch_for(net)
    assert_equal(gradients(set_up(kind, net, **options), batch), exact_gradients(net, batch))


@pytest.mark.parametrize("kind", MODULAR)
@pytest.mark.parametrize("build", [dense, conv, residual])
def test_ps_4_one_module_is_backpropagation(kind, build):
    check_ps_4(kind, build(), modules=1)


@pytest.mark.parametrize("kind", MODULAR)
@pytest.mark.parametrize("build", [dense, conv, residual])
def test_ps_4_fails_with_two_modules(kind, build):
    with pytest.raises(AssertionError):
        check_ps_4(kind, build(), modules=2)


def rnn():
    torch.manual_seed(5)
    return recurrent_network(N_CLASSES, (6, 7, 4)).double()


def transformer():
    torch.manual_seed(6)
    return transformer_network(N_CLASSES, n_units=8, layers=2, n_heads=2).double()


def check_locality(kind, net, **options):
    """What stands above a module does not matter to it, and the module's loss reaches nothing below."""
    batch = batch_for(net)
    rule = set_up(kind, net, **options)
    before = gradients(rule, batch)
    for end in rule.ends:
        own = net.layers[: net.layers.index(end) + 1]
        state = {key: value.clone() for key, value in net.state_dict().items()}
        for layer in net.layers[len(own) :]:
            net[layer].affine.reset_parameters()
        found = gradients(rule, batch)
        net.load_state_dict(state)
        for name in own:
            assert_equal(found, before, only=f"blocks.{name}.")


@pytest.mark.parametrize("kind", MODULAR)
@pytest.mark.parametrize("build", [dense, conv, residual, rnn, transformer])
def test_redrawn_layers_above_a_module_do_not_matter_to_it(kind, build):
    check_locality(kind, build())


@pytest.mark.parametrize("kind", MODULAR)
@pytest.mark.parametrize("build", [dense, conv, residual])
def test_locality_fails_when_the_graph_is_not_cut(kind, build):
    mutant = type("Mutant", (NotCut, kind), {})
    with pytest.raises(AssertionError):
        check_locality(mutant, build())


def test_locality_of_larger_modules_holds_with_skip_connections(monkeypatch):
    net = residual()
    check_locality(LocalLossPred, net, modules=3)
    # Mutation: cuts that a skip connection passes over.
    monkeypatch.setattr(local_losses, "isolated_taps", lambda net: net.taps)
    assert "conv2" in module_ends(net, 5, net.taps)
    with pytest.raises(AssertionError):
        check_locality(LocalLossPred, net, modules=5)


def test_modules_are_cut_where_no_skip_connection_passes():
    net = residual()
    assert isolated_taps(net) == ["conv1", "conv3", "conv5", "conv7", "conv9"]
    assert module_ends(net, 2, net.taps) == ["conv5"]
    assert module_ends(net, 6, net.taps) == isolated_taps(net)
    assert module_ends(net, 0, net.taps) == net.taps
    with pytest.raises(SettingsError, match="6 at most"):
        module_ends(net, 7, net.taps)


# ---- auxiliary networks ---------------------------------------------------------------------------------------------


def test_auglocal_samples_later_layers_evenly_up_to_the_last():
    assert sampled_layers(0, 16, 3) == [5, 10, 15]
    assert sampled_layers(12, 16, 5) == [13, 14, 15]
    assert [pyramid_depth(layer, 5, 4, 1) for layer in range(4)] == [4, 3, 2, 1]


def test_auglocal_networks_have_the_form_of_the_sampled_layers():
    rule = set_up(AugLocal, conv(), deepest=2)
    assert rule.ends == ["conv1", "conv2"]
    first = rule.companions["conv1"]["layers"]
    widths = [(copy.block.affine.weight.shape[0], copy.block.affine.weight.shape[1]) for copy in first]
    assert widths == [(6, 4), (16, 24)]
    assert [len(rule.companions[name]["layers"]) for name in rule.ends] == [2, 1]
    # Weights of their own: nothing is shared with the network.
    shared = {id(p) for p in rule.net.parameters()} & {id(p) for p in rule.companions.parameters()}
    assert not shared


class ExchangedMomentum(MomentumAuxiliary):
    """Mutation: m weighs the layer above, not the average."""

    def post_step(self):
        self.option["momentum"] = 1 - self.option["momentum"]
        super().post_step()
        self.option["momentum"] = 1 - self.option["momentum"]


def check_man_1(kind, momentum):
    net = conv()
    rule = set_up(kind, net, momentum=momentum)
    batch = batch_for(net)
    start = {end: [p.detach().clone() for p in rule.above(end).parameters()] for end in rule.ends}
    rule.step(batch)
    for end in rule.ends:
        averages = rule.companions[end]["average"].parameters()
        for average, old, new in zip(averages, start[end], rule.above(end).parameters(), strict=True):
            assert not torch.equal(old, new)
            torch.testing.assert_close(average.data, momentum * old + (1 - momentum) * new.data, **CLOSE)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_man_1_averages_follow_the_layer_above(momentum):
    check_man_1(MomentumAuxiliary, momentum)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_man_1_fails_with_the_momentum_exchanged(momentum):
    with pytest.raises(AssertionError):
        check_man_1(ExchangedMomentum, momentum)


def test_man_averages_are_in_no_optimizer():
    rule = set_up(MomentumAuxiliary, conv())
    optimised = {id(p) for group in rule.optimizer.param_groups for p in group["params"]}
    for end in rule.ends:
        assert not {id(p) for p in rule.companions[end]["average"].parameters()} & optimised
        assert {id(p) for p in rule.companions[end]["bias"].parameters()} <= optimised


# ---- cascaded forward -----------------------------------------------------------------------------------------------


class Unregularised(CascadedForward):
    """Mutation: the ridge is passed and not used."""

    def post_step(self):
        ridge, self.option["ridge"] = self.option["ridge"], 1e-12
        super().post_step()
        self.option["ridge"] = ridge


def fit(rule, batches):
    (stage,) = rule.stages(1)
    rule.begin_stage(stage, len(batches))
    for batch in batches:
        rule.step(batch)


def check_cf_1(kind, net):
    rule = set_up(kind, net, ridge=0.02)
    start = {key: value.clone() for key, value in net.state_dict().items()}
    untrained = rule.features(batch_for(net).x)
    whole = batch_for(net, 40)
    fit(rule, [Batch(whole.x[i::3], whole.y[i::3]) for i in range(3)])
    targets = one_hot(whole.y, N_CLASSES).double()
    for name, tap in rule.features(whole.x).items():
        head = rule.companions[name]
        x = torch.cat([head.inputs(tap), torch.ones((40, 1)).double()], 1)
        w = torch.cat([head.linear.weight, head.linear.bias[:, None]], 1).T
        residual = x.T @ (x @ w - targets) + 0.02 * 40 * w
        torch.testing.assert_close(residual.detach(), torch.zeros_like(residual), rtol=0, atol=1e-10)
    assert all(torch.equal(value, start[key]) for key, value in net.state_dict().items())
    assert all(torch.equal(tap, untrained[name]) for name, tap in rule.features(batch_for(net).x).items())


@pytest.mark.parametrize("build", [dense, conv, residual])
def test_cf_1_heads_solve_the_ridge_regression_and_nothing_else_moves(build):
    check_cf_1(CascadedForward, build())


def test_cf_1_fails_without_the_ridge():
    with pytest.raises(AssertionError):
        check_cf_1(Unregularised, dense())


@pytest.mark.parametrize("head", ["closed_form", "cross_entropy"])
def test_cf_features_are_those_of_the_untrained_network(head):
    net, plain = conv(), create("untrained")
    rule = set_up(CascadedForward, net, head=head)
    batch = batch_for(net, 10)
    fit(rule, [batch] * 30)
    plain.setup(conv(), RuleSpec((3, EDGE, EDGE)), seed=0)
    expected = plain.features(batch.x)
    assert all(torch.equal(tap, expected[name]) for name, tap in rule.features(batch.x).items())
    assert rule.claims() == dict.fromkeys(net.layers, False)
    assert float((rule.native_logits(batch.x).argmax(1) == batch.y).double().mean()) >= 0.9


def test_every_module_rule_is_covered_here():
    subclasses, found = [ModuleRule], set()
    while subclasses:
        kind = subclasses.pop()
        subclasses += kind.__subclasses__()
        if kind.__module__.startswith("decoders.") and "info" in vars(kind):
            found.add(kind)
    assert found == set(MODULAR)
