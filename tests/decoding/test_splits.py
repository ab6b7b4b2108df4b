"""Declared splits: the manifest and the recordings give the same ones, and the analyses take their rows from them."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.config import EncodingSettings, NamesSettings, VoxelMapSettings, parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.decoding.names_study import decode_names
from decoders.decoding.splits_encode import declare_encode, declared_folds, declared_members, time_splits
from decoders.decoding.splits_names import Labels, declare_names
from decoders.decoding.splits_voxels import declare_voxels
from decoders.decoding.stage_encode import encode
from decoders.errors import InputError
from decoders.stage import Job, SettingsSlice, run_stage
from decoders.stats.declared import Rows, TimedRun, agreed, read_declaration
from decoders.stats.declared_rows import indices_of, rows_at, stretches
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stats.timed_runs import recorded
from decoders.stimuli.timings import Words
from decoders.store.recording import Recording
from decoders.store.tables import write_table

TR, N = 2.0, 60
STEPS = [{"step": "project out", "why": "drift", "high_pass_s": 128.0, "rank": 3}]
EVENTS = "onset\tduration\ttrial_type\n4\t8\tcat\n20\t8\thouse\n44\t8\tcat\n60\t8\thouse\n"


def timed(number, subject="01", stimulus=None):
    return TimedRun(f"sub-{subject}_run-{number}", subject, stimulus or f"s{number}", N, 0.0, TR)


def recording(subject, run, stimulus="", **changes):
    made = Recording(
        np.random.default_rng(int(run)).normal(size=(N, 3)).astype(np.float32), "region", subject, task="t", run=run,
        stimulus=stimulus, time=6.0 + TR * np.arange(2, N + 2), tr=TR, names=np.array(["a", "b", "c"], dtype=object),
        steps=STEPS,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def write_inputs(folder, recordings, excluded=()):
    """What the stage reads: the manifest, quality.tsv and the words; two volumes of each run are dropped."""
    manifest, quality = [], []
    for r in recordings:
        run_id = f"sub-{r.subject}_task-t_run-{r.run}"
        (folder / f"{run_id}_events.tsv").write_text(EVENTS)
        manifest.append(
            Run(
                run_id=run_id, subject=r.subject, task="t", run=r.run, root=str(folder), stimulus=r.stimulus, tr=TR,
                n_volumes=N + 2, start_time=6.0, events=f"{run_id}_events.tsv",
            )
        )  # fmt: skip
        why = "constant" if (r.subject, r.run) in excluded else None
        quality.append((run_id, r.subject, "t", r.kind, 0 if why else N, TR, why))
    write_manifest(folder / "manifest.tsv", manifest)
    columns = ["run_id", "subject", "task", "kind", "n_volumes", "tr", "excluded"]
    write_table(folder / "quality.tsv", pd.DataFrame(quality, columns=columns))
    names = sorted({r.stimulus for r in recordings} - {""})
    words = pd.DataFrame([(name, 1.0, 0.5, "word", "word ") for name in names])
    if names:
        write_table(folder / "words.tsv", words.set_axis(["stimulus", "onset", "duration", "word", "text"], axis=1))
    inputs = {"manifest": ["manifest.tsv"], "quality": ["quality.tsv"], "words": ["words.tsv"] if names else []}
    return {name: [folder / file for file in files] for name, files in inputs.items()}


def declared_by_the_stage(folder, analysis, block, recordings, **options):
    values = {
        "study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {"drop_volumes": 2}, "decoding": block,
    }  # fmt: skip
    stage = f"splits-{analysis}"
    inputs = write_inputs(folder, recordings, **options)
    run_stage(SettingsSlice.of(stage, parse_settings(values)), inputs, {"splits": folder / "splits.json"})
    return read_declaration(folder / "splits.json")


@pytest.mark.parametrize("runs", [("1",), ("1", "2", "3")], ids=["blocks", "runs"])
@pytest.mark.parametrize("same", [True, False], ids=["shared", "apart"])
def test_encode_is_declared_alike_from_manifest_and_recordings(tmp_path, runs, same):
    listeners = [
        recording(s, run, f"story{run}" if same else f"story{run}of{s}") for s in ("01", "02", "03") for run in runs
    ]
    settings = EncodingSettings(n_nulls=20, average_subjects=2, gap_tr=2)
    block = {"encoding": {"n_nulls": 20, "average_subjects": 2, "gap_tr": 2}}
    found = declared_by_the_stage(tmp_path, "encode", block, listeners)
    stimuli = sorted({r.stimulus for r in listeners})
    assert len(found.splits) == (1 + 3 + 20 if same else 3) * (3 if len(runs) > 1 else 4)
    rng = Job(SettingsSlice("encode", {}), {}, {}).rng("encode")
    own = declare_encode(recorded(listeners), settings, same, stimuli, rng)
    assert agreed(own, found, "x") is found
    assert found.runs[0].start == 10.0
    assert found.runs[0].filter_s == 128.0


def test_encode_scores_by_the_declared_rows(monkeypatch):
    """The fits see the rows that were declared, of the subjects that were declared, and no others."""
    from decoders.decoding import encoding

    listeners = [
        recording(s, "1", "story", data=np.full((N, 1), 2.0 ** int(s), np.float32)) for s in ("01", "02", "03")
    ]
    listeners = [dataclasses.replace(r, names=r.names[:1]) for r in listeners]
    settings = EncodingSettings(n_nulls=20, average_subjects=2, gap_tr=2, windows_s=(20.0,))
    words = {"story": Words(np.arange(10.0, 100.0), np.full(90, 0.5), ("w",) * 90, ("w ",) * 90)}
    declared = declare_encode(recorded(listeners), settings, True, ["story"], np.random.default_rng(0))
    seen = []
    original = encoding.fit_ridge
    monkeypatch.setattr(encoding, "fit_ridge", lambda X, Y, *rest: seen.append(Y) or original(X, Y, *rest))
    with np.errstate(all="ignore"):
        encode(listeners, words, settings, np.random.default_rng(0), audited=declared)
    sets = list(declared_members(declared, ["01", "02", "03"]).values())
    values = np.array([2.0, 4.0, 8.0])
    for fold, Y in zip(declared.splits[:4], seen, strict=False):
        n_rows = sum(part.stop - part.first for part in fold.train) // 3
        assert len(Y) == n_rows
        np.testing.assert_allclose(Y[0, : len(sets)], [values[list(train)].mean() for train, _ in sets])


def test_recordings_with_other_rows_than_the_audited_ones_are_refused():
    listeners = [recording("01", "1", "story")]
    settings = EncodingSettings(n_nulls=20, gap_tr=2)
    words = {"story": Words(np.zeros(1), np.ones(1), ("w",), ("w ",))}
    declared = declare_encode(recorded(listeners), settings, False, ["story"], np.random.default_rng(0))
    shorter = [recording("01", "1", "story", data=listeners[0].data[1:], time=listeners[0].time[1:])]
    with pytest.raises(InputError, match="the 4 splits that were audited, found others for sub-01_task-t_run-1"):
        encode(shorter, words, settings, np.random.default_rng(0), audited=declared)
    wider = settings.model_copy(update={"gap_tr": 3})
    with pytest.raises(InputError, match="found other folds"):
        encode(listeners, words, wider, np.random.default_rng(0), audited=declared)


def labelled(subject, run):
    groups = np.full(N, -1)
    frame = TR * np.arange(2, N + 2)
    conditions = np.full(N, "", dtype=object)
    for number, (onset, name) in enumerate(((4, "cat"), (20, "house"), (44, "cat"), (60, "house"))):
        inside = (frame >= onset) & (frame < onset + 8)
        groups[inside], conditions[inside] = number, name
    return recording(subject, run, conditions=conditions, groups=groups)


@pytest.mark.parametrize("halves", [True, False], ids=["halves", "runs"])
def test_names_are_declared_alike_from_manifest_and_recordings(tmp_path, halves):
    runs = [labelled("01", run) for run in ("1", "2", "3", "4")[: 1 if halves else None]]
    options = {"split": "block_halves", "models": ["nearest_pattern"]} if halves else {"models": ["ridge"]}
    options = {**options, "lag_s": 3.0}
    excluded = () if halves else (("01", "2"),)
    found = declared_by_the_stage(tmp_path, "names", {"names": options}, runs, excluded=excluded)
    kept = [r for r in runs if (r.subject, r.run) not in excluded]
    settings = NamesSettings(**{**options, "models": tuple(options["models"])})
    own = declare_names(recorded(kept), [Labels(r.conditions, r.groups) for r in kept], settings)
    assert agreed(own, found.of_subject("01"), "x") == own
    if halves:
        # The first two of the eight volumes of the blocks are dropped; the lag of 3 s is two volumes.
        assert found.splits[0].train == (Rows("sub-01_task-t_run-1", 2, 6), Rows("sub-01_task-t_run-1", 10, 14))
        assert found.splits[1].train == found.splits[0].test
        assert {f.check for f in audit([found], Material()) if f.passed == "no"} == {"gap", "scaling"}
    else:
        assert [split.fold for split in found.splits] == ["run-01", "run-02", "run-03"]
        assert {f.passed for f in audit([found], Material())} == {"yes", "n/a"}


def test_halves_are_decoded_by_the_declared_rows(monkeypatch):
    from decoders.decoding import names_halves

    run = labelled("01", "1")
    settings = NamesSettings(split="block_halves", models=("nearest_pattern",), n_voxels=2)
    declared = declare_names(recorded([run]), [Labels(run.conditions, run.groups)], settings)
    train = indices_of(declared.splits[0].train, recorded([run]))
    expected = run.data[train][run.conditions[train] == "cat"].mean(0)
    seen = []
    original = names_halves.nearest_pattern
    monkeypatch.setattr(names_halves, "nearest_pattern", lambda *a: seen.append(a[0]) or original(*a))
    decode_names([run], settings, lambda *keys: np.random.default_rng(0), logging.getLogger("test"), declared)
    np.testing.assert_allclose(seen[0][0], expected, rtol=1e-6)


def test_voxels_are_declared_alike_from_manifest_and_recordings(tmp_path):
    runs = [recording("01", str(run), f"story{run}") for run in range(1, 6)]
    found = declared_by_the_stage(tmp_path, "voxels", {"voxels": {"test_runs": 2}}, runs)
    own = declare_voxels(recorded(runs), VoxelMapSettings(test_runs=2), [f"story{run}" for run in range(1, 6)])
    assert agreed(own, found, "x") == own
    assert [rows.run[-1] for rows in found.splits[0].test] == ["4", "5"]
    with pytest.raises(InputError, match="more than 5 runs"):
        declare_voxels(recorded(runs), VoxelMapSettings(test_runs=5), [])


def test_a_story_that_is_told_again_in_the_test_runs_is_a_leak():
    runs = [timed(number, stimulus="again" if number in (1, 5) else None) for number in range(1, 6)]
    found = audit([declare_voxels(runs, VoxelMapSettings(test_runs=1), [])], Material())
    assert [f.check for f in found if f.passed == "no"] == ["stimulus"]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.data())
def test_rows_and_indices_are_each_others_inverse(lengths, data):
    runs = [dataclasses.replace(timed(i), n_rows=length) for i, length in enumerate(lengths)]
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, sum(lengths) - 1)))), dtype=np.int64)
    rows = rows_at(chosen, runs)
    assert indices_of(rows, runs).tolist() == chosen.tolist()
    assert all(0 <= part.first < part.stop <= lengths[int(part.run[-1])] for part in rows)
    assert stretches("a", np.zeros(0, dtype=np.int64)) == ()


def test_declared_folds_are_the_folds():
    runs = [timed(1), timed(2)]
    settings = EncodingSettings()
    declared = declare_encode(runs, settings, False, ["s1", "s2"], np.random.default_rng(0))
    for fold, own in zip(
        declared_folds(declared, "sub-01/unseen_time", runs), time_splits(runs, settings), strict=True
    ):
        assert fold.name == own.name
        assert fold.train.tolist() == own.train.tolist()
        assert fold.test.tolist() == own.test.tolist()
