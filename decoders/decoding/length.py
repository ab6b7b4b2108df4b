"""When words are heard, told from the recording alone: the length of a decoded text never comes from its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.likelihood import Floats
from decoders.decoding.maps import run_folds
from decoders.errors import InputError
from decoders.models.ridge import Ridge, delayed, fit_ridge
from decoders.stimuli.hrf import sum_events

ALPHAS = (1e2, 1e3, 1e4, 1e5, 1e6, 1e7)
_WHERE = "the length model"
Runs = Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class LengthModel:
    """Ridge from delayed volumes to words per volume.

    Attributes
    ----------
    ridge : Ridge
    lags : tuple of int
        Volumes after the speech that answer to it.
    """

    ridge: Ridge
    lags: tuple[int, ...]

    def rate(self, run: NDArray[np.floating]) -> Floats:
        """Return the words in each volume of a run, shape (n_volumes,), none negative.

        Where the answer lies beyond the end of the run, the rate is that of a brain at its mean.
        """
        _check_length([run], self.lags)
        answers = delayed(np.asarray(run, dtype=np.float64), [-lag for lag in self.lags])
        return np.maximum(self.ridge.predict(answers)[:, 0], 0.0)


def fit_length(x: Runs, rates: Runs, lags: Sequence[int], n_folds: int = 5) -> LengthModel:
    """Fit the rate of words on training runs.

    Parameters
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        z-scored per run; the chosen voxels.
    rates : sequence of array of shape (n_volumes,)
        Words per volume (`word_rate`); characters per volume do as well.
    lags : sequence of int
        In volumes.
    n_folds : int
        Inner folds over runs for the penalty.

    Raises
    ------
    InputError
        A run that is not longer than the lags, or rates of another length.
    """
    _check_length(x, lags)
    for run, rate in zip(x, rates, strict=True):
        if rate.shape != (len(run),):
            remedy = "Count the words per volume of this run."
            raise InputError(f"a rate for each of {len(run)} volumes", f"shape {rate.shape}", _WHERE, remedy)
    kept = [len(run) - max(lags) for run in x]
    answers = [delayed(np.asarray(run, dtype=np.float64), [-lag for lag in lags]) for run in x]
    X = np.concatenate([run[:n] for run, n in zip(answers, kept, strict=True)])
    Y = np.concatenate([rate[:n] for rate, n in zip(rates, kept, strict=True)])[:, None].astype(np.float64)
    return LengthModel(fit_ridge(X, Y, ALPHAS, run_folds(kept, np.arange(len(x)) % n_folds)), tuple(lags))


def word_rate(seconds: Floats, times: Floats, tr: float) -> Floats:
    """Return the words whose middle falls in each volume, shape (n_volumes,)."""
    return sum_events(seconds, np.ones((len(seconds), 1)), times, tr)[:, 0]


def word_times(rate: Floats, times: Floats, tr: float) -> Floats:
    """Return the middle of each word, in seconds: where the cumulative rate crosses halves of odd numbers.

    The rate is constant within a volume. Between two integers lies one word, so its middle is where the count is
    half way between them.

    Parameters
    ----------
    rate : array of shape (n_volumes,)
        Words per volume, not negative.
    times : array of shape (n_volumes,)
        Starts of the volumes, spaced by `tr`.
    tr : float
        Seconds.

    Returns
    -------
    array of shape (n_words,)
        Ascending; n_words is the total rate, rounded.

    Raises
    ------
    InputError
        Rates that are negative or not finite.
    """
    if not np.isfinite(rate).all() or (rate < 0).any():
        remedy = "Check the recording for volumes without signal."
        raise InputError("rates from 0", f"{rate.min():g} at the least", _WHERE, remedy)
    total = np.concatenate([[0.0], np.cumsum(rate)])
    levels = np.arange(0.5, total[-1], 1.0)
    volume = np.searchsorted(total, levels, side="right") - 1
    return np.asarray(times[volume] + tr * (levels - total[volume]) / rate[volume], dtype=np.float64)


def word_spans(middles: Floats, start: float, stop: float) -> tuple[Floats, Floats]:
    """Return onsets and durations of words that fill the time between their neighbours' middles.

    Parameters
    ----------
    middles : array of shape (n_words,)
    start, stop : float
        Of the run, in seconds.
    """
    between = (middles[1:] + middles[:-1]) / 2
    edges = np.concatenate([[start], between, [stop]])
    return edges[:-1], np.diff(edges)


def _check_length(x: Runs, lags: Sequence[int]) -> None:
    shortest = min((len(run) for run in x), default=0)
    if not lags or min(lags) < 0 or shortest <= max(lags):
        found = f"{shortest} volumes and the lags {tuple(lags)}"
        raise InputError("runs that are longer than the lags", found, _WHERE, "Leave short runs out.")
