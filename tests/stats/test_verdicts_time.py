"""Verdicts of alignment in time: no more than the corrected clusters allow."""

import numpy as np
import pandas as pd
import pytest

from decoders.config import parse_settings
from decoders.stage import SettingsSlice, run_stage
from decoders.stats import verdicts_time as module
from decoders.stats.verdicts_time import time_verdicts
from decoders.store.tables import COLUMNS, read_table, write_table

TIMES = [0.0, 0.1, 0.2, 0.3, 0.4]
MODEL, OTHER = "backprop cnn3 fc1 32px", "untrained cnn3 fc1 32px"
SCORES = pd.DataFrame({"subject": ["01", "02"], "comparator": "spearman"})
CEILINGS = pd.DataFrame(
    {
        "region": "sensors", "time": TIMES, "comparator": "spearman",
        "ceiling_low": [0.0, 0.1, 0.4, 0.1, 0.0], "ceiling_high": [0.1, 0.2, 0.5, 0.2, 0.1],
    }
)  # fmt: skip


def rows(family, model, reference, estimates, p_corrected=0.01):
    common = {
        "family": f"{family}, over time",
        "analysis": "rsa",
        "region": "sensors",
        "n_subjects": 8,
        "n_stimuli": 24,
    }
    common |= {"n_seeds": 3, "method": "", "null_mean": 0.0, "model": model, "reference": reference, "contrast": ""}
    return [
        {**common, "time": t, "estimate": v, "ci_low": v - 0.1, "ci_high": v + 0.1, "p": p_corrected, "p_corrected": p_corrected}
        for t, v in zip(TIMES, estimates, strict=True)
    ]  # fmt: skip


def cluster(family, model, reference, start, stop, p, mass=10.0):
    peak = (start + stop) / 2
    common = {"n_subjects": 8, "n_stimuli": 24, "method": "", "region": "sensors"}
    return {
        **common, "family": f"{family}, over time", "model": model, "reference": reference, "start_s": start,
        "stop_s": stop, "peak_s": peak, "mass": mass, "p": p,
    }  # fmt: skip


CHANCE = rows("models against chance", MODEL, "chance", [0.0, 0.1, 0.3, 0.1, 0.0])
HARDEST = rows("models against controls", MODEL, "control:pixel", [0.0, 0.05, 0.1, 0.05, 0.0])
FOUND = cluster("models against chance", MODEL, "chance", 0.1, 0.3, 0.002)
BEATEN = cluster("models against controls", MODEL, "all controls", 0.2, 0.2, 0.01)


def judged(inference, clusters, scores=SCORES):
    table = pd.DataFrame(clusters, columns=list(COLUMNS["time_clusters"]))
    return time_verdicts(scores, CEILINGS, pd.DataFrame(inference), table, 0.05)


@pytest.mark.parametrize(
    ("clusters", "sentence", "by"),
    [
        ([FOUND, BEATEN], "above all controls", None),
        ([FOUND], "above chance but explained by pixel", "pixel"),
        # Above the controls, but somewhere else: that does not help this cluster.
        ([FOUND, BEATEN | {"start_s": 0.4, "stop_s": 0.4}], "above chance but explained by pixel", "pixel"),
        ([FOUND, BEATEN | {"p": 0.2}], "above chance but explained by pixel", "pixel"),
        ([FOUND, BEATEN | {"mass": -3.0}], "above chance but explained by pixel", "pixel"),
        ([FOUND | {"p": 0.06}, BEATEN], "not above chance", None),
        ([BEATEN], "not above chance", None),
        ([], "not above chance", None),
        ([FOUND | {"mass": -10.0}], "not above chance", None),
    ],
)
def test_sentences(clusters, sentence, by):
    table = judged(CHANCE + HARDEST, clusters)
    assert table["verdict"].tolist() == [sentence]
    assert table["explained_by"].tolist() == [by] or (by is None and table["explained_by"].isna().all())


def test_a_verdict_that_forgets_where_controls_are_beaten_is_noticed(monkeypatch):
    """The deliberate bug: any stretch above the controls counts for every cluster."""
    monkeypatch.setattr(
        module._Case, "_reached_by", lambda self, *_: "" if (self.stretches["p"] <= self.alpha).any() else "pixel"
    )
    table = judged(CHANCE + HARDEST, [FOUND, BEATEN | {"start_s": 0.4, "stop_s": 0.4}])
    assert table["verdict"].tolist() != ["above chance but explained by pixel"]


def test_the_numbers_are_those_of_the_peak():
    row = judged(CHANCE + HARDEST, [FOUND, BEATEN]).iloc[0]
    assert row["analysis"] == f"time sensors: {MODEL}, 100 to 300 ms"
    assert (row["score"], row["p_corrected"], row["n"]) == (0.3, 0.002, 8)
    assert (row["ceiling_low"], row["ceiling_high"]) == (0.4, 0.5)
    assert row["level"] == "group"


def test_every_significant_cluster_has_a_row_of_its_own():
    late = cluster("models against chance", MODEL, "chance", 0.4, 0.4, 0.04)
    table = judged(CHANCE + HARDEST, [late, FOUND, BEATEN])
    assert table["verdict"].tolist() == ["above all controls", "above chance but explained by pixel"]
    assert [name.rsplit(", ", 1)[1] for name in table["analysis"]] == ["100 to 300 ms", "400 to 400 ms"]


def test_controls_have_no_row_and_an_absent_family_is_said_to_be_untested():
    control = rows("models against chance", "control:pixel", "chance", [0.2] * 5)
    table = judged(CHANCE + control, [FOUND, FOUND | {"model": "control:pixel"}])
    assert table["verdict"].tolist() == ["above chance but explained by controls that were not tested"]


@pytest.mark.parametrize(("difference", "by"), [(0.1, "controls that were not tested"), (-0.1, "pixel")])
def test_few_subjects_are_tested_by_relabelling_and_their_controls_are_not(difference, by):
    untested = rows("models against chance", MODEL, "chance", [0.0, 0.1, 0.3, 0.1, 0.0], np.nan)
    relabelled = rows("models against relabelled stimuli", MODEL, "chance", [0.0, 0.1, 0.3, 0.1, 0.0])
    against = rows("models against controls", MODEL, "control:pixel", [difference] * 5, np.nan)
    found = cluster("models against relabelled stimuli", MODEL, "chance", 0.1, 0.3, 0.002)
    table = judged(untested + relabelled + against, [found], SCORES[:1])
    assert table["verdict"].tolist() == [f"above chance but explained by {by}"]
    assert table[["level", "subject"]].to_numpy().tolist() == [["subject", "01"]]
    # Where subjects were flipped, what relabelling finds claims nothing.
    assert judged(CHANCE + relabelled + HARDEST, [found])["verdict"].tolist() == ["not above chance"]


def test_ranking_of_rules():
    pairs = rows("rules against rules", MODEL, OTHER, [0.1] * 5)
    one = cluster("rules against rules", MODEL, OTHER, 0.1, 0.2, 0.01)
    sentences = [
        judged(CHANCE + pairs, clusters)["verdict"][0]
        for clusters in ([one | {"p": 0.3}], [one], [one, one | {"start_s": 0.3, "mass": -5.0}], [])
    ]
    assert sentences == [
        "no ranking supported",
        "1 of 1 contrasts of rules survive correction; see the table for layer and size",
        "no ranking supported: a difference changes its sign with time",
        "no ranking supported",
    ]


def test_the_stage_reads_the_tables_of_time(tmp_path):
    study = {"study": "x", "data": {"source": "bids", "root": "b"}, "alignment": {"recordings": "rdms"}}
    scores = SCORES.assign(**{c: np.nan for c in COLUMNS["alignment_scores"] if c not in SCORES})
    write_table(tmp_path / "time_scores.tsv", scores, "alignment_scores")
    write_table(tmp_path / "time_ceilings.tsv", CEILINGS, "ceilings")
    write_table(tmp_path / "time_inference.tsv", pd.DataFrame(CHANCE + HARDEST), "inference")
    write_table(tmp_path / "time_clusters.tsv", pd.DataFrame([FOUND, BEATEN]), "time_clusters")
    names = ("time_scores", "time_ceilings", "time_inference", "time_clusters")
    settings = SettingsSlice.of("verdict", parse_settings(study))
    inputs = {name: [tmp_path / f"{name}.tsv"] for name in names}
    run_stage(settings, inputs, {"verdicts": tmp_path / "verdicts.tsv"})
    assert read_table(tmp_path / "verdicts.tsv")["verdict"].tolist() == ["above all controls"]
