"""Decoding across people: declared splits, the gate that starts from others, scores beside their controls, the group."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up_people import COMMON, SETTINGS, newcomer, others

from decoders.config import AcrossSettings, VoxelMapSettings, parse_settings
from decoders.decoding import across_people
from decoders.decoding.across_people import few_shot_gates
from decoders.decoding.across_scores import HeldOut, read_new_person, score_rows, windows_of
from decoders.decoding.bottleneck import GatePrior, train_gate
from decoders.decoding.group_scores import group_rows
from decoders.decoding.maps import recovery
from decoders.decoding.score_nulls import NULL, null_name, scores_frame
from decoders.decoding.splits_across import amount_of, condition, declare_across
from decoders.decoding.stage_across import _grid_of_all
from decoders.decoding.stage_across_group import by_amount
from decoders.errors import InputError, SettingsError
from decoders.stats.declared import TimedRun
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stats.resampling import mean_interval
from decoders.store.arrays import Array, Arrays
from decoders.store.recording import Recording

VOXELS = VoxelMapSettings(test_runs=2, features="trigram")
ACROSS = AcrossSettings(few_shot=(0, 1, "all"))


def runs(subject, n=5, tr=2.0):
    return [TimedRun(f"sub-{subject}_run-{i}", subject, f"s{i}", 60, 0.0, tr) for i in range(n)]


def declared(people=None, settings=ACROSS):
    return declare_across(people or [runs(who) for who in ("01", "02", "03")], VOXELS, settings, ["s0", "s1"])


def test_subject_and_story_are_held_out_and_given_runs_are_apart():
    split = {s.name: s for s in declared().splits}
    assert len(split) == 9
    one = split["sub-02/1_runs"]
    assert [rows.run for rows in one.test] == ["sub-02_run-3", "sub-02_run-4"]
    assert [rows.run for rows in one.few_shot] == ["sub-02_run-0"]
    assert {rows.run for rows in one.train} == {f"sub-{who}_run-{i}" for who in ("01", "03") for i in range(3)}
    assert split["sub-02/0_runs"].few_shot == ()
    assert [rows.run for rows in split["sub-02/all_runs"].few_shot] == [f"sub-02_run-{i}" for i in range(3)]
    found = audit([declared()], Material())
    assert {finding.passed for finding in found} <= {"yes", "n/a", "allowed"}
    assert [f.passed for f in found if f.check == "subject"] == ["yes"] * 9


def test_another_order_of_stories_is_a_leak():
    """A subject who heard the held-out story in a training run teaches it to the decoder of the others."""
    odd = runs("02")
    odd = [
        dataclasses.replace(run, stimulus=name) for run, name in zip(odd, ("s4", "s1", "s2", "s3", "s0"), strict=True)
    ]
    found = audit([declared([runs("01"), odd, runs("03")])], Material())
    assert {f.split for f in found if f.check == "stimulus" and f.passed == "no"} >= {"sub-01/0_runs", "sub-03/1_runs"}


@pytest.mark.parametrize(
    ("people", "settings", "words"),
    [
        ([runs("01")], ACROSS, "at least two subjects"),
        ([runs("01"), runs("02", tr=1.5)], ACROSS, r"1\.5 s in subject 02"),
        ([runs("01"), runs("02", n=3)], AcrossSettings(few_shot=(2,)), "3 of subject 02"),
        ([runs("01"), runs("02", n=2)], ACROSS, "2 of subject 02"),
    ],
)
def test_bad_studies_get_a_sentence(people, settings, words):
    with pytest.raises(InputError, match=words):
        declared(people, settings)


def test_subjects_on_other_grids_get_a_sentence():
    def volume(subject, shape):
        mask = np.ones(shape, dtype=bool)
        data = np.zeros((10, mask.sum()), dtype=np.float32)
        return Recording(
            data, "volume", subject, task="t", run="1", time=2.0 * np.arange(10), tr=2.0, mask=mask, affine=np.eye(4)
        )

    with pytest.raises(InputError, match="all subjects on one grid"):
        _grid_of_all([volume("01", (2, 3, 2)), volume("02", (3, 3, 2))])


def test_the_block_needs_its_voxels():
    study = {"study": "x", "data": {"source": "none"}, "decoding": {"across": {}}}
    with pytest.raises(SettingsError, match="gates of 'voxels'"):
        parse_settings(study, "study.yaml")


def test_conditions_name_amounts():
    for amount in (0, 3, "all"):
        assert amount_of(condition(amount)) == amount


# The gate of a new person.
MASK = np.ones((5, 6, 5), dtype=bool)
PLANTED = np.zeros(MASK.shape, dtype=bool)
PLANTED[:2, :2, :3] = True
SHORT = VoxelMapSettings(epochs=40, hidden=16)


def brain(seed=0, signal=0.35, n_runs=2, n=80):
    rng = np.random.default_rng(seed)
    targets = [rng.normal(size=(n, 6)).astype(np.float32) for _ in range(n_runs)]
    weights = rng.normal(size=(6, int(PLANTED.sum())))
    x = []
    for target in targets:
        run = rng.normal(size=(n, int(MASK.sum()))).astype(np.float32)
        answer = np.roll(target, 2, axis=0) @ weights
        run[:, PLANTED[MASK]] += signal * answer / answer.std(0)
        x.append((run - run.mean(0)) / run.std(0))
    return x, targets


def prior(noise=1.0, seed=9):
    return (PLANTED[MASK] + noise * np.random.default_rng(seed).standard_normal(MASK.sum())).astype(np.float32)


def test_a_prior_of_no_use_changes_nothing_and_a_heavy_one_everything():
    x, targets = brain()
    settings = SHORT.model_copy(update={"epochs": 3, "folds": 2})
    alone = train_gate(x, targets, MASK, settings, 2.0, 0).logits
    nothing = train_gate(x, targets, MASK, settings, 2.0, 0, prior=GatePrior(np.zeros(MASK.sum()), 0.0)).logits
    np.testing.assert_array_equal(alone, nothing)
    held = train_gate(x, targets, MASK, settings, 2.0, 0, prior=GatePrior(np.full(MASK.sum(), 2.0), 1e6)).logits
    assert np.abs(held - 2).max() < 0.2 < np.abs(alone - 2).min()


def found_with_prior():
    """Mean AUC of the gate of little data, with and without a prior that alone finds .75 of the planted voxels."""
    aucs = []
    for seed in range(3):
        x, targets = brain(seed)
        new = across_people.Person(x, targets, [("s", 0.0, 80)] * 2, np.arange(3))
        common = dataclasses.replace(COMMON, mask=MASK)
        gates = few_shot_gates(new, prior(seed=seed), common, SHORT, 3.0, seed)
        aucs.append([recovery(values, PLANTED[MASK])[0] for values in (gates.found, gates.alone, gates.prior)])
    return np.mean(aucs, axis=0)


def test_a_prior_helps_a_gate_with_little_data():
    found, alone, before = found_with_prior()
    assert found > alone + 0.03
    assert found > before


def test_a_gate_that_forgets_its_prior_is_noticed(monkeypatch):
    original = across_people.train_gate
    monkeypatch.setattr(across_people, "train_gate", lambda *arguments, prior=None: original(*arguments))
    found, alone, _ = found_with_prior()
    assert found == alone


def test_without_runs_the_gate_is_the_prior():
    nobody = across_people.Person([], [], [], np.arange(3))
    gates = few_shot_gates(nobody, prior(), COMMON, SHORT, 3.0, 0)
    assert gates.alone is None
    assert np.array_equal(gates.found, prior())


def test_a_single_run_trains_a_gate():
    x, targets = brain(n_runs=1)
    new = across_people.Person(x, targets, [("s", 0.0, 80)], np.arange(3))
    gates = few_shot_gates(new, prior(), dataclasses.replace(COMMON, mask=MASK), SHORT, 3.0, 0)
    assert gates.alone is not None


# Scores of made-up people.
@pytest.fixture(scope="module")
def reads():
    known = others(noise=0.5)
    rng = np.random.default_rng(0)
    null = type(known)([p.with_null_text(rng) for p in known.people], known.prior, COMMON, SETTINGS, 0)
    found = {}
    for amount in (0, 2):
        given, x, texts = newcomer(amount, noise=0.5)
        rolled = dataclasses.replace(given, person=given.person.with_null_text(rng) if amount else given.person)
        if not amount:
            given = dataclasses.replace(given, alone=None)
        found[amount] = read_new_person(
            known, (null, rolled), given, HeldOut(x, texts, 5, range(3)), SETTINGS.methods, amount,
            lambda *keys: np.random.default_rng(sum(map(len, keys))),
        )  # fmt: skip
    return found


def test_methods_stand_beside_controls_that_stay_at_chance(reads):
    scores = {model: found["percentile"].score for model, (found, _) in reads[2].models.items()}
    assert set(scores) == {"shared", "ridge_to_reference", "hyperalignment", "within"}
    assert min(scores.values()) > 0.8
    controls = {key: found["percentile"].score for key, found in reads[2].controls.items()}
    assert set(controls) == {("other_subject", ""), *((c, m) for m in scores for c in ("shuffled", "word_rate"))}
    # The voxels are rotated from person to person: unadapted decoders read nothing.
    assert abs(controls["other_subject", ""] - 0.5) < 0.15
    assert max(abs(score - 0.5) for (name, _), score in controls.items() if name == "shuffled") < 0.2
    assert set(reads[0].models) == {"shared", "pooled_grid"}


def rows_of(reads, who):
    about = {"subject": who, "seed": 0, "task": "window_20s"}
    return [row for read in reads.values() for row in score_rows(read, about)]


def test_rows_name_condition_and_control(reads):
    table = scores_frame(rows_of(reads, "09"))
    assert set(table["split"]) == {"held_out_subject_0_runs", "held_out_subject_2_runs"}
    tested = table[table["p"].notna()]
    assert not tested["model"].str.startswith("control:").any()
    shifted = table[table["model"] == "control:shifted"]
    assert set(shifted["control_of"]) == {"shared", "ridge_to_reference", "hyperalignment", "within", "pooled_grid"}


def test_the_group_is_the_mean_of_people_and_gains_are_paired(reads):
    tables, arrays, nulls = [], {}, {}
    for i, who in enumerate(("01", "02", "03")):
        rows = rows_of(reads, who)
        table = scores_frame(rows)
        nulls[who] = {null_name(row): row[NULL] for row in rows if row[NULL] is not None}
        own = {name: Array(values + 0.01 * i * name.startswith("windows"), ("x",)) for read in reads.values()
               for name, values in windows_of(read).items()}  # fmt: skip
        tables.append(table.assign(score=table["score"] + 0.01 * i))
        arrays[who] = Arrays(own, {"subject": who, "all_runs": 6, "minutes_per_run": 2.0})
    scores = pd.concat(tables, ignore_index=True)
    group = group_rows(scores, nulls)
    row = group[
        (group["model"] == "shared") & (group["split"] == condition(2)) & (group["metric"] == "percentile")
    ].iloc[0]
    expected = reads[2].models["shared"][0]["percentile"].score + 0.01
    assert row["score"] == pytest.approx(expected)
    assert (row["n"], row["p"]) == (3, pytest.approx(1 / 201))
    # Mean +- t(.975, 2) sd / sqrt 3, sd = .01.
    assert row["ci_high"] - expected == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)
    table = by_amount(pd.concat([scores, group]), arrays, np.random.default_rng(0))
    gain = table[(table["model"] == "shared") & (table["runs"] == 2) & (table["metric"] == "percentile")]
    true = expected - 0.01 - reads[2].models["within"][0]["percentile"].score
    assert np.allclose(gain["over_within"], true)
    assert set(gain["minutes"]) == {4.0}
    assert table.loc[table["model"] == "within", "over_within"].isna().all()


def test_one_person_has_no_mean_interval():
    assert np.isnan(mean_interval(np.array([0.6]))).all()
