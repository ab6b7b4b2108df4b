"""A closed vocabulary as a tree of characters: the speller can write these names and nothing else."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

END = 0  # symbol 0 ends a name, and stands before its first character


@dataclass(frozen=True)
class Trie:
    """Names over single characters of any script.

    Attributes
    ----------
    names : tuple of str
        In the order given, in Unicode's composed form (NFC).
    symbols : str
        The characters, sorted; symbol i + 1 is ``symbols[i]``, symbol 0 is the end.
    next_node : array of shape (n_nodes, n_symbols), int64
        Node reached from a node by a symbol; -1 where no name goes on so. Node 0 is the root.
    targets : array of shape (n_names, length), int64
        Symbols of each name with its end, padded with -1.
    """

    names: tuple[str, ...]
    symbols: str
    next_node: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def n_symbols(self) -> int:
        """Number of symbols, the end included."""
        return len(self.symbols) + 1

    def allowed(self) -> NDArray[np.bool_]:
        """Return the symbols that may follow each prefix of each name, (n_names, length, n_symbols).

        Padding allows the end only, so that a masked softmax stays defined there.
        """
        allowed = np.zeros((*self.targets.shape, self.n_symbols), dtype=bool)
        allowed[..., END] = self.targets < 0
        for name, symbols in enumerate(self.targets):
            node = 0
            for step, symbol in enumerate(symbols[symbols >= 0]):
                allowed[name, step] = self.next_node[node] >= 0
                node = self.next_node[node, symbol]
        return allowed

    def index(self, name: str) -> int:
        """Return the position of a name.

        Raises
        ------
        KeyError
            The name is not in the vocabulary.
        """
        try:
            return self.names.index(unicodedata.normalize("NFC", name))
        except ValueError:
            raise KeyError(f"'{name}' is not among the names {', '.join(self.names)}") from None

    def text(self, symbols: Sequence[int]) -> str:
        """Return the text of symbols up to the first end."""
        written = []
        for symbol in symbols:
            if symbol <= END:
                break
            written.append(self.symbols[symbol - 1])
        return "".join(written)


def build_trie(names: Sequence[str]) -> Trie:
    """Build the tree of a closed vocabulary.

    Parameters
    ----------
    names : sequence of str
        Distinct and not empty.

    Raises
    ------
    ValueError
        No names, an empty name, or a name given twice.
    """
    composed = tuple(unicodedata.normalize("NFC", name) for name in names)
    if not composed or not all(composed):
        raise ValueError(f"a vocabulary needs names of at least one character, got {list(names)}")
    if len(set(composed)) < len(composed):
        raise ValueError(f"a vocabulary needs distinct names, got {list(names)}")
    symbols = "".join(sorted(set("".join(composed))))
    targets = _targets(composed, symbols)
    return Trie(composed, symbols, _transitions(targets, len(symbols) + 1), targets)


def _targets(names: tuple[str, ...], symbols: str) -> NDArray[np.int64]:
    targets = np.full((len(names), max(map(len, names)) + 1), -1, dtype=np.int64)
    for row, name in zip(targets, names, strict=True):
        row[: len(name) + 1] = [symbols.index(character) + 1 for character in name] + [END]
    return targets


def _transitions(targets: NDArray[np.int64], n_symbols: int) -> NDArray[np.int64]:
    rows = [[-1] * n_symbols]
    for symbols in targets:
        node = 0
        for symbol in symbols[symbols >= 0]:
            if rows[node][symbol] < 0:
                rows[node][symbol] = len(rows)
                rows.append([-1] * n_symbols)
            node = rows[node][symbol]
    return np.array(rows, dtype=np.int64)
