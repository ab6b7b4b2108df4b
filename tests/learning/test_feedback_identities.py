"""Identities of the rules with other feedback (sign-symmetry, Kolen-Pollack, weight mirror, target projection), float64.

Each check fails for named, deliberate bugs.
"""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot
from updates import cosine, exact_gradients, gradients

from decoders.errors import Unsupported
from decoders.learning.registry import create
from decoders.learning.rule import RuleSpec
from decoders.learning.rules.feedback import DirectFeedbackAlignment, FeedbackAlignment
from decoders.learning.rules.gradient import RandomFeatures
from decoders.learning.rules.sign_symmetry import (
    BatchRandomSignSymmetry,
    FixedRandomSignSymmetry,
    UniformSignSymmetry,
)
from decoders.learning.rules.target_projection import DirectRandomTargetProjection, TargetProjectionSGD
from decoders.learning.rules.weight_mirror import KolenPollack, WeightMirror
from decoders.models.architectures import build_network, conv_network, dense_network
from decoders.models.networks import set_mode
from decoders.models.sequence import recurrent_network, transformer_network
from decoders.models.trainer import Batch, Stage

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}
N_SYMBOLS, N_CHARACTERS = 5, 4
SIGN_SYMMETRIC = [UniformSignSymmetry, BatchRandomSignSymmetry, FixedRandomSignSymmetry]


def dense(activation="tanh"):
    torch.manual_seed(1)
    return dense_network((9, 8, 7), n_classes=4, activation=activation, edge=2).double()


def conv(activation="tanh"):
    torch.manual_seed(0)
    return conv_network((4, 6), hidden=9, n_classes=4, activation=activation, positions=2).double()


def recurrent():
    torch.manual_seed(2)
    return recurrent_network(N_SYMBOLS, (6, 7)).double()


def transformer():
    torch.manual_seed(3)
    return transformer_network(N_SYMBOLS, n_units=8, layers=2, n_heads=2).double()


PICTURES, TEXT = [dense, conv], [recurrent, transformer]


def input_shape(net):
    return (N_CHARACTERS, N_SYMBOLS) if net.input_kind == "text" else (3, 8, 8)


def batch_for(net, n=6):
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(net.n_classes, (n,), generator=generator)
    if net.input_kind == "text":
        codes = torch.randint(N_SYMBOLS, (n, N_CHARACTERS), generator=generator)
        return Batch(one_hot(codes, N_SYMBOLS).double(), y)
    return Batch(torch.randn((n, 3, 8, 8), generator=generator, dtype=torch.float64), y)


def set_up(kind, net, rate=1e-2, n_steps=1, **options):
    rule = kind(**options)
    rule.setup(net, RuleSpec(input_shape(net), rate), seed=3)
    rule.begin_stage(Stage("all", 1), n_steps)
    return rule


def assert_equal(found, expected):
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


# ---- networks with a time axis --------------------------------------------------------------------------------------


def align(rule):
    for block in rule.net:
        rule.extra[f"feedback.{block.name}"].copy_(block.affine.weight.detach())
    return rule


class NoFeedbackThroughTime(FeedbackAlignment):
    """Mutation: the error stays in its time step."""

    def affine(self, block, x):
        if block.kind == "recurrent":
            x = torch.cat([x[:, : -block.n_units], x[:, -block.n_units :].detach()], 1)
        return super().affine(block, x)


class NoFeedbackOverTokens(FeedbackAlignment):
    """Mutation: of a sequence, only the last step updates the weights."""

    def affine(self, block, x):
        kept = torch.zeros_like(x)
        kept[..., -1:, :] = 1
        return super().affine(block, x * kept + (x * (1 - kept)).detach())


def check_fa_1(kind, build):
    net = build()
    batch = batch_for(net)
    expected = exact_gradients(net, batch)
    assert_equal(gradients(align(set_up(kind, net)), batch), expected)


@pytest.mark.parametrize("build", TEXT)
def test_fa_1_with_b_equal_w_is_backpropagation_through_time_and_attention(build):
    check_fa_1(FeedbackAlignment, build)


@pytest.mark.parametrize(("kind", "build"), [(NoFeedbackThroughTime, recurrent), (NoFeedbackOverTokens, transformer)])
def test_fa_1_fails_where_errors_do_not_cross_time(kind, build):
    with pytest.raises(AssertionError):
        check_fa_1(kind, build)


class DirectThroughTime(DirectFeedbackAlignment):
    """Mutation: within a recurrent layer the signal goes on through the transposed recurrent weights."""

    def gradients(self, batch):
        reached = {}

        def cut(block, h):
            reached[block.name] = h[:, -1]
            return h.detach()

        logits = self.net.run(batch.x, after=cut).logits
        error = self.error(logits.detach(), batch)
        signals = [self.signal(name, h.detach(), error) for name, h in reached.items()]
        torch.autograd.backward([*reached.values(), logits], [*signals, error])


def check_dfa_in_time(kind):
    """Closed form: dW = sum over inputs of (B e * (1 - h_T^2)) [x_T, h_{T-1}]^T, at the last step T only."""
    net = recurrent()
    batch = batch_for(net)
    rule = set_up(kind, net)
    found = gradients(rule, batch)
    with torch.no_grad():
        outcome = net.run(batch.x)
        error = rule.error(outcome.logits, batch)
        below = batch.x
        for name, states in outcome.taps.items():
            delta = (error @ rule.extra[f"feedback.{name}"]) * (1 - states[:, -1] ** 2)
            expected = delta.T @ torch.cat([net[name].reduce(below)[:, -1], states[:, -2]], 1)
            torch.testing.assert_close(found[f"blocks.{name}.affine.weight"], expected, **TOLERANCE)
            below = states


def test_dfa_sends_nothing_through_the_recurrent_weights():
    check_dfa_in_time(DirectFeedbackAlignment)


def test_dfa_in_time_fails_when_the_signal_goes_on_through_the_recurrent_weights():
    with pytest.raises(AssertionError):
        check_dfa_in_time(DirectThroughTime)


def test_random_features_freezes_the_reservoir_and_the_transformer():
    for build in TEXT:
        rule = set_up(RandomFeatures, build())
        assert [layer for layer, claimed in rule.claims().items() if claimed] == ["output"]


@pytest.mark.parametrize("name", ["backprop", "feedback_alignment", "kolen_pollack", "target_projection_sgd"])
def test_spiking_networks_are_refused_with_the_rule_to_use(name):
    with pytest.raises(Unsupported, match="surrogate_bptt"):
        create(name).setup(build_network("spikingmlp", 4, 0, 0.1), RuleSpec((3, 16, 16)), 0)


# ---- sign-symmetry --------------------------------------------------------------------------------------------------


class StaleSigns:
    """Mutation: the signs are those of the initial weights."""

    def follow_signs(self):
        if not hasattr(self, "written"):
            super().follow_signs()
        self.written = True


class WeightTransport(UniformSignSymmetry):
    """Mutation: B = W."""

    def follow_signs(self):
        for block in self.passed():
            self.feedback(block).copy_(block.affine.weight.detach())


def check_ss_1(kind, net):
    rule = set_up(kind, net, rate=0.05, n_steps=10)
    initial = {block.name: block.affine.weight.detach().sign() for block in rule.passed()}
    for _ in range(10):
        before = {block.name: block.affine.weight.detach().sign() for block in rule.passed()}
        rule.step(batch_for(net))
        for block in rule.passed():
            assert torch.equal(rule.feedback(block).sign(), before[block.name])
    assert any((initial[name] != before[name]).any() for name in initial), "no weight changed its sign: a void check"


@pytest.mark.parametrize("kind", SIGN_SYMMETRIC)
@pytest.mark.parametrize("build", PICTURES)
def test_ss_1_b_has_the_signs_of_w(kind, build):
    check_ss_1(kind, build())


@pytest.mark.parametrize("kind", SIGN_SYMMETRIC)
def test_ss_1_fails_with_the_initial_signs(kind):
    with pytest.raises(AssertionError):
        check_ss_1(type("Mutant", (StaleSigns, kind), {}), dense())


def check_ss_2(kind, draw, expected):
    net = dense_network((300, 200), n_classes=10, edge=2).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for block in net:
            block.affine.weight.copy_(draw(block.affine.weight.shape, generator))
    assert set_up(kind, net).alignment() == pytest.approx(expected, abs=5e-3)


def gaussian(shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform(shape, generator):
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize(("draw", "expected"), [(gaussian, math.sqrt(2 / math.pi)), (uniform, math.sqrt(3) / 2)])
def test_ss_2_cosine_of_w_and_its_signs(draw, expected):
    check_ss_2(UniformSignSymmetry, draw, expected)
    with pytest.raises(AssertionError):
        check_ss_2(WeightTransport, draw, expected)


def check_ss_3(kind, net):
    """The error that a layer sends down does not depend on the scale of its weights."""
    rule = set_up(kind, net)
    block = rule.passed()[-1]
    x = torch.randn(5, block.affine.in_features, dtype=torch.float64, requires_grad=True)
    delta = torch.randn(5, net.n_classes, dtype=torch.float64)

    def sent():
        rule.generator.manual_seed(11)
        rule.follow_signs()
        return torch.autograd.grad(rule.affine(block, x), x, delta)[0]

    before = sent()
    with torch.no_grad():
        block.affine.weight.mul_(3.7)
    torch.testing.assert_close(sent(), before, **TOLERANCE)


@pytest.mark.parametrize("kind", SIGN_SYMMETRIC)
def test_ss_3_scaling_w_leaves_the_error_below(kind):
    check_ss_3(kind, dense())


def test_ss_3_fails_with_weight_transport():
    with pytest.raises(AssertionError):
        check_ss_3(WeightTransport, dense())


def test_the_three_magnitudes():
    net = dense()
    spread = {block.name: float(block.affine.weight.detach().std()) for block in net}
    rules = [set_up(kind, net, n_steps=2) for kind in SIGN_SYMMETRIC]
    block = rules[0].passed()[0]
    drawn = []
    for rule in rules:
        rule.follow_signs()
        first = rule.feedback(block).abs().clone()
        rule.follow_signs()
        drawn.append((first, rule.feedback(block).abs().clone()))
    (uniform_first, uniform_next), (batch_first, batch_next), (fixed_first, fixed_next) = drawn
    torch.testing.assert_close(uniform_first, torch.full_like(uniform_first, spread[block.name]))
    assert torch.equal(uniform_first, uniform_next)
    assert torch.equal(fixed_first, fixed_next)
    assert fixed_first.std() > 0
    assert not torch.equal(batch_first, batch_next)


# ---- Kolen-Pollack --------------------------------------------------------------------------------------------------


class CoupledDecay(KolenPollack):
    """Mutation: the decay passes through the moments of Adam, which differ between W and B."""

    def make_optimizer(self, parameters):
        moving = [*parameters, *self.companions["feedback"].parameters()]
        return torch.optim.Adam(
            [{"params": moving, "scale": 1.0}], lr=self.learning_rate, betas=self.betas, weight_decay=0.3
        )


class NoDecayOfB(KolenPollack):
    """Mutation: only W decays."""

    def make_optimizer(self, parameters):
        optimizer = super().make_optimizer(parameters)
        feedback = {id(b) for b in self.companions["feedback"].parameters()}
        (group,) = optimizer.param_groups
        mine = [p for p in group["params"] if id(p) in feedback]
        group["params"] = [p for p in group["params"] if id(p) not in feedback]
        optimizer.add_param_group({"params": mine, "scale": 1.0, "weight_decay": 0.0})
        return optimizer


class OtherUpdate(KolenPollack):
    """Mutation: B gets half of W's update."""

    def gradients(self, batch):
        outcome = super().gradients(batch)
        for weight in self.companions["feedback"].parameters():
            weight.grad *= 0.5
        return outcome


def check_kp_1(kind, net, optimizer):
    rule = set_up(kind, net, rate=0.02, n_steps=12, optimizer=optimizer, weight_decay=0.3)
    before = {block.name: (block.affine.weight - rule.feedback(block)).detach() for block in rule.passed()}
    kept = 1.0
    for _ in range(12):
        kept *= 1 - 0.3 * rule.step(batch_for(net)).learning_rate
    for block in rule.passed():
        difference = (block.affine.weight - rule.feedback(block)).detach()
        torch.testing.assert_close(difference, kept * before[block.name], rtol=1e-9, atol=1e-12)
    assert kept < 0.98


@pytest.mark.parametrize("optimizer", ["plain_sgd", "adam"])
@pytest.mark.parametrize("build", [dense, conv, recurrent])
def test_kp_1_the_difference_decays_exactly(build, optimizer):
    check_kp_1(KolenPollack, build(), optimizer)


@pytest.mark.parametrize(
    ("kind", "optimizer"), [(CoupledDecay, "adam"), (NoDecayOfB, "plain_sgd"), (OtherUpdate, "plain_sgd")]
)
def test_kp_1_fails_for_the_mutations(kind, optimizer):
    with pytest.raises(AssertionError):
        check_kp_1(kind, dense(), optimizer)


def test_kolen_pollack_becomes_backpropagation():
    net = dense()
    rule = set_up(KolenPollack, net, rate=0.02, n_steps=150, weight_decay=0.1)
    start = rule.alignment()
    for _ in range(150):
        rule.step(batch_for(net))
    assert start < 0.5
    assert rule.alignment() > 0.9


# ---- weight mirror --------------------------------------------------------------------------------------------------


class UnrelatedNoise(WeightMirror):
    """Mutation: the answer is to other noise than the one that B is correlated with."""

    def mirror(self, block):
        weight = block.affine.weight
        answer = self.noise(block) @ weight.flatten(1).T
        estimate = (answer.T @ self.noise(block) / len(answer)).view(weight.shape)
        self.feedback(block).lerp_(estimate, self.option["mirror_rate"])


class BiasedNoise(WeightMirror):
    """Mutation: noise with a mean (inputs are active on average)."""

    def noise(self, block):
        return super().noise(block) + 2.0


def check_mirror(kind, build):
    """E[B] = W: direction and size; the standard error of an entry falls with draws and memory."""
    net = build()
    rule = set_up(kind, net, mirror_draws=500, mirror_rate=0.05)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for _ in range(120):
        with torch.no_grad():
            rule.post_step()
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert rule.passed()
    for block in rule.passed():
        weight, feedback = block.affine.weight.detach(), rule.feedback(block)
        assert cosine(weight, feedback) > 0.99
        assert float(feedback.norm() / weight.norm()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("build", [dense, conv, recurrent, transformer])
def test_mirror_feedback_converges_to_the_forward_weights(build):
    check_mirror(WeightMirror, build)


@pytest.mark.parametrize("kind", [UnrelatedNoise, BiasedNoise])
def test_mirror_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_mirror(kind, dense)


# ---- target projection ----------------------------------------------------------------------------------------------


def hidden(found, net):
    return {name: value for name, value in found.items() if not name.startswith(f"blocks.{net.layers[-1]}.")}


def check_drtp_1(kind, net):
    """Hidden updates know neither the output weights nor the logits."""
    rule, batch = set_up(kind, net), batch_for(net)
    before = hidden(gradients(rule, batch), net)
    with torch.no_grad():
        for parameter in net["output"].parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(5))
    after = gradients(rule, batch)
    for name, value in before.items():
        assert torch.equal(after[name], value), name


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        (DirectRandomTargetProjection, dense),
        (DirectRandomTargetProjection, conv),
        (TargetProjectionSGD, dense),
        (TargetProjectionSGD, conv),
        (TargetProjectionSGD, recurrent),
    ],
)
def test_drtp_1_hidden_updates_do_not_depend_on_the_output(kind, build):
    check_drtp_1(kind, build())


def test_drtp_1_fails_for_the_projected_error():
    with pytest.raises(AssertionError):
        check_drtp_1(DirectFeedbackAlignment, dense())


def signs_of_the_error(labels):
    return 1 - 2 * one_hot(labels, 7)


def labels_themselves(labels):
    """Mutation: the label in place of minus the label."""
    return 2 * one_hot(labels, 7) - 1


def check_drtp_2(known):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((500, 7), generator=generator, dtype=torch.float64) * 5
    labels = torch.randint(7, (500,), generator=generator)
    assert torch.equal(torch.sign(logits.softmax(1) - one_hot(labels, 7)), known(labels).double())


def test_drtp_2_the_sign_of_the_error_is_known_beforehand():
    check_drtp_2(signs_of_the_error)
    with pytest.raises(AssertionError):
        check_drtp_2(labels_themselves)


class DirectLabels(DirectFeedbackAlignment):
    """DFA that is given y*/n for the error in the hidden layers, with DRTP's B."""

    def prepare(self):
        super().prepare()
        for feedback in self.extra.values():
            feedback -= feedback.mean(0)

    def broadcast(self, error, batch):
        return one_hot(batch.y, error.shape[1]).to(error) / len(error)


class OtherSign(DirectRandomTargetProjection):
    """Mutation: -y*."""

    def broadcast(self, error, batch):
        return -super().broadcast(error, batch)


class SumOverBatch(DirectRandomTargetProjection):
    """Mutation: the sum over the batch in place of the mean."""

    def broadcast(self, error, batch):
        return super().broadcast(error, batch) * len(error)


def check_drtp_3(kind, build):
    net = build()
    batch = batch_for(net)
    expected = gradients(set_up(DirectLabels, net), batch)
    assert_equal(gradients(set_up(kind, net), batch), expected)


@pytest.mark.parametrize("build", PICTURES)
def test_drtp_3_is_dfa_with_the_label_for_the_error(build):
    check_drtp_3(DirectRandomTargetProjection, build)


@pytest.mark.parametrize("kind", [OtherSign, SumOverBatch])
def test_drtp_3_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_drtp_3(kind, dense)


class FullError(TargetProjectionSGD):
    """Mutation: the target is the projected error, which depends on the output."""

    def broadcast(self, error, batch):
        return error


class SumOfTargets(TargetProjectionSGD):
    """Mutation: the sum over the batch in place of the mean."""

    def signal(self, tap, h, vector):
        return super().signal(tap, h, vector) * len(h)


LAYER_LOSSES = {
    "squared": lambda h, t: 0.5 * (h - t).square().sum(),
    "absolute": lambda h, t: (h - t).abs().sum(),
    "product": lambda h, t: -(h * t).sum(),
}


def check_target_projection(kind, build, layer_loss):
    """Each layer descends its own loss, with the layer below as given."""
    net = build()
    batch = batch_for(net)
    rule = set_up(kind, net, layer_loss=layer_loss)
    found = gradients(rule, batch)
    set_mode(net, training=True)
    losses = []

    def compare(block, h):
        now = net.summarise(h)
        target = rule.extra[f"feedback.{block.name}"][batch.y].view_as(now)
        losses.append(LAYER_LOSSES[layer_loss](now, target) / len(batch.y))
        return h.detach()

    def in_its_step(block, x):
        return block.affine(x.detach() if block.kind == "recurrent" else x)

    logits = net.run(batch.x, affine=in_its_step, after=compare).logits
    total = sum(losses) + cross_entropy(logits, batch.y)
    names, parameters = zip(*net.named_parameters(), strict=True)
    assert_equal(found, dict(zip(names, torch.autograd.grad(total, parameters), strict=True)))


@pytest.mark.parametrize("layer_loss", LAYER_LOSSES)
@pytest.mark.parametrize("build", [dense, conv, recurrent])
def test_target_projection_descends_the_losses_of_single_layers(build, layer_loss):
    check_target_projection(TargetProjectionSGD, build, layer_loss)


@pytest.mark.parametrize("kind", [FullError, SumOfTargets])
def test_target_projection_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_target_projection(kind, dense, "squared")


def test_target_projection_with_the_product_is_drtp():
    net = dense()
    batch = batch_for(net)
    rule, other = set_up(TargetProjectionSGD, net, layer_loss="product"), set_up(DirectRandomTargetProjection, net)
    for name, feedback in other.extra.items():
        feedback.copy_(-rule.extra[name])
    assert_equal(gradients(rule, batch), gradients(other, batch))
