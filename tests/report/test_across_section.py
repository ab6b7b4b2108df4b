"""The section on new people: one drawing per person, controls named, nothing where nothing was computed."""

import pandas as pd

from decoders.report.read import Results
from decoders.report.sections.across import across_blocks


def table():
    rows = []
    for subject in ("01", "group"):
        for minutes in (0.0, 5.0):
            for model, owner in (
                ("shared", None),
                ("within", None),
                ("control:other_subject", None),
                ("control:shuffled", "shared"),
                ("control:shuffled", "within"),
            ):
                rows.append({
                    "level": "group" if subject == "group" else "subject", "subject": subject, "runs": minutes / 5,
                    "minutes": minutes, "model": model, "metric": "percentile", "score": 0.6, "ci_low": 0.5, "ci_high": 0.7,
                    "over_within": 0.05, "over_within_low": 0.0, "over_within_high": 0.1, "control_of": owner,
                    "split": "held_out_subject_1_runs",
                })  # fmt: skip
    return pd.DataFrame(rows)


def test_the_group_comes_first_and_controls_are_named():
    figure, scores = across_blocks(Results(None, tables={"across": table()}))
    assert [label for label, _ in figure.drawings] == ["group", "subject 01"]
    drawing = str(figure.drawings[0][1])
    for words in ("control: other subject", "control: shuffled", "given runs alone", "minutes of the new person"):
        assert words in drawing
    assert "split" in scores.hide
    assert "gain over the person's runs alone" in scores.labels.values()


def test_without_the_analysis_there_is_nothing():
    assert across_blocks(Results(None)) == []
