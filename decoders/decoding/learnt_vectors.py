"""Word vectors learnt from the corpus of the language model: they know nothing of what a phantom responds to.

Two providers beside letter trigrams (`decoders.stimuli.embedding`): co-occurrence of words in the corpus, and the
states of our own character language model at the ends of words. The corpus holds no held-out story, which the audit
checks, so a word that is heard there alone has no vector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.language import Language
from decoders.decoding.symbols import words_of
from decoders.decoding.tang_encoding import word_states
from decoders.stimuli.embedding import DIMENSIONS, VOCABULARY, Embedding, cooccurrence_embedding, reduced_embedding


def learnt_embedding(
    kind: str, documents: Sequence[str], language: Language, dimensions: int = DIMENSIONS, vocabulary: int = VOCABULARY
) -> Embedding:
    """Return word vectors learnt from plain texts.

    Parameters
    ----------
    kind : {"cooccurrence", "language_model"}
    documents : sequence of str
        Plain texts (`decoders.decoding.symbols`).
    language : Language
        Trained on the same texts.
    dimensions, vocabulary : int
        Of the vectors, and the commonest words that have one.
    """
    sentences = [words_of(document) for document in documents]
    if kind == "cooccurrence":
        return cooccurrence_embedding(sentences, dimensions, vocabulary)
    return _mean_states(sentences, language, dimensions, vocabulary)


def _mean_states(sentences: Sequence[Sequence[str]], language: Language, dimensions: int, vocabulary: int) -> Embedding:
    """Return the language model's mean state after each word, over its places in the corpus.

    The state predicts what follows; its mean over contexts is what the word alone says of that.
    """
    counts: dict[str, int] = defaultdict(int)
    sums: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(language.model.shape["n_units"]))
    for words in sentences:
        for word, state in zip(words, word_states(language, words), strict=True):
            counts[word] += 1
            sums[word] += state
    # Ties by spelling, as for co-occurrence.
    common = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
    frequency = np.array([counts[word] for word in common], dtype=np.float64)
    states = np.array([sums[word] / counts[word] for word in common])
    # What all words share would be the first dimension.
    return reduced_embedding(common, states - frequency @ states / frequency.sum(), frequency, dimensions)
