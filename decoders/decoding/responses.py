"""What words do to recorded volumes: where each word's response falls, and how much a word would explain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
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
    """Word vectors, after the word count: the features of the phantom.

    Attributes
    ----------
    embedding : Embedding
    count : bool
        Whether 1 stands before each vector.
    fallback : Embedding, optional
        For words that `embedding` lacks, e.g. vectors from spelling; zeros when absent. Of as many dimensions.
    """

    embedding: Embedding
    count: bool = True
    fallback: Embedding | None = None

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.embedding.words)

    def vectors(self, words: Sequence[str]) -> Floats:
        """Return the features of each word, shape (n_words, 1 + n_dimensions), or without the count."""
        found = self.embedding.lookup(words)
        if self.fallback is not None:
            rows = [row for row, word in enumerate(words) if word not in self._known]
            found[rows] = self.fallback.lookup([words[row] for row in rows])
        return np.column_stack([np.ones(len(words)), found]) if self.count else found


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


@dataclass(frozen=True)
class Expected:
    """What is known of a word before anything is: mean and covariance of word features.

    Attributes
    ----------
    mean : array of shape (n_features,)
    spread : array of shape (n_features, n_features)
    """

    mean: Floats
    spread: Floats


def expected_word(features: TextFeatures, words: Sequence[str]) -> Expected:
    """Return mean and covariance of the features of a corpus' words, with repetition."""
    counts = Counter(words)
    frequency = np.array(list(counts.values()), dtype=np.float64) / len(words)
    vectors = features.vectors(list(counts))
    mean = frequency @ vectors
    return Expected(mean, (vectors - mean).T @ (frequency[:, None] * (vectors - mean)))


class BrainScores:
    """The log-likelihood that each further word adds to a hypothesis; only the volumes it reaches are touched.

    Words that are not known yet count as the expected word, so a hypothesis is always scored on the whole run: the
    sum of a hypothesis' gains is the difference between its text and expected words everywhere.

    Gains alone are bad guides on the way, because volumes answer to words that are yet to come. Ranks are what the
    beam is chosen by: the same with the coming words drawn from a normal distribution and integrated out, over the
    volumes that are open. Both agree at the last word.

    Parameters
    ----------
    whitened : Whitened
        Weights of shape (n_delays * n_features, n_dims), delay by delay, as `decoders.models.ridge.delayed` has them.
    kernel : array of shape (n_delays, n_rows, n_words)
        Of `response_kernel`, for words in order of time.
    expected : Expected
    """

    def __init__(self, whitened: Whitened, kernel: Floats, expected: Expected) -> None:
        n_delays, n_rows, self.n_words = kernel.shape
        n_features = len(expected.mean)
        if len(whitened.data) != n_rows or len(whitened.weights) != n_delays * n_features:
            found = f"{whitened.data.shape[0]} rows and weights of {len(whitened.weights)}"
            expectation = f"{n_rows} rows and weights of {n_delays} x {n_features} features"
            raise InputError(expectation, found, _WHERE, "Fit the encoding model with the delays of the kernel.")
        self.mean, self._kernel = torch.from_numpy(expected.mean), torch.from_numpy(kernel)
        self._weights = torch.from_numpy(whitened.weights).view(n_delays, n_features, -1)
        typical = torch.einsum("dtw,f,dfm->tm", self._kernel, self.mean, self._weights)
        self._error = torch.from_numpy(whitened.data) - typical
        self.baseline = float(whitened.constant.sum() - (self._error**2).sum() / 2)
        self._span = _spans(kernel)
        spread = torch.from_numpy(expected.spread)
        self._spread = torch.einsum("dfm,fg,egn->demn", self._weights, spread, self._weights)

    def start(self) -> Tensor:
        """Return the state before the first word: unexplained rows (1, n_open, n_dims) from its first one on."""
        first, last = self._span[0] if self.n_words else (0, 0)
        return self._error[None, first:last]

    def gains(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        """Return what one candidate per hypothesis would add at the time of a word.

        Parameters
        ----------
        state : Tensor of shape (n, n_open, n_dims)
        word : int
            Number of the word in time.
        vectors : Tensor of shape (n, n_features), float64

        Returns
        -------
        Tensor of shape (n,)
            Nats.
        """
        error, response = state.flatten(1), self._response(word)
        change = (vectors - self.mean) @ response
        return (error * change).sum(1) - (change**2).sum(1) / 2

    def form(self, state: Tensor, word: int) -> Form:
        """Return the ranks of all candidates of a word, with the words after it integrated out."""
        error, response = state.flatten(1), self._response(word)
        root = self._root(word)
        whole = (error**2).sum(1) / 2
        if root is not None:
            error = torch.linalg.solve_triangular(root, error.T, upper=False).T
            response = torch.linalg.solve_triangular(root, response.T, upper=False).T
        return Form(whole - (error**2).sum(1) / 2, error @ response.T, response @ response.T, self.mean)

    def advance(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        """Place one word per hypothesis, and return the state before the next one.

        Volumes that no later word reaches are dropped: their likelihood is frozen.
        """
        first, last = self._span[word]
        state = state - ((vectors - self.mean) @ self._response(word)).view_as(state)
        following, end = self._span[word + 1] if word + 1 < self.n_words else (last, last)
        untouched = self._error[max(last, following) : end].expand(len(state), -1, -1)
        return torch.cat([state[:, following - first :], untouched], 1)

    def _response(self, word: int) -> Tensor:
        """Return what a unit of each feature adds to the open rows, shape (n_features, n_open * n_dims)."""
        first, last = self._span[word]
        return torch.einsum("dt,dfm->ftm", self._kernel[:, first:last, word], self._weights).flatten(1)

    def _root(self, word: int) -> Tensor | None:
        """Return the Cholesky factor of the open rows' covariance given all words up to this one; None at the end."""
        first, last = self._span[word]
        coming = self._kernel[:, first:last, word + 1 :]
        if not coming.any():
            return None
        time = torch.einsum("dtj,esj->dets", coming, coming)
        covariance = torch.einsum("dets,demn->tmsn", time, self._spread).flatten(2).flatten(0, 1)
        return torch.linalg.cholesky(covariance + torch.eye(len(covariance), dtype=torch.float64))


@dataclass(frozen=True)
class Form:
    """Ranks as a quadratic function of a word's features: offset + linear x - x' quadratic x / 2.

    Attributes
    ----------
    offset : Tensor of shape (n,)
        What the open rows of each hypothesis are worth before the word.
    linear : Tensor of shape (n, n_features)
    quadratic : Tensor of shape (n_features, n_features)
    mean : Tensor of shape (n_features,)
        From which x is counted.
    """

    offset: Tensor
    linear: Tensor
    quadratic: Tensor
    mean: Tensor

    def all_pairs(self, vectors: Tensor) -> Tensor:
        """Return the rank of every candidate (n_candidates, n_features) for every hypothesis: (n, n_candidates)."""
        change = vectors - self.mean
        penalty = ((change @ self.quadratic) * change).sum(1) / 2
        return self.offset[:, None] + self.linear @ change.T - penalty

    def of_parents(self, parents: Tensor, vectors: Tensor) -> Tensor:
        """Return the rank of one candidate (m, n_features) for each of the given parents (m,)."""
        change = vectors - self.mean
        penalty = ((change @ self.quadratic) * change).sum(1) / 2
        return self.offset[parents] + (self.linear[parents] * change).sum(1) - penalty


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
