"""Training text of the networks: windows of characters, each with the character that follows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from decoders.data.registry import fetch
from decoders.errors import InputError
from decoders.stimuli.alphabet import alphabet_of, encode
from decoders.stimuli.stories import TextName, story_documents

SHAKESPEARE = "tinyshakespeare"  # of the registry; too long to be told, so it is no `TextName`


@dataclass(frozen=True)
class TrainingText:
    """What the stage writes.

    Attributes
    ----------
    x_train, x_test : array of shape (n_windows, window), uint8
        Positions of the characters in the alphabet.
    y_train, y_test : array of shape (n_windows,), int64
        The character that follows.
    class_names : list of str
        The alphabet: the replacement symbol, then characters by code point.
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    class_names: list[str]


def training_documents(text: str, mirror: str | Path | None = None) -> list[str]:
    """Return the documents of a setting ``learning.training.text``, with single spaces for all white space.

    Parameters
    ----------
    text : str
        Name of our stories or of a registered text, or the path of a text file or of a folder of them.
    mirror : str or Path, optional
        Folder that is read in place of the network.

    Raises
    ------
    InputError
        No such file, no text file in the folder, not UTF-8, or no text.
    """
    if text in get_args(TextName):
        found = list(story_documents(text, mirror))  # type: ignore[arg-type]  # it is one of the names
    elif text == SHAKESPEARE:
        found = [_read(fetch("text_corpora", mirror) / f"{SHAKESPEARE}.txt")]
    else:
        found = [_read(path) for path in _files(Path(text).expanduser())]
    documents = [" ".join(unicodedata.normalize("NFC", document).split()) for document in found]
    if not any(documents):
        raise InputError("a text", "white space only", text, "Name a file with text in learning.training.text.")
    return documents


def _files(path: Path) -> list[Path]:
    names = ", ".join((*get_args(TextName), SHAKESPEARE))
    remedy = f"Give {names}, a text file, or a folder of .txt files as learning.training.text."
    if path.is_file():
        return [path]
    files = [file for file in sorted(path.glob("*.txt")) if file.is_file() and not file.name.startswith(".")]
    if not files:
        found = "a folder without .txt files" if path.is_dir() else "no such file"
        raise InputError("a text", found, path, remedy)
    return files


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("a text in UTF-8", f"'{error}'", path, "Save it as UTF-8.") from error


def split_documents(documents: Sequence[str], test_share: float) -> tuple[list[str], list[str]]:
    """Split each document once: its first part trains, its last part tests. No character is in both."""
    cuts = [round(len(document) * (1 - test_share)) for document in documents]
    train = [document[:cut] for document, cut in zip(documents, cuts, strict=True)]
    return train, [document[cut:] for document, cut in zip(documents, cuts, strict=True)]


def windows_of(
    parts: Sequence[str], alphabet: Sequence[str], window: int, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | int:
    """Return `count` windows and what follows them, drawn without repetition, in the order of the text.

    Parameters
    ----------
    parts : sequence of str
        No window crosses from one to the next.
    alphabet : sequence of str
    window, count : int
    rng : Generator

    Returns
    -------
    x : array of shape (count, window), uint8
    y : array of shape (count,), int64
        Or, where there are fewer windows, their number alone.
    """
    lengths = [len(part) for part in parts]
    firsts = np.cumsum([0, *lengths])
    starts = np.concatenate([first + np.arange(max(0, n - window)) for first, n in zip(firsts, lengths, strict=False)])
    if len(starts) < count:
        return len(starts)
    chosen = np.sort(rng.choice(starts, count, replace=False)).astype(np.int64)
    found = encode("".join(parts), alphabet)[chosen[:, None] + np.arange(window + 1)]
    return np.ascontiguousarray(found[:, :-1]), found[:, -1].astype(np.int64)


def choose_windows(
    documents: Sequence[str], n_train: int, n_test: int, window: int, rng: np.random.Generator, where: str
) -> TrainingText:
    """Choose training and test windows from separate parts of every document.

    Parameters
    ----------
    documents : sequence of str
    n_train, n_test : int
        Numbers of windows; each document is split in this proportion.
    window : int
        Characters per window.
    rng : Generator
    where : str
        Named in errors.

    Raises
    ------
    InputError
        The text is too short.
    """
    parts = split_documents(documents, n_test / (n_train + n_test))
    alphabet = alphabet_of(parts[0])
    found = []
    for key, part, count in (("n_train", parts[0], n_train), ("n_test", parts[1], n_test)):
        windows = windows_of(part, alphabet, window, count, rng)
        if isinstance(windows, int):
            title = "training" if key == "n_train" else "test"
            expected = f"{count} windows of {window} characters in the {title} part of the text"
            remedy = f"Give a longer text, or lower learning.training.{key}."
            raise InputError(expected, f"only {windows}", where, remedy)
        found.append(windows)
    (x_train, y_train), (x_test, y_test) = found
    return TrainingText(x_train, y_train, x_test, y_test, alphabet)
