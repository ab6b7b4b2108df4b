from dataclasses import replace

import numpy as np
import pytest

from decoders.config import parse_settings
from decoders.data.manifest import write_manifest
from decoders.errors import InputError
from decoders.signal.events import read_events
from decoders.signal.filtering import cosine_basis
from decoders.signal.glm import trial_regressors
from decoders.signal.stage import find_run
from decoders.signal.stage_quality import duplicates
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import read_arrays
from decoders.store.recording import read_recording
from decoders.store.tables import read_table


def settings(**preprocess):
    return parse_settings({"study": "s", "data": {"source": "bids", "root": "x"}, "preprocess": preprocess})


class Folder:
    """Runs the stages of a study in a folder."""

    def __init__(self, root, runs, study):
        self.root, self.runs, self.study = root, runs, study
        self.manifest = root / "manifest.tsv"
        write_manifest(self.manifest, runs)

    def _run(self, stage, inputs, outputs, labels=None):
        run_stage(SettingsSlice.of(stage, self.study), inputs, outputs, labels)

    def recording(self, run_id):
        return self.root / f"{run_id}_recording.h5"

    def preprocess(self, run_id):
        out = {"recording": self.recording(run_id)}
        self._run("preprocess", {"manifest": [self.manifest]}, out, {"run": run_id})
        return read_recording(out["recording"])

    def estimate(self, run_id):
        out = {"estimates": self.root / f"{run_id}_estimates.h5"}
        inputs = {"manifest": [self.manifest], "recording": [self.recording(run_id)]}
        self._run("estimate", inputs, out, {"run": run_id})
        return read_recording(out["estimates"])

    def quality(self):
        out = {"quality": self.root / "quality.tsv", "series": self.root / "quality.h5"}
        recordings = [self.recording(run.run_id) for run in self.runs]
        self._run("quality", {"manifest": [self.manifest], "recording": recordings}, out)
        return read_table(out["quality"], ("run_id", "subject")), read_arrays(out["series"])


@pytest.fixture
def trials(study, rng):
    """A run with six trials of two conditions, whose betas are known."""
    onsets = [6.0, 22.5, 41.0, 57.5, 75.0, 92.0]
    study.events([(onset, 2.0, "ab"[i % 2]) for i, onset in enumerate(onsets)])
    regressors = trial_regressors_of(study)
    study.betas = rng.standard_normal((6, int(study.mask.sum()))) * 150
    study.data[study.mask] += (regressors @ study.betas).T.astype(np.float32)
    study.write()
    return study


def trial_regressors_of(study):
    events = read_events(study.root / "events.tsv")
    from decoders.signal.glm import trial_events

    return trial_regressors(trial_events(events), np.arange(60) * 2.0)


def test_estimates_equal_the_full_model_on_the_raw_data(trials, tmp_path):
    """Through the files: drift and mean in one model with the trials, then the scale of the z-score."""
    trials.change(start_time=-4.0)
    folder = Folder(tmp_path, [trials.run], settings(estimates="lsa"))
    recording = folder.preprocess(trials.run.run_id)
    estimates = folder.estimate(trials.run.run_id)
    raw = trials.data[trials.mask].T.astype(np.float64)
    drift = np.column_stack([np.ones(60), cosine_basis(60, 2.0, 128.0)])
    full = np.linalg.lstsq(np.column_stack([trial_regressors_of(trials), drift]), raw, rcond=None)[0][:6]
    scale = (raw - drift @ np.linalg.lstsq(drift, raw, rcond=None)[0]).std(axis=0)
    assert np.abs(estimates.data - full / scale).max() < 2e-3
    assert estimates.axis == "trial"
    assert estimates.conditions.tolist() == list("ababab")
    assert estimates.time[0] == 2.0
    assert estimates.groups.tolist() == [0, 1, 2, 3, 4, 5]
    assert estimates.steps[-1]["method"] == "lsa"
    assert len(estimates.steps) == len(recording.steps) + 1
    assert np.corrcoef(estimates.data.ravel(), (trials.betas / scale).ravel())[0, 1] > 0.95


@pytest.mark.parametrize(("method", "options"), [("lss", {}), ("blocks", {"estimate_lag_s": 5.0})])
def test_other_estimates(trials, tmp_path, method, options):
    folder = Folder(tmp_path, [trials.run], settings(estimates=method, **options))
    recording = folder.preprocess(trials.run.run_id)
    estimates = folder.estimate(trials.run.run_id)
    assert estimates.data.shape == (6, recording.data.shape[1])
    if method == "blocks":
        assert np.allclose(estimates.data[0], recording.data[6:7].mean(axis=0), atol=1e-6)
    assert np.corrcoef(estimates.data.ravel(), trials.betas.ravel())[0, 1] > 0.7


def test_slice_time_of_fmriprep_shifts_the_model(trials, tmp_path):
    plain = Folder(tmp_path, [trials.run], settings(estimates="lsa"))
    plain.preprocess(trials.run.run_id)
    before = plain.estimate(trials.run.run_id)
    (trials.root / "bold.json").write_text('{"RepetitionTime": 2.0, "StartTime": 1.0}')
    plain.preprocess(trials.run.run_id)
    assert np.abs(plain.estimate(trials.run.run_id).data - before.data).max() > 0.05


def test_estimates_need_events_and_a_method(study, tmp_path):
    folder = Folder(tmp_path, [study.run], settings(estimates="lsa"))
    folder.preprocess(study.run.run_id)
    with pytest.raises(InputError, match="events file for trial estimates"):
        folder.estimate(study.run.run_id)
    study.events([(4, 2, "a")])
    folder = Folder(tmp_path, [study.run], settings())
    folder.preprocess(study.run.run_id)
    with pytest.raises(InputError, match=r"preprocess\.estimates"):
        folder.estimate(study.run.run_id)


def test_quality_of_a_study_with_an_excluded_run(study, tmp_path, save, rng):
    np.savetxt(study.root / "rp_bold.txt", rng.standard_normal((60, 6)) * 0.01)
    save(study.root / "flat.nii.gz", study.data * 0)
    first = study.change(confounds="rp_bold.txt")
    second = replace(first, run_id="sub-02_task-x_run-1", subject="02", image="flat.nii.gz", sha256="b" * 64)
    folder = Folder(tmp_path, [first, second], settings(estimates="lsa"))
    for run in folder.runs:
        folder.preprocess(run.run_id)
    assert folder.estimate(second.run_id).excluded
    table, arrays = folder.quality()
    assert table["run_id"].tolist() == [first.run_id, second.run_id]
    assert "constant" in table["excluded"][1]
    assert table["n_volumes"].tolist() == [60, 0]
    assert np.isfinite(table["tsnr_median"][0])
    assert table["fd_mean"][0] > 0
    assert set(arrays.arrays) == {
        f"carpet/{first.run_id}", f"fd/{first.run_id}", "tsnr/01", "tsnr_mask/01", "tsnr_affine/01"
    }  # fmt: skip
    assert "50 mm" in arrays.attributes["definitions"]["fd"]


def test_nothing_left_is_an_error(study, tmp_path):
    study.data[:] = 0
    study.write()
    folder = Folder(tmp_path, [study.run], settings())
    folder.preprocess(study.run.run_id)
    with pytest.raises(InputError, match=r"at least one run that can be used.*1 runs, all excluded"):
        folder.quality()
    assert not (tmp_path / "quality.tsv").exists()
    assert not (tmp_path / "quality.h5").exists()


def test_duplicated_runs_stop_the_study(study, tmp_path):
    other = replace(study.run, run_id="sub-01_task-x_run-2", run="2")
    folder = Folder(tmp_path, [study.run, other], settings())
    with pytest.raises(InputError, match="same bytes in sub-01_task-x_run-2"):
        folder.preprocess(study.run.run_id)
    assert not folder.recording(study.run.run_id).exists()
    assert duplicates(folder.runs) == [["sub-01_task-x_run-1", "sub-01_task-x_run-2"]]


def test_a_bids_run_needs_its_sidecar(study, tmp_path):
    folder = Folder(tmp_path, [study.change(sidecar="")], settings())
    with pytest.raises(InputError, match=r"bold\.json.*sidecar"):
        folder.preprocess(study.run.run_id)


def test_an_unknown_run_is_named(study, tmp_path):
    with pytest.raises(InputError, match="'other'"):
        find_run([study.run], "other", tmp_path)
