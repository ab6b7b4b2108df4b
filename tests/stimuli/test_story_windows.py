"""Windows of stories: where they lie, what is pooled in them, and their controls in closed form."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.stimuli import story_windows as module
from decoders.stimuli.story_windows import DEFINITIONS, pooled, story_windows, window_controls, words_within


def told(stimulus, onsets, words=None, duration=0.3):
    words = words or ["word"] * len(onsets)
    return pd.DataFrame({"stimulus": stimulus, "onset": onsets, "duration": duration, "word": words})


@given(
    st.lists(st.floats(0.05, 8.0), min_size=30, max_size=200), st.floats(5, 40), st.floats(0, 20), st.integers(0, 2**16)
)
@settings(max_examples=60, deadline=None)
def test_windows_lie_in_their_story_and_do_not_overlap(gaps, seconds, gap_s, seed):
    onsets = np.cumsum(gaps)
    cut = np.random.default_rng(seed).integers(10, len(onsets) - 10)
    words = pd.concat([told("a", onsets[:cut]), told("b", onsets[cut:] - onsets[cut])], ignore_index=True)
    try:
        windows = story_windows(words, seconds, gap_s)
    except InputError as error:
        assert "three or more windows" in str(error)
        return
    assert windows["name"].is_unique
    assert list(windows["name"]) == sorted(windows["name"])
    assert (windows["n_words"] >= 2).all()
    inside = words_within(windows, words["stimulus"].tolist(), words["onset"].to_numpy())
    np.testing.assert_array_equal(inside.sum(axis=1), windows["n_words"])
    assert inside.sum(axis=0).max() <= 1
    for stimulus, rows in windows.groupby("stimulus"):
        end = (words["onset"] + words["duration"])[words["stimulus"] == stimulus].max()
        assert (rows["onset"] + rows["duration"]).max() <= end + 1e-5
        assert (np.diff(rows["onset"]) >= seconds + gap_s - 1e-6).all()


def test_too_few_windows_are_refused_with_a_remedy():
    with pytest.raises(InputError, match=r"three or more windows.*shorter alignment\.windows\.seconds"):
        story_windows(told("a", np.arange(0.0, 30.0)), 20, 10)


@pytest.fixture
def two_stories():
    rng = np.random.default_rng(0)
    texts = [["ab", "abcd", "x"][i] for i in rng.integers(0, 3, 120)]
    onsets = np.sort(rng.uniform(0, 118, 120))
    words = pd.concat([told("a", onsets, texts), told("b", onsets[::2], texts[::2])], ignore_index=True)
    return story_windows(words, 15, 5), words


def test_pooled_features_are_means_over_the_words_of_a_window(two_stories):
    windows, words = two_stories
    values = np.random.default_rng(1).standard_normal((len(words), 4)).astype(np.float32)
    found = pooled(windows, words["stimulus"].tolist(), words["onset"].to_numpy(), values)
    for row, mean in zip(windows.itertuples(), found, strict=True):
        mine = [
            value for value, word in zip(values, words.itertuples(), strict=True)
            if word.stimulus == row.stimulus and row.onset <= word.onset < row.onset + row.duration
        ]  # fmt: skip
        np.testing.assert_allclose(mean, np.mean(mine, axis=0), atol=1e-6)


def test_features_of_another_text_are_refused(two_stories):
    windows, words = two_stories
    with pytest.raises(InputError, match="words in every window"):
        pooled(windows, ["c"] * len(words), words["onset"].to_numpy(), np.zeros((len(words), 2), np.float32))


def _loop(windows, words, name):
    """Every control by its definition, pair by pair."""
    rows = list(windows.itertuples())
    within = [
        [w for w in words.itertuples() if w.stimulus == r.stimulus and r.onset <= w.onset < r.onset + r.duration]
        for r in rows
    ]
    value = {
        "word_rate": lambda i: len(within[i]) / rows[i].duration,
        "word_length": lambda i: np.mean([len(w.word) for w in within[i]]),
        "position": lambda i: rows[i].onset,
    }
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    if name in value:
        return [abs(value[name](i) - value[name](j)) for i, j in pairs]
    if name == "nearness":
        apart = [abs(rows[i].onset - rows[j].onset) for i, j in pairs]
        same = [rows[i].stimulus == rows[j].stimulus for i, j in pairs]
        return [1 - np.exp(-a / 60) if s else 1.0 for a, s in zip(apart, same, strict=True)]
    texts = [" " + " ".join(w.word for w in told) + " " for told in within]
    known = sorted({text[k : k + 3] for text in texts for k in range(len(text) - 2)})
    counts = np.log1p([[sum(t[k : k + 3] == g for k in range(len(t) - 2)) for g in known] for t in texts])
    return [1 - np.corrcoef(counts[i], counts[j])[0, 1] for i, j in pairs]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_controls_follow_their_definitions(two_stories, name):
    windows, words = two_stories
    (control,) = window_controls(windows, words, [name])
    np.testing.assert_allclose(control.rdm, _loop(windows, words, name), atol=1e-9)
    assert control.definition == DEFINITIONS[name]


def test_named_bug_words_of_other_stories_are_seen(two_stories, monkeypatch):
    """Windows that take the words of any story at their time have other controls."""
    windows, words = two_stories
    right = module.words_within

    def bug(windows, stimuli, onsets):
        return right(windows.assign(stimulus="a"), ["a"] * len(stimuli), onsets)

    monkeypatch.setattr(module, "words_within", bug)
    (control,) = window_controls(windows, words, ["word_rate"])
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(control.rdm, _loop(windows, words, "word_rate"), atol=1e-9)
