"""Networks shared by all learning rules: ordered blocks with named taps.

A block is an affine map, then (where there are any) a norm, a nonlinearity and a pooling.
Every rule receives the same blocks with the same initial weights: rules differ in what
reaches the weights, not in the architecture.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from decoders.errors import CorticodeError, SettingsError

BlockKind = Literal["conv", "fc", "output"]
NetworkKind = Literal["conv", "mlp"]
# How a block's affine map is applied; rules replace it to send other errors backwards.
Affine = Callable[["Block", Tensor], Tensor]
# What is done with a block's output; rules put their signals here.
After = Callable[["Block", Tensor], Tensor]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


class Block(nn.Module):
    """Reduce, affine, norm, activation, pool, in that order; absent parts are identities.

    Parameters
    ----------
    name : str
        Name of the tap.
    kind : {"conv", "fc", "output"}
    affine : nn.Conv2d or nn.Linear
    norm, activation, pool : nn.Module, optional
    reduce : nn.Module, optional
        Brings the previous block's output to the shape that the affine map reads; no weights.
    """

    def __init__(
        self,
        name: str,
        kind: BlockKind,
        affine: nn.Conv2d | nn.Linear,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        pool: nn.Module | None = None,
        reduce: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.name, self.kind = name, kind
        self.reduce = reduce or nn.Identity()
        self.affine = affine
        self.norm = norm or nn.Identity()
        self.activation = activation or nn.Identity()
        self.pool = pool or nn.Identity()

    def forward(self, x: Tensor, affine: Affine | None = None) -> Tensor:
        """Return the block's output; `affine`, where given, is called in place of the affine map."""
        x = self.reduce(x)
        z = self.affine(x) if affine is None else affine(self, x)
        return self.pool(self.activation(self.norm(z)))


@dataclass(frozen=True)
class Pass:
    """Outcome of one forward pass.

    Attributes
    ----------
    logits : tensor of shape (n_pictures, n_classes)
    taps : dict of str to tensor
        Output of each block but the last, in order.
    """

    logits: Tensor
    taps: dict[str, Tensor] = field(default_factory=dict)


class Network(nn.Module):
    """Ordered blocks; the last one is the output, the others are taps.

    Parameters
    ----------
    architecture : str
        Registered name.
    kind : {"conv", "mlp"}
    blocks : sequence of Block
    """

    def __init__(self, architecture: str, kind: NetworkKind, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.architecture, self.kind = architecture, kind
        self.blocks = nn.ModuleDict({block.name: block for block in blocks})
        # Counted once at construction, so that the mode guard notices a norm layer that went missing.
        self.n_norms = len(list(self.norms()))

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks.values())  # type: ignore[arg-type]  # ModuleDict does not know its members

    def __getitem__(self, name: str) -> Block:
        return self.blocks[name]  # type: ignore[return-value]

    @property
    def layers(self) -> list[str]:
        """Names of all blocks, the output included."""
        return list(self.blocks)

    @property
    def taps(self) -> list[str]:
        """Names of the blocks whose output is read: all but the output block."""
        return self.layers[:-1]

    @property
    def n_classes(self) -> int:
        """Number of outputs."""
        return int(self[self.layers[-1]].affine.weight.shape[0])

    def norms(self) -> Iterator[nn.Module]:
        """Yield the norm layers."""
        return (module for module in self.modules() if isinstance(module, nn.modules.batchnorm._NormBase))

    def run(self, x: Tensor, affine: Affine | None = None, after: After | None = None) -> Pass:
        """Run all blocks and keep the taps.

        Parameters
        ----------
        x : tensor of shape (n_pictures, 3, n_rows, n_columns)
            Standardised pictures (`decoders.models.pictures.prepare`).
        affine, after : callable, optional
            What a rule puts in place of each affine map, and behind each tap.
        """
        taps: dict[str, Tensor] = {}
        for block in self:
            x = block(x, affine)
            if block.kind != "output":
                x = x if after is None else after(block, x)
                taps[block.name] = x
        return Pass(x, taps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.run(x).logits

    @torch.no_grad()
    def tap_shapes(self, picture_shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tap for one picture of shape (channel, row, column)."""
        set_mode(self, training=False)
        weight = next(self.parameters())
        taps = self.run(torch.zeros((1, *picture_shape), dtype=weight.dtype, device=weight.device)).taps
        return {name: tuple(tap.shape[1:]) for name, tap in taps.items()}


def set_mode(net: Network, training: bool) -> int:
    """Set train or eval mode and prove it, norm layer by norm layer.

    Batch statistics during feature extraction have reversed published rankings of learning
    rules, so the mode is asserted, not assumed.

    Returns
    -------
    int
        Number of norm layers that were checked.

    Raises
    ------
    CorticodeError
        A norm layer is in the other mode, or fewer are there than the network was built with.
    """
    net.train(training)
    modes = [norm.training for norm in net.norms()]
    if len(modes) != net.n_norms or any(mode != training for mode in modes):
        raise CorticodeError(
            f"The network '{net.architecture}' was built with {net.n_norms} norm layers that should all be in "
            f"{'train' if training else 'eval'} mode; their train flags are {modes}. "
            "Feature extraction would depend on the batch. This is a defect of the learning rule: please report it."
        )
    return len(modes)


def conv_network(
    channels: Sequence[int] = (32, 64, 128),
    hidden: int = 512,
    n_classes: int = 10,
    norm: bool = True,
    activation: str = "relu",
    positions: int = 4,
    architecture: str = "cnn3",
) -> Network:
    """Build 3x3 convolutions with max-pooling by 2, one hidden layer and the output.

    The hidden layer reads the last convolution average-pooled to `positions` x `positions`, so pictures
    of any size can be shown.
    """
    blocks: list[Block] = []
    for index, (n_in, n_out) in enumerate(zip([3, *channels], channels, strict=False), start=1):
        # Before batch norm a bias has gradient zero, and Adam would blow its rounding errors up to full steps.
        conv = nn.Conv2d(n_in, n_out, kernel_size=3, padding=1, bias=not norm)
        batch_norm = nn.BatchNorm2d(n_out) if norm else None
        blocks.append(Block(f"conv{index}", "conv", conv, batch_norm, ACTIVATIONS[activation](), nn.MaxPool2d(2)))
    to_positions = nn.Sequential(nn.AdaptiveAvgPool2d(positions), nn.Flatten())
    fc = nn.Linear(channels[-1] * positions**2, hidden)
    blocks.append(Block("fc1", "fc", fc, activation=ACTIVATIONS[activation](), reduce=to_positions))
    blocks.append(Block("output", "output", nn.Linear(hidden, n_classes)))
    return Network(architecture, "conv", blocks)


def dense_network(
    widths: Sequence[int] = (512, 512),
    n_classes: int = 10,
    activation: str = "relu",
    edge: int = 32,
    architecture: str = "mlp",
) -> Network:
    """Build fully connected layers that read the picture average-pooled to `edge` x `edge`."""
    blocks: list[Block] = []
    n_in = 3 * edge**2
    for index, width in enumerate(widths, start=1):
        reduce = nn.Sequential(nn.AdaptiveAvgPool2d(edge), nn.Flatten()) if index == 1 else None
        layer = nn.Linear(n_in, width)
        blocks.append(Block(f"fc{index}", "fc", layer, activation=ACTIVATIONS[activation](), reduce=reduce))
        n_in = width
    blocks.append(Block("output", "output", nn.Linear(n_in, n_classes)))
    return Network(architecture, "mlp", blocks)


ARCHITECTURES: dict[str, Callable[[int], Network]] = {
    "cnn3": lambda n_classes: conv_network(n_classes=n_classes),
    "mlp": lambda n_classes: dense_network(n_classes=n_classes),
}


def build_network(architecture: str, n_classes: int, seed: int) -> Network:
    """Build a registered architecture; the initial weights depend on the seed alone.

    Weights and biases are uniform on +-1/sqrt(fan-in) (the default of torch), in channels-last layout,
    which is the faster one on CPU.

    Raises
    ------
    SettingsError
        The architecture is not registered.
    """
    if architecture not in ARCHITECTURES:
        close = difflib.get_close_matches(architecture, ARCHITECTURES, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Registered: {', '.join(ARCHITECTURES)}."
        raise SettingsError(f"learning.architectures: '{architecture}' is not an architecture. {hint}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](n_classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_network(architecture: str, weights: Mapping[str, Tensor], where: str) -> Network:
    """Build a registered architecture with given weights (a state dict).

    Parameters
    ----------
    architecture : str
    weights : mapping of str to tensor
    where : str
        File of the weights, named in errors.

    Raises
    ------
    SettingsError
        Names or shapes of the weights are not those of the architecture.
    """
    output = weights.get("blocks.output.affine.weight")
    n_classes = 1 if output is None else int(output.shape[0])
    net = build_network(architecture, n_classes, seed=0)
    try:
        net.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise SettingsError(
            f"{where}: expected the weights of '{architecture}' ({', '.join(net.state_dict())}), "
            f"found others: {error}. Name the architecture that the weights were trained with."
        ) from error
    set_mode(net, training=False)
    return net
