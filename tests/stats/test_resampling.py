import numpy as np
import pytest
from scipy import stats

from decoders.stats.resampling import (
    bootstrap_interval,
    crossed_variance,
    draw_counts,
    effective_df,
    factor_sets,
    t_interval,
    t_test,
)


def crossed_data(rng, levels, sds):
    """Return values of crossed random effects; one standard deviation per set of factors."""
    total = np.zeros(tuple(levels.values()))
    names = list(levels)
    for chosen, sd in sds.items():
        shape = [levels[name] if name in chosen else 1 for name in names]
        total = total + sd * rng.standard_normal(shape)
    return total


def exact_bootstrap_variances(values, names):
    """Bootstrap variances without draws: E over multinomial counts, by their exact covariance."""
    variances = {}
    for chosen in factor_sets(names):
        # The mean over factors that are not resampled is a constant of the resampling.
        kept = values.mean(axis=tuple(i for i, name in enumerate(names) if name not in chosen), keepdims=False)
        variances[chosen] = _variance_of_weighted_mean(np.asarray(kept))
    return variances


def _variance_of_weighted_mean(values):
    # E[m^2] with independent multinomial counts per axis; E[c_i c_j] = n(n-1)/n^2 + [i = j].
    operator = values
    for axis, n in enumerate(values.shape):
        moments = np.full((n, n), (n - 1) / n) + np.eye(n)
        operator = np.moveaxis(np.tensordot(moments, operator, axes=(1, axis)), 0, axis)
    return (operator * values).sum() / values.size**2 - values.mean() ** 2


TWO = {frozenset("a"): 1.0, frozenset("b"): 0.7, frozenset("ab"): 2.0}
THREE = {**TWO, frozenset("c"): 0.5, frozenset("ac"): 1.0, frozenset("bc"): 1.5, frozenset("abc"): 2.0}


def simulate(levels, sds, small_sample, n=400):
    rng = np.random.default_rng(0)
    true = sum(sd**2 / np.prod([levels[name] for name in chosen]) for chosen, sd in sds.items())
    corrected, naive = [], []
    for _ in range(n):
        variances = exact_bootstrap_variances(crossed_data(rng, levels, sds), list(levels))
        corrected.append(crossed_variance(variances, levels, small_sample))
        naive.append(variances[frozenset(levels)])
    return np.mean(corrected) / true, np.mean(naive) / true


@pytest.mark.parametrize(("levels", "sds"), [({"a": 30, "b": 12}, TWO), ({"a": 20, "b": 10, "c": 6}, THREE)])
def test_the_corrected_variance_is_that_of_the_mean(levels, sds):
    ratio, naive = simulate(levels, sds, small_sample=True)
    assert ratio == pytest.approx(1, abs=0.08)
    # Mutation: taking the joint draws as they are counts interactions several times.
    assert naive > 1.12
    # Without the small-sample factor the variance is too small at few levels.
    assert simulate(levels, sds, small_sample=False)[0] < ratio


def test_the_forms_of_the_literature():
    variances = {frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 3.5}
    assert crossed_variance(variances, {"a": 9, "b": 9}, small_sample=False) == pytest.approx(2 * 3.0 - 3.5)
    three = {**variances, frozenset("c"): 0.5, frozenset("ac"): 1.8, frozenset("bc"): 2.7, frozenset("abc"): 4.5}
    found = crossed_variance(three, {"a": 9, "b": 9, "c": 9}, small_sample=False)
    assert found == pytest.approx(4 * 3.5 - 2 * (3.5 + 1.8 + 2.7) + 4.5)


def test_equal_to_rsatoolbox_at_small_n():
    from rsatoolbox.util.inference_util import _dual_bootstrap

    # Of rsatoolbox's two forms only the clip from above differs.
    variances = {frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 3.6}
    expected = _dual_bootstrap(np.array([[3.6], [1.0], [2.0]]), n_rdm=10, n_pattern=20)
    assert crossed_variance(variances, {"a": 10, "b": 20}) == pytest.approx(expected[0])


def test_the_corrected_variance_is_clipped():
    # More than the singles allow: not below the largest of them.
    variances = {frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 5.9}
    assert crossed_variance(variances, {"a": 9, "b": 9}, small_sample=False) == 2.0
    # Less than the sum: not above the joint draws.
    variances = {frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 2.5}
    assert crossed_variance(variances, {"a": 9, "b": 9}, small_sample=False) == 2.5


def test_a_single_factor_gives_the_variance_of_the_mean():
    values = np.random.default_rng(0).standard_normal(12)
    draws = draw_counts(12, 40_000, np.random.default_rng(1)) @ values / 12
    variance = crossed_variance({frozenset("a"): draws.var()}, {"a": 12})
    assert variance == pytest.approx(values.var(ddof=1) / 12, rel=0.03)


def test_t_test_and_interval_equal_scipy():
    values = np.random.default_rng(0).standard_normal((10, 3)) + 0.5
    reference = stats.ttest_1samp(values, 0)
    estimate, variance = values.mean(0), values.var(0, ddof=1) / 10
    np.testing.assert_allclose(t_test(estimate, variance, 9), reference.pvalue)
    np.testing.assert_allclose(t_interval(estimate, variance, 9), reference.confidence_interval())
    greater = stats.ttest_1samp(values, 0, alternative="greater").pvalue
    np.testing.assert_allclose(t_test(estimate, variance, 9, "greater"), greater)
    assert np.isnan(t_test(np.array([1.0]), np.array([0.0]), 9)).all()


def test_counts_and_intervals():
    counts = draw_counts(7, 100, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 7).all()
    low, high = bootstrap_interval(np.arange(20.0), np.random.default_rng(0))
    assert low < 9.5 < high
    assert np.isnan(bootstrap_interval(np.ones(1), np.random.default_rng(0))).all()


def parts(**variances):
    return {frozenset(name): value for name, value in variances.items()}


def check_effective_df(df_of):
    # One factor brings all variance; two bring as much each; one hardly matters, however few its levels.
    assert df_of(1.0, parts(a=1.0), {"a": 7}) == pytest.approx(6)
    assert df_of(4.0, parts(a=1.0, b=1.0, c=2.0), {"a": 5, "b": 9, "c": 9}) == pytest.approx(
        16 / (1 / 4 + 1 / 8 + 4 / 8)
    )
    assert df_of(1.0, parts(a=1.0, b=1e-9), {"a": 9, "b": 3}) == pytest.approx(8)
    # At most the sum, also where the correction made the variance large.
    assert df_of(9.0, parts(a=1.0, b=1.0), {"a": 9, "b": 3}) == 10
    # The few decide where they bring much, or are two; nothing is known where nothing varies.
    assert df_of(2.0, parts(a=1.0, b=1.0), {"a": 9, "b": 3}) == 2
    assert df_of(1.0, parts(a=1.0, b=1e-9), {"a": 9, "b": 2}) == 1
    assert df_of(0.0, parts(a=0.0, b=0.0), {"a": 9, "b": 3}) == 2


def test_effective_df_is_satterthwaites():
    check_effective_df(lambda *args: effective_df(*args, small_sample=False))
    with pytest.raises(AssertionError):  # the smallest factor decides, as it used to
        check_effective_df(lambda variance, found, levels: min(levels.values()) - 1)


def test_effective_df_gives_the_right_tails_where_the_least_gives_none():
    """Means over crossed effects of 3 seeds and 12 subjects, with hardly any spread between the seeds."""
    rng = np.random.default_rng(0)
    levels = {"seed": 3, "subject": 12}
    wrong = {"effective": 0, "least": 0}
    for _ in range(1000):
        seed, subject = 0.2 * rng.standard_normal(3), rng.standard_normal(12)
        values = seed[:, None] + subject + 0.3 * rng.standard_normal((3, 12))
        single = {"seed": values.mean(1).var() / 3, "subject": values.mean(0).var() / 12}
        variances = {frozenset({name}): value for name, value in single.items()}
        variances[frozenset(levels)] = sum(single.values()) + values.var() / 36
        variance = float(crossed_variance(variances, levels))
        for name, df in (("effective", effective_df(variance, variances, levels)), ("least", 2)):
            wrong[name] += t_test(values.mean(), variance, df) <= 0.05
    assert 25 <= wrong["effective"] <= 72
    assert wrong["least"] <= 5
