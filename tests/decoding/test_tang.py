"""The baseline of Tang et al. 2023: its parts against closed forms and brute force, and the whole on a planted text."""

from functools import cache

import numpy as np
import pytest
import torch
from made_up_listener import MEANING, N_VOLUMES, TR, VOCABULARY, WINDOWS, language, listened, listener
from scipy.stats import multivariate_normal

from decoders.decoding import tang, tang_encoding
from decoders.decoding.free_controls import LANGUAGE_MODEL, NOISE
from decoders.decoding.free_scores import identify, text_similarity
from decoders.decoding.lexicon import lexicon_units
from decoders.decoding.tang import nucleus
from decoders.decoding.tang_encoding import (
    PENALTIES,
    bootstrap_penalties,
    fit_encoder,
    lanczos_kernel,
    noise_covariance,
    ridge_weights,
    shrunk,
    word_states,
)
from decoders.errors import InputError

UNITS = lexicon_units(VOCABULARY, language().alphabet)

# ---- the nucleus ----------------------------------------------------------------------------------------------------


def check_nucleus(kept=nucleus):
    log_p = np.log([0.05, 0.5, 0.3, 0.04, 0.11])
    assert kept(log_p).tolist() == [False, True, True, False, True], ".5 + .3 hold .8, so the next one belongs to it"
    assert kept(np.log([0.6, 0.05, 0.05])).tolist() == [True, False, False], "a tenth of the likeliest is .06"
    assert kept(np.log([0.02, 0.01])).all(), "words of little mass, all of them needed"


def test_the_nucleus_holds_the_mass_and_no_unlikely_word():
    check_nucleus()


@pytest.mark.parametrize(
    "bug",
    [
        lambda log_p: nucleus(log_p, ratio=0.0),  # no ratio
        lambda log_p: nucleus(log_p, mass=1.1),  # no mass
        lambda log_p: nucleus(log_p, ratio=0.0) & (np.exp(log_p) >= 0.1),  # a tenth of 1, not of the likeliest
    ],
)
def test_the_nucleus_fails_without_a_part_of_it(bug):
    with pytest.raises(AssertionError):
        check_nucleus(bug)


# ---- the encoding model ---------------------------------------------------------------------------------------------


def regression(seed=0, n=400, n_features=12, n_voxels=9):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_features))
    noise = np.linspace(0.5, 40, n_voxels)
    return X, X @ rng.standard_normal((n_features, n_voxels)) + noise * rng.standard_normal((n, n_voxels))


def check_penalties(n_bootstraps=4):
    X, Y = regression()
    found, score = bootstrap_penalties(X, Y, np.random.default_rng(3), PENALTIES, n_bootstraps)
    rng, table = np.random.default_rng(3), np.zeros((len(PENALTIES), Y.shape[1]))
    chunks = np.arange(400).reshape(10, 40)
    for _ in range(n_bootstraps):
        out = chunks[rng.permutation(10)[0]]
        seen = np.array([row for row in range(400) if row not in out])
        for row, penalty in enumerate(PENALTIES):
            weights = np.linalg.solve(X[seen].T @ X[seen] + penalty * np.eye(12), X[seen].T @ Y[seen])
            predicted = X[out] @ weights
            table[row] += [np.corrcoef(predicted[:, v], Y[out, v])[0, 1] for v in range(9)]
    np.testing.assert_allclose(found, np.array(PENALTIES)[table.argmax(0)])
    np.testing.assert_allclose(score, table.max(0) / n_bootstraps, atol=1e-10)
    assert len(set(found)) > 1, "voxels of more noise need another penalty"


def test_penalties_are_those_of_brute_force_on_held_out_chunks():
    check_penalties()


def test_they_are_not_when_the_held_out_rows_train_too(monkeypatch):
    """Mutation: nothing is held out."""
    monkeypatch.setattr(tang_encoding.np, "setdiff1d", lambda every, out: every)
    with pytest.raises(AssertionError):
        check_penalties()


def test_every_voxel_has_its_own_ridge():
    X, Y = regression()
    penalty = np.linspace(1, 500, Y.shape[1])
    found = ridge_weights(X, Y, penalty)
    for voxel in range(Y.shape[1]):
        direct = np.linalg.solve(X.T @ X + penalty[voxel] * np.eye(12), X.T @ Y[:, voxel])
        np.testing.assert_allclose(found[:, voxel], direct, atol=1e-9)


def check_noise():
    parts = [regression(seed, 60, 4, 5) for seed in range(3)]
    X, Y = [part[0] for part in parts], [part[1] for part in parts]
    penalty = np.full(5, 30.0)
    total = np.zeros((5, 5))
    for out in range(3):
        A, B = (np.concatenate([side[run] for run in range(3) if run != out]) for side in (X, Y))
        rest = Y[out] - X[out] @ np.linalg.solve(A.T @ A + 30 * np.eye(4), A.T @ B)
        total += rest.T @ rest / np.trace(rest.T @ rest) * 5 / 3
    np.testing.assert_allclose(noise_covariance(X, Y, penalty), total / 3 + 2 / 3 * np.eye(5), atol=1e-10)


def test_the_noise_is_that_of_left_out_runs_shrunk_by_two_thirds():
    check_noise()


@pytest.mark.parametrize(
    "bug",
    [
        lambda covariance: shrunk(covariance, 1 / 3),  # the shares are exchanged
        lambda covariance: covariance / 3 + 2 / 3 * np.diag(np.diag(covariance)),  # shrunk to its diagonal
    ],
)
def test_the_noise_fails_for_another_shrinkage(bug, monkeypatch):
    monkeypatch.setattr(tang_encoding, "shrunk", bug)
    with pytest.raises(AssertionError):
        check_noise()


def test_the_lanczos_filter_interpolates_and_is_delayed():
    """It has three lobes, is 1 in the middle of a volume and 0 in the middles of others; delays shift it."""
    kernel = lanczos_kernel(np.array([11.0, 12.0]), 12, 2.0, (0, 2))
    np.testing.assert_allclose(kernel[0, :, 0], np.arange(12) == 5, atol=1e-12)
    between = kernel[0, :, 1]
    assert np.flatnonzero(np.abs(between) > 1e-12).tolist() == [3, 4, 5, 6, 7, 8]
    assert between[5] == pytest.approx(np.sinc(0.5) * np.sinc(0.5 / 3))
    np.testing.assert_array_equal(kernel[1, 2:], kernel[0, :-2])


def test_states_of_words_are_those_that_steps_find():
    words = ("cab", "a", "abba")
    found = word_states(language(), words)
    cache, states = language().model.start(1), []
    for character in " cab a abba ":
        symbol = torch.from_numpy(language().alphabet.encode(character))
        states.append(language().model.step_states(symbol, cache)[1][0].double().numpy())
    np.testing.assert_allclose(found, np.stack(states)[[4, 6, 11]], atol=1e-5)


# ---- the whole ------------------------------------------------------------------------------------------------------


@cache
def planted(noise=0.5, n_voxels=40):
    """Runs that answer to the states of the language model."""
    rng = np.random.default_rng(1)
    _, heard = listened()
    every = np.concatenate([word_states(language(), words.word) for words in heard])
    weights = rng.standard_normal((4 * every.shape[1], n_voxels))
    runs = []
    for words in heard:
        states = (word_states(language(), words.word) - every.mean(0)) / every.std(0)
        kernel = lanczos_kernel(words.middle, N_VOLUMES, TR)
        signal = np.einsum("dtw,wf->tdf", kernel, states).reshape(N_VOLUMES, -1) @ weights
        run = signal / signal.std() + noise * rng.standard_normal(signal.shape)
        runs.append(((run - run.mean(0)) / run.std(0)).astype(np.float32))
    return runs, heard


@cache
def encoder():
    runs, heard = planted()
    return fit_encoder(runs[:5], heard[:5], language(), TR, np.random.default_rng(0), n_bootstraps=5)


def text_of(run, seconds, width=25):
    scores = encoder().scores(run, seconds)
    return tang.search(language(), UNITS, encoder(), scores, width)


def test_a_planted_text_is_read_and_noise_is_not(monkeypatch):
    # The untrained language model finds half of the words unlikely: all of them are proposed here.
    monkeypatch.setattr(tang, "nucleus", lambda log_p: np.ones(len(log_p), dtype=bool))
    runs, heard = planted()
    text, gained = text_of(runs[5], heard[5].middle)
    right = np.mean([a == b for a, b in zip(text, heard[5].word, strict=True)])
    noise = np.random.default_rng(0).standard_normal(runs[5].shape)
    other, less = text_of(noise, heard[5].middle)
    wrong = np.mean([a == b for a, b in zip(other, heard[5].word, strict=True)])
    assert right > wrong + 0.08
    assert gained > 5 * abs(less)


def test_the_gain_of_the_search_is_the_likelihood_of_its_text():
    runs, heard = planted()
    run, model = runs[5], encoder()
    text, gained = text_of(run, heard[5].middle, width=5)
    rows = run[:, model.voxels].astype(float)
    rows -= rows.mean(0)
    states = (word_states(language(), text) - model.mean) / model.scale
    kernel = lanczos_kernel(heard[5].middle, N_VOLUMES, TR)
    predicted = np.einsum("dtw,wf->tdf", kernel, states).reshape(N_VOLUMES, -1) @ model.weights
    density = multivariate_normal(np.zeros(rows.shape[1]), model.noise)
    expected = density.logpdf(rows - predicted).sum() - density.logpdf(rows).sum()
    assert gained == pytest.approx(expected, rel=1e-3)


def test_the_best_voxels_are_kept():
    runs, heard = planted()
    mixed = [
        np.concatenate([run, np.random.default_rng(i).standard_normal(run.shape)], 1) for i, run in enumerate(runs)
    ]
    found = fit_encoder(mixed[:5], heard[:5], language(), TR, np.random.default_rng(0), n_voxels=40, n_bootstraps=5)
    assert np.mean(found.voxels < 40) > 0.85
    assert found.weights.shape == (32, 40)


def test_texts_stand_in_the_table_with_their_own_controls():
    runs, _ = planted()
    sources = {tang.MODEL: runs[5:], NOISE: [np.random.default_rng(0).standard_normal(run.shape) for run in runs[5:]]}
    known = listened()[1][:2]
    told = tang.decode_with_controls(language(), UNITS, encoder(), listener(), sources, known, 8)
    assert [(one.model, one.control_of) for one in told] == [
        (tang.MODEL, None), (NOISE, tang.MODEL), (LANGUAGE_MODEL, tang.MODEL)
    ]  # fmt: skip
    assert "beam of 8" in told[0].note
    assert told[0].note.startswith("features (8 dimensions)")
    similar = text_similarity(listened()[1][5:], told[0].texts, MEANING, WINDOWS, TR, blur=1.5)
    assert identify(similar).percentile.mean() > 0.4


def test_one_run_is_too_few():
    runs, heard = planted()
    with pytest.raises(InputError, match="two training runs or more"):
        fit_encoder(runs[:1], heard[:1], language(), TR, np.random.default_rng(0))
