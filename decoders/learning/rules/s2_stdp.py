"""Supervised STDP read-out: each output neuron learns to spike before or after the mean firing time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from decoders.learning.first_spike import pooled_wave, presynaptic, ramps
from decoders.learning.options import Option
from decoders.learning.rule import Outcome, RuleInfo, register
from decoders.learning.rules.stdp import FIRST_SPIKE, NO_FIRST_SPIKE, FirstSpikeRule
from decoders.models.spiking import unfold_time
from decoders.models.trainer import Batch


@dataclass(frozen=True)
class Desired:
    """Firing times that the neurons of the read-out should have, as errors against those that they have."""

    time: Tensor
    error: Tensor


def desired_times(times: Tensor, is_target: Tensor, n_steps: int, gap: float) -> Desired:
    """Return desired times and errors (Goupy, Tirilly & Bilasco 2024, Frontiers in Neuroscience 18:1401690).

    With N neurons of which N_t are targets, and mean firing time Tm (at most T - gap N_t / N): targets should
    fire at ``Tm - gap (N - N_t) / N``, all others at ``Tm + gap N_t / N``. The mean of the desired times is Tm.

    Parameters
    ----------
    times : tensor of shape (n, n_neurons)
        Firing times, steps; T for silent neurons.
    is_target : tensor of shape (n, n_neurons)
        1 or 0.
    n_steps : int
        T.
    gap : float
        Steps between the desired times of targets and others.

    Returns
    -------
    Desired
        Of tensors (n, n_neurons); errors ``(t - desired) / T``: positive for neurons that should fire earlier.
    """
    share = is_target.mean(1, keepdim=True)
    mean = torch.minimum(times.mean(1, keepdim=True), n_steps - gap * share)
    desired = mean + gap * (share - is_target)
    return Desired(desired, (times - desired) / n_steps)


def crossing_times(excess: Tensor, rest: float) -> Tensor:
    """Return when potentials minus thresholds first exceed 0, between 0 and T; T for silent neurons.

    Within a step the potential is a straight line, so that firing times are finer than the steps.

    Parameters
    ----------
    excess : tensor of shape (n, time, ...)
        At the end of each step.
    rest : float
        Before the first step: minus the threshold.

    Returns
    -------
    tensor of shape (n, ...)
    """
    n_steps = excess.shape[1]
    above = excess > 0
    first = above.to(torch.uint8).argmax(1, keepdim=True)
    after = excess.gather(1, first)
    before = excess.gather(1, (first - 1).clamp(min=0))
    before = torch.where(first > 0, before, torch.full_like(before, rest))
    when = first + (-before / (after - before).clamp(min=1e-12)).clamp(0, 1)
    return torch.where(above.any(1), when.squeeze(1), torch.full_like(when.squeeze(1), n_steps))


@dataclass(frozen=True)
class Race:
    """First spikes of the read-out.

    Attributes
    ----------
    inputs : tensor of shape (n, time, n_in)
        Wave.
    excess : tensor of shape (n, time, group, n_classes)
        Potential minus threshold of the test compartment.
    rest : float
        Minus the threshold.
    """

    inputs: Tensor
    excess: Tensor
    rest: float

    def logits(self) -> Tensor:
        """Return how early each class spikes, (n, n_classes); silent ones, below 0, by their highest potential."""
        n_steps = self.excess.shape[1]
        times, peak = crossing_times(self.excess, self.rest), self.excess.amax(1)
        return torch.where(peak > 0, n_steps - times, peak / (1 + peak.abs())).amax(1)


@register
class S2STDP(FirstSpikeRule):
    """Supervised STDP (S2-STDP) with neuronal competition groups: trains the read-out, on frozen hidden layers.

    Each class has a group of `group` neurons: the first is the network's own output neuron, the others are held
    beside the network (`companions`, of the same initial distribution). In each group the first neuron to spike
    wins and learns, so one neuron per class takes part. Its error against the desired time (`desired_times`)
    scales STDP: inputs that spiked until then are potentiated by 1, all others depressed by `minus`, both times the
    error. The prediction is the class of the first neuron to spike.

    The competition within a group is regulated by a second compartment of the thresholds, which counts in training
    alone and fades until its end: it rises for the winner at a target and falls for the others of that group by as
    much in all, so that the neurons of a group share the patterns of their class.

    Weights have no bounds, and those of a neuron keep their sum (the source's normalisation, for weights of both
    signs): else a neuron that is held back at its early inputs grows on its late ones until it fires at everything.
    Biases stay. Batch reduction: the mean.
    """

    info = RuleInfo(
        name="s2_stdp",
        family="spiking",
        source="Goupy et al. 2024, Frontiers in Neuroscience 18:1401690; groups: Goupy et al. 2024, NeurIPS",
        summary="Read-out neurons learn by STDP to spike before or after the mean firing time; hidden layers stay.",
        needs=("labels", "time"),
        plausibility=FIRST_SPIKE,
        architectures=("spiking",),
        trains=("output",),
        refuses=NO_FIRST_SPIKE,
        own_function=True,
    )
    fits_batch_within = 250
    options = {
        # Of the frozen layers, which nothing regulates: a higher one silences the upper ones.
        "threshold": replace(FirstSpikeRule.options["threshold"], default=0.02),
        "output_threshold": Option(0.25, "Threshold of the read-out.", grid=(0.1, 0.25, 0.5)),
        "group": Option(1, "Neurons per class.", grid=(1, 2, 5)),
        "gap": Option(2.0, "Steps between the desired times of targets and others.", grid=(1.0, 2.0, 4.0)),
        "minus": Option(0.5, "Depression of inputs that did not spike in time; potentiation is 1."),
        "regulation": Option(0.005, "Step of the training threshold of a winner at a target."),
    }

    def prepare(self) -> None:
        """Add the other neurons of each group, and the training compartment: (group, n_classes)."""
        super().prepare()
        weight, group = self.net["output"].affine.weight, int(self.option["group"])
        if group > 1:
            self.companions["group"] = nn.Linear(weight.shape[1], weight.shape[0] * (group - 1))
        self.extra["compartment"] = torch.zeros((group, weight.shape[0]), dtype=weight.dtype)

    def read_outs(self) -> list[Tensor]:
        """Return the weights of the output neurons, and of the others of their groups."""
        return [self.net["output"].affine.weight, *(part for part in self.companions.parameters() if part.ndim == 2)]

    def race(self, x: Tensor) -> Race:
        """Run the network; return what the read-out reads and its potentials."""
        output = self.net["output"]
        block, _, fired = self.reach(x, self.net.taps[-1])[-1]
        inputs = presynaptic(output, pooled_wave(block, fired.wave))
        folded = inputs.flatten(0, 1)
        potential = [output.affine(folded)]
        if "group" in self.companions:
            potential.append(self.companions["group"](folded))
        joined = unfold_time(torch.cat(potential, 1), inputs.shape[1]).unflatten(2, (-1, self.net.n_classes))
        threshold = float(self.option["output_threshold"])
        return Race(inputs, ramps(joined) - threshold, -threshold)

    @torch.no_grad()
    def gradients(self, batch: Batch) -> Outcome:
        """Write minus the STDP of the winner of each group, times its error."""
        race = self.race(batch.x)
        n_steps, target = race.inputs.shape[1], one_hot(batch.y, self.net.n_classes).to(race.inputs.dtype)
        won, times = self.group_winners(race)
        desired = desired_times(times, target, n_steps, float(self.option["gap"]))
        change = stdp_by_order(race.inputs, times, float(self.option["minus"]))
        update = torch.einsum("ngc,nc,nci->gci", won, desired.error, change) / len(won)
        self.write_groups(update)
        self.means = [weight.mean(1, keepdim=True) for weight in self.read_outs()]
        at_target = won * target[:, None]
        self.move = at_target.mean(0) - at_target.sum(1, keepdim=True).mean(0) / won.shape[1]
        # A spike hides a value that is not finite: it shows in the loss.
        loss = desired.error.square().mean() + 0.0 * batch.x.sum()
        monitors = {"gap": float((times * (1 - target)).sum() / (1 - target).sum() - (times * target).sum(1).mean())}
        return Outcome(loss, race.logits(), {"forward": 1, "backward": 0}, monitors)

    def group_winners(self, race: Race) -> tuple[Tensor, Tensor]:
        """Return 1 for the winner of each group, (n, group, n_classes), and its firing time, (n, n_classes)."""
        # It fades over the training, so that at its end neurons race as they do in the test.
        excess = race.excess - self.extra["compartment"] * (1 - self.n_done / self.n_steps)
        # A compartment above the threshold cannot start a line below rest: the rest is that of the threshold.
        times, peak = crossing_times(excess, race.rest), excess.amax(1)
        # Among silent neurons the one that came closest wins.
        order = times - torch.where(peak > 0, torch.zeros_like(peak), peak / (1 + peak.abs()))
        first = order.argmin(1, keepdim=True)
        return torch.zeros_like(times).scatter_(1, first, 1.0), times.gather(1, first).squeeze(1)

    def write_groups(self, update: Tensor) -> None:
        """Write minus an update of shape (group, n_classes, n_in) to the gradients of the output and its companions."""
        self.write(self.net["output"], update[0])
        for parameter in self.companions.parameters():
            parameter.grad = torch.zeros_like(parameter)
        if "group" in self.companions:
            self.companions["group"].weight.grad = -update[1:].flatten(0, 1)

    def post_step(self) -> None:
        """Bring the weights of each neuron back to their sum, and move the training compartment."""
        for weight, mean in zip(self.read_outs(), self.means, strict=True):
            weight.add_(mean - weight.mean(1, keepdim=True))
        # It leaks, so that it balances recent wins and does not grow without bound.
        self.extra["compartment"].mul_(0.95).add_(float(self.option["regulation"]) * self.move)

    @torch.no_grad()
    def native_logits(self, x: Tensor) -> Tensor:
        """Return how early each class spikes: (n, n_classes)."""
        super().native_logits(x[:1])
        return self.race(x).logits()


def stdp_by_order(inputs: Tensor, times: Tensor, minus: float) -> Tensor:
    """Return the STDP of each neuron's spike: 1 for inputs that spiked until then, -minus for all others.

    Parameters
    ----------
    inputs : tensor of shape (n, time, n_in)
        Wave.
    times : tensor of shape (n, n_neurons)
        Steps.
    minus : float

    Returns
    -------
    tensor of shape (n, n_neurons, n_in)
    """
    step = (times.ceil().long() - 1).clamp(0, inputs.shape[1] - 1)
    seen = inputs[torch.arange(len(inputs)).unsqueeze(1), step]
    return seen - minus * (1 - seen)
