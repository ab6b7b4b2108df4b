"""The stages splits-meg and meg on made-up recordings, with the audit between them."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from made_up_meg_story import N_SITES, SECONDS, SETTINGS, recording, story

from decoders.config import MegDecodingSettings, MegSettings, parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.decoding.score_nulls import null_name, read_nulls
from decoders.decoding.splits_meg import declare_meg, filter_memory, held_out_of, sensor_runs
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.declared import Rows, TimedRun, read_declaration
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stats.verdicts import decoding_verdicts
from decoders.stimuli.timings import words_table
from decoders.store.arrays import read_arrays
from decoders.store.recording import write_recording
from decoders.store.tables import read_table, write_table

MEG = {
    "task": "story", "sfreq": 50, "text_hz": 25, "response_s": 0.4, "epochs": 12, "n_null_gates": 1, "hidden": 8,
    "encoder_epochs": 6, "encoder_width": 8, "smoothing_m": 0.0, "n_nulls": 100,
    "text": {"epochs": 2, "max_words": 60, "width": 4, "sensors": 12, "n_permutations": 200},
}  # fmt: skip


def study(**meg):
    return parse_settings(
        {
            "study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {"meg": {"high_pass_hz": 1.0}},
            "decoding": {"meg": {**MEG, **meg}},
        }
    )  # fmt: skip


def write_study(folder, made):
    """Write what the stages read: recordings, manifest, quality and words."""
    rows, quality, texts = [], [], []
    for recording_, words in made:
        r = recording_
        run_id = f"sub-{r.subject}_task-story_run-{r.run}_meg"
        write_recording(folder / f"{run_id}_recording.h5", r)
        rows.append(
            Run(run_id, r.subject, task="story", run=r.run, modality="meg", stimulus=r.stimulus, start_time=0.0,
                sfreq=250.0)
        )  # fmt: skip
        quality.append({"run_id": run_id, "subject": r.subject, "task": "story", "kind": "sensor",
                        "n_volumes": len(r.data), "tr": None, "sfreq": r.sfreq, "excluded": None})  # fmt: skip
        texts.append(words_table(words).assign(stimulus=r.stimulus))
    write_manifest(folder / "manifest.tsv", rows)
    write_table(folder / "quality.tsv", pd.DataFrame(quality))
    write_table(folder / "words.tsv", pd.concat(texts).drop_duplicates())
    return sorted(folder.glob("*_recording.h5"))


def run_all(folder, made, of, subject="01"):
    paths = write_study(folder, made)
    given = {"manifest": [folder / "manifest.tsv"], "words": [folder / "words.tsv"]}
    splits, leaks = folder / "splits.json", folder / "leaks.tsv"
    run_stage(SettingsSlice.of("splits-meg", of), {**given, "quality": [folder / "quality.tsv"]}, {"splits": splits})
    run_stage(SettingsSlice.of("leaks", of), {**given, "splits": [splits]}, {"leaks": leaks})
    files = {"scores": "scores.tsv", "text": "text.tsv", "arrays": "meg.h5", "nulls": "nulls.h5"}
    outputs = {name: folder / file for name, file in files.items()}
    inputs = {**given, "splits": [splits], "leaks": [leaks], "recording": paths}
    run_stage(SettingsSlice.of("meg", of), inputs, outputs, {"subject": subject})
    return outputs


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    made = [recording(0, run, 0.6) for run in (1, 2, 3)]
    made += [recording(5, run, 0.6, subject="02") for run in (1, 2, 3)]
    return run_all(tmp_path_factory.mktemp("meg"), made, study())


def test_the_stage_writes_the_contract(outputs):
    scores = read_table(outputs["scores"], ("subject", "split", "control_of"))
    assert set(scores["task"]) == {"window_3s", "text"}
    assert set(scores["modality"]) == {"meg"}
    best = scores[(scores["model"] == "encoder") & (scores["metric"] == "percentile")].iloc[0]
    assert best["p"] < 0.05
    other = scores[(scores["model"] == "control:other_subject") & (scores["metric"] == "percentile")]
    assert other["score"].notna().all()
    assert len(other) == 4, "encoder, two ridges, the text"
    (nulls,) = read_nulls([outputs["nulls"]]).values()
    tested = scores[scores["p"].notna()].to_dict("records")
    assert len({null_name(row) for row in tested} & set(nulls)) == len(tested) > 6
    arrays = read_arrays(outputs["arrays"])
    n = 3 * N_SITES
    assert [arrays[name].shape for name in ("nats", "z", "names", "positions")] == [(n,), (n,), (n,), (n, 3)]
    assert (arrays["selected"] == np.flatnonzero(arrays["combined"] > arrays["null/combined"].max())).all()
    assert arrays["cut"] == pytest.approx(arrays["null/nats"].max())
    text = read_table(outputs["text"], ("subject", "run"))
    assert len(text[text["model"] == "beam"]) == SECONDS // 5
    assert set(text["run"]) == {"03"}


def test_verdicts_name_the_kind_of_recording(outputs):
    scores = read_table(outputs["scores"], ("subject", "split", "model", "control_of"))
    found = decoding_verdicts(scores, 0.05)
    assert found["analysis"].str.startswith("meg ").all()
    names = {name.partition(", split")[0] for name in found["analysis"]}
    assert {"meg window_3s: encoder, percentile", "meg text: beam, percentile"} <= names
    # fMRI of the same task has its own controls.
    both = pd.concat([scores.assign(modality=np.nan), scores], ignore_index=True)
    twice = decoding_verdicts(both, 0.05)
    assert len(twice) == 2 * len(found)
    assert not twice["analysis"].duplicated().any()


def test_one_run_is_split_in_time_and_says_what_is_allowed(tmp_path):
    made = [recording(0, 1, 0.6, seconds=2 * SECONDS)]
    of = study(text=None, encoder_epochs=2, epochs=3)
    with pytest.raises(InputError, match=r"scaling.*decoding.allowed_leaks"):
        run_all(tmp_path, made, of)
    reason = "filters and artefacts do not see the text that is told apart"
    meg = of.decoding.model_copy(
        update={"allowed_leaks": parse_settings(
            {"study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {}, "decoding": {
                "allowed_leaks": [{"analysis": "meg", "check": "scaling", "reason": reason}]}}
        ).decoding.allowed_leaks}
    )  # fmt: skip
    outputs = run_all(tmp_path, made, of.model_copy(update={"decoding": meg}))
    scores = read_table(outputs["scores"])
    assert set(scores["split"]) == {"end_of_run"}
    assert read_table(outputs["text"]).empty


# ---- the split ------------------------------------------------------------------------------------------------------


def timed(run, seconds=300.0, subject="01"):
    return TimedRun(f"sub-{subject}_run-{run}", subject, f"s{run}", round(50 * seconds), 0.0, 0.02)


def leaks(declaration, words=None):
    return [f.check for f in audit([declaration], Material(words or {})) if f.passed == "no"]


SPLIT = MegDecodingSettings()
HIGH = MegSettings(high_pass_hz=0.5, notch=False)


def test_the_last_runs_are_held_out():
    runs = sensor_runs([timed(k) for k in (1, 2, 3)], HIGH, 0.6)
    (split,) = declare_meg(runs, SPLIT, ["s1", "s2", "s3"], {"s3"}).splits
    assert [rows.run for rows in split.test] == ["sub-01_run-3"]
    assert split.name == "sub-01/test_runs"
    assert leaks(declare_meg(runs, SPLIT, ["s1", "s2", "s3"], {"s3"})) == []
    assert held_out_of([runs, runs[:2]], SPLIT) == {"s2", "s3"}
    with pytest.raises(InputError, match="more than 2 runs"):
        declare_meg(runs[:2], SPLIT.model_copy(update={"test_runs": 2}), ["s1"], set())


def test_the_gap_within_a_run_holds_the_filter_and_the_answer():
    runs = sensor_runs([timed(1)], HIGH, 0.6)
    declared = declare_meg(runs, SPLIT, ["s1"], {"s1"})
    (split,) = declared.splits
    gap = (split.test[0].first - split.train[0].stop) * 0.02
    assert gap == pytest.approx(3.3 / 0.5 + 0.6, abs=0.021)
    assert leaks(declared) == ["scaling"], "what preprocessing takes out sees the whole run"
    # Mutation: half of the gap.
    near = dataclasses.replace(split, train=(Rows(runs[0].key, 0, split.test[0].first - round(gap / 0.04)),))
    assert "gap" in leaks(dataclasses.replace(declared, splits=(near,)))
    with pytest.raises(InputError, match="One run is too short"):
        declare_meg(sensor_runs([timed(1, 40.0)], HIGH, 0.6), SPLIT, ["s1"], {"s1"})


def test_a_language_model_that_reads_the_test_story_is_found():
    settings = MegDecodingSettings(text={})
    runs = sensor_runs([timed(k) for k in (1, 2)], HIGH, 0.6)
    words = {f"s{k}": story(np.random.default_rng(k), 300.0) for k in (1, 2)}
    assert leaks(declare_meg(runs, settings, list(words), {"s2"}), words) == []
    assert leaks(declare_meg(runs, settings, list(words), set()), words) == ["corpus"]


def test_filter_memory_is_that_of_the_filters():
    import mne

    for hz in (0.1, 0.5, 1.0, 4.0, 20.0):
        kernel = mne.filter.create_filter(None, 200.0, hz, None, verbose="ERROR")
        found = filter_memory(MegSettings(high_pass_hz=hz, low_pass_hz=40, notch=False))
        assert found == pytest.approx(len(kernel) / 200, abs=0.01)
    assert filter_memory(MegSettings(high_pass_hz=None, notch=False)) == 0
    assert filter_memory(MegSettings(high_pass_hz=None, notch=False, maxwell="tsss")) == 10
    assert filter_memory(MegSettings(high_pass_hz=None)) == pytest.approx(6.6)


def test_runs_of_fmri_with_the_same_task_stay_apart(tmp_path):
    write_study(tmp_path, [recording(0, run, 0.6, seconds=20.0) for run in (1, 2)])
    from decoders.data.manifest import read_manifest

    rows = read_manifest(tmp_path / "manifest.tsv")
    fmri = [dataclasses.replace(r, run_id=r.run_id.removesuffix("_meg"), modality="bold", sfreq=np.nan) for r in rows]
    write_manifest(tmp_path / "manifest.tsv", [*rows, *fmri])
    table = read_table(tmp_path / "quality.tsv", ("subject",))
    volumes = table.assign(run_id=[r.run_id for r in fmri], kind="volume", tr=2.0, n_volumes=150, sfreq=None)
    write_table(tmp_path / "quality.tsv", pd.concat([table, volumes]))
    inputs = {name: [tmp_path / f"{name}.tsv"] for name in ("manifest", "quality", "words")}
    of = parse_settings(
        {
            "study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {},
            "decoding": {"meg": MEG, "voxels": {"task": "story", "test_runs": 1}},
        }
    )  # fmt: skip
    found = {}
    for name in ("voxels", "meg"):
        run_stage(SettingsSlice.of(f"splits-{name}", of), inputs, {"splits": tmp_path / f"{name}.json"})
        found[name] = read_declaration(tmp_path / f"{name}.json").runs
    assert [[run.tr for run in runs] for runs in found.values()] == [[2.0, 2.0], [0.02, 0.02]]


def test_a_recording_that_does_not_fit_the_audit_is_refused(tmp_path):
    made = [recording(0, run, 0.6, seconds=SECONDS) for run in (1, 2, 3)]
    of = study(text=None, encoder_epochs=1, epochs=1)
    paths = write_study(tmp_path, made)
    given = {"manifest": [tmp_path / "manifest.tsv"], "words": [tmp_path / "words.tsv"]}
    outputs = {"splits": tmp_path / "splits.json"}
    run_stage(SettingsSlice.of("splits-meg", of), {**given, "quality": [tmp_path / "quality.tsv"]}, outputs)
    assert read_declaration(outputs["splits"]).analysis == "meg"
    inputs = {**given, "splits": [outputs["splits"]]}
    run_stage(SettingsSlice.of("leaks", of), inputs, {"leaks": tmp_path / "leaks.tsv"})
    run = made[2][0]
    write_recording(paths[2], dataclasses.replace(run, data=run.data[:-50], time=run.time[:-50]))
    outputs = {name: tmp_path / name for name in ("scores", "text", "arrays", "nulls")}
    with pytest.raises(InputError, match="splits that were audited"):
        run_stage(
            SettingsSlice.of("meg", of), {**inputs, "leaks": [tmp_path / "leaks.tsv"], "recording": paths}, outputs,
            {"subject": "01"}, logging.getLogger("test"),
        )  # fmt: skip
    assert SETTINGS.task is None
