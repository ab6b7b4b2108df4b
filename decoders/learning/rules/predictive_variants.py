"""Variants of predictive coding: fixed predictions, weights that learn during inference, errors as variables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from decoders.learning.options import Option
from decoders.learning.rule import Outcome, register
from decoders.learning.rules.predictive_coding import (
    ENERGY_OPTIONS,
    KINDS,
    REFUSES,
    FeedForward,
    Pace,
    PredictiveCoding,
    PredictiveRule,
    StateNode,
    States,
    Variables,
)
from decoders.models.networks import Block
from decoders.models.trainer import Batch


@dataclass
class Errors:
    """Prediction errors about fixed predictions, with the sign of dE/dmu.

    Attributes
    ----------
    value : dict of str to tensor of shape (n, ...)
        mu - v of every tap that an error has reached.
    rate : float
        Share of the errors from above that is taken over in a sweep; 0 holds all errors.
    """

    rate: float
    value: dict[str, Tensor] = field(default_factory=dict)
    slope: float = 0.0
    message: float = 0.0

    def move(self, name: str, from_above: Tensor) -> Tensor:
        """Move an error towards what comes from above, and return what it was before."""
        old = self.value.get(name, torch.zeros_like(from_above))
        if self.rate:
            self.value[name] = old + self.rate * (from_above - old)
        self.slope += float((from_above - old).square().sum())
        self.message += float(from_above.square().sum())
        return old


class ErrorNode(torch.autograd.Function):
    """Identity whose backward moves the error of its block and sends down the error from before the move."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, errors: Errors, name: str) -> Tensor:
        """Return the prediction unchanged."""
        ctx.errors, ctx.name = errors, name
        return prediction.view_as(prediction)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Move the error; all errors of a sweep move at once."""
        return ctx.errors.move(ctx.name, grads[0]), None, None


@register
class PredictiveCodingFixed(PredictiveRule):
    """Predictive coding with predictions and Jacobians fixed at the feed-forward pass: backpropagation in the end.

    e_l <- e_l + rate * (J^T e_{l+1} - e_l), all at once, then dW_l from e_l. At rate 1 an error climbs down one
    block per sweep, and with as many sweeps as hidden blocks every update is that of backpropagation, batch
    norm included: its statistics are differentiated as part of the one graph. With fewer sweeps the lowest
    blocks receive exactly nothing.
    """

    info = replace(
        PredictiveCoding.info,
        name="predictive_coding_fixed",
        source="Rosenbaum 2022, PLOS ONE 17; Millidge, Tschantz & Buckley 2022, Neural Computation 34",
        summary="Errors relax about predictions that stay at the feed-forward pass; equals backpropagation.",
        architectures=KINDS,
        refuses=REFUSES,
    )
    options = {
        "sweeps": Option(0, "Sweeps per batch; 0 for the number of hidden blocks, with which the update is exact."),
        "inference_rate": Option(1.0, "Share of the errors from above that is taken over in a sweep."),
    }

    rate_share = 1.0

    def prepare(self) -> None:
        """Nothing is kept from batch to batch."""

    def gradients(self, batch: Batch) -> Outcome:
        """Write the updates from the errors after the last sweep."""
        errors, lowest = Errors(float(self.option["inference_rate"])), []

        def after(block: Block, prediction: Tensor) -> Tensor:
            lowest.append(prediction)
            node: Tensor = ErrorNode.apply(prediction, errors, block.name)
            return node

        logits = self.net.run(batch.x, after=after).logits
        loss = cross_entropy(logits, batch.y)
        sweeps = int(self.option["sweeps"]) or len(self.net.taps)
        for _ in range(sweeps):
            torch.autograd.grad(loss, lowest[0], retain_graph=True)
        errors.rate = errors.slope = errors.message = 0.0
        loss.backward()
        residual = (errors.slope / errors.message) ** 0.5 if errors.message else 0.0
        counters = {"forward": 1, "backward": 1 + sweeps, "inference_steps": sweeps}
        return Outcome(loss.detach(), logits, counters, {"residual": residual})


@register
class PredictiveCodingIncremental(PredictiveCoding):
    """Incremental predictive coding: weights learn at every sweep of inference, not after it.

    Within a batch a copy of the weights follows each sweep's own -dE/dW by plain gradient descent with
    `inner_rate`, and the next sweep predicts with that copy. The sum of the updates of all sweeps is what the
    shared optimizer receives, once per batch as for every rule; the copy is then dropped. With `inner_rate` 0
    the updates are summed along the path of inference and do not act on it.

    The schedule "staircase" is zero-divergence inference learning (Song et al. 2020): all states move at once
    at rate 1, and the block that the error has just reached learns in that sweep alone, which is
    backpropagation exactly.
    """

    info = replace(
        PredictiveCoding.info,
        name="predictive_coding_incremental",
        source="Salvatori et al. 2024, ICLR (incremental predictive coding); Song et al. 2020, NeurIPS (staircase)",
        summary="Predictive coding whose weights learn at every sweep of inference.",
    )
    options = {
        **PredictiveCoding.options,
        "sweeps": Option(4, "Sweeps of inference and learning per batch.", grid=(3, 4, 6)),
        "inner_rate": Option(3e-4, "Step of the weights' copy within a batch.", grid=(0.0, 3e-4, 1e-3)),
        "schedule": Option(
            "every",
            "Blocks that learn in a sweep: all, or the one that the error reaches.",
            choices=("every", "staircase"),
        ),
    }

    def gradients(self, batch: Batch) -> Outcome:
        """Write the sum over the sweeps of dE/dW."""
        start, copies = self.feed_forward(batch.x), self._copies()
        staircase = self.option["schedule"] == "staircase"
        sweeps = len(copies) if staircase else int(self.option["sweeps"])
        pace = Pace.of(batch, 1.0, adaptive=False) if staircase else self.pace(batch)
        states = self.states(start.taps, pace)
        states.top_down = states.top_down and not staircase
        with self.inference_norms():
            for done in range(sweeps):
                learning = [self.net.layers[-1 - done]] if staircase else self.net.layers
                self.learning_sweep(states, batch, start, copies, learning)
        if not staircase:
            self.keep_pace(pace)
        counters = {"forward": 1 + sweeps, "backward": sweeps, "inference_steps": sweeps}
        return self.outcome(start, batch, counters, states.residual)

    def _copies(self) -> dict[str, dict[str, Tensor]]:
        return {
            block.name: {name: weight.detach().clone().requires_grad_() for name, weight in block.named_parameters()}
            for block in self.net
        }

    def learning_sweep(
        self,
        states: States,
        batch: Batch,
        start: FeedForward,
        copies: dict[str, dict[str, Tensor]],
        learning: list[str],
    ) -> None:
        """Move all states once, and the weights' copies of the learning blocks by the same errors."""
        below = batch.x
        taps: dict[str, Tensor] = {}
        for block in self.net:
            below = self.predict(block, below, None if block.skip is None else taps[block.skip], start, copies)
            if block.kind != "output":
                below = taps[block.name] = StateNode.apply(below, states, block.name)
        output = self.output_energy(below, batch.y)
        states.begin_sweep(output)
        weights = [weight for block in copies.values() for weight in block.values()]
        slopes = iter(torch.autograd.grad(output.sum(), weights))
        states.end_sweep()
        with torch.no_grad():
            for layer, copy in copies.items():
                for name, weight in copy.items():
                    self._learn(
                        self.net[layer].get_parameter(name), weight, next(slopes) / len(batch.y), layer in learning
                    )

    def _learn(self, parameter: nn.Parameter, copy: Tensor, slope: Tensor, learns: bool) -> None:
        if learns:
            parameter.grad = slope if parameter.grad is None else parameter.grad + slope
            copy -= float(self.option["inner_rate"]) * slope


@register
class PredictiveCodingError(PredictiveRule):
    """Error-optimised predictive coding: the same energy over errors in place of states, v_l = f_l(v_{l-1}) + e_l.

    E(e) = sum_l 1/2 |e_l|^2 + output energy; e_l <- e_l - rate * (e_l + dOutput/dv_l), where the output's slope
    crosses the whole network at once. It has the minimum of strict predictive coding and gets there in fewer
    steps in deep networks. A single step from e = 0 would be backpropagation times the rate, so the default takes
    several, and the monitor "residual" tells what is left of dE/de. Weights learn from the local errors.
    """

    info = replace(
        PredictiveCoding.info,
        name="predictive_coding_error",
        source="Goemaere, Oliviers, Bogacz & Demeester 2025 (arXiv:2505.20137)",
        summary="Predictive coding that relaxes the errors in place of the states; the same minimum, faster in depth.",
        architectures=KINDS,
        refuses=REFUSES,
    )
    options = {
        **ENERGY_OPTIONS,
        "steps": Option(5, "Steps of inference per batch; 1 is backpropagation.", grid=(3, 5, 10)),
    }

    def relax(self, batch: Batch, start: FeedForward) -> tuple[dict[str, Tensor], Variables]:
        """Return the states that the relaxed errors make, and the errors."""
        errors = Variables({name: torch.zeros_like(tap) for name, tap in start.taps.items()}, self.pace(batch))
        with self.inference_norms():
            for _ in range(int(self.option["steps"])):
                self.step_errors(errors, batch, start)
            self.keep_pace(errors.pace)
            with torch.no_grad():
                return self.perturbed(errors.value, start)[0], errors

    def perturbed(self, errors: dict[str, Tensor], start: FeedForward) -> tuple[dict[str, Tensor], Tensor]:
        """Return the states at given errors, v_l = f_l(v_{l-1}) + e_l, and the logits."""
        first, *others = self.net
        below = start.taps[first.name] + errors[first.name]
        states = {first.name: below}
        for block in others:
            below = self.predict(block, below, None if block.skip is None else states[block.skip], start)
            if block.kind != "output":
                below = states[block.name] = below + errors[block.name]
        return states, below

    def step_errors(self, errors: Variables, batch: Batch, start: FeedForward) -> None:
        """Move all errors once."""
        leaves = {name: error.detach().requires_grad_() for name, error in errors.value.items()}
        output = self.output_energy(self.perturbed(leaves, start)[1], batch.y)
        slopes = torch.autograd.grad(output.sum(), list(leaves.values()))
        errors.begin_sweep(output)
        for (name, leaf), from_above in zip(leaves.items(), slopes, strict=True):
            errors.descend(name, leaf.detach(), from_above)
        errors.end_sweep()

    def gradients(self, batch: Batch) -> Outcome:
        """Write dE/dW at the states that the relaxed errors make."""
        start = self.feed_forward(batch.x)
        states, errors = self.relax(batch, start)
        self.write_local(states, batch, start, errors.value)
        steps = int(self.option["steps"])
        counters = {"forward": 3 + steps, "backward": 1 + steps, "inference_steps": steps}
        return self.outcome(start, batch, counters, errors.residual)
