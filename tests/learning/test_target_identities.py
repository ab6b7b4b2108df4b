"""Identities of target propagation, counter-current, dendritic and denoising rules in float64.

Each check fails for named, deliberate bugs.
"""

from itertools import pairwise

import pytest
import torch
from target_nets import (
    TOLERANCE,
    assert_equal,
    batch_for,
    conv,
    dense,
    matched,
    recurrent,
    residual,
    set_up,
    transformer,
)
from torch import nn
from torch.nn.functional import one_hot
from updates import exact_gradients, gradients

from decoders.errors import Unsupported
from decoders.learning.rules.targets import DifferenceTargetPropagation, TargetPropagation
from decoders.learning.target_feedback import (
    AdjointFeedback,
    InverseFeedback,
    difference_loss,
    reconstruction_loss,
    visits,
)
from decoders.models.trainer import Batch

# ---- target propagation ---------------------------------------------------------------------------------------------


class Uncorrected(DifferenceTargetPropagation):
    """Mutation: t_{l-1} = g(t_l), without what g makes of the activity itself."""

    def difference(self, visit, change):
        return self.feedback(visit)(visit, visit.h.detach() + change) - visit.source.detach()


class ExactInverse(InverseFeedback):
    """The inverse of a square block with leaky rectifiers (slope 1/2), or without activation."""

    def forward(self, visit, t):
        leaky = isinstance(visit.block.activation, nn.LeakyReLU)
        z = torch.where(t < 0, t / 0.5, t) if leaky else t
        affine = visit.block.affine
        return torch.linalg.solve(affine.weight.detach(), (z - affine.bias.detach()).T).T


def invertible():
    net = dense(widths=(5, 5, 5), n_classes=5)
    for name in net.taps:
        net[name].activation = nn.LeakyReLU(0.5)
    for name in net.layers[1:]:  # far from singular, so that a small step leaves every unit on its side
        nn.init.orthogonal_(net[name].affine.weight, gain=1.5)
    return net


def with_exact_inverses(kind):
    rule = set_up(kind, invertible(), **({} if kind is TargetPropagation else {"feedback_loss": "reconstruction"}))
    for block in list(rule.net)[1:]:
        rule.companions[f"feedback_{block.name}"] = ExactInverse(block).double()
    return rule


def check_tp_1(rule):
    """Without a step at the output, every target is the activity."""
    passed = visits(rule.net, batch_for(rule.net).x)
    changes = rule.changes(passed, torch.zeros_like(passed[-1].h))
    for visit in passed:
        found = visit.h.detach() + changes[visit.block.name]
        torch.testing.assert_close(found, visit.h.detach(), **TOLERANCE)


@pytest.mark.parametrize("loss", ["ldrl", "reconstruction"])
@pytest.mark.parametrize("build", [dense, conv])
def test_tp_1_difference_targets_rest_at_the_activity_for_any_feedback(build, loss):
    check_tp_1(set_up(DifferenceTargetPropagation, build(), feedback_loss=loss))


def test_tp_1_plain_targets_rest_only_for_an_exact_inverse():
    check_tp_1(with_exact_inverses(TargetPropagation))
    with pytest.raises(AssertionError):
        check_tp_1(set_up(TargetPropagation, invertible()))


@pytest.mark.parametrize("loss", ["ldrl", "reconstruction"])
def test_tp_1_fails_without_the_correction(loss):
    with pytest.raises(AssertionError):
        check_tp_1(set_up(Uncorrected, dense(), feedback_loss=loss))


def check_tp_2(rule):
    """Exact inverses give Gauss-Newton targets: (t_l - h_l) / step = -J^-1 e, J the Jacobian from h_l to the output."""
    rule.option["target_step"] = 1e-4  # no unit changes its side
    net, batch = rule.net, batch_for(rule.net)
    passed = visits(net, batch.x)
    logits = passed[-1].h.detach()
    error = logits.softmax(1) - one_hot(batch.y, net.n_classes)
    changes = rule.changes(passed, rule.output_change(logits, batch.y))
    for index, visit in enumerate(passed[:-1]):

        def above(h, index=index):
            for upper in list(net)[index + 1 :]:
                h = upper(h)
            return h

        for row in range(len(batch.x)):
            h = visit.h.detach()[row]
            jacobian = torch.autograd.functional.jacobian(above, h)
            expected = -torch.linalg.solve(jacobian, error[row])
            found = changes[visit.block.name][row] / 1e-4
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_tp_2_exact_inverses_give_gauss_newton_targets():
    check_tp_2(with_exact_inverses(DifferenceTargetPropagation))


def test_tp_2_fails_for_transposed_jacobians():
    with pytest.raises(AssertionError):
        check_tp_2(matched(set_up(DifferenceTargetPropagation, invertible())))


def check_tp_3(kind, build, **options):
    net = build()
    batch = batch_for(net)
    expected = exact_gradients(net, batch)
    assert_equal(gradients(matched(set_up(kind, net, **options)), batch), expected)


class WithoutGate(DifferenceTargetPropagation):
    """Mutation: the feedback forgets f'(z)."""

    def difference(self, visit, change):
        return visit.lift(self.feedback(visit).back(visit, change)).detach()


class WithoutSkips(DifferenceTargetPropagation):
    """Mutation: taps that a skip connection reads get no difference from it."""

    def changes(self, passed, top):
        found = {passed[-1].block.name: top}
        for lower, visit in reversed(list(pairwise(passed))):
            found[lower.block.name] = self.difference(visit, found[visit.block.name])
        return found


@pytest.mark.parametrize("step", [0.1, 3.0])
@pytest.mark.parametrize("build", [dense, conv, residual, transformer])
def test_tp_3_matched_jacobians_give_backpropagation(build, step):
    check_tp_3(DifferenceTargetPropagation, build, target_step=step)


@pytest.mark.parametrize(("kind", "build"), [(WithoutGate, dense), (WithoutSkips, residual)])
def test_tp_3_fails_for_the_mutations(kind, build):
    with pytest.raises(AssertionError):
        check_tp_3(kind, build)


def signs(like):
    return torch.randint(0, 2, like.shape).to(like.dtype) * 2 - 1


def learned_feedback(connection, loss):
    """Train the feedback of a linear layer from 7 to 4 units alone; return its weight and that of the layer."""
    torch.manual_seed(5)
    net = dense("identity", widths=(7, 4))
    x = torch.randn((1024, 3, 2, 2), dtype=torch.float64)
    with torch.no_grad():  # white inputs of the layer, so that the best linear inverse is the pseudo-inverse
        nn.init.orthogonal_(net["fc1"].affine.weight)
        net["fc2"].affine.weight.copy_(torch.linalg.qr(torch.randn(7, 4, dtype=torch.float64))[0].T)
        net["fc2"].affine.weight.mul_(torch.tensor([0.6, 0.8, 1.0, 1.2], dtype=torch.float64)[:, None])
    visit = visits(net, x)[1]
    feedback = connection(visit.block).double()
    optimizer = torch.optim.Adam(feedback.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        optimizer.zero_grad()
        found = loss(feedback, visit, signs, 1.0)
        (found if isinstance(found, torch.Tensor) else found[0]).backward()
        optimizer.step()
        schedule.step()
    return feedback.weight.detach(), visit.block.affine.weight.detach()


def check_tp_4(connection, loss, expected):
    theta, weight = learned_feedback(connection, loss)
    target = expected(weight)
    assert float((theta - target).norm() / target.norm()) < 0.1


def pseudo_inverse(weight):
    return torch.linalg.pinv(weight).T  # feedback is stored in the forward orientation


def without_the_penalty(feedback, visit, signs, sigma):
    """Mutation: the second term of the difference loss is left out."""
    xi = sigma * signs(visit.inner)
    along = feedback.inner(visit, visit.again(visit.inner + xi) - visit.again(visit.inner))
    return -2 * (xi * along).sum() / len(xi)


def test_tp_4_difference_loss_finds_the_transpose_and_reconstruction_the_pseudo_inverse():
    check_tp_4(AdjointFeedback, difference_loss, lambda weight: weight)
    check_tp_4(InverseFeedback, reconstruction_loss, pseudo_inverse)


@pytest.mark.parametrize(
    ("connection", "loss", "expected"),
    [
        (AdjointFeedback, difference_loss, pseudo_inverse),
        (InverseFeedback, reconstruction_loss, lambda weight: weight),
        (AdjointFeedback, without_the_penalty, lambda weight: weight),
    ],
)
def test_tp_4_fails_for_the_other_loss_and_without_the_penalty(connection, loss, expected):
    with pytest.raises(AssertionError):
        check_tp_4(connection, loss, expected)


def both_gradients(kind, net, batch, **options):
    rule = set_up(kind, net, **options)
    forward = gradients(rule, batch)
    return forward, {name: value.grad.clone() for name, value in rule.companions.named_parameters()}


def check_tp_5(kind):
    """Neither kind of loss reaches the other's weights, nor does the noise move the running statistics."""
    batch = batch_for(conv())
    forward, feedback = both_gradients(kind, conv(), batch)
    louder = both_gradients(kind, conv(), batch, noise=0.5)
    relabelled = both_gradients(kind, conv(), Batch(batch.x, (batch.y + 1) % 4))
    assert_equal(louder[0], forward)
    assert_equal(relabelled[1], feedback)
    assert all(not torch.equal(louder[1][name], value) for name, value in feedback.items())
    assert any(not torch.equal(relabelled[0][name], value) for name, value in forward.items())
    plain, noisy = conv(), conv()
    plain.train()
    plain(batch.x)
    both_gradients(kind, noisy, batch)
    for expected, found in zip(plain.norms(), noisy.norms(), strict=True):
        torch.testing.assert_close(found.running_var, expected.running_var, **TOLERANCE)


class Leaking(DifferenceTargetPropagation):
    """Mutation: the loss of the feedback is derivatives by the forward weights, too."""

    def learn_feedback(self, passed):
        for visit in passed[1:]:
            xi = 0.05 * float(self.option["noise"]) * self.signs(visit.inner)
            again = visit.block.activation(visit.block.affine(visit.inner.detach() + xi))
            again.square().sum().backward(inputs=[visit.block.affine.weight])
        return super().learn_feedback(passed)


@pytest.mark.parametrize("kind", [DifferenceTargetPropagation, TargetPropagation])
def test_tp_5_forward_and_feedback_weights_learn_apart(kind):
    check_tp_5(kind)


def test_tp_5_fails_when_the_feedback_loss_leaks():
    with pytest.raises(AssertionError):
        check_tp_5(Leaking)


def test_the_last_hidden_layer_learns_without_transported_weights():
    """A change of W_out that no activity sees changes no update below it."""
    net = dense()
    batch = batch_for(net, n=4)
    for kind in (DifferenceTargetPropagation, TargetPropagation):
        before = gradients(set_up(kind, net), batch)
        h = net.run(batch.x).taps[net.taps[-1]].detach()
        null = torch.linalg.svd(h).Vh[len(h) :]
        changed = dense()
        with torch.no_grad():
            changed["output"].affine.weight += torch.randn(4, len(null), dtype=torch.float64) @ null
        after = gradients(set_up(kind, changed), batch)
        for name, value in before.items():
            torch.testing.assert_close(after[name], value, rtol=1e-7, atol=1e-9)


def test_refusals_name_the_reason():
    with pytest.raises(Unsupported, match="feedback_loss to ldrl"):
        set_up(DifferenceTargetPropagation, residual(), feedback_loss="reconstruction")
    with pytest.raises(Unsupported, match="two targets"):
        set_up(TargetPropagation, residual())
    with pytest.raises(Unsupported, match="per step of the text"):
        set_up(DifferenceTargetPropagation, recurrent())
