"""Time of a beam search over five minutes of BOLD, against the same search without its two ideas.

Run ``python benchmarks/bench_beam.py``, or with ``closed`` or ``open`` after it for one kind of vocabulary. The slow
search is the same code with a language model that is called once per hypothesis and keeps nothing of what it has read,
and a likelihood that is not whitened: the density of all voxels in the open volumes is taken by scipy for each
hypothesis that is kept. It is timed on the fifth to the seventh word, and of each call on 20 hypotheses; both are
scaled. The fast search is timed on the fifth to the fifteenth word, and scaled. Processor time is taken, which other
work on the machine changes little. Model, lexicon and recording are made up: it is time that is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from common import write_result
from scipy.stats import multivariate_normal
from torch import Tensor

from decoders.decoding.beam import SearchOptions, search
from decoders.decoding.language import Cache, CharacterModel
from decoders.decoding.lexicon import Units, lexicon_units, open_units
from decoders.decoding.likelihood import Floats, whiten
from decoders.decoding.responses import BrainScores, Form, WordVectors, expected_word, response_kernel
from decoders.decoding.symbols import Alphabet
from decoders.stimuli.embedding import Embedding

TR_S, N_VOLUMES, WORDS_PER_S, N_VOXELS, N_LEXICON = 2.0, 150, 2.9, 100, 2500
SLOW_WORDS, FAST_WORDS, SKIPPED_WORDS = 7, 15, 4
# Hypotheses of each call that are really treated one by one; their time is multiplied up.
SAMPLED = 20
# As long as a prediction reaches back, so that no text is short.
PROMPT = "ab " * 21
OPTIONS = SearchOptions(width=200, prefixes=600)
ALPHABET = Alphabet("\ufffd 'abcdefghijklmnopqrstuvwxyz")


@dataclass
class Read:
    """What the slow model keeps: the characters themselves; beside them, for the numbers, what the fast one keeps."""

    texts: list[list[int]]
    quick: Cache

    def select(self, parents: Tensor) -> Read:
        return Read([self.texts[row] for row in parents.tolist()], self.quick.select(parents))

    def append(self, other: Read) -> Read:
        return Read(self.texts + other.texts, self.quick.append(other.quick))


class Sample:
    """Processor time of a loop over hypotheses, from a sample of them."""

    missing = 0.0

    @classmethod
    def run(cls, calls: Sequence[Callable[[], Any]]) -> None:
        start = time.process_time()
        for call in calls[:SAMPLED]:
            call()
        cls.missing += (time.process_time() - start) * (len(calls) / max(1, min(SAMPLED, len(calls))) - 1)


@dataclass
class OneByOne:
    """One full pass per hypothesis, over all characters on which the prediction depends."""

    model: CharacterModel

    def start(self, n: int = 1) -> Read:
        return Read([[] for _ in range(n)], self.model.start(n))

    @torch.no_grad()
    def step(self, characters: Tensor, cache: Read) -> Tensor:
        cache.texts = [[*text, symbol] for text, symbol in zip(cache.texts, characters.tolist(), strict=True)]
        reach = self.model.reach
        Sample.run([partial(self.model, torch.tensor(text[-reach:])[None]) for text in cache.texts])
        start = time.process_time()
        rows = self.model.step(characters, cache.quick)
        Sample.missing -= time.process_time() - start
        return rows


class Timed(BrainScores):
    """Notes the processor time at the start of each word."""

    def clear(self, n_words: int) -> None:
        self.starts: list[float] = []
        self.n_words = n_words  # the search stops early; the responses of later words stay

    def form(self, state: Tensor, word: int) -> Form:
        self.starts.append(time.process_time() + Sample.missing)
        return super().form(state, word)


class Unwhitened(Timed):
    """The density of all voxels in the open volumes, by scipy, for each hypothesis."""

    def prepare(self, rows: Floats, weights: Floats, covariance: Floats, kernel: Floats) -> None:
        typical = np.einsum("dtw,f->tdf", kernel, self.mean.numpy()).reshape(len(rows), -1) @ weights
        self.raw, self.raw_weights, self.covariance, self.raw_kernel = rows - typical, weights, covariance, kernel[0]

    def gains(self, state: Tensor, word: int, vectors: Tensor) -> Tensor:
        first, last = self._span[word]
        if last == first:
            return torch.zeros(len(vectors), dtype=torch.float64)
        Sample.run([partial(self._density, word, vector) for vector in (vectors - self.mean).numpy()])
        # The scores themselves come from the whitened parent, so that both searches take the same way.
        return super().gains(state, word, vectors)

    def _density(self, word: int, vector: Floats) -> None:
        first, last = self._span[word]
        error = self.raw[first:last] - np.outer(self.raw_kernel[first:last, word], vector @ self.raw_weights)
        multivariate_normal.logpdf(error, np.zeros(N_VOXELS), self.covariance)


def _lexicon(rng: np.random.Generator) -> list[str]:
    letters = list("etaoinshrdlucmfwypvbgkqjxz")
    share = 1.0 / np.arange(1, 27)
    words: set[str] = set()
    while len(words) < N_LEXICON:
        words.add("".join(rng.choice(letters, rng.integers(1, 10), p=share / share.sum())))
    return sorted(words)


def _brains(rng: np.random.Generator, features: WordVectors, words: list[str]) -> tuple[Timed, Unwhitened]:
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
    return Timed(whitened, kernel, expected), slow


def _seconds_per_word(model: Any, brain: Timed, units: Units, features: WordVectors, n_words: int) -> float:
    """Return processor seconds per word, without the first ones, which have few hypotheses and short texts."""
    brain.clear(n_words)
    search(model, ALPHABET, units, n_words, OPTIONS, brain, features, prompt=PROMPT)
    end = time.process_time() + Sample.missing
    return (end - brain.starts[SKIPPED_WORDS]) / (n_words - SKIPPED_WORDS)


def main() -> None:
    """Time both searches with a closed and with an open vocabulary, and write the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    words = _lexicon(rng)
    features = WordVectors(Embedding(tuple(words), rng.standard_normal((len(words), 24)) / 5))
    model = CharacterModel(ALPHABET.n_symbols, dropout=0.0).eval()
    fast_brain, slow_brain = _brains(rng, features, words)
    n = fast_brain.n_words
    figures: dict[str, Any] = {"words": n, "width": OPTIONS.width, "prefixes": OPTIONS.prefixes}
    figures |= {"slow_words_timed": SLOW_WORDS - SKIPPED_WORDS, "slow_rows_timed": SAMPLED}
    vocabularies = {"closed": lexicon_units(words, ALPHABET), "open": open_units(ALPHABET)}
    for name in sys.argv[1:] or vocabularies:
        fast = _seconds_per_word(model, fast_brain, vocabularies[name], features, FAST_WORDS)
        print(name, f"{fast:.4f} s per word", flush=True)
        slow = _seconds_per_word(OneByOne(model), slow_brain, vocabularies[name], features, SLOW_WORDS)
        scaled = {"seconds_scaled_to_run": round(fast * n, 1), "slow_seconds_scaled_to_run": round(slow * n, 1)}
        figures[name] = {"ratio": round(slow / fast, 1), **scaled}
        print(name, figures[name], flush=True)
    print(write_result("beam", " ".join(["python benchmarks/bench_beam.py", *sys.argv[1:]]), figures))


if __name__ == "__main__":
    main()
