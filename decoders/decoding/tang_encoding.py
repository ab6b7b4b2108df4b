"""The encoding model of Tang et al. 2023 (Nature Neuroscience 26:858), from its description.

States of a language model at each word, Lanczos-filtered to volumes and delayed by 1 to 4 of them, predict voxels by
ridge; penalties come from held-out chunks that are drawn many times, and the voxels that these predict best are read.
The noise is the mean over left-out runs of the residuals' covariance, each scaled to a mean variance of 1, shrunk by
2/3 towards the identity. Where their features have 768 dimensions, ours have those of the study's own language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from decoders.decoding.free_text import Runs
from decoders.decoding.language import Language, symbol_states
from decoders.decoding.likelihood import Floats, whiten
from decoders.decoding.responses import BrainScores, Expected
from decoders.decoding.symbols import BOUNDARY, spelled
from decoders.errors import InputError
from decoders.stimuli.timings import Words

DELAYS = (1, 2, 3, 4)
PENALTIES = tuple(np.logspace(2, 6, 10))  # of ||Xb - y||^2 + penalty ||b||^2
N_BOOTSTRAPS, CHUNK, HELD_SHARE = 50, 40, 0.1
N_VOXELS = 10_000
SHRINKAGE = 2 / 3
LOBES = 3


@dataclass(frozen=True)
class Encoder:
    """A fitted encoding model.

    Attributes
    ----------
    voxels : array of int
        Those that are read.
    mean, scale : array of shape (n_units,)
        Of the states of the training words.
    weights : array of shape (n_delays * n_units, n_voxels)
        Delay by delay.
    noise : array of shape (n_voxels, n_voxels)
    tr : float
    """

    voxels: NDArray[np.int64]
    mean: Floats
    scale: Floats
    weights: Floats
    noise: Floats
    tr: float

    def scores(self, run: NDArray[np.floating], seconds: Floats) -> BrainScores:
        """Return what words at the given times (their middles) add to the likelihood of a run."""
        rows = np.asarray(run[:, self.voxels], dtype=np.float64)
        kernel = lanczos_kernel(seconds, len(run), self.tr)
        white = whiten(rows - rows.mean(0), self.weights, np.zeros(rows.shape[1]), self.noise)
        nothing = np.zeros(len(self.mean))  # states have no mean: a word that is not known yet is the mean word
        return BrainScores(white, kernel, Expected(nothing, np.eye(len(nothing))))


def fit_encoder(
    x: Runs, heard: Sequence[Words], language: Language, tr: float, rng: np.random.Generator,
    n_voxels: int = N_VOXELS, n_bootstraps: int = N_BOOTSTRAPS,
) -> Encoder:  # fmt: skip
    """Fit the encoding model on training runs.

    Parameters
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        z-scored per run.
    heard : sequence of Words
        In seconds of the run.
    language : Language
    tr : float
    rng : Generator
        Of the held-out chunks.
    n_voxels, n_bootstraps : int

    Raises
    ------
    InputError
        Fewer than two training runs.
    """
    if len(x) < 2:
        remedy = "Give more runs: noise is measured on runs that the encoding model has not seen."
        raise InputError("two training runs or more", f"{len(x)}", "the baseline tang2023", remedy)
    states = [word_states(language, words.word) for words in heard]
    every = np.concatenate(states)
    mean, scale = every.mean(0), np.maximum(every.std(0), 1e-9)
    pairs = zip(states, heard, x, strict=True)
    X = [_features((state - mean) / scale, words.middle, len(run), tr) for state, words, run in pairs]
    Y = [np.asarray(run, dtype=np.float64) - run.mean(0) for run in x]
    penalty, score = bootstrap_penalties(np.concatenate(X), np.concatenate(Y), rng, n_bootstraps=n_bootstraps)
    voxels = np.sort(np.argsort(-score, kind="stable")[:n_voxels])
    Y, penalty = [run[:, voxels] for run in Y], penalty[voxels]
    weights = ridge_weights(np.concatenate(X), np.concatenate(Y), penalty)
    return Encoder(voxels, mean, scale, weights, noise_covariance(X, Y, penalty), tr)


def word_states(language: Language, words: Sequence[str]) -> Floats:
    """Return the states of the language model after each word and its boundary, shape (n_words, n_units)."""
    texts = [spelled(word) for word in words]
    symbols = torch.from_numpy(language.alphabet.encode(BOUNDARY + "".join(texts)))
    return symbol_states(language.model, symbols)[np.cumsum([len(text) for text in texts])]


def lanczos_kernel(seconds: Floats, n_volumes: int, tr: float, delays: Sequence[int] = DELAYS) -> Floats:
    """Return what each word adds to each volume, shape (n_delays, n_volumes, n_words): sinc(x) sinc(x / 3), |x| < 3.

    x is the time from the word to the middle of the volume, in volumes.
    """
    distance = np.arange(n_volumes)[:, None] + 0.5 - seconds[None, :] / tr
    now = np.where(np.abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0.0)
    kernel = np.zeros((len(delays), *now.shape))
    for row, delay in zip(kernel, delays, strict=True):
        row[delay:] = now[: n_volumes - delay]
    return kernel


def _features(states: Floats, seconds: Floats, n_volumes: int, tr: float) -> Floats:
    found = np.einsum("dtw,wf->tdf", lanczos_kernel(seconds, n_volumes, tr), states).reshape(n_volumes, -1)
    return found - found.mean(0)


def bootstrap_penalties(
    X: Floats, Y: Floats, rng: np.random.Generator, penalties: Sequence[float] = PENALTIES,
    n_bootstraps: int = N_BOOTSTRAPS, chunk: int = CHUNK,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return each voxel's penalty of largest mean correlation on held-out chunks, and that correlation.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
    Y : array of shape (n_rows, n_voxels)
    rng : Generator
    penalties : sequence of float
    n_bootstraps : int
        Draws of held-out chunks.
    chunk : int
        Volumes of a chunk; a tenth of all chunks is held out, one at least.
    """
    chunks = np.array_split(np.arange(len(X)), max(2, len(X) // chunk))
    held = max(1, round(HELD_SHARE * len(chunks)))
    total = np.zeros((len(penalties), Y.shape[1]))
    for _ in range(n_bootstraps):
        out = np.concatenate([chunks[i] for i in sorted(rng.permutation(len(chunks))[:held])])
        seen = np.setdiff1d(np.arange(len(X)), out)
        values, vectors = np.linalg.eigh(X[seen].T @ X[seen])
        projected, rotated = vectors.T @ (X[seen].T @ Y[seen]), X[out] @ vectors
        for row, penalty in zip(total, penalties, strict=True):
            row += _correlations(rotated @ (projected / (values[:, None] + penalty)), Y[out])
    best = total.argmax(0)
    return np.asarray(penalties)[best], total[best, np.arange(Y.shape[1])] / n_bootstraps


def ridge_weights(X: Floats, Y: Floats, penalty: Floats) -> Floats:
    """Return (X'X + penalty)^-1 X'Y with the penalty of each voxel, shape (n_features, n_voxels)."""
    values, vectors = np.linalg.eigh(X.T @ X)
    weights: Floats = vectors @ ((vectors.T @ (X.T @ Y)) / (values[:, None] + penalty[None, :]))
    return weights


def noise_covariance(X: Sequence[Floats], Y: Sequence[Floats], penalty: Floats) -> Floats:
    """Return the covariance of residuals of runs that their models have not seen, shrunk to the identity."""
    total = np.zeros((Y[0].shape[1], Y[0].shape[1]))
    for out in range(len(X)):
        seen = [run for run in range(len(X)) if run != out]
        known, answers = (np.concatenate([side[run] for run in seen]) for side in (X, Y))
        weights = ridge_weights(known, answers, penalty)
        rest = Y[out] - X[out] @ weights
        square = rest.T @ rest
        total += square / np.diag(square).mean() / len(X)
    return shrunk(total)


def shrunk(covariance: Floats, amount: float = SHRINKAGE) -> Floats:
    """Return (1 - amount) covariance + amount identity."""
    return (1 - amount) * covariance + amount * np.eye(len(covariance))


def _correlations(one: Floats, other: Floats) -> Floats:
    a, b = one - one.mean(0), other - other.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    found: Floats = np.divide((a * b).sum(0), size, out=np.zeros(len(size)), where=size > 0)
    return found
