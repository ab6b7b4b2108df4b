import dataclasses

import numpy as np
import pytest

from decoders.errors import IntegrityError
from decoders.store.arrays import read_columns
from decoders.store.recording import Recording, read_recording, read_recording_header, write_recording


def _recording(**changes):
    mask = np.zeros((2, 3, 2), bool)
    mask[0, :, 0] = True
    values = {
        "data": np.arange(12, dtype=np.float32).reshape(4, 3), "kind": "volume", "subject": "01", "session": "a",
        "task": "story", "run": "02", "stimulus": "story01", "time": np.arange(4) * 2.0, "tr": 2.0,
        "conditions": np.array(["", "face", "face", ""], dtype=object), "groups": np.array([-1, 0, 0, -1]),
        "mask": mask, "affine": np.diag([3.0, 3, 3, 1]), "steps": [{"step": "high-pass", "cutoff_s": 128.0}],
        "quality": {"tsnr": np.ones(3)},
    }  # fmt: skip
    return Recording(**{**values, **changes})


def test_a_recording_survives(tmp_path):
    recording = _recording()
    write_recording(tmp_path / "r.h5", recording)
    found = read_recording(tmp_path / "r.h5")
    for field in dataclasses.fields(Recording):
        np.testing.assert_equal(getattr(found, field.name), getattr(recording, field.name))
    assert found.data.dtype == np.float32


def test_an_excluded_recording_holds_its_reason(tmp_path):
    empty = np.zeros((0, 0), np.float32)
    changes = {"data": empty, "time": np.zeros(0), "conditions": np.zeros(0, object), "groups": np.zeros(0, int)}
    write_recording(tmp_path / "r.h5", _recording(excluded="constant", mask=None, affine=None, **changes))
    found = read_recording(tmp_path / "r.h5")
    assert found.excluded == "constant"
    assert found.mask is None
    assert found.data.shape == (0, 0)


def test_a_header_leaves_the_data_on_disk(tmp_path):
    recording = _recording()
    write_recording(tmp_path / "r.h5", recording)
    header = read_recording_header(tmp_path / "r.h5")
    assert header.path == tmp_path / "r.h5"
    assert header.data.shape == (4, 0)
    for field in dataclasses.fields(Recording):
        if field.name not in ("data", "path"):
            np.testing.assert_equal(getattr(header, field.name), getattr(recording, field.name))
    np.testing.assert_array_equal(read_columns(header.path, "data", slice(1, 3)), recording.data[:, 1:3])
    with pytest.raises(IntegrityError, match=r"no \['other'\]"):
        read_columns(header.path, "other")


def test_trials_of_sensors_survive(tmp_path):
    rng = np.random.default_rng(0)
    trials = Recording(
        rng.standard_normal((3, 4, 5)).astype(np.float32), "sensor", "01", axis="trial", time=np.arange(3.0),
        names=np.array(["a", "b", "c", "d"], dtype=object), conditions=np.array(["x", "y", "x"], dtype=object),
        groups=np.arange(3), sfreq=200.0, epoch_time=np.arange(5) / 200, positions=rng.standard_normal((4, 3)),
        channel_types=np.array(["mag", "grad", "grad", "eeg"], dtype=object), noise_covariance=np.diag([1.0, 2, 3, 4]),
    )  # fmt: skip
    write_recording(tmp_path / "r.h5", trials)
    found = read_recording(tmp_path / "r.h5")
    for field in dataclasses.fields(Recording):
        np.testing.assert_equal(getattr(found, field.name), getattr(trials, field.name))
