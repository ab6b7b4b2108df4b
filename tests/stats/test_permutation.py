import numpy as np
from scipy.spatial.distance import squareform

from decoders.stats.permutation import circular_shifts, label_permutations, permutation_p, permute_pairs


def test_p_counts_the_observed_labelling_and_ties():
    null = np.array([0.1, 0.2, 0.3, -0.4])
    assert permutation_p(0.25, null) == 2 / 5
    assert permutation_p(0.3, null) == 2 / 5
    assert permutation_p(0.9, null) == 1 / 5
    assert permutation_p(0.35, null, two_sided=True) == 2 / 5
    assert np.isnan(permutation_p(np.nan, null))


def test_pairs_move_with_their_stimuli():
    square = squareform(np.arange(10.0))
    order = np.array([3, 1, 0, 4, 2])
    np.testing.assert_array_equal(permute_pairs(np.arange(10.0), order), squareform(square[np.ix_(order, order)]))


def test_permutations_hold_each_label_once():
    orders = label_permutations(9, 20, np.random.default_rng(0))
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    assert len(np.unique(orders, axis=0)) == 20


def test_shifts_are_distinct_and_away_from_zero():
    shifts = circular_shifts(100, 30, np.random.default_rng(0), minimum=20)
    assert len(set(shifts)) == 30
    assert shifts.min() >= 20
    assert shifts.max() <= 80
    assert len(circular_shifts(10, 30, np.random.default_rng(0), minimum=4)) == 3
