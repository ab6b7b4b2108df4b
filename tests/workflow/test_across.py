"""Three listeners, each held out in turn: scores of every amount of given runs, beside controls, on the page."""

import numpy as np
import pytest

from decoders.stats.declared import read_audited
from decoders.store.tables import read_table

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1200)]
STUDY = {
    "study": "tiny",
    "data": {
        "source": "phantom",
        "phantom": {
            "grid": [8, 10, 8], "r0": 0.6, "story_subjects": 3, "story_runs": 3, "picture_subjects": 0,
            "text": "embedded_en", "seed": 5,
        },
    },
    "preprocess": {},
    "decoding": {
        "voxels": {"task": "story", "test_runs": 1, "epochs": 2, "folds": 2, "halves": False, "n_null_gates": 1},
        "across": {"few_shot": [0, 1, "all"], "epochs": 2, "components": 5},
    },
}  # fmt: skip
SPLITS = [f"held_out_subject_{amount}_runs" for amount in (0, 1, "all")]


@pytest.fixture(scope="module")
def across(build, tmp_path_factory):
    project = build(tmp_path_factory.mktemp("across"), STUDY)
    project.snakemake()
    return project


def test_every_condition_is_scored_beside_its_controls(across):
    text = ("subject", "split", "model", "metric", "control_of")
    scores = read_table(across.results / "decoding/scores.tsv", text)
    found = scores[scores["split"].isin(SPLITS) & (scores["metric"] == "percentile")]
    assert set(found["subject"]) == {"01", "02", "03", "group"}
    models = found[~found["model"].str.startswith("control:")].groupby("split")["model"].agg(set)
    assert models[SPLITS[0]] == {"shared", "pooled_grid"}
    assert models[SPLITS[1]] == models[SPLITS[2]] == {"shared", "ridge_to_reference", "hyperalignment", "within"}
    own = found[(found["control_of"] == "shared") & (found["split"] == SPLITS[0]) & (found["subject"] == "01")]
    assert set(own["model"]) == {"control:shifted", "control:shuffled", "control:word_rate"}
    other = found[(found["model"] == "control:other_subject") & (found["level"] == "group")]
    assert len(other) == 3
    assert other["control_of"].isna().all()
    tested = found[~found["model"].str.startswith("control:")]
    assert tested["p_corrected"].notna().all()
    group = tested[(tested["level"] == "group") & (tested["model"] == "shared") & (tested["split"] == SPLITS[2])]
    people = tested[(tested["level"] == "subject") & (tested["model"] == "shared") & (tested["split"] == SPLITS[2])]
    assert group["score"].item() == pytest.approx(people["score"].mean())


def test_all_runs_within_is_the_refit_of_that_subject(across):
    """Given all its runs, a person alone is what the stage 'voxels' decodes: the same voxels, runs, windows and ridge."""
    scores = read_table(across.results / "decoding/scores.tsv", ("subject", "split", "model", "metric", "control_of"))
    rows = scores[(scores["level"] == "subject") & (scores["metric"] == "percentile")].set_index(
        ["subject", "model", "split"]
    )
    for who in ("01", "02", "03"):
        alone, refit = (
            rows.loc[(who, "within", SPLITS[2]), "score"],
            rows.loc[(who, "bottleneck_refit", "test_runs"), "score"],
        )
        assert alone == pytest.approx(refit, abs=1e-6)
    # The text is shifted alike in both, and alike in all people: the same p, of people and of the group.
    p = rows["p"].xs("within", level="model").xs(SPLITS[2], level="split")
    np.testing.assert_allclose(p, rows["p"].xs("bottleneck_refit", level="model").droplevel("split"))


def test_what_is_decoded_within_people_is_judged_over_the_group(across):
    scores = read_table(across.results / "decoding/scores.tsv", ("subject", "split", "model", "metric", "control_of"))
    windows = scores[(scores["split"] == "test_runs") & (scores["metric"] == "percentile")]
    group = windows[windows["level"] == "group"].set_index("model")
    people = windows[windows["level"] == "subject"].groupby("model")["score"].mean()
    shifted = group.drop(index="control:shifted")
    np.testing.assert_allclose(shifted["score"], people[shifted.index])
    assert set(group.index) == set(people.index) >= {"bottleneck_refit", "ridge_all_voxels", "control:word_rate"}
    assert (group["n"] == 3).all()
    tested = group[~group.index.str.startswith("control:")]
    assert tested["p_corrected"].notna().all()
    same = scores[(scores["level"] == "group") & (scores["model"] == "within") & (scores["split"] == SPLITS[2])]
    assert same.set_index("metric")["p"]["percentile"] == group.loc["bottleneck_refit", "p"]
    verdicts = read_table(across.results / "verdicts.tsv", ("subject", "analysis", "verdict"))
    judged = verdicts[(verdicts["level"] == "group") & verdicts["analysis"].str.contains("split test_runs")]
    assert set(judged["analysis"].str.extract(r": (\w+),")[0]) == {"bottleneck_refit", "ridge_all_voxels"}


def test_audit_verdicts_and_page(across):
    decoding = across.results / "decoding"
    declared = read_audited(decoding / "across-splits.json", decoding / "leaks.tsv")
    assert [split.name for split in declared.splits][:3] == ["sub-01/0_runs", "sub-01/1_runs", "sub-01/all_runs"]
    leaks = read_table(decoding / "leaks.tsv", ("split", "analysis", "check", "passed", "found"))
    subject = leaks[(leaks["analysis"] == "across") & (leaks["check"] == "subject")].set_index("split")
    assert (subject["passed"] == "yes").all()
    assert subject.loc["sub-02/0_runs", "found"] == "0 subjects"
    assert subject.loc["sub-02/1_runs", "found"] == "0 subjects, 1 runs given"
    verdicts = read_table(across.results / "verdicts.tsv", ("subject", "analysis", "verdict"))
    assert verdicts["analysis"].str.contains(f"shared, percentile, split {SPLITS[0]}").sum() == 4
    table = read_table(decoding / "across.tsv", ("subject", "split", "model", "metric"))
    alone = table[(table["model"] == "within") & (table["metric"] == "percentile")]
    assert set(alone["runs"]) == {1, 2}
    assert np.allclose(alone["minutes"], 5 * alone["runs"])
    page = (across.results / "report/index.html").read_text()
    assert "held-out subject, 1 run given" in page
    assert "Decoding of new people" in page
    recovery = read_table(decoding / "recovery.tsv", ("map", "runs", "subject"))
    assert {"gate_prior", "gate_alone", "gate_with_prior"} <= set(recovery["map"])
