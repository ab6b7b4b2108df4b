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

MODEL = "beam"
LANGUAGE_MODEL, SHIFTED, NOISE, WORD_RATE = (
    f"control:{name}" for name in ("language_model", "shifted", "noise", "word_rate")
)
Run = NDArray[np.floating]


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


def decode_with_controls(reader: Reader, runs: Sequence[Run], rng: np.random.Generator) -> dict[str, list[Decoded]]:
    """Decode runs, and for each of them what the recording should not be able to say.

    Parameters
    ----------
    reader : Reader
    runs : sequence of array of shape (n_volumes, n_voxels)
        z-scored; nothing was fitted on them.
    rng : Generator
        Of shifts and noise.

    Returns
    -------
    dict of model to list of Decoded
        ``beam``; the language model alone at the same word times; the run rolled by a quarter to three quarters of
        its length (its own words at other times); noise with the autocorrelation of the residuals.
    """
    return {
        MODEL: [reader.read(run) for run in runs],
        LANGUAGE_MODEL: [reader.read_nothing(run) for run in runs],
        SHIFTED: [reader.read(rolled(run, rng)) for run in runs],
        NOISE: [reader.read(noise_like(run, reader.listener.phi, rng)) for run in runs],
    }


def rolled(run: Run, rng: np.random.Generator) -> Run:
    """Return a run in which every volume stands a quarter to three quarters of the run later."""
    return np.roll(run, int(rng.integers(len(run) // 4, 3 * len(run) // 4 + 1)), axis=0)


def noise_like(run: Run, phi: float, rng: np.random.Generator) -> Run:
    """Return AR(1) noise of the shape of a run, z-scored."""
    found = rng.standard_normal(run.shape)
    for t in range(1, len(found)):
        found[t] = phi * found[t - 1] + np.sqrt(1 - phi**2) * found[t]
    z: Run = ((found - found.mean(0)) / found.std(0)).astype(run.dtype)
    return z
