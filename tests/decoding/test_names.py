"""Names from voxels on planted recordings: samples, splits without leaks, permutations, scores, the stage."""

import dataclasses
import logging
import zlib

import numpy as np
import pytest

from decoders.config import NamesSettings
from decoders.decoding import names_scores as scores
from decoders.decoding.closed_form import DECIDERS
from decoders.decoding.names import (
    by_block,
    check_folds,
    closed_form_decisions,
    collect_samples,
    lag_volumes,
    permuted_labels,
)
from decoders.decoding.names_halves import paired_blocks
from decoders.decoding.names_speller import agreement, speller_options
from decoders.decoding.names_study import decode_names, mask_of
from decoders.errors import InputError
from decoders.store.recording import Recording

NAMES = ("cat", "chair", "house")
LENGTH, REST = 4, 2  # volumes of a block and of the rest after it


def draw(*keys):
    return np.random.default_rng([0, *[zlib.crc32(str(key).encode()) for key in keys]])


def recordings(n_runs=4, signal=1.0, repeats=1, lag=0, seed=0, shape=(4, 5, 2)):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((3, int(np.prod(shape)))) * signal
    runs = []
    for run in range(n_runs):
        order = np.concatenate([rng.permutation(3) for _ in range(repeats)])
        conditions, groups, x = [], [], []
        for block, name in enumerate(order):
            conditions += [NAMES[name]] * LENGTH + ["rest"] * REST
            groups += [block] * LENGTH + [-1] * REST
            x += [centres[name]] * LENGTH + [0 * centres[0]] * REST
        data = np.roll(np.array(x), lag, axis=0) + rng.standard_normal((len(x), centres.shape[1]))
        runs.append(
            Recording(
                data.astype(np.float32),
                "volume",
                "01",
                task="objects",
                run=f"{run + 1:02d}",
                time=np.arange(len(x)) * 2.0,
                tr=2.0,
                conditions=np.array(conditions, dtype=object),
                groups=np.array(groups),
                mask=np.ones(shape, dtype=bool),
                affine=np.eye(4),
            )
        )
    return runs


def test_samples_are_the_labelled_volumes():
    samples = collect_samples(recordings())
    assert samples.names == NAMES
    assert samples.runs == ("01", "02", "03", "04")
    assert samples.x.shape == (4 * 3 * LENGTH, 40)
    assert np.bincount(samples.block).tolist() == [LENGTH] * 12
    assert np.array_equal(np.unique(samples.block), np.arange(12))
    for block in range(12):
        inside = samples.block == block
        assert len(set(samples.label[inside])) == len(set(samples.run[inside])) == 1


def test_a_lag_names_later_volumes_and_is_rounded_up():
    runs = recordings(signal=50.0, lag=3)
    assert [lag_volumes(s, 2.0) for s in (0, 1, 2, 5, 6)] == [0, 1, 1, 3, 3]
    samples = collect_samples(runs, lag_s=5.0)
    last = samples.run == 0
    times = samples.time[last & (samples.block == samples.block[last][0])]
    assert times.tolist() == [6.0, 8.0, 10.0, 12.0]
    # The volumes named so are those that hold the response.
    assert (np.abs(samples.x).mean(axis=1) > 10).mean() > 0.9
    # Mutation: no lag catches rest as well.
    assert (np.abs(collect_samples(runs).x).mean(axis=1) > 10).mean() < 0.9


def test_unnamed_conditions_and_excluded_runs_are_left_out():
    runs = recordings()
    runs[1] = dataclasses.replace(runs[1], data=runs[1].data[:0], excluded="constant")
    samples = collect_samples(runs, conditions=("house", "cat"))
    assert samples.names == ("house", "cat")
    assert samples.runs == ("01", "03", "04")
    assert np.array_equal(np.unique(samples.block), np.arange(6))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda runs: [], {}, "a run that can be used"),
        (lambda runs: runs, {"conditions": ("cat", "dog")}, "no volume named dog"),
        (lambda runs: runs, {"conditions": ("cat",)}, "two or more names"),
        (
            lambda runs: [dataclasses.replace(runs[0], conditions=runs[0].conditions[:3])],
            {},
            "a condition for each volume",
        ),
        (lambda runs: [runs[0], dataclasses.replace(runs[1], data=runs[1].data[:, 1:])], {}, "the same voxels"),
        (lambda runs: [runs[0], dataclasses.replace(runs[1], mask=~runs[1].mask)], {}, "the same voxels"),
    ],
)
def test_unusable_runs_are_named(change, options, message):
    with pytest.raises(InputError, match=message):
        collect_samples(change(recordings()), **options)


def test_too_few_runs_are_refused():
    with pytest.raises(InputError, match="three or more runs"):
        check_folds(collect_samples(recordings(2)))


def test_permutations_deal_whole_blocks_within_runs():
    samples = collect_samples(recordings(repeats=2))
    rows = permuted_labels(samples, 30, range(4))
    assert rows.shape == (30, len(samples.label))
    for row in rows:
        for block in np.unique(samples.block):
            assert len(set(row[samples.block == block])) == 1
        for run in range(4):
            inside = samples.run == run
            assert sorted(row[inside]) == sorted(samples.label[inside])
    assert np.mean(rows == samples.label) == pytest.approx(1 / 3, abs=0.08)


def test_each_run_is_decoded_by_a_model_of_the_others():
    """A value planted in one run's labels alone cannot leak: other labels of the test run change nothing there."""
    samples = collect_samples(recordings())
    other = samples.label.copy()
    inside = samples.run == 2
    other[inside] = (other[inside] + 1) % 3
    for decide in DECIDERS.values():
        decisions = closed_form_decisions(samples, np.stack([samples.label, other]), decide)
        assert decisions[0, inside] == pytest.approx(decisions[1, inside], abs=1e-12)
        assert np.abs(decisions[0, ~inside] - decisions[1, ~inside]).max() > 1e-3


def test_a_block_is_decided_by_the_sum_of_its_volumes():
    samples = collect_samples(recordings())
    decisions = np.random.default_rng(0).standard_normal((2, len(samples.label), 3))
    summed = by_block(decisions, samples)
    for block in range(12):
        assert summed[:, block] == pytest.approx(decisions[:, samples.block == block].sum(axis=1))


def test_scores_of_known_answers():
    samples = collect_samples(recordings())
    items = scores.items_of(samples, "block")
    decoded = items.label.copy()
    decoded[0] = (decoded[0] + 1) % 3
    parts = scores.tally(items.label, decoded, items, "accuracy")
    assert scores.ratio(parts) == pytest.approx(11 / 12)
    low, high = scores.run_interval(parts, items.run, np.random.default_rng(0))
    assert low == pytest.approx(1 - 3 / 12)
    assert high == 1
    edits = scores.ratio(scores.tally(items.label, decoded, items, "cer"))
    wrong = items.distance[items.label[0], decoded[0]]
    assert edits == pytest.approx(wrong / items.length[items.label].sum())
    assert scores.confusion(items, decoded).sum() == 12
    assert np.trace(scores.confusion(items, decoded)) == 11
    null = np.array([0.1, 0.5, 0.95])
    assert scores.score_row(items, decoded, "accuracy", null, np.random.default_rng(0))["p"] == pytest.approx(2 / 4)
    assert scores.score_row(items, decoded, "cer", np.array([0.0, 1.0, 1.0]), np.random.default_rng(0))["p"] == 2 / 4


def test_the_constant_name_is_chosen_on_the_other_runs():
    items = scores.items_of(collect_samples(recordings()), "block")
    assert set(scores.constant_name(items)) == {int(items.distance.sum(axis=0).argmin())}
    # Run 0 holds one name only; its constant name must come from the others.
    skewed = dataclasses.replace(items, label=np.where(items.run == 0, 1, 2))
    assert set(scores.constant_name(skewed)[items.run == 0]) == {2}
    # … even where it holds most of the items.
    run = np.repeat([0, 1], [10, 3])
    skewed = dataclasses.replace(items, label=np.where(run == 0, 1, 2), run=run)
    assert scores.constant_name(skewed).tolist() == [2] * 10 + [1] * 3


def test_agreement_of_maps():
    values = np.arange(100.0)
    assert agreement(values, values) == agreement(values, values**3)
    assert agreement(values, values).dice == 1
    assert agreement(values, -values).rho == pytest.approx(-1)
    assert agreement(values, -values).dice == 0


def settings(**keys):
    return NamesSettings(**{"n_permutations": 20, "epochs": 6, **keys})


def test_the_study_of_planted_names():
    outcome = decode_names(
        recordings(6, signal=1.5), settings(head="linear", epochs=20), draw, logging.getLogger("test")
    )
    table = outcome.scores_table("01").set_index(["task", "model", "metric"])
    for model in ("lda", "ridge", "speller"):
        row = table.loc[("block", model, "accuracy")]
        assert row.score.item() >= 0.6
        assert row.p.item() == pytest.approx(1 / 21)
        assert row.p_corrected.item() == pytest.approx(6 / 21)
        assert row.ci_low.item() <= row.score.item() <= row.ci_high.item()
        assert table.loc[("block", model, "cer")].score.item() < 0.4
    assert table.loc[("volume", "control:random_name", "accuracy")].score.item() == pytest.approx(1 / 3)
    shuffled = table.loc[("block", "control:shuffled", "accuracy")]
    assert sorted(shuffled.control_of) == ["lda", "ridge", "speller"]
    assert shuffled.score.mean() < 0.6
    texts = outcome.text_table("01")
    assert len(texts) == 3 * 18
    assert set(texts.decoded) <= set(NAMES)
    assert texts.duration.unique().tolist() == [LENGTH * 2.0]
    assert np.mean(texts.reference == texts.decoded) > 0.7
    assert outcome.arrays["gate_seed-0/m"].values.shape == (6, 40)
    assert outcome.attributes["gate_seed-0"]["nats_mean"] > 0
    assert "halves_shuffled_rho" in outcome.attributes["gate_seed-0"]


def test_noise_is_not_claimed():
    outcome = decode_names(
        recordings(6, signal=0.0), settings(models=("lda", "ridge")), draw, logging.getLogger("test")
    )
    table = outcome.scores_table("01")
    assert table.p.dropna().min() > 0.05


def test_one_run_with_two_blocks_each():
    study = settings(models=("nearest_pattern",), split="block_halves")
    outcome = decode_names(recordings(1, repeats=2, signal=2.0), study, draw, logging.getLogger("test"))
    row = outcome.scores_table("01").iloc[0]
    assert (row.model, row.score, row.n) == ("nearest_pattern", 1.0, 6)
    assert row.p == pytest.approx(1 / 6)
    assert sorted(outcome.text_table("01").split.unique()) == ["first-to-second", "second-to-first"]
    with pytest.raises(InputError, match="two blocks of each name, found 1"):
        paired_blocks(collect_samples(recordings(1)))
    with pytest.raises(InputError, match="a single run"):
        paired_blocks(collect_samples(recordings(2)))


def test_models_must_fit_the_split():
    for keys in ({"models": ("nearest_pattern",)}, {"models": ("lda",), "split": "block_halves"}):
        with pytest.raises(InputError, match=r"decoding\.names\.models"):
            decode_names(recordings(), settings(**keys), draw, logging.getLogger("test"))


def test_regions_need_the_linear_head():
    runs = [dataclasses.replace(run, kind="region", mask=None, affine=None) for run in recordings()]
    assert mask_of(runs) == 40
    with pytest.raises(InputError, match="a grid for a 3D-CNN"):
        speller_options(settings(), 40)
    assert speller_options(settings(head="linear"), 40).sigma_voxels == 0
    outcome = decode_names(runs, settings(head="linear", models=("speller",)), draw, logging.getLogger("test"))
    assert outcome.arrays["gate_seed-0/m_mean"].values.shape == (40,)
