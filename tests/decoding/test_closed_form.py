"""LDA against scikit-learn, ridge against himalaya, on one labelling and on many."""

import numpy as np
import pytest
from himalaya.ridge import solve_ridge_cv_svd
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import PredefinedSplit

from decoders.decoding import closed_form
from decoders.decoding.closed_form import (
    inner_folds,
    lda_decisions,
    ledoit_wolf_amount,
    ridge_decisions,
    solve_identity_plus,
)


def planted(n_features, n=120, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(n_classes), n // n_classes)
    centres = rng.standard_normal((n_classes, n_features))
    x = 0.4 * centres[labels] + rng.standard_normal((n, n_features)) * rng.uniform(0.5, 2, n_features)
    return x, labels, np.repeat(np.arange(6), n // 6), rng.standard_normal((9, n_features))


def sklearn_decisions(x, labels, x_test):
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, labels).decision_function(x_test)


@pytest.mark.parametrize("n_features", [15, 400])
def test_lda_is_scikit_learns(n_features):
    x, labels, runs, x_test = planted(n_features)
    rows = np.stack([labels, np.random.default_rng(1).permutation(labels)])
    found = lda_decisions(x, rows, runs, x_test, 4)
    for row, decisions in zip(rows, found, strict=True):
        assert decisions == pytest.approx(sklearn_decisions(x, row, x_test), abs=1e-8)


@pytest.mark.parametrize("n_features", [15, 400])
def test_shrinkage_is_scikit_learns(n_features):
    x = planted(n_features)[0]
    x = x - x.mean(axis=0)
    assert ledoit_wolf_amount(x) == pytest.approx(ledoit_wolf_shrinkage(x, assume_centered=True), abs=1e-12)


def test_mutated_shrinkage_is_noticed(monkeypatch):
    x, labels, runs, x_test = planted(40)
    monkeypatch.setattr(closed_form, "ledoit_wolf_amount", lambda own: 0.5 * ledoit_wolf_amount(own))
    assert not np.allclose(
        lda_decisions(x, labels[None], runs, x_test, 4)[0], sklearn_decisions(x, labels, x_test), atol=1e-3
    )


def test_lda_survives_a_constant_feature_and_unequal_classes():
    x, labels, runs, x_test = planted(30)
    x[:, 3] = 1.0
    labels = np.minimum(labels, 1)
    decisions = lda_decisions(x, labels[None], runs, x_test, 2)[0]
    assert np.isfinite(decisions).all()
    found = decisions[:, 1] - decisions[:, 0]
    assert found == pytest.approx(sklearn_decisions(x, labels, x_test), abs=1e-5)


@pytest.mark.parametrize("shape", [(5, 20), (20, 5)])
def test_both_systems_solve_the_same(shape):
    rng = np.random.default_rng(0)
    r, b = rng.standard_normal(shape), rng.standard_normal((shape[1], 3))
    assert solve_identity_plus(r, b) == pytest.approx(np.linalg.solve(r.T @ r + np.eye(shape[1]), b))


@pytest.mark.parametrize("n_features", [15, 400])
def test_ridge_is_himalayas_for_each_labelling(n_features):
    x, labels, runs, x_test = planted(n_features)
    rows = np.stack([labels, np.random.default_rng(1).permutation(labels)])
    alphas = np.logspace(0, 4, 9)
    found = ridge_decisions(x, rows, runs, x_test, 4, alphas)
    fold = np.zeros(len(runs), dtype=int)
    for number, test in enumerate(inner_folds(runs)):
        fold[test] = number
    for row, decisions in zip(rows, found, strict=True):
        fit = solve_ridge_cv_svd(
            x, np.eye(4)[row], alphas, fit_intercept=True, cv=PredefinedSplit(fold), local_alpha=False, warn=False
        )
        assert decisions == pytest.approx(x_test @ fit[1] + fit[3], abs=1e-8)


def test_inner_folds_of_ridge_see_nothing_of_what_they_predict():
    from decoders.decoding.closed_form import _inner_losses

    x, labels, runs, _ = planted(15)
    targets = np.eye(4)[labels][:, None, :]
    # Runs that differ in their means: centring by all of them would tell of the held-out one.
    x = x + 5.0 * np.random.default_rng(0).standard_normal((runs.max() + 1, 1))[runs]
    expected = np.zeros(2)
    for test in inner_folds(runs):
        centre, level = x[~test].mean(axis=0), targets[~test, 0].mean(axis=0)
        for row, alpha in enumerate((1.0, 100.0)):
            a = x[~test] - centre
            weights = np.linalg.solve(a.T @ a + alpha * np.eye(15), a.T @ (targets[~test, 0] - level))
            expected[row] += ((targets[test, 0] - level - (x[test] - centre) @ weights) ** 2).sum()
    np.testing.assert_allclose(_inner_losses(x, targets, runs, (1.0, 100.0))[:, 0], expected)


def test_ridge_that_picks_another_penalty_is_noticed():
    x, labels, runs, x_test = planted(15)
    best = ridge_decisions(x, labels[None], runs, x_test, 4, np.logspace(0, 4, 9))
    assert not np.allclose(best, ridge_decisions(x, labels[None], runs, x_test, 4, [1e4]), atol=1e-3)


def test_inner_folds_keep_runs_whole():
    runs = np.repeat(np.arange(11), 3)
    folds = inner_folds(runs)
    assert np.sum(folds, axis=0).tolist() == [1] * len(runs)
    assert all(len(np.intersect1d(runs[test], runs[~test])) == 0 for test in folds)
    with pytest.raises(ValueError, match="two training runs"):
        inner_folds(np.zeros(5, dtype=int))
