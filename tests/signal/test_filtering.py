import numpy as np
import pytest
import scipy.fft
from nilearn.glm.first_level.design_matrix import create_cosine_drift
from nilearn.signal import clean

from decoders.signal.filtering import clean_in_place, cosine_basis, keep_columns, nuisance_basis


@pytest.mark.parametrize(("n", "tr", "period"), [(121, 2.5, 128.0), (150, 2.0, 128.0), (300, 0.72, 90.0), (64, 2, 128)])
def test_cosines_are_those_of_nilearn_and_scipy(n, tr, period):
    ours = cosine_basis(n, tr, period)
    theirs = create_cosine_drift(1 / period, np.arange(n) * tr)[:, :-1]
    assert np.abs(ours - theirs / np.linalg.norm(theirs, axis=0)).max() < 1e-12
    dct = scipy.fft.idct(np.eye(n), norm="ortho", axis=0)[:, 1 : ours.shape[1] + 1]
    assert np.abs(ours - dct).max() < 1e-12


def test_a_period_longer_than_twice_the_run_takes_nothing():
    assert cosine_basis(20, 2.0, 128.0).shape == (20, 0)


@pytest.fixture
def series(rng):
    n = 120
    confounds = np.cumsum(rng.standard_normal((n, 4)), axis=0) * [0.1, 0.001, 3, 1]
    drift = np.linspace(-3, 3, n)[:, None] * rng.standard_normal(9)
    signals = 500 + drift + confounds @ rng.standard_normal((4, 9)) + rng.standard_normal((n, 9))
    return signals.astype(np.float32), confounds


def test_cleaning_equals_nilearn(series):
    signals, confounds = series
    theirs = clean(
        signals.astype(np.float64), detrend=False, standardize=False, confounds=confounds, filter="cosine",
        high_pass=1 / 128, t_r=2.0,
    )  # fmt: skip
    theirs -= theirs.mean(axis=0)
    ours = signals.copy()
    clean_in_place(ours, nuisance_basis(120, 2.0, 128.0, confounds), standardize=False)
    assert np.abs(ours - theirs).max() < 1e-4


def test_cleaning_equals_the_residual_of_one_regression(series):
    signals, confounds = series
    design = np.column_stack([np.ones(120), cosine_basis(120, 2.0, 128.0), confounds])
    signals64 = signals.astype(np.float64)
    truth = signals64 - design @ np.linalg.lstsq(design, signals64, rcond=None)[0]
    truth /= truth.std(axis=0)
    ours = signals.copy()
    clean_in_place(ours, nuisance_basis(120, 2.0, 128.0, confounds), standardize=True)
    assert np.abs(ours - truth).max() < 1e-5


def test_one_after_the_other_is_another_result(series):
    """The mutation: filter first, then regress the unfiltered confounds. It puts drift back."""
    signals, confounds = series
    drift = cosine_basis(120, 2.0, 128.0)
    together, sequential = signals.copy(), signals.copy()
    clean_in_place(together, nuisance_basis(120, 2.0, 128.0, confounds), standardize=False)
    clean_in_place(sequential, nuisance_basis(120, 2.0, 128.0), standardize=False)
    clean_in_place(sequential, nuisance_basis(120, 2.0, None, confounds), standardize=False)
    assert np.abs(drift.T @ together).max() < 1e-4
    assert np.abs(drift.T @ sequential).max() > 0.1


def test_z_score_is_over_n_not_n_minus_1(series):
    data = series[0].copy()
    clean_in_place(data, nuisance_basis(120, 2.0, 128.0), standardize=True)
    squares = np.mean(data.astype(np.float64) ** 2, axis=0)
    assert np.abs(squares - 1).max() < 1e-6
    assert np.abs(squares * 120 / 119 - 1).min() > 1e-3  # what ddof=1 would give


def test_basis_is_orthonormal_and_drops_what_is_redundant(rng):
    one = rng.standard_normal((50, 1))
    columns = np.hstack([one, 2 * one + 7, np.zeros((50, 1)), np.ones((50, 1)), 1e-9 * rng.standard_normal((50, 1))])
    basis = nuisance_basis(50, 2.0, 60.0, columns)
    assert basis.shape[1] == 1 + cosine_basis(50, 2.0, 60.0).shape[1] + 2
    assert np.abs(basis.T @ basis - np.eye(basis.shape[1])).max() < 1e-12


def test_stretches_do_not_change_the_result(series, monkeypatch):
    whole, parts = series[0].copy(), series[0].copy()
    basis = nuisance_basis(120, 2.0, 128.0)
    stats = clean_in_place(whole, basis, True)
    monkeypatch.setattr("decoders.signal.filtering._CHUNK_BYTES", 8 * 120 * 2)
    again = clean_in_place(parts, basis, True)
    assert np.abs(whole - parts).max() < 1e-6
    assert np.allclose(stats.tsnr, again.tsnr)


def test_tsnr_is_mean_over_deviation_of_the_detrended_series(series):
    signals = series[0].astype(np.float64)
    time = np.arange(120)
    fit = np.stack([np.polyval(np.polyfit(time, column, 1), time) for column in signals.T], axis=1)
    truth = signals.mean(axis=0) / (signals - fit).std(axis=0)
    stats = clean_in_place(series[0].copy(), nuisance_basis(120, 2.0, 128.0), True)
    assert np.allclose(stats.tsnr, truth, rtol=1e-4)


def test_a_pure_drift_is_flat():
    data = np.column_stack([1000 + 50 * cosine_basis(60, 2.0, 60.0)[:, 0], np.random.default_rng(0).random(60)])
    data = data.astype(np.float32)
    stats = clean_in_place(data, nuisance_basis(60, 2.0, 60.0), True)
    assert stats.flat.tolist() == [True, False]
    assert np.isfinite(data).all()


def test_keep_columns_stays_in_the_same_memory(rng):
    data = rng.standard_normal((6, 9)).astype(np.float32)
    keep = rng.random(9) > 0.4
    truth = data[:, keep].copy()
    kept = keep_columns(data, keep)
    assert (kept == truth).all()
    assert np.shares_memory(kept, data)
