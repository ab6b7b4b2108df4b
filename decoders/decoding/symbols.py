"""The symbols of free text: characters of any script, and where words end.

Text is *plain* here: lower-case words without punctuation, each followed by a space; ideographs and kana,
which are written without spaces, are words of one character and followed by nothing.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stimuli.alphabet import MIN_COUNT, REPLACEMENT
from decoders.stimuli.text import LETTERS_PER_IDEOGRAPH, n_letters, tokens_of

BOUNDARY = " "


@dataclass(frozen=True)
class Alphabet:
    """Characters as symbols.

    The codes of `decoders.stimuli.alphabet` are bytes, which hold few Chinese characters; these are not.

    Attributes
    ----------
    characters : str
        Symbol i is ``characters[i]``: 0 stands for every character that is missing, 1 is the boundary of words.
    """

    characters: str

    @property
    def n_symbols(self) -> int:
        """Number of symbols, the unknown one included."""
        return len(self.characters)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {character: code for code, character in enumerate(self.characters)}

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the symbols of a text, shape (n_characters,); 0 for characters that are missing."""
        return np.array([self._codes.get(character, 0) for character in text], dtype=np.int64)

    def decode(self, symbols: NDArray[np.int64] | list[int]) -> str:
        """Return the text of symbols; negative ones are padding."""
        return "".join(self.characters[symbol] for symbol in symbols if symbol >= 0)

    def missing(self, text: str) -> str:
        """Return the characters of a text that the alphabet lacks, sorted."""
        return "".join(sorted(set(text) - set(self.characters)))


def alphabet_of(text: str) -> Alphabet:
    """Return the characters that occur at least twice in a text, in the order of their code points.

    Raises
    ------
    InputError
        No character occurs twice.
    """
    counts = Counter(text)
    kept = sorted(c for c, n in counts.items() if n >= MIN_COUNT and c not in {REPLACEMENT, BOUNDARY})
    if not kept:
        remedy = "Give a corpus of at least some hundred words."
        raise InputError("a text whose characters recur", f"'{text[:40]}'", "the language corpus", remedy)
    return Alphabet(REPLACEMENT + BOUNDARY + "".join(kept))


def plain_text(text: str) -> str:
    """Return a text as the decoder writes it: lower-case words with their boundaries, no punctuation.

    Raises
    ------
    InputError
        No word in the text.
    """
    return "".join(spelled(token.word) for token in tokens_of(text))


def spelled(word: str) -> str:
    """Return a word with its boundary: a space, or nothing after an ideograph."""
    return word if is_ideograph(word) else word + BOUNDARY


def words_of(plain: str) -> list[str]:
    """Return the words of a plain text; the characters after the last boundary are no word yet."""
    words, letters = [], ""
    for character in plain:
        if character == BOUNDARY:
            words += [letters] if letters else []
            letters = ""
        elif not letters and is_ideograph(character):
            words.append(character)
        else:
            letters += character
    return words


@cache
def is_ideograph(character: str) -> bool:
    """Tell whether this is one ideograph or kana, which is a word of its own."""
    return len(character) == 1 and n_letters(character) == LETTERS_PER_IDEOGRAPH


def is_letter(character: str) -> bool:
    """Tell whether a character may stand inside a word that ends with a space."""
    if is_ideograph(character):
        return False
    return character.isalnum() or character == "'" or unicodedata.category(character).startswith("M")
