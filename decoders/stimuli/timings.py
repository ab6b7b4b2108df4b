"""Words on the time axis: timing tables, TextGrids, and the checks that both must pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stimuli.text import character_times, clean_word
from decoders.stimuli.textgrid import read_textgrid, word_tier

# What forced aligners write for silence.
SILENCES = frozenset({"", "sp", "sil", "<sil>", "<p>", "<eps>"})
# Alignments are rounded: so much overlap in seconds is not worth an error.
TOLERANCE_S = 0.005


@dataclass(frozen=True)
class Words:
    """The words of one stimulus in time.

    Attributes
    ----------
    onset, duration : array of shape (n_words,)
        Seconds relative to the onset of the stimulus.
    word : tuple of str
        Lower case, no punctuation.
    text : tuple of str
        As written, with punctuation and the space that follows.
    """

    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    word: tuple[str, ...]
    text: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.word)

    @property
    def middle(self) -> NDArray[np.float64]:
        """Middle of every word in seconds."""
        return self.onset + self.duration / 2

    def select(self, keep: NDArray[np.bool_]) -> Words:
        """Return the words of a boolean mask of shape (n_words,)."""
        chosen = np.flatnonzero(keep)
        return Words(
            self.onset[chosen],
            self.duration[chosen],
            tuple(self.word[i] for i in chosen),
            tuple(self.text[i] for i in chosen),
        )

    def between(self, start: float, stop: float) -> Words:
        """Return the words whose onset lies in [start, stop)."""
        return self.select((self.onset >= start) & (self.onset < stop))


def read_words(path: str | Path, tier: str | None = None) -> Words:
    """Read the words of a stimulus from a TextGrid or a timing table.

    Parameters
    ----------
    path : str or Path
        ``*.TextGrid``, or a tab-separated table with the columns onset, duration (seconds),
        word, and, where there is one, text.
    tier : str, optional
        Tier of the TextGrid.

    Raises
    ------
    InputError
        Missing file or columns, times that are no numbers, negative durations, words that
        overlap or go back in time, or no words at all.
    """
    path = Path(path)
    words = _from_textgrid(path, tier) if path.suffix.lower() == ".textgrid" else _from_table(path)
    if not len(words):
        raise InputError("words", "none", path, "Check that the file belongs to this stimulus.")
    check_times(words.onset, words.duration, words.word, path)
    return words


def read_characters(path: str | Path) -> pd.DataFrame:
    """Read a table of characters in time: columns onset, duration (seconds), character."""
    path = Path(path)
    table = _read_table(path, ("onset", "duration", "character"))
    frame = pd.DataFrame(
        {
            "onset": _seconds(table, "onset", path),
            "duration": _seconds(table, "duration", path),
            "character": table["character"],
        }
    )
    check_times(frame["onset"].to_numpy(), frame["duration"].to_numpy(), list(frame["character"]), path)
    return frame


def characters_of(words: Words) -> pd.DataFrame:
    """Return the characters of words, each with an equal share of its word's duration."""
    rows = [
        row
        for text, onset, duration in zip(words.text, words.onset, words.duration, strict=True)
        for row in character_times(text, onset, duration)
    ]
    return pd.DataFrame(rows, columns=["onset", "duration", "character"])


def words_table(words: Words) -> pd.DataFrame:
    """Return words as a table with the columns onset, duration, word, text."""
    return pd.DataFrame({"onset": words.onset, "duration": words.duration, "word": words.word, "text": words.text})


def words_from_table(table: pd.DataFrame) -> Words:
    """Return the words of a table as `words_table` makes it (one stimulus, in time)."""
    return Words(
        table["onset"].to_numpy(np.float64),
        table["duration"].to_numpy(np.float64),
        tuple(table["word"]),
        tuple(table["text"]),
    )


def words_by_stimulus(table: pd.DataFrame) -> dict[str, Words]:
    """Return the words of each stimulus of ``words.tsv``."""
    return {str(name): words_from_table(part) for name, part in table.groupby("stimulus", sort=True)}


def check_times(
    onset: NDArray[np.float64], duration: NDArray[np.float64], labels: Sequence[str], where: str | Path
) -> None:
    """Refuse times that are not finite, negative durations, and overlap beyond 5 ms."""
    bad = np.flatnonzero(~np.isfinite(onset) | ~np.isfinite(duration))
    if len(bad):
        found = f"none for '{labels[bad[0]]}' in row {bad[0] + 1}"
        remedy = "Fill in the times or delete the row."
        raise InputError("an onset and a duration for every word", found, where, remedy)
    bad = np.flatnonzero(duration < 0)
    if len(bad):
        found = f"{duration[bad[0]]:g} s for '{labels[bad[0]]}' in row {bad[0] + 1}"
        raise InputError("durations that are not negative", found, where, "Correct the time of that word.")
    overlap = onset[:-1] + duration[:-1] - onset[1:]
    bad = np.flatnonzero((overlap > TOLERANCE_S) | (np.diff(onset) < 0))
    if len(bad):
        first = int(bad[0])
        end = onset[first] + duration[first]
        second = f"'{labels[first + 1]}' from {onset[first + 1]:.3f} s"
        found = f"'{labels[first]}' until {end:.3f} s and {second} (row {first + 1})"
        remedy = "Sort the words by onset and correct their durations."
        raise InputError("words in order of time that do not overlap", found, where, remedy)


def _from_textgrid(path: Path, tier: str | None) -> Words:
    intervals = word_tier(read_textgrid(path), tier, path).intervals
    # Labels without a letter are marks (breath, noise), not words.
    kept = [
        (interval, clean_word(interval.label))
        for interval in intervals
        if interval.label.strip().lower() not in SILENCES
    ]
    kept = [(interval, word) for interval, word in kept if word]
    onset = np.array([interval.start for interval, _ in kept], dtype=np.float64)
    end = np.array([interval.end for interval, _ in kept], dtype=np.float64)
    return Words(
        onset, end - onset, tuple(word for _, word in kept), tuple(interval.label.strip() + " " for interval, _ in kept)
    )


def _from_table(path: Path) -> Words:
    table = _read_table(path, ("onset", "duration", "word"))
    text = tuple(table["text"]) if "text" in table else tuple(word + " " for word in table["word"])
    cleaned = tuple(clean_word(word) for word in table["word"])
    words = Words(_seconds(table, "onset", path), _seconds(table, "duration", path), cleaned, text)
    return words.select(np.array([bool(word) for word in cleaned], dtype=bool))


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("a table of word timings", "no such file", path, "Check the path.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(
            "a tab-separated table in UTF-8", f"'{error}'", path, "Save it as tab-separated text."
        ) from error
    missing = [column for column in columns if column not in table]
    if missing:
        found = f"no {', '.join(missing)} among {', '.join(map(str, table.columns))}"
        raise InputError(f"the columns {', '.join(columns)}", found, path, "Rename the columns of the table.")
    for column in table:
        swallowed = table[column].str.contains("[\t\n]", na=True)
        if swallowed.any():
            found = f"a cell of the column '{column}' that spans cells or rows, or is missing"
            remedy = "Double the quotes inside quoted cells."
            raise InputError("one value per cell and quotes in pairs", found, path, remedy)
    return table


def _seconds(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    values = pd.to_numeric(table[column].replace("n/a", "nan"), errors="coerce").to_numpy(np.float64)
    strange = np.flatnonzero(np.isnan(values) & ~table[column].isin(["n/a", "nan", ""]).to_numpy())
    if len(strange):
        found = f"'{table[column].iloc[strange[0]]}' in row {strange[0] + 1}"
        raise InputError(
            f"seconds in the column '{column}'", found, path, "Give times in seconds with a decimal point."
        )
    return values
