"""What stands beside a freely decoded text: the same search on recordings that cannot know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.beam import SearchOptions
from decoders.decoding.free_text import Decoded, Listener, decode_run
from decoders.decoding.language import Language
from decoders.decoding.lexicon import Units
from decoders.decoding.refit import SHIFTED
from decoders.stimuli.timings import Words

MODEL = "beam"
LANGUAGE_MODEL, NOISE, POSITION, WORD_RATE, OTHER_SUBJECT = (
    f"control:{name}" for name in ("language_model", "noise", "position", "word_rate", "other_subject")
)
Run = NDArray[np.floating]


@dataclass(frozen=True)
class Told:
    """Texts of all test runs by a model, or by a control of it.

    Attributes
    ----------
    model : str
    texts : list of Words
        One per test run, in seconds of the run.
    control_of : str or None
        The model that a control belongs to; None for a model, and for a control of all models.
    note : str
        What the method of its rows has to say beside how p was made.
    """

    model: str
    texts: list[Words]
    control_of: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Reader:
    """All that decodes a run of one listener."""

    listener: Listener
    language: Language
    units: Units
    options: SearchOptions

    def read(self, run: Run) -> Decoded:
        """Return the text of a run, its length and the times of its words included."""
        return decode_run(self.listener, run, self.language, self.units, self.options)

    def read_nothing(self, run: Run) -> Decoded:
        """Return what the language model alone writes at the word times that the run gives."""
        seconds = self.listener.word_times(run)
        blind = replace(self.options, brain_weight=0.0)
        return decode_run(self.listener, run, self.language, self.units, blind, seconds)


def decode_with_controls(
    reader: Reader, runs: Sequence[Run], rng: np.random.Generator, others: Sequence[Run] = ()
) -> list[Told]:
    """Decode runs, and for each of them what the recording should not be able to say.

    Parameters
    ----------
    reader : Reader
    runs : sequence of array of shape (n_volumes, n_voxels)
        z-scored; nothing was fitted on them.
    rng : Generator
        Of shifts and noise.
    others : sequence of array of shape (n_volumes, n_voxels)
        Recordings of other subjects, one per run; none, where there is no other subject.

    Returns
    -------
    list of Told
        ``beam``; the language model alone at the same word times; the run rolled by a quarter to three quarters of
        its length (its own words at other times); noise with the covariance and autocorrelation of the residuals.
    """
    read = {
        MODEL: [reader.read(run) for run in runs],
        LANGUAGE_MODEL: [reader.read_nothing(run) for run in runs],
        SHIFTED: [reader.read(rolled(run, rng)) for run in runs],
        NOISE: [reader.read(noise_like(run, reader.listener, rng)) for run in runs],
    }
    if len(others):
        read[OTHER_SUBJECT] = [reader.read(run) for run in others]
    return [
        Told(model, [decoded.words for decoded in found], None if model == MODEL else MODEL)
        for model, found in read.items()
    ]


def other_stories(heard: Sequence[Words], n_runs: int, rng: np.random.Generator) -> Told:
    """Return, for each test run, the text of a training run at the same times: what its place alone tells."""
    return Told(POSITION, [heard[int(rng.integers(len(heard)))] for _ in range(n_runs)])


def rolled(run: Run, rng: np.random.Generator) -> Run:
    """Return a run in which every volume stands a quarter to three quarters of the run later."""
    return np.roll(run, int(rng.integers(len(run) // 4, 3 * len(run) // 4 + 1)), axis=0)


def noise_like(run: Run, listener: Listener, rng: np.random.Generator) -> Run:
    """Return noise as the encoding model leaves it unexplained, z-scored: AR(1), with the covariance of voxels.

    Voxels that are not read are white.
    """
    found = rng.standard_normal(run.shape)
    read = listener.voxels
    spread = listener.noise.matrix + 1e-9 * np.trace(listener.noise.matrix) / len(read) * np.eye(len(read))
    found[:, read] = found[:, read] @ np.linalg.cholesky(spread).T
    for t in range(1, len(found)):
        found[t] = listener.phi * found[t - 1] + np.sqrt(1 - listener.phi**2) * found[t]
    z: Run = ((found - found.mean(0)) / found.std(0)).astype(run.dtype)
    return z
