"""Scores over a group: means, intervals and controls by hand, and a null that keeps what people share by luck."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.decoding import stage_group
from decoders.decoding.bits_table import Bits, bits_rows
from decoders.decoding.group_scores import METHOD, group_rows, is_tested_group, mean_null
from decoders.decoding.names import Samples, permuted_labels
from decoders.decoding.names_halves import _chance, _row
from decoders.decoding.nearest_pattern import nearest_pattern
from decoders.decoding.refit import SHIFTED, Score, identification_scores, shifted_row, window_row
from decoders.decoding.score_nulls import null_name, read_nulls, scores_frame, story_seeds, write_nulls
from decoders.decoding.stage_tables import correct
from decoders.decoding.text_extras import absent_row
from decoders.errors import IntegrityError
from decoders.stage import Job
from decoders.stats.verdicts import ABOVE, CHANCE, decoding_verdicts
from decoders.store.tables import read_table, write_table

PEOPLE = ("01", "02", "03", "04")
MODEL, RATE = "bottleneck_refit", "control:word_rate"


def draw(*keys):
    return np.random.default_rng([len(str(key)) + sum(map(ord, str(key))) for key in keys])


def about(who, **more):
    return {"subject": who, "seed": 0, "task": "window_20s", **more}


def rows_of(who, value, null, rate=0.5):
    score = Score(value, value - 0.1, value + 0.1, 30, null)
    low = Score(rate, rate - 0.1, rate + 0.1, 30, null)
    return [
        window_row(about(who), MODEL, "percentile", score, "one by one"),
        {**shifted_row(about(who), "percentile", score), "control_of": MODEL},
        window_row(about(who), RATE, "percentile", low, "one by one"),
    ]


def tables(values, nulls, rate=0.5):
    """The scores of people and their nulls, as the stages write and read them."""
    rows = {who: rows_of(who, *pair, rate) for who, pair in zip(PEOPLE, zip(values, nulls, strict=True), strict=False)}
    kept = {who: {null_name(row): row["null"] for row in own if row["null"] is not None} for who, own in rows.items()}
    return pd.concat([scores_frame(own) for own in rows.values()], ignore_index=True), kept


NULLS = np.random.default_rng(0).normal(0.5, 0.05, (4, 200))
VALUES = (0.7, 0.72, 0.74, 0.8)


def test_the_group_by_hand():
    group = group_rows(*tables(VALUES, NULLS)).set_index("model")
    own, shifted = group.loc[MODEL], group.loc[SHIFTED]
    null = NULLS.mean(0)
    assert own["score"] == pytest.approx(0.74)
    half = 3.182446 * np.std(VALUES, ddof=1) / 2
    assert (own["ci_low"], own["ci_high"]) == pytest.approx((0.74 - half, 0.74 + half), rel=1e-6)
    assert own["p"] == pytest.approx((1 + (null >= 0.74).sum()) / 201)
    assert (own["level"], own["subject"], own["n"]) == ("group", "group", 4)
    assert own["null_mean"] == pytest.approx(null.mean())
    assert "mean of the nulls of 4 people, 200 draws that are alike" in own["method"]
    assert (shifted["score"], shifted["ci_low"], shifted["ci_high"]) == pytest.approx(
        (null.mean(), *np.quantile(null, [0.025, 0.975]))
    )
    assert np.isnan(shifted["p"])
    assert np.isnan(group.loc[RATE, "p"])


def test_a_small_group_effect_is_found_that_no_person_shows():
    """Four people at 1.3 standard errors each: the mean is at 2.6."""
    scores, nulls = tables(0.5 + 0.05 * np.full(4, 1.3), NULLS)
    assert (scores["p"].dropna() > 0.05).all()
    assert group_rows(scores, nulls).set_index("model").loc[MODEL, "p"] < 0.02


def test_verdicts_of_the_group_stand_beside_its_controls():
    for rate, expected in ((0.5, ABOVE), (0.745, "above chance but explained by word_rate")):
        scores, nulls = tables(VALUES, NULLS, rate)
        found = decoding_verdicts(correct(pd.concat([scores, group_rows(scores, nulls)])), 0.05)
        row = found[found["level"] == "group"].iloc[0]
        assert row["verdict"] == expected
        assert row["n"] == 4
    scores, nulls = tables(np.full(4, 0.5), NULLS)
    found = decoding_verdicts(correct(group_rows(scores, nulls)), 0.05)
    assert found["verdict"].tolist() == [CHANCE]


def test_lower_is_better_where_errors_are_counted():
    rows = []
    for who, value in zip(PEOPLE, (0.6, 0.61, 0.62, 0.63), strict=True):
        score = Score(value, 0.5, 0.7, 9, NULLS[0] + 0.4)
        rows.append({**window_row(about(who), "speller", "cer", score, "m"), "null": score.null})
    nulls = {row["subject"]: {null_name(row): row["null"]} for row in rows}
    assert group_rows(scores_frame(rows), nulls)["p"].item() == pytest.approx(1 / 201)


def gains(values, limits=(np.nan, np.nan)):
    """Bits gained in four people beside the language model, which gains nothing; wrong texts cost bits."""
    null, rows = np.random.default_rng(2).normal(-0.3, 0.05, 200), []
    for who, value in zip(PEOPLE, values, strict=True):
        rows.append(window_row(about(who), MODEL, "bits_gain", Score(value, value - 0.02, value + 0.02, 30, null), "m"))
        none = Score(0.0, *limits, 30, np.array([np.nan]))
        rows.append(window_row(about(who), "control:language_model", "bits_gain", none, ""))
    nulls = {row["subject"]: {null_name(row): row["null"]} for row in rows if row["null"] is not None}
    return group_rows(scores_frame(rows), nulls)


def test_a_control_without_limits_has_none_in_the_group():
    """Then the score must lie above it with its own interval: a p against shifts says little about bits."""
    found = decoding_verdicts(correct(gains((0.06, -0.03, 0.05, -0.02))), 0.05)
    assert found["p_corrected"].item() < 0.01
    assert found["verdict"].item() == "above chance but explained by language_model"
    assert decoding_verdicts(correct(gains((0.06, 0.07, 0.05, 0.06))), 0.05)["verdict"].item() == ABOVE
    bug = gains((0.06, -0.03, 0.05, -0.02)).fillna({"ci_low": 0.0, "ci_high": 0.0})
    assert decoding_verdicts(correct(bug), 0.05)["verdict"].item() == ABOVE, "limits of no width would claim it"


def test_a_control_that_is_the_same_in_everybody_is_as_uncertain_as_in_one():
    group = group_rows(*tables((0.62, 0.63, 0.61, 0.62), NULLS, 0.6)).set_index("model")
    assert (group.loc[RATE, "ci_low"], group.loc[RATE, "ci_high"]) == pytest.approx((0.5, 0.7))
    found = decoding_verdicts(correct(group.reset_index()), 0.05)
    assert found["verdict"].item() == "above chance but explained by word_rate"


def test_seeds_of_a_person_are_averaged_first():
    rows = []
    for i, who in enumerate(PEOPLE):
        for seed in (0, 1):
            score = Score(VALUES[i] + 0.02 * seed, 0.5, 0.9, 9, NULLS[i] + 0.01 * seed)
            rows.append(window_row(about(who, seed=seed), "speller", "accuracy", score, "m"))
    nulls = {who: {null_name(r): r["null"] for r in rows if r["subject"] == who} for who in PEOPLE}
    row = group_rows(scores_frame(rows), nulls).iloc[0]
    assert (row["score"], row["n"]) == (pytest.approx(0.75), 4)
    assert np.isnan(row["seed"])
    assert row["null_mean"] == pytest.approx(NULLS.mean() + 0.005)
    assert row["p"] == pytest.approx((1 + (NULLS.mean(0) + 0.005 >= 0.75).sum()) / 201)


def test_a_tested_score_whose_null_is_lost_is_refused():
    scores, nulls = tables(VALUES, NULLS)
    with pytest.raises(IntegrityError, match=r"subject 02: expected the null of -/window_20s"):
        group_rows(scores, {**nulls, "02": {}})


def test_one_person_is_no_group():
    scores, nulls = tables(VALUES[:1], NULLS[:1])
    group = group_rows(scores, nulls)
    assert len(group) == 0
    assert set(scores.columns) <= set(group.columns)


def test_people_without_a_score_are_counted_and_named():
    scores, nulls = tables(VALUES, NULLS)
    rows = [absent_row(about("05"), MODEL, "percentile", "no sensor lies above the null gates")]
    more = pd.concat([scores, scores_frame(rows)], ignore_index=True)
    own = group_rows(more, nulls).set_index("model").loc[MODEL]
    assert own["n"] == 4
    assert own["method"].endswith("1 of 5 people have no such score")
    alone = more[(more["subject"].isin(["01", "05"])) & (more["model"] == MODEL)]
    lost = group_rows(alone, nulls).iloc[0]
    assert np.isnan(lost["score"])
    assert lost["method"] == "absent: one person has such a score, two are needed for a group"
    nobody = scores_frame([*rows, absent_row(about("06"), MODEL, "percentile", "no sensor lies above the null gates")])
    assert group_rows(nobody, {})["method"].item() == "absent: no sensor lies above the null gates"


def test_tasks_of_other_people_do_not_count():
    scores, nulls = tables(VALUES, NULLS)
    other = scores_frame([window_row(about("09") | {"task": "window_3s"}, MODEL, "percentile",
                                     Score(0.5, 0.4, 0.6, 9, NULLS[0]), "m")])  # fmt: skip
    group = group_rows(pd.concat([scores, other]), nulls)
    assert set(group["task"]) == {"window_20s"}
    assert not group["method"].fillna("").str.contains("no such score").any()


# ---- the null: what people share by luck -----------------------------------------------------------------------------

N_PEOPLE, N_RUNS, LENGTH, WINDOW = 6, 1, 120, 10


def course(rng, phi=0.8):
    found = rng.standard_normal((LENGTH, 3))
    for t in range(1, LENGTH):
        found[t] = phi * found[t - 1] + np.sqrt(1 - phi**2) * found[t]
    return found


def seeds_apart(who, draw_, stories):
    """Mutation: every person has shifts of its own, as if what they share were averaged away in the score too."""
    return story_seeds(lambda *keys: draw_(*keys, who), stories)


def seeds_shared(who, draw_, stories):
    return story_seeds(draw_, stories)


def study_p(number, seeds_of):
    """The p of a group who decode the same course, which knows nothing of the text, each with some noise."""
    rng = np.random.default_rng(number)
    texts, shared = ([course(rng) for _ in range(N_RUNS)] for _ in range(2))
    rows = []
    for who in map(str, range(N_PEOPLE)):
        read = [run + 0.5 * rng.standard_normal(run.shape) for run in shared]
        seeds = seeds_of(who, lambda *keys: draw(number, *keys), [f"s{i}" for i in range(N_RUNS)])
        scores, _ = identification_scores(read, texts, WINDOW, rng, seeds, 40)
        rows.append(window_row(about(who), MODEL, "percentile", scores["percentile"], "m"))
    nulls = {row["subject"]: {null_name(row): row["null"]} for row in rows}
    return group_rows(scores_frame(rows), nulls)["p"].item()


def rate_of(seeds_of, n=100):
    return float(np.mean([study_p(number, seeds_of) <= 0.05 for number in range(n)]))


def test_what_people_share_by_luck_is_no_finding():
    assert rate_of(seeds_shared) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_shifts_of_every_person_apart_would_make_it_one():
    assert rate_of(seeds_apart) > 0.2


def test_the_same_story_has_the_same_shifts_wherever_it_stands():
    first, second = story_seeds(draw, ["a", "b", "b"]), story_seeds(draw, ["b", "a", "b"])
    assert first == [second[1], second[0], second[2]]
    assert len(set(first)) == 3, "parts of one story are moved apart"


def test_models_of_one_person_are_tested_by_the_same_shifts():
    rng = np.random.default_rng(0)
    text, read = [course(rng)], [course(rng)]
    first, second = (identification_scores(read, text, WINDOW, np.random.default_rng(k), [7], 50)[0] for k in range(2))
    np.testing.assert_array_equal(first["percentile"].null, second["percentile"].null)


def test_bits_of_the_same_story_move_alike():
    """Two people with the same gains by shift have the same null, draw by draw; another story gives another order."""
    rng = np.random.default_rng(1)
    brain = [rng.standard_normal((80, 40)) for _ in range(2)]
    found = Bits([np.zeros(40)] * 2, brain, {}, [np.full(40, 5)] * 2, [np.repeat([0, 1], 20)] * 2, 0.3, [0, 1])
    nulls = [
        bits_rows(found, about(who), 200, np.random.default_rng(k), seeds)[0]["null"]
        for k, (who, seeds) in enumerate((("01", [3, 4]), ("02", [3, 4]), ("03", [5, 4])))
    ]
    np.testing.assert_array_equal(nulls[0], nulls[1])
    assert not np.array_equal(nulls[0], nulls[2])
    assert sum(row["null"] is not None for row in bits_rows(found, about("01"), 200, rng, [3, 4])) == 2
    one = dataclasses.replace(found, runs=[1, 0])
    swapped = bits_rows(one, about("01"), 200, np.random.default_rng(0), [4, 3])[0]["null"]
    np.testing.assert_array_equal(swapped, nulls[0])


def test_halves_keep_their_null_without_the_labelling_found():
    """Six people who are decoded without an error have the p that each of them has: one labelling in 24."""
    rng, first = np.random.default_rng(0), np.random.default_rng(1).standard_normal((4, 30))
    found = nearest_pattern(first, first, 20, rng)
    rows = [{**_row(found), "subject": who, "level": "subject", "seed": np.nan} for who in "123456"]
    for row in (rows[0], _chance(found)):
        np.testing.assert_array_equal(row["null"], found.null[1:])
    nulls = {row["subject"]: {null_name(row): row["null"]} for row in rows}
    assert group_rows(scores_frame(rows), nulls)["p"].item() == pytest.approx(1 / 24) == found.p


def dealt(runs, blocks=4):
    """The labellings of a person who has some of the runs, by the label of the run."""
    label, block = np.tile(np.arange(blocks), len(runs)), np.arange(blocks * len(runs))
    names = tuple("abcdefgh"[:blocks])
    samples = Samples(
        np.zeros((len(label), 2), np.float32), label, np.repeat(np.arange(len(runs)), blocks), block,
        np.zeros(len(label)), names, tuple(runs), 1.0,
    )  # fmt: skip
    rows = permuted_labels(samples, 50, story_seeds(draw, runs))
    return {run: rows[:, samples.run == i] for i, run in enumerate(runs)}


def test_who_lacks_a_run_has_the_others_dealt_as_everybody():
    whole, less = dealt(["01", "02", "03", "04"]), dealt(["01", "03", "04"])
    for run in ("01", "03", "04"):
        np.testing.assert_array_equal(whole[run], less[run])
    assert not np.array_equal(whole["01"], whole["03"])


def test_a_single_word_is_not_tested():
    one = Bits([np.zeros(1)], [np.zeros((1, 1))], {}, [np.full(1, 5)], [np.zeros(1, int)], 0.3, [0])
    rows = bits_rows(one, about("01"), 200, np.random.default_rng(0), [3])
    assert all(row["null"] is None and np.isnan(row["p"]) for row in rows)


@pytest.mark.parametrize(("level", "method", "said"), [("group", "x", False), ("subject", METHOD, False),
                                                       ("group", METHOD.format(n=3, draws=9), True)])  # fmt: skip
def test_a_group_is_told_by_its_null(level, method, said):
    assert is_tested_group(pd.DataFrame({"level": [level], "method": [method]})) == said
    assert not is_tested_group(pd.DataFrame())


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_nulls_of_any_lengths_are_averaged_over_their_whole_range(lengths):
    mean = mean_null([np.linspace(0, 1, n) if n > 1 else np.zeros(1) for n in lengths])
    assert len(mean) == max(lengths)
    assert (np.diff(mean) >= 0).all(), "read in order"
    assert mean[0] == 0


# ---- files -----------------------------------------------------------------------------------------------------------


def test_nulls_come_back_under_the_names_of_the_table(tmp_path):
    rows = rows_of("01", 0.7, NULLS[0])
    rows += [{**row, "seed": np.nan, "split": "a/b", "modality": "meg"} for row in rows]
    write_table(tmp_path / "scores.tsv", scores_frame(rows), "decoding_scores")
    write_nulls(tmp_path / "nulls.h5", rows, "01")
    read = read_nulls([tmp_path / "nulls.h5"])["01"]
    named = [null_name(row) for row in read_table(tmp_path / "scores.tsv").to_dict("records")]
    assert set(read) == {name for name, row in zip(named, rows, strict=True) if row["null"] is not None}
    assert len(read) == 4
    with pytest.raises(IntegrityError, match="nulls of an analysis of its own"):
        read_nulls([tmp_path / "nulls.h5"] * 2)


def test_two_nulls_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two rows"):
        write_nulls(tmp_path / "nulls.h5", rows_of("01", 0.7, NULLS[0]) * 2, "01")


def job_of(folder, people):
    inputs = {"scores": [], "nulls": []}
    for who, value, null in people:
        rows = rows_of(who, value, null)
        for name, write in (("scores", lambda path, r: write_table(path, scores_frame(r), "decoding_scores")),
                            ("nulls", lambda path, r, who=who: write_nulls(path, r, who))):  # fmt: skip
            path = folder / f"{who}.{'tsv' if name == 'scores' else 'h5'}"
            write(path, rows)
            inputs[name].append(path)
    return Job(None, inputs, {"scores": folder / "group.tsv"}, log=logging.getLogger("test"))


def test_the_stage_reads_people_and_writes_the_group(tmp_path):
    stage_group.run(job_of(tmp_path, zip(PEOPLE, VALUES, NULLS, strict=True)))
    found = read_table(tmp_path / "group.tsv", ("subject",)).set_index("model")
    assert found.loc[MODEL, "score"] == pytest.approx(0.74)
    assert found.loc[MODEL, "p"] == pytest.approx(1 / 201)
    assert found.loc[SHIFTED, "control_of"] == MODEL


@pytest.mark.parametrize("n", [0, 1])
def test_the_stage_without_a_group_writes_an_empty_table(tmp_path, caplog, n):
    caplog.set_level(logging.INFO)
    stage_group.run(job_of(tmp_path, list(zip(PEOPLE, VALUES, NULLS, strict=True))[:n]))
    assert len(read_table(tmp_path / "group.tsv")) == 0
    assert "there is no group" in caplog.text
