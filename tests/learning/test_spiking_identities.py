"""Rules of spiking networks against autograd and closed forms in float64; each check fails for deliberate bugs."""

import weakref

import pytest
import torch
from spiking_nets import EDGE, assert_equal, batch_for, dense, set_up, step_loss
from torch import nn
from updates import derivatives
from updates import written_gradients as gradients

from decoders.errors import SettingsError, Unsupported
from decoders.learning.rules.eprop import EProp
from decoders.learning.rules.spiking_gradient import SLTT, SLTTK, SurrogateBPTT
from decoders.models.architectures import build_network
from decoders.models.networks import Block, Network
from decoders.models.spiking import LIF, FoldTime, Integrator
from decoders.models.spiking_networks import spiking_conv_network
from decoders.models.trainer import Batch, Stage

# ---- SLTT -----------------------------------------------------------------------------------------------------------


def check_sltt_1(kind, net, batch, **options):
    """Equal to the whole graph with the carry detached: the sum over time of what each step says."""
    found = gradients(set_up(kind, net, **options), batch)
    h = batch.x
    for name in net.taps:
        block = net[name]
        h = block.pool(block.activation(block.preactivation(h), detach_carry=True))
    assert_equal(found, derivatives(net, step_loss(net, h, batch.y)))


def test_sltt_1_equals_the_sum_of_the_local_terms():
    check_sltt_1(SLTT, dense(), batch_for(dense()))


def test_sltt_1_fails_when_errors_travel_in_time():
    with pytest.raises(AssertionError):
        check_sltt_1(SurrogateBPTT, dense(), batch_for(dense()), loss="step")


@pytest.mark.parametrize(("steps", "leak"), [(1, 0.8), (5, 0.0)])
def test_sltt_equals_bptt_of_one_step_or_without_leak(steps, leak):
    net = dense(steps=steps, leak=leak)
    batch = batch_for(net)
    assert_equal(gradients(set_up(SLTT, net), batch), gradients(set_up(SurrogateBPTT, net, loss="step"), batch))


def test_sltt_equals_bptt_of_one_step_with_convolutions_and_batch_norm():
    torch.manual_seed(0)
    net = spiking_conv_network((4, 5), hidden=7, n_classes=4, steps=1, positions=2).double()
    batch = batch_for(net, edge=8)
    found = gradients(set_up(SLTT, net, (3, 8, 8)), batch)
    assert_equal(found, gradients(set_up(SurrogateBPTT, net, (3, 8, 8), loss="step"), batch))


def test_sltt_k_of_all_steps_is_sltt_and_of_fewer_is_unbiased():
    net = dense()
    batch = batch_for(net)
    exact = gradients(set_up(SLTT, net), batch)
    assert_equal(gradients(set_up(SLTTK, net, k=5), batch), exact)
    rule = set_up(SLTTK, net, k=1)
    chosen, found = [], {}
    for t in range(5):
        rule.learning_steps = lambda n_steps, t=t: {t}
        chosen.append(gradients(rule, batch))
    found = {name: torch.stack([entry[name] for entry in chosen]).mean(0) for name in exact}
    assert_equal(found, exact)


def test_sltt_k_draws_other_steps_each_time_and_refuses_more_than_there_are():
    rule = set_up(SLTTK, dense(), k=2)
    drawn = [frozenset(rule.learning_steps(5)) for _ in range(30)]
    assert all(len(steps) == 2 for steps in drawn)
    assert len(set(drawn)) > 5
    with pytest.raises(SettingsError, match="1 to 5 time steps"):
        set_up(SLTTK, dense(), k=6)


class Meter:
    """Peak number of bytes that autograd keeps for the backward pass at one time."""

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    def __init__(self):
        self.now = self.peak = 0

    def release(self, size):
        self.now -= size

    def pack(self, tensor):
        kept, size = self.Kept(tensor), tensor.numel() * tensor.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(kept, self.release, size)
        return kept


def peak_bytes(kind, steps):
    net = dense(steps=steps)
    rule, batch, meter = set_up(kind, net), batch_for(net), Meter()
    with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda kept: kept.tensor):
        gradients(rule, batch)
    return meter.peak


def check_memory(kind):
    assert peak_bytes(kind, 24) == peak_bytes(kind, 6)


@pytest.mark.parametrize("kind", [SLTT, SLTTK, EProp])
def test_memory_does_not_grow_with_the_number_of_steps(kind):
    check_memory(kind)


def test_memory_of_bptt_does():
    with pytest.raises(AssertionError):
        check_memory(SurrogateBPTT)
    assert peak_bytes(SurrogateBPTT, 24) > 3 * peak_bytes(SurrogateBPTT, 6)


def test_sltt_refuses_delays():
    with pytest.raises(Unsupported, match="a memory of their own"):
        set_up(SLTT, build_network("delaymlp", 4, seed=0, width=0.1), (3, 28, 28))


# ---- e-prop ---------------------------------------------------------------------------------------------------------


class RecurrentLIF(Block):
    """LIF neurons that also read their own spikes of the step before, as e-prop's identity has them."""

    def __init__(self, n_in, n_units, lif):
        super().__init__("fc1", "recurrent", nn.Linear(n_in + n_units, n_units), activation=lif, reduce=FoldTime())
        self.detached = True

    def forward(self, x, affine=None, skipped=None):
        membrane, s, spikes = None, x.new_zeros(len(x), self.affine.weight.shape[0]), []
        for x_t in x.unbind(1):
            before = s.detach() if self.detached else s
            s, membrane = self.activation.step(membrane, self.affine(torch.cat([x_t, before], 1)))
            spikes.append(s)
        return torch.stack(spikes, 1)


def recurrent(steps=6, seed=0):
    torch.manual_seed(seed)
    hidden = RecurrentLIF(5, 8, LIF(steps, leak=0.8, threshold=0.3))
    output = Block("output", "output", nn.Linear(8, 4), activation=Integrator(steps), reduce=FoldTime())
    return Network("recurrent", "spiking", [hidden, output], summary="mean").double()


def sequences(steps=6, n=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn((n, steps, 5), generator=generator, dtype=torch.float64), torch.arange(n) % 4)


def check_epr_1(kind, seed=0, detached=True):
    net, batch = recurrent(seed=seed), sequences(seed=seed)
    found = gradients(set_up(kind, net, (6, 5), broadcast="symmetric"), batch)
    net["fc1"].detached = detached
    assert_equal(found, derivatives(net, step_loss(net, net["fc1"](batch.x), batch.y)))


class NoMemory(EProp):
    """Mutation: the eligibility forgets the steps before."""

    def advance(self, block, trace, inputs):
        trace.inputs, trace.constant = None, 0.0
        return super().advance(block, trace, inputs)


class NoSurrogate(EProp):
    """Mutation: psi is left out."""

    def learn(self, block, trace, psi, error, feedback):
        super().learn(block, trace, torch.ones_like(psi), error, feedback)


@pytest.mark.parametrize("seed", range(4))
def test_epr_1_equals_autograd_with_recurrent_spikes_and_resets_detached(seed):
    check_epr_1(EProp, seed)


@pytest.mark.parametrize("kind", [NoMemory, NoSurrogate])
def test_epr_1_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_epr_1(kind)


def test_epr_1_differs_from_backpropagation_through_time():
    with pytest.raises(AssertionError):
        check_epr_1(EProp, detached=False)


def check_epr_2(kind, **options):
    net = dense(widths=(9,))
    batch = batch_for(net)
    found = gradients(set_up(kind, net, **options), batch)
    assert_equal(found, gradients(set_up(SurrogateBPTT, net, loss="step"), batch))


def test_epr_2_without_recurrence_is_backpropagation_through_time():
    check_epr_2(EProp, broadcast="symmetric")


@pytest.mark.parametrize("kind", [NoMemory, NoSurrogate])
def test_epr_2_fails_for_the_mutations(kind):
    with pytest.raises(AssertionError):
        check_epr_2(kind, broadcast="symmetric")


def test_epr_2_fails_with_a_random_broadcast():
    with pytest.raises(AssertionError):
        check_epr_2(EProp)


def test_at_one_step_eprop_sltt_and_bptt_agree():
    net = dense(widths=(9,), steps=1)
    batch = batch_for(net)
    rules = [set_up(EProp, net, broadcast="symmetric"), set_up(SLTT, net), set_up(SurrogateBPTT, net)]
    first, *others = (gradients(rule, batch) for rule in rules)
    for other in others:
        assert_equal(first, other)


def test_eprop_of_a_convolution_without_norm_is_exact_within_the_block():
    """Pooling is derivatives exactly: with B in place of the gradient at the tap, autograd agrees."""
    torch.manual_seed(0)
    net = spiking_conv_network((4, 5), hidden=7, n_classes=4, steps=5, positions=2).double()
    for name in ("conv1", "conv2"):
        net[name].norm = nn.Identity()
        net[name].activation.threshold = 0.3
    net.n_norms = 0
    batch = batch_for(net, edge=8)
    rule = set_up(EProp, net, (3, 8, 8))
    found = gradients(rule, batch)
    h = batch.x
    taps = {}
    for name in net.taps:
        taps[name] = net[name](h)
        h = taps[name].detach()
    y = net["output"].activation.over_time(net["output"].preactivation(h))
    error = torch.stack([rule.error(y_t, batch) for y_t in y.detach().unbind(1)], 1) / 5
    total = (y * error).sum()
    for name, tap in taps.items():
        total = total + (tap * (error @ rule.extra[f"feedback.{name}"]).view_as(tap)).sum()
    assert_equal(found, derivatives(net, total))


def test_an_adaptive_broadcast_follows_the_read_out():
    net = dense(widths=(9,))
    rule = set_up(EProp, net, broadcast="adaptive", learning_rate=0.05, optimizer="plain_sgd", feedback_rate=0.05)
    rule.begin_stage(Stage("all", 1), 400)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((64, 3, EDGE, EDGE), generator=generator, dtype=torch.float64)
    batch = Batch(x, x.mean((2, 3)).argmax(1))

    def alignment():
        return float(nn.functional.cosine_similarity(
            rule.extra["feedback.fc1"].flatten(), net["output"].affine.weight.detach().flatten(), dim=0
        ))  # fmt: skip

    before = alignment()
    for _ in range(400):
        rule.step(batch)
    assert alignment() > before + 0.2


@pytest.mark.parametrize(
    ("architecture", "options", "why"),
    [("delaymlp", {}, "does not factorise"), ("spikingcnn", {"broadcast": "symmetric"}, "fully connected layers")],
)
def test_eprop_refuses_what_it_has_no_traces_for(architecture, options, why):
    with pytest.raises(Unsupported, match=why):
        set_up(EProp, build_network(architecture, 4, seed=0, width=0.1), (3, 16, 16), **options)
