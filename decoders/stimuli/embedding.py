"""Word vectors built from the study's own corpus: word co-occurrence and letter trigrams."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.store.tables import read_table

DIMENSIONS = 24
VOCABULARY = 2500
WINDOW = 5
CONTEXT_POWER = 0.75
# Where the phantom keeps the vectors of its words, below its BIDS folder.
EMBEDDING_FILE = Path("derivatives/truth/embedding.tsv")
# Decimals that are kept, so that a vector in a table is the vector that was used.
_DECIMALS = 6


@dataclass(frozen=True)
class Embedding:
    """Word vectors.

    Attributes
    ----------
    words : tuple of str
    vectors : array of shape (n_words, n_dimensions)
    """

    words: tuple[str, ...]
    vectors: NDArray[np.float64]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    def lookup(self, words: Sequence[str]) -> NDArray[np.float64]:
        """Return the vectors of words, shape (n, n_dimensions); an unknown word is zero."""
        padded = np.vstack([self.vectors, np.zeros((1, self.vectors.shape[1]))])
        return padded[[self._rows.get(word, -1) for word in words]]

    def table(self) -> pd.DataFrame:
        """Return the embedding as a table: word, then one column per dimension."""
        frame = pd.DataFrame(self.vectors, columns=[f"dimension_{i:02d}" for i in range(self.vectors.shape[1])])
        frame.insert(0, "word", self.words)
        return frame


def read_embedding(path: str | Path) -> Embedding:
    """Read an embedding from a table as `Embedding.table` makes it."""
    table = read_table(path, text_columns=("word",))
    if "word" not in table or table.shape[1] < 2:
        found = ", ".join(map(str, table.columns))
        raise InputError("a column 'word' and one per dimension", found, path, "Give a table of word vectors.")
    return Embedding(tuple(table["word"]), table.drop(columns="word").to_numpy(np.float64))


def cooccurrence_embedding(
    sentences: Sequence[Sequence[str]], dimensions: int = DIMENSIONS, vocabulary: int = VOCABULARY
) -> Embedding:
    """Build word vectors from co-occurrence in a corpus.

    Positive pointwise mutual information in a window of 5 words on either side, context
    distribution smoothed by the power .75 (Levy, Goldberg & Dagan 2015), truncated SVD scaled by
    the root of the singular values, frequency-weighted mean removed, columns to unit standard
    deviation, rows to unit norm.

    Parameters
    ----------
    sentences : sequence of sequences of str
        Documents as words; windows do not cross documents.
    dimensions : int
    vocabulary : int
        The commonest words get vectors; others keep their place in the windows.

    Returns
    -------
    Embedding

    Raises
    ------
    InputError
        Fewer distinct words than dimensions.
    """
    counts = Counter(word for words in sentences for word in words)
    # Ties by spelling: the order of the corpus must not matter.
    common = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
    _check_size(len(common), dimensions)
    matrix = _ppmi(_cooccurrence(sentences, common))
    frequency = np.array([counts[word] for word in common], dtype=np.float64)
    return Embedding(tuple(common), _word_vectors(matrix, frequency, dimensions))


def reduced_embedding(
    words: Sequence[str], matrix: NDArray[np.float64], frequency: NDArray[np.float64], dimensions: int = DIMENSIONS
) -> Embedding:
    """Reduce any description of words to vectors, scaled as the co-occurrence vectors.

    Parameters
    ----------
    words : sequence of str
        Distinct.
    matrix : array of shape (n_words, n_columns)
    frequency : array of shape (n_words,)
        Weighs the mean.
    dimensions : int
        Fewer than words and columns.

    Raises
    ------
    InputError
        Fewer words than dimensions.
    """
    _check_size(len(words), dimensions)
    return Embedding(tuple(words), _word_vectors(matrix, frequency, dimensions))


def trigram_embedding(words: Sequence[str], dimensions: int = DIMENSIONS) -> Embedding:
    """Build word vectors from spelling: SVD of letter trigrams, scaled as the co-occurrence vectors.

    The *mismatched* features of the phantom: they know nothing of its embedding.

    Parameters
    ----------
    words : sequence of str
        Words of the corpus with repetition (frequencies weight the mean).
    dimensions : int

    Returns
    -------
    Embedding
        One vector per distinct word.
    """
    counts = Counter(words)
    distinct = sorted(counts)
    _check_size(len(distinct), dimensions)
    trigrams = [_trigrams(word) for word in distinct]
    columns = {trigram: i for i, trigram in enumerate(sorted({t for ts in trigrams for t in ts}))}
    matrix = np.zeros((len(distinct), len(columns)))
    for row, found in enumerate(trigrams):
        for trigram in found:
            matrix[row, columns[trigram]] += 1
    return Embedding(
        tuple(distinct),
        _word_vectors(matrix, np.array([counts[word] for word in distinct], dtype=np.float64), dimensions),
    )


def _trigrams(word: str) -> list[str]:
    marked = f"#{word}#"
    return [marked[i : i + 3] for i in range(max(1, len(marked) - 2))]


def _cooccurrence(sentences: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> NDArray[np.float64]:
    rows = {word: row for row, word in enumerate(vocabulary)}
    size = len(vocabulary)
    counts = np.zeros(size * size)
    for words in sentences:
        indices = np.array([rows.get(word, -1) for word in words])
        for distance in range(1, WINDOW + 1):
            left, right = indices[:-distance], indices[distance:]
            both = (left >= 0) & (right >= 0)
            counts += np.bincount(left[both] * size + right[both], minlength=size * size)
    square = counts.reshape(size, size)
    return square + square.T


def _ppmi(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum()
    word = counts.sum(axis=1) / total
    context = counts.sum(axis=0) ** CONTEXT_POWER
    context /= context.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts / total / (word[:, None] * context[None, :]))
    return np.where(counts > 0, np.maximum(information, 0.0), 0.0)


def _word_vectors(matrix: NDArray[np.float64], frequency: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    # A fixed start and fixed signs: the solver's own start is random, and signs are arbitrary.
    start = np.random.default_rng(zlib.crc32(b"embedding")).standard_normal(min(matrix.shape))
    left, singular, _ = svds(csr_matrix(matrix), k=dimensions, v0=start)
    order = np.argsort(-singular)
    left, singular = left[:, order], singular[order]
    left = left * np.sign(left[np.argmax(np.abs(left), axis=0), np.arange(dimensions)])
    vectors = left * np.sqrt(singular)
    vectors = vectors - frequency @ vectors / frequency.sum()
    vectors = vectors / np.maximum(vectors.std(axis=0), 1e-12)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.round(vectors, _DECIMALS)


def _check_size(found: int, dimensions: int) -> None:
    if found <= dimensions:
        expected = f"more than {dimensions} different words"
        raise InputError(expected, f"{found}", "the corpus of the word embedding", "Give a longer text.")
