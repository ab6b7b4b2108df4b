import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd

from decoders.errors import IntegrityError
from decoders.store.tables import COLUMNS, read_table, write_table


def test_labels_and_gaps_survive(tmp_path):
    table = pd.DataFrame({"subject": ["01", "NA", None], "score": [0.5, float("nan"), 1e-9]})
    write_table(tmp_path / "a.tsv", table)
    found = read_table(tmp_path / "a.tsv", ("subject",))
    assert found.subject.tolist()[:2] == ["01", "NA"]
    assert pd.isna(found.subject[2])
    assert found.score[2] == 1e-9
    assert (tmp_path / "a.tsv").read_text().splitlines()[3] == "n/a\t1e-09"


def test_a_changed_table_is_refused(tmp_path):
    write_table(tmp_path / "a.tsv", pd.DataFrame({"x": [1]}))
    (tmp_path / "a.tsv").write_text("x\n2\n")
    with pytest.raises(IntegrityError, match="SHA-256"):
        read_table(tmp_path / "a.tsv")


def test_a_table_without_checksum_or_file_is_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("x\n2\n")
    with pytest.raises(IntegrityError, match="checksum"):
        read_table(tmp_path / "a.tsv")
    with pytest.raises(IntegrityError, match="no such file"):
        read_table(tmp_path / "b.tsv")


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_named_table_has_its_columns_first(tmp_path, kind):
    row = {"extra": 1, **dict.fromkeys(reversed(COLUMNS[kind]), 0)}
    write_table(tmp_path / "a.tsv", pd.DataFrame([row]), kind)
    assert tuple(read_table(tmp_path / "a.tsv").columns) == (*COLUMNS[kind], "extra")
    with pytest.raises(ValueError, match="lacks"):
        write_table(tmp_path / "a.tsv", pd.DataFrame([{"extra": 1}]), kind)


WORDS = st.text(st.characters(exclude_characters="\x00\r", exclude_categories=["Cs"]), min_size=1).filter(
    lambda t: t != "n/a"
)


@given(
    hpd.data_frames(
        [
            hpd.column("a", elements=WORDS, dtype=object),
            hpd.column("b", elements=st.integers(-(2**53), 2**53), dtype=int),
        ]
    )
)
def test_any_text_survives(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("t") / "a.tsv"
    write_table(path, table)
    found = read_table(path, ("a",))
    assert found.a.tolist() == table.a.tolist()
    assert found.b.tolist() == table.b.tolist()
