"""The short verdict table counts and bounds; it chooses nothing."""

import itertools

import pandas as pd
import pytest

from decoders.report.sections.verdict_groups import covered, group_table, grouped, heading

LAYERS = ("conv1", "conv2", "fc1")
COLUMNS = [
    "level", "subject", "analysis", "n", "score", "ci_low", "ci_high", "null_mean", "p_corrected", "ceiling_low",
    "ceiling_high", "verdict", "explained_by",
]  # fmt: skip
BY_PIXELS, BY_GIST = ("above chance but explained by pixel", "pixel"), ("above chance but explained by gist", "gist")
CHANCE, ABOVE = ("not above chance", None), ("above all controls", None)


def rsa(region, rule, layer, size, score, found):
    name = f"rsa {region}: {rule} cnn3 {layer} {size}"
    return ("group", None, name, 15, score, -0.9, 0.9, 0.0, 0.01, 0.2, 0.4, *found)


def decoded(level, who, task, score, found, split="unseen_subject"):
    name = f"{task}: ridge, percentile, split {split}"
    return (level, who, name, 20, score, None, None, 0.5, 0.01, None, None, *found)


@pytest.fixture
def verdicts():
    rows = [decoded("subject", f"{i:02d}", "window_10s", 0.5 + i / 100, ABOVE if i > 8 else CHANCE) for i in range(10)]
    rows += [decoded("group", "group", f"window_{s}s", 0.5 + s / 200, BY_PIXELS) for s in (10, 20, 40)]
    places = list(itertools.product(LAYERS, ("32px", "native")))
    rows += [rsa("IT", "backprop", *place, i / 10, BY_PIXELS if i else BY_GIST) for i, place in enumerate(places)]
    rows += [rsa("IT", "untrained", *place, -i / 10, CHANCE) for i, place in enumerate(places)]
    rows.append(
        ("group", None, "rsa ranking of rules, IT", 15, *[None] * 4, 0.4, None, None, "no ranking supported", None)
    )
    return pd.DataFrame(rows, columns=COLUMNS)


def test_one_row_per_rule_and_model_rankings_first_subjects_last(verdicts):
    rows = list(grouped(verdicts).values())
    assert [heading(group) for group in rows] == [
        "Ranking of the rules, IT",
        "Windows: ridge, identification percentile, unseen subject and time",
        "Alignment, IT: Backpropagation",
        "Alignment, IT: Untrained",
        "Windows: ridge, identification percentile, unseen subject and time",
    ]
    assert [covered(group) for group in rows] == [
        "group", "group, 10, 20 and 40 s", "group, 3 layers, 2 picture sizes", "group, 3 layers, 2 picture sizes",
        "10 subjects, 10 s",
    ]  # fmt: skip
    assert sum(len(group) for group in rows) == len(verdicts)


def test_counts_and_ranges_hold_every_row_and_no_best_one(verdicts):
    data = group_table(verdicts).data
    rows = [dict(zip(data.columns, row, strict=True)) for row in data.rows]
    backprop, subjects = rows[2], rows[4]
    # A table of the best layer would show .5 alone.
    assert (backprop["score_low"], backprop["score_high"]) == (0.0, 0.5)
    assert backprop["verdict"] == "6 above chance but explained by pixels (5) and GIST (1)"
    assert (backprop["explained_by_a_control"], backprop["not_above_chance"]) == (6, 0)
    assert (subjects["rows"], subjects["above_all_controls"], subjects["not_above_chance"]) == (10, 1, 9)
    assert (rows[0]["score_low"], rows[0]["verdict"]) == (None, "1 no ranking supported")


def test_every_score_is_drawn_and_the_badges_say_of_how_many(verdicts):
    table = group_table(verdicts)
    assert table.cells[2, "score_high"].count('class="mark c1"') == 6
    assert table.cells[3, "score_high"].count('class="hollow c7"') == 6
    assert "all 6 not above chance" in table.cells[3, "verdict"]
    assert "1 of 10 above all controls" in table.cells[4, "verdict"]
    assert "whisker" not in table.cells[2, "score_high"]


def test_architectures_are_named_where_there_are_several(verdicts):
    other = verdicts.assign(analysis=verdicts["analysis"].str.replace("cnn3", "resnet18"))
    both = group_table(pd.concat([verdicts, other], ignore_index=True))
    assert "Alignment, IT: Backpropagation (resnet18)" in [row[0] for row in both.data.rows]


def test_a_short_table_needs_no_short_form(verdicts):
    assert group_table(verdicts.head(12)) is None
    different = verdicts.assign(analysis=[f"analysis number {i}" for i in range(len(verdicts))])
    assert group_table(different) is None


def test_hostile_names_stay_words(verdicts):
    hostile = verdicts.assign(analysis=verdicts["analysis"].str.replace("IT", "<b>"))
    table = group_table(hostile)
    assert not [cell for cell in table.cells.values() if "<b>:" in cell or "<b></span>" in cell]
    assert "&lt;b&gt;" in table.cells[2, "analysis"]
