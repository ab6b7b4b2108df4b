"""Rows of the text table."""

import numpy as np

from decoders.decoding.names import Samples
from decoders.decoding.names_text import text_row, text_rows

SAMPLES = Samples(
    x=np.zeros((5, 2), dtype=np.float32),
    label=np.array([0, 0, 1, 1, 0]),
    run=np.array([0, 0, 0, 1, 1]),
    block=np.array([0, 0, 1, 2, 3]),
    time=np.array([4.0, 6.0, 10.0, 2.0, 8.0]),
    names=("cat", "dog"),
    runs=("01", "07"),
    tr=2.0,
)


def test_a_row_per_block_with_its_time():
    rows = text_rows(SAMPLES, "block", ["cat", "cat", "dog", "dog"], "lda")
    assert [(row["onset"], row["duration"]) for row in rows] == [(4.0, 4.0), (10.0, 2.0), (2.0, 2.0), (8.0, 2.0)]
    assert [row["reference"] for row in rows] == ["cat", "dog", "dog", "cat"]
    assert [row["split"] for row in rows] == ["run-01", "run-01", "run-07", "run-07"]


def test_a_row_per_volume():
    rows = text_rows(SAMPLES, "volume", ["cat"] * 5, "speller")
    assert [row["onset"] for row in rows] == SAMPLES.time.tolist()
    assert {row["duration"] for row in rows} == {2.0}
    assert text_row(SAMPLES, np.array([3]), "dog", "x", "lda") == {
        **rows[3],
        "decoded": "dog",
        "split": "x",
        "model": "lda",
    }
