"""A small causal transformer over characters that reads many hypotheses at once, a character at a time.

Attention reaches back a fixed window and knows only distances, so a text may be of any length: what is kept
of the past (keys and values) is a ring of `window` characters per layer, and steps equal the full pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decoders.decoding.symbols import Alphabet
from decoders.errors import InputError
from decoders.store.weights import read_weights, write_weights

# Characters that are scored in one pass when a text is evaluated: attention costs their square, the model reaches 63.
_EVALUATED = 256


@dataclass
class Cache:
    """What the model keeps of the characters it has read, one row per hypothesis.

    Attributes
    ----------
    keys, values : list of Tensor of shape (n, n_heads, window, n_units / n_heads)
        One per layer; character t stands in slot t modulo the window.
    position : Tensor of shape (n,), int64
        Characters read so far; hypotheses may differ.
    """

    keys: list[Tensor]
    values: list[Tensor]
    position: Tensor

    def select(self, parents: Tensor) -> Cache:
        """Return the rows of the given parents, shape (m,); a parent may come several times or not at all."""
        keys = [key.index_select(0, parents) for key in self.keys]
        return Cache(keys, [value.index_select(0, parents) for value in self.values], self.position[parents])

    def append(self, other: Cache) -> Cache:
        """Return the rows of both."""
        keys = [torch.cat(pair) for pair in zip(self.keys, other.keys, strict=True)]
        values = [torch.cat(pair) for pair in zip(self.values, other.values, strict=True)]
        return Cache(keys, values, torch.cat([self.position, other.position]))


class WindowAttention(nn.Module):
    """Causal attention (Vaswani et al. 2017) to the last `window` characters, with a bias per head and distance.

    The biases start as in ALiBi (Press, Smith & Lewis 2022, ICLR), a line per head, and are trained.
    """

    def __init__(self, n_units: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        self.mix, self.out = nn.Linear(n_units, 3 * n_units), nn.Linear(n_units, n_units)
        slopes = 2.0 ** -torch.arange(n_heads, dtype=torch.float32)
        self.bias = nn.Parameter(-slopes[:, None] * torch.arange(window))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the characters of whole texts: (n, time, n_units) to the same shape."""
        q, k, v = self._parts(x)
        steps = torch.arange(x.shape[1])
        distance = steps[:, None] - steps[None, :]
        seen = (distance >= 0) & (distance < self.window)
        bias = self.bias[:, distance.clamp(0, self.window - 1)].masked_fill(~seen, -torch.inf)
        mixed = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: Tensor) -> Tensor:
        """Mix one more character, (n, n_units) to the same shape; its key and value are written to the ring."""
        q, k, v = self._parts(x[:, None])
        rows, slot = torch.arange(len(x)), position % self.window
        keys[rows, :, slot], values[rows, :, slot] = k[:, :, 0], v[:, :, 0]
        distance = (slot[:, None] - torch.arange(self.window)) % self.window
        bias = self.bias[:, distance].transpose(0, 1).masked_fill((distance > position[:, None])[:, None], -torch.inf)
        match = (q @ keys.transpose(-2, -1))[:, :, 0] * q.shape[-1] ** -0.5 + bias
        mixed = match.softmax(-1)[:, :, None] @ values
        out: Tensor = self.out(mixed.flatten(1))
        return out

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, time, units = x.shape
        parts = self.mix(x).view(n, time, 3, self.n_heads, units // self.n_heads).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]


class Layer(nn.Module):
    """Attention and two fully connected maps, each added to the stream, with layer norm before (Xiong et al. 2020)."""

    def __init__(self, n_units: int, n_heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.before, self.attention = nn.LayerNorm(n_units), WindowAttention(n_units, n_heads, window)
        wide = 4 * n_units
        self.dense = nn.Sequential(
            nn.LayerNorm(n_units), nn.Linear(n_units, wide), nn.GELU(), nn.Linear(wide, n_units), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Whole texts: (n, time, n_units) to the same shape."""
        x = x + self.attention(self.before(x))
        return x + self.dense(x)

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: Tensor) -> Tensor:
        """One more character: (n, n_units) to the same shape."""
        x = x + self.attention.step(self.before(x), keys, values, position)
        return x + self.dense(x)


class CharacterModel(nn.Module):
    """P(next character | characters so far).

    Parameters
    ----------
    n_symbols : int
    n_units, n_layers, n_heads : int
        Width of the stream (a multiple of the heads), layers, heads.
    window : int
        Characters that each layer reaches back, the present one included.
    dropout : float
    """

    def __init__(
        self,
        n_symbols: int,
        n_units: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        window: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.shape = {"n_units": n_units, "n_layers": n_layers, "n_heads": n_heads, "window": window}
        self.embedding, self.drop = nn.Embedding(n_symbols, n_units), nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(n_units, n_heads, window, dropout) for _ in range(n_layers))
        self.readout = nn.Sequential(nn.LayerNorm(n_units), nn.Linear(n_units, n_symbols))

    @property
    def reach(self) -> int:
        """Characters, the present one included, on which a prediction depends."""
        return (self.shape["window"] - 1) * self.shape["n_layers"] + 1

    def forward(self, symbols: Tensor) -> Tensor:
        """Return log-probabilities of the character after each one: (n, time) int64 to (n, time, n_symbols)."""
        return torch.log_softmax(self.readout(self.states(symbols)), -1)

    def states(self, symbols: Tensor) -> Tensor:
        """Return the stream after the last layer: (n, time) int64 to (n, time, n_units)."""
        x: Tensor = self.drop(self.embedding(symbols))
        for layer in self.layers:
            x = layer(x)
        return x

    def start(self, n: int = 1) -> Cache:
        """Return the cache of `n` texts of which nothing has been read."""
        like, size = self.embedding.weight, self.shape
        shape = (n, size["n_heads"], size["window"], size["n_units"] // size["n_heads"])
        empty = [[like.new_zeros(shape) for _ in self.layers] for _ in range(2)]
        return Cache(empty[0], empty[1], torch.zeros(n, dtype=torch.int64))

    @torch.no_grad()
    def step(self, characters: Tensor, cache: Cache) -> Tensor:
        """Read one character per hypothesis.

        Parameters
        ----------
        characters : Tensor of shape (n,), int64
        cache : Cache of n rows
            Changed in place.

        Returns
        -------
        Tensor of shape (n, n_symbols)
            Log-probabilities of the character that follows.
        """
        return self.step_states(characters, cache)[0]

    @torch.no_grad()
    def step_states(self, characters: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        """Read one character as `step`; return the stream after the last layer, (n, n_units), too."""
        x = self.embedding(characters)
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            x = layer.step(x, keys, values, cache.position)  # type: ignore[operator]
        cache.position += 1
        return torch.log_softmax(self.readout(x), -1), x


@dataclass(frozen=True)
class Language:
    """A character model with the alphabet it was trained on."""

    model: CharacterModel
    alphabet: Alphabet

    def bits_per_character(self, plain: str) -> float:
        """Return the mean surprise of a text's characters in bits, the first one given.

        Raises
        ------
        InputError
            A text of fewer than two characters.
        """
        return float(-np.mean(self.log_probabilities(plain)) / math.log(2))

    @torch.no_grad()
    def log_probabilities(self, plain: str) -> NDArray[np.float64]:
        """Return log P of every character but the first given those before it, in nats, shape (n_characters - 1,)."""
        if len(plain) < 2:
            remedy = "Give the text that is to be scored."
            raise InputError("a text of at least two characters", f"'{plain}'", "the text to score", remedy)
        return score_symbols(self.model, torch.from_numpy(self.alphabet.encode(plain)))


@torch.no_grad()
def score_symbols(model: CharacterModel, symbols: Tensor) -> NDArray[np.float64]:
    """Return log P of every symbol but the first, exactly, in pieces that overlap by the model's reach."""
    training, found = model.training, []
    model.eval()
    for first, start, stop in _pieces(len(symbols) - 1, model.reach):
        steps = model(symbols[None, first:stop])[0, start - first :]
        found.append(steps.gather(1, symbols[start + 1 : stop + 1, None])[:, 0])
    model.train(training)
    return torch.cat(found).double().numpy()


@torch.no_grad()
def symbol_states(model: CharacterModel, symbols: Tensor) -> NDArray[np.float64]:
    """Return the stream after the last layer at every symbol, shape (n_symbols, n_units), as steps would find it."""
    found = [model.states(symbols[None, a:c])[0, b - a :] for a, b, c in _pieces(len(symbols), model.reach)]
    return torch.cat(found).double().numpy()


def _pieces(n: int, reach: int) -> list[tuple[int, int, int]]:
    """Return where a pass begins to read, where it begins to count, and where it ends."""
    return [(max(0, a + 1 - reach), a, min(a + _EVALUATED, n)) for a in range(0, n, _EVALUATED)]


def save_language(path: str | Path, language: Language, attributes: dict[str, Any] | None = None) -> None:
    """Write a language model as safetensors; its alphabet and shape go with it."""
    about = {"characters": language.alphabet.characters, "shape": language.model.shape, **(attributes or {})}
    write_weights(path, language.model.state_dict(), about)


def load_language(path: str | Path) -> Language:
    """Read a language model as `save_language` writes it, ready to be used.

    Raises
    ------
    InputError
        The file holds other weights. IntegrityError where it is damaged.
    """
    weights, about = read_weights(path)
    if "characters" not in about or "shape" not in about:
        found = f"the attributes {', '.join(sorted(about)) or 'none'}"
        raise InputError("a character language model", found, path, "Give a file that the language stage wrote.")
    alphabet = Alphabet(about["characters"])
    model = CharacterModel(alphabet.n_symbols, **about["shape"])
    model.load_state_dict(weights)
    return Language(model.eval(), alphabet)
