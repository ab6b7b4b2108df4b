"""The probes of the plausibility audit: one rule on one small network, the network changed, the update compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from decoders.learning.audit_networks import N_SAMPLES, OVER_TIME, SEED, STEPS, Bench
from decoders.learning.memory import peak_bytes
from decoders.learning.rule import LearningRule, RuleSpec
from decoders.models.networks import Block, Network
from decoders.models.sequence import RecurrentBlock
from decoders.models.trainer import Batch

# A new rule with the given options, e.g. partial(registry.create, "backprop").
Make = Callable[..., LearningRule]
# Relative changes of an update below it are rounding (double precision).
UNCHANGED = 1e-8
_TIMES = (4, 8)
# Samples whose activity outweighs all weights in memory.
_N_MEMORY = 256
# One noise pattern per update, for rules with a scalar signal.
_ONE_PATTERN = {"draws": 1, "presentations": 1, "pairs": 1, "children": 1, "parents": 2}
# Updates of each layer.
Updates = dict[str, Tensor]
# What is done to a network, and by layer the columns of the weights whose updates must not care.
Change = tuple[Callable[[Network], None], Mapping[str, slice]]


class Probe:
    """The probes of one rule on one kind of network."""

    def __init__(self, make: Make, bench: Bench) -> None:
        self.make, self.bench = make, bench
        given = make()
        self.info = given.info
        self.scalar = bool({"noise", "reward"} & set(self.info.needs))
        self.one_pattern = {name: n for name, n in _ONE_PATTERN.items() if self.scalar and name in given.option}
        net = self.rule().net
        self.layers, self.architecture = net.layers, net.architecture
        self.n_stages = len(self.rule().stages(len(self.layers)))

    def rule(self, steps: int = STEPS) -> LearningRule:
        """Return the rule, set up with fixed seeds: the same weights and the same noise at every call."""
        rule = self.make(**self.one_pattern)
        rule.setup(self.bench.network(steps), RuleSpec(self.bench.input_shape(steps)), SEED)
        # A changed network may fall silent; that is no error here.
        rule.may_be_silent = True  # type: ignore[misc]
        return rule

    def transport_change(self) -> float:
        """Return the largest change of updates when weights above change without changing the activity."""
        return self.largest(self.transports())

    def locality_change(self) -> float:
        """Return the largest change of updates when all layers above are drawn anew."""
        return self.largest(self.redrawn())

    def label_change(self) -> float:
        """Return the largest change of updates when all labels change."""
        return self.largest([(unchanged, dict.fromkeys(self.layers, slice(None)))], shift=1)

    def transports(self) -> Iterator[Change]:
        """Yield what adds to a layer's weights without changing its output; updates of all layers below count.

        In a recurrent layer also what adds to the recurrent weights alone: there the updates of its input weights
        count, too, but not those of rules that perturb the activity, which see it in the perturbed activity.
        """
        net = self.rule().net
        for index, layer in enumerate(self.layers):
            below, block = dict.fromkeys(self.layers[:index], slice(None)), net[layer]
            if below:
                yield self.adder(layer, slice(None)), below
            if isinstance(block, RecurrentBlock):
                n_in = block.affine.in_features - block.n_units
                own = {} if self.scalar else {layer: slice(0, n_in)}
                yield self.adder(layer, slice(n_in, None)), {**below, **own}

    def adder(self, layer: str, columns: slice) -> Callable[[Network], None]:
        """Return what adds random weights to some columns of a layer, zero for all activity that the columns see."""

        def change(net: Network) -> None:
            rows = inputs_of(net, self.bench.batch().x, layer)[:, columns]
            weight = net[layer].affine.weight.detach()
            matrix = weight.view(len(weight), -1)[:, columns]
            drawn = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(SEED), dtype=matrix.dtype)
            matrix += (drawn - drawn @ torch.linalg.pinv(rows) @ rows) * matrix.std()

        return change

    def redrawn(self) -> Iterator[Change]:
        """Yield what draws all layers above one anew; the updates up to that layer count."""
        for index in range(1, len(self.layers) - 1):
            yield partial(self.redraw, self.layers[index:]), dict.fromkeys(self.layers[:index], slice(None))

    def redraw(self, layers: Sequence[str], net: Network) -> None:
        """Give layers other initial weights."""
        other = self.bench.network(seed=SEED + 1)
        for name in layers:
            net[name].load_state_dict(other[name].state_dict())

    def updates(self, change: Callable[[Network], None], shift: int, n: int) -> Updates:
        """Return the first update of every layer that the rule trains, from the initial weights."""
        found: Updates = {}
        for number in range(self.n_stages):
            rule, batch = self.rule(), self.bench.batch(n)
            with torch.no_grad():
                change(rule.net)
            stage = rule.stages(len(self.layers))[number]
            rule.begin_stage(stage, 4)
            rule.step(Batch(batch.x, (batch.y + shift) % rule.net.n_classes))
            for layer in rule.trained_layers(stage):
                weight = rule.net[layer].affine.weight
                found[layer] = torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()
        return found

    def largest(self, changes: Iterable[Change], shift: int = 0) -> float:
        """Return the largest relative change of an update; of its direction where the signal is a scalar."""
        known = list(changes)
        exact = self.compare(known, shift, N_SAMPLES, direction=False)
        if shift or not self.scalar or not exact > UNCHANGED:
            return exact
        return self.compare(known, 0, 1, direction=True)

    def compare(self, changes: Sequence[Change], shift: int, n: int, direction: bool) -> float:
        """Return the largest change over changed networks and counted layers; nan where none of them has an update."""
        before = self.updates(unchanged, 0, n)
        found: list[float] = []
        for change, counted in changes if before else []:
            after = self.updates(change, shift, n)
            for layer, columns in counted.items():
                if layer in before:
                    old, new = (update[layer].flatten(1)[:, columns] for update in (before, after))
                    found += [relative_change(old, new, direction)] if old.any() or new.any() else []
        return max(found, default=float("nan"))

    def passes(self) -> dict[str, int]:
        """Return the passes of the costliest stage's update, as the rule counts them."""
        found: dict[str, int] = {}
        rule = self.rule()
        for stage in rule.stages(len(self.layers)):
            rule.begin_stage(stage, 4)
            for name, count in rule.step(self.bench.batch()).counters.items():
                found[name] = max(found.get(name, 0), count)
        return found

    def memory_slope(self) -> float:
        """Return what is kept per time step beyond inference, in states of the network."""
        if self.bench.kind not in OVER_TIME or not self.n_stages:
            return float("nan")
        few, many = (self.kept(steps) for steps in _TIMES)
        return (many - few) / (_TIMES[1] - _TIMES[0])

    def kept(self, steps: int) -> float:
        """Return the peak memory of an update beyond that of inference, in states of the network."""
        rule, batch = self.rule(steps), self.bench.batch(_N_MEMORY, steps)
        rule.begin_stage(rule.stages(len(self.layers))[0], 4)
        rule.step(batch)  # the first update also makes the optimizer's state
        with torch.no_grad():
            inference = peak_bytes(lambda: rule.net.run(batch.x))
            units = sum(tap[0, 0].numel() for tap in rule.net.run(batch.x).taps.values())
        state = _N_MEMORY * units * batch.x.element_size()
        return (peak_bytes(lambda: rule.step(batch)) - inference) / state

    def is_binary(self) -> bool:
        """Return whether all activity of the network is 0 or 1."""
        with torch.no_grad():
            taps = self.rule().net.run(self.bench.batch().x).taps.values()
        return all(bool(((tap == 0) | (tap == 1)).all()) for tap in taps)


def unchanged(net: Network) -> None:
    """Leave the network as it is."""


def inputs_of(net: Network, x: Tensor, layer: str) -> Tensor:
    """Return all that a layer's affine map reads, as rows: (n, fan_in); patches of a convolution."""
    seen: list[Tensor] = []

    def affine(block: Block, h: Tensor) -> Tensor:
        if block.name == layer:
            seen.append(h)
        return block.affine(h)

    with torch.no_grad():
        net.run(x, affine=affine)
    conv = net[layer].affine
    if isinstance(conv, torch.nn.Conv2d):
        size = tuple(int(n) for n in conv.kernel_size)
        return torch.cat([torch.nn.functional.unfold(h, size, padding=1).transpose(1, 2).flatten(0, 1) for h in seen])
    return torch.cat([h.flatten(0, -2) for h in seen])


def relative_change(before: Tensor, after: Tensor, direction: bool = False) -> float:
    """Return ||after - before|| over the larger norm; `direction`: of both scaled to 1, the sign not counting.

    An update of zero has any direction.
    """
    norms = [float(update.norm()) for update in (before, after)]
    if not all(norms):
        return 0.0 if direction or not any(norms) else 1.0
    if not direction:
        return float((after - before).norm()) / max(norms)
    a, b = before / norms[0], after / norms[1]
    return min(float((a - b).norm()), float((a + b).norm()))
