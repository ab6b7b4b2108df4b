"""Scores of encoding models beside their nulls and controls, as rows of the decoding table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import EncodingSettings
from decoders.decoding.content import CONTROL, GAIN, MODEL, NO_GAIN, Content
from decoders.decoding.encoding import (
    Design,
    Sets,
    block_r,
    held_out_r,
    jackknife_groups,
    own_sets,
    predict_held_out,
    rolled,
    sets_of,
    stack,
)
from decoders.decoding.identification import block_percentiles
from decoders.decoding.splits_encode import N_DRAWS, Members, group_members
from decoders.stats.permutation import circular_shifts, permutation_p
from decoders.stats.resampling import bootstrap_interval, mean_interval, t_interval

_NULL_OF = {True: "texts that nobody heard, at the heard times", False: "circular shifts of the features"}
Floats = NDArray[np.floating]
Scores = dict[str, NDArray[np.float64]]
_METRIC = {"encoding": "r", f"encoding{GAIN}": "r"}


@dataclass
class Result:
    """Rows for ``decoding/scores.tsv`` and the arrays behind them.

    Attributes
    ----------
    table : DataFrame
    predicted, measured : dict of str to array of shape (n_samples, n_regions)
        Of ``group``, the mean where all heard the same, else of each subject.
    nulls : dict of str to array of shape (n_nulls,)
        Null of the scores of the same names, by ``name/split/task``.
    region_r : array of shape (n_subjects, n_regions)
        Of the first rows of `table` at the level of subjects.
    """

    table: pd.DataFrame
    predicted: dict[str, Floats]
    measured: dict[str, Floats]
    region_r: NDArray[np.float64]
    nulls: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def windows_of(settings: EncodingSettings, tr: float) -> dict[str, int]:
    """Return the window lengths in samples by task, e.g. ``{"window_10s": 5}``."""
    return {f"window_{seconds:g}s": max(2, round(seconds / tr)) for seconds in settings.windows_s}


def evaluate(features: Floats, sets: Sets, design: Design, windows: Mapping[str, int]) -> Scores:
    """Score every set: encoding r (mean over regions) and the percentile of each window length.

    Returns
    -------
    dict of str to array of shape (n_sets,)
    """
    predicted = predict_held_out(features, sets.train, design)
    return over_blocks(score_blocks(sets.test, predicted, design, windows))


def score_blocks(measured: Floats, predicted: Floats, design: Design, windows: Mapping[str, int]) -> Scores:
    """Score held-out predictions of shape (n_sets, n_samples, n_regions) block by block.

    Returns
    -------
    dict of str to array of shape (n_blocks, n_sets)
        Window tasks leave out blocks that do not hold two windows.
    """
    scores = {"encoding": block_r(measured, predicted, design.splits).mean(-1)}
    for task, length in windows.items():
        scores[task] = block_percentiles(measured, predicted, design.splits, length)
    return scores


def over_blocks(blocks: Scores) -> Scores:
    """Return the means over blocks, shape (n_sets,); not a number where there is no block."""
    return {task: part.mean(0) if len(part) else np.full(part.shape[1], np.nan) for task, part in blocks.items()}


def shared_scores(
    data: Floats,
    subjects: Sequence[str],
    features: Floats,
    controls: Mapping[str, Floats],
    design: Design,
    settings: EncodingSettings,
    tr: float,
    rng: np.random.Generator,
    members: Mapping[str, Members] | None = None,
    content: Content | None = None,
) -> Result:
    """Score subjects who heard the same: the group's mean, one unseen subject, several unseen ones averaged.

    Parameters
    ----------
    data : array of shape (n_subjects, n_samples, n_regions)
    subjects : sequence of str
    features : array of shape (n_samples, n_features)
    controls : mapping of str to array of shape (n_samples, n_control_features)
        Alternative features, by the name of the control.
    design, settings, tr
        The split, the settings, seconds per sample.
    rng : Generator
        Draws the shifts of the null, and the averaged subjects where they are not declared.
    members : mapping of str to (tuple of int, tuple of int), optional
        Declared sets: who trains, who is tested (`decoders.decoding.splits_encode`).
    content : Content, optional
        Then what content adds to timing is tested as well.

    Returns
    -------
    Result
    """
    windows = windows_of(settings, tr)
    sets, where = _shared_sets(data, members or group_members(subjects, settings.average_subjects, rng))
    predicted = predict_held_out(features, sets.train, design)
    observed = score_blocks(sets.test, predicted, design, windows)
    nulls = null_scores(features, _without_jackknife(sets, where), design, windows, settings.n_nulls, rng)
    ratio = settings.average_subjects / max(1, len(data) - settings.average_subjects)
    rows = [
        *_shared_rows("ridge", observed, nulls, where, subjects, ratio, rng),
        *_null_rows("control:shifted", nulls, where),
    ]
    for name, alternative in controls.items():
        blocks = score_blocks(sets.test, predict_held_out(alternative, sets.train, design), design, windows)
        rows += _shared_rows(f"control:{name}", blocks, None, where, subjects, ratio, rng)
    if content is not None:
        gains = gain_blocks(observed, content, sets, design, windows)
        null = gain_null(content, _without_jackknife(sets, where), design, windows)
        rows += _shared_rows(MODEL, gains, null, where, subjects, ratio, rng)
        rows += _null_rows(CONTROL, null, where)
        at = where["unseen_subject"].start
        for task, drawn in null.items():
            rows += [
                _null_row(CONTROL, "subject", subject, "unseen_subject", task, drawn[:, at + i])
                for i, subject in enumerate(subjects)
            ]
        rows += _no_gain_rows(rows)
    unseen = where["unseen_subject"]
    region_r = held_out_r(sets.test[unseen], predicted[unseen], design.splits)
    kept = {
        f"group/{split}/{task}": null[:, where[split]].mean(1)
        for split in _GROUP
        if split in where
        for task, null in nulls.items()
    }
    return Result(pd.DataFrame(rows), {"group": predicted[0]}, {"group": sets.test[0]}, region_r, kept)


def own_scores(
    data: Floats,
    subject: str,
    features: Floats,
    controls: Mapping[str, Floats],
    design: Design,
    settings: EncodingSettings,
    tr: float,
    rng: np.random.Generator,
    content: Content | None = None,
) -> Result:
    """Score one subject by its own other blocks or runs.

    Arguments as in `shared_scores`, with data of shape (n_samples, n_regions).
    """
    windows, sets = windows_of(settings, tr), own_sets(data[None])
    predicted = predict_held_out(features, sets.train, design)
    nulls = null_scores(features, sets, design, windows, settings.n_nulls, rng)
    models = {"ridge": predicted}
    models |= {f"control:{name}": predict_held_out(other, sets.train, design) for name, other in controls.items()}
    scored = {model: score_blocks(sets.test, other, design, windows) for model, other in models.items()}
    tested = {"ridge": ("control:shifted", nulls)}
    if content is not None:
        scored[MODEL] = gain_blocks(scored["ridge"], content, sets, design, windows)
        tested[MODEL] = (CONTROL, gain_null(content, sets, design, windows))
    rows = []
    for model, blocks in scored.items():
        for task, score in over_blocks(blocks).items():
            null = tested[model][1][task][:, 0] if model in tested else None
            limits = mean_interval(blocks[task][:, 0])
            rows.append(_row("subject", subject, "unseen_time", task, model, score[0], null, *limits))
    for control, null_of in tested.values():
        rows += [
            _null_row(control, "subject", subject, "unseen_time", task, null[:, 0]) for task, null in null_of.items()
        ]
    region_r = held_out_r(sets.test, predicted, design.splits)
    kept = {f"{subject}/unseen_time/{task}": null[:, 0] for task, null in nulls.items()}
    rows += _no_gain_rows(rows)
    return Result(pd.DataFrame(rows), {subject: predicted[0]}, {subject: data}, region_r, kept)


def null_scores(
    features: Floats,
    sets: Sets,
    design: Design,
    windows: Mapping[str, int],
    n_nulls: int,
    rng: np.random.Generator,
) -> Scores:
    """Score models that are fitted to features rolled in time: the same autocorrelation, the wrong moments.

    Small shifts are nulls too: what slow courses share by luck lasts, and must be met by luck that lasts as long.

    Returns
    -------
    dict of str to array of shape (n_nulls, n_sets)
    """
    shortest = int(np.bincount(design.segment).min())
    shifts = circular_shifts(shortest, n_nulls, rng)
    draws = [evaluate(rolled(features, design, int(shift)), sets, design, windows) for shift in shifts]
    return {task: np.stack([draw[task] for draw in draws]) for task in draws[0]}


_GROUP = ("unseen_time", "unseen_subject", "unseen_subjects_averaged")


def _shared_sets(data: Floats, members: Mapping[str, Members]) -> tuple[Sets, dict[str, slice]]:
    chosen = {kind: [pair for name, pair in members.items() if name.split("/")[0] == kind] for kind in _GROUP}
    parts = {kind: sets_of(data, pairs) for kind, pairs in chosen.items() if pairs}
    # The jackknife stands last, so that the nulls can leave it out.
    parts["jackknife"] = jackknife_groups(data)
    sets, where = stack(list(parts.values()))
    return sets, dict(zip(parts, where, strict=True))


def _without_jackknife(sets: Sets, where: Mapping[str, slice]) -> Sets:
    end = where["jackknife"].start
    return Sets(sets.train[:end], sets.test[:end])


def _shared_rows(
    model: str,
    blocks: Scores,
    nulls: Scores | None,
    where: Mapping[str, slice],
    subjects: Sequence[str],
    ratio: float,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    for task, scores in over_blocks(blocks).items():
        null = None if nulls is None else nulls[task]
        for split in _GROUP:
            if split in where:
                part = scores[where[split]]
                low, high = _interval(split, part, scores[where["jackknife"]], ratio, rng)
                if model.startswith("control:"):
                    low, high = _no_narrower(low, high, blocks[task][:, where[split]].mean(1))
                group_null = None if null is None else null[:, where[split]].mean(1)
                n = N_DRAWS if split == "unseen_subjects_averaged" else len(subjects)
                yield _row("group", "group", split, task, model, part.mean(), group_null, low, high, n)
        for i, subject in enumerate(subjects):
            at = where["unseen_subject"].start + i
            own_null = None if null is None else null[:, at]
            limits = mean_interval(blocks[task][:, at])
            yield _row("subject", subject, "unseen_subject", task, model, scores[at], own_null, *limits)


def _interval(
    split: str, scores: NDArray[np.float64], jackknife: NDArray[np.float64], ratio: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return 95 % limits over subjects; `ratio` is that of averaged subjects to the others."""
    if split == "unseen_subject":
        return bootstrap_interval(scores, rng)
    if split == "unseen_time":
        n = len(jackknife)
        variance = (n - 1) / n * ((jackknife - jackknife.mean()) ** 2).sum()
        low, high = t_interval(scores[0], variance, n - 1)
        return float(low), float(high)
    # Draws that keep k of n subjects: the delete-d jackknife, whose spread counts k / (n - k) (Shao & Wu 1989).
    low, high = t_interval(scores.mean(), ratio * scores.var(ddof=1), len(scores) - 1)
    return float(low), float(high)


def _no_narrower(low: float, high: float, blocks: NDArray[np.float64]) -> tuple[float, float]:
    """Return the limits of a control over subjects, no narrower than those over held-out blocks (n_blocks,).

    All subjects heard the same blocks: what a control makes of them by chance is not averaged away over subjects.
    """
    limits = mean_interval(blocks)
    return float(np.fmin(low, limits[0])), float(np.fmax(high, limits[1]))


def _null_rows(control: str, nulls: Scores, where: Mapping[str, slice]) -> Iterator[dict[str, Any]]:
    for task, null in nulls.items():
        for split in _GROUP:
            if split in where:
                yield _null_row(control, "group", "group", split, task, null[:, where[split]].mean(1))


def _null_row(
    control: str, level: str, subject: str, split: str, task: str, null: NDArray[np.float64]
) -> dict[str, Any]:
    """Return a null as a control, with the limits that hold 95 % of it."""
    low, high = np.quantile(null, [0.025, 0.975])
    return _row(level, subject, split, task, control, float(null.mean()), None, float(low), float(high), len(null))


def _no_gain_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return timing alone as a control beside every gain: its gain is 0, and it has no interval."""
    return [
        _row(row["level"], row["subject"], row["split"], row["task"], NO_GAIN, 0.0)
        for row in rows
        if row["model"] == MODEL
    ]


def gain_blocks(observed: Scores, content: Content, sets: Sets, design: Design, windows: Mapping[str, int]) -> Scores:
    """Return the scores of blocks beyond those of timing alone, shape (n_blocks, n_sets), by ``<task>_gain``."""
    timing = score_blocks(sets.test, predict_held_out(content.timing, sets.train, design), design, windows)
    return {f"{task}{GAIN}": blocks - timing[task] for task, blocks in observed.items()}


def gain_null(content: Content, sets: Sets, design: Design, windows: Mapping[str, int]) -> Scores:
    """Return the same of each surrogate, means over blocks, shape (n_surrogates, n_sets)."""
    timing = evaluate(content.timing, sets, design, windows)
    draws = [evaluate(features, sets, design, windows) for features in content.surrogates]
    return {f"{task}{GAIN}": np.stack([draw[task] - scores for draw in draws]) for task, scores in timing.items()}


def _row(
    level: str, subject: str, split: str, task: str, model: str, score: float,
    null: NDArray[np.float64] | None = None, low: float = np.nan, high: float = np.nan, n: int = 1,
) -> dict[str, Any]:  # fmt: skip
    return {
        "level": level, "subject": subject, "split": split, "seed": np.nan, "task": task, "model": model,
        "metric": _METRIC.get(task, "percentile"), "score": float(score), "ci_low": low, "ci_high": high, "n": n,
        "null_mean": np.nan if null is None else float(null.mean()),
        "p": np.nan if null is None else float(permutation_p(float(score), null)), "p_corrected": np.nan,
        "method": np.nan if null is None else f"one-sided; {len(null)} {_NULL_OF[task.endswith(GAIN)]}, refitted",
    }  # fmt: skip
