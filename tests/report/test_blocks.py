import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.report.blocks import Data, Section, Table, json_block, parts, show, show_p, worded


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (-0.02, "\N{MINUS SIGN}0.020"), (None, "–"), (math.nan, "–"), (12, "12"), (1234.5, "1234.5"), (1e-7, "1.0e\N{MINUS SIGN}07"), (math.inf, "∞"), ("x", "x")],
)  # fmt: skip
def test_numbers_are_shown_as_a_reader_wants_them(value, shown):
    assert show(value) == shown


def test_a_p_value_is_never_zero():
    assert [show_p(v) for v in (0.0, 0.0004, 0.005, 1.0, None)] == ["< 0.001", "< 0.001", "0.005", "1.000", "–"]


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_a_data_block_cannot_be_ended_from_inside(value):
    block = str(json_block(value))
    assert "<" not in block
    assert ">" not in block


def test_a_data_block_gives_the_values_back():
    value = {"a": ["</script><!--", "&", 1.5, None, "开"]}
    assert json.loads(str(json_block(value))) == value


def test_data_keep_what_a_missing_value_would_turn_into_a_float():
    data = Data.of(pd.DataFrame({"seed": [0, np.nan], "n_bad": [3.0, 4.0], "score": [0.0, 1.0]}))
    assert data.rows == [(0, 3, 0.0), (None, 4, 1.0)]
    assert isinstance(data.rows[0][0], int)
    assert isinstance(data.rows[0][2], float)
    assert data.tsv() == "seed\tn_bad\tscore\n0\t3\t0.0\nn/a\t4\t1.0\n"


def test_a_table_knows_its_numbers_and_hides_columns():
    table = Table(
        "k", "t", "", Data(("name", "score", "note"), [("a", 0.5, None), ("b" * 60, None, None)]), hide=("note",)
    )
    assert table.visible == ["name", "score"]
    assert [table.css_of(c) for c in table.visible] == ["long", "n"]
    assert table.shown(0, "score") == "0.500"


def test_a_section_without_blocks_is_empty():
    assert Section("k", "t", "", parts(("a", [None]))).empty


def test_words_are_shown_and_values_are_kept():
    data = Data(("model", "score"), [("lda", 0.5), ("other", 0.25), (None, 0.125)])
    table = Table("t", "T", "", data, words=worded(data, {"model": str.upper, "absent": str.upper}))
    assert table.words == {"model": {"lda": "LDA", "other": "OTHER"}}
    assert [table.shown(i, "model") for i in range(3)] == ["LDA", "OTHER", "\N{EN DASH}"]
    assert "lda\t0.5" in data.tsv()
    assert worded(data, {"model": str}) == {}


def test_words_that_come_again_are_embedded_once():
    rows = [("a long method" if i % 2 else "another", i, None if i == 7 else "x", f"own {i}") for i in range(1000)]
    data = Data(("method", "n", "some", "own"), rows)
    found = json.loads(str(data.embedded()))
    assert found["coded"] == {"0": ["another", "a long method"], "2": ["x"]}
    # As the page's script puts them back.
    for column, words in found["coded"].items():
        for row in found["rows"]:
            if row[int(column)] is not None:
                row[int(column)] = words[row[int(column)]]
    assert found["rows"] == [list(row) for row in rows]
    assert str(data.embedded()).count("a long method") == 1
    # Columns that mix words and numbers, and short tables, stand as they are.
    mixed = Data(("a",), [(1 if i else "one",) for i in range(1000)])
    assert "coded" not in json.loads(str(mixed.embedded()))
    assert "coded" not in json.loads(str(Data(("a",), [("x",)] * 10).embedded()))
