"""Words in the making: which words may come next, found character by character for all hypotheses in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from decoders.decoding.lexicon import BestBelow, Units
from decoders.errors import InputError


class Reader(Protocol):
    """What the search needs of a language model; its caches have `select` and `append`."""

    def start(self, n: int = 1) -> Any:
        """Return the cache of texts of which nothing has been read."""

    def step(self, characters: Tensor, cache: Any) -> Tensor:
        """Read a character per row, changing the cache; return log-probabilities of the next one."""


@dataclass(frozen=True)
class Prefixes:
    """Beginnings of words, or whole ones, one per row.

    Attributes
    ----------
    parent : Tensor of shape (n,), int64
        Hypothesis that a prefix goes on from.
    node : Tensor of shape (n,), int64
        Of the automaton of words.
    language : Tensor of shape (n,), float64
        log P of its characters after the hypothesis, in nats.
    bound : Tensor of shape (n,), float64
        What the score of a text that begins so may reach.
    letters : Tensor of shape (n, n_characters), int64
        Symbols, the boundary included; -1 after the end.
    cache
        Of the language model. Of a whole word, its last character has not been read.
    """

    parent: Tensor
    node: Tensor
    language: Tensor
    bound: Tensor
    letters: Tensor
    cache: Any

    def select(self, rows: Tensor) -> Prefixes:
        """Return some rows."""
        parts = (self.parent[rows], self.node[rows], self.language[rows], self.bound[rows], self.letters[rows])
        return Prefixes(*parts, self.cache.select(rows))

    def append(self, other: Prefixes) -> Prefixes:
        """Return the rows of both; the other's have at least as many characters."""
        more = other.letters.shape[1] - self.letters.shape[1]
        letters = torch.cat([torch.nn.functional.pad(self.letters, (0, more), value=-1), other.letters])
        pairs = (
            (self.parent, other.parent),
            (self.node, other.node),
            (self.language, other.language),
            (self.bound, other.bound),
        )
        parent, node, language, bound = (torch.cat(pair) for pair in pairs)
        return Prefixes(parent, node, language, bound, letters, self.cache.append(other.cache))

    def last(self) -> Tensor:
        """Return the last character of each row."""
        return self.letters.gather(1, (self.letters >= 0).sum(1, keepdim=True) - 1)[:, 0]


@dataclass(frozen=True)
class Spelling:
    """The search within one word.

    Attributes
    ----------
    model : Reader
    units : Units
        What a word may be.
    language_weight : float
    prefixes : int
        Unfinished words that are kept after each character.
    max_characters : int
        Of a word with its boundary.
    """

    model: Reader
    units: Units
    language_weight: float
    prefixes: int
    max_characters: int

    def find(self, base: Tensor, following: Tensor, cache: Any, ahead: BestBelow | None, most: int) -> Prefixes:
        """Return whole words of largest bound.

        Parameters
        ----------
        base : Tensor of shape (n,), float64
            Scores of the hypotheses so far.
        following : Tensor of shape (n, n_symbols)
            log P of the character after each hypothesis.
        cache
            Of the hypotheses.
        ahead : BestBelow, optional
            What the best word below each node would add to the score beside its language; nothing, without it.
        most : int
            Words to find, over all hypotheses. Prefixes that can no longer reach them are dropped.

        Raises
        ------
        InputError
            No word is finished within `max_characters`.
        """
        n, done, least = len(base), None, -torch.inf
        zero = torch.zeros(n, dtype=torch.float64)
        none = torch.empty((n, 0), dtype=torch.int64)
        live = Prefixes(torch.arange(n), torch.zeros(n, dtype=torch.int64), zero, base, none, cache)
        for _ in range(self.max_characters):
            row, symbol, node, language, bound = self._successors(live, following, base, ahead)
            ended = torch.from_numpy(self.units.final)[node]
            possible = bound > least
            grown = (live.parent[row], node, language, bound, torch.cat([live.letters[row], symbol[:, None]], 1))
            done = _merged(done, _part(grown, live.cache, row, ended & possible), most)
            least = float(done.bound.min()) if len(done.bound) >= most else -torch.inf
            going = ~ended & (bound > least)
            if not going.any():
                break
            live = _part(grown, live.cache, row, going)
            following = self.model.step(symbol[going], live.cache)
        if done is None or not len(done.bound):
            remedy = "Raise max_characters, or keep more prefixes."
            found = f"none within {self.max_characters} characters"
            raise InputError("a word that the language model can finish", found, "the beam search", remedy)
        return done

    def _successors(
        self, live: Prefixes, following: Tensor, base: Tensor, ahead: BestBelow | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the best continuations by one character: row, symbol, node, language, bound."""
        node = torch.from_numpy(self.units.next_node)[live.node]
        language = live.language[:, None] + following.double()
        bound = base[live.parent][:, None] + self.language_weight * language
        if ahead is not None:
            bound = bound + ahead(live.parent[:, None], node.clamp(min=0)).double()
        chosen = largest(bound.masked_fill(node < 0, -torch.inf).flatten(), self.prefixes)
        row, symbol = chosen // node.shape[1], chosen % node.shape[1]
        return row, symbol, node[row, symbol], language[row, symbol], bound[row, symbol]


def largest(scores: Tensor, most: int) -> Tensor:
    """Return the places of the largest finite scores, largest first; ties by place, so that runs agree."""
    possible = torch.nonzero(scores > -torch.inf)[:, 0]
    return possible[torch.sort(scores[possible], descending=True, stable=True).indices[:most]]


def _part(grown: tuple[Tensor, ...], cache: Any, row: Tensor, which: Tensor) -> Prefixes:
    parent, node, language, bound, letters = (part[which] for part in grown)
    return Prefixes(parent, node, language, bound, letters, cache.select(row[which]))


def _merged(done: Prefixes | None, more: Prefixes, most: int) -> Prefixes:
    """Return the best of the words found before and now."""
    both = more if done is None else done.append(more) if len(more.bound) else done
    return both if len(both.bound) <= most else both.select(largest(both.bound, most))
