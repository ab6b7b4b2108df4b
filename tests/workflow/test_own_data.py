"""A user's own study, end to end: fMRIPrep-style derivatives, and raw BIDS, with planted category patterns."""

import json

import nibabel as nib
import numpy as np
import pytest

from decoders.data.manifest import read_manifest
from decoders.store.recording import read_recording
from decoders.store.tables import read_table

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]

TR, BLOCK, NAMES, SHAPE = 2.0, 5, ("face", "house", "tool"), (8, 9, 7)
SPACE = "MNI152NLin2009cAsym"
AFFINE = np.array([[4.0, 0, 0, -16], [0, 4.0, 0, -18], [0, 0, 4.0, -14], [0, 0, 0, 1.0]])
N_VOLUMES = 2 * len(NAMES) * (BLOCK + 2) + 4
LAG = 2  # volumes


def head():
    """An ellipsoid of brain in air."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return sum(axis**2 for axis in axes) < 0.8


def blocks(rng):
    """Two blocks of each name in random order, with rest between them: (name, first volume)."""
    order = [name for _ in range(2) for name in rng.permutation(NAMES)]
    return [(name, number * (BLOCK + 2)) for number, name in enumerate(order)]


def write_events(path, design):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{first * TR:g}\t{BLOCK * TR:g}\t{name}" for name, first in design]
    path.write_text("onset\tduration\ttrial_type\n" + "\n".join(lines) + "\n")


def write_image(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    if data.ndim == 4:
        image.header.set_zooms((4, 4, 4, TR))
    nib.save(image, path)


def record(rng, design, patterns, motion):
    """Volumes with a pattern per category, LAG volumes late, and motion that moves all voxels."""
    brain = head()
    signal = np.zeros((N_VOLUMES, brain.sum()))
    for name, first in design:
        signal[first + LAG : first + LAG + BLOCK] += patterns[name]
    signal += 3 * rng.standard_normal(signal.shape) + motion @ rng.standard_normal((6, brain.sum())) * 20
    data = np.zeros((*SHAPE, N_VOLUMES), dtype=np.float32)
    data[brain] = 1000 + 5 * signal.T
    return data + rng.uniform(0, 5, data.shape).astype(np.float32)


def write_run(folder, subject, run, patterns, rng, derivatives, constant=False):
    stem = f"sub-{subject}/func/sub-{subject}_task-objects_run-{run}"
    design = blocks(rng)
    write_events(folder / f"{stem}_events.tsv", design)
    motion = np.cumsum(0.02 * rng.standard_normal((N_VOLUMES, 6)), axis=0)
    data = np.full((*SHAPE, N_VOLUMES), 7, np.float32) if constant else record(rng, design, patterns, motion)
    if not derivatives:
        write_image(folder / f"{stem}_bold.nii.gz", data)
        return
    base = folder / "derivatives/fmriprep"
    write_image(base / f"{stem}_space-{SPACE}_desc-preproc_bold.nii.gz", data)
    # fMRIPrep writes a mask per run, and they differ at the edge.
    mask = head().astype(np.uint8)
    mask[tuple(np.argwhere(mask)[run])] = 0
    write_image(base / f"{stem}_space-{SPACE}_desc-brain_mask.nii.gz", mask)
    (base / f"{stem}_space-{SPACE}_desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
    names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    rows = ["\t".join(f"{value:.6f}" for value in row) for row in motion]
    (base / f"{stem}_desc-confounds_timeseries.tsv").write_text("\t".join(names) + "\n" + "\n".join(rows) + "\n")


def write_study(folder, runs, derivatives):
    """Write a BIDS folder; `runs` names subject, run, and whether the run is constant."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "own", "BIDSVersion": "1.10.0"}))
    (folder / "task-objects_bold.json").write_text(json.dumps({"RepetitionTime": TR, "TaskName": "objects"}))
    patterns = {
        subject: {name: 4 * rng.standard_normal(head().sum()) for name in NAMES} for subject in {row[0] for row in runs}
    }
    for subject, run, constant in runs:
        write_run(folder, subject, run, patterns[subject], rng, derivatives, constant)
    return folder


def study_of(folder, data, **preprocess):
    names = {"models": ["lda", "ridge"], "n_permutations": 30, "lag_s": LAG * TR}
    return {
        "study": "tiny",
        "data": {"source": "bids", "root": str(folder), **data},
        "preprocess": preprocess,
        "decoding": {"names": names},
    }


def block_accuracy(results):
    scores = read_table(results / "decoding/scores.tsv", ("subject",))
    wanted = scores[(scores.metric == "accuracy") & (scores.task == "block")]
    return {(row.subject, row.model): row for row in wanted.itertuples() if row.model in ("lda", "ridge")}


def test_derivatives_with_confounds_and_constant_runs(new_project, tmp_path):
    runs = [("01", run, run == 2) for run in (1, 2, 3, 4)] + [("02", run, True) for run in (1, 2, 3)]
    folder = write_study(tmp_path / "own", runs, derivatives=True)
    study = study_of(folder, {"derivatives": "derivatives/fmriprep", "space": SPACE}, confounds=["motion6"])
    project = new_project(study)
    project.snakemake()
    found = block_accuracy(project.results)
    assert set(found) == {("01", "lda"), ("01", "ridge")}
    for row in found.values():
        assert row.score >= 0.8
        assert row.p < 0.05
    recording = read_recording(project.results / "preprocessed/sub-01_task-objects_run-1_recording.h5")
    (used,) = [step for step in recording.steps if step["step"] == "confounds"]
    assert used["columns"] == [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    page = (project.results / "report/index.html").read_text()
    for name in ("sub-01_task-objects_run-2", *(f"sub-02_task-objects_run-{run}" for run in (1, 2, 3))):
        assert f"{name} (subject {name[4:6]}): all" in page
    assert {run.space for run in read_manifest(project.results / "manifest.tsv")} == {SPACE}
    assert project.planned() == set()


def test_raw_bids_in_native_space(new_project, tmp_path):
    folder = write_study(tmp_path / "own", [("a1", run, False) for run in (1, 2, 3)], derivatives=False)
    project = new_project(study_of(folder, {}))
    project.snakemake()
    assert all(row.score >= 0.8 for row in block_accuracy(project.results).values())
    recording = read_recording(project.results / "preprocessed/sub-a1_task-objects_run-1_recording.h5")
    assert "computed by nilearn" in str(recording.steps)
    assert "native" in str(recording.steps)
    assert (project.results / "report/index.html").exists()


def test_a_study_of_constant_runs_stops_with_their_names(new_project, tmp_path):
    folder = write_study(tmp_path / "own", [("a1", run, True) for run in (1, 2)], derivatives=False)
    project = new_project(study_of(folder, {}))
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert "2 runs, all excluded (sub-a1_task-objects_run-1" in done.stdout + done.stderr
    assert not (project.results / "decoding").exists()
    assert not (project.results / "preprocessed/quality.tsv").exists()
