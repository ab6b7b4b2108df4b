"""Which characters may follow within a word: any word of a script, or the words of a corpus only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.decoding.symbols import BOUNDARY, Alphabet, is_ideograph, is_letter, words_of
from decoders.decoding.trie import END, build_trie
from decoders.errors import InputError

_START, _INSIDE, _DONE = 0, 1, 2


@dataclass(frozen=True)
class Units:
    """An automaton over symbols that reads one word with its boundary.

    Attributes
    ----------
    next_node : array of shape (n_nodes, n_symbols), int64
        Node after a symbol; -1 where it may not follow. A word begins at node 0.
    final : array of shape (n_nodes,), bool
        The word is complete, its boundary included.
    words : tuple of str
        The closed vocabulary; empty where any word may be written.
    word : array of shape (n_nodes,), int64
        Which word ends at a node; -1 for none.
    low, high : array of shape (n_nodes,), int64
        Words below a node are `words` from low to before high; empty without a vocabulary.
    """

    next_node: NDArray[np.int64]
    final: NDArray[np.bool_]
    words: tuple[str, ...]
    word: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


class BestBelow:
    """The largest gain among the words below a node, for any hypothesis and node.

    Words below a node are neighbours. Maxima of 1, 2, 4, … neighbours are tabled once; any range is covered by two.

    Parameters
    ----------
    units : Units
        A closed vocabulary.
    gains : Tensor of shape (n, n_words)
        Of each word for each hypothesis.
    """

    def __init__(self, units: Units, gains: Tensor) -> None:
        n_words = gains.shape[1]
        self._table = gains.new_full((n_words.bit_length(), n_words, len(gains)), -torch.inf)
        self._table[0] = gains.T
        for level in range(1, len(self._table)):
            half = 1 << (level - 1)
            before = self._table[level - 1]
            torch.maximum(before[: n_words - half], before[half:], out=self._table[level, : n_words - half])
        self._low, width = torch.from_numpy(units.low), torch.from_numpy(units.high - units.low)
        self._level = torch.log2(width.double()).long()
        self._second = self._low + width - 2**self._level

    def __call__(self, hypothesis: Tensor, node: Tensor) -> Tensor:
        """Return the best gain of each pair of hypothesis and node (two tensors that broadcast)."""
        level, table = self._level[node], self._table
        ends = (table[level, first[node], hypothesis] for first in (self._low, self._second))
        return torch.maximum(*ends)


def open_units(alphabet: Alphabet) -> Units:
    """Return the automaton of all words: letters up to a space, or one ideograph."""
    table = np.full((3, alphabet.n_symbols), -1, dtype=np.int64)
    for symbol, character in enumerate(alphabet.characters):
        if symbol == 0:
            continue  # the unknown character is read, never written
        if is_ideograph(character):
            table[_START, symbol] = _DONE
        elif is_letter(character):
            table[[_START, _INSIDE], symbol] = _INSIDE
    table[_INSIDE, alphabet.encode(BOUNDARY)[0]] = _DONE
    none = np.empty(0, dtype=np.int64)
    return Units(table, np.arange(3) == _DONE, (), np.full(3, -1), none, none)


def lexicon_units(words: Sequence[str], alphabet: Alphabet) -> Units:
    """Return the automaton of a closed vocabulary.

    Parameters
    ----------
    words : sequence of str
        Distinct; lower case, without spaces.
    alphabet : Alphabet

    Raises
    ------
    InputError
        No words, or characters that the alphabet lacks.
    """
    missing = alphabet.missing("".join(words))
    if not words or missing:
        found = f"words with {missing!r}" if words else "no words"
        remedy = "Take the words from the corpus of the language model (corpus_words)."
        raise InputError("words in the alphabet of the language model", found, "the lexicon", remedy)
    trie = build_trie(sorted(words))  # words with a common beginning are neighbours
    table = np.full((len(trie.next_node), alphabet.n_symbols), -1, dtype=np.int64)
    table[:, alphabet.encode(trie.symbols)] = trie.next_node[:, 1:]
    table[:, alphabet.encode(BOUNDARY)[0]] = trie.next_node[:, END]
    word, low, high = np.full(len(table), -1), np.full(len(table), len(words)), np.zeros(len(table), dtype=np.int64)
    for index, symbols in enumerate(trie.targets):
        node = 0
        for symbol in [None, *symbols[symbols >= 0]]:
            node = 0 if symbol is None else int(trie.next_node[node, symbol])
            low[node], high[node] = min(low[node], index), index + 1
        word[node] = index
        if is_ideograph(trie.names[index]):  # complete without a boundary
            table[0, alphabet.encode(trie.names[index])[0]] = node
    return Units(table, word >= 0, trie.names, word, low, high)


def corpus_words(plain: str, alphabet: Alphabet, min_count: int = 1, max_words: int | None = None) -> list[str]:
    """Return the words of a plain text that the alphabet can write, sorted.

    Parameters
    ----------
    plain : str
    alphabet : Alphabet
    min_count : int
        Rarer words are left out.
    max_words : int, optional
        The commonest ones; ties by spelling.
    """
    counts = Counter(words_of(plain))
    kept = [word for word, n in counts.items() if n >= min_count and not alphabet.missing(word)]
    kept.sort(key=lambda word: (-counts[word], word))
    return sorted(kept[:max_words])
