"""Front ends that turn a gated volume into one brain vector: linear, or a 3D-CNN on the voxel grid.

The last layer flattens instead of pooling: which voxel responds is the message, so its weights must
know the place. Kernels and strides are clipped to short axes (a slice is a grid of one voxel's depth).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Head = Literal["linear", "patchify", "k7"]
_FIRST: dict[str, tuple[int, int]] = {"patchify": (4, 4), "k7": (7, 4)}  # kernel, stride of the first layer


class GridEmbedding(nn.Module):
    """Put masked vectors back on the grid, cropped to the mask's bounding box, zero outside the mask.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool
        Features in C order.

    Attributes
    ----------
    shape : tuple of int
        Of the bounding box.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        super().__init__()
        box = np.asarray(mask, dtype=bool)[bounding_box(mask)]
        self.shape = tuple(box.shape)
        # Cropping keeps the C order of the voxels, so features need no reordering.
        self.register_buffer("index", torch.from_numpy(np.flatnonzero(box)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., V) to (..., x, y, z)."""
        index: Tensor = self.index  # type: ignore[assignment]
        grid = x.new_zeros(*x.shape[:-1], math.prod(self.shape)).index_copy(-1, index, x)
        return grid.reshape(*x.shape[:-1], *self.shape)


class FrontEnd(nn.Module):
    """Volumes to brain vectors.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool, or int
        Voxels on the grid; or the number of features where there is no grid (head "linear" only).
    n_dimensions : int
        Length of the brain vector.
    head : {"linear", "patchify", "k7"}
        ``patchify``: k4 with stride 4, then k3, flatten. ``k7``: k7 with stride 4, then k3, flatten.
    n_channels : int
        Channels of both convolutions.
    n_volumes : int
        Volumes per window, read as input channels.
    """

    def __init__(
        self,
        mask: NDArray[np.bool_] | int,
        n_dimensions: int,
        head: Head = "patchify",
        n_channels: int = 32,
        n_volumes: int = 1,
    ) -> None:
        super().__init__()
        if head == "linear":
            n_features = int(mask) if isinstance(mask, int | np.integer) else int(np.sum(mask))
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(n_volumes * n_features, n_dimensions))
            return
        if isinstance(mask, int | np.integer):
            raise ValueError(f"the front end '{head}' needs voxels on a grid: pass the mask, or choose 'linear'")
        grid = GridEmbedding(mask)
        first, shape = first_convolution(grid.shape, n_volumes, n_channels, *_FIRST[head])
        second = same_convolution(shape, n_channels, 3)
        flat = n_channels * math.prod(shape)
        self.layers = nn.Sequential(
            grid, first, nn.GELU(), second, nn.GELU(), nn.Flatten(), nn.Linear(flat, n_dimensions)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map volumes (batch, V) or windows (batch, n_volumes, V) to (batch, n_dimensions)."""
        brain: Tensor = self.layers(x.unsqueeze(1) if x.ndim == 2 else x)
        return brain


def first_convolution(
    shape: tuple[int, ...], n_in: int, n_out: int, kernel: int, stride: int
) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a strided convolution that sees every voxel, and the shape of its output grid.

    Kernel and stride are clipped to each axis. Where the stride leaves a rest, the far end is padded
    with zeros: without that the last voxels of an axis would never be read.
    """
    kernels = (min(kernel, shape[0]), min(kernel, shape[1]), min(kernel, shape[2]))
    strides = (min(stride, shape[0]), min(stride, shape[1]), min(stride, shape[2]))
    out = tuple(math.ceil(n / s) for n, s in zip(shape, strides, strict=True))
    padding: list[int] = []
    for n_out_axis, s, k, n in reversed(list(zip(out, strides, kernels, shape, strict=True))):
        excess = max(0, (n_out_axis - 1) * s + k - n)
        # Symmetric where the kernel is wider than the stride (k7), at the far end where patches tile the grid.
        before = min((k - s) // 2, excess)
        padding += [before, excess - before]
    pad = nn.ConstantPad3d((padding[0], padding[1], padding[2], padding[3], padding[4], padding[5]), 0.0)
    return nn.Sequential(pad, nn.Conv3d(n_in, n_out, kernels, strides)), out


def same_convolution(shape: tuple[int, ...], n_in: int, kernel: int, n_out: int | None = None) -> nn.Conv3d:
    """Return a convolution that keeps the grid, its kernel clipped to the longest odd one that fits each axis."""
    x, y, z = (min(kernel, n - 1 + n % 2) for n in shape)
    return nn.Conv3d(n_in, n_out or n_in, (x, y, z), padding=(x // 2, y // 2, z // 2))


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the slices of the smallest box that holds the mask."""
    found = np.nonzero(np.asarray(mask, dtype=bool))
    if not len(found[0]):
        raise ValueError("the mask is empty")
    return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in found)
