"""Free decoding of made-up runs: from voxels to text, its windows, and its controls."""

import numpy as np
import pytest
import torch
from made_up_listener import FEATURES, MEANING, N_VOLUMES, TIMING, TR, VOCABULARY, WINDOWS, language, listened, listener

from decoders.decoding.beam import SearchOptions
from decoders.decoding.free_scores import (
    identify,
    semantic_similarity,
    text_similarity,
    window_courses,
    window_rolls,
    window_text,
    window_vectors,
)
from decoders.decoding.free_text import Timing, brain_scores, decode_run, fit_listener, text_features
from decoders.decoding.lexicon import lexicon_units, open_units
from decoders.errors import InputError
from decoders.stimuli.text import windows
from decoders.stimuli.timings import Words

OPTIONS = SearchOptions(width=30, prefixes=200, language_weight=0.5)


def decoded(runs, options=OPTIONS, **given):
    units = lexicon_units(VOCABULARY, language().alphabet)
    return [decode_run(listener(), run, language(), units, options, **given) for run in runs]


def rolls(runs):
    return window_rolls([len(WINDOWS)] * len(runs), 200, range(len(runs)))


def scores(texts, heard):
    found = identify(text_similarity(heard, texts, MEANING, WINDOWS, TR, blur=1.5))
    similarity = semantic_similarity(heard, texts, MEANING, WINDOWS, rolls(heard))
    return found.percentile.mean(), similarity


def test_decoded_windows_are_those_that_were_heard():
    runs, heard = listened()
    texts = [result.words for result in decoded(runs[5:])]
    percentile, similarity = scores(texts, heard[5:])
    assert percentile > 0.8
    assert similarity.p < 0.03, "one in 64 rolls of two runs is none"
    assert len(texts[0]) == pytest.approx(len(heard[5]), rel=0.15)
    assert texts[0].onset[0] == 0.0
    assert np.allclose(texts[0].onset[1:], (texts[0].onset + texts[0].duration)[:-1])


@pytest.mark.parametrize("control", ["language alone", "shifted", "noise"])
def test_controls_are_at_chance(control):
    runs, heard = listened()
    seconds = [result.words.middle for result in decoded(runs[5:], SearchOptions(brain_weight=0, width=5))]
    if control == "language alone":
        texts = decoded(runs[5:], SearchOptions(brain_weight=0, width=5))
    else:
        rng = np.random.default_rng(1)
        other = [np.roll(run, N_VOLUMES // 2, axis=0) if control == "shifted" else rng.standard_normal(run.shape)
                 for run in runs[5:]]  # fmt: skip
        texts = [decoded([run], seconds=times)[0] for run, times in zip(other, seconds, strict=True)]
    assert [len(result.words) for result in texts] == [len(times) for times in seconds]
    percentile, similarity = scores([result.words for result in texts], heard[5:])
    assert abs(percentile - 0.5) < 0.25
    assert similarity.p > 0.02


def test_the_length_comes_from_the_run_alone():
    """Two runs have about as many words as were heard, silence has the mean of the training runs."""
    runs, heard = listened()
    counts = [len(words) for words in heard[5:]]
    found = [len(result.words) for result in decoded(runs[5:], SearchOptions(brain_weight=0, width=2))]
    assert found == pytest.approx(counts, rel=0.15)
    silent = decoded([np.zeros_like(runs[5])], SearchOptions(brain_weight=0, width=2))[0]
    assert len(silent.words) == pytest.approx(np.mean([len(words) for words in heard[:5]]), rel=0.05)


def test_a_run_is_decoded_to_the_same_bits():
    runs, _ = listened()
    narrow = SearchOptions(width=5, prefixes=40)
    assert decoded(runs[5:6], narrow)[0].best == decoded([runs[5].copy()], narrow)[0].best


@pytest.mark.parametrize("timing", [TIMING, Timing(TR, delays=(1, 2, 3), hrf=False, lags=(1, 2, 3))])
def test_the_score_of_the_true_text_is_its_likelihood(timing):
    """The listener's numbers, from its parts: ridge predictions, innovations, and the density of all voxels."""
    from scipy.stats import multivariate_normal

    from decoders.decoding.likelihood import innovations

    runs, heard = listened()
    found = listener(timing)
    run, words = runs[5], heard[5]
    scored = brain_scores(found, run, words.middle)
    state, total = scored.start(), scored.baseline
    vectors = torch.from_numpy(FEATURES.vectors(words.word))
    for word, vector in enumerate(vectors):
        total += float(scored.gains(state, word, vector[None])[0])
        state = scored.advance(state, word, vector[None])
    X = text_features(words, FEATURES, N_VOLUMES, timing)
    typical = text_features(words, Typical(), N_VOLUMES, timing)
    predicted = found.ridge.predict(X) - found.ridge.predict(typical).mean(0)
    errors = innovations(run[:, :20].astype(float) - run[:, :20].astype(float).mean(0) - predicted, found.phi)
    expected = multivariate_normal.logpdf(errors, np.zeros(20), found.noise.matrix).sum()
    assert total == pytest.approx(expected, abs=1e-6)
    assert found.phi == pytest.approx(0.4, abs=0.1)


class Typical:
    """Every word is the expected one."""

    def vectors(self, words):
        return np.tile(listener().expected.mean, (len(words), 1))


def test_an_open_vocabulary_is_decoded_too():
    runs, _ = listened()
    units = open_units(language().alphabet)
    options = SearchOptions(width=10, prefixes=100, max_characters=5)
    text = decode_run(listener(), runs[5], language(), units, options).words
    assert len(set(text.word)) > 2
    assert all(set(word) <= set("abc") for word in text.word)


# ---- windows --------------------------------------------------------------------------------------------------------

THREE = Words(np.array([0.0, 9.0, 12.0]), np.array([1.0, 2.0, 1.0]), ("a", "b", "cab"), ("a ", "b ", "cab "))


def test_words_belong_to_the_window_of_their_middle():
    assert window_text(THREE, windows(0, 30, 10)) == ["a", "b cab", ""]
    vectors = window_vectors(THREE, MEANING, windows(0, 30, 10))
    assert np.allclose(vectors[1], MEANING.vectors(["b", "cab"]).mean(0))
    assert not vectors[2].any()
    courses = window_courses(THREE, MEANING, windows(0, 30, 10), 2.0, blur=0.5)
    assert courses.shape == (3, 30)
    first = courses[0].reshape(5, 6)
    assert np.allclose(first[0], np.exp(-0.5) * MEANING.vectors(["a"])[0])
    assert abs(first[2:]).max() < 1e-5


def test_the_true_text_is_identified_and_another_is_not():
    _, heard = listened()
    assert identify(text_similarity(heard, heard, MEANING, WINDOWS, TR)).correct.all()
    assert semantic_similarity(heard, heard, MEANING, WINDOWS, rolls(heard)).score == pytest.approx(1)
    others = [heard[-1], *heard[:-1]]
    assert abs(identify(text_similarity(heard, others, MEANING, WINDOWS, TR)).percentile.mean() - 0.5) < 0.12
    assert semantic_similarity(heard, others, MEANING, WINDOWS, rolls(heard)).p > 0.01


def test_errors_say_what_to_do():
    runs, heard = listened()
    with pytest.raises(InputError, match="three training runs"):
        fit_listener(runs[:2], heard[:2], np.arange(20), FEATURES, TIMING)
    with pytest.raises(InputError, match="Raise the number of rolls"):
        semantic_similarity(heard, heard, MEANING, WINDOWS, rolls(heard)[:100])
    with pytest.raises(InputError, match="Leave short runs out"):
        decoded([runs[0][:3]])
