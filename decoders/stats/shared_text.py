"""How much of one text stands in another: windows of eight words, whatever the spelling of their names."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby

WINDOW = 8  # words; few phrases of eight words are said twice by chance
# Chinese, Japanese and Korean scripts are cut by character: their segmentation into words differs between tools.
_UNSPACED = (("\u3040", "\u30ff"), ("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uac00", "\ud7af"))

Windows = frozenset[tuple[str, ...]]


def normalised(words: Iterable[str]) -> list[str]:
    """Return words in one case and Unicode form, without marks; unspaced scripts by character."""
    found: list[str] = []
    for word in words:
        plain = "".join(c for c in unicodedata.normalize("NFKC", word).casefold() if c.isalnum())
        found += list(plain) if any(_unspaced(c) for c in plain) else [plain] if plain else []
    return found


def digest_of(words: Iterable[str]) -> str:
    """Return the SHA-256 of a text after normalisation."""
    return hashlib.sha256(" ".join(normalised(words)).encode()).hexdigest()


@lru_cache(maxsize=4096)
def windows_of(words: tuple[str, ...], length: int = WINDOW) -> Windows:
    """Return the distinct windows of a text; kept, because folds compare the same texts again and again."""
    tokens = normalised(words)
    return frozenset(tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1))


def shared_windows(test: tuple[str, ...], corpora: Sequence[tuple[str, ...]]) -> float:
    """Return the share of the windows of a test text that stand in any of some other texts.

    Parameters
    ----------
    test : tuple of str
        Words in order. Of a text shorter than a window the whole is one window.
    corpora : sequence of tuple of str
        Windows do not cross from one text to the next.

    Returns
    -------
    float
        0 for an empty test text.
    """
    length = min(WINDOW, len(normalised(test)))
    if not length:
        return 0.0
    wanted = windows_of(test, length)
    found: set[tuple[str, ...]] = set()
    for words in corpora:
        found |= wanted & windows_of(words, length)
    return len(found) / len(wanted)


def unheard_passages(
    words: tuple[str, ...], heard: Iterable[tuple[str, ...]], least: int = WINDOW
) -> list[tuple[str, ...]]:
    """Return the passages of a text that share no window with other texts, in order.

    Parameters
    ----------
    words : tuple of str
    heard : iterable of tuple of str
        Words of the other texts.
    least : int
        Shorter passages are left out, in words.
    """
    known: set[tuple[str, ...]] = set()
    for text in heard:
        known |= windows_of(text)
    tokens = [(token, number) for number, word in enumerate(words) for token in normalised([word])]
    kept = [True] * len(words)
    for start in range(len(tokens) - WINDOW + 1):
        part = tokens[start : start + WINDOW]
        if tuple(token for token, _ in part) in known:
            for _, number in part:
                kept[number] = False
    passages: list[tuple[str, ...]] = []
    for same, group in groupby(range(len(words)), key=kept.__getitem__):
        passage = tuple(words[number] for number in group)
        if same and len(passage) >= least:
            passages.append(passage)
    return passages


def _unspaced(character: str) -> bool:
    return any(first <= character <= last for first, last in _UNSPACED)
