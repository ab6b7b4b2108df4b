"""A made-up listener: runs that answer to words of a tiny vocabulary, and a character model of it."""

from functools import cache

import numpy as np
import torch

from decoders.decoding.free_text import Timing, fit_listener, text_features
from decoders.decoding.language import CharacterModel, Language
from decoders.decoding.responses import WordVectors
from decoders.decoding.symbols import Alphabet
from decoders.stimuli.embedding import Embedding
from decoders.stimuli.text import windows
from decoders.stimuli.timings import Words

VOCABULARY = ("a", "ab", "abba", "b", "ba", "bab", "cab", "cc")
TR, N_VOLUMES = 2.0, 60
TIMING = Timing(TR, lags=(1, 2, 3))
WINDOWS = windows(0, 112, 14)
MEANING = WordVectors(Embedding(VOCABULARY, np.random.default_rng(5).standard_normal((8, 6))), count=False)
FEATURES = WordVectors(MEANING.embedding)


def speech(rng):
    """Words of half a second to a second, with pauses."""
    gaps = rng.uniform(0.5, 1.0, 300) + 3.0 * (rng.random(300) < 0.05)
    onset = np.cumsum(gaps)
    onset = onset[onset < TR * N_VOLUMES - 1]
    words = tuple(str(word) for word in rng.choice(VOCABULARY, len(onset)))
    return Words(onset, np.full(len(onset), 0.4), words, tuple(word + " " for word in words))


@cache
def listened(n_runs=7, n_voxels=30, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    heard = [speech(rng) for _ in range(n_runs)]
    weights = np.concatenate([rng.standard_normal((7, 20)), np.zeros((7, n_voxels - 20))], 1)
    runs = []
    for words in heard:
        signal = text_features(words, FEATURES, N_VOLUMES, TIMING) @ weights
        innovation = rng.standard_normal(signal.shape)
        error = np.zeros_like(signal)
        for t in range(N_VOLUMES):
            error[t] = 0.4 * error[t - 1] + innovation[t]
        run = signal / max(signal.std(), 1e-9) + noise * error
        runs.append(((run - run.mean(0)) / run.std(0)).astype(np.float32))
    return runs, heard


@cache
def listener(timing=TIMING):
    runs, heard = listened()
    return fit_listener(runs[:5], heard[:5], np.arange(20), FEATURES, timing)


@cache
def language():
    torch.manual_seed(0)
    model = CharacterModel(5, n_units=8, n_layers=1, n_heads=2, window=8, dropout=0.0).eval()
    return Language(model, Alphabet("\ufffd abc"))
