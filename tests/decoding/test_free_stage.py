"""Free text as the workflow makes it: its split, its language model, its controls, its tables."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up_listener import MEANING, TR, VOCABULARY, WINDOWS, language, listened, listener

from decoders.config import FreeTextSettings, VoxelMapSettings, parse_settings
from decoders.decoding import free_controls
from decoders.decoding.beam import SearchOptions
from decoders.decoding.free_controls import (
    LANGUAGE_MODEL,
    MODEL,
    NOISE,
    POSITION,
    WORD_RATE,
    Reader,
    Told,
    decode_with_controls,
    noise_like,
    other_stories,
    rolled,
)
from decoders.decoding.free_scores import identification_null, identify, window_rolls
from decoders.decoding.free_table import Compared, score_rows, shared_windows, text_rows
from decoders.decoding.identification import window_correlations
from decoders.decoding.lexicon import lexicon_units
from decoders.decoding.likelihood import Covariance
from decoders.decoding.refit import SHIFTED
from decoders.decoding.splits_free_text import declare_free_text, held_out_stimuli, language_corpus
from decoders.decoding.stage_free_text import heard_in
from decoders.decoding.stage_language import corpus_text, read_language
from decoders.decoding.stage_tables import correct
from decoders.decoding.symbols import plain_text
from decoders.decoding.text_scores import ngram_scores
from decoders.errors import InputError, SettingsError
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.declared import TimedRun, write_declaration
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stats.verdicts import decoding_verdicts
from decoders.stimuli.timings import Words, words_table
from decoders.stimuli.training_text import training_documents
from decoders.store.recording import Recording
from decoders.store.tables import write_table

# ---- the split ------------------------------------------------------------------------------------------------------

VOXELS = VoxelMapSettings(test_runs=1)


def story(seed, n=400):
    chosen = np.random.default_rng(seed).integers(60, size=n)
    words = tuple(f"w{'abcdefgh'[number % 8]}{'klmnopqr'[number // 8]}" for number in chosen)
    return Words(0.5 * np.arange(n), np.full(n, 0.4), words, tuple(word + " " for word in words))


def timed(number, subject="01", stimulus=None):
    return TimedRun(f"sub-{subject}_run-{number}", subject, stimulus or f"s{number}", 90, 0.0, TR, 128.0)


STORIES = {f"s{number}": story(number) for number in range(1, 6)}


def declared(settings=None, tested=("s5",), subject="01"):
    runs = [timed(number, subject) for number in range(1, 6)]
    return declare_free_text(runs, VOXELS, settings or FreeTextSettings(), sorted(STORIES), tested)


def leaks(declaration, **sources):
    return [f.check for f in audit([declaration], Material(STORIES, {}, sources.__getitem__)) if f.passed == "no"]


def test_the_language_model_reads_no_test_story():
    found = declared()
    corpus = language_corpus(found)
    assert corpus.stimuli == ("s1", "s2", "s3", "s4")
    assert held_out_stimuli(found) == {"s5"}
    assert leaks(found) == []


def test_the_audit_finds_a_test_story_that_was_not_left_out():
    assert leaks(declared(tested=())) == ["corpus", "corpus"]


def test_the_audit_finds_a_test_story_in_a_text_of_the_users():
    settings = FreeTextSettings(corpus=("mine.txt",))
    assert leaks(declared(settings), **{"mine.txt": {"mine": STORIES["s5"].word}}) == ["corpus", "corpus"]
    assert leaks(declared(settings), **{"mine.txt": {"mine": story(99).word}}) == []


def test_a_story_that_another_subject_is_tested_on_is_left_out_as_well():
    assert language_corpus(declared(tested=("s5", "s2"))).stimuli == ("s1", "s3", "s4")


def test_without_a_subject_there_is_no_corpus():
    with pytest.raises(InputError, match="a subject who can be decoded"):
        language_corpus(dataclasses.replace(declared(), splits=()))


def test_free_text_needs_the_voxels_block():
    values = {"study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {}, "decoding": {"free_text": {}}}
    with pytest.raises(SettingsError, match="'free_text' reads the voxels that 'voxels' selects"):
        parse_settings(values)


# ---- the language model ---------------------------------------------------------------------------------------------


def trained(folder, corpus=()):
    """The stage `language` on the made-up stories."""
    declaration = declared(FreeTextSettings(corpus=corpus))
    write_declaration(folder / "splits.json", declaration)
    from decoders.store.atomic import sha256_of

    about = {"analysis": "free_text", "check": "run", "passed": "yes", "declaration": sha256_of(folder / "splits.json")}
    rows = [{**about, "split": split.name, "found": "", "needed": "", "detail": ""} for split in declaration.splits]
    write_table(folder / "leaks.tsv", pd.DataFrame(rows), "leaks")
    table = pd.concat([words_table(words).assign(stimulus=name) for name, words in STORIES.items()])
    write_table(folder / "words.tsv", table)
    values = {
        "study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {},
        "decoding": {"voxels": {"test_runs": 1}, "free_text": {"epochs": 2, "max_words": 20, "corpus": list(corpus)}},
    }  # fmt: skip
    inputs = {
        name: [folder / f"{name}.{end}"] for name, end in (("splits", "json"), ("leaks", "tsv"), ("words", "tsv"))
    }
    run_stage(SettingsSlice.of("language", parse_settings(values)), inputs, {"weights": folder / "lm.safetensors"})
    return folder / "lm.safetensors"


def test_the_stage_writes_a_model_that_reads_the_same_back(tmp_path):
    found, lexicon = read_language(trained(tmp_path))
    heard = {word for name in ("s1", "s2", "s3", "s4") for word in STORIES[name].word}
    assert len(lexicon) == 20
    assert set(lexicon) <= heard
    bits = found.bits_per_character("".join(f"{word} " for word in STORIES["s5"].word))
    assert bits < np.log2(found.alphabet.n_symbols)
    assert not list(tmp_path.glob(".*checkpoint"))


def test_the_corpus_holds_the_users_text_first_and_no_test_story(tmp_path):
    (tmp_path / "mine.txt").write_text("Once upon a time, there was!")
    corpus = language_corpus(declared(FreeTextSettings(corpus=(str(tmp_path / "mine.txt"),))))
    text = corpus_text(corpus, STORIES, None)
    assert text.startswith("once upon a time there was ")
    assert text.endswith("".join(f"{word} " for word in STORIES["s4"].word))
    assert "".join(f"{word} " for word in STORIES["s5"].word[:8]) not in text


@pytest.mark.mirror
def test_tinyshakespeare_is_a_text_by_name(mirror):
    (document,) = training_documents("tinyshakespeare", mirror)
    assert plain_text(document[:200]).startswith("first citizen before we proceed any further")


# ---- the controls ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    units = lexicon_units(VOCABULARY, language().alphabet)
    return Reader(listener(), language(), units, SearchOptions(width=12, prefixes=60, language_weight=0.5))


@pytest.fixture(scope="module")
def decodings(reader):
    found = decode_with_controls(reader, listened()[0][5:], np.random.default_rng(0))
    assert [told.control_of for told in found] == [None, MODEL, MODEL, MODEL]
    return {told.model: told.texts for told in found}


def told_by(decodings):
    return [Told(model, texts, None if model == MODEL else MODEL) for model, texts in decodings.items()]


def compared(heard=None):
    return Compared(
        heard or listened()[1][5:], MEANING, WINDOWS, TR, 1.5, window_rolls([len(WINDOWS)] * 2, 200, [0, 1])
    )


def rows_of(decodings, heard=None):
    return pd.DataFrame(score_rows(told_by(decodings), compared(heard), "01", 0, np.random.default_rng(1)))


def test_the_language_model_alone_has_the_word_times_of_the_run(decodings):
    assert set(decodings) == {MODEL, LANGUAGE_MODEL, SHIFTED, NOISE}
    for own, alone in zip(decodings[MODEL], decodings[LANGUAGE_MODEL], strict=True):
        np.testing.assert_array_equal(own.onset, alone.onset)
        assert own.word != alone.word


def test_the_language_model_alone_does_not_read_the_recording(reader, monkeypatch):
    monkeypatch.setattr(free_controls, "decode_run", lambda *given: given)
    *_, options, seconds = reader.read_nothing(listened()[0][5])
    assert options.brain_weight == 0
    np.testing.assert_array_equal(seconds, reader.listener.word_times(listened()[0][5]))


def test_a_rolled_run_has_the_same_volumes_far_from_where_they_were():
    run = np.arange(40.0)[:, None]
    for seed in range(20):
        found = rolled(run, np.random.default_rng(seed))
        assert sorted(found[:, 0]) == list(range(40))
        assert 10 <= (0 - int(found[0, 0])) % 40 <= 30


def test_noise_has_the_autocorrelation_of_residuals_and_nothing_of_the_run():
    run = np.random.default_rng(0).standard_normal((4000, 3)).astype(np.float32)
    spread = np.array([[1.0, 0.7], [0.7, 1.0]])
    known = dataclasses.replace(listener(), voxels=np.array([2, 0]), noise=Covariance(spread, 0.0), phi=0.6)
    found = noise_like(run, known, np.random.default_rng(1))
    assert found.dtype == run.dtype
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-5)
    assert np.mean(found[1:] * found[:-1]) == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(found.T)[0, 2] == pytest.approx(0.7, abs=0.05), "the voxels that are read vary together"
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.1
    assert abs(np.corrcoef(found.ravel(), run.ravel())[0, 1]) < 0.05


def test_other_stories_are_those_of_training_runs():
    stories = listened()[1][:3]
    found = other_stories(stories, 20, np.random.default_rng(0))
    assert (found.model, found.control_of) == (POSITION, None)
    assert {id(text) for text in found.texts} == {id(story) for story in stories}


# ---- the tables -----------------------------------------------------------------------------------------------------


def test_what_was_heard_has_perfect_scores(decodings):
    heard = listened()[1][5:]
    table = rows_of({**decodings, MODEL: heard}).set_index(["model", "metric"]).score
    best = {"percentile": 1, "top1": 1, "similarity": 1, "cer": 0, "wer": 0, "bleu1": 1, "chrf": 1}
    for metric, value in best.items():
        assert table[MODEL, metric] == pytest.approx(value), metric
    assert table[WORD_RATE, "percentile"] == pytest.approx(1), "the times are the true ones as well"


def test_only_the_model_is_tested_and_only_where_there_is_a_null(decodings):
    table = rows_of(decodings)
    tested = table[table.p.notna()]
    assert set(tested.model) == {MODEL}
    assert set(tested.metric) == {"percentile", "top1", "similarity"}
    assert set(table.model) == {MODEL, LANGUAGE_MODEL, SHIFTED, NOISE, WORD_RATE}
    assert (tested.p <= 0.04).all(), "the made-up listener is read well; two runs of 8 windows have 64 rolls"
    assert table.null_mean[(table.metric == "percentile")].between(0.4, 0.6).all()


def verdicts(table):
    return decoding_verdicts(correct(table), 0.05).set_index("analysis")


def test_the_verdict_names_the_language_model_where_it_says_the_same(decodings):
    found = verdicts(rows_of({**decodings, LANGUAGE_MODEL: decodings[MODEL]}))
    row = found.loc["free_text: beam, similarity, split test_runs, seed 0"]
    assert row.verdict == "above chance but explained by language_model"


def test_the_verdict_of_noise_is_not_above_chance(decodings):
    found = verdicts(rows_of({**decodings, MODEL: decodings[NOISE]}))
    assert (found.verdict == "not above chance").all()


def rolled_null(similarities, rng, n_nulls):
    lengths = [len(similarity) for similarity in similarities]
    return identification_null(similarities, window_rolls(lengths, n_nulls, rng.integers(2**31, size=len(lengths))))


def test_identification_by_chance_is_rarely_significant():
    """p of random similarities is uniform: its rate below .05 is .05."""
    rng = np.random.default_rng(3)
    below = []
    for _ in range(200):
        similarities = [rng.standard_normal((8, 8)) for _ in range(2)]
        null = rolled_null(similarities, rng, 99)[0]
        below.append((1 + np.sum(null >= identify(similarities).percentile.mean())) / 100 <= 0.05)
    assert np.mean(below) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def walks(rng, n_windows, n_runs, phi):
    """Courses of windows that follow one another: shape (n_runs, n_windows, 6)."""
    found = rng.standard_normal((n_runs, n_windows, 6))
    for t in range(1, n_windows):
        found[:, t] = phi * found[:, t - 1] + np.sqrt(1 - phi**2) * found[:, t]
    return found


def rate_below_5_percent(null_of, phi=0.9, n=150):
    """How often two unrelated courses of windows are alike at p <= .05."""
    rng, below = np.random.default_rng(3), []
    for _ in range(n):
        heard, decoded = walks(rng, 14, 3, phi), walks(rng, 14, 3, phi)
        similarities = [window_correlations(a, b) for a, b in zip(heard, decoded, strict=True)]
        null = null_of(similarities, rng, 99)[0]
        below.append((1 + np.sum(null >= identify(similarities).percentile.mean())) / 100 <= 0.05)
    return np.mean(below)


def permuted(similarities, rng, n_nulls):
    """Mutation: windows are permuted, as if neighbours were not alike."""
    found = [
        identify([similarity[:, rng.permutation(len(similarity))] for similarity in similarities]).percentile.mean()
        for _ in range(n_nulls)
    ]
    return np.array(found), np.array([])


def test_slow_courses_are_not_taken_for_meaning():
    assert rate_below_5_percent(rolled_null) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_permuted_windows_would_take_them_for_it():
    assert rate_below_5_percent(permuted) > 0.1


def test_the_null_stays_within_runs():
    """Windows of another run are no candidates: two runs that are alike keep their own diagonals."""
    similarities = [np.eye(3), np.zeros((3, 3))]
    percentile, top1 = rolled_null(similarities, np.random.default_rng(0), 500)
    assert percentile.mean() == pytest.approx(0.5, abs=0.03)
    assert top1.mean() == pytest.approx(1 / 3, abs=0.05)
    for one, other in window_rolls([3, 5], 50, [0, 1]):
        assert sorted(one) == [0, 1, 2]
        assert np.all(np.diff(other) % 5 == 1)


def test_a_baseline_has_controls_of_its_own(decodings):
    """Its verdict says nothing about the beam's controls, and the beam's nothing about its own."""
    told = told_by(decodings)
    told += [Told("ridge_retrieval", decodings[MODEL]), Told(SHIFTED, decodings[MODEL], "ridge_retrieval")]
    table = pd.DataFrame(score_rows(told, compared(), "01", 0, np.random.default_rng(1)))
    assert set(table[table.model == WORD_RATE].control_of) == {MODEL, "ridge_retrieval"}
    found = verdicts(table).verdict
    assert found["free_text: ridge_retrieval, similarity, split test_runs, seed 0"].endswith("explained by shifted")
    assert found["free_text: beam, similarity, split test_runs, seed 0"] == "above all controls"


def test_every_window_of_every_model_is_a_row(decodings):
    table = pd.DataFrame(text_rows(told_by(decodings), compared(), "01", ["06", "07"]))
    assert len(table) == 4 * 2 * len(WINDOWS)
    first = table[(table.model == MODEL) & (table.run == "06")].iloc[0]
    inside = [word for word, middle in zip(listened()[1][5].word, listened()[1][5].middle, strict=True) if middle < 14]
    assert first.reference == " ".join(inside)


def test_two_windows_must_fit():
    with pytest.raises(
        InputError, match=r"two windows of 70 s or more in every held-out run.*1 in the shortest, of 120 s"
    ):
        shared_windows([60, 80], 2.0, 70.0)


def test_windows_fit_into_the_shortest_run():
    assert shared_windows([60, 50], 2.0, 20.0)[-1].tolist() == [80.0, 100.0]


def test_words_are_counted_from_the_first_volume():
    made = Recording(
        np.zeros((10, 1), np.float32), "region", "01", task="t", run="1", stimulus="s", time=6.0 + 2.0 * np.arange(10),
        tr=2.0, names=np.array(["a"], dtype=object),
    )  # fmt: skip
    words = Words(np.array([1.0, 7.0, 25.5, 26.5]), np.full(4, 0.4), tuple("abcd"), ("A, ", "B! ", "C. ", "D "))
    found = heard_in(made, words)
    assert found.word == ("b", "c")
    assert found.text == ("b ", "c "), "plain, as the search writes"
    np.testing.assert_allclose(found.onset, [1.0, 19.5])


def test_a_text_outside_of_the_recording_is_refused():
    made = Recording(
        np.zeros((10, 1), np.float32), "region", "01", task="t", run="1", stimulus="s", time=600 + 2.0 * np.arange(10),
        tr=2.0, names=np.array(["a"], dtype=object),
    )  # fmt: skip
    expected = "words between 600 and 620 s of the stimulus, found 400 words, none of them there"
    with pytest.raises(InputError, match=expected):
        heard_in(made, story(0))


# ---- n-gram scores --------------------------------------------------------------------------------------------------


def test_bleu_1_counts_words_that_are_shared():
    """Two of four words match, each as often as the reference has it: 3 of 4 with clipping, no brevity penalty."""
    found = ngram_scores(["the cat sat on"], ["the the cat on"])
    assert found["bleu1"] == pytest.approx(3 / 4)
    assert ngram_scores(["the cat"], ["the cat"]) == pytest.approx({"bleu1": 1, "chrf": 1})


def test_bleu_1_punishes_short_texts():
    assert ngram_scores(["a b c d"], ["a b"])["bleu1"] == pytest.approx(np.exp(1 - 4 / 2))


def test_ideographs_are_compared_one_by_one():
    assert ngram_scores(["我看见猫"], ["我看见狗"])["bleu1"] == pytest.approx(3 / 4)


def test_empty_texts_have_no_ngrams_in_common():
    assert ngram_scores(["the cat"], [""]) == pytest.approx({"bleu1": 0, "chrf": 0})
    assert ngram_scores(["", "the cat"], ["the", "the cat"])["bleu1"] == pytest.approx(2 / 3)
