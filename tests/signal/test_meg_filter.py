"""Filters of a run that is read block by block: against closed forms, and against one pass over all samples."""

import mne
import numpy as np
import pytest

from decoders.errors import InputError
from decoders.signal import meg_filter
from decoders.signal.meg_filter import (
    Lines,
    continued,
    decimation,
    filter_in_place,
    low_pass_decimate,
    low_pass_kernel,
    resample,
    segments,
    slow_kernel,
)

RATE = 1000.0


def _noise(n=6000, channels=3, seed=0):
    return np.random.default_rng(seed).standard_normal((channels, n))


def _decimated(data, step=5, block=700, pieces=None, lines=(), edge=40.0):
    kernel, _ = low_pass_kernel(RATE, edge, "here")
    pieces = pieces or [(0, data.shape[1])]
    return low_pass_decimate(
        lambda a, b: data[:, a:b], len(data), pieces, data.shape[1], kernel, step, block, RATE, lines
    ), kernel


def test_blocks_give_what_one_pass_over_all_samples_gives():
    data = _noise()
    found, kernel = _decimated(data)
    half = len(kernel) // 2
    padded = np.pad(data, ((0, 0), (half, half)), mode="reflect")
    expected = np.stack([np.convolve(row, kernel, mode="valid") for row in padded])[:, ::5]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for block in (333, 1999, 10**6):
        np.testing.assert_allclose(_decimated(data, block=block)[0], found, atol=1e-6)


def test_what_lies_above_the_low_pass_does_not_come_back_as_an_alias():
    t = np.arange(6000) / RATE
    slow, fast = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 190 * t)
    found, _ = _decimated(np.stack([slow, fast]))
    np.testing.assert_allclose(found[0, 40:-40], slow[::5][40:-40], atol=2e-3)
    assert np.abs(found[1, 40:-40]).max() < 3e-3
    # bug: decimation without the low-pass brings 190 Hz back as 10 Hz
    assert np.abs(fast[::5]).max() > 0.9


def test_filters_do_not_reach_over_a_gap():
    data = _noise()
    pieces = [(0, 2500), (3000, 6000)]
    found, _ = _decimated(data, pieces=pieces)
    alone, _ = _decimated(data[:, 3000:])
    np.testing.assert_allclose(found[:, 600:], alone, atol=1e-6)
    assert not found[:, 500:600].any()
    # bug: one piece over the gap
    assert np.abs(_decimated(data)[0][:, 600:610] - alone[:, :10]).max() > 0.01


def test_gaps_part_a_run():
    gaps = np.array([[0, 10], [50, 50], [60, 80], [70, 90]])
    assert segments(100, gaps) == [(10, 50), (50, 60), (90, 100)]
    assert segments(100, np.zeros((0, 2), dtype=int)) == [(0, 100)]


@pytest.mark.parametrize(
    ("sfreq", "wanted", "step"), [(1000, 200, 5), (1200, 200, 6), (600.6149, 200, 3), (90, 200, 1), (499.99997, 250, 2)]
)
def test_decimation_keeps_at_least_what_is_wanted(sfreq, wanted, step):
    assert decimation(sfreq, wanted) == step


def test_line_noise_leaves_no_transient_at_the_ends():
    t = np.arange(8000) / RATE
    hum = 30 * np.sin(2 * np.pi * 50 * t + 0.7) + 4 * np.cos(2 * np.pi * 100 * t)
    data = _noise(8000, 1) * 0.1 + hum
    clean, _ = _decimated(data - hum, edge=30.0)
    found, _ = _decimated(data, lines=Lines(50.0).below(400), edge=30.0)
    assert np.abs(found - clean).max() < 0.1
    # bug: a mirror image puts a kink into the hum
    assert np.abs(_decimated(data, edge=30.0)[0] - clean).max() > 0.5


def test_a_wave_goes_on_beyond_the_ends():
    t = np.arange(-300, 1300) / RATE
    wave = 2 + 5 * np.sin(2 * np.pi * 50 * t + 0.3)
    found = continued(wave[None, 300:1300], 300, 300, RATE, [50.0])
    np.testing.assert_allclose(found[0], wave, atol=1e-9)


def test_notch_and_high_pass_at_the_low_rate():
    rate = 200.0
    t = np.arange(12000) / rate
    signal = np.sin(2 * np.pi * 10 * t)
    drift, hum = 20 + 0.1 * t, 3 * np.sin(2 * np.pi * 50 * t)
    data = np.stack([signal + drift + hum, signal]).astype(np.float32)
    kernel = slow_kernel(rate, (50.0,), 0.5, data.shape[1], "here")
    filter_in_place(data, kernel, [(0, data.shape[1])], rate, [50.0])
    inside = slice(1500, -1500)
    np.testing.assert_allclose(data[0, inside], signal[inside], atol=0.02)
    np.testing.assert_allclose(data[1, inside], signal[inside], atol=0.01)


def test_filters_longer_than_the_run_are_refused():
    with pytest.raises(InputError, match=r"a run of at least 33 s.*found 10 s at most.*high_pass_hz"):
        slow_kernel(200.0, (), 0.1, 2000, "run.fif")


def test_a_low_pass_above_half_the_rate_is_refused():
    with pytest.raises(InputError, match=r"more than 80 samples per second.*found 75 samples"):
        low_pass_kernel(75.0, 40.0, "run.fif")


@pytest.mark.parametrize(("rate", "wanted"), [(208.3333, 200.0), (90.0, 200.0), (300.3, 200.0)])
def test_resampling_is_exact_for_what_lies_in_the_pass_band(rate, wanted):
    t = np.arange(2000) / rate
    found = resample(np.sin(2 * np.pi * np.array([[3.0], [30.0]]) * t).astype(np.float32), rate, wanted)
    new = np.arange(found.shape[1]) / wanted
    inside = (new > 60 / rate) & (new < t[-1] - 60 / rate)
    expected = np.sin(2 * np.pi * np.array([[3.0], [30.0]]) * new)
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=2e-4)
    assert new[-1] <= t[-1] < new[-1] + 1 / wanted


def test_the_low_pass_is_that_of_mne():
    data = _noise(4000, 2)
    found, _ = _decimated(data, step=1)
    expected = mne.filter.filter_data(data, RATE, None, 40.0, verbose="ERROR")
    np.testing.assert_allclose(found[:, 400:-400], expected[:, 400:-400], atol=1e-6)
    assert meg_filter.BLOCK_S > 1
