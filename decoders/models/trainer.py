"""The training loop of all rules: one order of pictures, one schedule, checkpoints that resume to the same bits."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.errors import IntegrityError, TrainingFailed
from decoders.models.pictures import prepare
from decoders.models.text import prepare_text
from decoders.store.weights import read_weights, write_weights


@dataclass(frozen=True)
class Batch:
    """Prepared pictures (n, 3, n_rows, n_columns) or characters (n, n_characters, n_symbols), and labels (n,)."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Stage:
    """A part of the training: rules that train layer by layer have several.

    Attributes
    ----------
    name : str
    epochs : int
        Passes over the training pictures.
    """

    name: str
    epochs: int


@dataclass(frozen=True)
class StepReport:
    """What one update did.

    Attributes
    ----------
    loss : float
        Mean over the batch; the rule's own.
    accuracy : float
        Share of the batch that was right before the update; nan for rules without own prediction.
    learning_rate : float
    update_norms : dict of str to float
        Frobenius norm of the change of each block's affine weight.
    counters : dict of str to int
        Passes through the network: forward, backward, inference_steps, spikes.
    monitors : dict of str to float
        The rule's own health, e.g. the residual of a relaxation; columns ``monitor_<name>`` of the curve.
    """

    loss: float
    accuracy: float
    learning_rate: float
    update_norms: dict[str, float] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    monitors: dict[str, float] = field(default_factory=dict)


class Trainable(Protocol):
    """What the loop needs of a learning rule."""

    def stages(self, epochs: int) -> Sequence[Stage]:
        """Return the stages for a budget of epochs."""

    def begin_stage(self, stage: Stage, n_steps: int) -> None:
        """Prepare a stage of that many updates; all that changes later is in the state dict."""

    def step(self, batch: Batch) -> StepReport:
        """Do one update."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next update depends on."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore it."""


# Inputs that are passed at a time when a whole data set is evaluated. Fixed: other numbers, other bits.
_EVALUATED = 250


@dataclass(frozen=True)
class TrainingData:
    """Inputs with labels.

    Attributes
    ----------
    x : array of uint8
        Pictures (picture, row, column, channel), or codes of characters (window, character).
    y : array of shape (n,), int
    n_symbols : int
        Size of the alphabet; 0 for pictures.
    """

    x: NDArray[np.uint8]
    y: NDArray[np.int64]
    n_symbols: int = 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one prepared input: (3, n_rows, n_columns) or (n_characters, n_symbols)."""
        return (self.x.shape[1], self.n_symbols) if self.n_symbols else (3, *self.x.shape[1:3])

    def inputs(self, chosen: slice | NDArray[np.int64]) -> Tensor:
        """Return prepared inputs: standardised pictures or one-hot characters."""
        return prepare_text(self.x[chosen], self.n_symbols) if self.n_symbols else prepare(self.x[chosen])

    def batches(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield prepared inputs and labels in their order."""
        for start in range(0, len(self.x), _EVALUATED):
            chosen = slice(start, start + _EVALUATED)
            yield self.inputs(chosen), self.y[chosen]

    def thinned(self, n: int) -> TrainingData:
        """Return `n` of the inputs at equal distances (all, where there are no more): sorted classes stay balanced."""
        chosen = np.arange(min(n, len(self.x))) * len(self.x) // max(1, min(n, len(self.x)))
        return TrainingData(self.x[chosen], self.y[chosen], self.n_symbols)


@dataclass(frozen=True)
class Position:
    """How many updates were done, by stage, epoch and batch."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0


@dataclass
class History:
    """Rows of the training curve, summed counters and CPU seconds over all sessions of a training."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0


def one_cycle(step: int, n_steps: int, peak: float) -> tuple[float, float]:
    """Return learning rate and first Adam momentum at a step of a one-cycle schedule (Smith & Topin 2019).

    The rate rises from peak/25 over the first 30 % of the steps and falls to peak/250,000, both along a
    cosine; the momentum mirrors it between .95 and .85. The same as torch's ``OneCycleLR`` by default.
    """
    turn, end = 0.3 * n_steps - 1, n_steps - 1
    if step <= turn:
        share = step / turn if turn > 0 else 0.0
        return _cosine(peak / 25, peak, share), _cosine(0.95, 0.85, share)
    share = (step - turn) / (end - turn)
    return _cosine(peak, peak / 25e4, share), _cosine(0.85, 0.95, share)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (1 + math.cos(math.pi * share))


def epoch_order(n: int, seed: int, stage: int, epoch: int) -> NDArray[np.int64]:
    """Return the order of the pictures in one epoch: of the seed, the stage and the epoch alone."""
    return np.random.default_rng([seed, stage, epoch]).permutation(n)


def n_batches(n: int, batch_size: int) -> int:
    """Return the number of batches of an epoch; the last one may be smaller."""
    return -(-n // batch_size)


def train(
    rule: Trainable,
    data: TrainingData,
    epochs: int,
    batch_size: int,
    seed: int,
    checkpoint: Path | None = None,
    checkpoint_every: int = 50,
    log: logging.Logger | None = None,
) -> History:
    """Train a rule, from its checkpoint where there is one.

    Parameters
    ----------
    rule : Trainable
        After its set-up.
    data : TrainingData
    epochs, batch_size : int
    seed : int
        Of the order of the pictures; the same for all rules.
    checkpoint : Path, optional
        safetensors file, outside the declared outputs of the job.
    checkpoint_every : int
        Updates between checkpoints; one more is written at the end.

    Returns
    -------
    History
        One row per update: stage, epoch, step, learning_rate, loss, accuracy, update_<layer>.

    Raises
    ------
    TrainingFailed
        By the rule; the checkpoint holds the state before the update that broke.
    """
    log = log or logging.getLogger("corticode")
    start, history, state = _resume(checkpoint, log)
    clock, before = time.process_time(), history.cpu_seconds
    stages = rule.stages(epochs)
    for index in range(start.stage, len(stages)):
        stage = stages[index]
        rule.begin_stage(stage, stage.epochs * n_batches(len(data.x), batch_size))
        if state is not None and index == start.stage:
            rule.load_state_dict(state)
        first = start if index == start.stage else Position(index)
        for position, batch in _batches(data, index, stage, first, batch_size, seed):
            try:
                report = rule.step(batch)
            except TrainingFailed as failure:
                failure.history = history
                if checkpoint is not None:
                    _save(checkpoint, rule, position, history)
                raise
            _record(history, stage, position, report)
            history.cpu_seconds = before + time.process_time() - clock
            done = Position(index, position.epoch, position.batch + 1)
            if checkpoint is not None and len(history.rows) % checkpoint_every == 0:
                _save(checkpoint, rule, done, history)
        log.info("stage '%s' trained: %d updates, %.1f CPU s", stage.name, len(history.rows), history.cpu_seconds)
    if state is not None and start.stage == len(stages):
        rule.load_state_dict(state)
    elif checkpoint is not None and history.rows:
        _save(checkpoint, rule, Position(len(stages)), history)
    return history


def _batches(
    data: TrainingData, index: int, stage: Stage, start: Position, batch_size: int, seed: int
) -> Iterator[tuple[Position, Batch]]:
    count = n_batches(len(data.x), batch_size)
    for epoch in range(start.epoch, stage.epochs):
        order = epoch_order(len(data.x), seed, index, epoch)
        first = start.batch if epoch == start.epoch else 0
        for batch in range(first, count):
            chosen = order[batch * batch_size : (batch + 1) * batch_size]
            yield Position(index, epoch, batch), Batch(data.inputs(chosen), torch.from_numpy(data.y[chosen]))


def _record(history: History, stage: Stage, position: Position, report: StepReport) -> None:
    history.rows.append(
        {
            "stage": stage.name,
            "epoch": position.epoch,
            "step": len(history.rows),
            "learning_rate": report.learning_rate,
            "loss": report.loss,
            "accuracy": report.accuracy,
            **{f"update_{layer}": norm for layer, norm in report.update_norms.items()},
            **{f"monitor_{name}": value for name, value in report.monitors.items()},
        }
    )
    for name, count in report.counters.items():
        history.counters[name] = history.counters.get(name, 0) + count


def _save(path: Path, rule: Trainable, position: Position, history: History) -> None:
    # Rows as pairs: JSON attributes are sorted by key, and the order of the columns would change on resuming.
    kept = {**asdict(history), "rows": [list(row.items()) for row in history.rows]}
    write_weights(path, rule.state_dict(), {"position": asdict(position), "history": kept})


def _resume(path: Path | None, log: logging.Logger) -> tuple[Position, History, dict[str, Tensor] | None]:
    if path is None or not path.exists():
        return Position(), History(), None
    try:
        state, attributes = read_weights(path)
    except IntegrityError as error:
        # The result is the same either way; only time is lost.
        log.warning("%s The training starts again from its beginning.", error)
        return Position(), History(), None
    position, kept = Position(**attributes["position"]), attributes["history"]
    history = History([dict(row) for row in kept["rows"]], kept["counters"], kept["cpu_seconds"])
    log.info("training resumes after %d updates from %s", len(history.rows), path)
    return position, history, state
