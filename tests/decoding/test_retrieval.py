"""Retrieval: the right passage where the recording tells it, and nothing of the test text otherwise."""

import numpy as np
import pytest
from made_up_listener import FEATURES, MEANING, N_VOLUMES, TIMING, TR, WINDOWS, listened

from decoders.decoding import retrieval
from decoders.decoding.free_scores import identify, text_similarity
from decoders.decoding.retrieval import retrieve


def retrieved(test, runs=None, heard=None):
    known, told = listened()
    return retrieve(
        runs or known[:5], heard or told[:5], test, np.arange(20), FEATURES, TIMING, WINDOWS, 4
    )  # fmt: skip


def words_in(words, start, stop):
    return words.select((words.middle >= start) & (words.middle < stop))


def check_own_text(runs, heard, monkeypatch, targets_of):
    """With features that are decoded without error a run among the candidates gets its own text back."""
    monkeypatch.setattr(retrieval, "decode_runs", lambda x, targets, *rest: [targets_of(targets[0])[:57]])
    found = retrieved([runs[0]], runs, heard)[0]
    for start, stop in WINDOWS[:-1]:
        text, told = (words.select((words.middle >= start) & (words.middle < stop)) for words in (found, heard[0]))
        assert text.word == told.word
        np.testing.assert_allclose(text.onset, told.onset)


def test_a_run_that_is_among_the_candidates_gets_its_own_text_back(monkeypatch):
    runs, heard = listened()
    check_own_text(runs[:5], heard[:5], monkeypatch, lambda target: target)


def test_it_does_not_when_the_worst_fit_is_taken(monkeypatch):
    """Mutation: the sign of what is decoded."""
    runs, heard = listened()
    with pytest.raises(AssertionError):
        check_own_text(runs[:5], heard[:5], monkeypatch, lambda target: -target)


def test_unseen_runs_get_passages_that_mean_the_same():
    runs, heard = listened()
    texts = retrieved(runs[5:])
    found = identify(text_similarity(heard[5:], texts, MEANING, WINDOWS, TR, blur=2.0))
    assert found.percentile.mean() > 0.65
    noise = [np.random.default_rng(0).standard_normal(run.shape) for run in runs[5:]]
    found = identify(text_similarity(heard[5:], retrieved(noise), MEANING, WINDOWS, TR, blur=2.0))
    assert abs(found.percentile.mean() - 0.5) < 0.2


def test_every_window_holds_a_stretch_of_one_training_story():
    runs, heard = listened()
    text = retrieved(runs[5:])[0]
    stories = [" ".join(words.word) for words in heard[:5]]
    for start, stop in WINDOWS[:-1]:
        inside = " ".join(text.select((text.middle >= start) & (text.middle < stop)).word)
        assert any(inside in story for story in stories)
    assert text.middle[-1] <= TR * (N_VOLUMES - max(TIMING.lags))
