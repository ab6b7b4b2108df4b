import numpy as np
import pandas as pd
import pytest

from decoders.config import parse_settings
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.verdicts import alignment_verdicts, decoding_verdicts
from decoders.store.tables import COLUMNS, read_table, write_table


def decoding(*rows):
    """Rows (model, score, ci_high, p_corrected[, more])."""
    common = {"level": "subject", "subject": "01", "split": np.nan, "seed": np.nan, "task": "block"}
    common |= {"metric": "accuracy", "n": 96, "null_mean": 0.125, "p": 0.001, "ci_low": 0.0}
    named = [{**common, "model": m, "score": s, "ci_high": h, "p_corrected": p, **more} for m, s, h, p, more in rows]
    extra = ["control_of"] if any("control_of" in row for row in named) else []
    return pd.DataFrame(named, columns=[*COLUMNS["decoding_scores"], *extra])


SHUFFLED = ("control:shuffled", 0.12, 0.20, np.nan, {})


@pytest.mark.parametrize(
    ("rows", "sentence", "by"),
    [
        ([("lda", 0.9, 0.95, 0.001, {}), SHUFFLED], "above all controls", None),
        ([("lda", 0.9, 0.95, 0.2, {}), SHUFFLED], "not above chance", None),
        ([("lda", 0.9, 0.95, np.nan, {"p": np.nan}), SHUFFLED], "not above chance", None),
        ([("lda", 0.1, 0.15, 0.001, {}), SHUFFLED], "not above chance", None),
        (
            [("lda", 0.3, 0.4, 0.001, {}), SHUFFLED, ("control:word_rate", 0.28, 0.33, np.nan, {})],
            "above chance but explained by word_rate",
            "word_rate",
        ),
        # A control without an interval counts by its score.
        (
            [("lda", 0.3, 0.4, 0.001, {}), ("control:noise", 0.3, np.nan, np.nan, {})],
            "above chance but explained by noise",
            "noise",
        ),
        # … and against the lower end of the score's own interval, the only one there is.
        (
            [("lda", 0.3, 0.4, 0.001, {"ci_low": 0.2}), ("control:noise", 0.25, np.nan, np.nan, {})],
            "above chance but explained by noise",
            "noise",
        ),
        (
            [("lda", 0.3, 0.4, 0.001, {"ci_low": 0.2}), ("control:random_name", 0.125, np.nan, np.nan, {})],
            "above all controls",
            None,
        ),
        # Two bare numbers do not show a difference.
        (
            [("lda", 0.3, np.nan, 0.001, {"ci_low": np.nan}), ("control:word_rate", 0.28, np.nan, np.nan, {})],
            "above chance but explained by word_rate",
            "word_rate",
        ),
        # The strongest control that reaches the score is named, not the vaguest one.
        (
            [
                ("lda", 0.77, 0.83, 0.001, {}),
                ("control:position", 0.62, 0.82, np.nan, {}),
                ("control:word_rate", 0.75, 0.81, np.nan, {}),
            ],
            "above chance but explained by word_rate",
            "word_rate",
        ),
        # A control without a score was not tested, whatever the others say.
        (
            [("lda", 0.9, 0.95, 0.001, {}), SHUFFLED, ("control:noise", np.nan, np.nan, np.nan, {})],
            "above chance but explained by controls that were not tested",
            "controls that were not tested",
        ),
        # A control of another split was scored on other samples.
        (
            [("lda", 0.9, 0.95, 0.001, {}), ("control:noise", 0.1, 0.1, np.nan, {"split": "unseen_subject"})],
            "above chance but explained by controls that were not tested",
            "controls that were not tested",
        ),
        (
            [("lda", 0.9, 0.95, 0.001, {})],
            "above chance but explained by controls that were not tested",
            "controls that were not tested",
        ),
        # Without a corrected p in the family, p is corrected.
        ([("lda", 0.9, 0.95, np.nan, {"p": 0.04}), SHUFFLED], "above all controls", None),
        # A control of another model does not count.
        (
            [
                ("lda", 0.9, 0.95, 0.001, {"control_of": np.nan}),
                ("control:shuffled", 1.0, 1.0, np.nan, {"control_of": "speller"}),
                ("control:shuffled", 0.1, 0.1, np.nan, {"control_of": "lda"}),
            ],
            "above all controls",
            None,
        ),
        # Controls of another task or subject do not count.
        (
            [
                ("lda", 0.9, 0.95, 0.001, {}),
                SHUFFLED,
                ("control:noise", 1.0, 1.0, np.nan, {"task": "volume"}),
                ("control:noise", 1.0, 1.0, np.nan, {"subject": "02"}),
            ],
            "above all controls",
            None,
        ),
    ],
)
def test_decoding(rows, sentence, by):
    table = decoding_verdicts(decoding(*rows), 0.05)
    assert table["verdict"].tolist() == [sentence]
    assert table["explained_by"].tolist() == [by]
    assert table["analysis"].tolist() == ["block: lda, accuracy"]
    # Copied, not computed.
    assert table["score"][0] == rows[0][1]


def test_rows_over_all_seeds_stand_for_them():
    rows = [("speller", 0.6, 0.7, 0.001, {"seed": seed}) for seed in ("0", "1", "all")]
    table = decoding_verdicts(decoding(*rows, SHUFFLED), 0.05)
    assert len(table) == 1
    table = decoding_verdicts(decoding(*rows[:2], SHUFFLED), 0.05)
    assert table["analysis"].tolist() == ["block: speller, accuracy, seed 0", "block: speller, accuracy, seed 1"]


def test_p_without_correction_is_corrected_over_the_family():
    rows = [("ridge", 0.6, 0.7, np.nan, {"task": f"window_{s}s", "p": 0.02}) for s in (10, 20, 40)]
    table = decoding_verdicts(decoding(*rows), 0.05)
    assert table["p_corrected"].tolist() == pytest.approx([0.06] * 3)
    assert set(table["verdict"]) == {"not above chance"}


def test_metrics_in_which_less_is_better_are_not_judged():
    rows = [("speller", 0.2, 0.3, 0.001, {"metric": "cer"})]
    assert decoding_verdicts(decoding(*rows), 0.05).empty


def inference(chance_p, control_p, control_estimate=0.1, rule_p=(0.9,), rule_estimates=None):
    common = {"analysis": "rsa", "region": "IT", "time": np.nan, "ci_low": 0.0, "ci_high": 0.3, "p": 0.01}
    common |= {"n_subjects": 15, "n_stimuli": 92, "n_seeds": 3, "method": "", "null_mean": 0.001}
    model = "backprop cnn3 fc1 32px"
    rows = [
        {"family": "models against chance, IT", "model": model, "reference": "chance", "estimate": 0.15},
        {"family": "models against chance, IT", "model": "control:pixel", "reference": "chance", "estimate": 0.1},
        {"family": "models against controls, IT", "model": model, "reference": "control:pixel"},
    ]
    rows[0]["p_corrected"] = rows[1]["p_corrected"] = chance_p
    rows[2] |= {"p_corrected": control_p, "estimate": control_estimate}
    estimates = rule_estimates or [0.1] * len(rule_p)
    for number, (p, estimate) in enumerate(zip(rule_p, estimates, strict=True)):
        other = f"untrained cnn3 fc{number} 32px"
        first = f"backprop cnn3 fc{number} 32px"
        rows.append({"family": "rules against rules, IT", "model": first, "reference": other, "estimate": estimate})
        rows[-1]["p_corrected"] = p
    table = pd.DataFrame([{**common, **row} for row in rows])
    return table.assign(contrast=table["model"] + " - " + table["reference"])


SCORES = pd.DataFrame({"subject": ["01", "02"], "comparator": "spearman"})
CEILINGS = pd.DataFrame({"region": ["IT"], "comparator": ["spearman"], "ceiling_low": [0.45], "ceiling_high": [0.54]})


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (inference(0.01, 0.01), "above all controls"),
        (inference(0.01, 0.30), "above chance but explained by pixel"),
        (inference(0.01, 0.01, control_estimate=-0.1), "above chance but explained by pixel"),
        (inference(0.20, 0.01), "not above chance"),
        (inference(np.nan, np.nan), "not above chance"),
    ],
)
def test_alignment(table, sentence):
    verdicts = alignment_verdicts(SCORES, CEILINGS, table, 0.05)
    assert verdicts["analysis"].tolist() == ["rsa ranking of rules, IT", "rsa IT: backprop cnn3 fc1 32px"]
    row = verdicts.iloc[1]
    assert row["verdict"] == sentence
    assert (row["level"], row["n"], row["score"], row["ceiling_low"]) == ("group", 15, 0.15, 0.45)


@pytest.mark.parametrize(
    ("p", "estimates", "sentence"),
    [
        ([0.9, 0.06], [0.1, 0.1], "no ranking supported"),
        ([np.nan], [0.1], "no ranking supported"),
        ([0.01, 0.02], [0.1, -0.1], "no ranking supported: a difference changes its sign with layer or picture size"),
        ([0.01, 0.9], [0.1, -0.1], "1 of 2 contrasts of rules survive correction; see the table for layer and size"),
    ],
)
def test_ranking(p, estimates, sentence):
    table = inference(0.01, 0.01, rule_p=p, rule_estimates=estimates)
    assert alignment_verdicts(SCORES, CEILINGS, table, 0.05)["verdict"][0] == sentence


def test_one_subject_is_no_group():
    verdicts = alignment_verdicts(SCORES[:1], CEILINGS, inference(0.01, 0.01), 0.05)
    assert set(verdicts["level"]) == {"subject"}
    assert set(verdicts["subject"]) == {"01"}


def test_the_stage_reads_and_writes_tables(tmp_path):
    study = {"study": "x", "data": {"source": "bids", "root": "b"}, "alignment": {"recordings": "rdms", "alpha": 0.001}}
    scores = SCORES.assign(**{c: np.nan for c in COLUMNS["alignment_scores"] if c not in SCORES})
    write_table(tmp_path / "decoding.tsv", decoding(("lda", 0.9, 0.95, 0.01, {}), SHUFFLED), "decoding_scores")
    write_table(tmp_path / "scores.tsv", scores, "alignment_scores")
    write_table(tmp_path / "ceilings.tsv", CEILINGS.assign(time=np.nan), "ceilings")
    write_table(tmp_path / "inference.tsv", inference(0.0005, 0.01), "inference")
    inputs = {name: [tmp_path / f"{name}.tsv"] for name in ("decoding", "scores", "ceilings", "inference")}
    settings = SettingsSlice.of("verdict", parse_settings(study))
    run_stage(settings, inputs, {"verdicts": tmp_path / "verdicts.tsv"})
    table = read_table(tmp_path / "verdicts.tsv", ("subject",))
    # The study's alpha is .001: the first is not below it.
    assert table["verdict"].tolist() == [
        "not above chance",
        "no ranking supported",
        "above chance but explained by pixel",
    ]
    assert tuple(table.columns) == COLUMNS["verdicts"]
    assert table["subject"][0] == "01"
    settings = SettingsSlice.of("verdict", parse_settings({**study, "alignment": None}))
    run_stage(settings, {"decoding": inputs["decoding"]}, {"verdicts": tmp_path / "verdicts.tsv"})
    assert read_table(tmp_path / "verdicts.tsv")["verdict"].tolist() == ["above all controls"]
