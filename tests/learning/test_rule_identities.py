"""Gradients of the rules against autograd and closed forms in float64; each check fails for named, deliberate bugs."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import conv_transpose2d, cross_entropy, fold, one_hot, unfold
from updates import StraightThrough, cosine, exact_gradients, gradients

from decoders.learning.autograd import FeedbackAffine, SignalReplace
from decoders.learning.rule import Outcome, RuleSpec
from decoders.learning.rules.feedback import DirectFeedbackAlignment, FeedbackAlignment
from decoders.learning.rules.gradient import Backprop
from decoders.models.architectures import conv_network, dense_network
from decoders.models.networks import Block, Network
from decoders.models.trainer import Batch, Stage

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


def square_conv_network(activation="tanh"):
    """All maps square (4 channels, 16 units, 16 classes), so that a transposed B has the right shape."""
    torch.manual_seed(0)
    return conv_network((4, 4), hidden=16, n_classes=16, activation=activation, positions=2).double()


def square_dense_network(activation="tanh", depth=3):
    torch.manual_seed(1)
    return dense_network((12,) * depth, n_classes=12, activation=activation, edge=2).double()


def batch_for(net, n=6, edge=8):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn((n, 3, edge, edge), generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(net.n_classes, (n,), generator=generator))


def set_up(kind, net, edge=8, rate=1e-2):
    rule = kind()
    rule.setup(net, RuleSpec((3, edge, edge), rate), seed=3)
    return rule


def assert_equal(found, expected, only=""):
    compared = [name for name in expected if name.startswith(only)]
    assert compared
    for name in compared:
        torch.testing.assert_close(
            found[name], expected[name], **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
        )


def without_derivatives(net):
    for block in net:
        if block.kind != "output":
            block.activation = StraightThrough(block.activation)


class MissingDerivative:
    """Mutation: f' is left out."""

    def gradients(self, batch):
        originals = {block.name: block.activation for block in self.net}
        without_derivatives(self.net)
        outcome = super().gradients(batch)
        for block in self.net:
            block.activation = originals[block.name]
        return outcome


# ---- backpropagation ------------------------------------------------------------------------------------------------


def strided_network():
    """A convolution with stride and padding, batch norm and tanh; then two fully connected maps."""
    torch.manual_seed(4)
    conv = Block("conv1", "conv", nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Tanh())
    fc = Block("fc1", "fc", nn.Linear(4 * 16, 5), activation=nn.Tanh(), reduce=nn.Flatten())
    net = Network("strided", "conv", [conv, fc, Block("output", "output", nn.Linear(5, 3))]).double()
    nn.init.uniform_(net["conv1"].norm.weight, 0.5, 1.5)
    return net


def hand_backward(net, batch):
    """Return all gradients of `strided_network`, without autograd."""
    x, n = batch.x, len(batch.x)
    conv, norm, fc, out = net["conv1"].affine, net["conv1"].norm, net["fc1"].affine, net["output"].affine
    columns = unfold(x, 3, padding=1, stride=2)  # picture, 27, position
    z = torch.einsum("of,nfp->nop", conv.weight.flatten(1), columns) + conv.bias[:, None]
    mean, variance = z.mean((0, 2), keepdim=True), z.var((0, 2), unbiased=False, keepdim=True)
    z_hat = (z - mean) / (variance + norm.eps).sqrt()
    h1 = torch.tanh(norm.weight[:, None] * z_hat + norm.bias[:, None])
    h2 = torch.tanh(h1.flatten(1) @ fc.weight.T + fc.bias)
    e = ((h2 @ out.weight.T + out.bias).softmax(1) - one_hot(batch.y, 3)) / n
    d2 = (e @ out.weight) * (1 - h2**2)
    d1 = (d2 @ fc.weight).view_as(h1) * (1 - h1**2)
    g = d1 * norm.weight[:, None]
    centred = g - g.mean((0, 2), keepdim=True) - z_hat * (g * z_hat).mean((0, 2), keepdim=True)
    dz = centred / (variance + norm.eps).sqrt()
    return {
        "blocks.conv1.affine.weight": torch.einsum("nop,nfp->of", dz, columns).view_as(conv.weight),
        "blocks.conv1.affine.bias": dz.sum((0, 2)),
        "blocks.conv1.norm.weight": (d1 * z_hat).sum((0, 2)),
        "blocks.conv1.norm.bias": d1.sum((0, 2)),
        "blocks.fc1.affine.weight": d2.T @ h1.flatten(1),
        "blocks.fc1.affine.bias": d2.sum(0),
        "blocks.output.affine.weight": e.T @ h2,
        "blocks.output.affine.bias": e.sum(0),
    }


def check_bp_1(kind):
    net = strided_network()
    batch = batch_for(net)
    assert_equal(gradients(set_up(kind, net), batch), hand_backward(net, batch))


def test_bp_1_equals_the_hand_written_backward_pass():
    check_bp_1(Backprop)


def test_bp_1_fails_without_the_derivative():
    class Mutant(MissingDerivative, Backprop):
        pass

    with pytest.raises(AssertionError):
        check_bp_1(Mutant)


# ---- feedback alignment ---------------------------------------------------------------------------------------------


def align(rule):
    """Set B to W: the same storage, so that `delta @ B` is `delta @ W`."""
    for block in rule.net:
        rule.extra[f"feedback.{block.name}"].copy_(block.affine.weight.detach())
    return rule


class TransposedB(FeedbackAlignment):
    """Mutation: B is used with its axes exchanged."""

    def affine(self, block, x):
        feedback = self.extra[f"feedback.{block.name}"]
        square = feedback.shape[0] == feedback.shape[1]
        conv = block.affine if isinstance(block.affine, nn.Conv2d) else None
        other = feedback.transpose(0, 1).contiguous() if square else feedback
        return FeedbackAffine.apply(x, block.affine.weight, block.affine.bias, other, conv)


class FeedbackMissingDerivative(MissingDerivative, FeedbackAlignment):
    pass


class FeedbackBeforeDerivative(FeedbackAlignment):
    """Mutation: delta_l = B (delta_{l+1} * f'(z_l)), the derivative on the wrong side of B (tanh, square maps)."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias, feedback):
            ctx.save_for_backward(x, feedback)
            return nn.functional.linear(x, weight, bias)

        @staticmethod
        def backward(ctx, delta):
            x, feedback = ctx.saved_tensors
            return (delta * (1 - x**2)) @ feedback, delta.T @ x, delta.sum(0), None

    def affine(self, block, x):
        if block.affine.weight.shape[0] != block.affine.weight.shape[1]:
            return super().affine(block, x)
        feedback = self.extra[f"feedback.{block.name}"]
        return self.Wrong.apply(x, block.affine.weight, block.affine.bias, feedback)

    def gradients(self, batch):
        for block in self.net:
            if block.kind != "output" and not isinstance(block.activation, StraightThrough):
                block.activation = StraightThrough(block.activation)
        return super().gradients(batch)


def check_fa_1(kind, build):
    net = build()
    batch = batch_for(net)
    expected = exact_gradients(net, batch)
    assert_equal(gradients(align(set_up(kind, net)), batch), expected)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_fa_1_with_b_equal_w_is_backpropagation(build, activation):
    check_fa_1(FeedbackAlignment, lambda: build(activation))


def test_fa_1_holds_with_stride():
    check_fa_1(FeedbackAlignment, strided_network)


@pytest.mark.parametrize("kind", [TransposedB, FeedbackMissingDerivative])
@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_fa_1_fails_for_the_mutations(build, kind):
    with pytest.raises(AssertionError):
        check_fa_1(kind, build)


def test_fa_1_fails_with_the_feedback_before_the_derivative():
    with pytest.raises(AssertionError):
        check_fa_1(FeedbackBeforeDerivative, square_dense_network)


@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_fa_2_random_b_leaves_the_output_exact_and_nothing_else(build):
    net = build()
    batch = batch_for(net)
    found, expected = gradients(set_up(FeedbackAlignment, net), batch), exact_gradients(net, batch)
    assert_equal(found, expected, only="blocks.output")
    for block in net:
        if block.kind != "output":
            name = f"blocks.{block.name}.affine.weight"
            assert abs(cosine(found[name], expected[name])) < 0.9


@pytest.mark.parametrize(("stride", "padding", "edge"), [(1, 0, 7), (2, 1, 7), (2, 1, 8), (3, 2, 10)])
def test_fa_3_convolution_is_the_adjoint_under_b(stride, padding, edge):
    conv = nn.Conv2d(3, 5, 3, stride=stride, padding=padding).double()
    feedback = torch.randn_like(conv.weight)
    x = torch.randn(2, 3, edge, edge, dtype=torch.float64, requires_grad=True)
    z = FeedbackAffine.apply(x, conv.weight, conv.bias, feedback, conv)
    torch.testing.assert_close(z, conv(x))
    delta = torch.randn_like(z)
    z.backward(delta)
    missing = edge - ((z.shape[2] - 1) * stride - 2 * padding + 3)
    reference = conv_transpose2d(delta, feedback, stride=stride, padding=padding, output_padding=missing)
    torch.testing.assert_close(x.grad, reference, **TOLERANCE)
    # <conv_B(x), delta> = <x, conv_B^T(delta)>, without calling the transposed convolution.
    forward = nn.functional.conv2d(x.detach(), feedback, stride=stride, padding=padding)
    torch.testing.assert_close((forward * delta).sum(), (x.detach() * x.grad).sum(), **TOLERANCE)
    # The kernel's own gradient is exact: by columns.
    columns = unfold(x.detach(), 3, padding=padding, stride=stride)
    expected = torch.einsum("nop,nfp->of", delta.flatten(2), columns).view_as(conv.weight)
    torch.testing.assert_close(conv.weight.grad, expected, **TOLERANCE)
    folded = fold(
        torch.einsum("of,nop->nfp", feedback.flatten(1), delta.flatten(2)), edge, 3, padding=padding, stride=stride
    )
    torch.testing.assert_close(x.grad, folded, **TOLERANCE)


def check_b_is_fixed(kind, net):
    rule = set_up(kind, net)
    rule.begin_stage(Stage("all", 1), 10)
    before = {name: value.clone() for name, value in rule.extra.items()}
    for _ in range(10):
        rule.step(batch_for(net))
    for name, value in before.items():
        assert torch.equal(rule.extra[name], value), name


class TrainedB(FeedbackAlignment):
    """Mutation: B is in the optimizer, with the update of W (that is Kolen-Pollack, not feedback alignment)."""

    def make_optimizer(self, parameters):
        return super().make_optimizer([*parameters, *self.extra.values()])

    def gradients(self, batch):
        outcome = super().gradients(batch)
        for block in self.net:
            self.extra[f"feedback.{block.name}"].grad = block.affine.weight.grad.clone()
        return outcome


@pytest.mark.parametrize("kind", [FeedbackAlignment, DirectFeedbackAlignment])
@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_fa_3_feedback_weights_never_move(kind, build):
    check_b_is_fixed(kind, build())


def test_fa_3_fails_with_b_in_the_optimizer():
    with pytest.raises(AssertionError):
        check_b_is_fixed(TrainedB, square_dense_network())


def test_fa_4_forward_weights_align_with_the_feedback():
    """A linear student of a linear teacher: its update turns towards that of backpropagation (angle below 90 degrees)."""
    torch.manual_seed(5)
    net = dense_network((20,), n_classes=5, activation="identity", edge=2).double()
    teacher = torch.randn(12, 5, dtype=torch.float64)
    x = torch.randn(256, 3, 2, 2, dtype=torch.float64)
    batch = Batch(x, (x.flatten(1) @ teacher).argmax(1))
    rule = set_up(FeedbackAlignment, net, edge=2, rate=3e-3)
    name = "blocks.fc1.affine.weight"
    start = cosine(gradients(rule, batch)[name], exact_gradients(net, batch)[name])
    rule.begin_stage(Stage("all", 1), 300)
    for _ in range(300):
        rule.step(batch)
    end = cosine(gradients(rule, batch)[name], exact_gradients(net, batch)[name])
    assert end > 0.3
    assert end > start


# ---- direct feedback alignment --------------------------------------------------------------------------------------


class DirectMissingDerivative(MissingDerivative, DirectFeedbackAlignment):
    pass


class DirectBeforeDerivative(DirectFeedbackAlignment):
    """Mutation: the signal arrives before activation and norm, at the affine map."""

    def gradients(self, batch):
        signals = {}
        logits = self.net.run(
            batch.x,
            affine=lambda block, x: (
                block.affine(x) if block.kind == "output" else SignalReplace.apply(block.affine(x), signals, block.name)
            ),
        ).logits
        error = self.error(logits.detach(), batch)
        for name, shape in self.shapes.items():
            signals[name] = (error @ self.extra[f"feedback.{name}"]).view(-1, *shape)
        logits.backward(error)
        return Outcome(cross_entropy(logits.detach(), batch.y), logits)


class LeakingBackprop(DirectFeedbackAlignment):
    """Mutation: the signal is added to what comes from above, in place of replacing it."""

    class Add(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h, signals, name):
            ctx.signals, ctx.name = signals, name
            return h.view_as(h)

        @staticmethod
        def backward(ctx, grad):
            return grad + ctx.signals[ctx.name], None, None

    def gradients(self, batch):
        signals = {}
        logits = self.net.run(batch.x, after=lambda block, h: self.Add.apply(h, signals, block.name)).logits
        error = self.error(logits.detach(), batch)
        for name, shape in self.shapes.items():
            signals[name] = (error @ self.extra[f"feedback.{name}"]).view(-1, *shape)
        logits.backward(error)
        return Outcome(cross_entropy(logits.detach(), batch.y), logits)


def check_dfa_1(kind, net):
    batch = batch_for(net)
    rule = set_up(kind, net)
    rule.extra[f"feedback.{net.taps[-1]}"].copy_(net["output"].affine.weight.detach())
    expected = exact_gradients(net, batch)
    found = gradients(rule, batch)
    assert_equal(found, expected, only=f"blocks.{net.taps[-1]}")
    assert_equal(found, expected, only="blocks.output")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_dfa_1_last_hidden_layer_with_b_of_the_output_is_backpropagation(build, activation):
    check_dfa_1(DirectFeedbackAlignment, build(activation))


@pytest.mark.parametrize("kind", [DirectMissingDerivative, LeakingBackprop])
@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_dfa_1_fails_for_the_mutations(build, kind):
    with pytest.raises(AssertionError):
        check_dfa_1(kind, build())


def test_dfa_1_fails_with_the_feedback_before_the_derivative():
    with pytest.raises(AssertionError):
        check_dfa_1(DirectBeforeDerivative, square_dense_network())


def test_dfa_2_linear_network_with_products_of_weights_is_backpropagation():
    net = square_dense_network("identity", depth=4)
    batch = batch_for(net)
    rule = set_up(DirectFeedbackAlignment, net)
    product = net["output"].affine.weight.detach()
    for upper, lower in pairwise([None, *reversed(net.taps)]):
        if upper is not None:
            product = product @ net[upper].affine.weight.detach()
        rule.extra[f"feedback.{lower}"].copy_(product)
    assert_equal(gradients(rule, batch), exact_gradients(net, batch))


def check_dfa_3(kind, net):
    """At a fixed error, what happens above a layer does not matter to its update."""
    batch = batch_for(net)
    rule = set_up(kind, net)
    fixed = torch.randn(len(batch.x), net.n_classes, dtype=torch.float64)
    rule.error = lambda logits, batch: fixed
    before = gradients(rule, batch)
    for layer in (net.taps[-1], "output"):
        torch.nn.init.normal_(net[layer].affine.weight)
    after = gradients(rule, batch)
    for layer in net.taps[:-1]:
        assert_equal(after, before, only=f"blocks.{layer}.")
    assert not torch.equal(after["blocks.output.affine.weight"], before["blocks.output.affine.weight"])


@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_dfa_3_update_does_not_depend_on_the_weights_above(build):
    check_dfa_3(DirectFeedbackAlignment, build())


@pytest.mark.parametrize("build", [square_conv_network, square_dense_network])
def test_dfa_3_fails_when_backpropagation_leaks(build):
    with pytest.raises(AssertionError):
        check_dfa_3(LeakingBackprop, build())


# ---- across rules ---------------------------------------------------------------------------------------------------


def test_one_update_of_fa_with_w_equals_backprop_and_dfa_of_two_layers_agrees_at_the_last_hidden():
    nets = [square_dense_network(depth=1) for _ in range(3)]
    rules = [
        set_up(kind, net)
        for kind, net in zip([Backprop, FeedbackAlignment, DirectFeedbackAlignment], nets, strict=True)
    ]
    align(rules[1])
    rules[2].extra["feedback.fc1"].copy_(nets[2]["output"].affine.weight.detach())
    for rule in rules:
        rule.begin_stage(Stage("all", 1), 4)
        rule.step(batch_for(rule.net))
    for name, expected in nets[0].state_dict().items():
        for net in nets[1:]:
            torch.testing.assert_close(net.state_dict()[name], expected, **TOLERANCE)


def test_signal_replace_works_compiled():
    def through(h, signal):
        return SignalReplace.apply(torch.tanh(h), {"a": signal}, "a").sum()

    h, signal = torch.randn(4, dtype=torch.float64, requires_grad=True), torch.randn(4, dtype=torch.float64)
    for run in (through, torch.compile(through, backend="aot_eager")):
        h.grad = None
        run(h, signal).backward()
        torch.testing.assert_close(h.grad, signal * (1 - torch.tanh(h.detach()) ** 2))
