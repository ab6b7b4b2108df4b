"""The gain of content over timing: planted content is found, timing alone is not taken for content."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.config import EncodingSettings, parse_settings
from decoders.decoding import content
from decoders.decoding.content import CONTROL, MODEL, NO_GAIN, halves, passages_of, surrogate_words
from decoders.decoding.splits_encode import declare_encode
from decoders.decoding.stage_encode import encode
from decoders.decoding.stage_tables import correct
from decoders.errors import InputError, SettingsError
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stats.shared_text import WINDOW, normalised, shared_windows, unheard_passages
from decoders.stats.timed_runs import recorded
from decoders.stats.verdicts import decoding_verdicts
from decoders.stimuli.features import feature_matrix
from decoders.stimuli.timings import Words
from decoders.store.recording import Recording

N, TR = 200, 2.0
VOCABULARY = [letter * length for letter in "abcd" for length in (1, 3, 6, 10)]
SETTINGS = EncodingSettings(
    features=("word_rate", "letters"), n_nulls=20, average_subjects=3, windows_s=(20.0,), other_text="alice",
    alphas=(1.0, 100.0),
)  # fmt: skip


def told(rng, n):
    return tuple(VOCABULARY[i] for i in rng.integers(len(VOCABULARY), size=n))


def story(seed=0):
    rng = np.random.default_rng(seed)
    onset = np.cumsum(rng.gamma(1.0, 0.5, 2000))
    onset = onset[onset < N * TR]
    words = told(rng, len(onset))
    return Words(onset, np.full(len(onset), 0.2), words, tuple(f"{word} " for word in words))


HEARD = {"story": story()}
PASSAGES = [told(np.random.default_rng(9), 5000)]


def listeners(feature, seed=1):
    """Five subjects whose regions answer to a feature of the story, two volumes later."""
    rng = np.random.default_rng(seed)
    x = feature_matrix([feature], HEARD["story"], TR * np.arange(N), TR)[0][:, 0]
    x = np.roll((x - x.mean()) / x.std(), 2)
    return [
        Recording(
            (x[:, None] + rng.normal(size=(N, 2))).astype(np.float32), "region", f"{i + 1:02d}", task="t",
            stimulus="story", time=TR * np.arange(N), tr=TR, names=np.array(["r0", "r1"], dtype=object),
        )
        for i in range(5)
    ]  # fmt: skip


def gain(recordings, split="unseen_subject", task="encoding_gain"):
    table = correct(encode(recordings, HEARD, SETTINGS, np.random.default_rng(0), passages=PASSAGES).table)
    rows = table[(table.level == "group") & (table.task == task) & (table.split == split)].set_index("model")
    found = decoding_verdicts(table, 0.05)
    found = found[(found.level == "group") & found.analysis.str.startswith(f"{task}: {MODEL}")]
    return rows, found[found.analysis.str.endswith(f"split {split}")].iloc[0].verdict


def check_planted_content():
    rows, verdict = gain(listeners("letters"))
    assert rows.loc[MODEL].score > 0.05
    assert rows.loc[MODEL].p == pytest.approx(1 / 101)
    assert rows.loc[CONTROL].ci_high < rows.loc[MODEL].score
    assert verdict == "above all controls"


def test_planted_content_is_found_beyond_timing():
    check_planted_content()


def test_it_is_not_found_when_the_surrogates_say_what_was_heard(monkeypatch):
    """Mutation: surrogates keep the heard words."""
    monkeypatch.setattr(content, "replace", lambda words, **_: words)
    with pytest.raises(AssertionError):
        check_planted_content()


def test_timing_is_not_taken_for_content():
    rows, verdict = gain(listeners("word_rate"))
    assert abs(rows.loc[MODEL].score) < 0.05
    assert rows.loc[MODEL].p > 0.05
    assert verdict == "not above chance"


def test_one_subject_is_tested_as_well():
    table = encode(listeners("letters")[:1], HEARD, SETTINGS, np.random.default_rng(0), passages=PASSAGES).table
    rows = table[table.task == "encoding_gain"].set_index("model")
    assert set(rows.index) == {MODEL, CONTROL, NO_GAIN}
    assert rows.loc[MODEL].p < 0.05
    assert rows.loc[MODEL].method == "one-sided; 100 texts that nobody heard, at the heard times, refitted"


def test_every_subject_has_its_verdict():
    table = correct(encode(listeners("letters"), HEARD, SETTINGS, np.random.default_rng(0), passages=PASSAGES).table)
    found = decoding_verdicts(table, 0.05)
    found = found[(found.level == "subject") & found.analysis.str.startswith("encoding_gain")]
    assert len(found) == 5
    assert not found.verdict.str.contains("not tested").any()


def test_a_gain_whose_interval_reaches_zero_is_explained_by_timing():
    table = correct(encode(listeners("letters"), HEARD, SETTINGS, np.random.default_rng(0), passages=PASSAGES).table)
    row = (table.model == MODEL) & (table.split == "unseen_subject") & (table.level == "group")
    table.loc[row & (table.task == "encoding_gain"), "ci_low"] = -0.001
    found = decoding_verdicts(table, 0.05).set_index("analysis").verdict
    assert found["encoding_gain: content, r, split unseen_subject"].iloc[0].endswith("explained by timing")


def test_vectors_and_surrogates_come_from_different_halves():
    first, second = halves([tuple("abc"), tuple("defgh"), tuple("ij")])
    assert (first, second) == ([tuple("abc"), tuple("de")], [tuple("fgh"), tuple("ij")])
    assert halves([]) == ([], [])


def test_a_text_that_was_heard_whole_is_refused():
    heard = {"s": Words(np.arange(30.0), np.full(30, 0.1), tuple(f"word{i}" for i in range(30)), ("",) * 30)}
    with pytest.raises(InputError, match="passages that nobody heard, found none in 30 words"):
        passages_of([" ".join(f"word{i}" for i in range(30))], heard)
    with pytest.raises(InputError, match="passages that nobody heard"):
        encode(listeners("letters"), HEARD, SETTINGS, np.random.default_rng(0))


def test_surrogates_keep_the_times_and_take_a_stretch_of_a_passage():
    found = surrogate_words(HEARD, PASSAGES, np.random.default_rng(0))["story"]
    np.testing.assert_array_equal(found.onset, HEARD["story"].onset)
    joined = " ".join(PASSAGES[0])
    assert " ".join(found.word) in joined
    assert found.word != HEARD["story"].word


def test_every_start_is_as_likely():
    """Two passages of 3 and 5 words, a story of 3: starts 0 of the first, 0 to 2 of the second."""
    heard = {"s": Words(np.arange(3.0), np.full(3, 0.1), tuple("xyz"), tuple("xyz"))}
    passages = [tuple("abc"), tuple("defgh")]
    rng = np.random.default_rng(0)
    starts = ["".join(surrogate_words(heard, passages, rng)["s"].word) for _ in range(2000)]
    counts = {start: starts.count(start) for start in set(starts)}
    assert set(counts) == {"abc", "def", "efg", "fgh"}
    assert max(counts.values()) - min(counts.values()) < 130


def test_a_text_that_is_too_short_is_named():
    with pytest.raises(InputError, match=r"a passage of 3 words that nobody heard.*found 2 words at most"):
        surrogate_words({"s": Words(np.arange(3.0), np.full(3, 0.1), tuple("xyz"), tuple("xyz"))}, [("a", "b")],
                        np.random.default_rng(0))  # fmt: skip


# ---- what nobody heard ----------------------------------------------------------------------------------------------

letters = st.sampled_from("abc")


@settings(max_examples=60, deadline=None)
@given(st.lists(letters, max_size=60), st.lists(letters, max_size=40))
def test_passages_share_no_window_with_what_was_heard(text, heard):
    found = unheard_passages(tuple(text), [tuple(heard)])
    for passage in found:
        assert len(passage) >= WINDOW
        assert "".join(passage) in "".join(text)
        if len(normalised(heard)) >= WINDOW:
            assert shared_windows(passage, [tuple(heard)]) == 0


def test_what_was_heard_is_cut_out_of_a_book():
    book = " ".join(f"word{i}" for i in range(100))
    heard = {"s": Words(np.arange(30.0), np.full(30, 0.1), tuple(f"word{i}" for i in range(40, 70)), ("",) * 30)}
    found = passages_of([book], heard)
    assert [(p[0], p[-1]) for p in found] == [("word0", "word39"), ("word70", "word99")]


def test_the_audit_reads_the_passages_as_they_are_used():
    runs = recorded(listeners("letters"))
    settings_ = SETTINGS.model_copy(update={"features": ("word_rate", "embedding")})
    declared = declare_encode(runs, settings_, True, ["story"], np.random.default_rng(0))
    source = {"book": (*PASSAGES[0], *HEARD["story"].word)}
    material = Material(HEARD, {}, lambda name: source)
    assert not [f for f in audit([declared], material) if f.check == "corpus" and f.passed == "no"]
    corpus = declared.splits[0].corpora[0]
    object.__setattr__(corpus, "unheard", False)  # Mutation: the whole book is read.
    assert [f for f in audit([declared], material) if f.check == "corpus" and f.passed == "no"]


@pytest.mark.parametrize(
    ("features", "why"), [(["word_rate"], "put 'embedding' or 'letters'"), (["embedding"], "put 'word_rate'")]
)
def test_other_text_needs_content_and_timing(features, why):
    values = {
        "study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {},
        "decoding": {"encoding": {"features": features, "other_text": "alice"}},
    }  # fmt: skip
    with pytest.raises(SettingsError, match=why):
        parse_settings(values)
