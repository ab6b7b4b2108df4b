"""Windows of the stories that people heard: the stimuli of alignment with text, and the RDMs of simple controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stimuli.controls import ControlRDM

# Seconds over which the likeness of neighbours fades: that of what is left of slow drifts after a usual high-pass.
FADING_S = 60.0
_LEAST_WORDS = 2

DEFINITIONS = {
    "word_rate": "Difference of the words per second.",
    "word_length": "Difference of the mean number of characters per word.",
    "position": "Difference of the seconds from the onset of the story.",
    "nearness": f"1 - exp(-seconds between the windows / {FADING_S:g}) within a story, 1 between stories.",
    "trigrams": "1 - correlation of the logarithms of 1 + the counts of letter trigrams.",
}


def story_windows(words: pd.DataFrame, seconds: float, gap_s: float) -> pd.DataFrame:
    """Cut every story into windows of equal length.

    Parameters
    ----------
    words : DataFrame
        Columns stimulus, onset, duration in seconds from the onset of the story (`decoders.stimuli.stage_text`).
    seconds : float
        Length of a window.
    gap_s : float
        Seconds between the end of a window and the onset of the next.

    Returns
    -------
    DataFrame
        Columns name, stimulus, onset, duration, n_words; a word belongs to the window in which it begins. A window
        with fewer than two words is left out: nothing is heard in it that features could stand for.

    Raises
    ------
    InputError
        Fewer than three windows.
    """
    rows = []
    for stimulus, told in words.groupby("stimulus", sort=True):
        end = float((told["onset"] + told["duration"]).max())
        for start in np.arange(0.0, end - seconds + 1e-6, seconds + gap_s):
            # Minutes and seconds of equal length: sorted names are in the order of time.
            name = f"{stimulus} {int(start // 60):03d}:{start % 60:04.1f}"
            rows.append((name, str(stimulus), float(start), float(seconds)))
    windows = pd.DataFrame(rows, columns=["name", "stimulus", "onset", "duration"])
    inside = words_within(windows, words["stimulus"].tolist(), words["onset"].to_numpy(dtype=float))
    windows = windows.assign(n_words=inside.sum(axis=1))
    windows = windows[windows["n_words"] >= _LEAST_WORDS].reset_index(drop=True)
    if len(windows) < 3:
        found = f"{len(windows)} of {seconds:g} s in {words['stimulus'].nunique()} stories"
        remedy = "Set shorter alignment.windows.seconds or a shorter gap_s."
        raise InputError("three or more windows with words", found, "the words of the stories", remedy)
    return windows


def words_within(windows: pd.DataFrame, stimuli: Sequence[str], onsets: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which words begin in each window, array of shape (n_windows, n_words)."""
    story = np.array([str(name) for name in stimuli], dtype=object)
    start = windows["onset"].to_numpy(dtype=float)[:, None]
    same = windows["stimulus"].to_numpy(dtype=object)[:, None] == story
    stop = start + windows["duration"].to_numpy(dtype=float)[:, None]
    return np.asarray(same & (onsets >= start) & (onsets < stop), dtype=bool)


def pooled(
    windows: pd.DataFrame, stimuli: Sequence[str], onsets: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the mean of what words carry (n_words, n_units) over the words of each window.

    Raises
    ------
    InputError
        A window without a word: the features are those of another text.
    """
    inside = words_within(windows, stimuli, onsets)
    empty = np.flatnonzero(~inside.any(axis=1))
    if empty.size:
        found = f"none in '{windows['name'].iloc[empty[0]]}'" + (
            f" and {empty.size - 1} more" if empty.size > 1 else ""
        )
        raise InputError("words in every window", found, "the features of words", "Delete them and train again.")
    return np.asarray(inside / inside.sum(axis=1, keepdims=True) @ values.astype(np.float64))


def window_controls(windows: pd.DataFrame, words: pd.DataFrame, names: Sequence[str]) -> list[ControlRDM]:
    """Return the RDMs of what windows differ in without any network.

    Parameters
    ----------
    windows : DataFrame
        As `story_windows` returns it.
    words : DataFrame
        Columns stimulus, onset, word.
    names : sequence of str
        Of `DEFINITIONS`.

    Returns
    -------
    list of ControlRDM
    """
    inside = words_within(windows, words["stimulus"].tolist(), words["onset"].to_numpy(dtype=float))
    return [ControlRDM(name, _CONTROLS[name](windows, words, inside), DEFINITIONS[name]) for name in names]


Inside = NDArray[np.bool_]


def _differences(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = np.triu_indices(len(values), 1)
    return np.asarray(np.abs(values[rows] - values[columns]), dtype=np.float64)


def _word_rate(windows: pd.DataFrame, words: pd.DataFrame, inside: Inside) -> NDArray[np.float64]:
    return _differences(inside.sum(axis=1) / windows["duration"].to_numpy(dtype=float))


def _word_length(windows: pd.DataFrame, words: pd.DataFrame, inside: Inside) -> NDArray[np.float64]:
    length = words["word"].astype(str).str.len().to_numpy(dtype=float)
    return _differences((inside @ length) / inside.sum(axis=1))


def _position(windows: pd.DataFrame, words: pd.DataFrame, inside: Inside) -> NDArray[np.float64]:
    return _differences(windows["onset"].to_numpy(dtype=float))


def _nearness(windows: pd.DataFrame, words: pd.DataFrame, inside: Inside) -> NDArray[np.float64]:
    rows, columns = np.triu_indices(len(windows), 1)
    story = windows["stimulus"].to_numpy(dtype=object)
    apart = _position(windows, words, inside)
    return np.asarray(np.where(story[rows] == story[columns], 1 - np.exp(-apart / FADING_S), 1.0))


def _trigrams(windows: pd.DataFrame, words: pd.DataFrame, inside: Inside) -> NDArray[np.float64]:
    from scipy.spatial.distance import pdist
    from sklearn.feature_extraction.text import CountVectorizer

    written = words["word"].astype(str).to_numpy(dtype=object)
    texts = [f" {' '.join(written[row])} " for row in inside]
    counts = CountVectorizer(analyzer="char", ngram_range=(3, 3)).fit_transform(texts)
    return np.asarray(pdist(np.log1p(counts.toarray()), "correlation"))


_CONTROLS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, Inside], NDArray[np.float64]]] = {
    "word_rate": _word_rate, "word_length": _word_length, "position": _position, "nearness": _nearness,
    "trigrams": _trigrams,
}  # fmt: skip
