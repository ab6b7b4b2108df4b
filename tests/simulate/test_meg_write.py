import hashlib

import mne
import numpy as np
import pandas as pd
import pytest
from mne_bids import BIDSPath, get_entity_vals, read_raw_bids

from decoders.config import PhantomSettings
from decoders.config.phantom_meg import PhantomMegSettings
from decoders.errors import InputError
from decoders.simulate.meg_run import draw_meg_run
from decoders.simulate.meg_write import write_meg
from decoders.simulate.write import write_phantom

MEG = PhantomMegSettings(
    picture_subjects=2, picture_runs=1, repeats=1, story_subjects=1, story_runs=1, story_s=20.0, empty_room_s=5.0
)
SETTINGS = PhantomSettings(story_subjects=0, story_runs=3, picture_subjects=0, n_pictures=10, meg=MEG)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("meg") / "bids"
    write_meg(root, ["01", "02"], SETTINGS, None)
    return root


def _paths(folder):
    return [
        BIDSPath(subject=s, task=task, run="01", datatype="meg", suffix="meg", extension=".fif", root=folder)
        for s, task in (("01", "pictures"), ("02", "pictures"), ("01", "story"))
    ]


def test_mne_bids_reads_every_run_with_its_events_and_empty_room(folder):
    assert get_entity_vals(folder, "subject") == ["01", "02"]
    for path in _paths(folder):
        raw = read_raw_bids(path, verbose="error")
        events = pd.read_csv(path.copy().update(suffix="events", extension=".tsv").fpath, sep="\t")
        assert raw.info["line_freq"] == 50
        assert len(raw.info["bads"]) == 2
        assert raw.info["dig"] is not None
        found = mne.find_events(raw, "STI101", min_duration=0.005, verbose="error")
        sent = events.dropna(subset="value")
        np.testing.assert_array_equal(found[:, 0], sent["sample"])
        np.testing.assert_array_equal(found[:, 2], sent["value"])
        assert len(raw.annotations) >= len(sent)
        empty = path.find_empty_room(use_sidecar_only=True)
        assert read_raw_bids(empty, verbose="error").info["dev_head_t"] is None


def test_the_file_holds_the_run_that_is_in_memory(folder):
    for path, task, subject in zip(_paths(folder), ("pictures", "pictures", "story"), (0, 1, 0), strict=True):
        raw = mne.io.read_raw_fif(path.fpath, verbose="error")
        run = draw_meg_run(SETTINGS, task, subject)
        steps = np.array([channel["cal"] for channel in run.info["chs"]])
        error = np.abs(raw.get_data()[:306] - run.data) / steps[:306, None]
        assert error.max() <= 0.51
        np.testing.assert_allclose(raw.info["dev_head_t"]["trans"], run.info["dev_head_t"]["trans"], atol=1e-6)
        for mine, theirs in zip(raw.info["chs"][:306], run.info["chs"], strict=False):
            np.testing.assert_allclose(mine["loc"], theirs["loc"], atol=1e-6)


def test_the_same_settings_give_the_same_bytes_on_any_machine(folder, tmp_path, monkeypatch):
    # Another network card, as on another machine: mne writes its address into every file.
    monkeypatch.setattr("uuid.getnode", lambda: 0x123456789ABC)
    write_meg(tmp_path / "again", ["01", "02"], SETTINGS, None)
    sums = [
        {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*")
            if path.is_file()
        }
        for root in (folder, tmp_path / "again")
    ]
    assert sums[0] == sums[1]
    assert sum(name.endswith("_meg.fif") for name in sums[0]) == 4


def test_scans_date_every_recording_and_the_empty_room_comes_before(folder):
    for scans in folder.rglob("*_scans.tsv"):
        for file, date in pd.read_csv(scans, sep="\t").itertuples(index=False):
            raw = mne.io.read_raw_fif(scans.parent / file, verbose="error")
            assert raw.info["meas_date"].strftime("%Y-%m-%dT%H:%M:%S") == date
            assert date.startswith("2020-01-01")


def test_the_truth_names_sources_and_channels(folder):
    for stem in ("sub-01/meg/sub-01_task-pictures", "sub-01/meg/sub-01_task-story", "sub-02/meg/sub-02_task-pictures"):
        base = folder / "derivatives/truth" / stem
        sources = pd.read_csv(f"{base}_desc-planted_sources.tsv", sep="\t")
        channels = pd.read_csv(f"{base}_desc-planted_channels.tsv", sep="\t")
        assert {"source", "x", "y", "z", "ox", "oy", "oz", "onset_s", "peak_s", "geometry"} <= set(sources)
        np.testing.assert_allclose(np.linalg.norm(sources[["ox", "oy", "oz"]], axis=1), 1, atol=1e-8)
        assert len(channels) == 306
        assert set(channels["planted"]) == {0, 1}
        assert {f"gain_{name}" for name in sources["source"]} <= set(channels)


def test_what_the_converter_cannot_hold_is_refused(tmp_path):
    loud = SETTINGS.model_copy(update={"meg": MEG.model_copy(update={"line": 1e6})})
    with pytest.raises(InputError, match="steps of the converter"):
        write_meg(tmp_path, ["01"], loud, None)


def test_people_of_the_meg_alone_have_their_stimuli(tmp_path, monkeypatch):
    monkeypatch.setattr("decoders.simulate.write.training_pictures", lambda settings: iter(()))
    monkeypatch.setattr("decoders.simulate.write.write_meg", lambda *given: None)
    write_phantom(tmp_path, SETTINGS)
    assert len(pd.read_csv(tmp_path / "participants.tsv")) == 2
    assert (tmp_path / "stimuli/story01_words.tsv").is_file()
    assert len(list((tmp_path / "stimuli/pictures").iterdir())) == 10
    assert not list(tmp_path.glob("sub-*/func"))
    assert "emptyroom" in (tmp_path / "README").read_text()
