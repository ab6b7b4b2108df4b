"""What a learning rule is: one interface for all families.

A rule receives a freshly initialised network, writes gradients (or minus its local updates) to ``.grad``,
and a shared optimizer applies them: learning rate, momentum and schedule are the same for all rules.

To add a rule, write a module in ``decoders/learning/rules``, decorate the class with ``@register``, and name
the module in ``decoders/learning/registry.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from decoders.errors import CorticodeError, TrainingFailed, Unsupported
from decoders.learning.options import COMMON, Option, OptionValue, chosen_options
from decoders.models.networks import Block, BlockKind, Network, NetworkKind, set_mode
from decoders.models.pictures import network_features
from decoders.models.trainer import Batch, Stage, StepReport, one_cycle

Need = Literal["labels", "reward", "negatives", "time", "feedback_net", "phases", "noise"]
ALL_KINDS: tuple[BlockKind, ...] = ("conv", "fc", "recurrent", "output")
FEEDFORWARD: tuple[NetworkKind, ...] = ("conv", "residual", "mlp")


@dataclass(frozen=True)
class Plausibility:
    """What a rule asks of a brain (learning-rules table: criteria T, G, P, O, S); claims that probes can test.

    Attributes
    ----------
    weight_transport : bool
        The error travels through the transpose of the forward weights.
    global_error : bool
        Every layer needs the error vector of the output.
    phases : bool
        Forward and update phases are separate.
    online : bool
        Updates need no stored past.
    spiking : bool
    """

    weight_transport: bool
    global_error: bool
    phases: bool
    online: bool
    spiking: bool = False


@dataclass(frozen=True)
class RuleInfo:
    """The card of a rule.

    Attributes
    ----------
    name : str
        Registered name, also in the results.
    family : str
    source : str
        Paper.
    summary : str
        One sentence for the report.
    needs : tuple of str
        What beyond pictures: labels, reward, negatives, time, feedback_net, phases, noise (drawn per sample).
    plausibility : Plausibility
    architectures : tuple of str
        Kinds of network that the rule is defined on.
    trains : tuple of {"conv", "fc", "recurrent", "output"}
        Kinds of block that the rule claims to train; all others must not move.
    refuses : dict of str to str
        For the other kinds of network: why not, as the end of a sentence ("it needs ...").
    own_function : bool
        Features and prediction are not those of the feed-forward pass, so that the rule needs a random
        baseline of its own: a control ``untrained_<name>`` is registered with it.
    """

    name: str
    family: str
    source: str
    summary: str
    needs: tuple[Need, ...]
    plausibility: Plausibility
    architectures: tuple[NetworkKind, ...] = FEEDFORWARD
    trains: tuple[BlockKind, ...] = ALL_KINDS
    refuses: Mapping[str, str] = field(default_factory=dict)
    own_function: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RuleSpec:
    """The common budget that a rule is set up for.

    Attributes
    ----------
    input_shape : tuple of int
        Of one training input: (3, n_rows, n_columns), or (n_characters, n_symbols).
    learning_rate : float
        Peak of the one-cycle schedule, unless the rule's own option says otherwise.
    """

    input_shape: tuple[int, ...] = (3, 32, 32)
    learning_rate: float = 3e-3


@dataclass
class Outcome:
    """What `LearningRule.gradients` returns.

    Attributes
    ----------
    loss : tensor of shape ()
        Mean over the batch; the rule's own.
    logits : tensor of shape (n, n_classes), optional
        The rule's prediction before the update.
    counters : dict of str to int
        Passes of the batch through the network: forward, backward, inference_steps (relaxation sweeps), spikes.
    monitors : dict of str to float
        What tells whether the rule runs as it should, e.g. the residual of a relaxation.
    """

    loss: Tensor
    logits: Tensor | None
    counters: dict[str, int] = field(default_factory=dict)
    monitors: dict[str, float] = field(default_factory=dict)


class LearningRule:
    """Base class of all rules.

    A subclass gives `info` and `gradients`, and where it needs them `options`, `prepare` (feedback weights,
    heads), `post_step` (clamping, normalisation), `stages`, `features` and `native_logits`.

    Attributes
    ----------
    options : dict of str to Option
        What can be set beside the common options (`decoders.learning.options.COMMON`).
    option : dict of str to value
        The chosen values of both.
    net : Network
    extra : dict of str to tensor
        The rule's own tensors (feedback weights, traces): part of its state, in no optimizer.
    companions : nn.ModuleDict
        Modules that are trained beside the network and are no part of it (heads, feedback networks):
        part of the state, in the optimizer, at the learning rate times `companion_rate`.
    generator : torch.Generator
        The rule's own source of noise: part of its state. Draw in float64 and cast, so that single and
        double precision see the same noise.
    """

    info: ClassVar[RuleInfo]
    options: ClassVar[Mapping[str, Option]] = {}
    # Updates in which the rule fits one batch of 16 to .9 at a peak learning rate of .01 (universal test U6);
    # 0 for rules that follow labels too slowly or do not follow them.
    fits_batch_within: ClassVar[int] = 100
    # Share of the common budget's learning rate that the rule takes where its own option is 0.
    rate_share: ClassVar[float] = 1.0
    # `fits_batch_within` of kinds of network in which it takes another time.
    fits_slowly: ClassVar[Mapping[NetworkKind, int]] = {}
    # Of rules whose update can rightly be zero in a layer (winners, rewards, spikes): no dead-layer error.
    may_be_silent: ClassVar[bool] = False
    # Both momenta of Adam; the first one is cycled with the learning rate.
    betas: ClassVar[tuple[float, float]] = (0.95, 0.999)

    net: Network
    spec: RuleSpec
    optimizer: torch.optim.Optimizer | None

    def __init__(self, **options: OptionValue) -> None:
        self.option = chosen_options(self.info.name, {**COMMON, **self.options}, options)

    def setup(self, net: Network, spec: RuleSpec, seed: int) -> None:
        """Take over a freshly initialised network.

        Parameters
        ----------
        net : Network
            Changed in place from here on.
        spec : RuleSpec
        seed : int
            Of the rule's own noise; the initial weights are not its business.

        Raises
        ------
        Unsupported
            The rule is not defined on this architecture. It is never replaced by another one.
        """
        self.check_support(net)
        self.net, self.spec = net, spec
        self.generator = torch.Generator().manual_seed(seed)
        self.extra: dict[str, Tensor] = {}
        self.companions = nn.ModuleDict()
        # Companions are initialised by torch's own draws: from this seed, and without touching the global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prepare()
        self.companions.to(next(net.parameters()).dtype)
        self.begin_stage(Stage("all", 1), n_steps=1)

    def check_support(self, net: Network) -> None:
        """Raise `Unsupported` where the rule is not defined on the network."""
        if net.kind not in self.info.architectures:
            defined = f"it is defined on networks of the kind {', '.join(self.info.architectures)}, not '{net.kind}'."
            raise Unsupported(self.info.name, net.architecture, self.info.refuses.get(net.kind, defined))

    @property
    def patience(self) -> int:
        """Updates in which the rule fits one batch on this kind of network (`fits_batch_within`)."""
        return self.fits_slowly.get(self.net.kind, self.fits_batch_within)

    @property
    def learning_rate(self) -> float:
        """Peak learning rate: the rule's own option, or its share of the common budget's where the option is 0."""
        return float(self.option["learning_rate"]) or self.rate_share * self.spec.learning_rate

    def prepare(self) -> None:
        """Add what the rule needs beside the network, to `extra` (fixed tensors) and `companions` (trained modules)."""

    def claims(self) -> dict[str, bool]:
        """Return for each layer whether the rule claims to train it."""
        return {block.name: block.kind in self.info.trains for block in self.net}

    def stages(self, epochs: int) -> Sequence[Stage]:
        """Return the stages of the training; one for all layers unless the rule goes layer by layer."""
        return (Stage("all", epochs),) if any(self.claims().values()) else ()

    def trained_layers(self, stage: Stage) -> list[str]:
        """Return the layers that move in a stage."""
        return [layer for layer, claimed in self.claims().items() if claimed]

    def begin_stage(self, stage: Stage, n_steps: int) -> None:
        """Start the schedule and a fresh optimizer for the layers of a stage; all others are frozen."""
        self.stage, self.n_steps, self.n_done = stage, n_steps, 0
        self.net.requires_grad_(False)
        moving = [parameter for layer in self.trained_layers(stage) for parameter in self.net[layer].parameters()]
        for parameter in moving:
            parameter.requires_grad_(True)
        # Rules may train companions alone, e.g. heads on a network that never moves.
        self.optimizer = self.make_optimizer(moving) if moving or self.companion_parameters(stage) else None

    def companion_parameters(self, stage: Stage) -> list[nn.Parameter]:
        """Return the parameters of the companions that move in a stage: all of them."""
        return list(self.companions.parameters())

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return the optimizer of the network's and the companions' parameters: Adam (Kingma & Ba 2015) or SGD."""
        groups: list[dict[str, Any]] = [{"params": list(parameters), "scale": 1.0}]
        if companions := self.companion_parameters(self.stage):
            groups.append({"params": companions, "scale": float(self.option["companion_rate"])})
        decay = float(self.option["weight_decay"])
        if self.option["optimizer"] == "sgd":
            return torch.optim.SGD(groups, lr=self.learning_rate, momentum=0.9, weight_decay=decay, foreach=False)
        if self.option["optimizer"] == "plain_sgd":
            return torch.optim.SGD(groups, lr=self.learning_rate, weight_decay=decay, foreach=False)
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, weight_decay=decay, foreach=False)

    def _schedule(self, optimizer: torch.optim.Optimizer) -> float:
        """Set this step's learning rate and momentum in all groups; return the rate."""
        rate, momentum = one_cycle(self.n_done, self.n_steps, self.learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif group["momentum"]:
                group["momentum"] = momentum
        return rate

    def gradients(self, batch: Batch) -> Outcome:
        """Write the update (with the sign of a gradient) to ``.grad`` of every layer of the stage."""
        raise NotImplementedError

    def post_step(self) -> None:
        """Do what follows an update: clamp, normalise, move feedback weights."""

    def step(self, batch: Batch) -> StepReport:
        """Do one update.

        Raises
        ------
        TrainingFailed
            The loss or an update is not finite, or a layer that should learn receives nothing. Weights are those
            before the update.
        CorticodeError
            The rule trains nothing.
        """
        if self.optimizer is None:
            raise CorticodeError(f"The rule '{self.info.name}' trains nothing: it has no step.")
        set_mode(self.net, training=True)
        self.companions.train()
        rate = self._schedule(self.optimizer)
        layers = self.trained_layers(self.stage)
        before = {layer: self.net[layer].affine.weight.detach().clone() for layer in layers}
        self.optimizer.zero_grad(set_to_none=True)
        outcome = self.gradients(batch)
        self._check_gradients(outcome, layers)
        self.optimizer.step()
        with torch.no_grad():
            self.post_step()
            self.net.constrain()
        self.n_done += 1
        norms = {layer: float((self.net[layer].affine.weight.detach() - old).norm()) for layer, old in before.items()}
        accuracy = float("nan")
        if outcome.logits is not None:
            accuracy = float((outcome.logits.detach().argmax(1) == batch.y).double().mean())
        return StepReport(float(outcome.loss), accuracy, rate, norms, outcome.counters, outcome.monitors)

    def _check_gradients(self, outcome: Outcome, layers: Iterable[str]) -> None:
        loss = float(outcome.loss)
        norms = {layer: _norm(self.net[layer].affine.weight.grad) for layer in layers}
        broken = [layer for layer, norm in norms.items() if norm is not None and not norm < float("inf")]
        if not abs(loss) < float("inf") or broken:
            raise TrainingFailed(
                f"The rule '{self.info.name}' diverged at update {self.n_done} of the stage '{self.stage.name}': "
                f"loss {loss}, non-finite updates in {broken or 'no layer'}. Lower the learning rate of "
                "learning.training or the rule's own."
            )
        silent = [layer for layer, norm in norms.items() if not norm]
        # A batch that is fitted perfectly leaves nothing to learn; that is no defect.
        if silent and abs(loss) > 1e-4 and not self.may_be_silent:
            raise TrainingFailed(
                f"The rule '{self.info.name}' claims to train {silent}, but update {self.n_done} brings nothing there: "
                "the layer is dead or cut off. Lower learning.training.learning_rate, or use more pictures per batch."
            )

    def features(self, x: Tensor, taps: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the taps of prepared pictures: eval mode, no gradient, no change of state, no labels.

        Parameters
        ----------
        x : tensor of shape (n_pictures, 3, n_rows, n_columns) or (n, n_characters, n_symbols)
        taps : sequence of str, optional
            All when absent.

        Returns
        -------
        dict of str to tensor of shape (n_pictures, ...)
            A tap with a time axis is read as its network says (`Network.summarise`).
        """
        self.companions.eval()
        found = network_features(self.net, x)
        return found if taps is None else {name: found[name] for name in taps}

    def native_logits(self, x: Tensor) -> Tensor | None:
        """Return the rule's own prediction, (n_pictures, n_classes); None where it has none."""
        set_mode(self.net, training=False)
        with torch.no_grad():
            return self.net(x)

    def reset_state(self) -> None:
        """Forget what is kept from batch to batch (spikes, traces); nothing here."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all that the next update depends on, as flat tensors."""
        state = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        state |= {f"extra.{name}": value for name, value in self.extra.items()}
        state |= {f"companion.{name}": value for name, value in self.companions.state_dict().items()}
        state |= {"progress.n_done": torch.tensor(self.n_done), "progress.n_steps": torch.tensor(self.n_steps)}
        state["generator"] = self.generator.get_state()
        for index, moments in (self.optimizer.state_dict()["state"] if self.optimizer else {}).items():
            state |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        return {name: value.detach().clone() for name, value in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state of the same stage in place: weights keep their layout, hence their bits."""
        self.net.load_state_dict(_part(state, "net."))
        for name, value in _part(state, "extra.").items():
            self.extra[name].copy_(value)
        self.companions.load_state_dict(_part(state, "companion."))
        self.n_done, self.n_steps = int(state["progress.n_done"]), int(state["progress.n_steps"])
        self.generator.set_state(state["generator"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(state, "optimizer.").items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value.clone()
        if self.optimizer is not None:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def draw_like(self, block: Block) -> Tensor:
        """Draw feedback weights as the block's own were drawn: uniform on +-1/sqrt(fan-in), same shape and layout."""
        weight = block.affine.weight
        bound = weight[0].numel() ** -0.5
        drawn = torch.rand(weight.shape, generator=self.generator, dtype=torch.float64) * 2 - 1
        return torch.empty_like(weight, requires_grad=False).copy_(drawn * bound)


_REGISTERED: dict[str, type[LearningRule]] = {}


def register(rule: type[LearningRule]) -> type[LearningRule]:
    """Class decorator: enter a rule under ``info.name``; a second rule of that name is an error."""
    name = rule.info.name
    if name in _REGISTERED and _REGISTERED[name].__qualname__ != rule.__qualname__:
        raise ValueError(f"two learning rules are called '{name}': {_REGISTERED[name]} and {rule}")
    _REGISTERED[name] = rule
    return rule


def registered() -> dict[str, type[LearningRule]]:
    """Return the rules whose modules were imported so far; use `decoders.learning.registry` for all."""
    return dict(_REGISTERED)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _norm(gradient: Tensor | None) -> float | None:
    return None if gradient is None else float(gradient.norm())
