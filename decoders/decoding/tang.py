"""The decoder of Tang et al. 2023 (Nature Neuroscience 26:858) as a baseline: a beam that the recording alone ranks.

The language model proposes each hypothesis' likely next words (nucleus), and the encoding model ranks all of them by
the likelihood of the recording; the language model's probability does not enter the rank. Word times come from the
rate of words, as for our own search. Their language model is a large one; ours is the study's own, over characters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.decoding.free_controls import LANGUAGE_MODEL, Told
from decoders.decoding.free_text import Listener
from decoders.decoding.language import Language
from decoders.decoding.length import word_spans
from decoders.decoding.lexicon import Units
from decoders.decoding.likelihood import Floats
from decoders.decoding.responses import BrainScores
from decoders.decoding.spelling import Spelling, largest
from decoders.decoding.symbols import BOUNDARY, spelled, words_of
from decoders.decoding.tang_encoding import Encoder
from decoders.stimuli.timings import Words

MODEL = "tang2023"
MASS, RATIO = 0.9, 0.1
EXTENSIONS = 5  # words per hypothesis, on average over the beam
_MAX_CHARACTERS = 20


def nucleus(log_p: Floats, mass: float = MASS, ratio: float = RATIO) -> NDArray[np.bool_]:
    """Tell which words are likely: the fewest that hold `mass`, and no less than `ratio` of the likeliest one.

    Parameters
    ----------
    log_p : array of shape (n_words,)
        Of the next words of one hypothesis.
    mass, ratio : float
    """
    order = np.argsort(-log_p, kind="stable")
    p = np.exp(log_p[order])
    kept = np.zeros(len(log_p), dtype=bool)
    # A word belongs to the nucleus while those before it hold less than the mass.
    kept[order] = (np.cumsum(p) - p < mass) & (p >= ratio * p[:1])
    return kept


def search(
    language: Language, units: Units, encoder: Encoder, brain: BrainScores, width: int
) -> tuple[tuple[str, ...], float]:
    """Return the text of the final beam under which the recording is likeliest, and its gain in log-likelihood.

    Parameters
    ----------
    language : Language
    units : Units
        What a word may be.
    encoder : Encoder
    brain : BrainScores
        Of a run, by `Encoder.scores`; one word per word time.
    width : int
        Hypotheses that are kept.
    """
    model, alphabet = language.model, language.alphabet
    spelling = Spelling(model, units, 1.0, EXTENSIONS * width, _MAX_CHARACTERS)
    cache = model.start(1)
    following = model.step(torch.from_numpy(alphabet.encode(BOUNDARY)), cache)
    gained, state = torch.zeros(1, dtype=torch.float64), brain.start()
    history: list[tuple[Tensor, list[str]]] = []
    for word in range(brain.n_words):
        base = torch.zeros(len(gained), dtype=torch.float64)
        found = spelling.find(base, following, cache, None, EXTENSIONS * width)
        found = found.select(_likely(found.parent, found.language))
        following, states = model.step_states(found.last(), found.cache)
        vectors = (states.double() - torch.from_numpy(encoder.mean)) / torch.from_numpy(encoder.scale)
        total = gained[found.parent] + brain.gains(state[found.parent], word, vectors)
        kept = largest(total, width)
        found, vectors, following, gained = found.select(kept), vectors[kept], following[kept], total[kept]
        state, cache = brain.advance(state[found.parent], word, vectors), found.cache
        history.append((found.parent, [words_of(alphabet.decode(row))[0] for row in found.letters.tolist()]))
    row, text = int(gained.argmax()), []
    best = float(gained[row])
    for parents, words in reversed(history):
        text.append(words[row])
        row = int(parents[row])
    return tuple(reversed(text)), best


def _likely(parent: Tensor, log_p: Tensor) -> Tensor:
    """Return the rows that are in the nucleus of their hypothesis."""
    kept = torch.zeros(len(parent), dtype=torch.bool)
    for hypothesis in torch.unique(parent):
        rows = torch.nonzero(parent == hypothesis)[:, 0]
        kept[rows] = torch.from_numpy(nucleus(log_p[rows].numpy()))
    return torch.nonzero(kept)[:, 0]


def decode(
    language: Language, units: Units, encoder: Encoder, listener: Listener, run: NDArray[np.floating], width: int
) -> Words:
    """Decode the text of a run; the times of its words are the listener's."""
    seconds = listener.word_times(run)
    text, _ = search(language, units, encoder, encoder.scores(run, seconds), width)
    onset, duration = word_spans(seconds, 0.0, len(run) * encoder.tr)
    return Words(onset, duration, text, tuple(spelled(word) for word in text))


def decode_with_controls(
    language: Language,
    units: Units,
    encoder: Encoder,
    listener: Listener,
    sources: dict[str, Sequence[NDArray[np.floating]]],
    language_alone: list[Words],
    width: int,
) -> list[Told]:
    """Return the texts of the test runs and of other sources, each a control of this baseline.

    Parameters
    ----------
    language, units, encoder, listener
    sources : dict of str to sequence of array of shape (n_volumes, n_voxels)
        The test runs under `MODEL`; rolled runs, noise and the like under their controls' names.
    language_alone : list of Words
        What the language model writes without a recording, at the same word times.
    width : int
    """
    units_of_state = len(encoder.mean)
    note = (
        f"features ({units_of_state} dimensions) and likely words from the study's own character language model, "
        f"{len(encoder.voxels)} voxels, beam of {width}"
    )
    told = [
        Told(name, [decode(language, units, encoder, listener, run, width) for run in runs],
             None if name == MODEL else MODEL, note if name == MODEL else "")
        for name, runs in sources.items()
    ]  # fmt: skip
    return [*told, Told(LANGUAGE_MODEL, language_alone, MODEL)]
