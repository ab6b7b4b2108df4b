"""The phantom's stories: ours (embedded), or the Alice book of the registry."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from decoders.data.registry import fetch
from decoders.errors import InputError
from decoders.stimuli.embedding import Embedding, cooccurrence_embedding
from decoders.stimuli.text import Token, tokens_of

TextName = Literal["embedded_en", "embedded_zh", "alice"]
_BOOK = "alice/alice-gutenberg.txt"
_FURTHER = "tinyshakespeare.txt"


def story_tokens(text: TextName, mirror: str | Path | None = None) -> list[Token]:
    """Return the words of the stories in the order in which they are told."""
    return [token for document in _stories(text, mirror) for token in tokens_of(document)]


@cache
def phantom_embedding(text: TextName, mirror: str | Path | None = None) -> Embedding:
    """Return the word vectors that the phantom's brain responds to (decoding.md, section 4).

    The corpus is the text itself; with the Alice book also tinyshakespeare, from the registry.
    Cached within the process.
    """
    documents = list(_stories(text, mirror))
    if text == "alice":
        documents.append((fetch("text_corpora", mirror) / _FURTHER).read_text(encoding="utf-8"))
    return cooccurrence_embedding([[token.word for token in tokens_of(document)] for document in documents])


def book_from_chapter_one(text: str, where: str | Path = "the book") -> str:
    """Return a Gutenberg text from the heading of chapter I to the end of the story."""
    start = re.search(r"^CHAPTER I\..*$", text, flags=re.MULTILINE)
    end = re.search(r"^\s*(THE END|\*\*\* ?END OF)", text, flags=re.MULTILINE)
    if start is None or end is None or end.start() < start.start():
        raise InputError("a book from 'CHAPTER I.' to 'THE END'", "no such lines", where, "Fetch the book again.")
    return text[start.start() : end.start()]


def _stories(text: TextName, mirror: str | Path | None) -> tuple[str, ...]:
    if text == "alice":
        path = fetch("alice_fmri_brennan2016", mirror) / _BOOK
        return (book_from_chapter_one(path.read_text(encoding="utf-8-sig"), path),)
    return _embedded(text.removeprefix("embedded_"))


@cache
def _embedded(language: str) -> tuple[str, ...]:
    folder = files("decoders.simulate") / "texts"
    found = sorted(path.name for path in folder.iterdir() if path.name.startswith(f"{language}_"))
    return tuple((folder / name).read_text(encoding="utf-8") for name in found)
