"""Reward-modulated STDP: what the race of first spikes did is the eligibility, a scalar reward decides its sign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from decoders.errors import Unsupported
from decoders.learning.first_spike import Fired, highest_around
from decoders.learning.options import Option
from decoders.learning.rule import RuleInfo, register
from decoders.learning.rules.stdp import FIRST_SPIKE, NO_FIRST_SPIKE, FirstSpikeRule, Reached
from decoders.models.networks import Block, Network
from decoders.models.trainer import Batch


def groups(values: Tensor, n_classes: int) -> Tensor:
    """Return neurons by the class that they stand for in turn, (n, members, n_classes, ...); the rest stands for none.

    Parameters
    ----------
    values : tensor of shape (n, n_neurons, ...)
    n_classes : int
    """
    members = values.shape[1] // n_classes
    return values[:, : members * n_classes].unflatten(1, (members, n_classes))


def race_eligibility(drive: Tensor, losers: float, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the decision of each race, (n, ...), and the eligibility of each group, (n, n_classes, ...).

    The group with the highest drive decides. Its eligibility is 1, and that of every group is lowered by its share
    in the softmax of drives: this is the derivative of the log-probability of the decision (REINFORCE).
    """
    decision = drive.argmax(1)
    chosen = torch.zeros_like(drive).scatter_(1, decision.unsqueeze(1), 1.0)
    return decision, chosen - losers * torch.softmax(drive / temperature, 1)


@register
class RewardSTDP(FirstSpikeRule):
    """``dW = R * E``: eligibility E is the STDP of the race, R says whether its decision was right.

    Every layer decides: its neurons stand for the classes in turn (neuron j for class j mod n_classes; in the
    output one neuron per class). The drive of a class is the mean rank of its `winners` earliest neurons, and the
    class with the highest drive is the decision. A right one is rewarded, a wrong one punished, by a scalar;
    nothing else about the label reaches the layer. Those earliest neurons that spiked learn: the STDP of the
    deciding group counts fully, and that of all groups counts with the opposite sign by how close they came (softmax
    of the drives), which makes dW an estimate of the gradient of the expected reward and removes what all groups
    share. ``losers=0, winners=1`` is the plain rule of Mozafari et al., in which the one that decides learns alone.
    Layers learn one after another from below. The network's own prediction is the decision of the output.

    With `balance`, R is the share of wrong decisions in the batch for right ones, and minus the share of right
    ones for wrong ones (Mozafari et al. 2018, equation 5): reward minus its mean.
    """

    info = RuleInfo(
        name="reward_stdp",
        family="spiking",
        source="Mozafari et al. 2018, IEEE TNNLS 29(12); eligibility: Williams 1992, Machine Learning 8; Florian 2007, "
        "Neural Computation 19",
        summary="STDP of the neurons that race for a decision, times a scalar reward for it.",
        needs=("reward", "time"),
        plausibility=FIRST_SPIKE,
        architectures=("spiking",),
        refuses=NO_FIRST_SPIKE,
        own_function=True,
    )
    options = {
        **FirstSpikeRule.options,
        "learning_rate": replace(FirstSpikeRule.options["learning_rate"], default=3.0, grid=(1.0, 3.0, 10.0)),
        "tau": replace(FirstSpikeRule.options["tau"], default=8.0, grid=(4.0, 8.0, 30.0)),
        "homeostasis": replace(FirstSpikeRule.options["homeostasis"], default=0.5, grid=(0.1, 0.5)),
        "target": replace(FirstSpikeRule.options["target"], grid=()),
        "winners": Option(4, "Earliest neurons of each class that stand for it in the race.", grid=(1, 4)),
        "temperature": Option(2.0, "Of the softmax of drives; a drive is about the steps left after the spike."),
        "losers": Option(1.0, "Weight of the opposite change by how close a group came; 0 for the winner alone."),
        "balance": Option(True, "Scale reward and punishment by the shares of wrong and right decisions."),
    }

    def check_support(self, net: Network) -> None:
        """Refuse layers in which a class would have no neuron."""
        super().check_support(net)
        narrow = [block.name for block in net if len(block.affine.weight) < net.n_classes]
        if narrow:
            why = f"{', '.join(narrow)} has fewer neurons than there are classes ({net.n_classes})."
            raise Unsupported(self.info.name, net.architecture, why)

    def reward(self, right: Tensor) -> Tensor:
        """Return R of each decision, (n,), from whether it was right, (n,) of 0 and 1."""
        if not self.option["balance"]:
            return 2 * right - 1
        share = right.mean() if len(right) else 0.0
        return right * (1 - share) - (1 - right) * share

    def race(self, fired: Fired) -> tuple[Tensor, Tensor]:
        """Return the neurons that stand for their class, 1 or 0, as `groups`, and the drives, (n, n_classes, ...)."""
        score = groups(fired.score, self.net.n_classes)
        earliest = score.topk(min(int(self.option["winners"]), score.shape[1]), 1).values
        return ((score >= earliest[:, -1:]) & (score > 0)).to(score.dtype), earliest.mean(1)

    def decides(self, drive: Tensor) -> Tensor:
        """Return where a race counts, (n, ...): in a convolution where no drive around is higher."""
        best = drive.amax(1)
        if best.ndim == 1:
            return torch.ones_like(best)
        around = highest_around(best, int(self.option["radius"]))
        return ((best == around) & (best > 0)).to(best.dtype)

    def compete(self, block: Block, fired: Fired, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the neurons of the race, and reward times eligibility; a convolution decides at many positions."""
        members, drive = self.race(fired)
        counts = self.decides(drive)
        decision, eligibility = race_eligibility(drive, float(self.option["losers"]), float(self.option["temperature"]))
        right = (decision == batch.y.view(-1, *[1] * (decision.ndim - 1))).to(drive.dtype)
        reward, chosen = torch.zeros_like(right), counts.bool()
        reward[chosen] = self.reward(right[chosen])
        eligible = members * counts.unsqueeze(1).unsqueeze(1) * eligibility.unsqueeze(1)
        modulator = eligible * reward.unsqueeze(1).unsqueeze(1)
        return self._neurons((eligible != 0).to(drive.dtype), fired), self._neurons(modulator, fired)

    def _neurons(self, grouped: Tensor, fired: Fired) -> Tensor:
        """Return values of `groups` as values of neurons, 0 for those that stand for no class."""
        found = torch.zeros_like(fired.excess)
        flat = grouped.flatten(1, 2)
        found[:, : flat.shape[1]] = flat
        return found

    def prediction(self, found: Sequence[Reached]) -> Tensor | None:
        """Return the order of the race among the output neurons; none while hidden layers learn."""
        block, _, fired = found[-1]
        return fired.score if block.kind == "output" else None

    @torch.no_grad()
    def native_logits(self, x: Tensor) -> Tensor:
        """Return the order of the race among the output neurons: (n, n_classes)."""
        super().native_logits(x[:1])
        return self.reach(x)[-1][2].score
