"""Local rules against closed forms and autograd in float64; each check fails for named, deliberate bugs."""

import pytest
import torch
from local_nets import CLOSE, EDGE, N_CLASSES, NotCut, assert_equal, batch_for, conv, dense, residual, set_up
from torch import nn
from torch.nn.functional import one_hot
from updates import StraightThrough, exact_gradients
from updates import written_gradients as gradients

from decoders.errors import Unsupported
from decoders.learning.rules.forward_forward import ForwardForward, goodness, length_normalised, plane_waves
from decoders.learning.rules.local_losses import (
    LocalLossPred,
)
from decoders.learning.rules.mono_forward import MonoForward
from decoders.models.architectures import dense_network

# ---- forward-forward ------------------------------------------------------------------------------------------------


class RecordedNegatives(ForwardForward):
    def negatives(self, y, logits):
        self.drawn = super().negatives(y, logits)
        return self.drawn


class KeptDerivative(RecordedNegatives):
    """Mutation: the activation's own derivative in place of the straight-through one."""

    def activate(self, block, z):
        return block.activation(z)


class ExchangedLosses(RecordedNegatives):
    """Mutation: right and wrong labels exchanged."""

    def layer_loss(self, h):
        return super().layer_loss(torch.cat(h.chunk(2)[::-1]))


class LossOfTheMean(RecordedNegatives):
    """Mutation: the loss of the batch's mean goodness in place of the mean loss."""

    def layer_loss(self, h):
        return super().layer_loss(torch.cat([part.mean(0, keepdim=True).expand(1, -1) for part in h.chunk(2)]))


def ff_closed_form(rule, batch):
    """Return the weight gradients of all layers, written down by hand."""
    n, found, wrong = len(batch.y), {}, rule.drawn
    x = rule.net["fc1"].reduce(batch.x)[:, N_CLASSES:]
    x = x - x.mean(1, keepdim=True)
    x = x / x.square().mean(1, keepdim=True).sqrt()
    scale = rule.option["label_scale"]
    right_in, wrong_in = (torch.cat([scale * one_hot(y, N_CLASSES).double(), x], 1) for y in (batch.y, wrong))
    for name in rule.net.taps:
        affine = rule.net[name].affine
        right, other = (torch.tanh(read @ affine.weight.T + affine.bias) for read in (right_in, wrong_in))
        g_right, g_other = right.square().sum(1), other.square().sum(1)
        if rule.option["loss"] == "threshold":
            theta = rule.option["threshold"] * right.shape[1]
            d_right, d_other = -torch.sigmoid(theta - g_right), torch.sigmoid(g_other - theta)
        else:
            d_right = -rule.option["alpha"] * torch.sigmoid(-rule.option["alpha"] * (g_right - g_other))
            d_other = -d_right
        rows = (d_right[:, None] * 2 * right).T @ right_in + (d_other[:, None] * 2 * other).T @ wrong_in
        found[f"blocks.{name}.affine.weight"] = rows.detach() / n
        right_in, wrong_in = (h / h.square().mean(1, keepdim=True).sqrt() for h in (right, other))
    return found


def check_ff_1(kind, loss):
    net = dense()
    batch = batch_for(net)
    rule = set_up(kind, net, loss=loss, threshold=0.4)
    found = gradients(rule, batch)
    assert_equal(found, ff_closed_form(rule, batch))
    assert not [name for name in found if name.startswith("blocks.output")]


@pytest.mark.parametrize("loss", ["threshold", "symba"])
def test_ff_1_equals_the_closed_form(loss):
    check_ff_1(RecordedNegatives, loss)


@pytest.mark.parametrize("kind", [KeptDerivative, ExchangedLosses, LossOfTheMean])
@pytest.mark.parametrize("loss", ["threshold", "symba"])
def test_ff_1_fails_for_the_mutations(kind, loss):
    with pytest.raises(AssertionError):
        check_ff_1(kind, loss)


class Scaled(nn.Module):
    def __init__(self, activation, factor):
        super().__init__()
        self.activation, self.factor = activation, factor

    def forward(self, z):
        return self.factor * self.activation(z)


class NotNormalised(ForwardForward):
    """Mutation: no length normalisation, so that a layer can read the goodness of the one below."""

    def passed_on(self, h):
        return h.detach()


class NotDetached(ForwardForward):
    """Mutation: the graph is not cut between layers."""

    def passed_on(self, h):
        return length_normalised(h)


def check_ff_2(kind, net):
    batch = batch_for(net)
    rule = set_up(kind, net)
    before = rule.features(batch.x)
    net[net.taps[0]].activation = Scaled(net[net.taps[0]].activation, 3.7)
    for name, tap in rule.features(batch.x).items():
        torch.testing.assert_close(tap, before[name], **CLOSE)


@pytest.mark.parametrize("build", [dense, conv, residual])
def test_ff_2_what_a_layer_reads_has_no_length(build):
    check_ff_2(ForwardForward, build())


@pytest.mark.parametrize("build", [dense, conv, residual])
def test_ff_2_fails_without_normalisation(build):
    with pytest.raises(AssertionError):
        check_ff_2(NotNormalised, build())


def check_ff_3(kind, net):
    batch = batch_for(net)
    rule = set_up(kind, net)
    labels = torch.cat([batch.y, batch.y + 1]) % N_CLASSES
    layers = rule.run(torch.cat([batch.x, batch.x]), one_hot(labels, N_CLASSES).double())
    for name, (h, _) in layers.items():
        loss = rule.layer_loss(h)
        for other in net:
            weights = [p for p in other.parameters() if p.requires_grad]
            found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) if weights else ()
            assert all((gradient is not None) == (other.name == name) for gradient in found), (name, other.name)


@pytest.mark.parametrize("build", [dense, conv, residual])
def test_ff_3_the_loss_of_a_layer_is_its_own(build):
    check_ff_3(ForwardForward, build())


@pytest.mark.parametrize("build", [dense, conv, residual])
def test_ff_3_fails_when_the_graph_is_not_cut(build):
    with pytest.raises(AssertionError):
        check_ff_3(NotDetached, build())


class AnyLabel(ForwardForward):
    """Mutation: labels of other inputs of the batch, some of them right."""

    def negatives(self, y, logits):
        return y[torch.randperm(len(y), generator=self.generator)]


def check_ff_4(kind, hard):
    net = dense()
    rule = set_up(kind, net, hard_negatives=hard)
    y = torch.arange(10_000) % N_CLASSES
    # A softmax that is sure of the right label must not let it through.
    drawn = rule.negatives(y, 20 * one_hot(y, N_CLASSES).double())
    assert not bool((drawn == y).any())
    assert set(drawn.tolist()) == set(range(N_CLASSES))


@pytest.mark.parametrize("hard", [True, False])
def test_ff_4_no_wrong_label_is_right(hard):
    check_ff_4(ForwardForward, hard)


def test_ff_4_fails_for_permuted_labels():
    with pytest.raises(AssertionError):
        check_ff_4(AnyLabel, True)


def test_ff_4_hard_negatives_are_the_likely_ones():
    rule = set_up(ForwardForward, dense())
    y = torch.zeros(4000, dtype=torch.long)
    logits = torch.tensor([9.0, 2.0, 1.0, 0.0, 0.0]).double().expand(4000, -1)
    counts = torch.bincount(rule.negatives(y, logits), minlength=N_CLASSES)
    share = (logits[0].softmax(0) + 0.01) * (torch.arange(N_CLASSES) > 0)
    assert float((counts / 4000 - share / share.sum()).abs().max()) < 0.03


class KeptPixels(ForwardForward):
    """Mutation: the label is added to the first values, and what stood there stays."""

    def embed(self, x, code):
        rest = length_normalised(x - x.mean(1, keepdim=True))
        return torch.cat([rest[:, : code.shape[1]] + code, rest[:, code.shape[1] :]], 1)


def check_ff_5(kind):
    net = dense(edge=EDGE)
    batch = batch_for(net)
    rule = set_up(kind, net)
    plain = rule.features(batch.x)
    for label in range(N_CLASSES):
        labelled = batch.x.clone()
        labelled[:, 0, 0, :N_CLASSES] = 5.0 * one_hot(torch.tensor(label), N_CLASSES)
        for name, tap in rule.features(labelled).items():
            assert torch.equal(tap, plain[name])


def test_ff_5_features_are_the_same_for_every_label_in_the_picture():
    check_ff_5(ForwardForward)


def test_ff_5_fails_when_label_pixels_are_kept():
    with pytest.raises(AssertionError):
        check_ff_5(KeptPixels)


def test_ff_prediction_is_the_label_of_the_largest_goodness():
    net = conv()
    batch = batch_for(net)
    rule = set_up(ForwardForward, net)
    logits = rule.native_logits(batch.x)
    code = torch.zeros((len(batch.y), N_CLASSES)).double()
    code[:, 3] = 1.0
    expected = sum(goodness(h) for h, _ in rule.run(batch.x, code).values())
    torch.testing.assert_close(logits[:, 3], expected.detach(), **CLOSE)
    assert set_up(ForwardForward, conv(), prediction="softmax").native_logits(batch.x).shape == (6, N_CLASSES)


def test_ff_waves_of_labels_are_orthogonal_and_follow_the_size():
    waves = plane_waves(10, 32, 32).flatten(1)
    gram = waves @ waves.T / 1024
    torch.testing.assert_close(gram, 0.5 * torch.eye(10).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(plane_waves(10, 64, 64)[:, :, ::2, ::2], plane_waves(10, 32, 32))


def test_ff_peer_normalisation_revives_a_silent_unit():
    net = dense(activation="relu")
    with torch.no_grad():
        net["fc2"].affine.weight[0] = 0.0
        net["fc2"].affine.bias[0] = -3.0
    batch = batch_for(net)
    silent = gradients(set_up(ForwardForward, net), batch)["blocks.fc2.affine.bias"][0]
    revived = gradients(set_up(ForwardForward, net, peer=1.0), batch)["blocks.fc2.affine.bias"][0]
    assert float(silent) == 0.0
    assert float(revived) < 0.0


def test_ff_refuses_an_input_that_the_label_fills():
    with pytest.raises(Unsupported, match="the label alone takes 5"):
        set_up(ForwardForward, dense_network((6,), N_CLASSES, edge=1).double())


# ---- mono-forward ---------------------------------------------------------------------------------------------------


class MissingDerivative:
    """Mutation: f' is left out."""

    def gradients(self, batch):
        originals = {block.name: block.activation for block in self.net}
        for name in self.net.taps:
            self.net[name].activation = StraightThrough(originals[name])
        outcome = super().gradients(batch)
        for name in self.net.taps:
            self.net[name].activation = originals[name]
        return outcome


class MonoMissingDerivative(MissingDerivative, MonoForward):
    pass


class MonoNotCut(NotCut, MonoForward):
    pass


def check_mf_1(kind):
    net = dense()
    batch = batch_for(net)
    rule = set_up(kind, net)
    found, below = gradients(rule, batch), net["fc1"].reduce(batch.x)
    for name in net.taps:
        affine, m = net[name].affine, rule.companions[name].linear.weight
        assert rule.companions[name].linear.bias is None
        h = torch.tanh(below @ affine.weight.T + affine.bias).detach()
        error = ((h @ m.T).softmax(1) - one_hot(batch.y, N_CLASSES)) / len(h)
        expected = ((error @ m) * (1 - h**2)).T @ below
        torch.testing.assert_close(found[f"blocks.{name}.affine.weight"], expected, **CLOSE)
        torch.testing.assert_close(m.grad, error.T @ h, **CLOSE)
        below = h


def test_mf_1_equals_the_closed_form():
    check_mf_1(MonoForward)


@pytest.mark.parametrize("kind", [MonoMissingDerivative, MonoNotCut])
def test_mf_1_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_mf_1(kind)


def shallow(kind, **options):
    """Return the gradients of one hidden layer whose head is the output, and those of backpropagation."""
    net = dense(depth=1)
    batch = batch_for(net)
    rule = set_up(kind, net, **options)
    for name, parameter in rule.companions["fc1"].named_parameters():
        parameter.data.copy_(net["output"].affine.get_parameter(name.rsplit(".", 1)[1]).data)
    if isinstance(rule, MonoForward):
        net["output"].affine.bias.data.zero_()
    return gradients(rule, batch), exact_gradients(net, batch)


@pytest.mark.parametrize("kind", [MonoForward, LocalLossPred])
def test_mf_2_ps_3_one_hidden_layer_with_the_outputs_weights_is_backpropagation(kind):
    assert_equal(*shallow(kind))


def test_mf_2_ps_3_fails_for_the_mutations():
    class PredMissingDerivative(MissingDerivative, LocalLossPred):
        pass

    for kind in (MonoMissingDerivative, PredMissingDerivative):
        with pytest.raises(AssertionError):
            assert_equal(*shallow(kind))


def test_mf_fixed_projections_do_not_move_and_learned_ones_do():
    for projection in ("learned", "fixed"):
        rule = set_up(MonoForward, dense(), projection=projection)
        before = rule.companions["fc1"].linear.weight.detach().clone()
        rule.step(batch_for(rule.net))
        assert torch.equal(rule.companions["fc1"].linear.weight, before) == (projection == "fixed")


def test_mf_summed_prediction_is_the_sum_of_all_goodness():
    rule = set_up(MonoForward, conv(), prediction="sum")
    batch = batch_for(rule.net)
    found = rule.native_logits(batch.x)
    run = rule.net.run(batch.x)
    expected = run.logits + sum(rule.goodness(name, tap) for name, tap in run.taps.items())
    torch.testing.assert_close(found, expected.detach(), **CLOSE)
