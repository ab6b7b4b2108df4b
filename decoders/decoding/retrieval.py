"""The baseline of free text: ridge decoding of text features, and retrieval of the training passage that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.free_controls import NOISE, OTHER_SUBJECT, Told, noise_like, rolled
from decoders.decoding.free_scores import words_within
from decoders.decoding.free_text import Listener, Timing, text_features
from decoders.decoding.identification import sliding_windows, window_correlations
from decoders.decoding.likelihood import Floats
from decoders.decoding.refit import SHIFTED, decode_runs
from decoders.decoding.responses import TextFeatures
from decoders.stimuli.features import zscore_runs
from decoders.stimuli.timings import Words

MODEL = "ridge_retrieval"
Runs = Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class Passage:
    """A candidate: words with onsets relative to the window's, and the course of their features, flat."""

    words: Words
    course: Floats


def retrieve(
    train_x: Runs,
    train_heard: Sequence[Words],
    test_x: Runs,
    voxels: NDArray[np.int64],
    features: TextFeatures,
    timing: Timing,
    windows: Floats,
    n_folds: int,
) -> list[Words]:
    """Write into every window of the test runs the training passage whose features fit the decoded ones best.

    Parameters
    ----------
    train_x, test_x : sequence of array of shape (n_volumes, n_voxels)
        z-scored per run.
    train_heard : sequence of Words
        One per training run, in seconds of the run.
    voxels : array of int
        Those that are read.
    features : TextFeatures
    timing : Timing
        Its lags are those at which volumes answer.
    windows : array of shape (n_windows, 2)
        Onset and end in seconds; of equal length, and without overlap.
    n_folds : int
        Inner folds over runs for the penalty.

    Returns
    -------
    list of Words
        One text per test run. A window whose answer lies beyond the run stays empty.
    """
    # Text at its own times, without the response: that is what the ridge decodes.
    now = Timing(timing.tr, (0,), hrf=False)
    plain = [text_features(words, features, len(run), now) for words, run in zip(train_heard, train_x, strict=True)]
    targets = zscore_runs(plain)
    length = round(float(windows[0, 1] - windows[0, 0]) / timing.tr)
    candidates = _passages(train_heard, targets, length, timing.tr)
    decoded = decode_runs(train_x, targets, test_x, voxels, timing.lags, n_folds)
    return [_written(run, candidates, windows, length, timing.tr) for run in decoded]


def retrieve_with_controls(
    train_x: Runs,
    train_heard: Sequence[Words],
    test_x: Runs,
    listener: Listener,
    windows: Floats,
    n_folds: int,
    rng: np.random.Generator,
    others: Runs = (),
) -> list[Told]:
    """Return the retrieved texts, and those of rolled runs, noise and other subjects, as `free_controls` makes them."""
    sources = {
        MODEL: list(test_x),
        SHIFTED: [rolled(run, rng) for run in test_x],
        NOISE: [noise_like(run, listener, rng) for run in test_x],
    } | ({OTHER_SUBJECT: list(others)} if len(others) else {})
    every = [run for runs in sources.values() for run in runs]
    texts = iter(
        retrieve(train_x, train_heard, every, listener.voxels, listener.features, listener.timing, windows, n_folds)
    )
    return [
        Told(model, [next(texts) for _ in runs], None if model == MODEL else MODEL) for model, runs in sources.items()
    ]


def _passages(heard: Sequence[Words], targets: Sequence[Floats], length: int, tr: float) -> list[Passage]:
    """Return every stretch of the training runs, in steps of one volume."""
    found = []
    for words, run in zip(heard, targets, strict=True):
        if len(run) < length:
            continue
        for first, course in enumerate(sliding_windows(run, length)):
            start = first * tr
            inside = words_within(words, start, start + length * tr)
            found.append(Passage(replace(inside, onset=inside.onset - start), np.asarray(course, dtype=np.float64)))
    return found


def _written(
    decoded: NDArray[np.floating], candidates: Sequence[Passage], windows: Floats, length: int, tr: float
) -> Words:
    firsts = np.rint(windows[:, 0] / tr).astype(int).tolist()
    pairs = zip(windows[:, 0].tolist(), firsts, strict=True)
    kept = [(start, first) for start, first in pairs if first + length <= len(decoded)]
    if not kept or not candidates:
        return Words(np.empty(0), np.empty(0), (), ())
    courses = sliding_windows(decoded, length)[[first for _, first in kept]]
    best = window_correlations(courses, np.stack([passage.course for passage in candidates])).argmax(1)
    parts = [
        replace(candidates[number].words, onset=candidates[number].words.onset + start)
        for number, (start, _) in zip(best, kept, strict=True)
    ]
    return Words(
        np.concatenate([part.onset for part in parts]),
        np.concatenate([part.duration for part in parts]),
        tuple(word for part in parts for word in part.word),
        tuple(text for part in parts for text in part.text),
    )
