"""Onsets of words and free text from made-up sensors."""

import itertools

import numpy as np
import pytest
from made_up_meg_story import EMBEDDING, LEXICON, SETTINGS, listened, truth

from decoders.decoding.beam import SearchOptions
from decoders.decoding.free_controls import Reader
from decoders.decoding.free_scores import identify, text_similarity
from decoders.decoding.language import CharacterModel, Language
from decoders.decoding.lexicon import lexicon_units
from decoders.decoding.meg_text import (
    fit_onsets,
    fit_sensor_listener,
    likeliest_onsets,
    log_intervals,
    search_input,
)
from decoders.decoding.responses import WordVectors
from decoders.decoding.symbols import Alphabet
from decoders.errors import InputError
from decoders.stimuli.text import windows
from decoders.stimuli.timings import Words

PLANTED = np.flatnonzero(truth()[0])


@pytest.fixture(scope="module")
def listener():
    train, _ = listened(strength=0.5)
    return fit_sensor_listener(train, PLANTED, WordVectors(EMBEDDING), SETTINGS)


@pytest.fixture(scope="module")
def reader(listener):
    import torch

    torch.manual_seed(0)
    characters = "".join(sorted(set("".join(LEXICON))))
    alphabet = Alphabet("\ufffd " + characters)
    model = CharacterModel(alphabet.n_symbols, n_units=8, n_layers=1, n_heads=2, window=8, dropout=0.0).eval()
    language = Language(model, alphabet)
    return Reader(listener, language, lexicon_units(LEXICON, alphabet), SearchOptions(10, 30, 0.3))


def by_trial(evidence, log_interval):
    """Every set of onsets in turn."""
    n, most = len(evidence), len(log_interval)
    tail = np.log(np.maximum(np.cumsum(np.exp(log_interval[::-1]))[::-1], 1e-300))
    best, found = -np.inf, None
    for size in range(1, n + 1):
        for onsets in itertools.combinations(range(n), size):
            gaps = np.diff(onsets)
            if onsets[0] >= most or (gaps > most).any() or n - 1 - onsets[-1] >= most:
                continue
            score = evidence[list(onsets)].sum() + log_interval[gaps - 1].sum() - np.log(most)
            score += tail[n - 1 - onsets[-1]]
            if score > best:
                best, found = score, onsets
    return list(found)


@pytest.mark.parametrize("seed", range(8))
def test_onsets_are_the_likeliest_of_all_series(seed):
    rng = np.random.default_rng(seed)
    evidence = 2 * rng.standard_normal(9) - 0.5
    log_interval = log_intervals(rng.integers(1, 5, 30).astype(float), 0.5)
    found = likeliest_onsets(evidence, log_interval).tolist()
    assert found == by_trial(evidence, log_interval)


def test_onsets_without_the_intervals_are_noticed():
    evidence = np.array([3.0, 2.0, -5, -5, 3, 2.0, -5, -5])
    apart = log_intervals(np.full(20, 4.0), 0.5)
    assert likeliest_onsets(evidence, apart).tolist() == [0, 4]
    # Mutation: every interval is as likely: both neighbours are taken.
    assert likeliest_onsets(evidence, np.log(np.full(8, 1 / 8))).tolist() != [0, 4]


def test_intervals_are_a_distribution_without_zeros():
    found = log_intervals(np.array([3.0, 3, 4, 0, -2]), 0.1)
    assert len(found) == 20
    assert np.exp(found).sum() == pytest.approx(1)
    assert np.argmax(found) == 2
    assert np.isfinite(found).all()


def test_words_are_heard_where_they_begin(listener):
    _, test = listened(strength=0.5)
    times, true = listener.word_times(search_input(test[0])), test[0].words.onset
    near = np.abs(times[:, None] - true[None]).min(0)
    assert (near < 0.1).mean() > 0.75
    assert len(times) == pytest.approx(len(true), rel=0.2)
    noise = np.random.default_rng(0).standard_normal((len(search_input(test[0])), 42))
    lost = np.abs(listener.word_times(noise)[:, None] - true[None]).min(0)
    assert (lost < 0.1).mean() < (near < 0.1).mean() - 0.2


def test_texts_tell_their_windows_and_the_language_model_alone_does_not(reader):
    _, test = listened(strength=0.5)
    run, heard = search_input(test[0]), test[0].words
    read, alone = reader.read(run).words, reader.read_nothing(run).words
    spans, meaning = windows(0, 80, 5), WordVectors(EMBEDDING, count=False)
    told, untold = (
        identify(text_similarity([heard], [words], meaning, spans, 0.08, 0.5)).percentile.mean()
        for words in (read, alone)
    )
    assert told > 0.8 > untold + 0.1
    np.testing.assert_array_equal(read.onset, alone.onset)


def test_parts_without_words_are_refused(listener):
    nothing = Words(np.zeros(0), np.zeros(0), (), ())
    x = [np.random.default_rng(i).standard_normal((100, 3)) for i in range(3)]
    with pytest.raises(InputError, match="three words or more"):
        fit_onsets(x, [nothing] * 3, listener.timing, 3)
