import numpy as np
import pytest
from scipy import stats

from decoders.stats.correction import fdr, holm, max_correlated, max_statistic
from decoders.stats.permutation import permutation_p


def test_fdr_equals_scipy_and_skips_missing_values():
    p = np.random.default_rng(0).random(20) ** 2
    np.testing.assert_allclose(fdr(p), stats.false_discovery_control(p))
    padded = np.insert(p, 5, np.nan)
    np.testing.assert_allclose(np.delete(fdr(padded), 5), fdr(p))
    assert np.isnan(fdr(padded)[5])


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan])


def null_family(rng, n_draws, n_tests, correlation):
    shared = rng.standard_normal((n_draws, 1))
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal((n_draws, n_tests))


def test_the_maximum_controls_the_family():
    rng = np.random.default_rng(0)
    null = null_family(rng, 500, 20, 0.5) * np.linspace(1, 5, 20)
    observed = null_family(rng, 400, 20, 0.5) * np.linspace(1, 5, 20)
    corrected = np.array([max_statistic(row, null) for row in observed])
    rate = (corrected <= 0.05).any(axis=1).mean()
    assert rate == pytest.approx(0.05, abs=0.03)
    # Mutation: uncorrected p of 20 tests.
    assert (np.array([permutation_p(row, null) for row in observed]) <= 0.05).any(axis=1).mean() > 0.2


def _studentised_by_the_null_alone(observed, null):
    """The named bug: the observed values have no part in what they are scaled by."""
    scaled = (null - null.mean(axis=0)) / null.std(axis=0)
    value = (observed - null.mean(axis=0)) / null.std(axis=0)
    return permutation_p(value, scaled.max(axis=1)[:, None])


def test_the_family_wise_rate_is_exact_with_few_permutations():
    rng = np.random.default_rng(0)
    families = rng.standard_t(5, (4000, 20, 6)) * np.linspace(1, 5, 6)
    wrong = [(max_statistic(rows[0], rows[1:]) <= 0.05).any() for rows in families]
    # Of 20 exchangeable rows the first holds the largest value in one of 20 families.
    assert stats.binomtest(sum(wrong), 4000, 0.05).pvalue > 0.001
    bug = [(_studentised_by_the_null_alone(rows[0], rows[1:]) <= 0.05).any() for rows in families]
    assert stats.binomtest(sum(bug), 4000, 0.05, "greater").pvalue < 1e-6


def test_a_wide_null_does_not_hide_the_others():
    null = np.random.default_rng(0).standard_normal((999, 2)) * [1, 100]
    assert max_statistic(np.array([6.0, 0.0]), null)[0] <= 0.01


def test_correlated_tests_cost_less_than_independent_ones():
    rng = np.random.default_rng(0)
    p = np.full(20, 0.01)
    independent = max_correlated(p, rng.standard_normal((2000, 20)), np.random.default_rng(1))
    assert independent == pytest.approx(1 - 0.99**20, abs=0.03)
    same = max_correlated(p, np.repeat(rng.standard_normal((2000, 1)), 20, axis=1), np.random.default_rng(1))
    assert same == pytest.approx(0.01, abs=0.003)
    one_sided = max_correlated(p, rng.standard_normal((2000, 20)), np.random.default_rng(1), "greater")
    assert one_sided == pytest.approx(1 - 0.99**20, abs=0.03)


def test_corrected_p_is_no_smaller_and_keeps_what_is_missing():
    draws = np.random.default_rng(0).standard_normal((100, 4))
    found = max_correlated(np.array([1e-300, 1.0, np.nan, 0.2]), draws, np.random.default_rng(0), "greater", 200)
    assert found[0] == pytest.approx(1 / 201)
    assert found[1] == 1
    assert np.isnan(found[2])
    assert 0.2 <= found[3] < 1
    assert np.isnan(max_correlated(np.array([np.nan]), draws[:, :1], np.random.default_rng(0))).all()
