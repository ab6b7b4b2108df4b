"""One decoder for several people: a shared network, and per person a front end and scale-and-bias vectors.

Representation editing (Wu et al. 2024, arXiv:2402.15179): every layer's output h becomes ``s * h + b``, s and b
vectors of one person, so that a new person costs two numbers per unit. Gradient reversal (Ganin et al. 2016,
JMLR 17:59) can push what tells people apart out of the shared features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

TELLER_UNITS = 16
Smoother = Callable[[NDArray[np.floating]], NDArray[np.floating]]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a shared decoder.

    Attributes
    ----------
    n_grid, n_targets : int
        Voxels of the common grid, and text features.
    width, hidden : int
        Outputs of the front end per volume, and of the temporal layer.
    lags : tuple of int
        Volumes after the text that answer to it.
    """

    n_grid: int
    n_targets: int
    width: int
    hidden: int
    lags: tuple[int, ...]


class ScaleBias(nn.Module):
    """A scale and a bias per person and unit; ones and zeros at the start, which changes nothing."""

    def __init__(self, n_people: int, n_units: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_people, n_units))
        self.bias = nn.Parameter(torch.zeros(n_people, n_units))

    def forward(self, h: Tensor, person: int | None) -> Tensor:
        """Edit features of shape (..., n_units); without a person by the mean of all."""
        if person is None:
            return h * self.scale.mean(0) + self.bias.mean(0)
        return h * self.scale[person] + self.bias[person]

    def with_one_more(self) -> ScaleBias:
        """Return vectors of one more person, who starts as the mean of the others."""
        more = ScaleBias(len(self.scale) + 1, self.scale.shape[1])
        with torch.no_grad():
            more.scale.copy_(torch.cat([self.scale, self.scale.mean(0, keepdim=True)]))
            more.bias.copy_(torch.cat([self.bias, self.bias.mean(0, keepdim=True)]))
        return more


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(h: Tensor, weight: float) -> Tensor:
    """Return h as it is; its gradient is multiplied by -weight."""
    reversed_: Tensor = _Reversed.apply(h, weight)
    return reversed_


class SharedDecoder(nn.Module):
    """Volumes of any person to text features.

    A front end on the voxels of a person (weights of the common grid plus the person's own difference), a layer over
    the lags, a residual block and a read-out; after each of them the person's scale and bias.

    Parameters
    ----------
    sizes : Sizes
    voxels : sequence of array of int
        Voxels of the common grid that each person's front end reads.
    generator : torch.Generator
        Draws the initial weights.
    """

    def __init__(self, sizes: Sizes, voxels: Sequence[NDArray[np.int64]], generator: torch.Generator) -> None:
        super().__init__()

        def drawn(n_in: int, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) / math.sqrt(n_in))

        self.sizes = sizes
        self.voxels = [torch.from_numpy(np.asarray(chosen)) for chosen in voxels]
        self.grid = drawn(max(map(len, voxels)), sizes.n_grid, sizes.width)
        self.own = nn.ParameterList(torch.zeros(len(chosen), sizes.width) for chosen in voxels)
        n_lagged, hidden = len(sizes.lags) * sizes.width, sizes.hidden
        self.time = drawn(n_lagged, n_lagged, hidden)
        # The block starts as nothing: training starts from a linear decoder.
        self.up, self.down = drawn(hidden, hidden, hidden), nn.Parameter(torch.zeros(hidden, hidden))
        self.out = drawn(hidden, hidden, sizes.n_targets)
        units = (sizes.width, hidden, hidden, sizes.n_targets)
        self.edits = nn.ModuleList(ScaleBias(len(voxels), n) for n in units)

    def front(self, person: int) -> Tensor:
        """Return the weights of a person's front end, of shape (n_voxels of the person, width)."""
        return self.grid[self.voxels[person]] + self.own[person]

    def forward(self, x: Tensor, person: int | None, front: Tensor | None = None) -> Tensor:
        """Decode one run.

        Parameters
        ----------
        x : Tensor of shape (n_volumes, n_voxels)
            Voxels that the front end reads.
        person : int or None
            Whose front end, scales and biases; None takes the mean of all scales and biases.
        front : Tensor of shape (n_voxels, width), optional
            In place of the person's front end.

        Returns
        -------
        Tensor of shape (n_volumes - max(lags), n_targets)
        """
        h = self.shared(x, person, front)
        return self.edits[3](self.edits[2](h, person) @ self.out, person)

    def shared(self, x: Tensor, person: int | None, front: Tensor | None = None) -> Tensor:
        """Return the features that all people share, of shape (n_volumes - max(lags), hidden)."""
        if front is None:
            assert person is not None
            front = self.front(person)
        brain = self.edits[0](x @ front, person)
        last = max(self.sizes.lags)
        lagged = torch.cat([brain[lag : len(brain) - last + lag] for lag in self.sizes.lags], dim=1)
        h = self.edits[1](lagged @ self.time, person)
        return h + gelu(h @ self.up) @ self.down

    def mean_front(self, smooth: Smoother) -> Tensor:
        """Return the front end of the mean person on the whole grid, smoothed in space, of shape (n_grid, width).

        A voxel that a person's front end does not read counts as zero.
        """
        total = torch.zeros_like(self.grid)
        for person, chosen in enumerate(self.voxels):
            total[chosen] += self.front(person).detach()
        mean = total.detach() / len(self.voxels)
        return torch.from_numpy(smooth(mean.numpy().T).T.astype(np.float32))

    def with_one_more(self, voxels: NDArray[np.int64], front: Tensor) -> SharedDecoder:
        """Return a copy with one more person, who starts as the mean of the others.

        Parameters
        ----------
        voxels : array of int
            That the person's front end reads.
        front : Tensor of shape (n_voxels, width)
            With which it starts.
        """
        everyone = [*(chosen.numpy() for chosen in self.voxels), voxels]
        more = SharedDecoder(self.sizes, everyone, torch.Generator().manual_seed(0))
        with torch.no_grad():
            for name in ("grid", "time", "up", "down", "out"):
                getattr(more, name).copy_(getattr(self, name))
            for new, old in zip(more.own, self.own, strict=False):
                new.copy_(old)
            more.own[-1].copy_(front - more.grid[more.voxels[-1]])
        more.edits = nn.ModuleList(edit.with_one_more() for edit in self.edits)  # type: ignore[operator]
        return more


class Teller(nn.Module):
    """A small network that tells from shared features whose they are.

    Parameters
    ----------
    n_features, n_people : int
    generator : torch.Generator
        Draws the initial weights.
    """

    def __init__(self, n_features: int, n_people: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(n_features, TELLER_UNITS, generator=generator) / math.sqrt(n_features))
        self.bias = nn.Parameter(torch.zeros(TELLER_UNITS))
        self.last = nn.Parameter(torch.zeros(TELLER_UNITS, n_people))

    def forward(self, h: Tensor) -> Tensor:
        """Return logits of shape (n_volumes, n_people)."""
        # Means of z-scored runs are equal; what tells people apart is how their features vary together.
        return gelu(h @ self.first + self.bias) @ self.last

    def loss(self, h: Tensor, person: int) -> Tensor:
        """Return the cross-entropy in nats."""
        return cross_entropy(self(h), torch.full((len(h),), person))
