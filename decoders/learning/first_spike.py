"""Networks of one spike per neuron (time to first spike), competition among them, and the STDP window.

Integrate-and-fire neurons without leak read a latency code: the brighter, the earlier. A spike switches on a
constant current into the neurons above, so that potentials are ramps (Zhang et al. 2022, IEEE TNNLS 33(5), rectified
linear postsynaptic potentials): the potential is the running sum, over T, of the affine map of the *wave*, which is 1
for the inputs that have spiked. A neuron spikes when its potential first exceeds its threshold, and never
again: the stronger its drive, the earlier. A layer reads its input of the same step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decoders.models.networks import Block
from decoders.models.spiking import FoldTime, OverTime, intensity, latency_code, unfold_time


@dataclass(frozen=True)
class Window:
    """STDP window: ``plus * exp(-dt / tau_plus)`` for dt = t_post - t_pre >= 0, ``-minus * exp(dt / tau_minus)`` else.

    A presynaptic spike of the same step counts as causal (dt = 0 potentiates): layers follow one another within a
    step, so it came first.

    Attributes
    ----------
    plus, minus : float
    tau_plus, tau_minus : float
        Steps.
    """

    plus: float = 1.0
    minus: float = 1.0
    tau_plus: float = 4.0
    tau_minus: float = 4.0


def trace(spikes: Tensor, tau: float) -> Tensor:
    """Return x_t = exp(-1/tau) x_{t-1} + s_t of spikes of shape (n, time, ...)."""
    decay, x, found = math.exp(-1 / tau), torch.zeros_like(spikes[:, 0]), []
    for s in spikes.unbind(1):
        x = decay * x + s
        found.append(x)
    return torch.stack(found, 1)


def change_per_post_spike(pre: Tensor, window: Window) -> Tensor:
    """Return the change that a postsynaptic spike at each step makes, by all presynaptic spikes: (n, time, ...).

    The depression by presynaptic spikes after it is booked at the postsynaptic spike; the sum over a presentation
    is that of the online form, where it is booked when the presynaptic spike arrives.
    """
    later = trace(pre.flip(1), window.tau_minus).flip(1) - pre
    return window.plus * trace(pre, window.tau_plus) - window.minus * later


def pair_stdp(pre: Tensor, post: Tensor, window: Window) -> Tensor:
    """Return the STDP of all pairs, mean over presentations, online form.

    At a postsynaptic spike the presynaptic trace adds ``plus``, at a presynaptic spike the postsynaptic trace of
    the steps before subtracts ``minus``.

    Parameters
    ----------
    pre : tensor of shape (n, time, n_pre)
    post : tensor of shape (n, time, n_post)
    window : Window

    Returns
    -------
    tensor of shape (n_post, n_pre)
    """
    before = trace(post, window.tau_minus) - post
    up = torch.einsum("ntj,nti->ji", post, trace(pre, window.tau_plus))
    down = torch.einsum("ntj,nti->ji", before, pre)
    return (window.plus * up - window.minus * down) / len(pre)


def soft_bounds(weight: Tensor, bound: float) -> Tensor:
    """Return 1 - (w / bound)^2: changes vanish at -bound and bound; 0 beyond."""
    return (1 - (weight / bound).square()).clamp(min=0)


@dataclass(frozen=True)
class Fired:
    """First spikes of a layer.

    Attributes
    ----------
    wave : tensor of shape (n, time, ...)
        1 from the spike on.
    when : tensor of shape (n, ...), int
        Step of the spike; the number of steps for silent neurons.
    excess : tensor of shape (n, ...)
        Potential minus threshold at the spike; of silent neurons the highest (below 0).
    """

    wave: Tensor
    when: Tensor
    excess: Tensor

    @property
    def score(self) -> Tensor:
        """Order of the race: the earliest is highest, then the highest potential; silent neurons are below 0."""
        n_steps = self.wave.shape[1]
        return (n_steps - self.when).to(self.excess.dtype) + self.excess / (1 + self.excess.abs())


def first_spikes(excess: Tensor) -> Fired:
    """Return the first spikes of potentials minus thresholds, (n, time, ...)."""
    n_steps = excess.shape[1]
    above = excess > 0
    fired, when = above.any(1), above.to(torch.uint8).argmax(1)
    first = torch.where(fired, when, excess.argmax(1))
    at = excess.gather(1, first.unsqueeze(1)).squeeze(1)
    when = torch.where(fired, when, torch.full_like(when, n_steps))
    step = torch.arange(n_steps, device=excess.device).view(1, -1, *[1] * (excess.ndim - 2))
    return Fired((step >= when.unsqueeze(1)).to(excess.dtype), when, at)


def input_wave(block: Block, x: Tensor, n_steps: int) -> Tensor:
    """Return what the first layer reads of prepared pictures: the wave of their latency code, (n, time, ...)."""
    return latency_code(intensity(block.reduce(x)), n_steps).cumsum(1)


def onsets(wave: Tensor) -> Tensor:
    """Return the spikes of a wave: what is new at each step."""
    return torch.diff(wave, dim=1, prepend=torch.zeros_like(wave[:, :1]))


def presynaptic(block: Block, wave: Tensor) -> Tensor:
    """Return the wave that a block's affine map reads: folded, pooled to positions and flattened by its reduction."""
    reduced = block.reduce(wave)
    folds = isinstance(block.reduce, FoldTime) or any(isinstance(part, FoldTime) for part in block.reduce.children())
    return unfold_time(reduced, wave.shape[1]) if folds else reduced


def ramps(currents: Tensor) -> Tensor:
    """Return the potentials of currents of shape (n, time, ...): their running sum, in units of the whole time."""
    return currents.cumsum(1) / currents.shape[1]


def fire(block: Block, inputs: Tensor, threshold: Tensor) -> Fired:
    """Return the first spikes of a block, without norm: its thresholds do the norm's work.

    Parameters
    ----------
    block : Block
    inputs : tensor of shape (n, time, ...)
        Wave.
    threshold : tensor of shape (n_channels,)
    """
    n_steps = inputs.shape[1]
    potential = ramps(unfold_time(block.affine(inputs.flatten(0, 1)), n_steps))
    return first_spikes(potential - threshold.view(-1, *[1] * (potential.ndim - 3)))


def pooled_wave(block: Block, wave: Tensor) -> Tensor:
    """Return the block's output: of each pool the earliest spike."""
    return block.pool(wave) if isinstance(block.pool, OverTime) else wave


def winners(fired: Fired, count: int, radius: int) -> Tensor:
    """Return 1 for the neurons that win the race of each presentation, 0 for all others: (n, ...).

    Parameters
    ----------
    fired : Fired
    count : int
        Winners of a fully connected layer.
    radius : int
        Of a convolution: the winner inhibits all channels at positions that are no farther, in rows and columns.
    """
    score = fired.score
    if score.ndim == 2:
        floor = score.topk(min(count, score.shape[1]), 1).values[:, -1:]
        return ((score >= floor) & (score > 0)).to(score.dtype)
    around = highest_around(score.amax(1), radius).unsqueeze(1)
    return ((score == around) & (score > 0)).to(score.dtype)


def highest_around(best: Tensor, radius: int) -> Tensor:
    """Return the highest value no farther than the radius, in rows and columns, of each position of (n, y, x)."""
    return nn.functional.max_pool2d(best.unsqueeze(1), 2 * radius + 1, stride=1, padding=radius).squeeze(1)
