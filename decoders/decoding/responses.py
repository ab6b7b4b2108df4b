"""What words do to recorded volumes: where each word's response falls, and how much a word would explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.decoding.likelihood import Floats, Whitened
from decoders.errors import InputError
from decoders.stimuli.embedding import Embedding
from decoders.stimuli.hrf import GRID_HZ, HRF_LENGTH_S, double_gamma

_WHERE = "the responses to words"


class TextFeatures(Protocol):
    """Features of words, of any origin; an unknown word gets zeros or what its characters say."""

    def vectors(self, words: Sequence[str]) -> Floats:
        """Return one row per word, shape (n_words, n_features)."""


@dataclass(frozen=True)
class WordVectors:
    """Word count and word vectors, the features of the phantom.

    Attributes
    ----------
    embedding : Embedding
    fallback : Embedding, optional
        For words that `embedding` lacks, e.g. vectors from spelling; zeros when absent. Of as many dimensions.
    """

    embedding: Embedding
    fallback: Embedding | None = None

    def vectors(self, words: Sequence[str]) -> Floats:
        """Return 1 and the word vector of each word, shape (n_words, 1 + n_dimensions)."""
        found = self.embedding.lookup(words)
        if self.fallback is not None:
            unknown = ~np.isin(np.asarray(words, dtype=object), np.asarray(self.embedding.words, dtype=object))
            found[unknown] = self.fallback.lookup([word for word, new in zip(words, unknown, strict=True) if new])
        return np.column_stack([np.ones(len(words)), found])


def response_kernel(
    seconds: Floats, times: Floats, tr: float, delays: Sequence[int] = (0,), hrf: bool = True
) -> Floats:
    """Return what one unit of a feature at each word's time adds to each volume, per delay.

    ``einsum('dtw,wf->tdf', kernel, vectors)`` is ``delayed(convolve_events(seconds, vectors, times), delays)``, and
    with ``hrf=False`` the same of ``sum_events``.

    Parameters
    ----------
    seconds : array of shape (n_words,)
        Middle of each word.
    times : array of shape (n_volumes,)
        Starts of the volumes in seconds, spaced by `tr`.
    tr : float
    delays : sequence of int
        In volumes, not negative.
    hrf : bool
        Double gamma on a 10-Hz grid, else a pulse in the word's volume.

    Returns
    -------
    array of shape (n_delays, n_volumes, n_words)

    Raises
    ------
    InputError
        Negative delays, or a run that is not longer than its delays.
    """
    if not delays or min(delays) < 0 or len(times) <= max(delays):
        found = f"delays {tuple(delays)} in a run of {len(times)} volumes"
        remedy = "Correct the delays, or leave the run out."
        raise InputError("delays from 0 to less than the run's volumes", found, _WHERE, remedy)
    one = _haemodynamic(seconds, times) if hrf else _pulse(seconds, times, tr)
    kernel = np.zeros((len(delays), *one.shape))
    for row, delay in zip(kernel, delays, strict=True):
        row[delay:] = one[: len(one) - delay]
    return kernel


def _haemodynamic(seconds: Floats, times: Floats) -> Floats:
    response, origin = double_gamma(), times[0] - HRF_LENGTH_S
    bins = np.floor((seconds - origin) * GRID_HZ + 1e-6).astype(int)
    lags = np.rint((times - origin) * GRID_HZ).astype(int)[:, None] - bins[None, :]
    inside = (lags >= 0) & (lags < len(response)) & (bins >= 0)[None, :]
    return np.where(inside, response[np.clip(lags, 0, len(response) - 1)], 0.0)


def _pulse(seconds: Floats, times: Floats, tr: float) -> Floats:
    volume = np.floor((seconds - times[0]) / tr + 1e-9).astype(int)
    return (volume[None, :] == np.arange(len(times))[:, None]).astype(np.float64)


class BrainScores:
    """The log-likelihood that each further word adds to a hypothesis; only the volumes it reaches are touched.

    Words that are not known yet count as the expected word, so a hypothesis is always scored on the whole run: the
    sum of a hypothesis' gains is the difference between its text and expected words everywhere.

    Parameters
    ----------
    whitened : Whitened
        Weights of shape (n_delays * n_features, n_dims), delay by delay, as `decoders.models.ridge.delayed` has them.
    kernel : array of shape (n_delays, n_rows, n_words)
        Of `response_kernel`, for words in order of time.
    expected : array of shape (n_features,)
        Features of a word of which nothing is known.
    """

    def __init__(self, whitened: Whitened, kernel: Floats, expected: NDArray[np.float64]) -> None:
        n_delays, n_rows, self.n_words = kernel.shape
        if len(whitened.data) != n_rows or len(whitened.weights) != n_delays * len(expected):
            found = f"{whitened.data.shape[0]} rows and weights of {len(whitened.weights)}"
            expectation = f"{n_rows} rows and weights of {n_delays} x {len(expected)} features"
            raise InputError(expectation, found, _WHERE, "Fit the encoding model with the delays of the kernel.")
        self.expected, self._kernel = torch.from_numpy(expected), torch.from_numpy(kernel)
        self._weights = torch.from_numpy(whitened.weights).view(n_delays, len(expected), -1)
        typical = torch.einsum("dtw,f,dfm->tm", self._kernel, self.expected, self._weights)
        self._error = torch.from_numpy(whitened.data) - typical
        self.baseline = float(whitened.constant.sum() - (self._error**2).sum() / 2)
        self._span = _spans(kernel)

    def start(self) -> Tensor:
        """Return the state before the first word: unexplained rows (1, n_reached, n_dims) from its first one on."""
        first, last = self._span[0] if self.n_words else (0, 0)
        return self._error[None, first:last]

    def gains(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        """Return what each candidate would add at the time of a word, for every hypothesis.

        Parameters
        ----------
        state : Tensor of shape (n, n_reached, n_dims)
        word : int
            Number of the word in time.
        vectors : Tensor of shape (n_candidates, n_features), float64

        Returns
        -------
        Tensor of shape (n, n_candidates)
            Nats.
        """
        linear, quadratic = self._form(state, word)
        change = vectors - self.expected
        return linear @ change.T - ((change @ quadratic) * change).sum(1) / 2

    def paired_gains(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        """Return what one candidate per hypothesis would add: (n, n_features) to (n,)."""
        linear, quadratic = self._form(state, word)
        change = vectors - self.expected
        return (linear * change).sum(1) - ((change @ quadratic) * change).sum(1) / 2

    def advance(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        """Place one word per hypothesis, and return the state before the next one.

        Volumes that no later word reaches are dropped: their likelihood is frozen.
        """
        first, last = self._span[word]
        change = torch.einsum("nf,dfm->ndm", vectors - self.expected, self._weights)
        state = state - torch.einsum("dt,ndm->ntm", self._kernel[:, first:last, word], change)
        following, end = self._span[word + 1] if word + 1 < self.n_words else (last, last)
        untouched = self._error[max(last, following) : end].expand(len(state), -1, -1)
        return torch.cat([state[:, following - first :], untouched], 1)

    def _form(self, state: Tensor, word: int) -> tuple[Tensor, Tensor]:
        """Return gradient (n, n_features) and curvature (n_features, n_features) of the likelihood."""
        first, last = self._span[word]
        kernel = self._kernel[:, first:last, word]
        linear = torch.einsum("dt,ntm,dfm->nf", kernel, state, self._weights)
        seen = torch.einsum("dt,dfm->ftm", kernel, self._weights).flatten(1)
        return linear, seen @ seen.T


def _spans(kernel: Floats) -> list[tuple[int, int]]:
    """Return the rows [first, last) that are open when each word comes; both never go back."""
    n_rows, n_words = kernel.shape[1:]
    reached = (kernel != 0).any(0)
    first = np.where(reached.any(0), reached.argmax(0), n_rows)
    last = np.where(reached.any(0), n_rows - reached[::-1].argmax(0), 0)
    # A row is open until no later word reaches it, and opens with the first word that reaches it.
    first = np.minimum.accumulate(first[::-1])[::-1]
    last = np.maximum(np.maximum.accumulate(last), first)
    return [(int(first[word]), int(last[word])) for word in range(n_words)]
