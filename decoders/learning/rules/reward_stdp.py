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

RECENT = 0.02  # weight of a batch in the running share of right decisions


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
    Layers learn one after another from below. The network's own prediction is a vote: each layer casts its decision
    (a convolution the decisions of its positions), weighted by the log-odds of being right that its rewards have
    shown while it learned. Those are the best weights of voters who err independently (Nitzan & Paroush 1982).
    ``prediction: output`` asks the last race alone.

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
        "prediction": Option("vote", "By the vote of all layers, or by the output alone.", choices=("vote", "output")),
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
        self.rewarded[block.name] = (self.votes(fired).argmax(1) == batch.y).to(drive.dtype).mean()
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

    def prepare(self) -> None:
        """Set the thresholds, and the share of right decisions of each layer to chance."""
        super().prepare()
        self.rewarded: dict[str, Tensor] = {}
        for block in self.net:
            self.extra[f"right.{block.name}"] = torch.tensor(1 / self.net.n_classes, dtype=block.affine.weight.dtype)

    def votes(self, fired: Fired) -> Tensor:
        """Return the share of a layer's decisions that fall on each class, (n, n_classes)."""
        _, drive = self.race(fired)
        decisions = torch.zeros_like(drive).scatter_(1, drive.argmax(1, keepdim=True), 1.0)
        if drive.ndim == 2:
            return decisions
        counts = self.decides(drive).unsqueeze(1)
        return (decisions * counts).flatten(2).sum(-1) / counts.flatten(2).sum(-1).clamp(min=1)

    def weight(self, layer: str) -> Tensor:
        """Return the weight of a layer's vote: its log-odds of being right, against those of chance."""
        right = self.extra[f"right.{layer}"].clamp(max=1 - 1e-6)
        odds = right / (1 - right) * (self.net.n_classes - 1)
        # Layers at chance, as all are before training, still vote among themselves.
        return odds.clamp(min=1e-6).log().clamp(min=1e-3)

    def decide(self, found: Sequence[Reached]) -> Tensor:
        """Return the decision of the network, (n, n_classes)."""
        if self.option["prediction"] == "output":
            return found[-1][2].score
        return torch.stack([self.weight(block.name) * self.votes(fired) for block, _, fired in found]).sum(0)

    def prediction(self, found: Sequence[Reached]) -> Tensor | None:
        """Return the decision before the update; none while hidden layers learn."""
        return self.decide(found) if found[-1][0].kind == "output" else None

    def post_step(self) -> None:
        """Keep how often each layer of the stage was right lately."""
        super().post_step()
        for layer, right in self.rewarded.items():
            self.extra[f"right.{layer}"].lerp_(right, RECENT)
        self.rewarded.clear()

    @torch.no_grad()
    def native_logits(self, x: Tensor) -> Tensor:
        """Return the decision of the network: (n, n_classes)."""
        super().native_logits(x[:1])
        return self.decide(self.reach(x))
