"""What content adds to timing: the same model with words of other passages at the times of the heard ones.

Speech is heard at a rate that changes, and the rate alone predicts much. Whether the words themselves matter is told by
surrogates: their content is real text too, with the same times, but nobody heard it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stats.shared_text import unheard_passages
from decoders.stimuli.text import tokens_of
from decoders.stimuli.timings import Words

CONTENT = ("letters", "embedding")
GAIN = "_gain"  # after the name of a task
MODEL, CONTROL = "content", "control:other_text"


@dataclass(frozen=True)
class Content:
    """Features of the test of content.

    Attributes
    ----------
    timing : array of shape (n_samples, n_timing_features)
        The model's features without those of content.
    surrogates : list of array of shape (n_samples, n_features)
        The model's features, content taken from passages that nobody heard.
    """

    timing: NDArray[np.float32]
    surrogates: list[NDArray[np.float32]]


def passages_of(documents: Sequence[str], heard: Mapping[str, Words]) -> list[tuple[str, ...]]:
    """Return the passages of documents that were not heard, as words."""
    told = [words.word for words in heard.values()]
    texts = [tuple(token.word for token in tokens_of(document)) for document in documents]
    return [passage for text in texts for passage in unheard_passages(text, told)]


def surrogate_words(
    heard: Mapping[str, Words], passages: Sequence[tuple[str, ...]], rng: np.random.Generator
) -> dict[str, Words]:
    """Return the heard words' times with the words of random stretches of other passages.

    Raises
    ------
    InputError
        No passage is as long as a stimulus.
    """
    found = {}
    for name, words in heard.items():
        starts = [max(0, len(passage) - len(words) + 1) for passage in passages]
        if not sum(starts):
            longest = max(map(len, passages), default=0)
            remedy = "Give a longer text as decoding.encoding.other_text."
            expected = f"a passage of {len(words)} words that nobody heard, as long as the stimulus '{name}'"
            raise InputError(expected, f"{longest} words at most", "decoding.encoding.other_text", remedy)
        place = int(rng.integers(sum(starts)))
        number = int(np.searchsorted(np.cumsum(starts), place, side="right"))
        first = place - sum(starts[:number])
        stretch = passages[number][first : first + len(words)]
        found[name] = replace(words, word=stretch, text=tuple(f"{word} " for word in stretch))
    return found
