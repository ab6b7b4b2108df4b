"""MEG and EEG runs of a BIDS folder: what belongs to each, and what is no run."""

import json

import made_up_meg as made
import mne
import numpy as np
import pytest
import raw_bytes

from decoders.config import DataSettings
from decoders.data.bids import read_bids
from decoders.data.manifest import read_manifest, write_manifest
from decoders.errors import InputError


def small(seconds=2.0, sfreq=200.0):
    info = mne.create_info(["MEG0111", "MEG0112", "STI101"], sfreq, ["mag", "grad", "stim"])
    data = np.random.default_rng(0).standard_normal((3, round(seconds * sfreq))) * 1e-12
    return mne.io.RawArray(data, info, verbose="ERROR")


def runs_of(root, **settings):
    return read_bids(DataSettings(source="bids", root=str(root), **settings))


def test_an_meg_run_has_its_files(tmp_path):
    made.write_meg(tmp_path, small(), None, name="sub-01_task-a_run-01")
    folder = tmp_path / "sub-01" / "meg"
    (folder / "sub-01_task-a_run-01_events.tsv").write_text("onset\tduration\n0.1\t0.1\n")
    (folder / "sub-01_acq-calibration_meg.dat").write_text("x")
    small().save(folder / "sub-01_acq-crosstalk_meg.fif", verbose="ERROR")
    (folder / "sub-01_task-a_run-01_headpos.pos").write_text("x")
    (folder / "sub-01_coordsystem.json").write_text("{}")
    (tmp_path / "task-a_meg.json").write_text(json.dumps({"PowerLineFrequency": 50}))
    (run,) = runs_of(tmp_path)
    assert (run.run_id, run.modality, run.sfreq, run.n_volumes) == ("sub-01_task-a_run-01_meg", "meg", 200.0, 400)
    assert run.sidecar == "task-a_meg.json;sub-01/meg/sub-01_task-a_run-01_meg.json"
    assert run.channels == "sub-01/meg/sub-01_task-a_run-01_channels.tsv"
    assert run.calibration == "sub-01/meg/sub-01_acq-calibration_meg.dat"
    assert run.crosstalk == "sub-01/meg/sub-01_acq-crosstalk_meg.fif"
    assert run.head_positions.endswith("headpos.pos")
    assert run.events.endswith("run-01_events.tsv")
    assert len(run.sha256) == 64
    write_manifest(tmp_path / "manifest.tsv", [run])
    assert read_manifest(tmp_path / "manifest.tsv")[0].sfreq == 200.0


def test_the_parts_of_a_split_recording_are_one_run(tmp_path):
    folder = tmp_path / "sub-01" / "meg"
    folder.mkdir(parents=True)
    big = small(300.0, 1000.0)
    big.save(
        folder / "sub-01_task-a_meg.fif", split_size="2MB", split_naming="bids", buffer_size_sec=1, verbose="ERROR"
    )
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"sub-01_task-a_split-0{number + 1}_meg.fif" for number in range(4)]
    (run,) = runs_of(tmp_path)
    assert run.run_id == "sub-01_task-a_meg"
    assert run.n_volumes == 300000
    assert run.image.split(";") == [f"sub-01/meg/{name}" for name in names]
    (folder / names[-1]).unlink()
    with pytest.raises(InputError, match=r"readable MEG or EEG recording|the parts"):
        runs_of(tmp_path)


def test_fmri_and_meg_of_one_person_are_in_one_manifest(tmp_path):
    import nibabel

    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    image = nibabel.Nifti1Image(np.ones((2, 2, 2, 4), dtype=np.int16), np.eye(4))
    nibabel.save(image, func / "sub-01_task-a_run-01_bold.nii.gz")
    (func / "sub-01_task-a_run-01_bold.json").write_text('{"RepetitionTime": 2}')
    made.write_meg(tmp_path, small(), None, name="sub-01_task-a_run-01")
    made.write_meg(tmp_path, small(), None, name="sub-02_task-b_run-01")
    assert [run.run_id for run in runs_of(tmp_path)] == [
        "sub-01_task-a_run-01", "sub-01_task-a_run-01_meg", "sub-02_task-b_run-01_meg",
    ]  # fmt: skip
    assert [run.run_id for run in runs_of(tmp_path, tasks=("b",))] == ["sub-02_task-b_run-01_meg"]
    with pytest.raises(InputError, match=r"the label 'c', found a, b"):
        runs_of(tmp_path, tasks=("c",))


@pytest.mark.parametrize(
    "value", ["sub-emptyroom/ses-1/meg/{}", "bids::sub-emptyroom/ses-1/meg/{}", ["/sub-emptyroom/ses-1/meg/{}"]]
)
def test_the_empty_room_that_the_sidecar_names(tmp_path, value):
    name = "sub-emptyroom_ses-1_task-noise_meg.fif"
    made.write_meg(tmp_path, small(), None, name=name.removesuffix("_meg.fif"))
    named = [item.format(name) for item in value] if isinstance(value, list) else value.format(name)
    made.write_meg(tmp_path, small(), None, name="sub-01_task-a", sidecar={"AssociatedEmptyRoom": named})
    (run,) = runs_of(tmp_path)
    assert run.empty_room == f"sub-emptyroom/ses-1/meg/{name}"


def test_the_empty_room_of_the_day_and_of_the_session(tmp_path):
    from datetime import UTC, datetime

    dated = small()
    dated.set_meas_date(datetime(2020, 2, 1, 12, tzinfo=UTC))
    made.write_meg(tmp_path, dated, None, name="sub-emptyroom_ses-20200201_task-noise")
    made.write_meg(tmp_path, dated, None, name="sub-01_task-a")
    made.write_meg(tmp_path, small(), None, name="sub-02_task-a")
    made.write_meg(tmp_path, small(), None, name="sub-02_task-noise")
    rooms = {run.subject: run.empty_room for run in runs_of(tmp_path)}
    assert rooms == {
        "01": "sub-emptyroom/ses-20200201/meg/sub-emptyroom_ses-20200201_task-noise_meg.fif",
        "02": "sub-02/meg/sub-02_task-noise_meg.fif",
    }
    # bug: an empty room is no run of a person
    assert "emptyroom" not in rooms


def test_an_empty_room_that_is_named_but_missing_is_refused(tmp_path):
    made.write_meg(
        tmp_path, small(), None, name="sub-01_task-a", sidecar={"AssociatedEmptyRoom": "sub-emptyroom/x_meg.fif"}
    )
    with pytest.raises(
        InputError, match=r"the AssociatedEmptyRoom of the sidecar, found no file sub-emptyroom/x_meg.fif"
    ):
        runs_of(tmp_path)


def test_a_run_without_an_empty_room_is_said(tmp_path, caplog):
    made.write_meg(tmp_path, small(), None, name="sub-01_task-a")
    with caplog.at_level("WARNING"):
        assert runs_of(tmp_path)[0].empty_room == ""
    assert "no empty-room recording" in caplog.text


def test_a_story_gives_text_and_start(tmp_path):
    made.write_meg(tmp_path, small(), None, name="sub-01_task-a")
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli" / "fox_words.tsv").write_text("word\tonset\tduration\na\t0\t1\n")
    (tmp_path / "sub-01/meg/sub-01_task-a_events.tsv").write_text("onset\tduration\tstim_file\n0.5\t1\tfox.wav\n")
    (run,) = runs_of(tmp_path)
    assert (run.stimulus, run.text, run.start_time) == ("fox", "stimuli/fox_words.tsv", -0.5)


DATA = np.random.default_rng(1).standard_normal((40, 1000)) * 1e-12
STIM = np.repeat([0, 0, 3, 0, 0], 200)


@pytest.mark.parametrize(("writer", "name", "tolerance"), [
    (raw_bytes.write_ctf, "sub-01_task-a_meg.ds", 1e-15), (raw_bytes.write_bti, "sub-01_task-a_meg", 1e-18),
])  # fmt: skip
def test_true_folders_of_ctf_and_bti_come_back_as_they_were_written(tmp_path, writer, name, tolerance):
    from decoders.data.raw_files import open_raw

    writer(tmp_path / "sub-01" / "meg" / name, DATA, STIM, 500.0)
    (run,) = runs_of(tmp_path)
    assert (run.run_id, run.sfreq, run.n_volumes) == ("sub-01_task-a_meg", pytest.approx(500.0), 1000)
    raw, _ = open_raw(run.paths("image"))
    np.testing.assert_allclose(raw.get_data(picks="mag"), DATA, atol=tolerance)
    np.testing.assert_array_equal(raw.get_data(picks="stim")[0], STIM)
    place = mne.transforms.apply_trans(raw.info["dev_head_t"], raw.info["chs"][0]["loc"][:3])
    x, y, z = raw_bytes.shell(40, 0.12)[0][0]
    # Their heads look along x, mne's along y.
    np.testing.assert_allclose(place, [-y, x, z], atol=1e-5)
    before = run.sha256
    writer(tmp_path / "code" / name, DATA * 2, STIM, 500.0)
    for path in (tmp_path / "code" / name).iterdir():
        (tmp_path / "sub-01" / "meg" / name / path.name).write_bytes(path.read_bytes())
    assert runs_of(tmp_path)[0].sha256 != before


@pytest.mark.parametrize("broken", [b"", b"MEG41CP", b"\x00" * 5000])
@pytest.mark.parametrize("name", ["sub-01_task-a_meg.fif", "sub-01_task-a_meg.con"])
def test_damaged_files_are_refused_with_a_sentence(tmp_path, broken, name):
    folder = tmp_path / "sub-01" / "meg"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(broken)
    with pytest.raises(InputError, match=r"a readable MEG or EEG recording"):
        runs_of(tmp_path)


def test_a_folder_of_neither_system_is_refused(tmp_path):
    folder = tmp_path / "sub-01" / "meg" / "sub-01_task-a_meg"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"a folder of BTi holds 'config'.*this one holds notes.txt"):
        runs_of(tmp_path)


@pytest.mark.parametrize(("writer", "ending", "tolerance"), [
    (raw_bytes.write_brainvision, ".vhdr", 1e-11), (raw_bytes.write_edf, ".edf", 2e-8),
])  # fmt: skip
def test_eeg_formats_are_runs(tmp_path, writer, ending, tolerance):
    from decoders.data.raw_files import open_raw

    names = ["Fp1", "Fp2", "Cz", "Oz"]
    writer(tmp_path / "sub-01" / "eeg" / f"sub-01_task-a_eeg{ending}", DATA[:4] * 1e7, names, 500)
    (run,) = runs_of(tmp_path)
    assert (run.run_id, run.modality, run.sfreq) == ("sub-01_task-a_eeg", "eeg", 500.0)
    raw, _ = open_raw(run.paths("image"))
    assert raw.ch_names == names
    np.testing.assert_allclose(raw.get_data(), DATA[:4] * 1e7, atol=tolerance)
    assert run.empty_room == ""
