"""A single run that is cut into blocks, and features without a grid, through the stages of the voxel maps."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.config import FreeTextSettings, VoxelMapSettings, parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.decoding import splits_voxels
from decoders.decoding.common_grid import common_mask, on_common_grid, without_grid
from decoders.decoding.free_others import others_runs
from decoders.decoding.run_parts import parts_of
from decoders.decoding.splits_free_text import declare_free_text
from decoders.decoding.splits_voxels import cut_run, declare_voxels
from decoders.errors import InputError, SettingsError
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.declared import TimedRun
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stats.timed_runs import recorded
from decoders.stimuli.timings import Words, words_table
from decoders.store.arrays import read_arrays
from decoders.store.recording import Recording, read_recording_header, write_recording
from decoders.store.tables import read_table, write_table

TR, N = 2.0, 200
BLOCKS = VoxelMapSettings(blocks=5, test_runs=1)


def run_of(n=N, filter_s=128.0, subject="01"):
    return TimedRun(f"sub-{subject}_task-t", subject, "story", n, 0.0, TR, filter_s)


def words(seed=0, n=900):
    chosen = np.random.default_rng(seed).integers(80, size=n)
    said = tuple(f"w{'abcdefgh'[number % 8]}{'klmnopqrst'[number // 8]}" for number in chosen)
    return Words(0.5 * np.arange(n), np.full(n, 0.4), said, tuple(word + " " for word in said))


def recording(seed=0, subject="01", n=N, **changes):
    names = np.array(["ifg", "itl", "pac", "pmc", "sma", "stg"], dtype=object)
    data = np.random.default_rng(seed).normal(size=(n, len(names))).astype(np.float32)
    made = Recording(data, "region", subject, task="t", stimulus="story", time=TR * np.arange(n), tr=TR, names=names)
    return dataclasses.replace(made, **changes)


# ---- the cut --------------------------------------------------------------------------------------------------------


@given(
    n=st.integers(60, 900), blocks=st.integers(3, 9), tests=st.integers(1, 3), filter_s=st.sampled_from([0.0, 128.0])
)
def test_blocks_are_apart_and_within_the_run(n, blocks, tests, filter_s):
    settings = VoxelMapSettings(blocks=blocks, test_runs=tests)
    run = run_of(n, filter_s)
    try:
        train, test = cut_run(run, settings)
    except InputError as error:
        assert "decoding.voxels.blocks" in str(error)
        return
    assert (len(train), len(test)) == (blocks - tests, tests)
    every = [*train, *test]
    assert len({rows.stop - rows.first for rows in every}) == 1
    assert train[0].first == 0
    assert test[-1].stop == n
    for one, other in itertools.pairwise(train):
        assert other.first - one.stop == 5  # 10 s
    assert TR * (test[0].first - train[-1].stop) >= 32 + filter_s


def leaks(settings=BLOCKS, n=N):
    declaration = declare_voxels([run_of(n)], settings, ["story"])
    return {f.check for f in audit([declaration], Material({"story": words()})) if f.passed == "no"}


def test_the_audit_passes_the_gap_and_names_what_a_single_run_cannot_avoid():
    assert leaks() == {"scaling"}


def test_a_named_bug_a_gap_without_the_filter_is_found_by_the_audit(monkeypatch):
    monkeypatch.setattr(splits_voxels, "HRF_LENGTH_S", 32.0 - 128.0)
    assert leaks() == {"scaling", "gap"}


def test_a_single_run_is_refused_unless_it_is_to_be_cut():
    with pytest.raises(InputError, match=r"more than 1 runs.*found 1.*'blocks' cuts it"):
        declare_voxels([run_of()], VoxelMapSettings(test_runs=1), ["story"])
    with pytest.raises(InputError, match="4 blocks or more, two of which train"):
        declare_voxels([run_of()], VoxelMapSettings(test_runs=2, blocks=3), ["story"])
    with pytest.raises(
        InputError, match=r"a run of 105 volumes or more for 5 blocks \(95 volumes are gaps\).*found 90"
    ):
        declare_voxels([run_of(90)], BLOCKS, ["story"])


def test_people_are_not_compared_by_blocks():
    values = {"study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {}}
    with pytest.raises(SettingsError, match="leave 'blocks' out of 'voxels'"):
        parse_settings({**values, "decoding": {"voxels": {"blocks": 4, "test_runs": 1}, "across": {}}})


def test_several_runs_stay_whole():
    runs = [dataclasses.replace(run_of(), key=f"sub-01_run-{k}", stimulus=f"s{k}") for k in range(4)]
    split = declare_voxels(runs, BLOCKS, ["s0"]).splits[0]
    assert split.claims == ("run", "stimulus")
    assert [rows.run for rows in split.test] == ["sub-01_run-3"]


# ---- the recordings of a split --------------------------------------------------------------------------------------


def test_parts_hold_the_declared_volumes(tmp_path):
    whole = recording()
    write_recording(tmp_path / "r.h5", whole)
    split = declare_voxels([dataclasses.replace(recorded([whole])[0], filter_s=128.0)], BLOCKS, ["story"]).splits[0]
    for source in (whole, read_recording_header(tmp_path / "r.h5")):
        found = parts_of([source], split)
        assert (found.trained, found.tested) == ([0, 1, 2, 3], [4])
        assert len(set(found.labels)) == 5
        for rows, part in zip((*split.train, *split.test), found.recordings, strict=True):
            np.testing.assert_array_equal(part.data, whole.data[rows.first : rows.stop])
            np.testing.assert_array_equal(part.time, whole.time[rows.first : rows.stop])


def test_regions_are_read_as_they_are_and_must_be_the_same(tmp_path):
    runs = [recording(0), recording(1, run="2")]
    mask = common_mask(runs, "here")
    assert mask.shape == (6, 1, 1)
    np.testing.assert_array_equal(on_common_grid(runs, mask)[1], runs[1].data)
    for number, run in enumerate(runs):
        write_recording(tmp_path / f"{number}.h5", run)
    headers = [read_recording_header(tmp_path / f"{number}.h5") for number in range(2)]
    np.testing.assert_array_equal(on_common_grid(headers, common_mask(headers, "here"))[1], runs[1].data)
    other = dataclasses.replace(runs[1], names=runs[1].names[::-1])
    with pytest.raises(InputError, match="the same regions or vertices and TR"):
        common_mask([runs[0], other], "here")


def test_what_needs_neighbours_is_refused_without_a_grid():
    assert without_grid(VoxelMapSettings()).sigma_voxels == 0
    for change in ({"head": "patchify"}, {"gate": "volume"}):
        with pytest.raises(InputError, match="voxels on a grid for a 3D-CNN"):
            without_grid(VoxelMapSettings(**change))


def test_another_listener_is_read_at_the_same_moments():
    own, other = recording(0), recording(1, "02")
    part = dataclasses.replace(own, data=own.data[40:90], time=own.time[40:90])
    found = others_runs([part], [own, other], np.ones((6, 1, 1), bool), np.arange(6))
    np.testing.assert_array_equal(found[0], other.data[40:90])
    # Another story has no such moments: its beginning is as good as any part.
    found = others_runs([part], [dataclasses.replace(other, stimulus="x")], np.ones((6, 1, 1), bool), np.arange(6))
    np.testing.assert_array_equal(found[0], other.data[:50])


# ---- from folder to files -------------------------------------------------------------------------------------------


VALUES = {
    "study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {"representation": "region"},
    "decoding": {
        "voxels": {"blocks": 5, "test_runs": 1, "epochs": 3, "select_share": 1.0},
        "allowed_leaks": [{"analysis": "voxels", "check": "scaling", "reason": "One run, which was scaled as a whole."}],
    },
}  # fmt: skip


def written(folder, n=300):
    """What the stages read, of one listener with one run of regions."""
    steps = [{"step": "project out", "why": "drift", "high_pass_s": 128.0, "rank": 3}]
    write_recording(folder / "r.h5", recording(n=n, steps=steps))
    run = Run(run_id="sub-01_task-t", subject="01", task="t", root=str(folder), stimulus="story", tr=TR, n_volumes=n)
    write_manifest(folder / "manifest.tsv", [run])
    row = {"run_id": "sub-01_task-t", "subject": "01", "task": "t", "n_volumes": n, "tr": TR, "kind": "region"}
    write_table(folder / "quality.tsv", pd.DataFrame([{**row, "excluded": None}]))
    write_table(folder / "words.tsv", words_table(words(n=1150)).assign(stimulus="story"))
    return {name: [folder / f"{name}.tsv"] for name in ("manifest", "quality", "words")}


def test_regions_of_a_single_run_from_folder_to_files(tmp_path):
    given = written(tmp_path)
    study = parse_settings(VALUES)

    def stage(name, inputs, outputs, **labels):
        run_stage(SettingsSlice.of(name, study), inputs, outputs, labels)

    stage("splits-voxels", given, {"splits": tmp_path / "splits.json"})
    audited = {key: given[key] for key in ("manifest", "words")} | {"splits": [tmp_path / "splits.json"]}
    stage("leaks", audited, {"leaks": tmp_path / "leaks.tsv"})
    inputs = {**audited, "leaks": [tmp_path / "leaks.tsv"], "recording": [tmp_path / "r.h5"]}
    gates = [tmp_path / f"gate-{pairing}.h5" for pairing in (0, 1)]
    for pairing, path in enumerate(gates):
        stage("gate", inputs, {"gate": path}, subject="01", pairing=str(pairing))
    outputs = {name: tmp_path / f"{name}.tsv" for name in ("scores", "recovery", "features")}
    outputs |= {name: tmp_path / f"{name}.h5" for name in ("arrays", "nulls")}
    stage("voxels", {**inputs, "gates": gates}, outputs, subject="01")
    table = read_table(outputs["features"])
    assert table["feature"].tolist() == ["ifg", "itl", "pac", "pmc", "sma", "stg"]
    arrays = read_arrays(outputs["arrays"])
    np.testing.assert_allclose(table["gate"], arrays["gate/kl"], rtol=1e-5)
    np.testing.assert_allclose(table["null_maximum_gate"], arrays["null/gate"].max(), rtol=1e-5)
    # Nothing is smoothed over regions.
    np.testing.assert_array_equal(arrays["encoding/r"], arrays["encoding/smoothed"])
    assert len(arrays.attributes["trained"]) == 4
    declared = json.loads((tmp_path / "splits.json").read_text())["splits"][0]
    test = declared["test"][0]
    assert arrays["heard/01"].shape[0] == test[2] - test[1] - 4  # moments whose answer lies within the block
    scores = read_table(outputs["scores"])
    assert {"bottleneck_refit", "ridge_all_voxels", "control:word_rate"} <= set(scores["model"])


def test_the_unheard_passages_of_a_text_pass_the_audit_and_the_whole_text_does_not():
    book = words(1, 400).word + words().word + words(2, 400).word
    voxels = VoxelMapSettings(blocks=5, test_runs=1)
    for unheard, expected in ((True, set()), (False, {"corpus"})):
        settings = FreeTextSettings(corpus=("book",), corpus_unheard=unheard)
        declaration = declare_free_text([run_of()], voxels, settings, ["story"], {"story"})
        material = Material({"story": words()}, source=lambda name: {"book": book})
        found = {f.check for f in audit([declaration], material) if f.passed == "no"}
        assert found == {"scaling"} | expected
