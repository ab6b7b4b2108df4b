"""Scores of freely decoded text, of the model and of its controls, and the texts themselves, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.free_controls import WORD_RATE, Told
from decoders.decoding.free_scores import (
    Rolls,
    identification_null,
    identify,
    semantic_similarity,
    text_similarity,
    window_text,
)
from decoders.decoding.likelihood import Floats
from decoders.decoding.refit import Score, over_windows, window_row
from decoders.decoding.responses import TextFeatures
from decoders.decoding.symbols import is_ideograph
from decoders.decoding.text_scores import error_rate, ngram_scores
from decoders.errors import InputError
from decoders.stimuli.text import windows
from decoders.stimuli.timings import Words

TASK = "free_text"
METHOD = "one-sided; {n} rolls of the decoded windows within their runs"
_UNTESTED = np.array([np.nan])


@dataclass(frozen=True)
class Compared:
    """What decoded texts are compared with, and how.

    Attributes
    ----------
    heard : list of Words
        One per test run, in seconds of the run.
    meaning : TextFeatures
        Of words, without their count.
    windows : array of shape (n_windows, 2)
        Onset and end in seconds, the same in every run.
    step, blur : float
        Seconds, as in `window_courses`.
    rolls : list of list of array
        Orders of the windows of each run for the null, as `window_rolls` draws them.
    """

    heard: list[Words]
    meaning: TextFeatures
    windows: Floats
    step: float
    blur: float
    rolls: Rolls


class WordCount:
    """Every word is one: what the times of words tell without the words."""

    def vectors(self, words: Sequence[str]) -> Floats:
        """Return ones, shape (n_words, 1)."""
        return np.ones((len(words), 1))


def score_rows(
    told: Sequence[Told], compared: Compared, subject: str, seed: int, rng: np.random.Generator, task: str = TASK
) -> list[dict[str, Any]]:
    """Return the rows of the decoding table.

    Parameters
    ----------
    told : sequence of Told
        Models and their controls.
    compared : Compared
    subject : str
    seed : int
    rng : Generator
        Of intervals.
    task : str
        Of the rows.

    Returns
    -------
    list of dict
        ``percentile`` and ``top1`` of windows identified from the text, ``similarity`` of meaning (mean cosine), each
        tested for models; error rates and n-gram scores, which are not: common words match whatever was heard. The
        control ``word_rate`` of a model is its own text with every word taken for the same.
    """
    about = {"subject": subject, "seed": seed, "task": task}
    method = METHOD.format(n=len(compared.rolls))
    rows = []
    for one in told:
        scores = _identified(one.texts, compared, compared.meaning, rng) | _similar(one.texts, compared, rng)
        how = method + (f"; {one.note}" if one.note else "")
        found = [window_row(about, one.model, metric, score, how) for metric, score in scores.items()]
        found += [window_row(about, one.model, metric, score, "") for metric, score in _written(one.texts, compared)]
        rows += [{**row, "control_of": one.control_of} for row in found]
        if not one.model.startswith("control:"):
            rate = _identified(one.texts, compared, WordCount(), rng)
            found = [window_row(about, WORD_RATE, metric, score, method) for metric, score in rate.items()]
            rows += [{**row, "control_of": one.model} for row in found]
    return rows


def _identified(
    texts: Sequence[Words], compared: Compared, features: TextFeatures, rng: np.random.Generator
) -> dict[str, Score]:
    found = text_similarity(compared.heard, texts, features, compared.windows, compared.step, compared.blur)
    windows = identify(found)
    percentile, top1 = identification_null(found, compared.rolls)
    return {
        "percentile": over_windows(windows.percentile, percentile, rng),
        "top1": over_windows(windows.correct, top1, rng),
    }


def _similar(texts: Sequence[Words], compared: Compared, rng: np.random.Generator) -> dict[str, Score]:
    found = semantic_similarity(compared.heard, texts, compared.meaning, compared.windows, compared.rolls)
    return {"similarity": over_windows(found.windows, found.null, rng)}


def _written(texts: Sequence[Words], compared: Compared) -> list[tuple[str, Score]]:
    """Return scores of the written windows, over all of them; they have no null and no interval."""
    sides = [
        [text for words in side for text in window_text(words, compared.windows)] for side in (compared.heard, texts)
    ]
    heard, written = sides
    values = {"cer": error_rate(heard, written, "character").score, **ngram_scores(heard, written)}
    if not any(map(is_ideograph, "".join(heard))):
        # Without spaces a window would count as one word; characters are the words of such a text.
        values["wer"] = error_rate(heard, written, "word").score
    return [(metric, Score(value, np.nan, np.nan, len(heard), _UNTESTED)) for metric, value in values.items()]


def text_rows(told: Sequence[Told], compared: Compared, subject: str, runs: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for every window of every run and model."""
    rows = []
    for one in told:
        for run, truth, text in zip(runs, compared.heard, one.texts, strict=True):
            sides = (window_text(words, compared.windows) for words in (truth, text))
            rows += [
                {
                    "subject": subject, "run": run, "split": "test_runs", "mode": "free", "onset": onset,
                    "duration": stop - onset, "reference": reference, "decoded": written, "model": one.model,
                    "control_of": one.control_of,
                }
                for (onset, stop), reference, written in zip(compared.windows, *sides, strict=True)
            ]  # fmt: skip
    return rows


def shared_windows(
    lengths: Sequence[int], tr: float, seconds: float, where: str = "decoding.free_text.window_s"
) -> NDArray[np.float64]:
    """Return the windows without overlap that fit into every run.

    Raises
    ------
    InputError
        Fewer than two: nothing could be identified.
    """
    found = windows(0.0, min(lengths) * tr, seconds)
    if len(found) < 2:
        remedy = "Take shorter windows, or leave the short run out."
        expected = f"two windows of {seconds:g} s or more in every held-out run"
        raise InputError(expected, f"{len(found)} in the shortest, of {min(lengths) * tr:g} s", where, remedy)
    return found
