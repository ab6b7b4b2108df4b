import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression

from decoders.models.readout import PENALTY, _loss, fit_readout


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    features = rng.normal(size=(150, 8)) * 5 + 2 + labels[:, None] * rng.normal(size=8)
    return features, labels


def test_equals_scikit_learn(data):
    features, labels = data
    fitted = fit_readout(features, labels, 3)
    z = (features - features.mean(0)) / features.std(0)
    reference = LogisticRegression(C=1 / (PENALTY * len(z)), tol=1e-10, max_iter=5000).fit(z, labels)
    p = np.exp(fitted.logits(features))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), reference.predict_proba(z), atol=1e-2)
    assert fitted.accuracy(features, labels) == reference.score(z, labels)


def test_gradient_is_exact(data):
    features, labels = data
    shape = (features.shape[1] + 1, 3)
    start = np.random.default_rng(1).normal(size=shape).reshape(-1) * 0.1
    target = np.eye(3)[labels]
    error = check_grad(
        lambda w: _loss(w.reshape(shape), features, target)[0],
        lambda w: _loss(w.reshape(shape), features, target)[1],
        start,
    )
    assert error < 1e-4


def test_constant_features_and_scales_do_not_matter(data):
    features, labels = data
    scaled = np.hstack([features * 1e4, np.full((len(features), 1), 7.0)])
    plain, other = fit_readout(features, labels, 3), fit_readout(scaled, labels, 3)
    np.testing.assert_allclose(plain.logits(features), other.logits(scaled), atol=1e-4)


def test_the_fit_is_repeatable_to_the_bit(data):
    features, labels = data
    assert np.array_equal(fit_readout(features, labels, 3).weights, fit_readout(features, labels, 3).weights)
