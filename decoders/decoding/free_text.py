"""Free text from the runs of one listener: encoding model, word times and search put together, and what it is worth.

The length of the text and the times of its words come from the recording (`decoders.decoding.length`), never from
the reference. Controls are made by the caller: a run that is permuted, rolled or made of noise is decoded like any
other, and a brain weight of 0 is the language model alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.beam import Hypothesis, SearchOptions, search
from decoders.decoding.language import Language
from decoders.decoding.length import LengthModel, fit_length, word_rate, word_spans, word_times
from decoders.decoding.lexicon import Units
from decoders.decoding.likelihood import (
    Covariance,
    Floats,
    autocorrelation,
    innovations,
    residual_covariance,
    whiten,
)
from decoders.decoding.maps import run_folds
from decoders.decoding.responses import BrainScores, Expected, TextFeatures, expected_word, response_kernel
from decoders.decoding.symbols import spelled
from decoders.errors import InputError
from decoders.models.ridge import Ridge, fit_ridge
from decoders.stimuli.timings import Words

ALPHAS = (1.0, 10.0, 100.0, 1e3, 1e4)
Runs = Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class Timing:
    """How words reach volumes.

    Attributes
    ----------
    tr : float
        Seconds.
    delays : tuple of int
        In volumes; (0,) with the haemodynamic response, several without it.
    hrf : bool
    lags : tuple of int
        Volumes after the speech from which the rate of words is read.
    """

    tr: float
    delays: tuple[int, ...] = (0,)
    hrf: bool = True
    lags: tuple[int, ...] = (1, 2, 3, 4)

    def volumes(self, n: int) -> Floats:
        """Return the starts of the volumes of a run, in seconds."""
        return self.tr * np.arange(n, dtype=np.float64)


@dataclass(frozen=True)
class Listener:
    """What is known of a listener before a run is decoded.

    Attributes
    ----------
    voxels : array of int
        Those that are read.
    ridge : Ridge
        From text features to the voxels.
    noise : Covariance
        Of the innovations of held-out residuals.
    phi : float
        Correlation of neighbouring volumes of the residuals.
    length : LengthModel
    features : TextFeatures
    expected : Expected
        A word of which nothing is known.
    timing : Timing
    """

    voxels: NDArray[np.int64]
    ridge: Ridge
    noise: Covariance
    phi: float
    length: LengthModel
    features: TextFeatures
    expected: Expected
    timing: Timing

    def word_times(self, run: NDArray[np.floating]) -> Floats:
        """Return the middles of the words of a run (n_volumes, n_voxels), in seconds, from the recording alone."""
        times = self.timing.volumes(len(run))
        return word_times(self.length.rate(run[:, self.voxels]), times, self.timing.tr)

    def without(self, x: Runs, heard: Sequence[Words], held: Sequence[int], n_folds: int) -> Listener:
        """Return a listener whose encoding and rate have not seen some of the training runs.

        The noise stays: it was measured on runs that their encoding model had not seen.

        Parameters
        ----------
        x, heard : sequence
            All training runs, as for `fit_listener`.
        held : sequence of int
            Those that are left out; two at least must stay.
        n_folds : int
        """
        seen = [run for run in range(len(x)) if run not in set(held)]
        runs, words = [x[run] for run in seen], [heard[run] for run in seen]
        X, Y = _design(runs, words, self.voxels, self.features, self.timing)
        length = _fit_rate(Y, words, self.timing, n_folds)
        return replace(self, ridge=_fit(X, Y, n_folds), length=length)


@dataclass(frozen=True)
class Decoded:
    """The decoded text of a run.

    Attributes
    ----------
    words : Words
        With onsets and durations in seconds of the run; the text holds the boundaries.
    best : Hypothesis
        The text with its scores.
    """

    words: Words
    best: Hypothesis


def fit_listener(
    x: Runs, heard: Sequence[Words], voxels: NDArray[np.int64], features: TextFeatures, timing: Timing, n_folds: int = 5
) -> Listener:
    """Fit encoding model, noise and rate of words on training runs.

    Parameters
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        z-scored per run.
    heard : sequence of Words
        In seconds of the run.
    voxels : array of int
        Chosen on these runs alone.
    features : TextFeatures
    timing : Timing
    n_folds : int
        Folds over runs, for penalties and held-out residuals.
    """
    X, Y = _design(x, heard, voxels, features, timing)
    residuals = _held_out_residuals(X, Y, n_folds)
    phi = autocorrelation(residuals)
    noise = residual_covariance([innovations(run, phi) for run in residuals])
    length = _fit_rate(Y, heard, timing, n_folds)
    expected = expected_word(features, [word for words in heard for word in words.word])
    return Listener(voxels, _fit(X, Y, n_folds), noise, phi, length, features, expected, timing)


def text_features(words: Words, features: TextFeatures, n_volumes: int, timing: Timing) -> Floats:
    """Return the features of a text at the volumes of a run, shape (n_volumes, n_delays * n_features)."""
    kernel = response_kernel(words.middle, timing.volumes(n_volumes), timing.tr, timing.delays, timing.hrf)
    return np.einsum("dtw,wf->tdf", kernel, features.vectors(words.word)).reshape(n_volumes, -1)


def brain_scores(listener: Listener, run: NDArray[np.floating], seconds: Floats) -> BrainScores:
    """Return what words at the given times (their middles) add to the likelihood of a run.

    Parameters
    ----------
    listener : Listener
    run : array of shape (n_volumes, n_voxels)
        All voxels, z-scored.
    seconds : array of shape (n_words,)
        Ascending.
    """
    timing, ridge = listener.timing, listener.ridge
    kernel = response_kernel(seconds, timing.volumes(len(run)), timing.tr, timing.delays, timing.hrf)
    weights = (ridge.weights / ridge.scale[:, None]).astype(np.float64)
    rows = np.asarray(run[:, listener.voxels], dtype=np.float64)
    # Runs have no mean, so what is predicted for expected words must have none either.
    typical = np.einsum("dtw,f->tdf", kernel, listener.expected.mean).reshape(len(run), -1) @ weights
    rows = rows - rows.mean(0) + typical.mean(0)
    white = whiten(innovations(rows, listener.phi), weights, np.zeros(rows.shape[1]), listener.noise.matrix)
    return BrainScores(white, np.stack([innovations(part, listener.phi) for part in kernel]), listener.expected)


def decode_run(
    listener: Listener,
    run: NDArray[np.floating],
    language: Language,
    units: Units,
    options: SearchOptions,
    seconds: Floats | None = None,
) -> Decoded:
    """Decode the text of one run.

    Parameters
    ----------
    listener : Listener
    run : array of shape (n_volumes, n_voxels)
        z-scored; of a run that nothing was fitted on.
    language : Language
    units : Units
        What a word may be: `decoders.decoding.lexicon`.
    options : SearchOptions
    seconds : array of shape (n_words,), optional
        Middles of the words, for controls at the same length; from the run when absent.
    """
    seconds = listener.word_times(run) if seconds is None else seconds
    brain = brain_scores(listener, run, seconds) if options.brain_weight else None
    found = search(language.model, language.alphabet, units, len(seconds), options, brain, listener.features)
    onset, duration = word_spans(seconds, 0.0, len(run) * listener.timing.tr)
    best = found[0]
    return Decoded(Words(onset, duration, best.words, tuple(spelled(word) for word in best.words)), best)


def _design(
    x: Runs, heard: Sequence[Words], voxels: NDArray[np.int64], features: TextFeatures, timing: Timing
) -> tuple[list[Floats], list[Floats]]:
    """Return text features and voxels of each run, without their means."""
    X = [_centred(text_features(words, features, len(run), timing)) for words, run in zip(heard, x, strict=True)]
    return X, [_centred(np.asarray(run[:, voxels], dtype=np.float64)) for run in x]


def _fit_rate(Y: Runs, heard: Sequence[Words], timing: Timing, n_folds: int) -> LengthModel:
    rates = [word_rate(words.middle, timing.volumes(len(run)), timing.tr) for words, run in zip(heard, Y, strict=True)]
    return fit_length(Y, rates, timing.lags, n_folds)


def _fit(X: Runs, Y: Runs, n_folds: int) -> Ridge:
    folds = run_folds([len(run) for run in X], np.arange(len(X)) % n_folds)
    return fit_ridge(np.concatenate(X), np.concatenate(Y), ALPHAS, folds)


def _held_out_residuals(X: Runs, Y: Runs, n_folds: int) -> list[Floats]:
    """Return measured minus predicted of each run, by models that have not seen it."""
    if len(X) < 3:
        remedy = "Give more runs: noise is measured on runs that the encoding model has not seen."
        raise InputError("three training runs or more", f"{len(X)}", "free text decoding", remedy)
    fold, residuals = np.arange(len(X)) % min(n_folds, len(X)), [np.empty(0)] * len(X)
    for k in np.unique(fold):
        seen = np.flatnonzero(fold != k).tolist()
        model = _fit([X[i] for i in seen], [Y[i] for i in seen], n_folds)
        for i in np.flatnonzero(fold == k).tolist():
            residuals[i] = np.asarray(Y[i] - model.predict(X[i]), dtype=np.float64)
    return residuals


def _centred(run: Floats) -> Floats:
    centred: Floats = run - run.mean(0)
    return centred
