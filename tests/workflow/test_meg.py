"""fMRI and MEG of the same people in one study, from the phantom to the page."""

import copy
import json

import numpy as np
import pytest

from decoders.store.arrays import read_arrays
from decoders.store.tables import COLUMNS, read_table

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1200)]

TABLES = {
    "alignment/time_scores.tsv": "alignment_scores",
    "alignment/time_ceilings.tsv": "ceilings",
    "alignment/time_inference.tsv": "inference",
    "alignment/time_clusters.tsv": "time_clusters",
    "alignment/latencies.tsv": "latencies",
    "alignment/fusion.tsv": "inference",
    "decoding/scores.tsv": "decoding_scores",
    "decoding/text.tsv": "text",
    "verdicts.tsv": "verdicts",
}


@pytest.fixture(scope="session")
def sensed(build, tiny_study, tmp_path_factory):
    """The tiny study with MEG of the same people, run to its end."""
    study = copy.deepcopy(tiny_study)
    study["data"]["phantom"] |= {
        "story_subjects": 0,
        "meg": {
            "picture_subjects": 3, "picture_runs": 2, "repeats": 2, "story_subjects": 2, "story_runs": 2, "story_s": 40,
            "flat_channels": 1,
        },
    }  # fmt: skip
    study["preprocess"]["meg"] = {"high_pass_hz": 1.0, "artefacts": "ssp", "sfreq": 125.0}
    study["decoding"] = {
        "meg": {"task": "story", "epochs": 2, "encoder_epochs": 2, "n_null_gates": 1, "folds": 2, "n_nulls": 100},
    }
    study["alignment"] |= {
        "rdm": "crossnobis", "controls": ["pixel", "category"],
        "time": {"task": "pictures", "n_permutations": 100, "window_s": [0.0, 0.3]}, "fusion": {"n_permutations": 100},
    }  # fmt: skip
    study["certificate"] = {"n_studies": 20, "cells": ["time"]}
    project = build(tmp_path_factory.mktemp("sensed"), study)
    project.snakemake()
    return project


@pytest.mark.parametrize(("name", "kind"), TABLES.items())
def test_every_table_of_sensors_has_its_columns(sensed, name, kind):
    assert set(COLUMNS[kind]) <= set(read_table(sensed.results / name).columns)


def test_both_kinds_of_runs_are_in_one_manifest(sensed):
    manifest = read_table(sensed.results / "manifest.tsv", ("subject", "run"))
    assert manifest.groupby("modality").size().to_dict()["bold"] == 6
    assert set(manifest[manifest.modality == "meg"].task) >= {"pictures", "story"}


def test_windows_of_sensors_are_judged_over_the_group(sensed):
    scores = read_table(sensed.results / "decoding/scores.tsv", ("subject", "split", "model", "metric", "control_of"))
    assert (scores["modality"] == "meg").all()
    rows = scores[(scores["model"] == "ridge_all_sensors") & (scores["metric"] == "percentile")]
    group, people = rows[rows["level"] == "group"], rows[rows["level"] == "subject"]
    assert group["n"].item() == len(people) == 2
    assert group["score"].item() == pytest.approx(people["score"].mean())
    assert np.isfinite(group["p_corrected"].item())
    beside = scores[(scores["level"] == "group") & (scores["control_of"] == "ridge_all_sensors")]
    assert {"control:shifted", "control:noise", "control:other_subject"} <= set(beside["model"])
    verdicts = read_table(sensed.results / "verdicts.tsv", ("subject", "analysis"))
    judged = verdicts[(verdicts["level"] == "group") & verdicts["analysis"].str.startswith("meg window")]
    assert judged["analysis"].str.contains("ridge_all_sensors, percentile").any()


def test_recorded_rdms_in_time_are_those_of_the_pictures(sensed):
    file = read_arrays(sensed.results / "alignment/time_rdms.h5")
    fmri = read_arrays(sensed.results / "alignment/rdms.h5")
    assert file["stimuli"].tolist() == fmri["stimuli"].tolist()
    n_stimuli = len(file["stimuli"])
    assert file["rdms"].shape == (3, len(file["times"]), n_stimuli * (n_stimuli - 1) // 2)
    assert np.isfinite(file["rdms"]).all()


def test_no_verdict_about_three_people_says_above_all_controls_in_time(sensed):
    verdicts = read_table(sensed.results / "verdicts.tsv", ("subject",))
    timed = verdicts[verdicts.analysis.str.contains("^time |^fusion", regex=True)]
    assert len(timed)
    assert not (timed.verdict == "above all controls").any()


def test_the_page_shows_time_fusion_and_sensors(sensed):
    page = (sensed.results / "report/index.html").read_text()
    for words in ("Alignment in time", "Fusion", "noise ceiling"):
        assert words in page, words
    assert json.loads((sensed.results / "provenance.json").read_text())


def test_the_inference_over_time_is_certified(sensed):
    certificate = json.loads((sensed.results / "certificate.json").read_text())
    assert certificate["n_studies"] == 20
    assert {check["design"] for check in certificate["checks"]} == {"time_nothing", "time_planted"}


def test_a_second_run_has_nothing_to_do(sensed):
    assert sensed.planned() == set()


def test_an_edit_of_alignment_in_time_leaves_fmri_alone(sensed):
    path = sensed.root / "decoders/alignment/timed/latencies.py"
    text = path.read_text()
    path.write_text(text + "\n\ndef added() -> int:\n    return 1\n")
    try:
        planned = sensed.planned()
    finally:
        path.write_text(text)
    assert "align_time" in planned
    assert not planned & {"preprocess", "rdms", "rdms_time", "train", "meg"}
