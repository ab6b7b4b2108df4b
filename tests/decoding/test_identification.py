"""Identification of windows against brute force."""

import numpy as np
import pytest

from decoders.decoding.identification import (
    held_out_percentiles,
    identify_runs,
    rank_true,
    sliding_windows,
    window_correlations,
)
from decoders.stats.splits import contiguous_blocks


def brute_force(measured, predicted, length):
    """Percentile of each overlapping window, by scipy, one pair at a time."""
    from scipy.stats import pearsonr

    n = len(measured) - length + 1
    out = []
    for i in range(n):
        m = measured[i : i + length].ravel()
        r = [pearsonr(m, predicted[j : j + length].ravel())[0] for j in range(n)]
        others = [r[j] for j in range(n) if j != i]
        out.append(np.mean([(v < r[i]) + 0.5 * (v == r[i]) for v in others]))
    return np.array(out)


def test_percentiles_equal_brute_force():
    rng = np.random.default_rng(0)
    measured, noise = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
    predicted = 0.3 * measured + noise
    ours = rank_true(window_correlations(sliding_windows(measured, 5), sliding_windows(predicted, 5)))
    np.testing.assert_allclose(ours.percentile, brute_force(measured, predicted, 5))


def test_held_out_percentiles_stay_inside_the_block():
    rng = np.random.default_rng(1)
    measured = rng.normal(size=(1, 40, 2))
    predicted = measured + rng.normal(size=(1, 40, 2))
    splits = contiguous_blocks(40, 2)
    expected = np.mean([brute_force(measured[0, s.test], predicted[0, s.test], 4).mean() for s in splits])
    np.testing.assert_allclose(held_out_percentiles(measured, predicted, splits, 4), [expected])


def test_perfect_prediction_and_chance():
    rng = np.random.default_rng(2)
    runs = [rng.normal(size=(60, 4)) for _ in range(3)]
    best = identify_runs(runs, [2 * run + 1 for run in runs], 10)
    assert len(best.percentile) == 18
    assert (best.percentile == 1).all()
    assert (best.correct == 1).all()
    many = identify_runs([rng.normal(size=(4000, 2))], [rng.normal(size=(4000, 2))], 5)
    assert abs(many.percentile.mean() - 0.5) < 0.03


def test_ties_are_chance_not_success():
    # A prediction without variance says nothing: a strict or a lax comparison would call it 0 or 1.
    runs = [np.random.default_rng(3).normal(size=(50, 2))]
    flat = identify_runs(runs, [np.ones((50, 2))], 5)
    np.testing.assert_allclose(flat.percentile, 0.5)
    np.testing.assert_allclose(flat.correct, 0.1)


def test_one_candidate_is_refused():
    with pytest.raises(ValueError, match="two candidate"):
        rank_true(np.ones((1, 1)))


def test_window_longer_than_the_block_is_missing():
    series = np.random.default_rng(4).normal(size=(1, 20, 2))
    assert np.isnan(held_out_percentiles(series, series, contiguous_blocks(20, 2), 10)).all()
