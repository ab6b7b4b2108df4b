"""Bits per character of the text that was heard: what a recording tells beyond the words before.

Word by word, with the words before it given, Bayes' rule over the candidates V of a language model:

    P(w | words before, recording) = P(V | words before) x P(w | words before) p(recording | words before, w)^b / Z

where Z sums the same over the words of V. Words outside of V keep what the language model gives them, so it is a
distribution over all words, and with the weight b = 0 it is the language model. The likelihood of the recording has
the words to come integrated out (`BrainScores.form`). Words stand where the decoded rate of words puts them; of the
text that was heard, the words so far and the number of words in the run are given, and no times.

The null moves the text along the words' places within the run: what is known of the rate of speech stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from decoders.decoding.free_text import Listener, Runs, brain_scores
from decoders.decoding.length import word_times
from decoders.decoding.lexicon import Units
from decoders.decoding.likelihood import Floats
from decoders.decoding.next_words import NextWords
from decoders.decoding.responses import BrainScores, TextFeatures
from decoders.errors import InputError
from decoders.stimuli.timings import Words

N_SHIFTS = 100
N_CALIBRATION = 3
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Heard:
    """The words of a run with what the language model expects at each of them.

    Attributes
    ----------
    words : tuple of str
    expected : NextWords
    """

    words: tuple[str, ...]
    expected: NextWords


def word_nats(
    scores: BrainScores,
    heard: Heard,
    units: Units,
    features: TextFeatures,
    orders: NDArray[np.int64],
    weights: Sequence[float],
) -> Floats:
    """Return the surprise of every word given the words before it and the recording, in nats.

    Parameters
    ----------
    scores : BrainScores
        Of the recording, with a place for each word.
    heard : Heard
    units : Units
        The lexicon that the candidates are of.
    features : TextFeatures
    orders : array of shape (n_orders, n_words), int64
        Which word stands at each place: ``arange(n_words)`` for the text as it was heard, rolled for a null. The
        language model reads the text as it was heard in any case.
    weights : sequence of float
        Of the recording; 0 is the language model alone.

    Returns
    -------
    array of shape (n_weights, n_orders, n_words)
        By the number of the word in the text.
    """
    lexicon = torch.from_numpy(features.vectors(units.words))
    own = torch.from_numpy(features.vectors(heard.words))
    candidates = torch.from_numpy(heard.expected.candidates)
    nats, row = np.empty((len(weights), *orders.shape)), np.arange(len(orders))
    state = scores.start().expand(len(orders), -1, -1)
    for place in range(orders.shape[1]):
        word = orders[:, place]
        form = scores.form(state, place)
        change = lexicon - form.mean
        penalty = ((change @ form.quadratic) * change).sum(1) / 2
        rows = candidates[torch.from_numpy(word)]  # (n_orders, n_candidates)
        gain = (torch.einsum("of,ocf->oc", form.linear, change[rows]) - penalty[rows]).numpy()
        for number, weight in enumerate(weights):
            nats[number, row, word] = posterior_nats(heard.expected, word, weight * gain)
        state = scores.advance(state, place, own[torch.from_numpy(word)])
    return nats


def posterior_nats(expected: NextWords, word: NDArray[np.int64], gain: Floats) -> Floats:
    """Return the surprise of words given the gain of each of their candidates, shape (n,).

    Parameters
    ----------
    expected : NextWords
    word : array of shape (n,), int64
    gain : array of shape (n, n_candidates)
        Log-likelihood that each candidate adds, up to a constant per row.
    """
    place = expected.place[word]
    inside = place >= 0
    log_p = log_posterior(expected.candidate_log_p[word], gain)
    return -np.where(inside, log_p[np.arange(len(word)), np.maximum(place, 0)], expected.log_p[word])


def log_posterior(log_p: Floats, gain: Floats) -> Floats:
    """Return log P of candidates after the recording; their total stays as the language model has it.

    Parameters
    ----------
    log_p, gain : array of shape (n, n_candidates)
    """
    joint = log_p + gain
    posterior: Floats = joint + _log_total(log_p) - _log_total(joint)
    return posterior


def _log_total(log_p: Floats) -> Floats:
    most = log_p.max(1, keepdims=True)
    total: Floats = most + np.log(np.exp(log_p - most).sum(1, keepdims=True))
    return total


def text_shifts(n_words: int, most: int = N_SHIFTS) -> NDArray[np.int64]:
    """Return which word stands at each place: first as it was heard, then moved round.

    Parameters
    ----------
    n_words : int
    most : int
        Shifts, evenly spread over the whole round; fewer where the run has fewer.

    Returns
    -------
    array of shape (1 + n_shifts, n_words)
    """
    n_orders = min(most + 1, n_words)
    shifts = np.round(np.arange(n_orders) * n_words / n_orders).astype(int)
    return np.stack([np.roll(np.arange(n_words), shift) for shift in shifts])


def place_scores(listener: Listener, run: NDArray[np.floating], n_words: int) -> BrainScores:
    """Return the brain scores of a run for a text of a known number of words, at the decoded rate.

    Raises
    ------
    InputError
        A decoded rate of zero.
    """
    rate = listener.length.rate(run[:, listener.voxels])
    if not rate.sum() > 0:
        remedy = "Check the run for volumes without signal."
        raise InputError("a rate of words above zero", f"{rate.sum():g} words", "bits per character", remedy)
    times = word_times(rate * (n_words / rate.sum()), listener.timing.volumes(len(run)), listener.timing.tr)
    return brain_scores(listener, run, times[:n_words])


def run_nats(
    listener: Listener, run: NDArray[np.floating], heard: Heard, units: Units, orders: NDArray[np.int64],
    weights: Sequence[float],
) -> Floats:  # fmt: skip
    """Return the surprise of the words of a run, shape (n_weights, n_orders, n_words); see `word_nats`."""
    scores = place_scores(listener, run, len(heard.words))
    return word_nats(scores, heard, units, listener.features, orders, weights)


def held_out_weight(
    listener: Listener,
    x: Runs,
    heard: Sequence[Words],
    expected: Mapping[int, NextWords],
    units: Units,
    n_folds: int,
    weights: Sequence[float] = WEIGHTS,
) -> float:
    """Return the weight of the recording under which training runs that are held out are told best.

    A likelihood that takes words to stand exactly where the decoded rate puts them is too sure of itself. The weight
    is chosen once, on training runs alone, before a test run is looked at.

    Parameters
    ----------
    listener : Listener
    x, heard : sequence
        All training runs, and what was heard in them.
    expected : mapping of int to NextWords
        Of the runs that are held out, by their place in `x`.
    units : Units
    n_folds : int
        As for `fit_listener`.
    weights : sequence of float
        Candidates.

    Returns
    -------
    float
        The smallest of those that need the fewest bits.
    """
    blind = listener.without(x, heard, list(expected), n_folds)
    total = np.zeros(len(weights))
    for number, given in expected.items():
        known = Heard(heard[number].word, given)
        order = np.arange(len(known.words))[None]
        total += run_nats(blind, x[number], known, units, order, weights).sum((1, 2))
    return float(weights[int(total.argmin())])


def calibration_runs(n_runs: int, most: int = N_CALIBRATION) -> list[int]:
    """Return training runs that are held out to find the weight: evenly spread, two at least stay."""
    return np.unique(np.linspace(0, n_runs - 1, min(most, n_runs - 2)).round().astype(int)).tolist()
