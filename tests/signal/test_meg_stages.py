"""Stages on MEG and EEG runs: manifest, preprocess, estimate and quality, and those of fMRI beside them."""

from __future__ import annotations

from pathlib import Path

import made_up_meg as made
import numpy as np
import pandas as pd
import pytest
import raw_bytes

from decoders.config import parse_settings
from decoders.errors import InputError
from decoders.signal.meg_channels import template_montage
from decoders.signal.quality import COLUMNS
from decoders.signal.steps import parameter_of, warnings_of
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import read_arrays
from decoders.store.recording import read_recording
from decoders.store.tables import read_table

NAMES = [
    "Fp1",
    "Fp2",
    "F3",
    "F4",
    "C3",
    "C4",
    "P3",
    "P4",
    "O1",
    "O2",
    "F7",
    "F8",
    "T7",
    "T8",
    "P7",
    "P8",
    "Fz",
    "Cz",
    "Pz",
    "Oz",
]
MEG = {
    "maxwell": "none",
    "high_pass_hz": 0.5,
    "notch": False,
    "artefacts": "none",
    "epoch_s": [-0.1, 0.5],
    "baseline_s": [-0.1, 0.0],
}


def study(root: Path, **meg):
    values = {"study": "made", "data": {"source": "bids", "root": str(root)}, "preprocess": {"meg": {**MEG, **meg}}}
    return parse_settings(values)


def stage(name, settings, inputs, outputs, **labels):
    run_stage(SettingsSlice.of(name, settings), inputs, outputs, labels)


def through(root: Path, out: Path, settings) -> tuple[list[Path], list[Path]]:
    """Run manifest, preprocess and estimate on all runs; return Recordings and trials."""
    manifest = out / "manifest.tsv"
    stage("manifest", settings, {}, {"manifest": manifest})
    recordings, estimates = [], []
    for run_id in read_table(manifest)["run_id"]:
        recording, trials = out / f"{run_id}_recording.h5", out / f"{run_id}_estimates.h5"
        stage("preprocess", settings, {"manifest": [manifest]}, {"recording": recording}, run=run_id)
        stage(
            "estimate", settings, {"manifest": [manifest], "recording": [recording]}, {"estimates": trials}, run=run_id
        )
        recordings.append(recording)
        estimates.append(trials)
    return recordings, estimates


def eeg_data(seconds=60.0, sfreq=250, seed=0):
    """Twenty electrodes: a response at Cz 150 ms after each tone, blinks at the front, noise, on an offset."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sfreq)) / sfreq
    onsets = np.arange(2.0, seconds - 2, 1.1)
    montage = template_montage().get_positions()["ch_pos"]
    places = np.array([montage[name] for name in NAMES])

    def spread(name, width):
        return np.exp(-0.5 * (np.linalg.norm(places - montage[name], axis=1) / width) ** 2)

    response = sum(np.exp(-0.5 * ((t - onset - 0.15) / 0.03) ** 2) for onset in onsets)
    blinks = np.cumsum(rng.uniform(2, 5, 40))
    blink = sum(np.exp(-0.5 * ((t - at) / 0.08) ** 2) for at in blinks[blinks < seconds])
    data = np.outer(spread("Cz", 0.05), response) * 8e-6 + rng.standard_normal((20, t.size)) * 4e-6 + 1e-4
    return data, np.outer(spread("Fpz", 0.04), blink) * 150e-6, onsets


def write_eeg(root: Path, data, onsets, writer=raw_bytes.write_brainvision, ending=".vhdr", sfreq=250):
    folder = root / "sub-01" / "eeg"
    writer(folder / f"sub-01_task-tones_eeg{ending}", data, NAMES, sfreq)
    pd.DataFrame(
        {"onset": onsets, "duration": 0.1, "trial_type": [("low", "high")[i % 2] for i in range(onsets.size)]}
    ).to_csv(folder / "sub-01_task-tones_events.tsv", sep="\t", index=False)
    pd.DataFrame({"name": NAMES, "type": "EEG", "status": "good"}).to_csv(
        folder / "sub-01_task-tones_channels.tsv", sep="\t", index=False
    )
    (folder / "sub-01_task-tones_eeg.json").write_text('{"PowerLineFrequency": 50}')


@pytest.mark.parametrize(("writer", "ending"), [(raw_bytes.write_brainvision, ".vhdr"), (raw_bytes.write_edf, ".edf")])
def test_eeg_goes_through_the_same_chain(tmp_path, writer, ending):
    data, blinks, onsets = eeg_data()
    write_eeg(tmp_path / "bids", data + blinks, onsets, writer, ending)
    settings = study(tmp_path / "bids", artefacts="ica", sfreq=125.0, ica_components=15)
    (recording,), (estimates,) = through(tmp_path / "bids", tmp_path, settings)
    found, trials = read_recording(recording), read_recording(estimates)
    assert set(found.channel_types) == {"eeg"}
    assert found.sfreq == 125.0
    np.testing.assert_allclose(found.data.sum(axis=1), 0, atol=1e-9)
    removed = parameter_of(found.steps, "artefacts", "removed")
    assert [item["artefact"] for item in removed] == ["eye"]
    assert parameter_of(found.steps, "rank", "rank") == 20 - 1 - 1
    mean = trials.data.mean(axis=0)
    cz = NAMES.index("Cz")
    assert trials.epoch_time[mean[cz].argmax()] == pytest.approx(0.15, abs=0.017)
    # Against the same run without blinks, in which nothing is removed: at most 10 % lost, power within 1 dB.
    write_eeg(tmp_path / "clean", data, onsets)
    (tmp_path / "out").mkdir()
    (recording,), (estimates,) = through(tmp_path / "clean", tmp_path / "out", study(tmp_path / "clean", sfreq=125.0))
    truth, evoked = read_recording(recording), read_recording(estimates).data.mean(axis=0)
    assert 0.9 < (mean * evoked).sum() / (evoked**2).sum() < 1.1
    assert abs(10 * np.log10((found.data**2).mean() / (truth.data**2).mean())) < 1
    assert any("10-05 system" in text for text in warnings_of(found.steps))


def test_a_bad_electrode_is_interpolated_and_a_nameless_one_cannot_be(tmp_path):
    data, _, onsets = eeg_data(30.0)
    data[7] *= 30
    write_eeg(tmp_path / "bids", data, onsets)
    settings = study(tmp_path / "bids", sfreq=125.0)
    (recording,), _ = through(tmp_path / "bids", tmp_path, settings)
    found = read_recording(recording)
    assert parameter_of(found.steps, "bad channels", "found") == {"noisy": ["P4"]}
    assert found.data[:, 7].std() < 2 * np.median(found.data.std(axis=0))
    header = tmp_path / "bids/sub-01/eeg/sub-01_task-tones_eeg.vhdr"
    header.write_text(header.read_text().replace("Ch8=P4", "Ch8=X99"))
    table = tmp_path / "bids/sub-01/eeg/sub-01_task-tones_channels.tsv"
    table.write_text(table.read_text().replace("P4", "X99"))
    with pytest.raises(InputError, match=r"places of all sensors.*\(X99\).*found none for X99.*bad_channels to drop"):
        through(tmp_path / "bids", tmp_path, settings)


def test_electrodes_of_a_table_are_placed(tmp_path):
    data, _, onsets = eeg_data(30.0)
    write_eeg(tmp_path / "bids", data, onsets)
    montage = template_montage().get_positions()["ch_pos"]
    rows = [[name, *(1000 * montage[name])] for name in NAMES]
    path = tmp_path / "bids/sub-01/eeg/sub-01_space-CapTrak_electrodes.tsv"
    pd.DataFrame(rows, columns=["name", "x", "y", "z"]).to_csv(path, sep="\t", index=False)
    (recording,), _ = through(tmp_path / "bids", tmp_path, study(tmp_path / "bids", sfreq=125.0))
    found = read_recording(recording)
    np.testing.assert_allclose(found.positions, [montage[name] for name in NAMES], atol=1e-6)
    assert "in mm by their size" in next(step["why"] for step in found.steps if step["step"] == "electrodes")


def test_meg_and_fmri_stand_in_one_table_of_quality(tmp_path):
    import nibabel

    root = tmp_path / "bids"
    planted = made.plant(seed=5, seconds=14.0, parts=())
    planted.raw._data[0] = 1e-13
    made.write_meg(root, planted.raw, planted.events)
    func = root / "sub-01" / "func"
    func.mkdir(parents=True)
    values = np.random.default_rng(0).normal(5, 1, (12, 12, 12, 20)).astype(np.float32)
    values[2:-2, 2:-2, 2:-2] += 100
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) * [3, 3, 3, 1]), func / "sub-01_task-tones_run-01_bold.nii.gz")
    (func / "sub-01_task-tones_run-01_bold.json").write_text('{"RepetitionTime": 2}')
    settings = study(root, sfreq=250.0)
    manifest = tmp_path / "manifest.tsv"
    stage("manifest", settings, {}, {"manifest": manifest})
    paths = []
    for run_id in read_table(manifest)["run_id"]:
        paths.append(tmp_path / f"{run_id}_recording.h5")
        stage("preprocess", settings, {"manifest": [manifest]}, {"recording": paths[-1]}, run=run_id)
    trials = tmp_path / f"{read_table(manifest)['run_id'][1]}_estimates.h5"
    stage(
        "estimate",
        settings,
        {"manifest": [manifest], "recording": [paths[1]]},
        {"estimates": trials},
        run=trials.name.removesuffix("_estimates.h5"),
    )
    table = tmp_path / "quality.tsv"
    outputs = {"quality": table, "series": tmp_path / "quality.h5"}
    stage("quality", settings, {"manifest": [manifest], "recording": paths, "estimates": [trials]}, outputs)
    found = read_table(table)
    assert sorted(found["kind"]) == ["sensor", "volume"]
    sensor = found[found["kind"] == "sensor"].iloc[0]
    assert (sensor["n_bad"], sensor["bad_channels"], sensor["n_features"]) == (1, planted.raw.ch_names[0], 306)
    assert (sensor["triggers"], sensor["triggers_missing"], sensor["noise"]) == ("STI101", 0, "run")
    assert sensor["n_epochs"] == sensor["n_events"] - sensor["n_epochs_rejected"] == len(planted.events)
    series = read_arrays(tmp_path / "quality.h5")
    assert series[f"power/{sensor['run_id']}"].shape == (200, 600)
    assert series[f"spectrum_types/{sensor['run_id']}"].tolist() == ["grad", "mag"]
    # The table of fMRI alone has no column of sensors.
    alone = tmp_path / "fmri.tsv"
    stage(
        "quality",
        settings,
        {"manifest": [manifest], "recording": paths[:1]},
        {"quality": alone, "series": tmp_path / "fmri.h5"},
    )
    assert tuple(read_table(alone).columns) == COLUMNS
    assert "power" not in read_arrays(tmp_path / "fmri.h5").attributes["definitions"]


def test_trials_without_events_are_refused(tmp_path):
    data, _, onsets = eeg_data(30.0)
    write_eeg(tmp_path / "bids", data, onsets)
    (tmp_path / "bids/sub-01/eeg/sub-01_task-tones_events.tsv").unlink()
    with pytest.raises(InputError, match=r"an events file for trial estimates, found none.*leave alignment.time out"):
        through(tmp_path / "bids", tmp_path, study(tmp_path / "bids", sfreq=125.0))


@pytest.mark.parametrize(
    ("writer", "name"), [(raw_bytes.write_ctf, "sub-01_task-a_meg.ds"), (raw_bytes.write_bti, "sub-01_task-a_meg")]
)
def test_true_folders_of_ctf_and_bti_go_through(tmp_path, writer, name):
    rng = np.random.default_rng(2)
    t = np.arange(7500) / 500.0
    onsets = np.arange(1.0, 13.5, 1.0)
    course = sum(np.exp(-0.5 * ((t - onset - 0.1) / 0.02) ** 2) for onset in onsets)
    data = rng.standard_normal((40, t.size)) * 5e-14 + np.outer(rng.standard_normal(40), course) * 3e-13
    stim = np.zeros(t.size)
    for onset in onsets:
        stim[round(onset * 500) : round(onset * 500) + 10] = 2
    folder = tmp_path / "bids" / "sub-01" / "meg"
    writer(folder / name, data, stim, 500.0)
    pd.DataFrame({"onset": onsets, "duration": 0.1, "trial_type": "tone"}).to_csv(
        folder / "sub-01_task-a_events.tsv", sep="\t", index=False
    )
    (recording,), (estimates,) = through(
        tmp_path / "bids", tmp_path, study(tmp_path / "bids", sfreq=250.0, maxwell="auto")
    )
    found, trials = read_recording(recording), read_recording(estimates)
    assert found.data.shape == (3750, 40)
    assert parameter_of(found.steps, "triggers", "missing") == 0
    assert parameter_of(found.steps, "maxwell filter", "method") == "none"
    strength = np.abs(trials.data.mean(axis=0)).mean(axis=0)
    assert trials.epoch_time[strength.argmax()] == pytest.approx(0.1, abs=0.005)
    assert np.isfinite(found.positions).all()
