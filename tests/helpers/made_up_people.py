"""Made-up people who hear the same stories: linear responses, and voxels of one person rotated against another's."""

import numpy as np

from decoders.config import AcrossSettings
from decoders.decoding.across_methods import Given, Others
from decoders.decoding.across_people import Common, Person

N_TARGETS, N_VOLUMES, TR, LAGS = 4, 60, 2.0, (1, 2, 3, 4)
GRID = (3, 3, 3)
MASK = np.ones(GRID, dtype=bool)
COMMON = Common(MASK, TR, LAGS, 3)
SETTINGS = AcrossSettings(epochs=30, width=8, hidden=16, components=12)


def stories(n_runs, seed=0):
    """Text features of each run, z-scored."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((N_VOLUMES, N_TARGETS)).astype(np.float32) for _ in range(n_runs)]


def rotation(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def course(text, seed=1):
    """The response of 27 common dimensions to a text, delayed by one to four volumes."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((len(LAGS), N_TARGETS, MASK.sum())) * np.array([0.5, 1, 0.7, 0.3])[:, None, None]
    out = np.zeros((len(text), MASK.sum()))
    for lag, weight in zip(LAGS, weights, strict=True):
        out[lag:] += text[:-lag] @ weight
    return out


def listener(texts, turn, noise, seed):
    """Runs of a person whose voxels are a rotation of the common dimensions, in noise."""
    rng = np.random.default_rng(seed)
    runs = []
    for text in texts:
        run = course(text) @ turn
        run = run / run.std() + noise * rng.standard_normal(run.shape)
        runs.append(((run - run.mean(0)) / run.std(0)).astype(np.float32))
    return runs


def person(turn, n_runs=6, noise=1.0, seed=0):
    texts = stories(n_runs)
    told = [(f"story {i}", 0.0, N_VOLUMES) for i in range(n_runs)]
    return Person(listener(texts, turn, noise, seed), texts, told, np.arange(MASK.sum()))


def others(n=2, settings=SETTINGS, noise=1.0):
    people = [person(rotation(27, 10 + i), noise=noise, seed=20 + i) for i in range(n)]
    return Others(people, np.arange(27), COMMON, settings, 0)


def newcomer(n_given, noise=1.0, seed=5):
    """A new person with as many given runs, and three further runs with their texts."""
    texts = stories(9)
    x = listener(texts, rotation(27, 99), noise, seed)
    told = [(f"story {i}", 0.0, N_VOLUMES) for i in range(n_given)]
    voxels = np.arange(27)
    return Given(Person(x[:n_given], texts[:n_given], told, voxels), voxels), x[6:], texts[6:]
