"""A gate per volume: a small 3D-CNN opens and closes the voxels of every sample by what it sees there.

An experiment beside the gate per voxel (`decoders.decoding.gate`): its map is the mean over volumes. The encoder
``z = m(x) x + (1 - m(x)) eps`` is Gaussian for any m(x), so its KL stays an upper bound of the information passed:

    KL(N(m x, (1 - m)^2) || N(0, 1)) = (m^2 x^2 + (1 - m)^2 - 1) / 2 - log(1 - m)    nats.

With m constant and E x^2 = 1 its mean is that of the gate per voxel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from decoders.decoding.frontend import GridEmbedding, same_convolution
from decoders.decoding.gate import VoxelGate

N_CHANNELS = 8


def kl_of_volumes(logits: Tensor, x: Tensor) -> Tensor:
    """Return the KL of gated values against N(0, 1) in nats, of the shape of `x`.

    Parameters
    ----------
    logits : Tensor, of the shape of x or broadcastable to it
    x : Tensor of shape (n_volumes, n_voxels)
    """
    m = torch.sigmoid(logits)
    return ((m * x).square() + (1 - m).square() - 1) / 2 + softplus(logits)


class VolumeGate(nn.Module):
    """Logits of a smooth gate per voxel plus what a 3D-CNN adds for each volume.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool
        Voxels on the grid, features in C order.
    sigma_voxels : float
        Smoothing of the logits that all volumes share.

    Attributes
    ----------
    shared : VoxelGate
        What all volumes share; the CNN's last layer starts at zero, so that training begins there.
    """

    def __init__(self, mask: NDArray[np.bool_], sigma_voxels: float = 1.0) -> None:
        super().__init__()
        self.shared = VoxelGate(mask, sigma_voxels)
        self.grid = GridEmbedding(mask)
        first = same_convolution(self.grid.shape, 1, 3, N_CHANNELS)
        last = same_convolution(self.grid.shape, N_CHANNELS, 3, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(first, nn.GELU(), last)

    @property
    def theta(self) -> nn.Parameter:
        """Free logits, shared by all volumes."""
        return self.shared.theta

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits of every voxel of volumes (n_volumes, n_voxels)."""
        index: Tensor = self.grid.index  # type: ignore[assignment]
        added = self.layers(self.grid(x).unsqueeze(1)).flatten(1)[:, index]
        return self.shared.logits() + added

    def sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``m(x) x + (1 - m(x)) eps``."""
        m = torch.sigmoid(self.logits(x))
        return m * x + (1 - m) * torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)

    def mean(self, x: Tensor) -> Tensor:
        """Return ``m(x) x``, what a trained model reads."""
        return torch.sigmoid(self.logits(x)) * x

    def cost(self, runs: Sequence[Tensor]) -> Tensor:
        """Return the mean KL per voxel and volume of some runs in nats, a scalar."""
        n_volumes = sum(len(x) for x in runs)
        return torch.stack([kl_of_volumes(self.logits(x), x).mean(1).sum() for x in runs]).sum() / n_volumes

    @torch.no_grad()
    def maps(self, runs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean logits and mean KL over the volumes of all runs, each of shape (n_voxels,)."""
        n_volumes = sum(len(x) for x in runs)
        logits = torch.stack([self.logits(x).sum(0) for x in runs]).sum(0)
        kl = torch.stack([kl_of_volumes(self.logits(x), x).sum(0) for x in runs]).sum(0)
        return logits / n_volumes, kl / n_volumes
