import hashlib

import numpy as np
import pytest

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate import story
from decoders.simulate.story import draw_stories, simulate_story_runs

SMALL = PhantomSettings(grid=(8, 10, 8), story_runs=3)


def _digest(array):
    # Rounded: another BLAS may differ in the last bits. Adding zero gives zeros one sign.
    return hashlib.sha256((np.round(array, 2) + 0.0).astype("<f8").tobytes()).hexdigest()[:16]


def test_checksum_of_a_small_phantom():
    runs = simulate_story_runs(SMALL)
    onsets = np.concatenate([words.onset for words in runs.stories.words])
    assert _digest(onsets) == "bb5ae1eac24ec5f1"
    assert _digest(np.concatenate(runs.stories.features)) == "f02342cc5bdebdb6"
    assert _digest(np.flatnonzero(runs.brain.planted)) == "d7e07f2f2453aff6"
    assert _digest(runs.x) == "9c8313ce18f3b27a"


def test_runs_are_zscored_and_independent_of_how_many_there_are():
    runs = simulate_story_runs(SMALL)
    assert runs.x.shape == (3, 150, len(runs.brain.site))
    assert runs.x.dtype == np.float32
    np.testing.assert_allclose(runs.x.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(runs.x.std(axis=1), 1, atol=1e-5)
    more = simulate_story_runs(SMALL.model_copy(update={"story_runs": 4}))
    # Features are z-scored over all runs: one more changes the signal a little, and nothing else.
    np.testing.assert_array_equal(runs.x[:, :, ~runs.brain.planted], more.x[:3, :, ~runs.brain.planted])
    assert np.abs(runs.x - more.x[:3]).max() < 0.2


def test_features_are_standardised_over_runs_and_targets_are_not_convolved():
    stories = draw_stories(SMALL)
    features = np.concatenate(stories.features)
    assert features.shape == (450, 25)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-9)
    assert all(target.shape == (150, 24) for target in stories.targets)
    total = sum(stories.embedding.lookup(words.word).sum(axis=0) for words in stories.words)
    # The last word of a run may have its middle in the run; none is lost.
    np.testing.assert_allclose(np.concatenate(stories.targets).sum(axis=0), total, atol=1e-9)


def test_planted_voxels_hold_their_signal_at_the_true_correlation(monkeypatch):
    settings = SMALL.model_copy(update={"r0": 0.4})
    monkeypatch.setattr(story, "drift", lambda n, m, rng: 0.0)
    stories, brain = draw_stories(settings), story.draw_brain(settings)
    found = []
    for run in range(3):
        x = story.story_series(settings, stories, brain, 0, run)[:, brain.planted]
        s = stories.features[run] @ brain.weights.T
        found.append([np.corrcoef(s[:, v], x[:, v])[0, 1] for v in range(s.shape[1])])
    assert np.mean(found) == pytest.approx(brain.r_true.mean(), abs=0.06)


def test_a_signal_left_out_is_noticed():
    # The mutation: planted voxels without amplitude. The test above must be able to fail.
    stories, brain = draw_stories(SMALL), story.draw_brain(SMALL)
    silent = type(brain)(brain.mask, brain.site, brain.weights, np.zeros_like(brain.r_true))
    x = np.concatenate([story.story_series(SMALL, stories, silent, 0, run)[:, brain.planted] for run in range(3)])
    s = np.concatenate([stories.features[run] @ brain.weights.T for run in range(3)])
    assert abs(np.mean([np.corrcoef(s[:, v], x[:, v])[0, 1] for v in range(s.shape[1])])) < 0.1


def test_the_seed_and_the_person_matter():
    first = simulate_story_runs(SMALL)
    other_person = simulate_story_runs(SMALL, subject=1)
    other_seed = simulate_story_runs(SMALL.model_copy(update={"seed": 1}))
    assert first.stories.words == other_person.stories.words
    assert abs(np.corrcoef(first.x[0].ravel(), other_person.x[0].ravel())[0, 1]) < 0.1
    assert first.stories.words[0].word[:9] == other_seed.stories.words[0].word[:9]
    assert not np.array_equal(first.stories.words[0].onset[:9], other_seed.stories.words[0].onset[:9])


@pytest.mark.parametrize(("text", "possible"), [("embedded_en", 13), ("embedded_zh", 5)])
def test_a_text_too_short_says_how_many_runs_it_fills(text, possible):
    with pytest.raises(InputError, match=f"Set story_runs to at most {possible}, or text to 'alice'"):
        draw_stories(SMALL.model_copy(update={"text": text, "story_runs": 18}))


def _encoding_r(runs, train, test):
    """Return the test correlation of ridge on word count and word vectors at delays of 1 to 4 TR."""
    from himalaya.ridge import RidgeCV

    rows = []
    for words, targets in zip(runs.stories.words, runs.stories.targets, strict=True):
        plain = np.column_stack([np.histogram(words.middle, 2 * np.arange(151))[0], targets])
        rows.append(np.hstack([np.vstack([np.zeros((lag, 25)), plain[:-lag]]) for lag in (1, 2, 3, 4)]))
    rows = (np.array(rows) - np.concatenate(rows).mean(axis=0)) / np.concatenate(rows).std(axis=0)
    model = RidgeCV(alphas=np.logspace(1, 5, 9), cv=5)
    model.fit(np.concatenate(rows[train]), np.concatenate(runs.x[train]).astype(np.float64))
    predicted, measured = model.predict(np.concatenate(rows[test])), np.concatenate(runs.x[test])
    predicted, measured = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
    return (predicted * measured).sum(axis=0) / np.sqrt((predicted**2).sum(axis=0) * (measured**2).sum(axis=0) + 1e-12)


@pytest.mark.mirror
def test_encoding_with_the_alice_book_is_as_the_design_says(mirror):
    settings = PhantomSettings(text="alice", story_runs=18, r0=0.2, seed=100)
    runs = simulate_story_runs(settings, mirror=mirror)
    rate = sum(map(len, runs.stories.words)) / (18 * 300)
    assert rate == pytest.approx(2.9, abs=0.1)
    assert runs.brain.planted.mean() == pytest.approx(0.05, abs=0.003)
    r = _encoding_r(runs, slice(0, 13), slice(15, 18))
    assert r[runs.brain.planted].mean() == pytest.approx(0.12, abs=0.02)
    assert abs(r[~runs.brain.planted].mean()) < 0.03
