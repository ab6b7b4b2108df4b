"""Encoding models: no leak, planted responses found, nothing found in noise, the figures of the real set."""

import os
from pathlib import Path

import numpy as np
import pytest

from decoders.config import EncodingSettings
from decoders.decoding import encoding
from decoders.decoding.encode_scores import (
    _interval,
    _shared_rows,
    over_blocks,
    score_blocks,
    shared_scores,
)
from decoders.decoding.encoding import (
    correlate,
    design_of,
    inner_folds,
    jackknife_groups,
    predict_held_out,
    sets_of,
)
from decoders.decoding.splits_encode import group_members
from decoders.decoding.stage_encode import encode, runs_with_words, sound_powers
from decoders.errors import InputError
from decoders.stats.resampling import mean_interval
from decoders.stats.splits import Split
from decoders.stimuli.timings import Words, read_words, words_by_stimulus, words_table
from decoders.store.recording import Recording

SETTINGS = EncodingSettings(n_nulls=39, average_subjects=3, windows_s=(20.0,))
ALPHAS = (1.0, 100.0)


def words(seed=0, seconds=600.0):
    rng = np.random.default_rng(seed)
    onset = np.cumsum(rng.gamma(1.0, 0.5, 4000))
    onset = onset[onset < seconds]
    vocabulary = [f"w{chr(97 + i)}" for i in range(26)]
    chosen = tuple(vocabulary[i] for i in rng.integers(26, size=len(onset)))
    duration = np.minimum(0.25, np.diff(onset, append=seconds))
    return Words(onset, duration, chosen, tuple(word + " " for word in chosen))


def listeners(n=5, signal=1.0, seed=1, n_volumes=200, regions=3):
    """Subjects whose regions answer to the word rate two volumes later."""
    rng = np.random.default_rng(seed)
    rate = np.histogram(words().onset, np.arange(n_volumes + 1) * 2.0)[0].astype(float)
    rate = np.roll((rate - rate.mean()) / rate.std(), 2)
    return [
        Recording(
            (signal * rate[:, None] + rng.normal(size=(n_volumes, regions))).astype(np.float32),
            "region", f"{i + 1:02d}", task="story", stimulus="story", time=2.0 * np.arange(n_volumes), tr=2.0,
            names=np.array([f"r{k}" for k in range(regions)], dtype=object),
        )
        for i in range(n)
    ]  # fmt: skip


def group(result, task, split, model="ridge"):
    table = result.table
    rows = table[(table.level == "group") & (table.task == task) & (table.split == split) & (table.model == model)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize("lengths", [[90], [50, 40, 60]], ids=["blocks", "runs"])
def test_no_test_or_gap_sample_enters_training(lengths, monkeypatch):
    """Make every sample in the test block and its gap infinite: a model that saw one could not be finite."""
    design = design_of(lengths, 4, 5, (1, 2), ALPHAS)
    rng = np.random.default_rng(0)
    features, train = rng.normal(size=(sum(lengths), 2)), rng.normal(size=(1, sum(lengths), 3))
    seen = []
    original = encoding.fit_ridge
    monkeypatch.setattr(encoding, "fit_ridge", lambda X, Y, *rest: seen.append(Y) or original(X, Y, *rest))
    for split in design.splits:
        poisoned = train.copy()
        first, last = split.test[0], split.test[-1]
        near = np.arange(max(0, first - 5), min(sum(lengths), last + 6)) if len(lengths) == 1 else split.test
        poisoned[:, near] = np.inf
        only = encoding.Design(design.segment, (split,), design.delays, design.alphas, design.gap)
        assert np.isfinite(predict_held_out(features, poisoned, only)[:, split.test]).all()
    assert all(np.isfinite(Y).all() for Y in seen)


def test_a_split_without_its_gap_fails_that_check():
    design = design_of([90], 4, 5, (1, 2), ALPHAS)
    rng = np.random.default_rng(0)
    features, train = rng.normal(size=(90, 2)), rng.normal(size=(1, 90, 3))
    split = design.splits[1]
    train[:, split.test[0] - 5 : split.test[-1] + 6] = np.inf
    leaky = Split("leaky", np.setdiff1d(np.arange(90), split.test), split.test)
    broken = encoding.Design(design.segment, (leaky,), design.delays, design.alphas, design.gap)
    with np.errstate(all="ignore"):
        assert not np.isfinite(predict_held_out(features, train, broken)[:, split.test]).all()


@pytest.mark.parametrize("lengths", [[97], [50, 40, 60]])
def test_inner_folds_are_apart_and_inside_the_training_set(lengths):
    design = design_of(lengths, 4, 5, (1,), ALPHAS)
    for split in design.splits:
        folds = inner_folds(design, split)
        assert len(folds) == len(design.splits) - 1
        for train, validation in folds:
            a, b = split.train[train], split.train[validation]
            assert not np.intersect1d(a, b).size
            same = design.segment[a][:, None] == design.segment[b][None, :]
            assert np.abs(a[:, None] - b[None, :])[same].min(initial=99) > 5


def test_two_blocks_still_have_inner_folds():
    design = design_of([80], 2, 5, (1,), ALPHAS)
    assert all(len(inner_folds(design, split)) == 2 for split in design.splits)


def test_delays_do_not_reach_into_the_next_run():
    design = design_of([3, 3, 4], 4, 0, (1,), ALPHAS)
    X = encoding.delayed_by_segment(np.arange(1.0, 11.0)[:, None], design)
    np.testing.assert_array_equal(X[:, 0], [0, 1, 2, 0, 4, 5, 0, 7, 8, 9])


def test_unseen_subject_is_not_in_its_training_mean():
    data = np.random.default_rng(0).normal(size=(4, 10, 2))
    members = group_members("abcd", 4, np.random.default_rng(0))
    assert list(members) == ["unseen_time", *(f"unseen_subject/sub-{name}" for name in "abcd")]
    everyone, *alone = members.values()
    sets = sets_of(data, alone)
    for i in range(4):
        np.testing.assert_allclose(sets.train[i], np.delete(data, i, 0).mean(0))
        np.testing.assert_array_equal(sets.test[i], data[i])
    np.testing.assert_allclose(jackknife_groups(data).test, sets.train)
    np.testing.assert_allclose(sets_of(data, [everyone]).test[0], data.mean(0))


def test_averaged_unseen_subjects_do_not_train():
    # Each subject is a constant of its own power of two: sums tell who was averaged.
    data = np.array([2.0**i * np.ones((4, 1)) for i in range(6)])
    members = group_members("abcdef", 2, np.random.default_rng(0))
    sets = sets_of(data, [pair for name, pair in members.items() if name.startswith("unseen_subjects_averaged/")])
    assert len(sets.test) == 20
    np.testing.assert_allclose(2 * sets.test[:, 0, 0] + 4 * sets.train[:, 0, 0], 63)
    for total in 2 * sets.test[:, 0, 0]:
        assert bin(int(total)).count("1") == 2
    assert set(group_members("abcdef", 6, np.random.default_rng(0))) == {
        "unseen_time", *(f"unseen_subject/sub-{name}" for name in "abcdef"),
    }  # fmt: skip


def test_correlation_equals_numpy_and_is_zero_without_variance():
    a, b = np.random.default_rng(0).normal(size=(2, 20))
    np.testing.assert_allclose(correlate(a, b), np.corrcoef(a, b)[0, 1])
    assert correlate(a, np.ones(20)) == 0


def test_planted_response_is_found_at_every_level():
    result = encode(listeners(), {"story": words()}, SETTINGS, np.random.default_rng(0))
    for split, least in (("unseen_time", 0.8), ("unseen_subject", 0.6), ("unseen_subjects_averaged", 0.75)):
        row = group(result, "encoding", split)
        assert row.score > least
        assert row.ci_low < row.score < row.ci_high
        # A volume or two earlier or later the delays still reach the response.
        assert row.p <= 3 / 40
        assert group(result, "window_20s", split).score > 0.9
    # All of the planted response is word rate: the control must reach the score.
    alone = group(result, "encoding", "unseen_time", "control:word_rate")
    assert abs(alone.score - group(result, "encoding", "unseen_time").score) < 0.05
    assert abs(group(result, "encoding", "unseen_time", "control:shifted").score) < 0.15
    assert result.region_r.shape == (5, 3)


def test_noise_is_not_found():
    result = encode(listeners(signal=0.0), {"story": words()}, SETTINGS, np.random.default_rng(0))
    row = group(result, "encoding", "unseen_subject")
    assert abs(row.score) < 0.15
    assert row.p > 0.05
    assert abs(group(result, "window_20s", "unseen_subject").score - 0.5) < 0.1


def test_a_null_that_is_not_rolled_fails_that_check(monkeypatch):
    monkeypatch.setattr("decoders.decoding.encode_scores.rolled", lambda features, design, shift: features)
    result = encode(listeners(), {"story": words()}, SETTINGS, np.random.default_rng(0))
    assert group(result, "encoding", "unseen_time").p == 1


def test_nulls_are_rolled_by_any_number_of_volumes_but_none(monkeypatch):
    shifts = []

    def spy(features, design, shift):
        shifts.append(shift)
        return features

    monkeypatch.setattr("decoders.decoding.encode_scores.rolled", spy)
    encode(listeners(2), {"story": words()}, SETTINGS, np.random.default_rng(0))
    assert len(set(shifts)) == 39
    assert 1 <= min(shifts) < 20
    assert 180 < max(shifts) <= 199


def test_same_seed_same_rows():
    first, second = (
        encode(listeners(), {"story": words()}, SETTINGS, np.random.default_rng(5)).table for _ in range(2)
    )
    assert first.equals(second)


def test_subjects_who_heard_different_stories_are_scored_alone():
    one, two = listeners(2)
    runs = [one, Recording(**{**two.__dict__, "stimulus": "other"})]
    result = encode(runs, {"story": words(), "other": words(3)}, SETTINGS, np.random.default_rng(0))
    assert set(result.table.level) == {"subject"}
    assert set(result.table.split) == {"unseen_time"}
    assert set(result.predicted) == {"01", "02"}


def test_a_single_subject_has_an_interval_over_its_blocks():
    from scipy.stats import t as student

    for runs in (listeners(), listeners(1)):
        table = encode(runs, {"story": words()}, SETTINGS, np.random.default_rng(0)).table
        alone = table[(table.level == "subject") & (table.model != "control:shifted")]
        assert set(alone.model) == {"ridge", "control:word_rate", "control:position"}
        assert ((alone.ci_low < alone.score) & (alone.score < alone.ci_high)).all()
    rng = np.random.default_rng(0)
    design = design_of([80], 4, 2, (1,), ALPHAS)
    measured, predicted = rng.normal(size=(2, 1, 80, 3))
    blocks = score_blocks(measured, predicted, design, {"window": 5, "too long": 30})
    r = [[correlate(measured[0, s.test, k], predicted[0, s.test, k]) for k in range(3)] for s in design.splits]
    np.testing.assert_allclose(blocks["encoding"][:, 0], np.mean(r, axis=1))
    assert blocks["window"].shape == (4, 1)
    assert np.isnan(over_blocks(blocks)["too long"]).all()
    limits = student.interval(0.95, 3, np.mean(r), np.std(np.mean(r, axis=1), ddof=1) / 2)
    np.testing.assert_allclose(mean_interval(blocks["encoding"][:, 0]), limits)
    assert np.isnan(mean_interval(blocks["too long"][:, 0])).all()


def test_controls_of_the_group_are_as_uncertain_as_the_blocks_that_all_heard():
    """Sets of subjects that agree exactly: over subjects a control would have no uncertainty, over blocks it has."""
    blocks = {"encoding": np.repeat([[0.1], [0.2], [0.3], [0.4]], 6, axis=1)}
    where = {"unseen_subject": slice(0, 3), "jackknife": slice(3, 6)}
    for model, wide in (("control:word_rate", True), ("ridge", False)):
        rows = _shared_rows(model, blocks, None, where, ["1", "2", "3"], 1.0, np.random.default_rng(0))
        group = next(row for row in rows if row["level"] == "group")
        limits = mean_interval(blocks["encoding"][:, 0]) if wide else (0.25, 0.25)
        assert (group["ci_low"], group["ci_high"]) == pytest.approx(limits)


def test_the_interval_of_averaged_subjects_is_that_of_the_mean():
    # The delete-d jackknife of a mean: its variance is that of the mean, whatever is left out.
    rng = np.random.default_rng(0)
    subjects = rng.normal(size=12)
    for kept in (6, 9):
        draws = np.array([rng.permutation(subjects)[:kept].mean() for _ in range(20_000)])
        low, high = _interval("unseen_subjects_averaged", draws, np.zeros(0), kept / (12 - kept), rng)
        assert (high - low) / 2 / 1.96 == pytest.approx(subjects.std(ddof=1) / np.sqrt(12), rel=0.03)
    low, high = _interval("unseen_time", subjects, (subjects.sum() - subjects) / 11, 1.0, rng)
    # Mutation: without the factor n - 1 the limits would be eleven times closer.
    assert (high - low) / 2 / 2.201 == pytest.approx(subjects.std(ddof=1) / np.sqrt(12), rel=0.01)


def test_a_run_without_words_is_named():
    with pytest.raises(InputError, match="the words of the stimulus 'story'"):
        runs_with_words(listeners(1), "story", {})
    assert runs_with_words(listeners(1), None, {}) == []
    with pytest.raises(InputError, match="at least one usable recording"):
        encode([], {}, SETTINGS, np.random.default_rng(0))


def test_excluded_runs_are_left_out():
    runs = listeners(2)
    runs[1] = Recording(**{**runs[1].__dict__, "excluded": "constant"})
    assert [r.subject for r in runs_with_words(runs, "story", {"story": words()})] == ["01"]


def test_words_of_a_table_by_stimulus():
    table = words_table(words()).assign(stimulus="story")
    assert words_by_stimulus(table)["story"].word == words().word


@pytest.mark.mirror
def test_alice_figures():
    """The analysis was fixed beforehand (reference-numbers.md): 6 mm, DCT 128 s, 4 blocks, gaps of 5, delays 1-4."""
    from decoders.data.adapters.alice import read_runs, read_timecourses
    from decoders.simulate.noise import high_pass_zscore

    folder = Path(os.environ["CORTICODE_MIRROR"]) / "alice_fmri_brennan2016"
    manifest = [run for run in read_runs(folder, "6mm") if run.subject != "33"]
    recordings = [
        Recording(
            high_pass_zscore(read_timecourses(run), run.tr).astype(np.float32), "region", run.subject, task="alice",
            run=run.run, stimulus="alice", time=run.start_time + run.tr * np.arange(run.n_volumes), tr=run.tr,
        )
        for run in manifest
    ]  # fmt: skip
    settings = EncodingSettings(n_nulls=20)
    text = {"alice": read_words(manifest[0].path("text"))}
    result = encode(recordings, text, settings, np.random.default_rng(0), sound_powers(recordings, manifest))
    assert group(result, "encoding", "unseen_time").score >= 0.29
    assert group(result, "encoding", "unseen_subject").score >= 0.10
    assert group(result, "window_40s", "unseen_subject").score >= 0.57
    assert group(result, "window_40s", "unseen_subjects_averaged").score >= 0.68
    assert group(result, "encoding", "unseen_time", "control:sound_power").score < 0.35
    assert abs(group(result, "encoding", "unseen_subject", "control:position").score) < 0.05


def test_shared_scores_without_enough_subjects_leaves_out_the_average():
    data = np.stack([r.data for r in listeners(2)])
    design = design_of([200], 4, 5, (1, 2), ALPHAS)
    features = np.random.default_rng(0).normal(size=(200, 1)).astype(np.float32)
    rng = np.random.default_rng(0)
    result = shared_scores(data, ["01", "02"], features, {}, design, SETTINGS, 2.0, rng)
    assert "unseen_subjects_averaged" not in set(result.table.split)


def test_a_run_that_is_no_longer_than_the_delays_is_refused():
    with pytest.raises(InputError, match="runs of more than 4 volumes, the longest delay, found 4"):
        design_of([60, 4, 60], 4, 0, (1, 2, 3, 4), ALPHAS)
    assert design_of([60, 5, 60], 4, 0, (1, 2, 3, 4), ALPHAS).delays == (1, 2, 3, 4)
