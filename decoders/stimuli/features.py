"""Features of continuous text, sampled per volume, with and without the haemodynamic response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stimuli.embedding import Embedding
from decoders.stimuli.hrf import GRID_HZ, convolve_events, sum_events
from decoders.stimuli.text import n_letters
from decoders.stimuli.timings import Words

T = TypeVar("T")
TEXT_FEATURES = ("word_rate", "speech_seconds", "sound_power", "position", "letters", "embedding")


def feature_matrix(
    names: Sequence[str],
    words: Words,
    times: NDArray[np.float64],
    tr: float,
    *,
    hrf: bool = False,
    embedding: Embedding | None = None,
    sound_power: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the named features of a text at the volumes of a run.

    Parameters
    ----------
    names : sequence of str
        Any of `TEXT_FEATURES`.
    words : Words
        Times in seconds relative to the stimulus onset.
    times : array of shape (n_volumes,)
        Starts of the volumes in seconds relative to the stimulus onset, spaced by `tr`.
    tr : float
        Seconds.
    hrf : bool
        Convolve with the double gamma (on a 10-Hz grid) rather than sum per volume. Position
        and sound power are passed through as they are.
    embedding : Embedding, optional
        Needed by 'embedding'.
    sound_power : array of shape (n_volumes,), optional
        Needed by 'sound_power': a series that is aligned to the volumes.

    Returns
    -------
    features : array of shape (n_volumes, n_features)
        word_rate in words, speech_seconds in seconds, letters in letters (each per volume),
        position from 0 to 1 over the run, embedding as sums of word vectors.
    columns : list of str
        One name per column; 'embedding' gives one per dimension.

    Raises
    ------
    InputError
        An unknown feature, or one whose input is missing.
    """
    blocks, columns = [], []
    for name in names:
        block = _block(name, words, np.asarray(times, float), tr, hrf, embedding, sound_power)
        blocks.append(block)
        columns += [name] if block.shape[1] == 1 else [f"{name}_{i:02d}" for i in range(block.shape[1])]
    return np.concatenate(blocks, axis=1), columns


def phantom_features(words: Words, embedding: Embedding, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return word count and word vectors, placed at the middle of each word, with the HRF.

    Returns
    -------
    array of shape (n_volumes, 1 + n_dimensions)
        Not z-scored: that is done over all runs together (`zscore_runs`).
    """
    return convolve_events(words.middle, np.column_stack([np.ones(len(words)), embedding.lookup(words.word)]), times)


def target_features(words: Words, embedding: Embedding, times: NDArray[np.float64], tr: float) -> NDArray[np.float64]:
    """Return what a decoder predicts: word vectors summed per volume, without the HRF.

    Returns
    -------
    array of shape (n_volumes, n_dimensions)
    """
    return sum_events(words.middle, embedding.lookup(words.word), times, tr)


def zscore_runs(runs: Sequence[NDArray[np.float64]], by: Sequence[int] | None = None) -> list[NDArray[np.float64]]:
    """z-score every column over all runs together, or by some runs alone; what is constant in them becomes zero."""
    stacked = np.concatenate(runs if by is None else [runs[number] for number in by])
    mean, sd = stacked.mean(axis=0), stacked.std(axis=0)
    return [(run - mean) / np.where(sd > 0, sd, 1.0) for run in runs]


def speech_seconds(words: Words, times: NDArray[np.float64], tr: float) -> NDArray[np.float64]:
    """Return the seconds of speech within each volume, shape (n_volumes,)."""
    start = np.asarray(times, float)[:, None]
    end = np.minimum(words.onset + words.duration, start + tr)
    return np.maximum(0.0, end - np.maximum(words.onset, start)).sum(axis=1)


def read_series(path: str | Path, n_volumes: int) -> NDArray[np.float64]:
    """Read one number per volume (sound power and the like) from a text file.

    Raises
    ------
    InputError
        Not a column of finite numbers, or not one per volume.
    """
    try:
        values = np.atleast_1d(np.loadtxt(path, dtype=np.float64))
    except (OSError, ValueError) as error:
        raise InputError(
            "one number per volume", f"'{error}'", path, "Give a text file with one number per line."
        ) from error
    if values.shape != (n_volumes,):
        remedy = "Drop the rows of the volumes that were dropped from the recording."
        raise InputError(f"{n_volumes} rows, one per volume", f"shape {values.shape}", path, remedy)
    if not np.isfinite(values).all():
        raise InputError("finite numbers", f"{int((~np.isfinite(values)).sum())} others", path, "Correct the file.")
    return values


def _block(
    name: str,
    words: Words,
    times: NDArray[np.float64],
    tr: float,
    hrf: bool,
    embedding: Embedding | None,
    sound_power: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    if name == "position":
        return np.linspace(0.0, 1.0, len(times))[:, None]
    if name == "sound_power":
        return _given(sound_power, name, "the sound power of the stimulus")[:, None]
    if name == "speech_seconds":
        return _speech(words, times, tr, hrf)
    values = _word_values(name, words, embedding)
    if hrf:
        return convolve_events(words.middle, values, times)
    return sum_events(words.middle, values, times, tr)


def _word_values(name: str, words: Words, embedding: Embedding | None) -> NDArray[np.float64]:
    if name == "word_rate":
        return np.ones((len(words), 1))
    if name == "letters":
        return np.array([[n_letters(word)] for word in words.word], dtype=np.float64).reshape(-1, 1)
    if name == "embedding":
        return _given(embedding, name, "word vectors").lookup(words.word)
    raise InputError(
        f"one of {', '.join(TEXT_FEATURES)}",
        f"'{name}'",
        "decoding.encoding.features",
        "Correct the name of the feature.",
    )


def _speech(words: Words, times: NDArray[np.float64], tr: float, hrf: bool) -> NDArray[np.float64]:
    if not hrf:
        return speech_seconds(words, times, tr)[:, None]
    step = 1.0 / GRID_HZ
    start = min(0.0, times[0])
    fine = start + step * np.arange(round((times[-1] + tr - start) * GRID_HZ))
    return convolve_events(fine + step / 2, speech_seconds(words, fine, step)[:, None], times)


def _given(value: T | None, name: str, what: str) -> T:
    if value is None:
        raise InputError(
            f"{what} for the feature '{name}'",
            "none",
            "decoding.encoding.features",
            f"Take '{name}' out of the features, or give the data set {what}.",
        )
    return value
