"""Target propagation: layers receive targets in place of errors, through learned feedback connections."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from decoders.errors import Unsupported
from decoders.learning.options import COMMON, Option
from decoders.learning.rule import LearningRule, Outcome, Plausibility, RuleInfo, register
from decoders.learning.target_feedback import (
    AdjointFeedback,
    Feedback,
    InverseFeedback,
    Visit,
    difference_loss,
    reconstruction_loss,
    visits,
)
from decoders.models.networks import Network
from decoders.models.trainer import Batch, Stage

_REFUSES = {
    "recurrent": "its targets go from layer to layer; through time it would need a feedback map per step of the text.",
    "spiking": "targets are graded activities, and the units of this network spike.",
    "vectorised": "its units are vectors behind fixed gates, for which the source defines no feedback map.",
}
_ONE_CONSUMER = "a tap that two blocks read would have two targets, and the source does not say how to join them."


class TargetRule(LearningRule):
    """Local losses ||h_l - t_l||^2 for targets that feedback connections bring from the output.

    The output's target is a gradient step, t_L = h_L - step * dLoss/dh_L; every other target comes through
    feedback connections, and no forward weight is used on the way down. A few outputs determine no inverse:
    like Lee et al., who let the last hidden layer descend the gradient, all rules take the difference form with
    a learned transposed Jacobian from the output to that layer. The gradient of each local loss is divided by
    the step, which therefore does not scale the updates. Feedback and forward weights learn from the same
    batches, each by its own loss; no loss reaches the others' weights.
    """

    fits_batch_within: ClassVar[int] = 200

    options: ClassVar[dict[str, Option]] = {
        "target_step": Option(0.1, "Size of the gradient step from the output to its target.", grid=(0.03, 0.1, 0.3)),
        "noise": Option(0.05, "Amplitude of the noise that trains the feedback, in units of activity."),
        "companion_rate": Option(3.0, COMMON["companion_rate"].meaning, grid=(1.0, 3.0, 10.0)),
        "window": Option(100, "Updates over which transposed feedback is averaged.", grid=(50, 100, 200)),
        "draws": Option(1, "Draws of noise per update for the transposed feedback of fully connected layers."),
        "feedback_inputs": Option(
            32, "Inputs of a batch that train the feedback of convolutions, which have many positions each."
        ),
        "feedback_first": Option(
            0.0, "Share of the updates, at the beginning, in which the feedback alone learns; as many ease the rest in."
        ),
    }

    def prepare(self) -> None:
        """Draw a feedback connection for every block but the first."""
        self.curvature: dict[str, float] = {}
        _, *others = self.net
        for block in others:
            adjoint = self.adjoint or block.kind == "output"
            self.companions[f"feedback_{block.name}"] = AdjointFeedback(block) if adjoint else InverseFeedback(block)

    @property
    def adjoint(self) -> bool:
        """Whether the feedback is to become the transposed Jacobian of the forward map; else its inverse."""
        return False

    def feedback(self, visit: Visit) -> Feedback:
        """Return the feedback connection of a block."""
        return self.companions[f"feedback_{visit.block.name}"]  # type: ignore[return-value]

    def output_change(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return t_L - h_L = -step * (softmax(h_L) - y), per input and not divided by their number."""
        return float(self.option["target_step"]) * (one_hot(y, logits.shape[1]) - logits.softmax(1))

    def changes(self, passed: list[Visit], top: Tensor) -> dict[str, Tensor]:
        """Return t_l - h_l of every block, from the output's one on: small next to h_l, so that it is kept apart."""
        raise NotImplementedError

    def gradients(self, batch: Batch) -> Outcome:
        """Write the update of every layer from its target, and that of every feedback connection."""
        passed = visits(self.net, batch.x)
        logits = passed[-1].h.detach()
        changes = self.changes(passed, self.output_change(logits, batch.y))
        scale = float(self.option["target_step"]) * len(logits)
        for visit in passed:
            visit.learn(-changes[visit.block.name] / scale)
        monitors = {"feedback_loss": self.learn_feedback(passed)}
        counters = {"forward": 2, "backward": 1, "inference_steps": 1}
        return Outcome(cross_entropy(logits, batch.y), logits, counters, monitors)

    def forward_share(self) -> float:
        """Return the share of the learning rate at which the network moves now: 0, then rising to 1."""
        alone = float(self.option["feedback_first"]) * self.n_steps
        # A start at the full rate, in the middle of the schedule, would kill layers.
        return min(max(self.n_done / alone - 1, 0.0), 1.0) if alone else 1.0

    def _schedule(self, optimizer: torch.optim.Optimizer) -> float:
        rate = super()._schedule(optimizer)
        optimizer.param_groups[0]["lr"] *= self.forward_share()
        return rate

    def companion_parameters(self, stage: Stage) -> list[nn.Parameter]:
        """Return the parameters of inverse feedback; transposed feedback is learned by `post_step`."""
        inverse = [feedback for feedback in self.companions.values() if isinstance(feedback, InverseFeedback)]
        return [parameter for feedback in inverse for parameter in feedback.parameters()]

    def learn_feedback(self, passed: list[Visit]) -> float:
        """Write the gradients of the feedback connections; return their mean loss."""
        losses = []
        for visit in passed[1:]:
            feedback, loss = self.feedback(visit), self.feedback_loss(visit)
            parameters = list(feedback.parameters())
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def feedback_loss(self, visit: Visit) -> Tensor:
        """Return the loss of one feedback connection; mean over the inputs."""
        feedback, sigma = self.feedback(visit), float(self.option["noise"])
        draws = int(self.option["draws"])
        if visit.block.kind == "conv":
            visit, draws = visit.first(int(self.option["feedback_inputs"])), 1
        if not isinstance(feedback, AdjointFeedback):
            return reconstruction_loss(feedback, visit, self.signs, sigma)
        losses, curvatures = zip(
            *[difference_loss(feedback, visit, self.signs, sigma) for _ in range(draws)], strict=True
        )
        self.curvature[visit.block.name] = float(torch.stack(curvatures).mean(0).max())
        return torch.stack(losses).mean()

    def post_step(self) -> None:
        """Move transposed feedback down its loss, so that it averages over the last updates.

        The loss is quadratic with a diagonal Hessian. A step of one over its largest entry takes Theta of the most
        active units to this batch's estimate of W, which is mostly noise; the step is divided by the number of
        updates to average. Units that are seldom active average over more of them.
        """
        rate = 1 / min(self.n_done + 1, int(self.option["window"]))
        for name, curvature in self.curvature.items():
            for weight in self.companions[f"feedback_{name}"].parameters():
                if weight.grad is not None:
                    weight.sub_(weight.grad, alpha=rate / max(curvature, 1e-12))

    def difference(self, visit: Visit, change: Tensor) -> Tensor:
        """Return g(h + change) - g(h), of the shape of the block's input."""
        feedback, h = self.feedback(visit), visit.h.detach()
        if isinstance(feedback, AdjointFeedback):
            return feedback(visit, change)  # linear
        return feedback(visit, h + change) - feedback(visit, h)

    def signs(self, like: Tensor) -> Tensor:
        """Draw +-1, each with probability 1/2, of the shape of `like`."""
        return torch.randint(0, 2, like.shape, generator=self.generator, dtype=torch.int8).to(like.dtype) * 2 - 1


@register
class TargetPropagation(TargetRule):
    """t_{l-1} = g_l(t_l), with feedback g_l trained to invert the forward map.

    Where g_l is no exact inverse, targets differ from the activities even without an error at the output; that
    is the weakness which the difference correction removes (TP-1 of the identities).
    """

    info = RuleInfo(
        name="target_propagation",
        family="targets",
        source="Bengio 2014, arXiv:1407.7906; Lee, Zhang, Fischer & Bengio 2015, ECML (arXiv:1412.7525), section 2.1",
        summary="Each layer learns towards a target that learned approximate inverses bring down from the output.",
        needs=("labels", "feedback_net"),
        plausibility=Plausibility(weight_transport=False, global_error=True, phases=True, online=False),
        architectures=("conv", "mlp"),
        refuses={**_REFUSES, "residual": _ONE_CONSUMER, "transformer": _ONE_CONSUMER},
    )
    fits_batch_within: ClassVar[int] = 400
    # An inverse that is not exact pulls at the activities whatever the error is: the target must be far away for the
    # error to be heard, and the inverse must be learned before anything follows it.
    options: ClassVar[dict[str, Option]] = {
        **TargetRule.options,
        "learning_rate": replace(COMMON["learning_rate"], default=1e-3),
        "target_step": replace(TargetRule.options["target_step"], default=100.0, grid=(30.0, 100.0, 300.0)),
        "noise": replace(TargetRule.options["noise"], default=0.01),
        "feedback_first": replace(TargetRule.options["feedback_first"], default=0.1, grid=(0.1, 0.3)),
    }

    def check_support(self, net: Network) -> None:
        """Refuse networks with skip connections also where they are of a supported kind."""
        super().check_support(net)
        if not net.is_chain:
            raise Unsupported(self.info.name, net.architecture, _ONE_CONSUMER)

    def changes(self, passed: list[Visit], top: Tensor) -> dict[str, Tensor]:
        """Return t_l - h_l of every block, from the output's one on."""
        found = {passed[-1].block.name: top}
        for lower, visit in reversed(list(pairwise(passed))):
            change = found[visit.block.name]
            if visit.block.kind == "output":
                found[lower.block.name] = self.difference(visit, change)
            else:
                target = self.feedback(visit)(visit, visit.h.detach() + change)
                found[lower.block.name] = target - lower.h.detach()
        return found


@register
class DifferenceTargetPropagation(TargetRule):
    """t_{l-1} = h_{l-1} + g_l(t_l) - g_l(h_l): errors of the inverse cancel.

    With the local difference reconstruction loss (``feedback_loss: ldrl``), the Jacobian of g_l learns to be
    the transposed one of the forward map, and the updates tend to those of backpropagation without any
    transport of weights. With ``reconstruction``, g_l learns an inverse (the original form). A tap that
    several blocks read (skip connections) gets the sum of their differences.
    """

    info = RuleInfo(
        name="difference_target_propagation",
        family="targets",
        source="Lee, Zhang, Fischer & Bengio 2015, ECML (arXiv:1412.7525); Ernoult et al. 2022, ICML",
        summary="Targets come down through learned feedback, less what it makes of the activity itself.",
        needs=("labels", "feedback_net"),
        plausibility=Plausibility(weight_transport=False, global_error=True, phases=True, online=False),
        architectures=("conv", "residual", "mlp", "transformer"),
        refuses=_REFUSES,
    )
    options: ClassVar[dict[str, Option]] = {
        **TargetRule.options,
        "feedback_loss": Option(
            "ldrl",
            "Local difference reconstruction (Ernoult et al. 2022), or reconstruction (Lee et al. 2015).",
            choices=("ldrl", "reconstruction"),
        ),
    }

    def check_support(self, net: Network) -> None:
        """Refuse skip connections with the reconstruction loss: a sum is not inverted part by part."""
        super().check_support(net)
        if not self.adjoint and not net.is_chain:
            why = "a block that adds a skipped tap has no inverse in one of the two; set feedback_loss to ldrl."
            raise Unsupported(self.info.name, net.architecture, why)

    @property
    def adjoint(self) -> bool:
        """Whether the feedback is to become the transposed Jacobian of the forward map; else its inverse."""
        return self.option["feedback_loss"] == "ldrl"

    def changes(self, passed: list[Visit], top: Tensor) -> dict[str, Tensor]:
        """Return t_l - h_l of every block, from the output's one on."""
        found = {passed[-1].block.name: top}

        def add(name: str, change: Tensor) -> None:
            found[name] = found[name] + change if name in found else change

        for lower, visit in reversed(list(pairwise(passed))):
            change = found[visit.block.name]
            add(lower.block.name, self.difference(visit, change))
            if visit.block.skip is not None:
                add(visit.block.skip, visit.to_skipped(change))
        return found
