"""Free text from sensors: the beam search of `decoders.decoding.free_text`, with word times that sensors tell by onset.

The answer to a word begins some tens of milliseconds after it, so that beginnings of words can be told one by one: the
course of a ridge decoder of onsets is turned into log-odds on held-out parts, and the likeliest series of onsets under
the intervals between words of the training stories is found by dynamic programming (Viterbi over a renewal process).
Encoding model, noise, search, controls and scores are those of fMRI, at half the rate of the text's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.config import MegDecodingSettings
from decoders.decoding.free_text import Listener, Timing, fit_listener
from decoders.decoding.length import LengthModel, fit_length, word_rate
from decoders.decoding.likelihood import Floats
from decoders.decoding.meg_runs import Stretch, at_onset, fold_parts, resampled
from decoders.decoding.responses import TextFeatures
from decoders.errors import InputError
from decoders.models.ridge import delayed
from decoders.stimuli.timings import Words

REDUCTION = 2  # samples of the text's features per sample of the search
_WHERE = "the onsets of words"
_FLOOR = 1e-3  # of the probability of an interval that no training story holds


@dataclass(frozen=True)
class OnsetModel:
    """Where words begin.

    Attributes
    ----------
    length : LengthModel
        Ridge from delayed sensors to onsets per sample.
    slope, intercept : float
        Log-odds of an onset beyond its base rate are ``intercept + slope * predicted``.
    log_interval : array of shape (n_intervals,)
        Log probability of 1, 2, … samples between two onsets.
    """

    length: LengthModel
    slope: float
    intercept: float
    log_interval: Floats

    def evidence(self, run: NDArray[np.floating]) -> Floats:
        """Return the log-odds of an onset in each sample of a run (n_samples, n_sensors), beyond the base rate."""
        return self.intercept + self.slope * _predicted(self.length, run)


@dataclass(frozen=True)
class SensorListener(Listener):
    """A listener in the MEG or EEG.

    Attributes
    ----------
    onsets : OnsetModel
        Of the same sensors.
    """

    onsets: OnsetModel

    def word_times(self, run: NDArray[np.floating]) -> Floats:
        """Return the onsets of the words of a run (n_samples, n_sensors), in seconds, from the recording alone."""
        found = likeliest_onsets(self.onsets.evidence(run[:, self.voxels]), self.onsets.log_interval)
        return np.asarray(self.timing.tr * (found + 0.5), dtype=np.float64)


def search_input(run: Stretch) -> NDArray[np.float32]:
    """Return the sensors at the rate of the search, shape (n_samples, n_sensors)."""
    slow = run.slow[: len(run.slow) // REDUCTION * REDUCTION]
    return resampled(slow, run.hz, run.hz / REDUCTION, run.label)[: len(slow) // REDUCTION].astype(np.float32)


def fit_sensor_listener(
    train: Sequence[Stretch], sensors: NDArray[np.int64], features: TextFeatures, settings: MegDecodingSettings
) -> SensorListener:
    """Fit encoding model, noise and onsets of words on training runs.

    Parameters
    ----------
    train : sequence of Stretch
    sensors : array of int
        Chosen on these runs alone.
    features : TextFeatures
    settings : MegDecodingSettings
    """
    parts = fold_parts(train, settings)
    x, heard = [search_input(part) for part in parts], [at_onset(part.words) for part in parts]
    n_lags = round(settings.response_s * settings.text_hz / REDUCTION) + 1
    timing = Timing(REDUCTION / settings.text_hz, tuple(range(n_lags)), hrf=False, lags=tuple(range(n_lags)))
    base = fit_listener(x, heard, sensors, features, timing, settings.folds)
    onsets = fit_onsets([run[:, sensors] for run in x], heard, timing, settings.folds)
    return SensorListener(**vars(base), onsets=onsets)


def fit_onsets(x: Sequence[NDArray[np.floating]], heard: Sequence[Words], timing: Timing, n_folds: int) -> OnsetModel:
    """Fit a decoder of onsets, its log-odds on parts that it has not seen, and the intervals between words.

    Parameters
    ----------
    x : sequence of array of shape (n_samples, n_sensors)
    heard : sequence of Words
        In seconds of each part.
    timing : Timing
    n_folds : int

    Raises
    ------
    InputError
        Training parts with fewer than three words.
    """
    from sklearn.linear_model import LogisticRegression

    rates = [word_rate(words.onset, timing.volumes(len(run)), timing.tr) for words, run in zip(heard, x, strict=True)]
    fold = np.arange(len(x)) % n_folds
    predicted: list[Floats] = [np.zeros(0)] * len(x)
    for k in np.unique(fold):
        seen = np.flatnonzero(fold != k).tolist()
        model = fit_length([x[i] for i in seen], [rates[i] for i in seen], timing.lags, n_folds)
        for i in np.flatnonzero(fold == k).tolist():
            predicted[i] = _predicted(model, x[i])
    begins = np.concatenate(rates) > 0
    if begins.sum() < 3 or begins.all():
        remedy = "Check the times of the words and the rate text_hz."
        raise InputError("three words or more, and time between them", f"{begins.sum()} words", _WHERE, remedy)
    told = LogisticRegression(C=1e6).fit(np.concatenate(predicted)[:, None], begins)
    base = float(np.log(begins.mean() / (1 - begins.mean())))
    gaps = np.concatenate([np.diff(np.floor(words.onset / timing.tr + 1e-9)) for words in heard])
    whole = fit_length(x, rates, timing.lags, n_folds)
    return OnsetModel(
        whole, max(0.0, float(told.coef_[0, 0])), float(told.intercept_[0]) - base, log_intervals(gaps, timing.tr)
    )


def log_intervals(gaps: NDArray[np.floating], tr: float) -> Floats:
    """Return the log probability of 1, 2, … samples between onsets, smoothed over a sample and never zero.

    Parameters
    ----------
    gaps : array of shape (n_gaps,)
        Samples between the onsets of neighbouring words; below one they are left out.
    tr : float
        Seconds per sample: intervals are tabled up to the longest one and at least 2 s.
    """
    from scipy.ndimage import gaussian_filter1d

    kept = gaps[gaps >= 1].astype(int)
    most = max(int(kept.max(initial=1)), round(2.0 / tr))
    counts = np.bincount(kept - 1, minlength=most).astype(np.float64)
    smooth = gaussian_filter1d(counts, 1.0, mode="nearest")
    smooth = smooth / max(smooth.sum(), 1e-12) + _FLOOR / most
    found: Floats = np.log(smooth / smooth.sum())
    return found


def likeliest_onsets(evidence: Floats, log_interval: Floats) -> NDArray[np.int64]:
    """Return the series of onsets of the highest posterior probability.

    Parameters
    ----------
    evidence : array of shape (n_samples,)
        Log-odds of an onset in each sample, beyond the base rate.
    log_interval : array of shape (n_intervals,)
        Log probability of 1, 2, … samples from one onset to the next. The first onset and the end of the run lie
        anywhere within the longest interval.

    Returns
    -------
    array of int
        Samples, ascending; at least one.
    """
    n, most = len(evidence), len(log_interval)
    best, before = np.empty(n), np.full(n, -1, dtype=np.int64)
    for t in range(n):
        first = max(0, t - most)
        # From the nearest onset before to the farthest.
        score = best[first:t][::-1] + log_interval[: t - first]
        start = -np.log(most) if t < most else -np.inf
        choice = int(score.argmax()) if len(score) else -1
        if choice >= 0 and score[choice] > start:
            best[t], before[t] = evidence[t] + score[choice], t - 1 - choice
        else:
            best[t] = evidence[t] + start
    tail = np.log(np.maximum(np.cumsum(np.exp(log_interval[::-1]))[::-1], 1e-300))
    # Beyond the last onset no other one came: the interval is at least as long as what is left.
    ends = np.arange(max(0, n - most), n)
    last = int(ends[np.argmax(best[ends] + tail[n - 1 - ends])])
    found = [last]
    while before[found[-1]] >= 0:
        found.append(int(before[found[-1]]))
    return np.array(found[::-1], dtype=np.int64)


def _predicted(length: LengthModel, run: NDArray[np.floating]) -> Floats:
    """Return the onsets per sample that a ridge reads, shape (n_samples,); it may be below zero."""
    answers = delayed(np.asarray(run, dtype=np.float64), [-lag for lag in length.lags])
    return np.asarray(length.ridge.predict(answers)[:, 0], dtype=np.float64)
