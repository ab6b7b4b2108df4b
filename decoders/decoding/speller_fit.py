"""Training of the character speller, and its answers for held-out volumes.

A gate that is trained together with what reads it opens where overfitting is easiest, with shuffled labels too. With
`SpellerOptions.folds` it is cross-fitted as that of the voxel maps: its gradient comes from runs that the reader of the
fold has not seen. A speller is then trained on all runs behind the gate, which stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from decoders.decoding.frontend import Head
from decoders.decoding.gate import VoxelGate, parameter_groups
from decoders.decoding.speller import Speller
from decoders.decoding.trie import Trie
from decoders.errors import InputError


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
    folds : int
        Over runs, by which the gate is cross-fitted; 0 trains it together with the speller.
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
    folds: int = 0


def fit_speller(
    x: NDArray[np.float32],
    names: NDArray[np.int64],
    mask: NDArray[np.bool_] | int,
    trie: Trie,
    options: SpellerOptions,
    seed: int,
    runs: NDArray[np.int64] | None = None,
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
    runs : array of int of shape (n_volumes,), optional
        Needed where the gate is cross-fitted.

    Raises
    ------
    InputError
        A loss that is not finite, or a single run where the gate is to be cross-fitted.
    """
    gate = cross_fitted_gate(x, names, mask, trie, options, seed, runs) if options.folds else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _speller(mask, trie, options)
        if gate is not None:
            model.gate = gate.requires_grad_(False)
        _train(model, torch.from_numpy(x), torch.from_numpy(names), options, torch.Generator().manual_seed(seed))
    return model.eval()


def cross_fitted_gate(
    x: NDArray[np.float32],
    names: NDArray[np.int64],
    mask: NDArray[np.bool_] | int,
    trie: Trie,
    options: SpellerOptions,
    seed: int,
    runs: NDArray[np.int64] | None,
) -> VoxelGate:
    """Train a gate on the answers of spellers to runs that they have not seen; parameters as in `fit_speller`."""
    if runs is None or len(np.unique(runs)) < 2:
        remedy = "Add runs, or set decoding.names.gate_folds to 0."
        raise InputError("two training runs or more to cross-fit the gate", "fewer", "decoding.names", remedy)
    n_folds = min(options.folds, len(np.unique(runs)))
    fold = torch.from_numpy(np.unique(runs, return_inverse=True)[1] % n_folds)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spellers = [_speller(mask, trie, options) for _ in range(n_folds)]
        gate = spellers[0].gate
        for speller in spellers:
            speller.gate = gate
        _cross_fit(spellers, gate, torch.from_numpy(x), torch.from_numpy(names), fold, options, seed)
    return gate


def _speller(mask: NDArray[np.bool_] | int, trie: Trie, options: SpellerOptions) -> Speller:
    return Speller(mask, trie, options.head, options.sigma_voxels, options.n_brain, options.dropout)


def _cross_fit(
    spellers: Sequence[Speller], gate: VoxelGate, x: torch.Tensor, names: torch.Tensor, fold: torch.Tensor,
    options: SpellerOptions, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    weights = [p for one in spellers for p in one.parameters() if p is not gate.theta]
    moves = torch.optim.Adam([gate.theta], lr=options.gate_lr)
    learns = torch.optim.AdamW(weights, lr=options.lr, weight_decay=options.weight_decay)
    schedules = [_falling(optimizer, len(x), options) for optimizer in (moves, learns)]
    for batch in _batches(len(x), options, generator):
        held, seen = torch.zeros(()), torch.zeros(())
        for k, speller in enumerate(spellers):
            held = held + _surprise(speller, x, names, batch[fold[batch] == k], generator) / len(batch)
            seen = seen + _surprise(speller, x, names, batch[fold[batch] != k], generator) / len(batch)
        _refuse_infinite(held + seen)
        # Two gradients of two losses: the gate from held-out runs, the spellers from their training runs.
        priced = held + options.bottleneck * gate.information_bound()
        gate.theta.grad = torch.autograd.grad(priced, [gate.theta])[0]
        for weight, gradient in zip(weights, torch.autograd.grad(seen, weights), strict=True):
            weight.grad = gradient
        moves.step()
        learns.step()
        for schedule in schedules:
            schedule.step()


def _surprise(
    speller: Speller, x: torch.Tensor, names: torch.Tensor, rows: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the summed nats of the names of some volumes."""
    if not len(rows):
        return torch.zeros(())
    return -speller.log_probabilities(speller.brain(x[rows], generator), names[rows]).sum()


def _falling(optimizer: torch.optim.Optimizer, n: int, options: SpellerOptions) -> torch.optim.lr_scheduler.LambdaLR:
    n_steps = options.epochs * -(-n // options.batch_size)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / n_steps)


def _batches(n: int, options: SpellerOptions, generator: torch.Generator) -> Iterator[torch.Tensor]:
    for _ in range(options.epochs):
        yield from torch.randperm(n, generator=generator).split(options.batch_size)


def _refuse_infinite(loss: torch.Tensor) -> None:
    if not torch.isfinite(loss):
        remedy = "Look for recordings with values that are not finite."
        raise InputError("a finite loss of the speller", f"{loss.item():g}", "decoding.names", remedy)


def _train(
    model: Speller, x: torch.Tensor, names: torch.Tensor, options: SpellerOptions, generator: torch.Generator
) -> None:
    others = [p for p in model.parameters() if p is not model.gate.theta]
    # A gate that is not trained has no gradient, and the optimiser leaves it.
    groups = parameter_groups([model.gate.theta], others, options.gate_lr, options.lr)
    groups[0]["weight_decay"] = 0.0
    optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    schedule = _falling(optimizer, len(x), options)
    for batch in _batches(len(x), options, generator):
        loss = _loss(model, x[batch], names[batch], options.bottleneck, generator)
        _refuse_infinite(loss)
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
