"""Time of a beam search over five minutes of BOLD, against the same search without its two ideas.

Run ``python benchmarks/bench_beam.py``; some minutes. The slow search is the same code with a language model that is
called once per hypothesis and keeps nothing of what it has read, and a likelihood that is not whitened: the density of
all voxels in the open volumes is taken by scipy for each hypothesis that is kept. It is timed on its first word steps
and scaled by their number. Model, lexicon and recording are made up: it is time that is
measured, and that both find the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import write_result
from scipy.stats import multivariate_normal
from torch import Tensor

from decoders.decoding.beam import Hypothesis, SearchOptions, search
from decoders.decoding.language import CharacterModel
from decoders.decoding.lexicon import Units, lexicon_units, open_units
from decoders.decoding.likelihood import Floats, whiten
from decoders.decoding.responses import BrainScores, WordVectors, expected_word, response_kernel
from decoders.decoding.symbols import Alphabet
from decoders.stimuli.embedding import Embedding

TR_S, N_VOLUMES, WORDS_PER_S, N_VOXELS, N_LEXICON = 2.0, 150, 2.9, 100, 2500
SLOW_WORDS, SKIPPED_WORDS = 8, 4
OPTIONS = SearchOptions(width=200, prefixes=600)
ALPHABET = Alphabet("\ufffd 'abcdefghijklmnopqrstuvwxyz")


@dataclass
class Read:
    """What the slow model keeps: the characters themselves, one list per hypothesis."""

    texts: list[list[int]]

    def select(self, parents: Tensor) -> Read:
        return Read([list(self.texts[row]) for row in parents.tolist()])

    def append(self, other: Read) -> Read:
        return Read(self.texts + other.texts)


@dataclass
class OneByOne:
    """One full pass per hypothesis, over all characters on which the prediction depends."""

    model: CharacterModel

    def start(self, n: int = 1) -> Read:
        return Read([[] for _ in range(n)])

    @torch.no_grad()
    def step(self, characters: Tensor, cache: Read) -> Tensor:
        rows = []
        for text, symbol in zip(cache.texts, characters.tolist(), strict=True):
            text.append(symbol)
            rows.append(self.model(torch.tensor(text[-self.model.reach :])[None])[0, -1])
        return torch.stack(rows)


class Unwhitened(BrainScores):
    """The density of all voxels in the open volumes, by scipy, for each hypothesis."""

    def prepare(self, rows: Floats, weights: Floats, covariance: Floats, kernel: Floats) -> None:
        typical = np.einsum("dtw,f->tdf", kernel, self.mean.numpy()).reshape(len(rows), -1) @ weights
        self.raw, self.raw_weights, self.covariance, self.raw_kernel = rows - typical, weights, covariance, kernel[0]

    def gains(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        first, last = self._span[word]
        if last == first:
            return torch.zeros(len(vectors), dtype=torch.float64)
        for vector in (vectors - self.mean).numpy():
            error = self.raw[first:last] - np.outer(self.raw_kernel[first:last, word], vector @ self.raw_weights)
            multivariate_normal.logpdf(error, np.zeros(N_VOXELS), self.covariance)
        # The scores themselves come from the whitened parent, so that both searches take the same way.
        return super().gains(state, word, vectors)


def _lexicon(rng: np.random.Generator) -> list[str]:
    letters = list("etaoinshrdlucmfwypvbgkqjxz")
    share = 1.0 / np.arange(1, 27)
    words: set[str] = set()
    while len(words) < N_LEXICON:
        words.add("".join(rng.choice(letters, rng.integers(1, 10), p=share / share.sum())))
    return sorted(words)


def _brains(rng: np.random.Generator, features: WordVectors, words: list[str]) -> tuple[BrainScores, Unwhitened]:
    seconds = np.arange(0.5 / WORDS_PER_S, N_VOLUMES * TR_S, 1 / WORDS_PER_S)
    kernel = response_kernel(seconds, TR_S * np.arange(N_VOLUMES), TR_S)
    weights = rng.standard_normal((25, N_VOXELS))
    mixing = rng.standard_normal((N_VOXELS, N_VOXELS)) / 10
    covariance = mixing @ mixing.T + np.eye(N_VOXELS)
    heard = features.vectors(list(rng.choice(words, len(seconds))))
    noise = rng.multivariate_normal(np.zeros(N_VOXELS), covariance, N_VOLUMES)
    rows = kernel[0] @ heard @ weights + noise
    whitened = whiten(rows, weights, np.zeros(N_VOXELS), covariance)
    expected = expected_word(features, words)
    slow = Unwhitened(whitened, kernel, expected)
    slow.prepare(rows, weights, covariance, kernel)
    return BrainScores(whitened, kernel, expected), slow


def _seconds_per_word(
    model: Any, brain: BrainScores, units: Units, features: WordVectors, n_words: int
) -> tuple[float, list[Hypothesis]]:
    """Return the seconds per word after the first ones, which have fewer hypotheses, and what was found."""
    whole, taken = brain.n_words, []
    for n in (SKIPPED_WORDS, n_words):
        brain.n_words = n  # the search stops early; the responses of later words stay
        start = time.perf_counter()
        found = search(model, ALPHABET, units, n, OPTIONS, brain, features)
        taken.append(time.perf_counter() - start)
    brain.n_words = whole
    return (taken[1] - taken[0]) / (n_words - SKIPPED_WORDS), found


def main() -> None:
    """Time both searches with an open and with a closed vocabulary, and write the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    words = _lexicon(rng)
    features = WordVectors(Embedding(tuple(words), rng.standard_normal((len(words), 24)) / 5))
    model = CharacterModel(ALPHABET.n_symbols, dropout=0.0).eval()
    fast_brain, slow_brain = _brains(rng, features, words)
    figures: dict[str, Any] = {"words": fast_brain.n_words, "width": OPTIONS.width, "slow_words_timed": SLOW_WORDS}
    for name, units in (("closed", lexicon_units(words, ALPHABET)), ("open", open_units(ALPHABET))):
        fast, found = _seconds_per_word(model, fast_brain, units, features, SLOW_WORDS)
        slow, same = _seconds_per_word(OneByOne(model), slow_brain, units, features, SLOW_WORDS)
        start = time.perf_counter()
        search(model, ALPHABET, units, fast_brain.n_words, OPTIONS, fast_brain, features)
        figures[name] = {
            "seconds_whole_run": round(time.perf_counter() - start, 1),
            "seconds_per_word": round(fast, 4),
            "slow_seconds_per_word": round(slow, 3),
            "slow_seconds_scaled_to_run": round(slow * fast_brain.n_words, 1),
            "ratio_on_the_same_words": round(slow / fast, 1),
            "same_text": found[0].words == same[0].words,
        }
        print(name, figures[name], flush=True)
    print(write_result("beam", "python benchmarks/bench_beam.py", figures))


if __name__ == "__main__":
    main()
