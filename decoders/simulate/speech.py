"""How long words and pauses last: constants measured on a real audiobook, and a speaker that uses them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from decoders.stimuli.text import Token, n_letters
from decoders.stimuli.textgrid import Tier
from decoders.stimuli.timings import SILENCES, Words

FLOOR_S = 0.06
COMMA_PAUSE_PROBABILITY = 0.7
_COMMAS, _STOPS = frozenset(",;:，、；："), frozenset(".!?。！？…")
_QUANTILES = 201


@dataclass(frozen=True)
class SpeechTiming:
    """Durations of words and pauses.

    Attributes
    ----------
    slope, intercept : float
        Duration of a word in seconds = slope * letters + intercept + residual.
    residual_quantiles, pause_quantiles : tuple of float
        Seconds at equally spaced probabilities from 0 to 1.
    """

    slope: float
    intercept: float
    residual_quantiles: tuple[float, ...]
    pause_quantiles: tuple[float, ...]


@cache
def speech_timing() -> SpeechTiming:
    """Return the constants that ship with the project (`fit_timing` of the Alice TextGrid, Brennan et al. 2016)."""
    values = json.loads((files("decoders.simulate") / "speech.json").read_text(encoding="utf-8"))
    return SpeechTiming(
        values["slope"], values["intercept"], tuple(values["residual_quantiles"]), tuple(values["pause_quantiles"])
    )


def fit_timing(tier: Tier) -> SpeechTiming:
    """Measure the constants on the word tier of a TextGrid.

    Parameters
    ----------
    tier : Tier
        Words and silences in time. Silences before the first and after the last word are no pauses.

    Returns
    -------
    SpeechTiming
        Rounded to 0.1 ms.
    """
    spoken = [i for i, interval in enumerate(tier.intervals) if interval.label.strip().lower() not in SILENCES]
    inner = tier.intervals[spoken[0] : spoken[-1] + 1]
    durations = np.array([tier.intervals[i].end - tier.intervals[i].start for i in spoken])
    letters = np.array([n_letters(tier.intervals[i].label) for i in spoken])
    slope, intercept = np.polyfit(letters, durations, 1)
    pauses = np.array([i.end - i.start for i in inner if i.label.strip().lower() in SILENCES])
    return SpeechTiming(
        round(float(slope), 6),
        round(float(intercept), 6),
        _quantiles(durations - slope * letters - intercept),
        _quantiles(pauses),
    )


def timing_json(timing: SpeechTiming) -> str:
    """Return the constants as the text of speech.json."""
    origin = (
        "decoders.simulate.speech.fit_timing of the word tier of the Alice TextGrid (Brennan et al. 2016, CC BY 4.0)"
    )
    return json.dumps({"origin": origin, **asdict(timing)}, indent=1) + "\n"


def speak(tokens: Sequence[Token], timing: SpeechTiming, rng: np.random.Generator) -> Words:
    """Give every word an onset and a duration, as a reader would.

    Parameters
    ----------
    tokens : sequence of Token
    timing : SpeechTiming
    rng : Generator

    Returns
    -------
    Words
        From 0 s on, rounded to milliseconds. After , ; : with probability .7 a pause of the shorter
        half of the measured ones, after . ! ? one of the longer half. No word is shorter than 60 ms.
    """
    letters = np.array([n_letters(token.word) for token in tokens])
    draws = rng.random((3, len(tokens)))
    fitted = timing.slope * letters + timing.intercept + _drawn(timing.residual_quantiles, draws[0])
    duration = _to_ms(np.maximum(FLOOR_S, fitted))
    pause = _to_ms(_pauses(tokens, timing, draws[1], draws[2]))
    onset = _to_ms(np.concatenate([[0.0], np.cumsum(duration + pause)[:-1]]))
    return Words(onset, duration, tuple(token.word for token in tokens), tuple(token.text for token in tokens))


def split_runs(words: Words, run_seconds: float, n_runs: int) -> list[Words]:
    """Cut speech into runs: a word belongs to the run its onset falls in; times start anew in each run.

    The last word of a run ends with the run.
    """
    runs = []
    for run in range(n_runs):
        part = words.between(run * run_seconds, (run + 1) * run_seconds)
        onset = _to_ms(part.onset - run * run_seconds)
        duration = _to_ms(np.minimum(part.duration, run_seconds - onset))
        runs.append(Words(onset, duration, part.word, part.text))
    return runs


def _pauses(
    tokens: Sequence[Token], timing: SpeechTiming, chance: NDArray[np.float64], draw: NDArray[np.float64]
) -> NDArray[np.float64]:
    marks = [_mark(token) for token in tokens]
    stop = np.array([mark == "." for mark in marks])
    comma = np.array([mark == "," for mark in marks]) & (chance < COMMA_PAUSE_PROBABILITY)
    shorter, longer = _drawn(timing.pause_quantiles, draw / 2), _drawn(timing.pause_quantiles, 0.5 + draw / 2)
    return np.where(stop, longer, np.where(comma, shorter, 0.0))


def _mark(token: Token) -> str:
    """Return "." where a sentence ends after the word, "," where a phrase does, else nothing."""
    characters = set(token.text)
    return "." if characters & _STOPS else "," if characters & _COMMAS else ""


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(q), 4) for q in np.quantile(values, np.linspace(0, 1, _QUANTILES)))


def _to_ms(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to milliseconds, so that a table of times holds exactly what was used."""
    return np.asarray(np.round(seconds, 3), dtype=np.float64)


def _drawn(quantiles: Sequence[float], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(uniform, np.linspace(0, 1, len(quantiles)), np.asarray(quantiles))
