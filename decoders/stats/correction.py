"""Correction for the number of tests in a declared family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from decoders.stats.permutation import permutation_p
from decoders.stats.resampling import Alternative

_DRAWS_AT_ONCE = 2000


def fdr(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted by Benjamini & Hochberg (1995); missing ones stay missing and do not count."""
    values, adjusted, order = _ordered(p)
    scaled = values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values adjusted by Holm (1979); missing ones stay missing and do not count."""
    values, adjusted, order = _ordered(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


def _ordered(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    values = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    return values, np.full(values.shape, np.nan), known[np.argsort(values[known], kind="stable")]


def max_statistic(observed: NDArray[np.float64], null: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values corrected by the distribution of the largest of the studentised null statistics.

    Parameters
    ----------
    observed : array of shape (n_tests,)
    null : array of shape (n_permutations, n_tests)
        All tests under the same permutation in each row, so that their dependence is kept.

    Returns
    -------
    array of shape (n_tests,)
        One-sided (greater); controls the family-wise error (Westfall & Young 1993). Each test is studentised by its
        own null so that a test with a wide null does not hide the others. Centre and spread are those of observed and
        null values together: where nothing is there these are exchangeable, and so they stay when all are scaled
        alike. Scaled by the null alone, the observed ones vary more (a rate of .058 in 10,000 certified families).
    """
    both = np.vstack([observed, null])
    centre, spread = both.mean(axis=0), both.std(axis=0)
    usable = np.isfinite(observed) & (spread > 0)
    corrected = np.full(len(observed), np.nan)
    if usable.any():
        scaled = (null[:, usable] - centre[usable]) / spread[usable]
        value = (observed[usable] - centre[usable]) / spread[usable]
        corrected[usable] = permutation_p(value, scaled.max(axis=1)[:, None])
    return corrected


def max_correlated(
    p: NDArray[np.float64],
    draws: NDArray[np.float64],
    rng: np.random.Generator,
    alternative: Alternative = "two-sided",
    n_simulations: int = 20_000,
) -> NDArray[np.float64]:
    """Return p-values corrected by the smallest p of a family of correlated tests.

    The tests of a family are correlated (they share stimuli and subjects), and may differ in their degrees of
    freedom. Normal deviates with the correlation of the bootstrap draws are simulated, each becomes a p-value, and
    the corrected p is the share of simulations whose smallest p is no larger (min-p of Westfall & Young 1993
    with the simultaneous inference of Hothorn et al. 2008).

    Parameters
    ----------
    p : array of shape (n_tests,)
        Uncorrected p-values.
    draws : array of shape (n_resamples, n_tests)
        Bootstrap draws of the estimates, all tests from the same resample in each row.
    rng : Generator
    alternative : {"two-sided", "greater"}
        How `p` was computed.
    n_simulations : int
        Smallest possible result is 1 / (1 + n_simulations).

    Returns
    -------
    array of shape (n_tests,)
        Never below `p`; missing where `p` is.
    """
    from scipy.stats import norm

    p = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(p))
    corrected = np.full(p.shape, np.nan)
    if len(known) == 0:
        return corrected
    scaled = _standardised(draws[:, known])
    if len(known) < len(scaled):
        # As many normal weights as there are tests give deviates of the same correlation.
        scaled = np.linalg.qr(scaled).R
    # In units of the normal deviate the smallest p is the largest statistic.
    extreme = norm.isf(p[known] / 2 if alternative == "two-sided" else p[known])
    largest = np.concatenate([_largest(scaled, size, rng, alternative) for size in _sizes(n_simulations)])
    corrected[known] = np.maximum(p[known], permutation_p(extreme, largest[:, None]))
    # A p of exactly zero or one has an infinite deviate.
    corrected[known] = np.where(np.isfinite(extreme), corrected[known], np.maximum(p[known], 1 / (1 + n_simulations)))
    return np.minimum(corrected, 1.0)


def _sizes(total: int) -> list[int]:
    full, rest = divmod(total, _DRAWS_AT_ONCE)
    return [_DRAWS_AT_ONCE] * full + [rest] * (rest > 0)


def _standardised(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = np.nan_to_num(draws - np.nanmean(draws, axis=0))
    norms = np.sqrt((centred**2).sum(axis=0))
    return np.asarray(np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0))


def _largest(
    scaled: NDArray[np.float64], size: int, rng: np.random.Generator, alternative: Alternative
) -> NDArray[np.float64]:
    # Normal weights on the rows give deviates with exactly the draws' correlation.
    deviates = rng.standard_normal((size, len(scaled))) @ scaled
    return np.asarray((np.abs(deviates) if alternative == "two-sided" else deviates).max(axis=1))
