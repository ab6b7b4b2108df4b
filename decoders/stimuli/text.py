"""Words, characters and windows of a text, in any script."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

# Ideographs and kana are written without spaces: each is a word of its own here (no segmenter is needed).
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
# Vowel signs and accents that do not compose belong to their word, though they are no letters.
_MARKS = "".join(chr(code) for code in range(0x300, 0xAC00) if unicodedata.category(chr(code)).startswith("M"))
_LETTER = rf"(?:(?![{_IDEOGRAPH}])[^\W_][{_MARKS}]*)"
_WORD = re.compile(rf"(?=[^\W_])[{_IDEOGRAPH}][{_MARKS}]*|{_LETTER}+(?:['’]{_LETTER}+)*")
# A Chinese syllable takes about as long to say as three Latin letters (mean length of its pinyin).
LETTERS_PER_IDEOGRAPH = 3


@dataclass(frozen=True)
class Token:
    """A word of a text.

    Attributes
    ----------
    word : str
        Lower case, without punctuation; an apostrophe inside a word stays ("don't").
    text : str
        As written, with punctuation and the space that follows; joined, the texts give the text back.
    """

    word: str
    text: str


def tokens_of(text: str) -> list[Token]:
    """Split a text into words that carry their punctuation and spaces.

    White space is normalised to single spaces. An opening quote goes with the word that it opens.

    Raises
    ------
    InputError
        No letter and no digit in the text.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    found = list(_WORD.finditer(text))
    if not found:
        raise InputError("a text with words", f"'{text[:40]}'", "the text", "Give a text that holds letters.")
    starts = [
        0,
        *(_start(text, left.end(), right.start()) for left, right in pairwise(found)),
        len(text),
    ]
    pieces = [text[start:stop] for start, stop in pairwise(starts)]
    return [Token(clean_word(match.group()), piece) for match, piece in zip(found, pieces, strict=True)]


def clean_word(label: str) -> str:
    """Return a label in lower case without punctuation; empty when it holds no letter and no digit."""
    label = unicodedata.normalize("NFC", label).replace("’", "'").lower()
    kept = "".join(character for character in label if character.isalnum() or character == "'" or _is_mark(character))
    return kept.strip("'")


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def n_letters(word: str) -> int:
    """Return the number of letters (and digits) of a word; an ideograph counts three."""
    ideographs = len(re.findall(f"[{_IDEOGRAPH}]", word))
    return sum(character.isalnum() for character in word) + (LETTERS_PER_IDEOGRAPH - 1) * ideographs


def character_times(text: str, onset: float, duration: float) -> list[tuple[float, float, str]]:
    """Give the characters of a word equal shares of its duration.

    Parameters
    ----------
    text : str
        The word as written, with punctuation and space.
    onset, duration : float
        Seconds.

    Returns
    -------
    list of (onset, duration, character)
    """
    share = duration / max(1, len(text))
    return [(onset + index * share, share, character) for index, character in enumerate(text)]


def windows(start: float, stop: float, length: float, step: float | None = None) -> NDArray[np.float64]:
    """Return the windows of `length` seconds that lie within [start, stop].

    Parameters
    ----------
    start, stop, length : float
        Seconds.
    step : float, optional
        Seconds between onsets; `length` (no overlap) when absent.

    Returns
    -------
    array of shape (n_windows, 2)
        Onset and end of each window, in seconds.
    """
    step = length if step is None else step
    if length <= 0 or step <= 0:
        raise ValueError("the length and the step of windows must be positive")
    # The small number keeps the last window where stop is start + n * step up to rounding.
    count = int(np.floor((stop - start - length) / step + 1e-9)) + 1
    onsets = start + step * np.arange(max(0, count))
    return np.stack([onsets, onsets + length], axis=1)


def _start(text: str, left: int, right: int) -> int:
    """Return where the text of a word begins, given the end of the word before it."""
    space = text.rfind(" ", left, right)
    return space + 1 if space >= 0 else _opening(text, left, right)


def _opening(text: str, left: int, right: int) -> int:
    # Without spaces (Chinese), opening brackets and quotes still belong to what follows.
    start = right
    while start > left and unicodedata.category(text[start - 1]) in {"Ps", "Pi"}:
        start -= 1
    return start
