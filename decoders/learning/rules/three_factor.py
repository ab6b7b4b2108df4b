"""Three-factor Hebbian learning: presynaptic activity x exploratory postsynaptic activity x a scalar reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from decoders.learning.local_updates import KINDS, REFUSES, correlate
from decoders.learning.options import COMMON, Option
from decoders.learning.rule import LearningRule, Outcome, Plausibility, RuleInfo, register
from decoders.models.networks import Block
from decoders.models.trainer import Batch


def modulated(block: Block, modulator: Tensor, post: Tensor, pre: Tensor) -> Tensor:
    """Return the mean over samples of M x post x pre, summed over positions and time steps: shape of the weight.

    Parameters
    ----------
    block : Block
    modulator : tensor of shape (n,), or of the shape of `post`
        One number per sample (a neuromodulator), or one per unit.
    post : tensor of shape (n, units, rows, columns), (n, units), (n, time, units) or (time x n, units)
    pre : tensor of the shape of the block's input
    """
    signal = modulated_signal(modulator, post)
    n_samples = len(modulator)
    return correlate(block, signal, pre) * (signal.numel() // signal.shape[1 if signal.ndim == 4 else -1] / n_samples)


def modulated_signal(modulator: Tensor, post: Tensor) -> Tensor:
    """Return M x post; a recurrent block's post holds the samples once per time step, one step after the other."""
    if modulator.ndim == 1:
        modulator = modulator.repeat(len(post) // len(modulator)).view(-1, *[1] * (post.ndim - 1))
    return modulator * post


@register
class ThreeFactorHebb(LearningRule):
    """dW = M xi x^T with M = R - <R>: exploration that was followed by more reward than usual is reinforced.

    Every unit explores by Gaussian noise xi on its response; postsynaptic activity counts as its deviation from what
    the unit would have done, which is xi, in units of its variance. R is one number per sample, and <R> what was
    expected: no unit learns of another's error. Each sample is presented several times, and <R> is the mean reward
    of its other presentations (the expectation of a critic that knows the stimulus; Frémaux, Sprekeler & Gerstner
    2010, J. Neurosci. 30:13326); with a single presentation it is the running mean over all samples. With R = -loss
    this is the correlation estimate of the gradient (REINFORCE) without a noiseless pass, so it is noisier than node
    perturbation.
    """

    info = RuleInfo(
        name="three_factor_hebb",
        family="hebbian",
        source="Frémaux & Gerstner 2016, Front. Neural Circuits 9:85; Legenstein et al. 2010, J. Neurosci. 30:8400",
        summary="Hebbian exploration, gated by a scalar reward minus its running mean.",
        needs=("labels", "reward", "noise"),
        plausibility=Plausibility(weight_transport=False, global_error=False, phases=False, online=False),
        architectures=KINDS,
        refuses={**REFUSES, "spiking": "reward_stdp is the three-factor rule of spiking networks."},
    )
    fits_batch_within = 0
    may_be_silent = True
    # Of the common rate: the estimate is so noisy that Adam at the full rate is a random walk.
    rate_share: ClassVar[float] = 0.5
    options: ClassVar[Mapping[str, Option]] = {
        "learning_rate": replace(COMMON["learning_rate"], grid=(2e-4, 5e-4, 1.5e-3)),
        "sigma": Option(0.3, "Noise, relative to the standard deviation of a layer's responses.", grid=(0.1, 0.3, 1.0)),
        "presentations": Option(8, "Presentations of each input per update, each with its own noise.", grid=(1, 8, 32)),
        "baseline_rate": Option(0.05, "With one presentation: share of the newest batch in the mean reward."),
        "reward": Option(
            "likelihood",
            "Reward: log-likelihood of the label, or 1 where the noisy prediction is right.",
            choices=("likelihood", "correct"),
        ),
    }

    def prepare(self) -> None:
        """Add the running mean of the reward, and the initial standard deviation of each layer's responses."""
        weight = next(self.net.parameters())
        self.extra = {f"sd.{layer}": torch.zeros((), dtype=weight.dtype) for layer in self.net.layers}
        self.extra["reward"] = torch.zeros((), dtype=weight.dtype)
        self.extra["seen"] = torch.zeros((), dtype=weight.dtype)

    def explore(self, block: Block, z: Tensor) -> Tensor:
        """Return noise of the shape of the responses; its size is set by the first batch, and fixed from then on."""
        sd = self.extra[f"sd.{block.name}"]
        if not float(sd):
            sd.copy_(z.std(correction=0))
        drawn = torch.randn(z.shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(z) * sd * float(self.option["sigma"])

    def reward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return R per presentation."""
        if self.option["reward"] == "correct":
            return (logits.argmax(1) == y).to(logits.dtype)
        return -cross_entropy(logits, y, reduction="none")

    def modulator(self, reward: Tensor) -> Tensor:
        """Return M = R - <R> per presentation; those of an input stand one after the other."""
        count = int(self.option["presentations"])
        if count > 1:
            each = reward.view(-1, count)
            # R minus the mean of the others is n / (n - 1) times R minus the mean of all.
            return ((each - each.mean(1, keepdim=True)) * count / (count - 1)).flatten()
        usual = self.extra["reward"]
        if not float(self.extra["seen"]):
            usual.copy_(reward.mean())
        self.extra["seen"] += 1
        found = reward - usual
        usual.lerp_(reward.mean(), float(self.option["baseline_rate"]))
        return found

    def gradients(self, batch: Batch) -> Outcome:
        """Write minus the update of every layer, from one noisy pass over all presentations."""
        count = int(self.option["presentations"])
        y = batch.y.repeat_interleave(count)
        pre: dict[str, list[Tensor]] = {block.name: [] for block in self.net}
        noise: dict[str, list[Tensor]] = {block.name: [] for block in self.net}

        def noisy(block: Block, x: Tensor) -> Tensor:
            z = block.affine(x)
            pre[block.name].append(x)
            noise[block.name].append(self.explore(block, z))
            return z + noise[block.name][-1]

        with torch.no_grad():
            logits = self.net.run(batch.x.repeat_interleave(count, 0), affine=noisy).logits
            reward = self.reward(logits, y)
            modulator = self.modulator(reward)
            for block in self.net:
                self.write(block, modulator, torch.cat(noise[block.name]), torch.cat(pre[block.name]))
        monitors = {"reward": float(reward.mean()), "modulator_sd": float(modulator.std(correction=0))}
        shown = logits.view(-1, count, logits.shape[1]).mean(1)
        return Outcome(cross_entropy(logits, y), shown, {"forward": count}, monitors)

    def write(self, block: Block, modulator: Tensor, noise: Tensor, pre: Tensor) -> None:
        """Write minus M xi x^T / variance to the weight, and minus M xi / variance to the bias."""
        spread = (self.extra[f"sd.{block.name}"] * float(self.option["sigma"])).clamp_min(1e-12)
        post = noise / spread**2
        block.affine.weight.grad = -modulated(block, modulator, post, pre)
        if block.affine.bias is not None:
            signal = modulated_signal(modulator, post)
            summed = signal.sum((0, 2, 3)) if signal.ndim == 4 else signal.flatten(0, -2).sum(0)
            block.affine.bias.grad = -summed / len(modulator)
