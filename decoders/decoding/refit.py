"""Localise, then refit: ridge decoders on chosen voxels, and identification on runs that nothing has seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.identification import Identified, identify_runs
from decoders.decoding.maps import run_folds
from decoders.decoding.score_nulls import NULL, run_shifts
from decoders.decoding.stored_runs import BLOCK_BYTES, lengths_of
from decoders.errors import InputError
from decoders.models.ridge import Fold, delayed, fit_kernel_ridge, fit_ridge_by_run, standardised
from decoders.stats.permutation import permutation_p
from decoders.stats.resampling import bootstrap_interval

ALPHAS = (1e2, 1e3, 1e4, 1e5, 1e6, 1e7)
N_NULLS = 200
SHIFTED = "control:shifted"
Runs = Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class Score:
    """A score with its interval over windows and its null of circular shifts."""

    score: float
    low: float
    high: float
    n: int
    null: NDArray[np.float64]

    @property
    def p(self) -> float:
        """One-sided p = (1 + k) / (1 + n)."""
        return float(permutation_p(self.score, self.null))


def window_row(about: Mapping[str, Any], model: str, metric: str, score: Score, method: str) -> dict[str, Any]:
    """Return the row of the decoding table of scores of windows, with its null; controls are not tested and have none.

    Parameters
    ----------
    about : mapping
        ``subject``, ``seed`` and ``task``.
    model, metric : str
    score : Score
    method : str
        How the p was made.
    """
    tested = not model.startswith("control:") and np.isfinite(score.null).all()
    p = score.p if tested else np.nan
    return {
        "level": "subject", "split": "test_runs", **about, "model": model, "metric": metric,
        "score": score.score, "ci_low": score.low, "ci_high": score.high, "n": score.n,
        "null_mean": float(score.null.mean()), "p": p, "p_corrected": np.nan,
        "method": np.nan if np.isnan(p) else method, NULL: score.null if tested else None,
    }  # fmt: skip


def shifted_row(about: Mapping[str, Any], metric: str, score: Score) -> dict[str, Any]:
    """Return the null of shifts of a score as a control: its mean, and the middle 95 % of it; it keeps the null."""
    low, high = np.quantile(score.null, [0.025, 0.975])
    shifted = Score(float(score.null.mean()), float(low), float(high), score.n, np.array([np.nan]))
    return {**window_row(about, SHIFTED, metric, shifted, ""), NULL: score.null if np.isfinite(low) else None}


def decode_runs(
    train_x: Runs, train_y: Runs, test_x: Runs, voxels: NDArray[np.int64], lags: Sequence[int], n_folds: int
) -> list[NDArray[np.floating]]:
    """Fit a ridge decoder on the training runs and predict the text features of the test runs.

    Parameters
    ----------
    train_x, test_x : sequence of array of shape (n_volumes, n_voxels)
        Of more answers than moments a block of voxels at a time is read, and what is held is the kernel of all moments;
        else a run at a time, and what is held is the Gram matrix of all answers.
    train_y : sequence of array of shape (n_volumes, n_targets)
    voxels : array of int
        Voxels that are read.
    lags : sequence of int
        Volumes after the text that answer to it.
    n_folds : int
        Inner folds over training runs for the penalty.

    Returns
    -------
    list of array of shape (n_volumes - max(lags), n_targets)
        Moments whose answer lies beyond the run are left out.

    Raises
    ------
    InputError
        A run is not longer than the longest lag.
    """
    shortest = min([*lengths_of(train_x), *lengths_of(test_x)])
    if shortest <= max(lags):
        raise InputError(
            f"runs of more than {max(lags)} volumes, the longest lag of an answer", f"{shortest}", "decoding.voxels",
            "Leave that run out.",
        )  # fmt: skip
    lengths = [n - max(lags) for n in lengths_of(train_x)]
    fold = np.arange(len(train_x)) % n_folds
    Y = [run[: len(run) - max(lags)].astype(np.float32) for run in train_y]
    if len(voxels) * len(lags) > sum(lengths):
        folds = run_folds(lengths, fold)
        return _decode_by_kernel(train_x, np.concatenate(Y), test_x, voxels, lags, folds)
    fold = fold if len(np.unique(fold)) > 1 else np.arange(len(fold))  # as `run_folds`
    model = fit_ridge_by_run(_Answers(train_x, voxels, lags), Y, ALPHAS, fold)
    return [model.predict(answers(run[:, voxels], lags)) for run in test_x]


class _Answers(Sequence[NDArray[np.floating]]):
    """The answers of each run, made when they are asked for."""

    def __init__(self, x: Runs, voxels: NDArray[np.int64], lags: Sequence[int]) -> None:
        self.x, self.voxels, self.lags = x, voxels, lags

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, run: int) -> NDArray[np.floating]:  # type: ignore[override]
        return answers(self.x[run][:, self.voxels], self.lags)


def _decode_by_kernel(
    train_x: Runs, Y: NDArray[np.floating], test_x: Runs, voxels: NDArray[np.int64], lags: Sequence[int],
    folds: Sequence[Fold],
) -> list[NDArray[np.floating]]:  # fmt: skip
    """More answers than moments: the kernel is summed over blocks of voxels, of which one is in memory at a time."""
    lengths = [n - max(lags) for n in lengths_of(test_x)]
    kernel, outward = np.zeros((), dtype=np.float32), np.zeros((), dtype=np.float32)
    n_blocks = -(-len(voxels) * len(lags) * len(Y) * 4 // BLOCK_BYTES)
    for block in np.array_split(voxels, n_blocks):
        Z, mean, scale = standardised(np.concatenate([answers(run[:, block], lags) for run in train_x]))
        new = np.concatenate([answers(run[:, block], lags) for run in test_x])
        kernel, outward = kernel + Z @ Z.T, outward + ((new - mean) / scale) @ Z.T
    dual, intercept = fit_kernel_ridge(kernel, Y, ALPHAS, folds)
    return np.split(outward @ dual + intercept, np.cumsum(lengths)[:-1])


def identification_scores(
    predicted: Runs,
    targets: Runs,
    length: int,
    rng: np.random.Generator,
    seeds: Sequence[int],
    n_nulls: int = N_NULLS,
    tops: Sequence[int] = (),
    where: str = "decoding.voxels.test_runs",
) -> tuple[dict[str, Score], Identified]:
    """Score the identification of windows without overlap among the windows of their run.

    Parameters
    ----------
    predicted : sequence of array of shape (n_moments, n_targets)
        Decoded features of the test runs.
    targets : sequence of array of shape (n_volumes, n_targets)
        True features; moments beyond the decoded ones are left out.
    length : int
        Samples per window.
    rng : Generator
        Of intervals.
    seeds : sequence of int
        Of the shifts of each run, as `story_seeds` returns them.
    n_nulls : int
        The text of each run is rolled by any number of moments. None is as likely as any other: without the small
        shifts, slow courses that are alike by luck would have no luck to be compared with.
    tops : sequence of int
        Further ranks that count as found.
    where : str
        Setting that errors name.

    Returns
    -------
    scores : dict
        ``percentile`` (chance .5) and ``top1`` (chance 1 / windows per run), ``top<k>`` for each of `tops`.
    windows : Identified

    Raises
    ------
    InputError
        A run has fewer than two windows: there is nothing to tell apart.
    """
    shortest = min(map(len, predicted))
    if shortest < 2 * length:
        raise InputError(
            f"held-out runs with {2 * length} moments that are answered, two windows", f"{shortest}",
            where, "Hold out other runs, or leave that run out.",
        )  # fmt: skip
    true = [run[: len(p)] for run, p in zip(targets, predicted, strict=True)]
    found = identify_runs(true, predicted, length)
    nulls = [identify_runs(shifted, predicted, length) for shifted in _shifted(true, seeds, n_nulls)]
    scores = {
        "percentile": over_windows(found.percentile, np.array([n.percentile.mean() for n in nulls]), rng),
        "top1": over_windows(found.correct, np.array([n.correct.mean() for n in nulls]), rng),
    }
    for k in tops:
        scores[f"top{k}"] = over_windows(found.within(k), np.array([n.within(k).mean() for n in nulls]), rng)
    return scores, found


def over_windows(windows: NDArray[np.float64], null: NDArray[np.float64], rng: np.random.Generator) -> Score:
    """Return the mean over windows, with its interval by resampling of windows."""
    low, high = bootstrap_interval(windows, rng)
    return Score(float(windows.mean()), low, high, len(windows), null)


def _shifted(runs: Runs, seeds: Sequence[int], n_draws: int) -> Iterator[list[NDArray[np.floating]]]:
    """Yield the runs, each rolled by any number of samples."""
    for shifts in run_shifts(lengths_of(runs), n_draws, seeds).T:
        yield [np.roll(run, shift, axis=0) for run, shift in zip(runs, shifts, strict=True)]


def answers(run: NDArray[np.floating], lags: Sequence[int]) -> NDArray[np.floating]:
    """Return the volumes that answer to each moment, shape (n_volumes - max(lags), n_voxels * n_lags)."""
    return delayed(run, [-lag for lag in lags])[: len(run) - max(lags)]
