"""Which characters may follow within a word: any word of a script, or the words of a corpus only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    below, below_start : array of int
        Words below each node, node after node, and where each node's begin; empty without a vocabulary.
    """

    next_node: NDArray[np.int64]
    final: NDArray[np.bool_]
    words: tuple[str, ...]
    word: NDArray[np.int64]
    below: NDArray[np.int64]
    below_start: NDArray[np.int64]

    def best_below(self, gains: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the largest gain among the words below each node.

        Parameters
        ----------
        gains : array of shape (n_words, n)

        Returns
        -------
        array of shape (n_nodes, n)
        """
        best: NDArray[np.floating] = np.maximum.reduceat(gains[self.below], self.below_start, axis=0)
        return best


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
    trie = build_trie(words)
    table = np.full((len(trie.next_node), alphabet.n_symbols), -1, dtype=np.int64)
    table[:, alphabet.encode(trie.symbols)] = trie.next_node[:, 1:]
    table[:, alphabet.encode(BOUNDARY)[0]] = trie.next_node[:, END]
    word, pairs = np.full(len(table), -1), []
    for index, symbols in enumerate(trie.targets):
        path = [0]
        for symbol in symbols[symbols >= 0]:
            path.append(int(trie.next_node[path[-1], symbol]))
        word[path[-1]] = index
        pairs += [(node, index) for node in path]
        if is_ideograph(trie.names[index]):  # complete without a boundary
            table[0, alphabet.encode(trie.names[index])[0]] = path[-1]
    # A node that an ideograph's shortcut left unreachable keeps its words, so that every node has some.
    order = np.array(sorted(pairs), dtype=np.int64)
    start = np.searchsorted(order[:, 0], np.arange(len(table)))
    return Units(table, word >= 0, trie.names, word, order[:, 1], start)


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
