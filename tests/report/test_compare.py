"""Two runs side by side: what differs is listed, what is equal is not, and no row of either is lost."""

import json
import re

import pandas as pd
import pytest

from decoders.cli import main
from decoders.errors import InputError, IntegrityError
from decoders.report.compare import changed_verdicts, compare, read_side
from decoders.report.compare_sections import flattened, joined, settings_differences
from decoders.store.tables import COLUMNS, write_table

VERDICT = dict.fromkeys(COLUMNS["verdicts"])
ROW = VERDICT | {"level": "group", "n": 15, "score": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p_corrected": 0.01}


def write(folder, study, verdicts, *, seed=0, digest="aaaa", sha="1" * 64, layers=("fc1",), folds=5):
    settings = {"seed": seed, "study": study, "alignment": {"layers": list(layers), "encoding": {"n_folds": folds}}}
    stage = {"stage": "align", "source_digest": digest, "packages": {"numpy": "2.0"}}
    record = {
        "study": study, "settings": settings, "stages": [stage],
        "raw_inputs": [{"path": f"/data/{study}/sub-01_bold.nii.gz", "sha256": sha}],
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps(record))
    write_table(folder / "verdicts.tsv", pd.DataFrame(verdicts), "verdicts")
    runs = pd.DataFrame({"run_id": ["sub-01_run-01"], "status": ["ok"], "reason": [None], "sha256": [sha]})
    write_table(folder / "manifest.tsv", runs)
    return folder


def row(analysis, verdict="above all controls", score=0.1, by=None):
    return ROW | {"analysis": analysis, "verdict": verdict, "score": score, "explained_by": by}


BACKPROP = "rsa IT: backprop cnn3 fc1 32px"


@pytest.fixture
def folders(tmp_path):
    first = write(tmp_path / "a", "a", [row(BACKPROP), row("rsa IT: untrained cnn3 fc1 32px", "not above chance", 0.0)])
    by_pixel = row(BACKPROP, "above chance but explained by pixel", 0.12, "pixel")
    second = write(
        tmp_path / "b", "b", [by_pixel, row("rsa V1: hebbian cnn3 fc1 32px")], seed=3, digest="bbbb", sha="2" * 64,
        layers=("conv1", "fc1"),
    )  # fmt: skip
    return first, second


def test_settings_that_differ_are_named_and_equal_ones_are_not():
    one = {"study": "a", "seed": 0, "alignment": {"layers": ["fc1"], "alpha": 0.05}, "learning": None}
    other = {"study": "b", "seed": 1, "alignment": {"layers": ["fc1"], "alpha": 0.01}, "decoding": {"names": {"x": 1}}}
    assert settings_differences(one, other) == [
        ("seed", "0", "1"),
        ("alignment.alpha", "0.05", "0.01"),
        ("learning", "null", "absent"),
        ("decoding.names.x", "absent", "1"),
    ]
    assert settings_differences(one, one) == []
    assert flattened({"a": {"b": {}}}) == {"a.b": "{}"}


def test_no_row_of_either_is_lost(folders):
    table = joined("verdicts", *(read_side(folder) for folder in folders))
    assert sorted(table["in"]) == ["a", "b", "both"]
    both = table[table["in"] == "both"].iloc[0]
    assert (both["score_a"], both["score_b"]) == (0.1, 0.12)
    assert both["verdict_b"] == "above chance but explained by pixel"


def test_rows_of_equal_keys_stand_side_by_side_in_their_order(tmp_path):
    first = write(tmp_path / "a", "a", [row(BACKPROP, score=0.1), row(BACKPROP, score=0.2)])
    second = write(tmp_path / "b", "b", [row(BACKPROP, score=0.3), row(BACKPROP, score=0.4), row(BACKPROP, score=0.5)])
    table = joined("verdicts", read_side(first), read_side(second)).sort_values("score_b")
    assert table["score_b"].tolist() == [0.3, 0.4, 0.5]
    assert table["score_a"].fillna(-1).tolist() == [0.1, 0.2, -1]


def test_changed_verdicts_are_counted(folders):
    a, b = (read_side(folder).table("verdicts") for folder in folders)
    assert changed_verdicts(a, b) == 1
    assert changed_verdicts(a, a) == 0
    assert changed_verdicts(a, pd.DataFrame()) == 0


def test_rows_that_are_joined_by_their_place_are_noticed(folders, monkeypatch):
    """The deliberate bug: rows side by side by their number. An analysis then gets another one's verdict."""
    from decoders.report import compare as module

    monkeypatch.setattr(module, "_joined", lambda a, b: a.add_suffix("_a").join(b.add_suffix("_b")))
    a, b = (read_side(folder).table("verdicts") for folder in folders)
    assert changed_verdicts(a, b) != 1


def test_the_page_shows_both_and_asks_the_network_for_nothing(folders, tmp_path):
    found = compare(*folders, tmp_path / "out" / "compare.html")
    page = found.path.read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == ["scores", "settings", "data"]
    for words in (
        "a beside b",
        "alignment.layers",
        "Digest of the code",
        "aaaa",
        "bbbb",
        "111111111111",
        "sub-01_run-01",
    ):
        assert words in page
    assert "n_folds" not in page
    assert "https://" not in re.sub(r"xmlns=\"[^\"]*\"", "", page)
    assert found.sentence.startswith("2 settings differ; of 1 analysis that both have, 1 verdict differs.")
    assert "not tested" in page


def test_equal_runs_of_one_study_are_told_apart_and_said_to_be_equal(tmp_path):
    verdicts = [row(BACKPROP)]
    first, second = (write(tmp_path / name, "same", verdicts) for name in ("x", "y"))
    page = compare(first, second, tmp_path / "c.html").path.read_text(encoding="utf-8")
    assert "same (first) beside same (second)" in page
    assert "All settings are equal" in page
    assert "Recordings, other inputs, code and packages are equal." in page


def test_hostile_names_stay_words(tmp_path):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    first = write(tmp_path / "a", bad, [row(f"rsa {bad}: {bad}")])
    second = write(tmp_path / "b", "b", [row(f"rsa {bad}: {bad}", "not above chance")], layers=(bad,))
    page = compare(first, second, tmp_path / "c.html").path.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img" not in page


def test_what_is_no_finished_study_is_refused(folders, tmp_path, capsys):
    with pytest.raises(InputError, match="the same one twice"):
        compare(folders[0], folders[0], tmp_path / "c.html")
    with pytest.raises(InputError, match=r"provenance\.json"):
        compare(folders[0], tmp_path / "nowhere", tmp_path / "c.html")
    (folders[1] / "provenance.json").write_text("[1")
    with pytest.raises(IntegrityError):
        compare(*folders, tmp_path / "c.html")
    (folders[1] / "provenance.json").write_text("[1]")
    with pytest.raises(IntegrityError, match="a mapping"):
        compare(*folders, tmp_path / "c.html")
    assert main(["compare", str(folders[0]), str(tmp_path / "nowhere")]) == 2


def test_the_verb_writes_the_page(folders, tmp_path, capsys):
    output = tmp_path / "both.html"
    assert main(["compare", *map(str, folders), "--output", str(output)]) == 0
    assert "1 verdict differs" in capsys.readouterr().out
    assert output.is_file()


def test_a_changed_table_is_refused(folders, tmp_path):
    path = folders[1] / "verdicts.tsv"
    path.write_text(path.read_text().replace("explained by pixel", "explained by nothing"))
    with pytest.raises(IntegrityError, match="SHA-256"):
        compare(*folders, tmp_path / "c.html")


def test_tables_that_one_side_lacks_are_shown_of_the_other(folders, tmp_path):
    networks = pd.DataFrame({column: [None] for column in COLUMNS["networks"]})
    networks = networks.assign(rule="backprop", architecture="cnn3", seed=0, status="ok", test_accuracy=0.6)
    write_table(folders[0] / "networks" / "networks.tsv", networks, "networks")
    table = joined("networks", *(read_side(folder) for folder in folders))
    assert table["in"].tolist() == ["a"]
    page = compare(*folders, tmp_path / "c.html").path.read_text(encoding="utf-8")
    assert "Networks of both" in page
    other = networks.assign(test_accuracy=0.7)
    write_table(folders[1] / "networks" / "networks.tsv", other, "networks")
    table = joined("networks", *(read_side(folder) for folder in folders))
    assert table[["test_accuracy_a", "test_accuracy_b"]].to_numpy().tolist() == [[0.6, 0.7]]
