"""Rules that must agree with backpropagation, or with each other, where the theory says so (float64, one update)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from energy_nets import unrolled_gradient
from target_nets import matched

from decoders.learning.registry import create
from decoders.learning.rule import RuleSpec
from decoders.models.architectures import conv_network, dense_network
from decoders.models.networks import set_mode
from decoders.models.sequence import recurrent_network
from decoders.models.spiking_networks import spiking_dense_network
from decoders.models.trainer import Batch, Stage

N_SYMBOLS = 5


def dense(widths=(9, 8)):
    torch.manual_seed(1)
    return dense_network(widths, n_classes=4, activation="tanh", edge=2).double()


def shallow():
    return dense((9,))


def conv(norm=True):
    torch.manual_seed(0)
    return conv_network((4, 6), hidden=9, n_classes=4, activation="tanh", positions=2, norm=norm).double()


def recurrent(widths=(6, 7)):
    torch.manual_seed(2)
    return recurrent_network(N_SYMBOLS, widths).double()


def one_recurrent():
    return recurrent((6,))


def one_step_spiking():
    torch.manual_seed(3)
    return spiking_dense_network(torch.nn.Flatten(), 3 * 8 * 8, (12, 11), 4, steps=1).double()


def input_shape(net, n_characters):
    return (n_characters, N_SYMBOLS) if net.input_kind == "text" else (3, 8, 8)


def batch_for(net, n_characters=4, n=6):
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(net.n_classes, (n,), generator=generator)
    if net.input_kind == "text":
        codes = torch.randint(N_SYMBOLS, (n, n_characters), generator=generator)
        return Batch(torch.nn.functional.one_hot(codes, N_SYMBOLS).double(), y)
    return Batch(torch.randn((n, 3, 8, 8), generator=generator, dtype=torch.float64), y)


# ---- what makes two rules agree: fed back weights, heads -------------------------------------------------------------


@torch.no_grad()
def feed_back_w(rule):
    """B = W in every layer."""
    for block in rule.passed():
        rule.feedback(block).copy_(block.affine.weight)


@torch.no_grad()
def feed_back_the_output(rule):
    """B of the last hidden layer = W_out."""
    rule.extra[f"feedback.{rule.net.taps[-1]}"].copy_(rule.net["output"].affine.weight)


@torch.no_grad()
def read_by_the_output(rule):
    """The head of the only hidden layer = the output layer, without bias."""
    rule.net["output"].affine.bias.zero_()
    for name, parameter in rule.companions.named_parameters():
        assert parameter.shape == rule.net["output"].affine.weight.shape or name.endswith("bias")
        parameter.copy_(torch.zeros_like(parameter) if name.endswith("bias") else rule.net["output"].affine.weight)


@torch.no_grad()
def same_broadcast(rule):
    """B of each tap from one seed: (n_classes, units)."""
    generator = torch.Generator().manual_seed(8)
    for name in rule.net.taps:
        feedback = rule.extra[f"feedback.{name}"]
        feedback.copy_(torch.randn(feedback.shape, generator=generator, dtype=torch.float64))


def match_jacobians(rule):
    """The feedback's Jacobians are the transposed ones, and past the beginning, in which feedback learns alone."""
    matched(rule).n_done = 1


def nothing(rule):
    """The rule as it is."""


@dataclass(frozen=True)
class Equality:
    """A rule, and the one that it must equal; `layers` (all where empty) up to a common positive factor where `scaled`."""

    rule: str
    build: Callable
    adapt: Callable = nothing
    options: dict = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    reference: str | Callable = "backprop"
    adapt_reference: Callable = nothing
    n_characters: int = 4
    scaled: bool = False
    tolerance: float = 1e-8

    def __str__(self):
        return f"{self.rule}-{self.build.__name__}"


EQUALITIES = [
    *(Equality(rule, build, feed_back_w)
      for rule in ("feedback_alignment", "weight_mirror", "kolen_pollack") for build in (dense, conv, recurrent)),
    Equality("direct_feedback_alignment", shallow, feed_back_the_output),
    Equality("direct_feedback_alignment", dense, feed_back_the_output, layers=("fc2", "output")),
    Equality("direct_feedback_alignment", conv, feed_back_the_output, layers=("fc1", "output")),
    *(Equality("decorrelated_backprop", build) for build in (dense, conv, recurrent)),
    *(Equality("noisy_backprop", build, options={"noise": 0.0}) for build in (dense, conv)),
    *(Equality("predictive_coding_fixed", build) for build in (dense, conv)),
    # Weights learn at the states after the step: equal to first order in the step, hence a tiny one.
    Equality("predictive_coding_error", dense, layers=("fc1", "fc2"), scaled=True, tolerance=1e-4, options={
        "steps": 1, "output_energy": "cross_entropy", "inference_rate": 1e-6, "adaptive": False}),
    Equality("predictive_coding_incremental", dense,
             options={"schedule": "staircase", "output_energy": "cross_entropy"}, scaled=True),
    *(Equality("local_loss_pred", build, options={"modules": 1}) for build in (dense, conv)),
    *(Equality(rule, shallow, read_by_the_output, adapt_reference=read_by_the_output)
      for rule in ("mono_forward", "local_loss_pred")),
    Equality("mono_forward", shallow, read_by_the_output, reference="local_loss_pred",
             adapt_reference=read_by_the_output),
    Equality("eprop", one_recurrent, options={"broadcast": "symmetric"}, n_characters=1),
    Equality("eprop", recurrent, same_broadcast, reference="direct_feedback_alignment",
             adapt_reference=same_broadcast),
    Equality("sltt", one_step_spiking, reference="surrogate_bptt"),
    *(Equality("difference_target_propagation", build, match_jacobians) for build in (dense, conv)),
    # Recurrent backpropagation: the derivative through all sweeps of the free phase; the estimate errs with beta^2.
    Equality("centred_equilibrium_propagation", dense, reference=unrolled_gradient, tolerance=1e-5, options={
        "beta": 1e-4, "free_sweeps": 300, "nudged_sweeps": 300}),
]  # fmt: skip


def updates(name, build, adapt, n_characters, **options):
    if callable(name):
        net = build()
        found = name(net, batch_for(net, n_characters))
        return {key.removeprefix("blocks."): value for key, value in found.items()}
    rule = create(name, **options)
    net = build()
    rule.setup(net, RuleSpec(input_shape(net, n_characters), 1e-2), seed=3)
    adapt(rule)
    rule.begin_stage(Stage("all", 1), 4)
    set_mode(net, training=True)
    rule.gradients(batch_for(net, n_characters))
    return {key.removeprefix("blocks."): value.grad for key, value in net.named_parameters()}


def compared(found, layers):
    kept = {key: value for key, value in found.items() if not layers or key.split(".")[0] in layers}
    return torch.cat([value.flatten() for value in kept.values()])


def check(case, adapt=None):
    found = updates(case.rule, case.build, adapt or case.adapt, case.n_characters, **case.options)
    expected = updates(case.reference, case.build, case.adapt_reference, case.n_characters)
    found, expected = compared(found, case.layers), compared(expected, case.layers)
    assert float(expected.norm()) > 0
    if case.scaled:
        found = found * (found @ expected / (found @ found)).abs()
    torch.testing.assert_close(found, expected, rtol=case.tolerance, atol=case.tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("case", EQUALITIES, ids=str)
def test_rules_agree_where_the_theory_says_so(case):
    check(case)


ADAPTED = [case for case in EQUALITIES if case.adapt is not nothing]


@pytest.mark.parametrize("case", ADAPTED, ids=str)
def test_they_disagree_without_the_condition(case):
    """The same check fails for the rule with feedback weights, or heads, of its own."""
    with pytest.raises(AssertionError):
        check(case, nothing)


def features_after_training(name):
    rule, net = create(name), conv(norm=False)
    rule.setup(net, RuleSpec((3, 8, 8), 1e-2), seed=3)
    rule.begin_stage(Stage("all", 1), 4)
    batch = batch_for(net)
    for _ in range(3):
        rule.step(batch)
    return rule.features(batch.x)


def check_features(name):
    """The convolutions of cascaded forward are those of random features: what it learns is in heads."""
    expected = features_after_training("random_features")
    found = features_after_training(name)
    kept = [key for key in expected if key.startswith("conv")]
    assert kept
    for key in kept:
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


def test_cascaded_forward_has_random_features():
    check_features("cascaded_forward")


def test_backprop_has_not():
    with pytest.raises(AssertionError):
        check_features("backprop")
