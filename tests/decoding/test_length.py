"""Word times from the recording alone."""

import numpy as np
import pytest

from decoders.decoding.length import fit_length, word_rate, word_spans, word_times
from decoders.errors import InputError

TR = 2.0


def runs(n=6, n_volumes=80, noise=0.1, seed=0):
    """Speech with pauses; ten voxels answer to the word rate two volumes later."""
    rng = np.random.default_rng(seed)
    x, seconds = [], []
    for _ in range(n):
        rate = np.maximum(0, 5 + 3 * np.sin(np.arange(n_volumes) / 4 + rng.uniform(0, 6)))
        seconds.append(word_times(rate, TR * np.arange(n_volumes), TR))
        heard = word_rate(seconds[-1], TR * np.arange(n_volumes), TR)
        response = np.concatenate([[5, 5], heard[:-2]])[:, None] * rng.uniform(0.5, 1, 10)
        run = response + noise * rng.standard_normal(response.shape)
        x.append((run - run.mean(0)) / run.std(0))
    return x, seconds, TR * np.arange(n_volumes)


def test_a_planted_rate_is_found_and_its_words_lie_in_time():
    x, seconds, times = runs()
    rates = [word_rate(part, times, TR) for part in seconds]
    model = fit_length(x[:5], rates[:5], (1, 2, 3))
    rate = model.rate(x[5])
    assert np.corrcoef(rate[:-3], rates[5][:-3])[0, 1] > 0.95
    found = word_times(rate, times, TR)
    assert len(found) == pytest.approx(len(seconds[5]), rel=0.05)
    inner = found[(found > 20) & (found < 140)]
    nearest = np.abs(inner[:, None] - seconds[5][None]).min(1)
    assert np.median(nearest) < 0.3


def test_the_length_does_not_come_from_the_reference():
    """A run of noise gets the mean rate, whatever was said in it."""
    x, seconds, times = runs()
    model = fit_length(x[:5], [word_rate(part, times, TR) for part in seconds[:5]], (1, 2, 3))
    silent = model.rate(np.zeros_like(x[5]))
    assert np.allclose(silent, silent[0])
    mean = np.mean([len(part) for part in seconds[:5]])
    assert len(word_times(silent, times, TR)) == pytest.approx(mean, rel=0.1)


def test_words_stand_where_the_count_is_half_way():
    times = TR * np.arange(4)
    assert word_times(np.array([2.0, 0.0, 0.0, 1.0]), times, TR).tolist() == [0.5, 1.5, 7.0]
    assert word_times(np.array([0.25, 0.25, 0.0, 0.0]), times, TR).tolist() == []
    assert word_times(np.array([0.3, 0.3, 0.3, 0.0]), times, TR) == pytest.approx([2 + 2 * 2 / 3])


def test_a_rate_is_never_negative():
    x, seconds, times = runs(noise=3.0)
    model = fit_length(x, [word_rate(part, times, TR) for part in seconds], (1, 2, 3))
    assert model.rate(-20 * x[0]).min() == 0.0


def test_words_fill_the_time_between_each_other():
    onset, duration = word_spans(np.array([1.0, 3.0, 4.0]), 0.0, 6.0)
    assert onset.tolist() == [0.0, 2.0, 3.5]
    assert duration.tolist() == [2.0, 1.5, 2.5]


def test_errors_say_what_to_do():
    x, seconds, times = runs(2)
    rates = [word_rate(part, times, TR) for part in seconds]
    with pytest.raises(InputError, match="Leave short runs out"):
        fit_length([run[:3] for run in x], [rate[:3] for rate in rates], (1, 2, 3))
    with pytest.raises(InputError, match="Leave short runs out"):
        fit_length(x, rates, (1, 2)).rate(x[0][:2])
    with pytest.raises(InputError, match="a rate for each of 80 volumes"):
        fit_length(x, [rate[:5] for rate in rates], (1, 2))
    with pytest.raises(InputError, match="without signal"):
        word_times(np.array([1.0, np.nan]), times[:2], TR)
