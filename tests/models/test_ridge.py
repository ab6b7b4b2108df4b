"""Ridge against closed forms, scikit-learn and himalaya."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from decoders.models.ridge import delayed, fit_banded_ridge, fit_ridge

ALPHAS = (1.0, 10.0, 100.0, 1e3)


def material(n=120, f=6, t=9, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(2.0, 3.0, (n, f))
    Y = X @ rng.normal(size=(f, t)) * np.linspace(0, 0.5, t) + rng.normal(size=(n, t)) + 5
    return X.astype(dtype), Y.astype(dtype)


def folds(n, k=4):
    blocks = np.array_split(np.arange(n), k)
    return [(np.concatenate(blocks[:i] + blocks[i + 1 :]), blocks[i]) for i in range(k)]


@pytest.mark.parametrize("shape", [(120, 6), (40, 90)], ids=["primal", "dual"])
def test_equals_scikit_learn_at_one_penalty(shape):
    X, Y = material(*shape)
    model = fit_ridge(X, Y, (10.0,), folds(len(X)))
    Z = (X - X.mean(0)) / X.std(0)
    reference = Reference(alpha=10.0).fit(Z, Y)
    np.testing.assert_allclose(model.weights, reference.coef_.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.predict(X), reference.predict(Z), rtol=1e-7)


def test_penalties_and_weights_equal_himalaya():
    from himalaya.ridge import solve_ridge_cv_svd

    X, Y = material()
    model = fit_ridge(X, Y, ALPHAS, folds(len(X)))
    Z = (X - X.mean(0)) / X.std(0)
    best, weights, _ = solve_ridge_cv_svd(Z, Y - Y.mean(0), alphas=np.array(ALPHAS), cv=folds(len(X)))
    assert len(set(best.round(6))) > 1  # the case tells penalties apart
    np.testing.assert_allclose(model.alphas, best)
    np.testing.assert_allclose(model.weights, weights, rtol=1e-6, atol=1e-9)


def test_banded_ridge_equals_himalaya_at_given_band_weights():
    from himalaya.ridge import solve_group_ridge_random_search

    from decoders.models.ridge import _band_weights

    X, Y = material(f=8)
    bands, cv = [3, 5], folds(len(X))
    model = fit_banded_ridge(X, Y, bands, ALPHAS, cv, seed=3, n_iter=6)
    Z = (X - X.mean(0)) / X.std(0)
    gammas = np.array(_band_weights(2, 6, 3))
    _, weights, _ = solve_group_ridge_random_search(
        [Z[:, :3], Z[:, 3:]], Y - Y.mean(0), n_iter=gammas, alphas=np.array(ALPHAS), cv=cv,
        return_weights=True, progress_bar=False,
    )  # fmt: skip
    np.testing.assert_allclose(model.weights, weights, rtol=1e-5, atol=1e-8)


def test_banded_ridge_spares_the_band_that_matters():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(80, 41))
    Y = X[:, :1] + 0.5 * rng.normal(size=(80, 1))
    test = rng.normal(size=(400, 41))
    error = {
        name: np.mean((model.predict(test) - test[:, :1]) ** 2)
        for name, model in {
            "plain": fit_ridge(X, Y, ALPHAS, folds(80)),
            "banded": fit_banded_ridge(X, Y, [1, 40], ALPHAS, folds(80), n_iter=20),
        }.items()
    }
    assert error["banded"] < 0.5 * error["plain"]


def test_float32_stays_float32_and_close():
    X, Y = material(dtype=np.float32)
    model = fit_ridge(X, Y, ALPHAS, folds(len(X)))
    assert model.weights.dtype == np.float32
    double = fit_ridge(X.astype(np.float64), Y.astype(np.float64), ALPHAS, folds(len(X)))
    np.testing.assert_allclose(model.predict(X), double.predict(X.astype(np.float64)), rtol=1e-4)


def test_constant_feature_gets_no_say():
    X, Y = material()
    X[:, 2] = 7.0
    model = fit_ridge(X, Y, ALPHAS, folds(len(X)))
    assert np.isfinite(model.weights).all()
    X_moved = X.copy()
    X_moved[:, 2] = -100.0
    np.testing.assert_array_equal(model.predict(X), model.predict(X_moved))


def test_delays_by_hand():
    X = np.arange(1.0, 6.0)[:, None]
    np.testing.assert_array_equal(delayed(X, [0, 2, -1]), [[1, 0, 2], [2, 0, 3], [3, 1, 4], [4, 2, 5], [5, 3, 0]])
    assert not delayed(X, [9]).any()


def test_folds_that_leak_are_refused():
    X, Y = material()
    with pytest.raises(ValueError, match="validates on"):
        fit_ridge(X, Y, ALPHAS, [(np.arange(100), np.arange(90, 120))])
    with pytest.raises(ValueError, match="at least one inner fold"):
        fit_ridge(X, Y, ALPHAS, [])
    with pytest.raises(ValueError, match="the bands hold 3 columns"):
        fit_banded_ridge(X, Y, [1, 2], ALPHAS, folds(120))
