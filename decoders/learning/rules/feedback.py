"""Random feedback in place of transported weights: feedback alignment and direct feedback alignment."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from decoders.learning.autograd import SignalReplace, feedback_affine
from decoders.learning.rule import LearningRule, Outcome, Plausibility, RuleInfo, register
from decoders.models.networks import Block
from decoders.models.trainer import Batch


@register
class FeedbackAlignment(LearningRule):
    """Errors travel back through fixed random weights B: delta_l = (B_{l+1} delta_{l+1}) * f'(z_l).

    B is drawn as W is, has W's shape, and replaces it in every affine map on the way back (transposed
    convolution for kernels), from the output into the last hidden layer too. Weight updates are exact for
    the errors that arrive, so the output layer's own update is that of backpropagation. Pooling, activation
    and batch norm are differentiated exactly.
    """

    info = RuleInfo(
        name="feedback_alignment",
        family="feedback",
        source="Lillicrap, Cownden, Tweed & Akerman 2016, Nature Communications 7:13276",
        summary="Backpropagation with fixed random feedback weights in place of the transposed forward weights.",
        needs=("labels",),
        plausibility=Plausibility(weight_transport=False, global_error=True, phases=True, online=False),
    )

    def prepare(self) -> None:
        """Draw B for every block; the first one's is never used, since no error travels below it."""
        self.extra = {f"feedback.{block.name}": self.draw_like(block) for block in self.net}

    def affine(self, block: Block, x: Tensor) -> Tensor:
        """Apply the block's affine map with its feedback weights on the way back."""
        return feedback_affine(block, x, self.extra[f"feedback.{block.name}"])

    def gradients(self, batch: Batch) -> Outcome:
        """Write the update of every layer."""
        logits = self.net.run(batch.x, affine=self.affine).logits
        loss = cross_entropy(logits, batch.y)
        loss.backward()
        return Outcome(loss.detach(), logits, {"forward": 1, "backward": 1})


@register
class DirectFeedbackAlignment(LearningRule):
    """The output error reaches every tap directly: delta_l = (B_l e) * f'(z_l), B_l fixed and random.

    B_l has one map per class of the tap's whole shape (channel x row x column for convolutions), and is
    injected at the block's output, behind activation and pooling. Within the block, pooling, activation and
    batch norm are differentiated exactly; nothing passes between blocks. The output layer gets the exact gradient.
    """

    info = RuleInfo(
        name="direct_feedback_alignment",
        family="feedback",
        source="Nøkland 2016, NeurIPS (arXiv:1609.01596)",
        summary="The output error reaches each hidden layer directly through fixed random weights.",
        needs=("labels",),
        plausibility=Plausibility(weight_transport=False, global_error=True, phases=True, online=False),
    )

    def prepare(self) -> None:
        """Draw B for every tap: normal, variance 1/n_classes, shape (n_classes, units of the tap)."""
        n_classes = self.net.n_classes
        weight = next(self.net.parameters())
        self.shapes = self.net.tap_shapes(self.spec.picture_shape)
        for name, shape in self.shapes.items():
            drawn = torch.randn((n_classes, prod(shape)), generator=self.generator, dtype=torch.float64)
            self.extra[f"feedback.{name}"] = (drawn * n_classes**-0.5).to(weight.dtype)

    def error(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return e, the gradient of the mean cross-entropy by the logits: (n_pictures, n_classes)."""
        return (logits.softmax(1) - one_hot(batch.y, logits.shape[1])) / len(logits)

    def gradients(self, batch: Batch) -> Outcome:
        """Write the update of every layer."""
        signals: dict[str, Tensor] = {}
        logits = self.net.run(batch.x, after=lambda block, h: SignalReplace.apply(h, signals, block.name)).logits
        error = self.error(logits.detach(), batch)
        for name, shape in self.shapes.items():
            signals[name] = (error @ self.extra[f"feedback.{name}"]).view(-1, *shape)
        logits.backward(error)
        return Outcome(cross_entropy(logits.detach(), batch.y), logits, {"forward": 1, "backward": 1})
