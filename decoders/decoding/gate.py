"""The voxel gate: an information bottleneck with one openness per voxel, on the voxel grid.

Each voxel passes ``z = m x + (1 - m) eps`` with ``eps ~ N(0, 1)``. With the prior ``N(0, 1)`` and
z-scored data (E x = 0, E x^2 = 1) the cost of voxel v, averaged over the data, is

    KL(N(m x, (1 - m)^2) || N(0, 1)) = -log(1 - m) - m + m^2    nats,

an upper bound of the information I(x; z) that the voxel passes (Alemi et al. 2017, arXiv:1612.00410;
Schulz et al. 2020, arXiv:2001.00396, for gates of this form).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

_TRUNCATE = 4.0  # as scipy.ndimage: the kernel ends at four standard deviations


def kl_nats(logits: Tensor) -> Tensor:
    """Return the data-averaged KL of gates in nats, from their logits.

    In softplus, because ``log(1 - sigmoid(l))`` overflows for open gates.
    """
    m = torch.sigmoid(logits)
    return softplus(logits) - m + m.square()


def capacity_nats(logits: Tensor) -> Tensor:
    """Return the exact Gaussian channel capacity ``log(1 + m^2 / (1 - m)^2) / 2`` in nats.

    ``m / (1 - m) = exp(logit)``, hence the softplus. It lies below `kl_nats` (.347 against .443 at m = .5).
    """
    return softplus(2 * logits) / 2


class VoxelGate(nn.Module):
    """One gate per voxel, ``m = sigmoid(l)``, with logits that are smooth on the grid.

    The logits are Gaussian-smoothed free parameters, normalised by the smoothed mask so that a voxel at
    the mask's edge is not pulled towards m = .5 by the emptiness beyond.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool, or int
        Voxels on the grid, features in C order; or the number of features when there is no grid.
    sigma_voxels : float
        Standard deviation of the smoothing in voxels; 0 for none. Without a grid it must be 0.

    Attributes
    ----------
    theta : Parameter of shape (V,)
        Free logits, zero at the start (m = .5).
    """

    def __init__(self, mask: NDArray[np.bool_] | int, sigma_voxels: float = 1.0) -> None:
        super().__init__()
        grid = None if isinstance(mask, int | np.integer) else np.asarray(mask, dtype=bool)
        if grid is None and sigma_voxels:
            raise ValueError("a gate without a grid cannot be smoothed: pass the mask, or sigma_voxels=0")
        n_features = int(mask) if grid is None else int(grid.sum())
        self.theta = nn.Parameter(torch.zeros(n_features))
        self._n_axes = 0
        if grid is not None and sigma_voxels:
            self._prepare_smoothing(grid, sigma_voxels)

    def _prepare_smoothing(self, grid: NDArray[np.bool_], sigma: float) -> None:
        self._shape, self._n_axes = grid.shape, grid.ndim
        for axis, length in enumerate(grid.shape):
            self.register_buffer(f"_smooth_{axis}", smoothing_matrix(length, sigma), persistent=False)
        self.register_buffer("_index", torch.from_numpy(np.flatnonzero(grid)), persistent=False)
        weight = self._smooth(torch.ones_like(self.theta, dtype=torch.float64))
        self.register_buffer("_weight", weight.detach(), persistent=False)

    def _smooth(self, values: Tensor) -> Tensor:
        """Smooth in-mask values, zero outside, one axis after the other."""
        index: Tensor = self._index  # type: ignore[assignment]
        volume = values.new_zeros(math.prod(self._shape)).index_copy(0, index, values).reshape(self._shape)
        for axis in range(self._n_axes):
            kernel = getattr(self, f"_smooth_{axis}").to(values.dtype)
            volume = torch.movedim(torch.tensordot(kernel, volume, dims=([1], [axis])), 0, axis)
        return volume.reshape(-1)[index]

    def logits(self) -> Tensor:
        """Return the smoothed logits, of shape (V,)."""
        if not self._n_axes:
            return self.theta
        return self._smooth(self.theta) / self._weight.to(self.theta.dtype)  # type: ignore[operator]

    def m(self) -> Tensor:
        """Return the openness of each voxel in 0..1, of shape (V,)."""
        return torch.sigmoid(self.logits())

    def log_m(self) -> Tensor:
        """Return log m, of shape (V,)."""
        return logsigmoid(self.logits())

    def log_1m(self) -> Tensor:
        """Return log(1 - m), of shape (V,)."""
        return logsigmoid(-self.logits())

    def kl(self) -> Tensor:
        """Return the KL per voxel in nats, averaged over z-scored data, of shape (V,)."""
        return kl_nats(self.logits())

    def maps(self, _runs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits and KL per voxel; the same for all z-scored data."""
        logits = self.logits()
        return logits, kl_nats(logits)

    def cost(self, _runs: Sequence[Tensor]) -> Tensor:
        """Return the mean KL per voxel in nats, a scalar; the same for all z-scored data."""
        return self.kl().mean()

    def information_bound(self) -> Tensor:
        """Return the upper bound of the information that all voxels pass per volume, in nats (a scalar)."""
        return self.kl().sum()

    def sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return ``m x + (1 - m) eps`` for x of shape (..., V), noise drawn per voxel and sample."""
        m = self.m()
        return m * x + (1 - m) * _noise(x.shape, x, generator)

    def mean(self, x: Tensor) -> Tensor:
        """Return ``m x``, the expectation of `sample`: what a trained model reads."""
        return self.m() * x


class GatedReadout(nn.Module):
    """Linear read-out of gated voxels with the local reparametrisation.

    With one noise draw per volume, ``h = z W`` is Gaussian given x: ``h = (m x) W + xi`` with
    ``xi ~ N(0, W' diag((1 - m)^2) W)``. Drawing xi in d dimensions by a Cholesky factor is exact and
    needs no noise per voxel (Kingma, Salimans & Welling 2015, arXiv:1506.02557). With fewer voxels than
    dimensions that covariance is singular, and the noise is drawn per voxel.

    Parameters
    ----------
    n_voxels, n_dimensions : int
        V and d.
    generator : torch.Generator
        Draws the initial weights, N(0, 1 / V).
    jitter : float
        Added to the covariance's diagonal, relative to its mean.
    """

    def __init__(self, n_voxels: int, n_dimensions: int, generator: torch.Generator, jitter: float = 1e-5) -> None:
        super().__init__()
        start = torch.randn(n_voxels, n_dimensions, generator=generator) / math.sqrt(n_voxels)
        self.weight = nn.Parameter(start)
        self.jitter = jitter

    def covariance(self, gate: VoxelGate) -> Tensor:
        """Return ``W' diag((1 - m)^2) W`` of shape (d, d)."""
        scaled = torch.exp(gate.log_1m()).unsqueeze(1) * self.weight
        return scaled.T @ scaled

    def forward(
        self, x: Tensor | Sequence[Tensor], gate: VoxelGate, generator: torch.Generator | None = None
    ) -> Tensor:
        """Read out volumes.

        Parameters
        ----------
        x : Tensor of shape (..., V), or a sequence of them
            Parts are read out one by one and joined along the first axis: no copy of the volumes is made.
        gate : VoxelGate
        generator : torch.Generator, optional
            Source of the noise; without it the expectation is returned.

        Returns
        -------
        Tensor of shape (..., d)
        """
        parts = [x] if isinstance(x, Tensor) else x
        if generator is not None and self.weight.shape[0] < self.weight.shape[1]:
            return torch.cat([gate.sample(part, generator) @ self.weight for part in parts])
        # Equal to gate.mean(x) @ W, at half the cost: the gate scales the small factor.
        gated = gate.m().unsqueeze(1) * self.weight
        mean = torch.cat([part @ gated for part in parts])
        if generator is None:
            return mean
        covariance = self.covariance(gate)
        # Open gates send the covariance to zero: the relative jitter goes with it, the floor keeps the factor defined.
        ridge = self.jitter * covariance.diagonal().mean().detach() + torch.finfo(mean.dtype).tiny ** 0.5
        factor = torch.linalg.cholesky(
            covariance + ridge * torch.eye(len(covariance), dtype=mean.dtype, device=mean.device)
        )
        return mean + _noise(mean.shape, mean, generator) @ factor.T


def smoothing_matrix(length: int, sigma: float) -> Tensor:
    """Return the Gaussian smoothing of one axis as a matrix of shape (length, length), zeros beyond its ends.

    Equal to ``scipy.ndimage.gaussian_filter1d(..., mode="constant")``.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    values = kernel[np.clip(distance, -radius, radius) + radius]
    return torch.from_numpy(np.where(np.abs(distance) <= radius, values, 0.0))


def parameter_groups(
    thetas: Iterable[nn.Parameter], others: Iterable[nn.Parameter], gate_lr: float, lr: float
) -> list[dict[str, Any]]:
    """Return Adam's parameter groups: gates move by their own learning rate (.05; .005 does not move them)."""
    return [{"params": list(thetas), "lr": gate_lr}, {"params": list(others), "lr": lr}]


def _noise(shape: torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)
