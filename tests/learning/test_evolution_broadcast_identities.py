"""PEPITA, evolution and error-vector broadcasting against closed forms in float64; each check fails for named bugs."""

from itertools import pairwise

import pytest
import torch
from perturbation_nets import EXACT, batch_for, check_wp_unbiased, conv, dense, flat, set_up, vectorised
from torch.nn.functional import cosine_similarity
from updates import exact_gradients, gradients

from decoders.learning.passes import CleanPass, loss_at
from decoders.learning.rules import evolution
from decoders.learning.rules.broadcast import GlobalErrorVectorBroadcasting
from decoders.learning.rules.evolution import EvolutionStrategies, GeneticAlgorithm
from decoders.learning.rules.pepita import Pepita
from decoders.models.architectures import to_pixels
from decoders.models.trainer import Batch, Stage

# ---- PEPITA ---------------------------------------------------------------------------------------------------------


class Silent(Pepita):
    """Not a mutation: the error is set to zero."""

    def error(self, logits, y):
        return torch.zeros_like(logits)


class RunningStatistics(Silent):
    """Mutation: the second pass uses running statistics in place of the first pass's."""

    def walk(self, x, modulation=None):
        if modulation is not None:
            for norm in self.net.norms():
                norm.running_mean = torch.zeros_like(norm.running_mean)
        return super().walk(x, modulation)


class NoDifference(Silent):
    """Mutation: the activity of the second pass in place of the change of activity."""

    def walk(self, x, modulation=None):
        traces = super().walk(x, modulation)
        if modulation is not None:
            for trace in traces.values():
                object.__setattr__(trace, "activity", torch.zeros_like(trace.activity))
        return traces


def check_mirror(kind, build):
    net = build()
    rule = set_up(kind, net)
    for name, value in gradients(rule, batch_for(net)).items():
        assert float(value.abs().max()) <= 1e-13, name


@pytest.mark.parametrize("build", [dense, conv])
def test_mirror_without_error_pepita_changes_nothing(build):
    check_mirror(Silent, build)


@pytest.mark.parametrize(("kind", "build"), [(RunningStatistics, conv), (NoDifference, dense)])
def test_mirror_fails_for_the_mutations(kind, build):
    with pytest.raises(AssertionError):
        check_mirror(kind, build)


class CleanInput(Pepita):
    """Mutation: the presynaptic activity is that of the first pass."""

    def gradients(self, batch):
        outcome = super().gradients(batch)
        clean = CleanPass(self.net, batch.x)
        for block in self.net:
            error = block.affine.bias.grad  # any signal of the right shape shows the other input
            (found,) = torch.autograd.grad(
                clean.responses[block.name][0], [block.affine.weight], error.expand(len(batch.x), -1) / len(batch.x)
            )
            block.affine.weight.grad = found
        return outcome


def check_pepita(kind):
    net = dense()
    rule, batch = set_up(kind, net), batch_for(net)
    found = gradients(rule, batch)
    pixels = to_pixels(2)(batch.x)
    weights = [(block.affine.weight, block.affine.bias) for block in net]

    def activities(x):
        h1 = torch.tanh(x @ weights[0][0].T + weights[0][1])
        h2 = torch.tanh(h1 @ weights[1][0].T + weights[1][1])
        return [x, h1, h2, h2 @ weights[2][0].T + weights[2][1]]

    first = activities(pixels)
    e = first[-1].softmax(1) - torch.nn.functional.one_hot(batch.y, 3)
    second = activities(pixels + e @ rule.extra["modulation"])
    changes = [first[1] - second[1], first[2] - second[2], e]
    for layer, change, read in zip(net.layers, changes, second, strict=False):
        expected = change.T @ read / len(batch.y)
        torch.testing.assert_close(found[f"blocks.{layer}.affine.weight"], expected, **EXACT)
        torch.testing.assert_close(found[f"blocks.{layer}.affine.bias"], change.mean(0), **EXACT)


def test_pepita_follows_its_equations():
    check_pepita(Pepita)


def test_pepita_fails_with_the_input_of_the_first_pass():
    with pytest.raises(AssertionError):
        check_pepita(CleanInput)


# ---- evolution ------------------------------------------------------------------------------------------------------


class NotHalved(EvolutionStrategies):
    """Mutation: mirrored pairs are counted as one-sided members."""

    def write(self, gradient):
        super().write({name: 2 * value for name, value in gradient.items()})


class WrongSide(EvolutionStrategies):
    """Mutation: the sides of each pair are exchanged."""

    def write(self, gradient):
        super().write({name: -value for name, value in gradient.items()})


@pytest.mark.parametrize("sigma", [0.01, 1.0])
def test_es_with_raw_losses_estimates_the_gradient_of_a_quadratic(quadratic, sigma):
    check_wp_unbiased(EvolutionStrategies, quadratic, n_samples=600, shaping="raw", pairs=3, sigma=sigma)


@pytest.mark.parametrize("kind", [NotHalved, WrongSide])
def test_es_fails_for_the_mutations(quadratic, kind):
    with pytest.raises(AssertionError):
        check_wp_unbiased(kind, quadratic, n_samples=600, shaping="raw", pairs=3, sigma=1.0)


def check_shaping(shaping, quadratic, monkeypatch):
    """Any increasing function of the loss gives the same update; it points along the gradient."""
    net, loss, gradient = quadratic
    batch = batch_for(net)
    found = flat(gradients(set_up(EvolutionStrategies, net, shaping=shaping, pairs=64), batch))
    assert float(cosine_similarity(found, gradient, dim=0)) > 0.3
    monkeypatch.setattr(evolution, "loss_at", lambda *of: torch.exp(3 * loss(*of)))
    again = flat(gradients(set_up(EvolutionStrategies, net, shaping=shaping, pairs=64), batch))
    torch.testing.assert_close(again, found, **EXACT)


def test_es_ranks_do_not_depend_on_the_scale_of_the_loss(quadratic, monkeypatch):
    check_shaping("ranks", quadratic, monkeypatch)


def test_es_raw_losses_do(quadratic, monkeypatch):
    with pytest.raises(AssertionError):
        check_shaping("raw", quadratic, monkeypatch)


class WithoutElite(GeneticAlgorithm):
    """Mutation: parents do not survive; the next generation is chosen among children alone."""

    def parents(self):
        found = super().parents()
        return [self.child(parent) for parent in found]


class WorstSurvive(GeneticAlgorithm):
    """Mutation: the largest losses are selected."""

    def gradients(self, batch):
        real = evolution.loss_at
        evolution.loss_at = lambda *of: -real(*of)
        try:
            return super().gradients(batch)
        finally:
            evolution.loss_at = real


def check_elitism(kind, build):
    net = build()
    batch = batch_for(net)
    rule = set_up(kind, net, children=6, mutation=30.0)
    rule.begin_stage(Stage("all", 1), 12)
    losses = [float(loss_at(net, {}, batch).detach())]
    for _ in range(12):
        rule.step(batch)
        losses.append(float(loss_at(net, {}, batch).detach()))
    assert all(after <= before for before, after in pairwise(losses)), losses
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("build", [dense, conv])
def test_ga_is_never_worse_on_the_same_batch(build):
    check_elitism(GeneticAlgorithm, build)


@pytest.mark.parametrize("kind", [WithoutElite, WorstSurvive])
def test_ga_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_elitism(kind, dense)


def test_ga_step_is_exactly_the_next_elite():
    net = dense()
    rule, batch = set_up(GeneticAlgorithm, net), batch_for(net)
    rule.begin_stage(Stage("all", 1), 3)
    rule.step(batch)
    assert all(torch.equal(weight, rule.elite[name]) for name, weight in net.named_parameters())


# ---- global error-vector broadcasting -------------------------------------------------------------------------------


class NoGate(GlobalErrorVectorBroadcasting):
    """Mutation: closed units learn, too."""

    def write(self, block, x, gate, error):
        super().write(block, x, torch.ones_like(gate), error)


class ShiftedError(GlobalErrorVectorBroadcasting):
    """Mutation: the components of the error are exchanged on the way to hidden units."""

    def write(self, block, x, gate, error):
        super().write(block, x, gate, error if block.kind == "output" else error.roll(1, 1))


class LayerError(GlobalErrorVectorBroadcasting):
    """Mutation: the output layer gets the squared error's derivative in place of the gradient."""

    def write(self, block, x, gate, error):
        super().write(block, x, gate, error.abs() * error if block.kind == "output" else error)


def signs_agree(kind, net, batch):
    """Whether every non-zero entry of the gradient has the update's sign, sample by sample."""
    rule = set_up(kind, net)
    for index in range(len(batch.y)):
        one = Batch(batch.x[index : index + 1], batch.y[index : index + 1])
        expected, found = exact_gradients(net, one), gradients(rule, one)
        for name, value in expected.items():
            some = value.abs() > 1e-12
            if not bool((found[name][some].sign() == value[some].sign()).all()):
                return False
    return True


def settled(net, kind=GlobalErrorVectorBroadcasting, n_steps=5):
    """Take some updates, so that the mirrored first weights are gone."""
    rule = set_up(kind, net)
    rule.begin_stage(Stage("all", 1), n_steps)
    for _ in range(n_steps):
        rule.step(batch_for(net))
    return net


@pytest.mark.parametrize("trained", [False, True])
def test_gevb_1_every_entry_has_the_sign_of_the_gradient(trained):
    net = vectorised()
    net = settled(net) if trained else net
    assert signs_agree(GlobalErrorVectorBroadcasting, net, batch_for(net, 12))


def test_gevb_1_fails_for_signed_weights():
    net = vectorised()
    with torch.no_grad():
        for weight in net.non_negative():
            weight.mul_(torch.randint_like(weight, 2) * 2 - 1)
    assert not signs_agree(GlobalErrorVectorBroadcasting, net, batch_for(net, 12))


def test_gevb_1_fails_for_another_error():
    net = vectorised()
    assert not signs_agree(ShiftedError, net, batch_for(net, 12))


def check_gevb_gates(kind):
    net = vectorised()
    batch = batch_for(net, 1)
    found, taps = gradients(set_up(kind, net), batch), net.run(batch.x).taps
    for layer in net.taps:
        closed = taps[layer][0].abs().sum(0) == 0
        assert bool(closed.any())
        assert float(found[f"blocks.{layer}.affine.bias"][:, closed].abs().max()) == 0


def test_gevb_closed_units_do_not_learn():
    check_gevb_gates(GlobalErrorVectorBroadcasting)


def test_gevb_fails_without_gates():
    with pytest.raises(AssertionError):
        check_gevb_gates(NoGate)


def check_gevb_2(kind):
    net = settled(vectorised())
    batch = batch_for(net, 12)
    found, expected = gradients(set_up(kind, net), batch), exact_gradients(net, batch)
    for name in ("blocks.output.affine.weight", "blocks.output.affine.bias"):
        torch.testing.assert_close(found[name], expected[name], **EXACT)


def test_gevb_2_the_output_layer_gets_its_gradient():
    check_gevb_2(GlobalErrorVectorBroadcasting)


@pytest.mark.parametrize("kind", [LayerError])
def test_gevb_2_fails_for_another_error(kind):
    with pytest.raises(AssertionError):
        check_gevb_2(kind)


def check_gevb_3(net):
    net = settled(net, n_steps=10)
    assert all(float(weight.detach().min()) >= 0 for weight in net.non_negative())


def test_gevb_3_weights_stay_non_negative():
    check_gevb_3(vectorised())


def test_gevb_3_fails_without_the_constraint():
    net = vectorised()
    net.constrain = lambda: None
    with pytest.raises(AssertionError):
        check_gevb_3(net)


def alignment(kind, width, layer):
    """Return the cosine between update and gradient at the first weights of a network of two hidden layers."""
    net = vectorised(width, n_classes=4, edge=4)
    batch = batch_for(net, 64)
    name = f"blocks.{layer}.affine.weight"
    found, expected = gradients(set_up(kind, net), batch)[name], exact_gradients(net, batch)[name]
    return float(cosine_similarity(found.flatten(), expected.flatten(), dim=0))


def check_gevb_4(kind):
    cosines = [alignment(kind, width, "vec1") for width in (8, 64, 512)]
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] > 0.95


def test_gevb_4_alignment_grows_with_the_width():
    check_gevb_4(GlobalErrorVectorBroadcasting)


def test_gevb_4_the_last_hidden_layer_misses_its_own_output_weights():
    """Its factor is one weight, no sum: half of them zero, half |normal|, so the cosine is (1/2)(2/pi)^.5 / .5^.5."""
    assert alignment(GlobalErrorVectorBroadcasting, 1024, "vec2") == pytest.approx(0.564, abs=0.05)


@pytest.mark.parametrize("kind", [NoGate, ShiftedError])
def test_gevb_4_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_gevb_4(kind)
