"""Which window of text was heard, told from sensors, beside all that could tell it without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import MegDecodingSettings
from decoders.decoding.meg_encoder import train_encoder
from decoders.decoding.meg_gate import with_null_text
from decoders.decoding.meg_runs import COLUMNS, Stretch, fold_parts, resampled
from decoders.decoding.refit import Score, decode_runs, identification_scores, shifted_row, window_row
from decoders.decoding.splits_meg import SETTING
from decoders.decoding.text_extras import absent_row

ENCODER, RIDGE, ALL = "encoder", "bottleneck_refit", "ridge_all_sensors"
METHOD = "one-sided; {n} circular shifts of the text, answers kept"
NO_SENSOR = "no sensor lies above the null gates"
METRICS = ("percentile", "top1", "top10")
_COMPONENTS, _CONTROL_NULLS = 100, 20
Runs = list[NDArray[np.floating]]


def window_rows(
    train: Sequence[Stretch],
    test: Sequence[Stretch],
    others: Sequence[Stretch] | str,
    chosen: NDArray[np.int64],
    settings: MegDecodingSettings,
    about: Mapping[str, Any],
    seed: int,
    rng: np.random.Generator,
    shifts: Sequence[int],
) -> tuple[list[dict[str, Any]], dict[str, Runs]]:
    """Identify the windows of held-out runs by every model, and by its controls.

    Parameters
    ----------
    train, test : sequence of Stretch
        With their text.
    others : sequence of Stretch, or str
        A recording of another subject for each of `test`, or why there is none.
    chosen : array of int
        Sensors above the null gates; there may be none.
    settings : MegDecodingSettings
    about : mapping
        ``subject``, ``seed``, ``task``, ``split``.
    seed : int
        Of the encoders.
    rng : Generator
        Of noise, null pairings and intervals.
    shifts : sequence of int
        Seeds of the shifts of each of `test`, as `story_seeds` returns them.

    Returns
    -------
    rows : list of dict
        ``encoder`` and ``bottleneck_refit`` read the chosen sensors, ``ridge_all_sensors`` all of them. Controls of
        each: ``shifted``, ``noise``, ``other_subject``, ``shuffled`` (trained on a null pairing), and of its decoded
        features the word count (``word_rate``) and the seconds of speech (``duration``) alone. ``position`` belongs to
        all: the mean of the training runs at the same place.
    decoded : dict of str to list of array of shape (n_samples, n_features)
        What each model reads out of the held-out runs.
    """
    noise = [noise_like(run, train, rng) for run in test]
    strangers = [] if isinstance(others, str) else list(others)
    shuffled = with_null_text(train, rng)
    every = np.arange(train[0].slow.shape[1])
    inputs = [*test, *noise, *strangers]
    found: dict[str, tuple[Runs, Runs, Runs]] = {}
    if len(chosen):
        encoder, blind = (train_encoder(runs, chosen, settings, seed) for runs in (train, shuffled))
        found[ENCODER] = encoder.predict(inputs), blind.predict(test), [run.text * encoder.scale for run in test]
    plain: Runs = [run.text for run in test]
    for name, sensors in ((RIDGE, chosen), (ALL, every)):
        if len(sensors):
            read, blind_read = (
                ridge_decode(runs, given, sensors, settings) for runs, given in ((train, inputs), (shuffled, test))
            )
            found[name] = read, blind_read, plain
    rows: list[dict[str, Any]] = []
    for name, (read, blind_read, text) in found.items():
        parts = {
            name: read[: len(test)],
            "control:noise": read[len(test) : 2 * len(test)],
            "control:shuffled": blind_read,
        }
        if strangers:
            parts["control:other_subject"] = read[2 * len(test) :]
        rows += _model_rows(name, parts, text, settings, about, rng, shifts)
        if isinstance(others, str):
            rows += [_absent(about, "control:other_subject", metric, others, name) for metric in METRICS[:2]]
    rows += [
        _absent(about, name, metric, NO_SENSOR, None)
        for name in (ENCODER, RIDGE)
        if name not in found
        for metric in METRICS[:2]
    ]
    place = _identified(_places(train, test), plain, settings, rng, shifts, _CONTROL_NULLS)
    rows += [window_row(about, "control:position", metric, score, "") for metric, score in place.items()]
    return rows, {name: read[: len(test)] for name, (read, _, _) in found.items()}


def ridge_decode(
    train: Sequence[Stretch], given: Sequence[Stretch], sensors: NDArray[np.int64], settings: MegDecodingSettings
) -> Runs:
    """Fit a ridge decoder of delayed sensors on training runs, and read the text features of other runs.

    Sensors are first brought to their principal components in the training runs, 100 at most: neighbouring sensors
    measure much the same, and the penalties are chosen on parts of runs that are held out in turn.

    Returns
    -------
    list of array of shape (n_samples - response, n_features)
    """
    parts = fold_parts(train, settings)
    stacked = np.concatenate([part.slow[:, sensors] for part in parts]).astype(np.float64)
    _, vectors = np.linalg.eigh(stacked.T @ stacked)
    basis = vectors[:, ::-1][:, :_COMPONENTS].astype(np.float32)
    lags = tuple(range(round(settings.response_s * settings.text_hz) + 1))
    known, new = ([run.slow[:, sensors] @ basis for run in runs] for runs in (parts, given))
    return decode_runs(known, [part.text for part in parts], new, np.arange(basis.shape[1]), lags, settings.folds)


def noise_like(run: Stretch, train: Sequence[Stretch], rng: np.random.Generator) -> Stretch:
    """Return noise with the covariance of the sensors in the training runs and the autocorrelation of each: AR(1)."""
    from dataclasses import replace

    from scipy.signal import lfilter

    x = np.concatenate([one.fast for one in train]).astype(np.float64)
    covariance = x.T @ x / len(x)
    root = np.linalg.cholesky(covariance + 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    phi = np.clip((x[1:] * x[:-1]).mean(0) / (x**2).mean(0), 0.0, 0.99)
    common = float(phi.mean())
    white = rng.standard_normal((len(run.fast), len(covariance))) @ root.T
    fast = lfilter([np.sqrt(1 - common**2)], [1, -common], white, axis=0)
    fast = (fast - fast.mean(0)) / fast.std(0)
    slow = resampled(fast, run.factor * run.hz, run.hz, "noise")[: len(run.slow)]
    return replace(run, fast=fast.astype(np.float32), slow=slow.astype(np.float32))


def _model_rows(
    name: str, parts: Mapping[str, Runs], text: Runs, settings: MegDecodingSettings, about: Mapping[str, Any],
    rng: np.random.Generator, shifts: Sequence[int],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of a model and of its own controls."""
    scored = {
        who: _identified(read, text, settings, rng, shifts, settings.n_nulls if who == name else _CONTROL_NULLS)
        for who, read in parts.items()
    }
    for column, control in enumerate(COLUMNS[:2]):
        one = slice(column, column + 1)
        read, heard = ([run[:, one] for run in side] for side in (parts[name], text))
        scored[f"control:{control}"] = _identified(read, heard, settings, rng, shifts, _CONTROL_NULLS)
    method = METHOD.format(n=settings.n_nulls)
    rows = [
        {**window_row(about, who, metric, score, method), "control_of": None if who == name else name}
        for who, scores in scored.items()
        for metric, score in scores.items()
    ]
    return rows + [{**shifted_row(about, metric, score), "control_of": name} for metric, score in scored[name].items()]


def _identified(
    read: Runs, text: Runs, settings: MegDecodingSettings, rng: np.random.Generator, shifts: Sequence[int], n_nulls: int
) -> dict[str, Score]:
    """Return the scores of windows; samples beyond either side are left out."""
    length = round(settings.window_s * settings.text_hz)
    pairs = [(run[: len(true)], true[: len(run)]) for run, true in zip(read, text, strict=True)]
    n_windows = min(len(run) // length for run, _ in pairs)
    tops = (10,) if n_windows > 20 else ()
    sides: tuple[Runs, Runs] = ([run for run, _ in pairs], [true for _, true in pairs])
    return identification_scores(*sides, length, rng, shifts, n_nulls, tops, f"{SETTING}.window_s")[0]


def _places(train: Sequence[Stretch], test: Sequence[Stretch]) -> Runs:
    """Return, for each held-out run, the mean text of the training runs at the same samples."""
    longest = max(len(run.text) for run in test)
    total, count = np.zeros((longest, train[0].text.shape[1])), np.zeros(longest)
    for run in train:
        n = min(longest, len(run.text))
        total[:n] += run.text[:n]
        count[:n] += 1
    mean = total / np.maximum(count, 1)[:, None]
    return [mean[: len(run.text)] for run in test]


def _absent(about: Mapping[str, Any], model: str, metric: str, why: str, of: str | None) -> dict[str, Any]:
    return {**absent_row(about, model, metric, why), "control_of": of}
