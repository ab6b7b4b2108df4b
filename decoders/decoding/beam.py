"""Free text from brain recordings: a beam search over words, each written character by character.

Score of a text = language weight x log P(text) + brain weight x log-likelihood of the recording, both summed over
the whole text. On the way, hypotheses are ranked with the words to come integrated out (`BrainScores`). Word times
are given; at each of them every hypothesis is extended by the words that an inner search over characters finds, all
hypotheses in one batch. With a closed vocabulary the inner search knows what the best word below each prefix would
add for the brain: what it drops by that bound cannot enter the beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from decoders.decoding.lexicon import BestBelow, Units
from decoders.decoding.likelihood import Floats
from decoders.decoding.responses import BrainScores, Form, TextFeatures
from decoders.decoding.spelling import Prefixes, Reader, Spelling, largest
from decoders.decoding.symbols import BOUNDARY, Alphabet, words_of
from decoders.errors import InputError

Choice = Literal["best", "risk"]


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search.

    Attributes
    ----------
    width : int
        Hypotheses kept after each word.
    prefixes : int
        Unfinished words kept after each character, over all hypotheses; also the candidates per word time where the
        vocabulary is open.
    language_weight, brain_weight : float
        0 for the brain is the language model alone, the control at the same length.
    max_characters : int
        Longest word with its boundary.
    choice : {"best", "risk"}
        The best score, or the least expected share of wrong words within the final beam.
    """

    width: int = 200
    prefixes: int = 600
    language_weight: float = 1.0
    brain_weight: float = 1.0
    max_characters: int = 20
    choice: Choice = "best"


@dataclass(frozen=True)
class Hypothesis:
    """A decoded text with its accumulated scores.

    Attributes
    ----------
    words : tuple of str
        One per word time.
    language, brain : float
        log P of its characters, and log-likelihood beyond that of expected words, in nats.
    score : float
        Weighted sum of both.
    """

    words: tuple[str, ...]
    language: float
    brain: float
    score: float


@dataclass
class _Beam:
    """Hypotheses after some words: one row each."""

    language: Tensor
    brain: Tensor
    outlook: Tensor  # the brain's score with the words to come integrated out: what ranks
    cache: Any
    following: Tensor  # log P of the next character, (n, n_symbols)
    state: Tensor | None  # of the brain


def search(
    model: Reader,
    alphabet: Alphabet,
    units: Units,
    n_words: int,
    options: SearchOptions,
    brain: BrainScores | None = None,
    features: TextFeatures | None = None,
    prompt: str = BOUNDARY,
) -> list[Hypothesis]:
    """Search the texts of a given number of words.

    Parameters
    ----------
    model, alphabet
        Character language model.
    units : Units
        What a word may be.
    n_words : int
        Word times; the same as those of `brain`.
    options : SearchOptions
    brain : BrainScores, optional
        Of the recording, or of a permuted, shifted or made-up one. None as with a brain weight of 0.
    features : TextFeatures, optional
        Vectors of words; needed with a brain.
    prompt : str
        Plain text that is read first; ends with a word boundary.

    Returns
    -------
    list of Hypothesis
        The final beam, best first; with ``choice="risk"`` the choice comes first. No random numbers are drawn: equal
        input gives equal output.

    Raises
    ------
    InputError
        No word times, an empty prompt, a brain without features or of another number of words, or no word that can
        be written within `max_characters`.
    """
    if options.brain_weight == 0:
        brain = None
    _check(n_words, prompt, brain, features)
    step = _Step(model, alphabet, units, options, brain, features)
    beam, history = step.begin(prompt), []
    for word in range(n_words):
        beam, parents, words = step.extend(beam, word)
        history.append((parents, words))
    found = _texts(history, beam, options)
    found.sort(key=lambda hypothesis: -hypothesis.score)
    return found if options.choice == "best" else _least_risk(found)


class _Step:
    """One extension of the beam by a word."""

    def __init__(
        self,
        model: Reader,
        alphabet: Alphabet,
        units: Units,
        options: SearchOptions,
        brain: BrainScores | None,
        features: TextFeatures | None,
    ) -> None:
        self.model, self.alphabet, self.units, self.options, self.brain = model, alphabet, units, options, brain
        self.features = features
        size = (options.prefixes, options.max_characters)
        self.spelling = Spelling(model, units, options.language_weight, *size)
        self.known: dict[str, Floats] = {}
        self.vectors: Tensor | None = None
        if brain is not None and features is not None and units.words:
            self.vectors = torch.from_numpy(features.vectors(units.words))

    def begin(self, prompt: str) -> _Beam:
        """Return the beam of the empty text, after the prompt."""
        cache, zero = self.model.start(1), torch.zeros(1, dtype=torch.float64)
        for symbol in torch.from_numpy(self.alphabet.encode(prompt)):
            following = self.model.step(symbol[None], cache)
        return _Beam(zero, zero, zero, cache, following, None if self.brain is None else self.brain.start())

    def extend(self, beam: _Beam, word: int) -> tuple[_Beam, Tensor, list[str]]:
        """Return the beam after one more word, which parent each row has, and its word."""
        form = None if self.brain is None or beam.state is None else self.brain.form(beam.state, word)
        found = self._spell(beam, form)
        texts = [words_of(self.alphabet.decode(row))[0] for row in found.letters.tolist()]
        language = beam.language[found.parent] + found.language
        outlook = self._outlook(beam, form, found, texts)
        kept = largest(self._weighted(language, outlook), self.options.width)
        found, texts = found.select(kept), [texts[row] for row in kept.tolist()]
        following = self.model.step(found.last(), found.cache)
        brain, state = self._place(beam, word, found.parent, texts)
        return _Beam(language[kept], brain, outlook[kept], found.cache, following, state), found.parent, texts

    def _weighted(self, language: Tensor, brain: Tensor) -> Tensor:
        return self.options.language_weight * language + self.options.brain_weight * brain

    def _spell(self, beam: _Beam, form: Form | None) -> Prefixes:
        """Return whole words of all hypotheses."""
        ahead, brain, most = None, beam.outlook, self.options.width
        if form is not None and self.vectors is not None:
            gains = self.options.brain_weight * form.all_pairs(self.vectors)
            ahead, brain = BestBelow(self.units, gains.float()), beam.brain
        elif form is not None:
            # Without a vocabulary nothing is known of the brain before a word is whole: more words are kept for it.
            most = self.options.prefixes
        return self.spelling.find(self._weighted(beam.language, brain), beam.following, beam.cache, ahead, most)

    def _outlook(self, beam: _Beam, form: Form | None, found: Prefixes, texts: Sequence[str]) -> Tensor:
        """Return the brain's rank of whole words, shape (n_found,)."""
        if form is None:
            return torch.zeros(len(texts), dtype=torch.float64)
        return beam.brain[found.parent] + form.of_parents(found.parent, self._lookup(texts))

    def _place(self, beam: _Beam, word: int, parent: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Return the brain's accumulated score with one more word per row, and its state."""
        if self.brain is None or beam.state is None:
            return torch.zeros(len(texts), dtype=torch.float64), None
        state, vectors = beam.state[parent], self._lookup(texts)
        brain = beam.brain[parent] + self.brain.gains(state, word, vectors)
        return brain, self.brain.advance(state, word, vectors)

    def _lookup(self, texts: Sequence[str]) -> Tensor:
        new = sorted(set(texts) - self.known.keys())
        if new and self.features is not None:
            self.known.update(zip(new, self.features.vectors(new), strict=True))
        return torch.from_numpy(np.stack([self.known[text] for text in texts]))


def _texts(history: Sequence[tuple[Tensor, list[str]]], beam: _Beam, options: SearchOptions) -> list[Hypothesis]:
    """Follow the parents back from the final beam."""
    rows, columns = list(range(len(beam.language))), []
    for parents, words in reversed(history):
        columns.append([words[row] for row in rows])
        rows = parents[rows].tolist()
    found = []
    for row, (language, brain) in enumerate(zip(beam.language.tolist(), beam.brain.tolist(), strict=True)):
        score = options.language_weight * language + options.brain_weight * brain
        found.append(Hypothesis(tuple(column[row] for column in reversed(columns)), language, brain, score))
    return found


def _least_risk(found: list[Hypothesis]) -> list[Hypothesis]:
    """Put the text first that shares most words with the others, weighted by exp(score): minimum Bayes risk."""
    scores = np.array([hypothesis.score for hypothesis in found])
    weight = np.exp(scores - scores.max())
    agreement = np.zeros(len(found))
    for words in zip(*(hypothesis.words for hypothesis in found), strict=True):
        _, number = np.unique(words, return_inverse=True)
        agreement += np.bincount(number, weights=weight)[number]
    best = int(agreement.argmax())
    return [found[best], *found[:best], *found[best + 1 :]]


def _check(n_words: int, prompt: str, brain: BrainScores | None, features: TextFeatures | None) -> None:
    if n_words < 1:
        remedy = "The rate of words may be zero: check the length model and the run."
        raise InputError("at least one word time", f"{n_words}", "the beam search", remedy)
    if not prompt:
        raise InputError("a prompt that ends a word", "an empty text", "the beam search", "Give a space.")
    if brain is not None and (features is None or brain.n_words != n_words):
        found = "no features" if features is None else f"a brain of {brain.n_words} words"
        remedy = "Make the brain scores with the same word times."
        raise InputError(f"features and brain scores of {n_words} words", found, "the beam search", remedy)
