import numpy as np
import pytest

from decoders.simulate.brain import brain_mask
from decoders.simulate.noise import _kernel_sd, autoregressive, drift, high_pass_zscore, noise


def test_ar1_has_unit_variance_and_its_correlation_from_the_start():
    series = autoregressive(np.random.default_rng(0).standard_normal((40, 20_000)), 0.5)
    np.testing.assert_allclose(series.std(axis=1), 1, atol=0.03)
    assert np.mean(series[1:] * series[:-1]) == pytest.approx(0.5, abs=0.01)


def test_ar1_is_the_recursion():
    e = np.random.default_rng(1).standard_normal((6, 2))
    x = [e[0]]
    for row in e[1:]:
        x.append(0.4 * x[-1] + np.sqrt(1 - 0.4**2) * row)
    np.testing.assert_allclose(autoregressive(e, 0.4), x)


@pytest.mark.parametrize("size", [1.0, 0.5])
def test_noise_has_unit_variance_everywhere_and_the_planned_correlations(size):
    mask = brain_mask((10, 12, 10))
    rng = np.random.default_rng(2)
    x = np.concatenate([noise(mask, 100, size, rng) for _ in range(30)])
    np.testing.assert_allclose(x.std(axis=0), 1, atol=0.1)
    assert x.var() == pytest.approx(1, abs=0.03)
    # Lag 1: .49 x .4 + .49 x .5 + .09 x .5, over 1.07.
    assert np.mean(x[1:] * x[:-1]) == pytest.approx((0.49 * 0.4 + 0.49 * 0.5 + 0.09 * 0.5) / 1.07, abs=0.03)
    # Far voxels share the global part only.
    where = np.argwhere(mask)
    far = np.linalg.norm(where[:, None] - where, axis=-1) > 7
    assert np.corrcoef(x.T)[far].mean() == pytest.approx(0.09 / 1.07, abs=0.02)


def test_smoothing_is_brought_to_unit_variance_at_the_border_too():
    from scipy.ndimage import gaussian_filter

    mask = np.ones((5, 6, 4), dtype=bool)
    white = np.random.default_rng(3).standard_normal((8000, *mask.shape))
    smooth = gaussian_filter(white, (0, 1.2, 1.2, 1.2), mode="constant")[:, mask]
    np.testing.assert_allclose(smooth.std(axis=0), _kernel_sd(mask, 1.2), rtol=0.04)


def test_drift_is_a_walk_and_a_line():
    x = drift(150, 400, np.random.default_rng(4))
    # Two time courses make all of it.
    singular = np.linalg.svd(x, compute_uv=False)
    assert singular[2] < 1e-9 * singular[0]
    assert singular[1] > 0


def test_high_pass_removes_slow_cosines_and_keeps_fast_ones():
    from nilearn.glm.first_level import make_first_level_design_matrix

    n, tr = 150, 2.0
    frames = tr * np.arange(n)
    slow = make_first_level_design_matrix(frames, drift_model="cosine", high_pass=1 / 128).to_numpy()
    fast = np.cos(np.pi * 30 * (2 * np.arange(n) + 1) / (2 * n))[:, None]
    rng = np.random.default_rng(5)
    x = high_pass_zscore(fast + slow @ rng.standard_normal((slow.shape[1], 3)) * 5, tr)
    np.testing.assert_allclose(x, np.repeat(fast / fast.std(), 3, axis=1), atol=1e-9)
    y = high_pass_zscore(rng.standard_normal((n, 4)).cumsum(axis=0), tr)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1)
    np.testing.assert_allclose(slow.T @ y, 0, atol=1e-9)
