"""The joined tables of decoding and the corrected p-values of the family."""

import numpy as np
import pandas as pd
import pytest

from decoders.config import parse_settings
from decoders.decoding.stage_tables import correct, join_tables
from decoders.errors import InputError, IntegrityError
from decoders.stage import SettingsSlice, run_stage
from decoders.store.tables import COLUMNS, read_table, write_table

STUDY = parse_settings(
    {"study": "s", "data": {"source": "bids", "root": "."}, "preprocess": {}, "decoding": {"names": {}}}
)


def scores(p, models=None, level="subject", subject="01"):
    rows = len(p)
    table = pd.DataFrame({column: ["n/a"] * rows for column in COLUMNS["decoding_scores"]})
    return table.assign(
        level=level, subject=subject, model=models or ["ridge"] * rows, score=0.5, ci_low=np.nan, ci_high=np.nan,
        n=1, null_mean=0.5, p=p, p_corrected=np.nan, seed=np.nan,
    )  # fmt: skip


def test_false_discovery_rate_equals_scipy_within_each_level():
    from scipy.stats import false_discovery_control

    p = [0.001, 0.02, 0.04, 0.9]
    table = pd.concat([scores(p), scores([0.03], level="group", subject="group")], ignore_index=True)
    corrected = correct(table)["p_corrected"].to_numpy()
    np.testing.assert_allclose(corrected[:4], false_discovery_control(p))
    assert corrected[4] == 0.03


def test_controls_and_untested_rows_stay_out_of_the_family():
    table = correct(scores([0.01, 0.001, np.nan], ["ridge", "control:word_rate", "lda"]))
    assert table["p_corrected"].tolist()[0] == 0.01
    assert table["p_corrected"].isna().tolist() == [False, True, True]


def test_a_correction_over_both_levels_would_differ():
    table = pd.concat([scores([0.04, 0.5]), scores([0.04], level="group")], ignore_index=True)
    pooled = correct(table.assign(level="all"))["p_corrected"]
    assert not np.allclose(correct(table)["p_corrected"], pooled)


def test_the_stage_joins_files_and_writes_empty_tables(tmp_path):
    write_table(tmp_path / "a.tsv", scores([0.01], subject="01"), "decoding_scores")
    write_table(tmp_path / "b.tsv", scores([0.2], subject="02"), "decoding_scores")
    outputs = {name: tmp_path / "out" / f"{name}.tsv" for name in ("scores", "text", "recovery")}
    run_stage(SettingsSlice.of("decoding", STUDY), {"scores": [tmp_path / "a.tsv", tmp_path / "b.tsv"]}, outputs)
    joined = read_table(outputs["scores"], ("subject",))
    assert joined["subject"].tolist() == ["01", "02"]
    np.testing.assert_allclose(joined["p_corrected"], [0.02, 0.2])
    for name in ("text", "recovery"):
        empty = read_table(outputs[name])
        assert empty.empty
        assert tuple(empty.columns) == COLUMNS[name]


def test_an_empty_part_keeps_numbers_numbers(tmp_path):
    full = pd.DataFrame([[1, "4x4x4", 0.2, "gate", 0.9, 0.5]], columns=list(COLUMNS["recovery"]))
    joined = join_tables([(tmp_path / "e", full.iloc[:0].astype(object)), (tmp_path / "f", full)], "recovery")
    assert joined["auc"].dtype == np.float64


def test_a_table_without_a_column_is_named(tmp_path):
    with pytest.raises(InputError, match=r"part\.tsv: expected the columns .* found no p"):
        join_tables([(tmp_path / "part.tsv", scores([0.1]).drop(columns="p"))], "decoding_scores")


def test_a_changed_table_is_refused(tmp_path):
    write_table(tmp_path / "a.tsv", scores([0.01]), "decoding_scores")
    (tmp_path / "a.tsv").write_text((tmp_path / "a.tsv").read_text().replace("0.01", "0.001"))
    outputs = {name: tmp_path / f"{name}.tsv" for name in ("scores", "text", "recovery")}
    with pytest.raises(IntegrityError, match=r"changed|SHA-256"):
        run_stage(SettingsSlice.of("decoding", STUDY), {"scores": [tmp_path / "a.tsv"]}, outputs)
    assert not outputs["scores"].exists()
