"""What content adds to timing: the same model with words of other passages at the times of the heard ones.

Speech is heard at a rate that changes, and the rate alone predicts much. Whether the words themselves matter is told by
surrogates: their content is real text too, with the same times, but nobody heard it. Word vectors come from one half of
the other passages and surrogates from the other, so that the vectors were learnt from neither. Surrogates make
predictions worse than timing alone; a gain is claimed only where it also lies above zero (the control ``timing``). One
thing stays with the heard words: long and rare words are spoken longer and before pauses, and what follows from that
counts as their content.
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
MODEL, CONTROL, NO_GAIN = "content", "control:other_text", "control:timing"


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


def passages_of(
    documents: Sequence[str], heard: Mapping[str, Words], where: str = "decoding.encoding.other_text"
) -> list[tuple[str, ...]]:
    """Return the passages of documents that were not heard, as words.

    Parameters
    ----------
    documents : sequence of str
    heard : mapping of str to Words
        By stimulus.
    where : str
        The setting that names the documents, for errors.

    Raises
    ------
    InputError
        All of it was heard.
    """
    told = [words.word for words in heard.values()]
    texts = [tuple(token.word for token in tokens_of(document)) for document in documents]
    found = [passage for text in texts for passage in unheard_passages(text, told)]
    if not found:
        remedy = "Give another text of the same kind."
        raise InputError("passages that nobody heard", f"none in {sum(map(len, texts))} words", where, remedy)
    return found


def halves(passages: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the first and the second half of the words of passages, cut where the middle falls."""
    left = sum(map(len, passages)) // 2
    first: list[tuple[str, ...]] = []
    second: list[tuple[str, ...]] = []
    for passage in passages:
        first.append(passage[: max(0, left)])
        second.append(passage[max(0, left) :])
        left -= len(passage)
    return [part for part in first if part], [part for part in second if part]


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
