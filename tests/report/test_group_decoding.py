"""What the page says of decoding over a group of people beside single people."""

from __future__ import annotations

import pandas as pd
import pytest

from decoders.report.sections.decoding import _windows
from decoders.report.sections.landing import _counted
from decoders.report.sections.verdicts import verdict_table

CHANCE, ABOVE = "not above chance", "above all controls"


def verdicts(*rows):
    table = pd.DataFrame(rows, columns=["level", "subject", "analysis", "verdict"])
    empty = ("n", "score", "ci_low", "ci_high", "null_mean", "p_corrected", "ceiling_low", "ceiling_high")
    return table.assign(explained_by=None, **dict.fromkeys(empty))


WINDOWS, SPELLER = "window_20s: bottleneck_refit, percentile, split test_runs", "block: speller, accuracy"
TABLE = verdicts(
    ("group", "group", WINDOWS, ABOVE),
    ("subject", "01", WINDOWS, CHANCE),
    ("subject", "02", WINDOWS, CHANCE),
    ("group", "group", SPELLER, CHANCE),
    ("subject", "01", f"{SPELLER}, seed 0", CHANCE),
    ("subject", "02", "free_text: beam, similarity, split test_runs, seed 0", ABOVE),
)


def test_analyses_that_the_group_lacks_are_counted_too():
    assert _counted("Decoding", TABLE) == [
        "Decoding: of 2 analyses of the group, 1 is above all controls and 1 is not above chance.",
        "Decoding: of 1 analysis of single subjects, 1 is above all controls.",
    ]
    assert _counted("Decoding", TABLE[TABLE["level"] == "subject"].iloc[:2]) == [
        "Decoding: all 2 analyses of single subjects are not above chance."
    ]


@pytest.mark.parametrize(("rows", "said"), [(TABLE, True), (TABLE[TABLE["level"] == "subject"], False)])
def test_what_a_small_p_of_a_group_says_stands_at_the_table(rows, said):
    assert ("some of these people were read, not all" in verdict_table(rows).caption) == said


def scored(level, subject, split, seconds):
    return {
        "level": level, "subject": subject, "split": split, "seed": 0, "task": f"window_{seconds}s", "model": "ridge",
        "metric": "percentile", "score": 0.6, "ci_low": 0.5, "ci_high": 0.7, "n": 9, "null_mean": 0.5,
    }  # fmt: skip


def test_curves_over_window_length_stay_when_another_split_has_a_group():
    rows = [scored("subject", who, "unseen_time", s) for who in ("01", "02") for s in (10, 20, 40)]
    rows += [scored(level, who, "test_runs", 20) for level, who in (("subject", "01"), ("group", "group"))]
    figure = _windows(pd.DataFrame(rows))
    assert [label for label, _ in figure.drawings] == ["unseen time, subject 01", "unseen time, subject 02"]
    assert _windows(pd.DataFrame(rows[-2:])) is None
    rows += [scored("group", "group", "unseen_time", s) for s in (10, 20)]
    assert [label for label, _ in _windows(pd.DataFrame(rows)).drawings] == ["unseen time"]
