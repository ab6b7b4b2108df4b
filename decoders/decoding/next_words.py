"""Which words may follow in a text that is known so far, and how likely the language model takes each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from decoders.decoding.language import Language
from decoders.decoding.lexicon import Units
from decoders.decoding.likelihood import Floats
from decoders.decoding.spelling import Spelling
from decoders.decoding.symbols import BOUNDARY, spelled
from decoders.errors import InputError

N_CANDIDATES = 128
_MAX_CHARACTERS = 20


@dataclass(frozen=True)
class NextWords:
    """What a language model expects at each word of a text, given the words before it.

    Attributes
    ----------
    log_p : array of shape (n_words,)
        Of the word that stands there, its boundary included, in nats.
    candidates : array of shape (n_words, n_candidates), int64
        Numbers in the lexicon of the words that were likeliest there.
    candidate_log_p : array of shape (n_words, n_candidates)
        Theirs; minus infinity pads.
    place : array of shape (n_words,), int64
        Where the word itself stands among its candidates; -1 where it does not.
    characters : array of shape (n_words,), int64
        Of each word with its boundary.
    """

    log_p: Floats
    candidates: NDArray[np.int64]
    candidate_log_p: Floats
    place: NDArray[np.int64]
    characters: NDArray[np.int64]

    @property
    def bits_per_character(self) -> float:
        """What the language model alone needs, as `Language.bits_per_character` of the text after a boundary."""
        return float(-self.log_p.sum() / np.log(2) / self.characters.sum())


def next_words(language: Language, units: Units, words: Sequence[str], n_candidates: int = N_CANDIDATES) -> NextWords:
    """Read a text with a language model, and collect the likeliest words of a lexicon at each of its places.

    Parameters
    ----------
    language : Language
    units : Units
        Of a closed vocabulary.
    words : sequence of str
        The text. What stands at a place and after it has no part in the candidates there.
    n_candidates : int
        At most; unfinished words that are kept on the way, too.

    Raises
    ------
    InputError
        No words, or an open vocabulary.
    """
    if not words or not units.words:
        given = f"{len(words)} words and {len(units.words)} candidates"
        raise InputError("a text, and the words that may follow", given, "bits per character", "Give both.")
    texts = [spelled(word) for word in words]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    each = language.log_probabilities(BOUNDARY + "".join(texts))
    log_p = np.add.reduceat(each, np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    number = {word: n for n, word in enumerate(units.words)}
    most = min(n_candidates, len(units.words))
    found, found_log_p = _candidates(language, units, texts, most)
    own = np.array([number.get(word, -1) for word in words])
    same = (found == own[:, None]) & np.isfinite(found_log_p)
    place = np.where(same.any(1), same.argmax(1), -1)
    # Steps and whole passes differ in the last digits: the word itself has one probability only.
    inside = np.flatnonzero(place >= 0)
    found_log_p[inside, place[inside]] = log_p[inside]
    return NextWords(log_p, found, found_log_p, place, lengths)


def _candidates(language: Language, units: Units, texts: Sequence[str], most: int) -> tuple[NDArray[np.int64], Floats]:
    model, alphabet = language.model, language.alphabet
    spelling = Spelling(model, units, 1.0, most, _MAX_CHARACTERS)
    number, log_p = np.zeros((len(texts), most), dtype=np.int64), np.full((len(texts), most), -np.inf)
    cache, zero = model.start(1), torch.zeros(1, dtype=torch.float64)
    following = model.step(torch.from_numpy(alphabet.encode(BOUNDARY)), cache)
    for row, text in enumerate(texts):
        whole = spelling.find(zero, following, cache.select(torch.zeros(1, dtype=torch.int64)), None, most)
        n = len(whole.node)
        number[row, :n], log_p[row, :n] = units.word[whole.node.numpy()], whole.language.numpy()
        for symbol in torch.from_numpy(alphabet.encode(text)):
            following = model.step(symbol[None], cache)
    return number, log_p
