"""Whitening and the noise covariance: closed forms, scikit-learn, and subspaces that preprocessing left."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from decoders.signal import whitening
from decoders.signal.meg_noise import shrunk_covariance
from decoders.signal.whitening import numerical_rank, whitener

KINDS = ["mag"] * 6 + ["grad"] * 6
SCALE = np.array([1e-13] * 6 + [1e-11] * 6)


def _covariance(rank=12, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((12, rank))
    return mixed @ np.diag(rng.uniform(0.5, 2, rank)) @ mixed.T * np.outer(SCALE, SCALE)


@pytest.mark.parametrize("rank", [12, 7, 3])
def test_whitened_noise_has_the_identity_as_covariance(rank):
    covariance = _covariance(rank)
    W = whitener(covariance, rank)
    assert W.shape == (rank, 12)
    np.testing.assert_allclose(W @ covariance @ W.T, np.eye(rank), atol=1e-8)
    assert numerical_rank(covariance) == rank
    # bug: inverting all twelve dimensions blows up those that are empty
    if rank < 12:
        with pytest.raises(ValueError, match="cannot be whitened in 12"):
            whitener(covariance, 12)


def test_distances_after_whitening_are_those_of_mahalanobis():
    covariance, x = _covariance(), np.random.default_rng(1).standard_normal(12) * SCALE
    W = whitener(covariance, 12)
    np.testing.assert_allclose(np.sum((W @ x) ** 2), x @ np.linalg.solve(covariance, x), rtol=1e-6)


def test_units_of_channels_do_not_matter():
    covariance, unit = _covariance(5), 1e6 * np.arange(1, 13)
    W, V = whitener(covariance, 5), whitener(covariance * np.outer(unit, unit), 5)
    x = np.random.default_rng(2).standard_normal((12, 4)) * SCALE[:, None]
    np.testing.assert_allclose(np.abs(W @ x), np.abs(V @ (unit[:, None] * x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda c: c + np.triu(c, 1), "symmetric"),
        (lambda c: c * np.outer(np.arange(12) > 0, np.arange(12) > 0), "1 channels have no variance"),
    ],
)
def test_what_is_no_covariance_is_refused(broken, sentence):
    with pytest.raises(ValueError, match=sentence):
        whitener(broken(_covariance()), 5)


def _samples(n=300, seed=3, rank=12):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((12, rank)) @ rng.standard_normal((rank, n)) * SCALE[:, None]


def test_the_covariance_is_that_of_ledoit_and_wolf_where_nothing_was_taken_out():
    samples = _samples()
    centred = samples - samples.mean(axis=1, keepdims=True)
    scale = np.concatenate([np.full(6, np.sqrt((centred[part] ** 2).mean())) for part in (slice(0, 6), slice(6, 12))])
    expected = ledoit_wolf((centred / scale[:, None]).T, assume_centered=True)[0] * np.outer(scale, scale)
    np.testing.assert_allclose(shrunk_covariance(samples, KINDS, 12), expected, rtol=1e-9)


def test_shrinking_stays_within_the_subspace():
    samples = _samples(rank=5)
    covariance = shrunk_covariance(samples, KINDS, 5)
    assert numerical_rank(covariance) == 5
    outside = np.linalg.svd(samples / SCALE[:, None])[0][:, 5:]
    leaked = outside.T @ (covariance / np.outer(SCALE, SCALE)) @ outside
    assert np.abs(leaked).max() < 1e-9
    # bug: shrinking all channels puts noise where none can be
    everywhere = ledoit_wolf((samples / SCALE[:, None]).T)[0]
    assert np.abs(outside.T @ everywhere @ outside).max() > 1e-3


def test_few_samples_are_shrunk_in_a_subspace_that_is_known():
    known, few = _covariance(8, seed=4), None
    _, vectors = np.linalg.eigh(known / np.outer(SCALE, SCALE))
    basis = vectors[:, -8:]
    few = basis @ np.random.default_rng(5).standard_normal((8, 4)) * SCALE[:, None]
    assert numerical_rank(shrunk_covariance(few, KINDS, 8)) < 8
    covariance = shrunk_covariance(few, KINDS, 8, known)
    assert numerical_rank(covariance) == 8
    assert whitener(covariance, 8).shape == (8, 12)
    # bug: a covariance of a larger subspace says nothing of this one
    wide = shrunk_covariance(_samples(rank=5), KINDS, 5, _covariance(12))
    assert (np.diag(wide) > 0).all()
    assert whitening._EMPTY < 1e-6
