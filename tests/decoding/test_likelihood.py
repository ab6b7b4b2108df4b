"""Likelihood of recorded rows, and what words add to it; each check fails for a named, deliberate bug."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from decoders.decoding import likelihood
from decoders.decoding.likelihood import (
    autocorrelation,
    innovations,
    residual_covariance,
    whiten,
)
from decoders.decoding.responses import BrainScores, Expected, WordVectors, expected_word, response_kernel
from decoders.errors import InputError
from decoders.models.ridge import delayed
from decoders.stimuli.embedding import Embedding
from decoders.stimuli.hrf import convolve_events, sum_events

TR, DELAYS = 2.0, (1, 2, 4)


def made(n_rows=12, n_voxels=9, n_features=4, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n_voxels, n_voxels))
    covariance = mixing @ mixing.T + np.eye(n_voxels)
    rows = rng.standard_normal((n_rows, n_voxels)) * 2
    weights, intercept = rng.standard_normal((n_features, n_voxels)), rng.standard_normal(n_voxels)
    return rows, weights, intercept, covariance, rng.standard_normal((n_rows, n_features))


def density(rows, weights, intercept, covariance, features):
    errors = rows - features @ weights - intercept
    return multivariate_normal.logpdf(errors, np.zeros(rows.shape[1]), covariance)


# ---- the density ----------------------------------------------------------------------------------------------------


def check_density(n_features, form=whiten):
    *model, features = made(n_features=n_features)
    assert np.allclose(form(*model).log_likelihood(features), density(*model, features), atol=1e-9, rtol=0)


@pytest.mark.parametrize("n_features", [1, 4, 9, 14])
def test_the_whitened_density_is_that_of_all_voxels(n_features):
    check_density(n_features)


def transposed(rows, weights, intercept, covariance):
    """Mutation: whitened by the wrong root, inverse(C) in place of inverse(C)'."""
    root = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(root)
    normaliser = len(root) * np.log(2 * np.pi) / 2 + np.log(np.diag(root)).sum()
    return likelihood.Whitened(weights @ inverse, (rows - intercept) @ inverse, np.full(len(rows), -normaliser))


def rotated_only(rows, weights, intercept, covariance):
    """Mutation: what lies outside the span of the weights is forgotten."""
    true = whiten(rows, weights, intercept, covariance)
    return likelihood.Whitened(true.weights, true.data, np.full(len(rows), true.constant.max()))


@pytest.mark.parametrize("mutation", [transposed, rotated_only])
def test_the_density_fails_for_wrong_whitening(mutation):
    with pytest.raises(AssertionError):
        check_density(4, mutation)


def test_batches_of_hypotheses_are_scored_alike():
    *model, features = made()
    found = whiten(*model)
    many = np.stack([features, -features])
    assert np.allclose(found.log_likelihood(many)[1], found.log_likelihood(-features), atol=1e-12)


# ---- covariance of residuals ----------------------------------------------------------------------------------------


def test_shrinkage_is_chosen_by_held_out_runs():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((6, 6)) + np.eye(6)
    long = [rng.standard_normal((4000, 6)) @ mixing for _ in range(4)]
    found = residual_covariance(long)
    assert found.amount == min(likelihood.AMOUNTS)
    assert np.allclose(found.matrix, mixing.T @ mixing, rtol=0.1, atol=0.6)
    short = residual_covariance([rng.standard_normal((8, 12)) for _ in range(4)])
    assert short.amount >= 0.7
    whiten(np.zeros((2, 12)), np.ones((1, 12)), np.zeros(12), short.matrix)


def test_autocorrelated_noise_becomes_white():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4000, 5))
    for t in range(1, len(rows)):
        rows[t] = 0.6 * rows[t - 1] + 0.8 * rows[t]
    assert autocorrelation([rows[:2000], rows[2000:]]) == pytest.approx(0.6, abs=0.03)
    white = innovations(rows, 0.6)
    assert autocorrelation([white]) < 0.02
    assert white.std() == pytest.approx(0.8, abs=0.02)
    # Exactly the density of the process: x L has the covariance I where x has that of AR(1).
    step = np.arange(6)
    process = 0.6 ** abs(step[:, None] - step[None, :])
    operator = innovations(np.eye(6), 0.6)
    assert np.allclose(operator @ process @ operator.T, (1 - 0.36) * np.eye(6), atol=1e-12)


# ---- responses to words ---------------------------------------------------------------------------------------------


def words_in_time(n=25, n_volumes=30, seed=1):
    rng = np.random.default_rng(seed)
    return np.sort(rng.uniform(0, n_volumes * TR, n)), rng.standard_normal((n, 3)), TR * np.arange(n_volumes)


@pytest.mark.parametrize("hrf", [True, False])
def test_the_kernel_gives_the_features_of_the_encoding_model(hrf):
    seconds, vectors, times = words_in_time()
    kernel = response_kernel(seconds, times, TR, DELAYS, hrf)
    plain = convolve_events(seconds, vectors, times) if hrf else sum_events(seconds, vectors, times, TR)
    found = np.einsum("dtw,wf->tdf", kernel, vectors).reshape(len(times), -1)
    assert np.allclose(found, delayed(plain, DELAYS), atol=1e-12)


def scores_and_model(hrf, phi=0.4, seed=0):
    seconds, vectors, times = words_in_time()
    rng = np.random.default_rng(seed)
    rows, weights, intercept, covariance, _ = made(30, 9, 3 * len(DELAYS))
    kernel = response_kernel(seconds, times, TR, DELAYS, hrf)
    white = innovations(rows - intercept, phi)
    filtered = np.stack([innovations(part, phi) for part in kernel])
    found = whiten(white, weights, np.zeros(9), covariance)
    expected = rng.standard_normal(3)
    features = innovations(np.einsum("dtw,wf->tdf", kernel, vectors).reshape(len(times), -1), phi)
    truth = density(white, weights, np.zeros(9), covariance, features).sum()
    spread = rng.standard_normal((3, 3))
    return BrainScores(found, filtered, Expected(expected, spread @ spread.T)), torch.from_numpy(vectors), truth


def accumulated(scores, vectors):
    state, total = scores.start(), scores.baseline
    for word in range(len(vectors)):
        total += float(scores.gains(state, word, vectors[word][None])[0])
        state = scores.advance(state, word, vectors[word][None])
    return total


def check_gains(hrf):
    scores, vectors, truth = scores_and_model(hrf)
    assert accumulated(scores, vectors) == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("hrf", [True, False])
def test_gains_add_up_to_the_density_of_the_whole_text(hrf):
    check_gains(hrf)


def forgets(self, state, word, vectors):
    """Mutation: a word explains its volumes, but later words do not know it."""
    return advance(self, state, word, self.mean.expand(len(vectors), -1))


def freezes_too_early(self, state, word, vectors):
    """Mutation: the oldest open volume is dropped although later words reach it."""
    state = advance(self, state, word, vectors)
    return torch.cat([torch.zeros_like(state[:, :1]), state[:, 1:]], 1)


advance = BrainScores.advance


@pytest.mark.parametrize("mutation", [forgets, freezes_too_early])
def test_gains_fail_where_volumes_are_not_rescored(mutation, monkeypatch):
    monkeypatch.setattr(BrainScores, "advance", mutation)
    with pytest.raises(AssertionError):
        check_gains(True)


def integrated(scores, vectors, word, n_known):
    """Return the log-density of the rows open at a word, given the first words, from dense covariances."""
    first, last = scores._span[word]
    kernel, weights = scores._kernel[:, first:last], scores._weights
    change = vectors[:n_known] - scores.mean
    known = torch.einsum("dtw,wf,dfm->tm", kernel[:, :, :n_known], change, weights)
    design = torch.einsum("dtw,dfm->tmwf", kernel[:, :, n_known:], weights).flatten(2).flatten(0, 1)
    n_coming = kernel.shape[2] - n_known
    prior = torch.block_diag(*[scores.spread_of_words] * n_coming) if n_coming else torch.zeros(0, 0)
    covariance = design @ prior.double() @ design.T + torch.eye(len(design), dtype=torch.float64)
    error = (scores._error[first:last] - known).flatten()
    return float(multivariate_normal.logpdf(error.numpy(), np.zeros(len(error)), covariance.numpy()))


def check_ranks():
    """Ranks of two candidates differ as the densities with the words to come integrated out."""
    scores, vectors, _ = scores_and_model(True)
    spread = np.random.default_rng(0)
    spread.standard_normal(3)
    draw = torch.from_numpy(spread.standard_normal((3, 3)))
    scores.spread_of_words = draw @ draw.T
    state = scores.start()
    for word in range(len(vectors)):
        if not state.shape[1]:  # the word comes after the last volume
            continue
        form, other = scores.form(state, word), vectors.clone()
        other[word] = -vectors[word]
        found = form.all_pairs(torch.stack([vectors[word], other[word]]))[0]
        one_by_one = form.of_parents(torch.zeros(2, dtype=torch.int64), torch.stack([vectors[word], other[word]]))
        torch.testing.assert_close(found, one_by_one)
        expected = integrated(scores, vectors, word, word + 1) - integrated(scores, other, word, word + 1)
        assert float(found[0] - found[1]) == pytest.approx(expected, abs=1e-8)
        if word == len(vectors) - 1:
            assert float(found[0]) == pytest.approx(float(scores.gains(state, word, vectors[word][None])[0]), abs=1e-9)
        state = scores.advance(state, word, vectors[word][None])


def test_ranks_integrate_the_words_to_come():
    check_ranks()


def test_ranks_fail_where_the_words_to_come_are_taken_as_known(monkeypatch):
    """Mutation: no spread."""
    monkeypatch.setattr(BrainScores, "_root", lambda self, word: None)
    with pytest.raises(AssertionError):
        check_ranks()


def test_the_expected_word_is_that_of_the_corpus():
    features = WordVectors(Embedding(("a", "b"), np.eye(2)))
    found = expected_word(features, ["a", "a", "b", "z"])
    rows = features.vectors(["a", "a", "b", "z"])
    assert np.allclose(found.mean, rows.mean(0))
    assert np.allclose(found.spread, np.cov(rows.T, bias=True))


def test_only_volumes_within_reach_are_kept():
    seconds, _, times = words_in_time(120, 150)
    kernel = response_kernel(seconds, times, TR)
    found = whiten(np.zeros((150, 4)), np.ones((3, 4)), np.zeros(4), np.eye(4))
    scores, state, most = BrainScores(found, kernel, Expected(np.zeros(3), np.eye(3))), None, 0
    state = scores.start()
    for word in range(120):
        most = max(most, state.shape[1])
        state = scores.advance(state, word, torch.zeros(1, 3, dtype=torch.float64))
    assert most <= 18  # 32 s of 2-s volumes, and the next word's first one
    assert state.shape[1] == 0


def test_unknown_words_are_zero_or_come_from_their_letters():
    words = Embedding(("a", "b"), np.eye(2))
    letters = Embedding(("a", "c"), np.full((2, 2), 5.0))
    assert WordVectors(words).vectors(["b", "c"]).tolist() == [[1, 0, 1], [1, 0, 0]]
    assert WordVectors(words, count=False).vectors(["b", "c"]).tolist() == [[0, 1], [0, 0]]
    assert WordVectors(words, fallback=letters).vectors(["a", "c", "d"]).tolist() == [[1, 1, 0], [1, 5, 5], [1, 0, 0]]


def test_errors_say_what_to_do():
    rows, weights, intercept, covariance, _ = made()
    with pytest.raises(InputError, match="Shrink it more"):
        whiten(rows, weights, intercept, -covariance)
    rows[0, 0] = np.nan
    with pytest.raises(InputError, match="finite recorded rows"):
        whiten(rows, weights, intercept, covariance)
    with pytest.raises(InputError, match="residuals of two runs"):
        residual_covariance([np.ones((3, 2))])
    with pytest.raises(InputError, match="Leave these voxels out"):
        residual_covariance([np.zeros((3, 2))] * 3)
    with pytest.raises(InputError, match="less than the run's volumes"):
        response_kernel(np.array([1.0]), np.arange(3) * TR, TR, (1, 3))
    kernel = response_kernel(np.array([1.0]), np.arange(12) * TR, TR)
    found = whiten(*made()[:4])
    with pytest.raises(InputError, match="delays of the kernel"):
        BrainScores(found, kernel, Expected(np.zeros(3), np.eye(3)))
