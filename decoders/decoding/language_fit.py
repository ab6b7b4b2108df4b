"""Training of the character language model: one seed, the same bits; it resumes from its last epoch."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from decoders.decoding.language import CharacterModel, Language, score_symbols
from decoders.decoding.symbols import alphabet_of
from decoders.errors import CorticodeError, InputError, IntegrityError
from decoders.models.trainer import epoch_order, one_cycle
from decoders.store.weights import read_weights, write_weights

_WHERE = "the language corpus"
_CLIP = 1.0


@dataclass(frozen=True)
class LanguageOptions:
    """Settings of one training.

    Attributes
    ----------
    n_units, n_layers, n_heads, window, dropout
        As in `CharacterModel`.
    length, batch_size : int
        Characters per piece of text, and pieces per update.
    epochs : int
    lr, weight_decay : float
        Peak of the one-cycle schedule of AdamW; decay of all weights.
    validation : float
        Share of the corpus at its END that is not trained on; it chooses the epoch.
    """

    n_units: int = 64
    n_layers: int = 2
    n_heads: int = 4
    window: int = 32
    dropout: float = 0.1
    length: int = 128
    batch_size: int = 32
    epochs: int = 10
    lr: float = 4e-3
    weight_decay: float = 0.01
    validation: float = 0.1


@dataclass(frozen=True)
class LanguageFit:
    """A trained language model and its course.

    Attributes
    ----------
    language : Language
        The weights of the best epoch.
    train_bits, validation_bits : list of float
        Bits per character of each epoch: mean over its updates, and on the end of the corpus.
    best_epoch : int
        From 0; the first one of least validation bits.
    """

    language: Language
    train_bits: list[float]
    validation_bits: list[float]

    @property
    def best_epoch(self) -> int:
        """The first epoch of least validation bits, from 0."""
        return int(np.argmin(self.validation_bits))


def fit_language(
    corpus: str,
    options: LanguageOptions,
    seed: int,
    checkpoint: Path | None = None,
    log: logging.Logger | None = None,
) -> LanguageFit:
    """Train a character language model on a plain text.

    Parameters
    ----------
    corpus : str
        As `decoders.decoding.symbols.plain_text` makes it; must not hold the text that is decoded later.
    options : LanguageOptions
    seed : int
        Of weights, dropout and order; the global generator is left as it was. Equal seeds give equal bits on one
        kind of processor with one number of threads.
    checkpoint : Path, optional
        Written after each epoch; a training that is called again goes on from it and ends with the same bits.
        One that was made from another corpus, seed or options is not used.
    log : Logger, optional

    Raises
    ------
    InputError
        A corpus that is too short for one piece of training and one of validation text.
    CorticodeError
        The loss is not finite.
    """
    log = log or logging.getLogger("corticode")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        training = _Training(corpus, options, seed, log)
        training.resume(checkpoint)
        for epoch in range(len(training.validation_bits), options.epochs):
            training.epoch(epoch)
            training.save(checkpoint)
    training.model.load_state_dict(training.best)
    language = Language(training.model.eval(), training.alphabet)
    return LanguageFit(language, training.train_bits, training.validation_bits)


class _Training:
    """The state of a training between epochs."""

    def __init__(self, corpus: str, options: LanguageOptions, seed: int, log: logging.Logger) -> None:
        n_validation = math.ceil(options.validation * len(corpus))
        _check(corpus, n_validation, options)
        self.options, self.seed, self.log = options, seed, log
        # The alphabet comes from the training part alone: what only the end holds is unknown.
        self.alphabet = alphabet_of(corpus[:-n_validation])
        codes = torch.from_numpy(self.alphabet.encode(corpus))
        self.text, self.held_out = codes[:-n_validation], codes[-n_validation:]
        size = (options.n_units, options.n_layers, options.n_heads, options.window, options.dropout)
        self.model = CharacterModel(self.alphabet.n_symbols, *size)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=options.weight_decay)
        self.train_bits: list[float] = []
        self.validation_bits: list[float] = []
        self.best: dict[str, Tensor] = {}
        about = {"options": asdict(options), "seed": seed, "characters": self.alphabet.characters}
        self.about: dict[str, Any] = {**about, "n": len(codes), "sum": int((codes * torch.arange(len(codes))).sum())}

    def epoch(self, epoch: int) -> None:
        """Train one epoch on pieces whose borders are drawn anew, and score the end of the corpus."""
        length, batch = self.options.length, self.options.batch_size
        torch.manual_seed(int(np.random.default_rng([self.seed, epoch]).integers(2**31)))
        spare = (len(self.text) - 1) % length
        shift = int(torch.randint(spare + 1, ())) if spare else 0
        n = (len(self.text) - 1) // length
        # The same order of borders and pieces for a resumed training: nothing but the seed and the epoch enter.
        order = torch.from_numpy(epoch_order(n, self.seed, 0, epoch))
        pieces = self.text[shift : shift + n * length + 1]
        x, y = pieces[:-1].view(n, length), pieces[1:].view(n, length)
        n_steps = -(-n // batch)
        self.model.train()
        losses = []
        for step, chosen in enumerate(order.split(batch)):
            self._rate(epoch * n_steps + step, self.options.epochs * n_steps)
            losses.append(self._update(x[chosen], y[chosen], epoch, step) / math.log(2))
        self.train_bits.append(float(np.mean(losses)))
        self.validation_bits.append(float(-score_symbols(self.model, self.held_out).mean() / math.log(2)))
        if self.validation_bits[-1] < min(self.validation_bits[:-1], default=math.inf):
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.log.info(
            "language model, epoch %d: %.3f bits/character, %.3f on the end of the corpus",
            epoch + 1,
            self.train_bits[-1],
            self.validation_bits[-1],
        )

    def _rate(self, step: int, n_steps: int) -> None:
        rate, momentum = one_cycle(step, n_steps, self.options.lr)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = rate, (momentum, 0.99)

    def _update(self, x: Tensor, y: Tensor, epoch: int, step: int) -> float:
        loss = torch.nn.functional.nll_loss(self.model(x).flatten(0, 1), y.flatten())
        if not torch.isfinite(loss):
            raise CorticodeError(
                f"{_WHERE}: expected a finite loss, found {loss.item()} in epoch {epoch + 1}, update {step + 1}. "
                f"Lower the learning rate (now {self.options.lr:g})."
            )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        return float(loss.detach())

    def save(self, path: Path | None) -> None:
        """Write all that the next epoch depends on."""
        if path is None:
            return
        state = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        state |= {f"best.{name}": value for name, value in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        curves = {"train_bits": self.train_bits, "validation_bits": self.validation_bits}
        write_weights(path, state, {**self.about, **curves})

    def resume(self, path: Path | None) -> None:
        """Go on from a checkpoint of the same training, where there is one."""
        if path is None or not path.exists():
            return
        try:
            state, about = read_weights(path)
        except IntegrityError as error:
            self.log.warning("%s The training starts again from its beginning.", error)
            return
        if any(about.get(name) != value for name, value in self.about.items()):
            self.log.warning("%s belongs to another training; this one starts from its beginning.", path)
            return
        self.train_bits, self.validation_bits = about["train_bits"], about["validation_bits"]
        self.model.load_state_dict(_part(state, "model."))
        self.best = _part(state, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(state, "adam.").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _check(corpus: str, n_validation: int, options: LanguageOptions) -> None:
    n_train = len(corpus) - n_validation
    if n_train <= options.length or n_validation < 2:
        expected = f"more than {options.length} characters to train on, and two or more at the end to validate"
        remedy = "Give a longer text, or train on shorter pieces."
        raise InputError(expected, f"{max(n_train, 0)} and {n_validation}", _WHERE, remedy)
