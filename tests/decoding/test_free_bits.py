"""Bits per character: a true distribution over words, and less than the language model where the run tells the text."""

import dataclasses
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_listener import FEATURES, VOCABULARY, language, listened, listener

from decoders.decoding import free_bits
from decoders.decoding.beam import SearchOptions
from decoders.decoding.bits_table import BITS, GAIN, bits_rows, measure_bits
from decoders.decoding.free_bits import (
    Heard,
    calibration_runs,
    held_out_weight,
    log_posterior,
    place_scores,
    run_nats,
    text_shifts,
    word_nats,
)
from decoders.decoding.free_controls import LANGUAGE_MODEL, MODEL, NOISE, Reader, noise_like
from decoders.decoding.lexicon import lexicon_units, open_units
from decoders.decoding.next_words import next_words
from decoders.decoding.refit import SHIFTED
from decoders.decoding.stage_tables import correct
from decoders.decoding.symbols import spelled
from decoders.errors import InputError
from decoders.stats.verdicts import decoding_verdicts

WEIGHT = 0.1
UNITS = lexicon_units(VOCABULARY, language().alphabet)


@cache
def heard(run=5, n_candidates=8):
    words = listened()[1][run].word
    return Heard(words, next_words(language(), UNITS, words, n_candidates))


def shifts(n_words, most=20):
    return text_shifts(n_words, most)


# ---- what the language model expects --------------------------------------------------------------------------------


def test_the_language_models_bits_are_those_of_the_whole_text():
    expected = heard().expected
    text = "".join(map(spelled, heard().words))
    assert expected.bits_per_character == pytest.approx(language().bits_per_character(" " + text), abs=1e-12)
    assert expected.characters.sum() == len(text)


def test_candidates_have_the_probability_of_their_characters():
    expected, words = heard().expected, heard().words
    for row in (0, 3, 40):
        for number, log_p in zip(expected.candidates[row], expected.candidate_log_p[row], strict=True):
            text = " " + "".join(map(spelled, (*words[:row], UNITS.words[number])))
            last = len(spelled(UNITS.words[number]))
            assert log_p == pytest.approx(float(language().log_probabilities(text)[-last:].sum()), abs=1e-5)
        assert UNITS.words[expected.candidates[row, expected.place[row]]] == words[row]


def test_words_beyond_the_candidates_have_no_place():
    few, every = heard(n_candidates=3).expected, heard().expected
    known = (few.candidates == every.candidates[np.arange(len(every.place)), every.place][:, None]).any(1)
    np.testing.assert_array_equal(few.place >= 0, known)
    assert known.any()
    assert not known.all()
    np.testing.assert_array_equal(few.log_p, every.log_p)


def test_a_text_and_a_lexicon_are_needed():
    for units, words in ((UNITS, ()), (open_units(language().alphabet), ("a",))):
        with pytest.raises(InputError, match="a text, and the words that may follow"):
            next_words(language(), units, words)


def test_words_that_the_alphabet_lacks_are_scored_as_unknown():
    found = next_words(language(), UNITS, ("a", "zebra", "b"), 8)
    assert np.isfinite(found.log_p).all()
    assert found.place.tolist() == [0, -1, 3] or found.place[1] == -1
    assert np.isfinite(found.bits_per_character)


# ---- a distribution -------------------------------------------------------------------------------------------------


def check_distribution():
    rng = np.random.default_rng(0)
    log_p = np.log(rng.dirichlet(np.ones(6), size=4) * 0.8)
    log_p[1, 4:] = -np.inf
    total = np.exp(log_posterior(log_p, 3 * rng.standard_normal(log_p.shape))).sum(1)
    np.testing.assert_allclose(total, np.exp(log_p).sum(1), rtol=1e-12)
    scored = {word: -float(bits) for word, bits in zip(VOCABULARY, next_word_nats(), strict=True)}
    assert sum(np.exp(list(scored.values()))) == pytest.approx(np.exp(heard().expected.candidate_log_p[30]).sum())


def next_word_nats(number=30):
    """The surprise of every word of the lexicon as the next one after the same words, with the brain."""
    words, expected = heard().words, heard().expected
    scores = place_scores(listener(), listened()[0][5], len(words))
    found = []
    for word in VOCABULARY:
        place = expected.place.copy()
        place[number] = expected.candidates[number].tolist().index(UNITS.words.index(word))
        other = Heard(words, dataclasses.replace(expected, place=place))
        found.append(word_nats(scores, other, UNITS, FEATURES, np.arange(len(words))[None], [1.0])[0, 0, number])
    return found


def test_the_probabilities_of_candidates_sum_to_what_the_language_model_gives_them():
    check_distribution()


def test_they_do_not_without_the_normaliser(monkeypatch):
    """Mutation: the gain is added, and nothing is divided by."""
    monkeypatch.setattr(free_bits, "_log_total", lambda log_p: 0.0)
    with pytest.raises(AssertionError):
        check_distribution()


def test_a_recording_of_no_weight_leaves_the_language_model():
    for n in (3, 8):
        known = heard(n_candidates=n)
        orders = shifts(len(known.words))
        nats = run_nats(listener(), listened()[0][5], known, UNITS, orders, [0.0])
        np.testing.assert_allclose(nats[0], np.tile(-known.expected.log_p, (len(orders), 1)), atol=1e-10, rtol=0)


def test_the_likelihood_of_a_word_is_that_of_the_recording_with_it():
    """Bayes by hand at the last word, where nothing is left to integrate out."""
    words = heard().words
    scores = place_scores(listener(), listened()[0][5], len(words))
    state = scores.start()
    vectors = torch.from_numpy(FEATURES.vectors(words))
    for place, vector in enumerate(vectors[:-1]):
        state = scores.advance(state, place, vector[None])
    lexicon = torch.from_numpy(FEATURES.vectors(UNITS.words))
    gains = np.array([float(scores.gains(state, len(words) - 1, vector[None])[0]) for vector in lexicon])
    expected = heard().expected
    log_p = expected.candidate_log_p[-1]
    joint = log_p + gains[expected.candidates[-1]]
    share = np.exp(log_p).sum() * np.exp(joint) / np.exp(joint).sum()
    nats = word_nats(scores, heard(), UNITS, FEATURES, np.arange(len(words))[None], [1.0])
    assert nats[0, 0, -1] == pytest.approx(-np.log(share[expected.place[-1]]), abs=1e-6)


# ---- what a recording tells -----------------------------------------------------------------------------------------


def bits(run, number=5):
    """Bits per character with the recording at every order of the text, and of the language model."""
    known = heard(number)
    nats = run_nats(listener(), run, known, UNITS, shifts(len(known.words)), [WEIGHT])[0]
    return nats.sum(1) / np.log(2) / known.expected.characters.sum(), known.expected.bits_per_character


@pytest.mark.parametrize("number", [5, 6])
def test_the_run_that_was_heard_lowers_the_bits_below_every_shift(number):
    found, language_model = bits(listened()[0][number], number)
    assert found[0] < language_model
    assert found[0] < found[1:].min()


def test_another_order_of_the_volumes_does_not():
    rng = np.random.default_rng(0)
    found, language_model = bits(rng.permutation(listened()[0][5]))
    assert found[0] > language_model
    assert np.mean(found[1:] <= found[0]) > 0.05


def test_shifts_go_evenly_round_and_keep_the_words():
    orders = text_shifts(40)
    assert orders[0].tolist() == list(range(40))
    assert [int(order[0]) for order in orders] == [(40 - shift) % 40 for shift in range(40)]
    assert np.diff([-int(order[0]) % 40 for order in text_shifts(40, 7)]).tolist() == [5] * 7
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert len(text_shifts(400, 30)) == 31


def test_the_places_of_words_are_those_of_the_run(monkeypatch):
    """As many as were heard, where the decoded rate puts them: their times have no part in it."""
    asked = []
    monkeypatch.setattr(free_bits, "brain_scores", lambda listener, run, times: asked.append(times))
    run = listened()[0][5]
    place_scores(listener(), run, 77)
    own = listener().word_times(run)
    assert len(asked[0]) == 77
    share = np.interp(asked[0], own, np.arange(len(own)) + 0.5) / len(own)
    np.testing.assert_allclose(share[1:-1], ((np.arange(77) + 0.5) / 77)[1:-1], atol=0.02)


def test_a_silent_rate_says_so(monkeypatch):
    silent = dataclasses.replace(listener(), length=Silent())
    with pytest.raises(InputError, match="a rate of words above zero"):
        place_scores(silent, listened()[0][5], 10)


class Silent:
    def rate(self, run):
        return np.zeros(len(run))


# ---- the weight -----------------------------------------------------------------------------------------------------


@cache
def calibrated(runs):
    _, told = listened()
    return {run: heard(run).expected for run in runs}, told


def weight(x):
    given, told = calibrated((0, 3))
    return held_out_weight(listener(), x[:5], told[:5], given, UNITS, 4)


def test_the_weight_is_chosen_on_training_runs_that_are_held_out():
    runs, _ = listened()
    assert 0 < weight(runs) < 1, "positions are not known to the second, so the whole likelihood is too sure"
    rng = np.random.default_rng(0)
    assert weight([rng.permutation(run) for run in runs]) == 0.0


def test_a_listener_without_runs_has_not_seen_them():
    runs, told = listened()
    other = [run if number != 1 else -run for number, run in enumerate(runs)]
    blind = [listener().without(x[:5], told[:5], [1], 4) for x in (runs, other)]
    np.testing.assert_array_equal(blind[0].ridge.weights, blind[1].ridge.weights)
    np.testing.assert_array_equal(blind[0].length.ridge.weights, blind[1].length.ridge.weights)
    assert not np.array_equal(blind[0].ridge.weights, listener().ridge.weights)


def test_two_runs_stay_when_the_weight_is_chosen():
    assert calibration_runs(3) == [0]
    assert calibration_runs(4) == [0, 3]
    assert calibration_runs(15) == [0, 7, 14]


# ---- the rows -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    return bits_of(listened()[0])


def bits_of(runs, seed=0):
    known, told = listened()
    reader = Reader(listener(), language(), UNITS, SearchOptions())
    rng = np.random.default_rng(seed)
    noise = {NOISE: [noise_like(run, listener(), rng) for run in runs[5:]]}
    return measure_bits(reader, known[:5], told[:5], runs[5:], told[5:], noise, 14.0, 4)


def rows(found, n_nulls=300):
    about = {"subject": "01", "seed": 0, "task": "free_text"}
    table = pd.DataFrame(bits_rows(found, about, n_nulls, np.random.default_rng(1), [0, 1]))
    return table.set_index(["metric", "model"])


def test_rows_are_means_over_all_characters(measured):
    table, size = rows(measured), sum(part.sum() for part in measured.characters)
    language_model = sum(bits.sum() for bits in measured.language) / size
    brain = sum(bits[0].sum() for bits in measured.brain) / size
    assert table.score[BITS, LANGUAGE_MODEL] == pytest.approx(language_model, abs=1e-12)
    assert table.score[BITS, MODEL] == pytest.approx(brain, abs=1e-12)
    assert table.score[GAIN, MODEL] == pytest.approx(language_model - brain, abs=1e-12)
    assert table.ci_low[GAIN, MODEL] < table.score[GAIN, MODEL] < table.ci_high[GAIN, MODEL]
    assert table.score[GAIN, LANGUAGE_MODEL] == 0
    assert set(table.index.get_level_values(1)) == {MODEL, LANGUAGE_MODEL, SHIFTED, NOISE}
    assert (table.n == 16).all(), "two runs of eight stretches"


def test_a_planted_text_is_below_every_shift_and_noise(measured):
    table = rows(measured)
    assert table.p[GAIN, MODEL] == pytest.approx(1 / 301)
    assert table.p.notna().sum() == 1
    assert table.score[BITS, MODEL] < table.ci_low[BITS, SHIFTED]
    assert table.score[BITS, MODEL] < table.score[BITS, LANGUAGE_MODEL] < table.score[BITS, NOISE]
    assert table.null_mean[GAIN, MODEL] < 0


def test_permuted_runs_gain_nothing():
    rng = np.random.default_rng(2)
    runs, _ = listened()
    found = rows(bits_of([*runs[:5], *(rng.permutation(run) for run in runs[5:])]))
    assert found.score[GAIN, MODEL] < 0
    assert found.p[GAIN, MODEL] > 0.05


def test_a_gain_of_bits_is_judged_beside_its_controls(measured):
    table = rows(measured).reset_index()
    analysis = "free_text: beam, bits_gain, split test_runs, seed 0"
    row = decoding_verdicts(correct(table), 0.05).set_index("analysis").loc[analysis]
    above = row.ci_low > 0
    assert row.verdict == ("above all controls" if above else "above chance but explained by language_model")


def test_a_gain_whose_interval_holds_zero_is_the_language_models(measured):
    table = rows(measured)
    table.loc[(GAIN, MODEL), "ci_low"] = -0.001
    found = decoding_verdicts(correct(table.reset_index()), 0.05).iloc[0]
    assert found.verdict == "above chance but explained by language_model"


def test_stretches_hold_every_word_and_the_rest_belongs_to_the_last(measured):
    assert [len(blocks) for blocks in measured.blocks] == [len(words) for words in listened()[1][5:]]
    assert max(measured.blocks[0]) == 7
