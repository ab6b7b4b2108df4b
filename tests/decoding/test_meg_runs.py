"""Recordings of sensors as decoding reads them, and what it refuses."""

import dataclasses

import numpy as np
import pytest
from made_up_meg_story import EMBEDDING, HZ, SECONDS, SETTINGS, recording, story
from pydantic import ValidationError

from decoders.config import MegDecodingSettings
from decoders.decoding.meg_runs import (
    COLUMNS,
    check_sensors,
    resampled,
    scaled,
    stretch,
    symmetric_whitener,
    text_features,
    with_text,
)
from decoders.errors import InputError
from decoders.stats.declared import Rows
from decoders.stimuli.timings import Words

RUN, WORDS = recording()
ALL = Rows("", 0, len(RUN.data))


def test_resampling_keeps_moments_where_they_are():
    times = np.arange(1000) / 200
    wave = np.sin(2 * np.pi * 3 * times)[:, None]
    found = resampled(wave, 200, 25, "x")
    np.testing.assert_allclose(found[5:-5, 0], np.sin(2 * np.pi * 3 * np.arange(125) / 25)[5:-5], atol=0.01)
    # Mutation: every eighth sample without a low-pass lets 30 Hz appear at 5 Hz.
    fast = np.sin(2 * np.pi * 30 * times)[:, None]
    assert np.abs(resampled(fast, 200, 25, "x")[10:-10]).max() < 0.1 < np.abs(fast[::8]).max()


def test_rates_that_are_no_whole_ratio_are_resampled():
    times = np.arange(3000) / 300
    found = resampled(np.sin(2 * np.pi * times)[:, None], 300, 100, "x")
    assert len(found) == 1000
    with pytest.raises(InputError, match=r"at most the 20 Hz"):
        resampled(np.zeros((10, 1)), 20, 25, "x")


def test_scaling_is_robust_and_ends_at_one():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((5000, 2)) * [1e-13, 3e-12] + 1e-12
    data[17, 0] = 1.0  # a jump of a SQUID
    z = scaled(data, slice(None), ["a", "b"], "run")
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(z.std(0), 1)
    assert z[:, 0].max() < 7
    plain = (data - data.mean(0)) / data.std(0)
    assert np.delete(plain[:, 0], 17).std() < 1e-6, "mutation: mean and sd leave nothing of the sensor"


def test_a_stretch_of_one_run_is_scaled_by_its_training_rows():
    half = len(RUN.data) // 2
    loud = dataclasses.replace(RUN, data=np.concatenate([RUN.data[:half], 5 * RUN.data[half:]]))
    late = stretch(loud, Rows("", half, len(RUN.data)), WORDS, SETTINGS, Rows("", 0, half))
    whole = stretch(loud, Rows("", half, len(RUN.data)), WORDS, SETTINGS)
    assert late.slow.std() > 1.3 * whole.slow.std()


def test_words_are_on_the_clock_of_the_stretch():
    first = round(20 * HZ)
    moved = dataclasses.replace(RUN, time=RUN.time + 100.0)
    later = dataclasses.replace(WORDS, onset=WORDS.onset + 100.0)
    found = stretch(moved, Rows("", first, len(RUN.data)), later, SETTINGS)
    heard = WORDS.between(20.0, SECONDS)
    assert found.words.word == heard.word
    np.testing.assert_allclose(found.words.onset, heard.onset - 20.0)
    assert found.start == pytest.approx(120.0)
    piece = found.part(250, 500)
    assert piece.start == pytest.approx(130.0)
    np.testing.assert_allclose(piece.words.onset, WORDS.between(30.0, 40.0).onset - 30.0)
    assert len(piece.fast) == 2 * len(piece.slow) == 500


def test_features_stand_at_the_onset_of_words():
    words = Words(np.array([0.1, 1.0]), np.array([0.5, 0.2]), ("best", "dor"), ("best ", "dor "))
    found = text_features(words, EMBEDDING, 50, 25.0)
    assert found.shape == (50, len(COLUMNS) + 24)
    np.testing.assert_array_equal(np.flatnonzero(found[:, 0]), [2, 25])
    np.testing.assert_array_equal(found[[2, 25], 2], [4, 3])
    np.testing.assert_allclose(found[25, 3:], EMBEDDING.lookup(["dor"])[0])
    assert found[:, 1].sum() == pytest.approx(0.7)


def test_text_is_scaled_by_the_runs_that_train():
    one = stretch(RUN, ALL, WORDS, SETTINGS)
    few = dataclasses.replace(one, words=WORDS.between(0, 20))
    train, test = with_text([one], [few], EMBEDDING, 25.0)
    np.testing.assert_allclose(train[0].text.mean(0), 0, atol=1e-5)
    assert test[0].text[:, 0].mean() < -0.1, "mutation: scaled by itself its mean is zero"


def test_whitening_leaves_white_noise_and_sensors_in_place():
    root = symmetric_whitener(RUN)
    np.testing.assert_allclose(root, root.T, rtol=1e-6, atol=1e-3 * np.abs(root).max())
    white = root @ RUN.noise_covariance @ root.T
    np.testing.assert_allclose(white, np.eye(len(white)), atol=1e-6)
    # Of less than full rank: white in the subspace, nothing outside of it.
    low = RUN.noise_covariance.copy()
    low[-1] = low[:, -1] = 0
    found = symmetric_whitener(dataclasses.replace(RUN, noise_covariance=low))
    assert np.trace(found @ low @ found) == pytest.approx(len(low) - 1)
    on = SETTINGS.model_copy(update={"whiten": True})
    assert np.isfinite(stretch(RUN, ALL, WORDS, on).slow).all()
    with pytest.raises(InputError, match="a noise covariance"):
        stretch(dataclasses.replace(RUN, noise_covariance=np.zeros((0, 0))), ALL, WORDS, on)


def test_a_run_that_is_shorter_than_two_windows_is_refused():
    with pytest.raises(InputError, match="at least two windows of 3 s"):
        stretch(RUN, Rows("", 0, round(5 * HZ)), WORDS, SETTINGS)


def test_a_text_outside_of_the_recording_is_refused():
    with pytest.raises(InputError, match="words between 0 and 80 s"):
        stretch(RUN, ALL, dataclasses.replace(WORDS, onset=WORDS.onset + 500), SETTINGS)


@pytest.mark.parametrize(("change", "message"), [(np.nan, "finite values"), (0.0, "sensors that vary")])
def test_values_that_are_none_are_refused(change, message):
    data = RUN.data.copy()
    data[:, 3] = change
    with pytest.raises(InputError, match=message) as error:
        stretch(dataclasses.replace(RUN, data=data), ALL, WORDS, SETTINGS)
    assert "run-01" in str(error.value)


def test_runs_of_other_sensors_are_refused():
    fewer = dataclasses.replace(RUN, names=RUN.names[:-1], run="02")
    with pytest.raises(InputError, match=r"others \(MEG0141\)"):
        check_sensors({"a": RUN, "b": fewer})
    turned = dataclasses.replace(RUN, names=RUN.names[::-1])
    with pytest.raises(InputError, match="the same in another order"):
        check_sensors({"a": RUN, "b": turned})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sfreq": 90, "text_hz": 25}, "a multiple of text_hz"),
        ({"response_s": 0.04}, "two samples of text_hz"),
        ({"window_s": 0.1}, "four samples of text_hz"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        MegDecodingSettings(**values)


def test_made_up_words_have_time_between_them():
    words = story(np.random.default_rng(0))
    assert (np.diff(words.onset) >= 0.2).all()
