"""Equilibrium propagation (one-sided and centred) and contrastive Hebbian learning on one Hopfield energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from decoders.errors import Unsupported
from decoders.learning.hopfield import LINEAR_POOLS, Nudge, Relaxation, States, write_contrast
from decoders.learning.options import Option
from decoders.learning.rule import LearningRule, Outcome, Plausibility, RuleInfo, register
from decoders.models.networks import Network, NetworkKind, set_mode
from decoders.models.trainer import Batch

REFUSES = {
    "residual": "its energy couples neighbouring layers only, and skip connections are no part of it.",
    "recurrent": "its states relax to a fixed point, and a sequence has none.",
    "transformer": "attention is no symmetric coupling of two layers, so that no energy is defined.",
    "spiking": "its states relax to a fixed point, and a spike train has none.",
    "vectorised": "gates and non-negative weights are no part of its energy.",
}


class HopfieldRule(LearningRule):
    """What the rules share: free phase, features at its fixed point, contrast of two phases.

    Prediction is the output state, features are the hidden states, both after the free phase; nothing of it is
    the feed-forward pass of the same blocks. Of a block, affine map, reduction and pooling enter the energy; its
    norm does not, and is neither used nor trained.
    """

    # Share of the common learning rate: large couplings make the free phase slow and saturate the states, those of
    # convolutions, which no norm scales, first.
    rate_share: ClassVar[float] = 1 / 3
    conv_rate_share: ClassVar[float] = 0.1
    fits_batch_within = 100
    # No norm scales convolutional states.
    fits_slowly: ClassVar[Mapping[NetworkKind, int]] = {"conv": 300}

    @property
    def learning_rate(self) -> float:
        """Peak learning rate: the rule's own option, or a share of the common budget's where the option is 0."""
        share = self.conv_rate_share if self.net.kind == "conv" else self.rate_share
        return float(self.option["learning_rate"]) or share * self.spec.learning_rate

    def check_support(self, net: Network) -> None:
        """Refuse networks without an energy: skip connections, or a pooling that is neither a mean nor a maximum."""
        super().check_support(net)
        for block in net:
            if block.skip or not isinstance(block.pool, (*LINEAR_POOLS, nn.MaxPool2d)):
                why = f"its energy has no form for the skip connection or the pooling of '{block.name}'."
                raise Unsupported(self.info.name, net.architecture, why)
            if not isinstance(block.affine, nn.Conv2d | nn.Linear):
                why = f"its energy couples layers by linear maps and convolutions, which '{block.name}' is not."
                raise Unsupported(self.info.name, net.architecture, why)

    def relaxation(self, x: Tensor) -> Relaxation:
        """Return the relaxation of a batch."""
        return Relaxation.of(list(self.net), x)

    def free(self, x: Tensor) -> tuple[Relaxation, States]:
        """Return the free fixed point, from the pass upwards."""
        relaxation = self.relaxation(x)
        return relaxation, relaxation.run(relaxation.upwards(), int(self.option["free_sweeps"]))

    def target(self, batch: Batch) -> Tensor:
        """Return the label as one-hot vector, in the precision of the network."""
        return one_hot(batch.y, self.net.n_classes).to(next(self.net.parameters()).dtype)

    def outcome(self, batch: Batch, free: States, residual: float, nudged_sweeps: int) -> Outcome:
        """Return the squared error of the free output and the residual of the free phase."""
        logits = free[self.net.layers[-1]]
        loss = 0.5 * (logits - self.target(batch)).square().sum(1).mean()
        sweeps = int(self.option["free_sweeps"]) + nudged_sweeps
        counters = {"forward": 1 + sweeps, "backward": sweeps, "inference_steps": sweeps}
        return Outcome(loss, logits, counters, {"residual": residual})

    def features(self, x: Tensor, taps: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the hidden states at the free fixed point, each of the shape of its tap."""
        set_mode(self.net, training=False)
        states = self.free(x)[1]
        return {name: states[name] for name in (self.net.taps if taps is None else taps)}

    def native_logits(self, x: Tensor) -> Tensor | None:
        """Return the output state at the free fixed point."""
        set_mode(self.net, training=False)
        return self.free(x)[1][self.net.layers[-1]]


class EquilibriumRule(HopfieldRule):
    """Phases nudged towards the label by beta * 1/2 |s_L - y|^2, from the free fixed point."""

    def nudge(self, target: Tensor, beta: Tensor) -> Nudge:
        """Return the output's minimum of E + beta/2 |s - y|^2, per input of the batch: (n, n_classes), (n, 1)."""
        return lambda field: (field + beta * target) / (1 + beta)

    def nudged(self, relaxation: Relaxation, free: States, target: Tensor, betas: Sequence[float]) -> list[States]:
        """Return the states of one nudged phase per beta, all run as one batch."""
        n, times = len(target), len(betas)
        beta = torch.cat([target.new_full((n, 1), value) for value in betas])
        start = {name: state.repeat(times, *[1] * (state.ndim - 1)) for name, state in free.items()}
        nudge = self.nudge(target.repeat(times, 1), beta)
        found = relaxation.repeated(times).run(start, int(self.option["nudged_sweeps"]), nudge)
        return [{name: state[i * n : (i + 1) * n] for name, state in found.items()} for i in range(times)]


PHASE_OPTIONS = {
    "learning_rate": Option(
        0.0,
        "Peak of the one-cycle schedule; 0 takes a third of the common budget's, of convolutions a tenth.",
        grid=(3e-4, 1e-3, 3e-3),
    ),
    # As weights grow the free phase takes longer: with 10 sweeps one-sided learning stops where it is not settled.
    "free_sweeps": Option(20, "Sweeps of the free phase: all odd layers, then all even ones.", grid=(10, 20, 30)),
    "nudged_sweeps": Option(4, "Sweeps of each nudged phase, from the free fixed point.", grid=(3, 4, 8)),
    "beta": Option(0.5, "Strength of the nudge, below 1.", grid=(0.1, 0.3, 0.5)),
}


@register
class EquilibriumPropagation(EquilibriumRule):
    """dW = -(dE/dW(s_beta) - dE/dW(s_0)) / beta: a free phase, then one that is nudged weakly towards the label.

    The bias of the estimate is linear in beta. With `random_sign` the sign of beta is drawn anew for every batch,
    which cancels it on average.
    """

    info = RuleInfo(
        name="equilibrium_propagation",
        family="energy",
        source="Scellier & Bengio 2017, Frontiers in Computational Neuroscience 11",
        summary="A recurrent network relaxes freely, then nudged towards the label; weights learn from the difference.",
        needs=("labels", "phases"),
        plausibility=Plausibility(weight_transport=True, global_error=True, phases=True, online=False),
        architectures=("mlp",),
        refuses={**REFUSES, "conv": "its one-sided estimate is too biased to train them; take the centred one."},
        own_function=True,
    )
    options = {
        **PHASE_OPTIONS,
        "beta": replace(PHASE_OPTIONS["beta"], default=0.2),
        "random_sign": Option(True, "Draw the sign of beta anew for every batch."),
    }

    def gradients(self, batch: Batch) -> Outcome:
        """Write the contrast of the nudged and the free phase."""
        beta = float(self.option["beta"])
        if self.option["random_sign"] and float(torch.rand((), generator=self.generator, dtype=torch.float64)) < 0.5:
            beta = -beta
        relaxation, free = self.free(batch.x)
        residual = relaxation.residual(free)
        (nudged,) = self.nudged(relaxation, free, self.target(batch), [beta])
        write_contrast(list(self.net), batch.x, nudged, free, dict.fromkeys(self.net.layers, 1 / beta))
        return self.outcome(batch, free, residual, int(self.option["nudged_sweeps"]))


@register
class CentredEquilibriumPropagation(EquilibriumRule):
    """dW = -(dE/dW(s_beta) - dE/dW(s_-beta)) / (2 beta): nudged towards the label and away from it.

    The bias of the estimate is quadratic in beta, and what the free phase left unrelaxed cancels.
    """

    info = replace(
        EquilibriumPropagation.info,
        name="centred_equilibrium_propagation",
        source="Laborieux et al. 2021, Frontiers in Neuroscience 15",
        summary="Equilibrium propagation with one phase nudged towards the label and one away from it.",
        architectures=("mlp", "conv"),
        refuses=REFUSES,
    )
    options = PHASE_OPTIONS

    def gradients(self, batch: Batch) -> Outcome:
        """Write the contrast of the two nudged phases."""
        beta = float(self.option["beta"])
        relaxation, free = self.free(batch.x)
        residual = relaxation.residual(free)
        towards, away = self.nudged(relaxation, free, self.target(batch), [beta, -beta])
        write_contrast(list(self.net), batch.x, towards, away, dict.fromkeys(self.net.layers, 0.5 / beta))
        return self.outcome(batch, free, residual, 2 * int(self.option["nudged_sweeps"]))


@register
class ContrastiveHebbian(HopfieldRule):
    """dW_l = gamma^(l-L) (s_l s_{l-1}^T (clamped) - s_l s_{l-1}^T (free)): the output is clamped to the label.

    The limit of a nudge without bound. gamma scales what comes from above; as it falls towards 0 the update
    approaches that of backpropagation (Xie & Seung 2003).
    """

    info = replace(
        EquilibriumPropagation.info,
        name="contrastive_hebbian",
        source="Movellan 1991, Connectionist Models; Xie & Seung 2003, Neural Computation 15",
        summary="A free phase and one with the output clamped to the label; weights learn from the difference.",
        architectures=("mlp", "conv"),
        refuses=REFUSES,
    )
    options = {
        **{name: option for name, option in PHASE_OPTIONS.items() if name not in ("beta", "nudged_sweeps")},
        # Clamping moves the states far: what is left of the free phase counts little.
        "free_sweeps": replace(PHASE_OPTIONS["free_sweeps"], default=10, grid=(6, 10, 20)),
        "clamped_sweeps": Option(4, "Sweeps of the clamped phase, from the free fixed point.", grid=(3, 4, 8)),
        "feedback": Option(1.0, "gamma, the factor on what comes from above.", grid=(0.3, 0.5, 1.0)),
    }

    def relaxation(self, x: Tensor) -> Relaxation:
        """Return the relaxation of a batch with weakened feedback."""
        return Relaxation.of(list(self.net), x, float(self.option["feedback"]))

    def gradients(self, batch: Batch) -> Outcome:
        """Write the contrast of the clamped and the free phase."""
        relaxation, free = self.free(batch.x)
        residual, target = relaxation.residual(free), self.target(batch)
        clamped = relaxation.run(free, int(self.option["clamped_sweeps"]), lambda field: target)
        gamma, layers = float(self.option["feedback"]), self.net.layers
        factors = {name: gamma ** (index + 1 - len(layers)) for index, name in enumerate(layers)}
        write_contrast(list(self.net), batch.x, clamped, free, factors)
        return self.outcome(batch, free, residual, int(self.option["clamped_sweeps"]))
