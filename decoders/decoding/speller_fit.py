"""Training of the character speller, and its answers for held-out volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from decoders.decoding.frontend import Head
from decoders.decoding.gate import parameter_groups
from decoders.decoding.speller import Speller
from decoders.decoding.trie import Trie


@dataclass(frozen=True)
class SpellerOptions:
    """Settings of one training; fixed beforehand, the same in every fold.

    Attributes
    ----------
    bottleneck : float
        Weight of the summed voxel KL (nats per volume) beside the summed character loss (nats per name).
    epochs, batch_size : int
    lr, gate_lr, weight_decay : float
        Of Adam; the gate's logits have their own rate and no decay.
    head, sigma_voxels, n_brain, dropout
        As in `Speller`.
    """

    bottleneck: float = 1e-3
    epochs: int = 40
    batch_size: int = 64
    lr: float = 2e-3
    gate_lr: float = 0.05
    weight_decay: float = 1e-2
    head: Head = "patchify"
    sigma_voxels: float = 1.0
    n_brain: int = 64
    dropout: float = 0.3


def fit_speller(
    x: NDArray[np.float32],
    names: NDArray[np.int64],
    mask: NDArray[np.bool_] | int,
    trie: Trie,
    options: SpellerOptions,
    seed: int,
) -> Speller:
    """Train a speller on single volumes.

    Parameters
    ----------
    x : array of shape (n_volumes, V), float32
        z-scored per run.
    names : array of int of shape (n_volumes,)
        Index of each volume's name in the trie.
    mask : array of shape (x, y, z), bool, or int
    trie : Trie
    options : SpellerOptions
    seed : int
        Of weights, noise, dropout and order; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Speller(mask, trie, options.head, options.sigma_voxels, options.n_brain, options.dropout)
        _train(model, torch.from_numpy(x), torch.from_numpy(names), options, torch.Generator().manual_seed(seed))
    return model.eval()


def _train(
    model: Speller, x: torch.Tensor, names: torch.Tensor, options: SpellerOptions, generator: torch.Generator
) -> None:
    others = [p for p in model.parameters() if p is not model.gate.theta]
    groups = parameter_groups([model.gate.theta], others, options.gate_lr, options.lr)
    groups[0]["weight_decay"] = 0.0
    optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    n_steps = options.epochs * -(-len(x) // options.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)
    for _ in range(options.epochs):
        for batch in torch.randperm(len(x), generator=generator).split(options.batch_size):
            loss = _loss(model, x[batch], names[batch], options.bottleneck, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _loss(
    model: Speller, x: torch.Tensor, names: torch.Tensor, bottleneck: float, generator: torch.Generator
) -> torch.Tensor:
    brain = model.brain(x, generator)
    return bottleneck * model.gate.information_bound() - model.log_probabilities(brain, names).mean()


@torch.no_grad()
def answers(
    model: Speller, x: NDArray[np.float32], groups: NDArray[np.int64]
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Return what a trained speller says of held-out volumes, without noise.

    Returns
    -------
    scores : array of shape (n_volumes, n_names)
        Log-probability of every name.
    by_volume : list of str
        Text spelled from each volume.
    by_group : list of str
        Text spelled from all volumes of each group (block), groups in ascending order.
    """
    brain = model.brain(torch.from_numpy(x))
    scores = model.score_names(brain).double().numpy()
    return scores, model.spell(brain), model.spell(brain, groups)
