"""Training of the shared decoder on several people, and its adaptation to one more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.decoding.shared_decoder import SharedDecoder, Sizes, Smoother, Teller, reverse_gradient
from decoders.errors import InputError

# Chosen on phantom 100.
RATE = 3e-3  # Adam
DROPOUT = 0.3  # share of voxels that a step does not see: the network's ridge penalty
DECAY = 1e-3  # of the squared shared weights in the loss
RUNS_PER_STEP = 4  # per person
ADAPT_STEPS = 150
Runs = Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class Training:
    """How a shared decoder is trained and adapted.

    Attributes
    ----------
    epochs : int
        Passes over the runs.
    reversal : float
        Weight of the reversed gradient of the network that tells people apart; 0 for none.
    pull : float
        Weight of the squared difference of a person's own weights from the shared ones.
    """

    epochs: int
    reversal: float = 0.0
    pull: float = 1.0


@dataclass(frozen=True)
class _Batch:
    """Runs of one person, and their texts."""

    runs: list[Tensor]
    texts: list[Tensor]
    person: int

    @classmethod
    def of(cls, x: Runs, targets: Runs, voxels: NDArray[np.int64], person: int) -> _Batch:
        return cls([_tensor(run[:, voxels]) for run in x], [_tensor(run) for run in targets], person)

    def part(self, numbers: Sequence[int]) -> _Batch:
        return _Batch([self.runs[i] for i in numbers], [self.texts[i] for i in numbers], self.person)


def train_shared(
    x: Sequence[Runs],
    targets: Sequence[Runs],
    voxels: Sequence[NDArray[np.int64]],
    sizes: Sizes,
    training: Training,
    seed: int,
) -> SharedDecoder:
    """Train on the runs of several people.

    Parameters
    ----------
    x : sequence of sequence of array of shape (n_volumes, n_grid)
        Runs of each person.
    targets : sequence of sequence of array of shape (n_volumes, n_targets)
    voxels : sequence of array of int
        That each person's front end reads.
    sizes : Sizes
    training : Training
    seed : int
        Of weights, order of runs and hidden voxels.
    """
    generator = torch.Generator().manual_seed(seed)
    model = SharedDecoder(sizes, voxels, generator)
    teller = Teller(sizes.hidden, len(x), generator)
    people = [_Batch.of(*one, i) for i, one in enumerate(zip(x, targets, voxels, strict=True))]
    optimizer = torch.optim.Adam([*model.parameters(), *teller.parameters()], lr=RATE)
    own = training.pull / sum(len(run) for one in people for run in one.runs)
    for _ in range(training.epochs):
        for step in _steps(people, generator):
            loss = DECAY * _squares([model.grid, model.time, model.out]) + own * _squares(model.own)
            for batch in step:
                loss = loss + _loss(model, teller, batch, training.reversal, generator) / len(step)
            _descend(optimizer, loss)
    return model


def add_person(
    model: SharedDecoder,
    x: Runs,
    targets: Runs,
    voxels: NDArray[np.int64],
    training: Training,
    smooth: Smoother,
    seed: int,
) -> tuple[SharedDecoder, int]:
    """Fit the front end, scales and biases of one more person; everything shared stays as it is.

    Parameters
    ----------
    model : SharedDecoder
        Stays as it is.
    x, targets : sequence of array
        The given runs, as in `train_shared`.
    voxels : array of int
        That the person's front end reads.
    training : Training
    smooth : callable
        Smooths maps of shape (n, n_grid) in space.
    seed : int
        Of hidden voxels.

    Returns
    -------
    model : SharedDecoder
        A copy with one more person.
    person : int
        The number of that person.
    """
    generator = torch.Generator().manual_seed(seed)
    person = len(model.voxels)
    more = model.with_one_more(voxels, model.mean_front(smooth)[torch.from_numpy(voxels)])
    batch = _Batch.of(x, targets, voxels, person)
    # Rows of the other people get no gradient.
    fitted = [more.own[person], *more.edits.parameters()]
    start = [value.detach().clone() for value in fitted]
    weight = training.pull / sum(map(len, batch.runs))
    optimizer = torch.optim.Adam(fitted, lr=RATE)
    for _ in range(ADAPT_STEPS):
        moved = _squares([value - old for value, old in zip(fitted, start, strict=True)])
        loss = weight * moved + _error(more, batch, generator)
        _descend(optimizer, loss)
    return more, person


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take a step down the loss.

    Raises
    ------
    InputError
        A loss that is not finite.
    """
    if not torch.isfinite(loss):
        remedy = "Look for recordings with values that are not finite."
        expected = "a finite loss of the network across people"
        raise InputError(expected, f"{loss.item():g}", "decoding.across", remedy)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _steps(people: Sequence[_Batch], generator: torch.Generator) -> list[list[_Batch]]:
    """Return the batches of every step of one pass: some runs of each person, in a drawn order."""
    orders = [torch.randperm(len(one.runs), generator=generator).tolist() for one in people]
    n_steps = max(1, min(len(one.runs) for one in people) // RUNS_PER_STEP)
    return [
        [one.part(order[step::n_steps]) for one, order in zip(people, orders, strict=True)] for step in range(n_steps)
    ]


def _loss(model: SharedDecoder, teller: Teller, batch: _Batch, reversal: float, generator: torch.Generator) -> Tensor:
    loss = _error(model, batch, generator)
    if reversal:
        h = torch.cat([model.shared(run, batch.person) for run in batch.runs])
        # The teller descends its loss, the network below ascends it.
        loss = loss + teller.loss(reverse_gradient(h, reversal), batch.person)
    return loss


def _error(model: SharedDecoder, batch: _Batch, generator: torch.Generator) -> Tensor:
    """Return the mean squared error of a person's runs, with some voxels hidden."""
    errors = []
    for run, text in zip(batch.runs, batch.texts, strict=True):
        seen = (torch.rand(run.shape[1], generator=generator) >= DROPOUT).to(run.dtype) / (1 - DROPOUT)
        predicted = model(run * seen, batch.person)
        errors.append((predicted - text[: len(predicted)]).square().mean())
    return torch.stack(errors).mean()


def _squares(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.square().sum() for value in values]).sum()


def _tensor(run: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(run, dtype=np.float32))
