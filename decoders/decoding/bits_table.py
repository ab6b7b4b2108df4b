"""Bits per character of the heard text as rows of the decoding table: beside the language model, shifts and noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.free_bits import (
    Heard,
    calibration_runs,
    held_out_weight,
    run_nats,
    text_shifts,
)
from decoders.decoding.free_controls import LANGUAGE_MODEL, MODEL, Reader
from decoders.decoding.free_text import Runs
from decoders.decoding.likelihood import Floats
from decoders.decoding.next_words import NextWords, next_words
from decoders.decoding.refit import SHIFTED, Score, over_windows, shifted_row, window_row
from decoders.decoding.score_nulls import NULL, run_shifts
from decoders.stimuli.timings import Words

BITS, GAIN = "bits_per_char", "bits_gain"
METHOD = (
    "one-sided; {n} draws of {shifts} shifts of the text along its own words; "
    "the words before and the number of words are given, weight of the recording {weight:g}"
)
_UNTESTED = np.array([np.nan])


@dataclass(frozen=True)
class Bits:
    """The surprise of the words of the test runs, in bits, one array per run.

    Attributes
    ----------
    language : list of array of shape (n_words,)
        By the language model alone.
    brain : list of array of shape (n_orders, n_words)
        With the recording; first the text as it was heard, then moved within its run.
    controls : dict of str to list of array of shape (n_words,)
        With other recordings.
    characters : list of array of shape (n_words,)
    blocks : list of array of shape (n_words,)
        Stretch of time of each word: what is drawn for intervals.
    weight : float
        Of the recording.
    runs : list of int
        Which of the test runs these are: those with words.
    """

    language: list[Floats]
    brain: list[Floats]
    controls: dict[str, list[Floats]]
    characters: list[NDArray[np.int64]]
    blocks: list[NDArray[np.int64]]
    weight: float
    runs: list[int]


def measure_bits(
    reader: Reader,
    known_x: Runs,
    known: Sequence[Words],
    x: Runs,
    heard: Sequence[Words],
    others: Mapping[str, Runs],
    block_s: float,
    n_folds: int,
) -> Bits:
    """Measure what recordings tell of the texts that were heard in them.

    Parameters
    ----------
    reader : Reader
    known_x, x : sequence of array of shape (n_volumes, n_voxels)
        Training and test runs.
    known, heard : sequence of Words
        What was heard in them. Test runs without words are left out.
    others : mapping of str to sequence of array
        Recordings that cannot know the text, e.g. noise: for each test run one.
    block_s : float
        Seconds of a stretch of time.
    n_folds : int
        As for `fit_listener`.
    """
    language, units, listener = reader.language, reader.units, reader.listener
    held = [run for run in calibration_runs(len(known)) if len(known[run])]
    given = {run: next_words(language, units, known[run].word) for run in held}
    weight = held_out_weight(listener, known_x, known, given, units, n_folds)
    filled = [run for run in range(len(x)) if len(heard[run])]
    texts = {run: Heard(heard[run].word, next_words(language, units, heard[run].word)) for run in filled}

    def measured(runs: Runs, shifts: bool) -> list[Floats]:
        orders = (text_shifts(len(texts[run].words)) for run in filled)
        found = (
            run_nats(listener, runs[run], texts[run], units, order if shifts else order[:1], [weight])[0]
            for run, order in zip(filled, orders, strict=True)
        )
        return [nats / np.log(2) for nats in found]

    controls = {name: [bits[0] for bits in measured(runs, False)] for name, runs in others.items()}
    expected: list[NextWords] = [texts[run].expected for run in filled]
    return Bits(
        [-given.log_p / np.log(2) for given in expected], measured(x, True), controls,
        [given.characters for given in expected], [_blocks(heard[run], block_s) for run in filled], weight, filled,
    )  # fmt: skip


def _blocks(words: Words, seconds: float) -> NDArray[np.int64]:
    """Return the stretch of each word; what is left over at the end belongs to the last whole one."""
    last = max(int(words.middle[-1] // seconds) - 1, 0)
    return np.minimum(words.middle // seconds, last).astype(np.int64)


def bits_rows(
    found: Bits, about: Mapping[str, Any], n_nulls: int, rng: np.random.Generator, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the rows of the decoding table.

    Parameters
    ----------
    found : Bits
    about : mapping
        ``subject``, ``seed`` and ``task``.
    n_nulls : int
        Draws of a shift per run.
    rng : Generator
        Of intervals.
    seeds : sequence of int
        Of the shifts of each test run, as `story_seeds` returns them.

    Returns
    -------
    list of dict
        ``bits_per_char`` (fewer is better), and ``bits_gain``: bits per character that the recording saves over the
        language model, which is what is tested. The language model saves nothing, by definition and without an
        interval: the gain must lie above zero with its own.
    """
    size = sum(int(characters.sum()) for characters in found.characters)
    saved = [language - brain for language, brain in zip(found.language, found.brain, strict=True)]
    null = _drawn([gain.sum(1) for gain in saved], n_nulls, [seeds[run] for run in found.runs]) / size
    if not len(null):
        null = _UNTESTED  # a single word cannot be moved
    base = sum(float(bits.sum()) for bits in found.language) / size
    method = METHOD.format(n=len(null), shifts=min(len(gain) for gain in saved), weight=found.weight)
    own = _score(found, [gain[0] for gain in saved], null, rng)
    gains = {MODEL: own, LANGUAGE_MODEL: Score(0.0, np.nan, np.nan, own.n, _UNTESTED)}
    shifted = shifted_row(about, GAIN, own)
    plain = _score(found, found.language, _UNTESTED, rng)
    bits = {MODEL: _score(found, [part[0] for part in found.brain], base - null, rng), LANGUAGE_MODEL: plain}
    middle, low, high = (base - shifted[key] for key in ("score", "ci_high", "ci_low"))
    bits[SHIFTED] = Score(middle, low, high, own.n, _UNTESTED)
    for name, parts in found.controls.items():
        bits[name] = _score(found, parts, _UNTESTED, rng)
        less = [language - part for language, part in zip(found.language, parts, strict=True)]
        gains[name] = _score(found, less, _UNTESTED, rng)
    rows = [window_row(about, name, GAIN, score, method) for name, score in gains.items()] + [shifted]
    untested = {"p": np.nan, "method": np.nan, NULL: None}
    rows += [window_row(about, name, BITS, score, "") | untested for name, score in bits.items()]
    return [{**row, "control_of": None if row["model"] == MODEL else MODEL} for row in rows]


def _score(found: Bits, bits: Sequence[Floats], null: Floats, rng: np.random.Generator) -> Score:
    """Return bits per character over all words, with its interval over stretches of time."""
    sums, sizes = [], []
    for run, characters, blocks in zip(bits, found.characters, found.blocks, strict=True):
        sums.append(np.bincount(blocks, weights=run))
        sizes.append(np.bincount(blocks, weights=characters))
    total, size = np.concatenate(sums), np.concatenate(sizes)
    total, size = total[size > 0], size[size > 0]
    ratio = total.sum() / size.sum()
    # A ratio of sums, to first order: its mean is the ratio, and stretches with more characters weigh more.
    return over_windows(ratio + (total - ratio * size) / size.mean(), null, rng)


def _drawn(runs: Sequence[Floats], n_nulls: int, seeds: Sequence[int]) -> Floats:
    """Return the sum over runs of one shift each, shape (n_nulls,); all of them where they are no more than that.

    No shift is as likely as any other. Of all combinations the text as it was heard is left out: p counts it anyway.
    """
    # Draws that repeat a few combinations would let p fall below one in their number.
    if math.prod(len(shifts) for shifts in runs) <= n_nulls:
        return np.array([sum(chosen) for chosen in itertools.product(*runs)][1:], dtype=np.float64)
    drawn = run_shifts([len(run) for run in runs], n_nulls, seeds)
    return np.asarray(np.sum([run[shifts] for run, shifts in zip(runs, drawn, strict=True)], axis=0), dtype=np.float64)
