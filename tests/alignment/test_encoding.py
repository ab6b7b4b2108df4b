"""Encoding alignment against himalaya, scikit-learn, planted responses and planted leaks."""

import numpy as np
import pytest

from decoders.alignment.encoding import folds as folds_module
from decoders.alignment.encoding.folds import Fold, blocks_of, inner_folds
from decoders.alignment.encoding.kernels import centred_on, linear_cka, linear_kernel
from decoders.alignment.encoding.scores import MEAN, VOXELS, held_out_scores, join, permuted_scores
from decoders.alignment.encoding.solver import band_weights, predict
from decoders.alignment.regions import Trials
from decoders.errors import InputError
from decoders.stats.splits import Split

N, RUNS, VOXELS_N = 40, 4, 12
STIMULI = [f"s{i:02d}" for i in range(N)]
ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)


def recorded(signal, rng, noise=1.0, drift=0.0, repeats=True):
    """Trials of four runs; a drift is the same smooth course in every voxel of a run, over its own order."""
    patterns, conditions, runs = [], [], []
    for run in range(RUNS):
        order = rng.permutation(N) if repeats else np.arange(run, N, RUNS)
        for place, stimulus in enumerate(order):
            slow = drift * np.sin(2 * np.pi * place / len(order) + run)
            patterns.append(signal[stimulus] + slow + noise * rng.standard_normal(VOXELS_N))
            conditions.append(STIMULI[stimulus])
            runs.append(f"run {run}")
    return Trials(np.array(patterns, dtype=np.float32), conditions, runs)


def planted(rng, n_features=30):
    features = rng.standard_normal((N, n_features))
    return features, features @ rng.standard_normal((n_features, VOXELS_N)) / np.sqrt(n_features)


def score(trials, features, measure=VOXELS):
    responses = join({("1", "r"): blocks_of(trials, STIMULI, 5, "subject 1")})
    found = held_out_scores(linear_kernel(features, STIMULI, "x")[None], responses, ALPHAS)
    return found[[owner[2] for owner in responses.owners].index(measure)]


# ---- the solver -----------------------------------------------------------------------------------------------------


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((N, 25)), rng.standard_normal((N, 70))]
    train = np.arange(0, 30)
    fold = Fold(train, np.arange(30, N), inner_folds(train % 4))
    kernels = np.array([linear_kernel(f, STIMULI, "x") for f in features])
    Y = np.hstack([features[0] @ rng.standard_normal((25, 4)), features[1] @ rng.standard_normal((70, 4))]) / 5
    return features, kernels, fold, Y + rng.standard_normal(Y.shape)


def check_sklearn(case):
    from sklearn.linear_model import Ridge

    features, kernels, fold, Y = case
    Z = (features[0] - features[0].mean(0)) / features[0].std(0) / np.sqrt(25)
    for alpha in ALPHAS:
        other = Ridge(alpha=alpha).fit(Z[fold.train], Y[fold.train]).predict(Z[fold.test])
        np.testing.assert_allclose(predict(kernels[:1], fold, Y[fold.train], [alpha]), other, atol=1e-8)


def test_equal_to_scikit_learn(case):
    check_sklearn(case)


def test_the_mutation_centred_on_all_stimuli_differs_from_scikit_learn(case, monkeypatch):
    monkeypatch.setattr(
        "decoders.alignment.encoding.solver.centred_on", lambda kernel, rows: centred_on(kernel, np.arange(N))
    )
    with pytest.raises(AssertionError):
        check_sklearn(case)


def test_equal_to_himalaya(case):
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    _, kernels, fold, Y = case
    weights = band_weights(2, 6)
    inside = np.array([centred_on(kernel, fold.train) for kernel in kernels])
    Ks = inside[:, fold.train][:, :, fold.train]
    offset = Y[fold.train].mean(0)
    deltas, dual, _ = solve_multiple_kernel_ridge_random_search(
        Ks, Y[fold.train] - offset, n_iter=weights, alphas=np.array(ALPHAS), cv=list(fold.inner), progress_bar=False,
        return_weights="dual",
    )  # fmt: skip
    Kt = inside[:, fold.test][:, :, fold.train]
    other = np.einsum("bt,bij,jt->it", np.exp(deltas), Kt, dual) + offset
    np.testing.assert_allclose(predict(kernels, fold, Y[fold.train], ALPHAS, weights), other, atol=1e-8)


def test_bands_find_the_features_that_carry_the_response(case):
    _, kernels, fold, Y = case
    weights = band_weights(2, 10)
    assert weights.sum(1) == pytest.approx(1)
    joint = predict(kernels, fold, Y[fold.train], ALPHAS, weights)
    alone = predict(kernels[1:], fold, Y[fold.train], ALPHAS)
    missed = [((Y[fold.test] - p) ** 2)[:, :4].mean() for p in (joint, alone)]
    assert missed[0] < missed[1]


# ---- folds ----------------------------------------------------------------------------------------------------------


def test_planted_responses_are_recovered():
    rng = np.random.default_rng(1)
    features, signal = planted(rng)
    trials = recorded(signal, rng)
    assert score(trials, features) > 0.3
    assert score(trials, features, MEAN) > 0.2
    assert score(recorded(signal, rng, repeats=False), features) > 0.15


def noise_score(seed, drift=0.0, smooth=False):
    """Score of features that have nothing to do with strong stimulus responses (or only with a run's own drift)."""
    rng = np.random.default_rng(seed)
    trials = recorded(2 * rng.standard_normal((N, VOXELS_N)) * (not smooth), rng, drift=drift)
    features = rng.standard_normal((N, 30))
    if smooth:
        # Alike in neighbours of the first run.
        place = np.array([trials.conditions[:N].index(name) for name in STIMULI])
        features = np.exp(-(((place[:, None] - np.arange(0, N, 4)) / 4.0) ** 2))
    return score(trials, features)


def test_noise_features_predict_nothing():
    assert np.mean([noise_score(seed) for seed in range(12)]) == pytest.approx(0, abs=0.03)
    assert np.mean([noise_score(seed, 3.0, True) for seed in range(12)]) == pytest.approx(0, abs=0.06)


def no_audit(*_args, **_kwargs):
    return None


def shuffled(run_group, stimulus_group):
    parts = np.random.default_rng(0).permutation(len(run_group)) % 5
    return [Split(str(k), np.flatnonzero(parts != k), np.flatnonzero(parts == k)) for k in range(5)]


def by_run(run_group, stimulus_group):
    return [Split(str(k), np.flatnonzero(run_group != k), np.flatnonzero(run_group == k)) for k in np.unique(run_group)]


def by_stimulus_in_each_run(run_group, stimulus_group):
    pairs = {(r, g) for r, g in zip(run_group, stimulus_group, strict=True)}
    return [
        Split("x", np.flatnonzero((run_group == r) & (stimulus_group != g)),
              np.flatnonzero((run_group == r) & (stimulus_group == g)))
        for r, g in sorted(pairs)
    ]  # fmt: skip


@pytest.mark.parametrize("mutation", [shuffled, by_run])
def test_a_leak_of_stimuli_lets_noise_features_predict(mutation, monkeypatch):
    monkeypatch.setattr(folds_module, "trial_splits", mutation)
    with pytest.raises(InputError, match="on one side only"):
        noise_score(0)
    monkeypatch.setattr(folds_module, "audit_split", no_audit)
    assert np.mean([noise_score(seed) for seed in range(3)]) > 0.2


def test_a_leak_of_runs_lets_features_predict_the_drift(monkeypatch):
    monkeypatch.setattr(folds_module, "trial_splits", by_stimulus_in_each_run)
    with pytest.raises(InputError, match="on one side only"):
        noise_score(0, 3.0, True)
    monkeypatch.setattr(folds_module, "audit_split", no_audit)
    assert np.mean([noise_score(seed, 3.0, True) for seed in range(4)]) > 0.15


def test_one_run_and_a_missing_stimulus_are_refused():
    rng = np.random.default_rng(0)
    trials = recorded(np.zeros((N, VOXELS_N)), rng)
    one = Trials(trials.patterns[:N], trials.conditions[:N], trials.runs[:N])
    with pytest.raises(InputError, match="two or more runs"):
        blocks_of(one, STIMULI, 5, "subject 1")
    with pytest.raises(InputError, match="none of s99"):
        blocks_of(trials, [*STIMULI, "s99"], 5, "subject 1")


def test_permuted_labels_have_a_null_around_zero():
    rng = np.random.default_rng(2)
    features, signal = planted(rng)
    responses = join({("1", "r"): blocks_of(recorded(signal, rng), STIMULI, 5, "subject 1")})
    orders = rng.permuted(np.tile(np.arange(N), (30, 1)), axis=1)
    kernel = linear_kernel(features, STIMULI, "x")
    null = permuted_scores(kernel, responses, ALPHAS, orders)[:, 0]
    assert null.mean() == pytest.approx(0, abs=0.04)
    assert null.max() < held_out_scores(kernel[None], responses, ALPHAS)[0]
    same = permuted_scores(kernel, responses, ALPHAS, np.arange(N)[None])[0]
    np.testing.assert_allclose(same, held_out_scores(kernel[None], responses, ALPHAS))


# ---- linear CKA -----------------------------------------------------------------------------------------------------


def direct_cka(X, Y):
    X, Y = X - X.mean(0), Y - Y.mean(0)
    norm = np.linalg.norm
    return norm(Y.T @ X) ** 2 / (norm(X.T @ X) * norm(Y.T @ Y))


def test_linear_cka_is_its_formula():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((20, 7)) + 3, rng.standard_normal((20, 50))
    assert linear_cka(X @ X.T, Y @ Y.T) == pytest.approx(direct_cka(X, Y), abs=1e-10)
    assert linear_cka(X @ X.T, 5 * X @ X.T) == pytest.approx(1, abs=1e-10)
    # The mutation without centring.
    assert (X @ X.T * (Y @ Y.T)).sum() / np.sqrt(((X @ X.T) ** 2).sum() * ((Y @ Y.T) ** 2).sum()) != pytest.approx(
        direct_cka(X, Y), abs=1e-3
    )


def test_debiased_cka_of_unrelated_features_is_zero_on_average_and_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        X, Y = rng.standard_normal((2, 12, 60))
        found.append([linear_cka(X @ X.T, Y @ Y.T, debiased) for debiased in (True, False)])
    debiased, plain = np.mean(found, axis=0)
    assert debiased == pytest.approx(0, abs=0.03)
    assert plain > 0.5
