"""What a freely decoded text is worth: its windows against those of the text that was heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.identification import Identified, rank_true, unit_length, window_correlations
from decoders.decoding.likelihood import Floats
from decoders.decoding.responses import TextFeatures
from decoders.decoding.score_nulls import run_shifts
from decoders.errors import InputError
from decoders.stats.permutation import permutation_p
from decoders.stimuli.timings import Words

N_NULLS = 200
# Decoded words stand where the rate of words puts them, seconds off the words that were heard.
BLUR_S = 4.0
# Orders of the windows of each run, for every draw.
Rolls = list[list[NDArray[np.int64]]]


@dataclass(frozen=True)
class Similarity:
    """Similarity of decoded to heard windows, and its null of windows that are rolled within their runs.

    Attributes
    ----------
    score : float
        Mean cosine over windows.
    windows : array of shape (n_windows,)
    null : array of shape (n_rolls,)
    """

    score: float
    windows: Floats
    null: Floats

    @property
    def p(self) -> float:
        """One-sided p = (1 + k) / (1 + n)."""
        return float(permutation_p(self.score, self.null))


def window_text(words: Words, windows: Floats) -> list[str]:
    """Return the text of each window: the words whose middle lies in it.

    Parameters
    ----------
    words : Words
    windows : array of shape (n_windows, 2)
        Onset and end in seconds, as `decoders.stimuli.text.windows` makes them.
    """
    return ["".join(words_within(words, *window).text).strip() for window in windows]


def window_vectors(words: Words, features: TextFeatures, windows: Floats) -> Floats:
    """Return the mean features of the words in each window, shape (n_windows, n_features); zero without words."""
    inside = [words_within(words, *window).word for window in windows]
    size = features.vectors(["x"]).shape[1]
    return np.stack([features.vectors(part).mean(0) if part else np.zeros(size) for part in inside])


def window_courses(
    words: Words, features: TextFeatures, windows: Floats, step: float, blur: float = BLUR_S
) -> NDArray[np.float64]:
    """Return the course of the features within each window, blurred in time, flat.

    Parameters
    ----------
    words : Words
    features : TextFeatures
    windows : array of shape (n_windows, 2)
    step : float
        Seconds between samples.
    blur : float
        Standard deviation in seconds of the Gaussian that each word is spread by; words outside of a window do not
        count, so that a window is told by its own words alone.

    Returns
    -------
    array of shape (n_windows, n_samples * n_features)
    """
    courses = []
    # As many samples in every window, also where a window is no multiple of the step.
    n_samples = int(np.ceil((windows[0, 1] - windows[0, 0]) / step - 0.5 - 1e-9))
    for start, stop in windows:
        part = words_within(words, start, stop)
        samples = start + step * (np.arange(n_samples) + 0.5)
        spread = np.exp(-(((samples[:, None] - part.middle[None]) / blur) ** 2) / 2)
        courses.append((spread @ features.vectors(part.word)).ravel())
    return np.stack(courses)


def text_similarity(heard: Sequence[Words], decoded: Sequence[Words], features: TextFeatures, windows: Floats,
                    step: float, blur: float = BLUR_S) -> list[Floats]:  # fmt: skip
    """Correlate the courses of heard and decoded windows of each run, shape (n_windows, n_windows) each.

    Parameters
    ----------
    heard, decoded : sequence of Words
        One per run.
    features : TextFeatures
        Of meaning alone: the word count, which is the rate of speech, would be told from the times of words.
    windows : array of shape (n_windows, 2)
        The same in every run.
    step, blur
        As in `window_courses`.
    """
    sides = ([window_courses(words, features, windows, step, blur) for words in side] for side in (heard, decoded))
    return [window_correlations(*pair).astype(np.float64) for pair in zip(*sides, strict=True)]


def identify(similarities: Sequence[Floats]) -> Identified:
    """Identify each heard window among those of its run: the true one stands on the diagonal.

    Returns
    -------
    Identified
        Percentile (chance .5) and top-1 (chance 1 / windows per run) of every window.
    """
    return Identified.joined([rank_true(similarity) for similarity in similarities])


def window_rolls(lengths: Sequence[int], n_rolls: int, seeds: Sequence[int]) -> Rolls:
    """Draw rolls of the windows of each run: orders of shape (n_windows,), one list of runs per draw.

    Neighbouring windows are about the same, in what is heard and in what is decoded: a null that permuted them would
    be too narrow. A roll keeps that, and keeps a run's windows in their run. Every shift, none too, is as likely.

    Parameters
    ----------
    lengths : sequence of int
        Windows of each run.
    n_rolls : int
    seeds : sequence of int
        One per run, as `story_seeds` returns them.
    """
    return [
        [np.roll(np.arange(length), shift) for length, shift in zip(lengths, shifts, strict=True)]
        for shifts in run_shifts(lengths, n_rolls, seeds).T
    ]


def identification_null(similarities: Sequence[Floats], rolls: Rolls) -> tuple[Floats, Floats]:
    """Return mean percentile and top-1 with the decoded windows of each run rolled, shape (n_rolls,) each."""
    found = [
        identify([similarity[:, order] for similarity, order in zip(similarities, orders, strict=True)])
        for orders in rolls
    ]
    return np.array([f.percentile.mean() for f in found]), np.array([f.correct.mean() for f in found])


def semantic_similarity(
    heard: Sequence[Words],
    decoded: Sequence[Words],
    features: TextFeatures,
    windows: Floats,
    rolls: Rolls,
) -> Similarity:
    """Compare the meaning of decoded and heard windows, against windows that are rolled within their runs.

    Parameters
    ----------
    heard, decoded : sequence of Words
        One per run.
    features : TextFeatures
    windows : array of shape (n_windows, 2)
    rolls : list of list of array
        Orders of the windows within each run, at least 200, as `window_rolls` draws them.

    Raises
    ------
    InputError
        Fewer than 200 rolls, or no words at all.
    """
    if len(rolls) < N_NULLS or not any(len(words) for words in decoded):
        found = f"{len(rolls)} rolls of {sum(map(len, decoded))} words"
        remedy = "Raise the number of rolls, or check the length model."
        raise InputError(f"{N_NULLS} rolls or more of decoded words", found, "free text scores", remedy)
    # What all windows of a run share says nothing about any one of them.
    cosines = [
        unit_length(one - one.mean(0)) @ unit_length(other - other.mean(0)).T
        for one, other in (
            [window_vectors(w, features, windows) for w in pair] for pair in zip(heard, decoded, strict=True)
        )
    ]
    null = [
        np.concatenate([matrix[np.arange(len(matrix)), order] for matrix, order in zip(cosines, orders, strict=True)])
        for orders in rolls
    ]
    own = np.concatenate([np.diagonal(matrix) for matrix in cosines])
    return Similarity(float(own.mean()), own, np.array([scores.mean() for scores in null]))


def words_within(words: Words, start: float, stop: float) -> Words:
    """Return the words whose middle lies in [start, stop), in seconds."""
    return words.select((words.middle >= start) & (words.middle < stop))
