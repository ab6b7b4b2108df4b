"""The stage: files in, files out, the same bits twice."""

import numpy as np
import pandas as pd
import pytest

from decoders.config import parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.decoding.score_nulls import null_name, read_nulls
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import read_arrays
from decoders.store.recording import Recording, write_recording
from decoders.store.tables import read_table, write_table

NAMES = ("cat", "chair")


def study(**names):
    block = {"n_permutations": 9, "epochs": 2, "head": "linear", **names}
    data = {"source": "bids", "root": "."}
    values = {"study": "test", "data": data, "preprocess": {"high_pass_s": None}, "decoding": {"names": block}}
    return {
        name: SettingsSlice.of(name, parse_settings(values, "test.yaml")) for name in ("names", "splits-names", "leaks")
    }


def write_inputs(folder):
    rng = np.random.default_rng(0)
    manifest, recordings = [], []
    for subject in ("01", "02"):
        for number in range(4):
            labels = rng.permutation(2).repeat(3)
            data = rng.standard_normal((6, 12)) + 2.0 * labels[:, None] * (np.arange(12) < 6)
            run_id = f"sub-{subject}_task-objects_run-{number + 1}"
            conditions = np.array(NAMES, dtype=object)[labels]
            recording = Recording(
                data.astype(np.float32), "volume", subject, task="objects", run=str(number + 1),
                time=np.arange(6.0), tr=1.0, conditions=conditions, groups=np.repeat([0, 1], 3),
                mask=np.ones((3, 4, 1), dtype=bool), affine=np.eye(4),
            )  # fmt: skip
            recordings.append(folder / f"{run_id}_recording.h5")
            write_recording(recordings[-1], recording)
            manifest.append(
                Run(run_id=run_id, subject=subject, task="objects", run=str(number + 1), tr=1.0, n_volumes=6)
            )
    write_manifest(folder / "manifest.tsv", manifest)
    return {"manifest": [folder / "manifest.tsv"], "recording": recordings}


def decode(folder, inputs, out, subject, **names):
    """Run the stage on splits that were declared and audited."""
    settings, audit = study(**names), {"manifest": inputs["manifest"], "splits": [folder / "splits.json"]}
    columns = ("run_id", "subject", "task", "kind", "n_volumes", "tr", "excluded")
    rows = [
        (f"sub-{s}_task-objects_run-{n}", s, "objects", "volume", 6, 1.0, None)
        for s in ("01", "02")
        for n in range(1, 5)
    ]
    write_table(folder / "quality.tsv", pd.DataFrame(rows, columns=list(columns)))
    planned = {"manifest": inputs["manifest"], "quality": [folder / "quality.tsv"]}
    run_stage(settings["splits-names"], planned, {"splits": folder / "splits.json"})
    run_stage(settings["leaks"], audit, {"leaks": folder / "leaks.tsv"})
    audited = {**inputs, "splits": audit["splits"], "leaks": [folder / "leaks.tsv"]}
    run_stage(settings["names"], audited, outputs(out), {"subject": subject})


def outputs(folder):
    files = {"scores": "scores.tsv", "text": "text.tsv", "arrays": "names.h5", "nulls": "nulls.h5"}
    return {name: folder / file for name, file in files.items()}


def test_the_stage_writes_scores_text_and_arrays(tmp_path):
    inputs = write_inputs(tmp_path)
    for name in ("a", "b"):
        decode(tmp_path, inputs, tmp_path / name, "02")
    table = read_table(tmp_path / "a" / "scores.tsv", text_columns=("subject",))
    assert set(table.subject) == {"02"}
    assert {"lda", "ridge", "speller", "control:shuffled", "control:constant_name"} <= set(table.model)
    tested = table[table["p"].notna()].to_dict("records")
    nulls = read_nulls([tmp_path / "a" / "nulls.h5"])["02"]
    assert {null_name(row) for row in tested} <= set(nulls), "what is tested can be tested over the group"
    for row in tested:
        assert nulls[null_name(row)].mean() == pytest.approx(row["null_mean"])
    texts = read_table(tmp_path / "a" / "text.tsv", text_columns=("subject", "run"))
    assert len(texts) == 3 * 4 * 2
    arrays = read_arrays(tmp_path / "a" / "names.h5")
    assert arrays["mask"].shape == (3, 4, 1)
    assert arrays["gate_seed-0/m_mean"].shape == (12,)
    assert arrays.attributes["names"] == list(NAMES)
    for kind in ("scores.tsv", "text.tsv", "names.h5", "nulls.h5"):
        assert (tmp_path / "a" / kind).read_bytes() == (tmp_path / "b" / kind).read_bytes()


def test_a_subject_without_runs_is_named(tmp_path):
    inputs = write_inputs(tmp_path)
    with pytest.raises(InputError, match="runs of subject 07"):
        decode(tmp_path, inputs, tmp_path, "07")
    with pytest.raises(InputError, match="runs of subject 01"):
        run_stage(study(task="other")["names"], inputs, outputs(tmp_path), {"subject": "01"})
    assert not (tmp_path / "scores.tsv").exists()


def test_recordings_that_are_not_those_of_the_audit_are_refused(tmp_path):
    inputs = write_inputs(tmp_path)
    decode(tmp_path, inputs, tmp_path / "a", "01")
    inputs["recording"] = inputs["recording"][1:]
    with pytest.raises(InputError, match="the 4 splits that were audited, found others for sub-01_task-objects_run-1"):
        decode(tmp_path, inputs, tmp_path / "b", "01")
    with pytest.raises(InputError, match="one input 'splits'"):
        run_stage(study()["names"], inputs, outputs(tmp_path / "b"), {"subject": "01"})
    assert not (tmp_path / "b" / "scores.tsv").exists()
