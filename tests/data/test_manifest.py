import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.data.manifest import Run, inside, read_manifest, relative_root, select_runs, write_manifest
from decoders.errors import InputError, IntegrityError

label = st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True)
# What labels and paths must survive: leading zeros, words that tables take for missing values, any script.
tricky = st.sampled_from(
    ["", "01", "1e5", "NA", "null", "nan", "None", "1.0", "True", "故事", 'a "quoted" one', "a;b", "#x"]
)
text = tricky | st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=12).filter(
    lambda value: value.isprintable() and value != "n/a"
)
files = st.sampled_from(["", "sub-01/func/sub-01_bold.nii.gz", "a b/ü.tsv", "x;y"])
seconds = st.just(math.nan) | st.floats(-1e4, 1e4).map(lambda value: float(f"{value:.10g}"))


@st.composite
def some_runs(draw: st.DrawFn) -> list[Run]:
    ids = draw(st.lists(label, max_size=5, unique=True))
    return [
        Run(
            run_id=run_id,
            subject=draw(text),
            session=draw(text),
            task=draw(text),
            run=draw(text),
            modality=draw(st.sampled_from(["bold", "region", "surface", "rdm", "meg"])),
            root=draw(text.filter(bool)),
            image=draw(files),
            mask=draw(files),
            truth=draw(files),
            stimulus=draw(text),
            tr=draw(seconds),
            n_volumes=draw(st.just(math.nan) | st.integers(0, 10**7)),
            start_time=draw(seconds),
            status=draw(st.sampled_from(["ok", "excluded"])),
            reason=draw(text),
        )
        for run_id in ids
    ]


def same(one: Run, other: Run) -> bool:
    return repr(one) == repr(other)  # nan is not equal to itself


@settings(max_examples=60, deadline=None)
@given(some_runs())
def test_write_then_read_gives_the_same_runs(tmp_path_factory: pytest.TempPathFactory, runs: list[Run]) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.tsv"
    write_manifest(path, runs)
    found = read_manifest(path)
    assert [run.run_id for run in found] == sorted(run.run_id for run in runs)
    assert all(same(one, other) for one, other in zip(found, sorted(runs, key=lambda run: run.run_id), strict=True))


def test_missing_values_are_na_on_disk_and_labels_keep_their_zeros(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.tsv", [Run("sub-01_task-a", "01", tr=2.0)])
    header, row = (tmp_path / "m.tsv").read_text().splitlines()
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert cells["subject"] == "01"
    assert cells["session"] == cells["n_volumes"] == cells["mask"] == "n/a"


def test_files_are_found_below_the_root() -> None:
    run = Run("a", "1", root="/data/set", image="x/L.gii;x/R.gii", mask="m.nii.gz")
    assert run.path("mask") == Path("/data/set/m.nii.gz")
    assert run.path("events") is None
    assert run.paths("image") == [Path("/data/set/x/L.gii"), Path("/data/set/x/R.gii")]


@pytest.mark.parametrize("path", ["../secret.nii", "/etc/passwd", "a/../../b", "C:/x", "a\\..\\..\\b"])
def test_paths_outside_the_data_set_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="inside the data set"):
        inside(path, "here")
    with pytest.raises(InputError, match="inside the data set"):
        write_manifest(tmp_path / "m.tsv", [Run("a", "1", image=path)])
    assert not (tmp_path / "m.tsv").exists()


def test_two_runs_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one row per run.*'a'"):
        write_manifest(tmp_path / "m.tsv", [Run("a", "1"), Run("a", "2")])


@pytest.mark.parametrize(
    "run",
    [
        Run("a/b", "1"),
        Run("..", "1"),
        Run("", "1"),
        Run("a b", "1"),
        Run("a", "1\t2"),
        Run("a", "1", reason="two\nlines"),
        Run("a", "n/a"),
        Run("a", "1", modality="ecog"),  # type: ignore[arg-type]
        Run("a", "1", status="bad"),  # type: ignore[arg-type]
    ],
)
def test_what_no_table_can_hold_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(InputError):
        write_manifest(tmp_path / "m.tsv", [run])


def test_an_edited_manifest_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.tsv"
    write_manifest(path, [Run("a", "01")])
    path.write_text(path.read_text().replace("01", "02"))
    with pytest.raises(IntegrityError, match="SHA-256"):
        read_manifest(path)


def test_select_leaves_excluded_runs_out() -> None:
    runs = [Run("a", "1", task="x"), Run("b", "1", task="y"), Run("c", "2", task="x", status="excluded")]
    assert [run.run_id for run in select_runs(runs, task="x")] == ["a"]
    assert [run.run_id for run in select_runs(runs, subject="1")] == ["a", "b"]
    assert [run.run_id for run in select_runs(runs, include_excluded=True)] == ["a", "b", "c"]


def test_roots_are_relative_inside_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative_root(tmp_path / "data") == "data"
    assert relative_root("/elsewhere") == "/elsewhere"
