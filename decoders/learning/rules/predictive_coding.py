"""Predictive coding: states relax on the energy of their prediction errors, then weights learn from these errors.

Discriminative direction: block l predicts its own output from the states below, mu_l = f_l(v_{l-1}, v_skip); the
picture is clamped below and the label above. Without a label the feed-forward pass is the minimum of the energy, so
features and prediction are those of the feed-forward pass. The generative direction (pictures predicted from
labels) is another model and is not meant here.

This module holds the energy and its descent; the rules are in `predictive_variants`, the strict one here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

from decoders.learning.options import Option
from decoders.learning.rule import LearningRule, Outcome, Plausibility, RuleInfo, register
from decoders.models.networks import Block, NetworkKind
from decoders.models.trainer import Batch

# Growth from batch to batch of a step that was halved before, and the smallest share of the largest step.
RECOVERY, SMALLEST = 1.1, 0.02
# Relative rise of an energy that is no rounding error of single precision.
RISE = 1e-4
# Parameters of blocks by block and name, in place of their own.
Weights = Mapping[str, Mapping[str, Tensor]]

PLAUSIBILITY = Plausibility(weight_transport=True, global_error=True, phases=True, online=False)
KINDS: tuple[NetworkKind, ...] = ("conv", "residual", "mlp", "recurrent", "transformer")
# Of rules over states: an error is the difference v - mu, and a dozen blocks below the output it is rounding.
DROWNED = "in single precision the errors of its lower blocks drown in rounding; take predictive_coding_error."
REFUSES = {
    "spiking": "its states are continuous activities that move along a gradient, and spikes are not.",
    "vectorised": "it has no non-negative weights and no broadcast error, which these units are made for.",
}
ENERGY_OPTIONS = {
    "learning_rate": Option(
        0.0, "Peak of the one-cycle schedule; 0 takes a third of the common budget's.", grid=(3e-4, 1e-3, 2e-3)
    ),
    "output_energy": Option("squared", "Energy of the clamped output.", choices=("squared", "cross_entropy")),
    "output_precision": Option(
        0.3, "Weight of the output's energy against the prediction errors of hidden blocks.", grid=(0.1, 0.3, 1.0)
    ),
    "inference_rate": Option(0.3, "Largest step of the states along -dE/dv.", grid=(0.1, 0.3, 0.5)),
    "norm_statistics": Option(
        "batch",
        "Of a batch norm during inference: of the present states, or frozen at those of the feed-forward pass.",
        choices=("batch", "frozen"),
    ),
    "adaptive": Option(
        True, "Take back and halve the step of an input whose energy has risen; the next batch begins with the mean."
    ),
}
ORDER = Option(
    "top_down", "Order in which the states of a sweep move: from the top, or at once.", choices=("top_down", "at_once")
)


def squares(x: Tensor) -> Tensor:
    """Return the squared norm per input, (n, ...) to (n,)."""
    return x.flatten(1).square().sum(1)


@dataclass
class Pace:
    """The step of each input along -dE/dv, and what tells whether it was too long.

    The curvature of E grows with the squared norm of the weights, so that no fixed step suits a whole training.

    Attributes
    ----------
    rate, energy : tensor of shape (n,)
        The step, and the energy of the last states that were not worse than those before.
    adaptive : bool
        Take back the step of an input whose energy has risen, and halve it.
    """

    rate: Tensor
    energy: Tensor
    adaptive: bool

    @classmethod
    def of(cls, batch: Batch, rate: float, adaptive: bool) -> Pace:
        """Return the same step for all inputs of a batch."""
        steps = torch.full((len(batch.x),), rate, dtype=batch.x.dtype, device=batch.x.device)
        return cls(steps, torch.full_like(steps, float("inf")), adaptive)

    def judge(self, energy: Tensor) -> Tensor | None:
        """Compare energies with those before the last step; return which inputs step back, (n,), if any may."""
        if not self.adaptive:
            self.energy = energy
            return None
        rose = energy > (1 + RISE) * self.energy
        self.rate = torch.where(rose, 0.5 * self.rate, self.rate)
        self.energy = torch.where(rose, self.energy, energy)
        return rose

    def along(self, slope: Tensor) -> Tensor:
        """Return the step times dE/dv, of the shape of `slope`."""
        return slope * spread(self.rate, slope)

    def next_rate(self, largest: float) -> float:
        """Return the step that the next batch begins with."""
        mean = float(self.rate.double().log().mean().exp())
        return min(largest, max(SMALLEST * largest, RECOVERY * mean))


def spread(per_input: Tensor, like: Tensor) -> Tensor:
    """Return (n,) as (n, 1, ...), to be combined with `like`."""
    return per_input.view(-1, *[1] * (like.ndim - 1))


@dataclass
class Variables:
    """What descends E: states or errors of every tap, moved with steps that are taken back where E has risen.

    Attributes
    ----------
    value, base, start : dict of str to tensor of shape (n, ...)
        Where the variables are, where the last step that is not judged yet began, and where this sweep began.
    pace : Pace
    energy, slope, message : tensor of shape (n,)
        Energy, squared dE/dv and squared errors from above, of the values at the start of the last sweep.
    """

    value: dict[str, Tensor]
    pace: Pace
    base: dict[str, Tensor] = field(init=False)
    start: dict[str, Tensor] = field(init=False)
    energy: Tensor = field(init=False)
    slope: Tensor = field(init=False)
    message: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.value, self.base = dict(self.value), dict(self.value)

    def begin_sweep(self, output: Tensor) -> None:
        """Start the sums of a sweep, with the energy of the output, (n,)."""
        blank = torch.zeros_like(output)
        self.start = dict(self.value)
        self.energy, self.slope, self.message = output.detach(), blank, blank

    def descend(self, name: str, error: Tensor, from_above: Tensor) -> None:
        """Move one variable by one step along -dE/dv = -(error + from_above)."""
        slope = error + from_above
        self.value[name] = self.start[name] - self.pace.along(slope)
        self.energy = self.energy + 0.5 * squares(error)
        self.slope, self.message = self.slope + squares(slope), self.message + squares(from_above)

    def end_sweep(self) -> None:
        """Judge the step before this sweep: where E rose by it, go half-way back to where it began instead."""
        rose = self.pace.judge(self.energy)
        if rose is None:
            return
        for name, began in self.start.items():
            back = spread(rose, began)
            self.value[name] = torch.where(back, 0.5 * (began + self.base[name]), self.value[name])
            self.base[name] = torch.where(back, self.base[name], began)

    @property
    def residual(self) -> float:
        """Norm of dE/dv relative to that of the errors from above, at the start of the last sweep."""
        return float((self.slope.sum() / self.message.sum().clamp(min=1e-30)).sqrt())


@dataclass
class States(Variables):
    """Relaxing activities v_l.

    Attributes
    ----------
    top_down : bool
        A block hears the error above it after that has moved, not before.
    """

    top_down: bool = True

    def move(self, name: str, prediction: Tensor, from_above: Tensor) -> Tensor:
        """Move a state by one step and return what its prediction receives, dE/dmu = mu - v."""
        error = self.start[name] - prediction
        self.descend(name, error, from_above)
        return prediction - (self.value[name] if self.top_down else self.start[name])


class StateNode(torch.autograd.Function):
    """A state in place of the prediction of its block.

    Forward returns v_l and hides mu_l. Backward receives the errors from above, J^T (mu - v) of all blocks that
    read v_l, moves v_l, and sends mu_l - v_l to the prediction. So one backward call is one sweep of inference
    on any graph of blocks, skip connections included.
    """

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, states: States, name: str) -> Tensor:
        """Return the state of the tap."""
        ctx.save_for_backward(prediction)
        ctx.states, ctx.name = states, name
        return states.value[name].detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Move the state and return the error of its prediction."""
        (prediction,) = ctx.saved_tensors
        return ctx.states.move(ctx.name, prediction, grads[0]), None, None


@dataclass(frozen=True)
class FeedForward:
    """The pass before inference: taps, logits, and mean and variance over the batch of the blocks with batch norm."""

    taps: dict[str, Tensor]
    logits: Tensor
    statistics: dict[str, tuple[Tensor, Tensor]]


class PredictiveRule(LearningRule):
    """What the variants share: the energy, the pass before inference, the local updates of the weights."""

    # Share of the common learning rate: large weights make E steep, and inference slow.
    rate_share: ClassVar[float] = 1 / 3
    # Many blocks for an error to cross.
    fits_slowly: ClassVar[Mapping[NetworkKind, int]] = {"residual": 200, "transformer": 300}

    def prepare(self) -> None:
        """Keep the step that inference begins with: it follows the curvature of E as the weights grow."""
        self.extra["rate"] = torch.tensor(float(self.option["inference_rate"]), dtype=torch.float64)

    def pace(self, batch: Batch) -> Pace:
        """Return the steps that inference begins with."""
        return Pace.of(batch, float(self.extra["rate"]), bool(self.option["adaptive"]))

    def keep_pace(self, pace: Pace) -> None:
        """Let the next batch begin where this one ended."""
        self.extra["rate"].fill_(pace.next_rate(float(self.option["inference_rate"])))

    def feed_forward(self, x: Tensor) -> FeedForward:
        """Run the network once in train mode, the only time that running batch-norm statistics move."""
        statistics: dict[str, tuple[Tensor, Tensor]] = {}

        def affine(block: Block, x: Tensor) -> Tensor:
            z: Tensor = block.affine(x)
            if isinstance(block.norm, nn.modules.batchnorm._BatchNorm):
                variance, mean = torch.var_mean(z, [axis for axis in range(z.ndim) if axis != 1], correction=0)
                statistics[block.name] = mean, variance
            return z

        with torch.no_grad():
            done = self.net.run(x, affine=affine if self.net.n_norms else None)
        return FeedForward(done.taps, done.logits, statistics)

    @contextmanager
    def inference_norms(self) -> Iterator[None]:
        """Let batch norms use the statistics that inference asks for.

        Frozen ones do not see what all inputs of a batch have in common: errors then hold shifts that the norm above
        takes out again in the forward pass, and blocks below learn them. On CIFAR-10 that costs a tenth of accuracy.
        """
        if self.option["norm_statistics"] == "batch":
            yield
            return
        norms = list(self.net.norms())
        try:
            for norm in norms:
                norm.eval()
            yield
        finally:
            for norm in norms:
                norm.train()

    def predict(
        self, block: Block, x: Tensor, skipped: Tensor | None, start: FeedForward, weights: Weights | None = None
    ) -> Tensor:
        """Return mu_l from the states below.

        In eval mode a norm uses the batch statistics of the feed-forward pass; in train mode those of these
        states. Its own running statistics are left alone either way.
        """
        given = dict(weights[block.name]) if weights else {}
        if block.name in start.statistics:
            mean, variance = start.statistics[block.name]
            given |= {"norm.running_mean": mean.clone(), "norm.running_var": variance.clone()}
            given["norm.num_batches_tracked"] = torch.zeros((), dtype=torch.long, device=mean.device)
        found: Tensor = functional_call(block, given, (x, None, skipped)) if given else block(x, None, skipped)
        return found

    def predictions(self, states: Mapping[str, Tensor], x: Tensor, start: FeedForward) -> dict[str, Tensor]:
        """Return mu of every block, the logits included, each from the given states alone."""
        below, found = x, {}
        for block in self.net:
            skipped = None if block.skip is None else states[block.skip]
            found[block.name] = self.predict(block, below, skipped, start)
            below = states.get(block.name, below)
        return found

    def output_energy(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the energy of the clamped output, (n,): squared distance from the label, or cross-entropy."""
        precision = float(self.option["output_precision"])
        if self.option["output_energy"] == "squared":
            return 0.5 * precision * squares(logits - one_hot(y, logits.shape[1]))
        return precision * cross_entropy(logits, y, reduction="none")

    def energy(self, states: Mapping[str, Tensor], batch: Batch, start: FeedForward) -> Tensor:
        """Return E = sum_l 1/2 |v_l - mu_l|^2 + output energy, (n,)."""
        with self.inference_norms():
            predictions = self.predictions(states, batch.x, start)
        errors = [squares(states[name] - predictions[name]) for name in states]
        return 0.5 * torch.stack(errors).sum(0) + self.output_energy(predictions[self.net.layers[-1]], batch.y)

    def write_local(
        self, states: Mapping[str, Tensor], batch: Batch, start: FeedForward, known: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write dE/dW at the given states, mean over the batch: each block's from its own error and its inputs.

        The statistics of a batch norm are part of what its block predicts here, as they are when a gradient is
        taken: weights that ignored them would drift in scale and mean.
        """
        predictions = self.predictions(states, batch.x, start)
        n = len(batch.y)
        output = self.output_energy(predictions[self.net.layers[-1]], batch.y).sum() / n
        given = known or {name: states[name] - predictions[name].detach() for name in states}
        errors = [-given[name] / n for name in states]
        torch.autograd.backward([output, *(predictions[name] for name in states)], [torch.ones_like(output), *errors])

    def outcome(self, start: FeedForward, batch: Batch, counters: dict[str, int], residual: float) -> Outcome:
        """Return the cross-entropy of the feed-forward prediction, comparable across rules, and the monitors."""
        return Outcome(cross_entropy(start.logits, batch.y), start.logits, counters, {"residual": residual})


@register
class PredictiveCoding(PredictiveRule):
    """Strict predictive coding: states relax on E = sum_l 1/2 |v_l - f_l(v_{l-1})|^2 + output energy, then dW = -dE/dW.

    Inference starts at the feed-forward pass: v_l <- v_l - rate * (e_l - sum_children J^T e_child), e = v - mu,
    with predictions and Jacobians taken anew at every sweep. In the default order a sweep runs from the top
    down and every block hears the error above it after that has moved, so that an error crosses all blocks in
    one sweep; "at_once" moves all together, and an error climbs down one block per sweep. Both descend the same
    energy. One sweep from the top at rate 1 would be backpropagation; smaller steps and several sweeps are not.
    The monitor "residual" is what inference left of dE/dv.

    Batch norms take their statistics from the states, as they do from activities in the forward pass; with
    ``norm_statistics: frozen`` from the feed-forward pass throughout. In recurrent and attention blocks the state
    is the block's whole output sequence; within the block, time is differentiated exactly.
    """

    info = RuleInfo(
        name="predictive_coding",
        family="energy",
        source="Rao & Ballard 1999, Nature Neuroscience 2; Whittington & Bogacz 2017, Neural Computation 29",
        summary="Activities relax until prediction errors balance, then weights learn from the local errors.",
        needs=("labels", "phases"),
        plausibility=PLAUSIBILITY,
        architectures=("conv", "mlp", "recurrent", "transformer"),
        refuses={**REFUSES, "residual": DROWNED},
    )
    options = {**ENERGY_OPTIONS, "sweeps": Option(6, "Sweeps of inference per batch.", grid=(4, 6, 12)), "order": ORDER}

    def states(self, taps: Mapping[str, Tensor], pace: Pace) -> States:
        """Return states at given activities."""
        return States(dict(taps), pace, self.option["order"] == "top_down")

    def relax(self, batch: Batch, start: FeedForward) -> States:
        """Return the states after inference."""
        states = self.states(start.taps, self.pace(batch))
        with self.inference_norms():
            for _ in range(int(self.option["sweeps"])):
                self.sweep(states, batch, start)
        self.keep_pace(states.pace)
        return states

    def sweep(self, states: States, batch: Batch, start: FeedForward) -> None:
        """Move all states once. The first block predicts from the clamped picture: its mu never changes."""
        first, *others = self.net
        lowest = start.taps[first.name].detach().requires_grad_()
        below = StateNode.apply(lowest, states, first.name)
        taps = {first.name: below}
        for block in others:
            below = self.predict(block, below, None if block.skip is None else taps[block.skip], start)
            if block.kind != "output":
                below = taps[block.name] = StateNode.apply(below, states, block.name)
        output = self.output_energy(below, batch.y)
        states.begin_sweep(output)
        torch.autograd.grad(output.sum(), lowest)
        states.end_sweep()

    def gradients(self, batch: Batch) -> Outcome:
        """Write dE/dW at the relaxed states."""
        start = self.feed_forward(batch.x)
        states = self.relax(batch, start)
        self.write_local(states.value, batch, start)
        sweeps = int(self.option["sweeps"])
        counters = {"forward": 2 + sweeps, "backward": 1 + sweeps, "inference_steps": sweeps}
        return self.outcome(start, batch, counters, states.residual)
