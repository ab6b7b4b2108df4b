"""Nearest pattern: against plain correlations and a brute-force permutation of names."""

from itertools import permutations

import numpy as np
import pytest

from decoders.decoding.nearest_pattern import classify, nearest_pattern


def halves(signal, n=6, v=300, seed=0):
    rng = np.random.default_rng(seed)
    pattern = rng.standard_normal((n, v))
    pattern[:, v // 3 :] *= 0.1
    return tuple(signal * pattern + rng.standard_normal((n, v)) for _ in range(2))


def test_classify_is_the_largest_correlation_on_the_kept_voxels():
    first, second = halves(0.6)
    kept = np.argsort(-first.std(axis=0))[:50]
    r = np.corrcoef(second[:, kept], first[:, kept])[:6, 6:]
    assert classify(first, second, 50).tolist() == r.argmax(axis=1).tolist()
    assert classify(first, second, 10_000).tolist() == np.corrcoef(second, first)[:6, 6:].argmax(axis=1).tolist()


def test_planted_patterns_are_found_with_an_exact_p():
    found = nearest_pattern(*halves(2.0), 100, np.random.default_rng(0))
    assert found.accuracy == 1
    assert found.exact
    assert len(found.null) == 720
    assert found.p == pytest.approx(1 / 720)
    assert found.null.mean() == pytest.approx(1 / 6)


def test_the_null_is_that_of_renamed_patterns():
    """Enumerated shortcuts equal running the whole method on renamed patterns."""
    first, second = halves(0.3, n=4, v=40)
    found = nearest_pattern(first, second, 20, np.random.default_rng(0))
    whole = []
    for order in permutations(range(4)):
        renamed = np.empty_like(second)
        renamed[list(order)] = second
        again = nearest_pattern(first, renamed, 20, np.random.default_rng(0))
        whole.append(again.accuracy)
    assert sorted(whole) == pytest.approx(sorted(found.null))
    assert found.p == pytest.approx(np.mean(np.array(whole) >= found.accuracy - 1e-12))


def test_noise_is_at_chance():
    accuracies = [nearest_pattern(*halves(0.0, seed=s), 100, np.random.default_rng(0)).accuracy for s in range(60)]
    assert np.mean(accuracies) == pytest.approx(1 / 6, abs=0.05)
    p = [nearest_pattern(*halves(0.0, seed=s), 100, np.random.default_rng(0)).p for s in range(60)]
    assert np.mean(np.array(p) <= 0.05) <= 0.12


def test_many_categories_are_sampled():
    found = nearest_pattern(*halves(2.0, n=9), 100, np.random.default_rng(0), n_permutations=99)
    assert not found.exact
    assert found.p == pytest.approx(1 / 100)


def test_voxels_are_chosen_on_the_training_half():
    """Mutation: choosing on the test half changes answers, so a leak would be noticed."""
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((6, 200)), rng.standard_normal((6, 200))
    kept = np.argsort(-second.std(axis=0))[:20]
    leaking = np.corrcoef(second[:, kept], first[:, kept])[:6, 6:].argmax(axis=1)
    assert classify(first, second, 20).tolist() != leaking.tolist()
