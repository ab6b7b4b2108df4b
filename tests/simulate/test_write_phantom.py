import hashlib
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from decoders.config import DataSettings, PhantomSettings
from decoders.data.bids import read_bids
from decoders.errors import InputError
from decoders.simulate.bids import raw_like
from decoders.simulate.noise import high_pass_zscore
from decoders.simulate.stage import whole_folder
from decoders.simulate.story import simulate_story_runs
from decoders.simulate.write import EMBEDDING_FILE, PHANTOM_NAME, write_phantom
from decoders.stimuli.embedding import read_embedding
from decoders.stimuli.features import phantom_features, zscore_runs
from decoders.stimuli.timings import read_words

SETTINGS = PhantomSettings(
    grid=(8, 10, 8), story_subjects=2, story_runs=3, picture_subjects=1, picture_runs=2, n_pictures=12
)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "bids"
    write_phantom(root, SETTINGS)
    return root


def _files(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_same_settings_give_the_same_bytes(phantom, tmp_path):
    write_phantom(tmp_path / "again", SETTINGS)
    assert _files(tmp_path / "again") == _files(phantom)


def test_another_seed_gives_other_recordings(phantom, tmp_path):
    write_phantom(tmp_path / "other", SETTINGS.model_copy(update={"seed": 1, "picture_subjects": 0}))
    name = "sub-01/func/sub-01_task-story_run-01_bold.nii.gz"
    assert _files(tmp_path / "other")[name] != _files(phantom)[name]


def test_images_say_what_they_are(phantom):
    for path in phantom.glob("sub-*/func/*_bold.nii.gz"):
        image = nib.load(path)
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert image.header.get_zooms() == (3, 3, 3, 2)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        assert image.get_data_dtype() == np.int16
        assert sidecar["RepetitionTime"] == 2.0
        assert f"_task-{sidecar['TaskName']}_" in path.name
        # Bytes 4 to 8 of gzip are a time stamp: without one, tomorrow's file is the same.
        assert path.read_bytes()[4:8] == bytes(4)


def test_the_reader_finds_every_run_with_its_stimulus_and_truth(phantom):
    runs = read_bids(DataSettings(source="bids", root=str(phantom)))
    assert len(runs) == 2 * 3 + 2
    story = [run for run in runs if run.task == "story"]
    assert {run.stimulus for run in story} == {"story01", "story02", "story03"}
    for run in story:
        assert run.start_time == 0
        assert run.path("text").name == f"{run.stimulus}_words.tsv"
        assert run.path("truth").name == f"sub-{run.subject}_task-story_desc-planted_mask.nii.gz"
        assert run.path("mask").name == f"sub-{run.subject}_desc-brain_mask.nii.gz"
        assert (run.tr, run.n_volumes) == (2, 150)
    pictures = [run for run in runs if run.task == "pictures"]
    assert {run.stimulus for run in pictures} == {"pictures"}
    assert {run.text for run in pictures} == {""}


def test_the_recording_on_disk_is_the_one_in_memory(phantom):
    direct = simulate_story_runs(SETTINGS, subject=1)
    for run in range(3):
        image = nib.load(phantom / f"sub-02/func/sub-02_task-story_run-{run + 1:02d}_bold.nii.gz")
        series = np.asarray(image.dataobj)[direct.brain.mask].T.astype(float)
        assert 700 < series.mean() < 1300
        np.testing.assert_allclose(high_pass_zscore(series, 2.0), direct.x[run], atol=0.08)
        assert np.mean((high_pass_zscore(series, 2.0) - direct.x[run]) ** 2) < 5e-4


def test_the_planted_truth_is_that_of_the_recording(phantom):
    direct = simulate_story_runs(SETTINGS)
    folder = phantom / "derivatives/truth/sub-01"
    planted = nib.load(folder / "func/sub-01_task-story_desc-planted_mask.nii.gz").get_fdata()
    r = nib.load(folder / "func/sub-01_task-story_desc-r_statmap.nii.gz").get_fdata()
    mask = nib.load(folder / "anat/sub-01_desc-brain_mask.nii.gz").get_fdata().astype(bool)
    np.testing.assert_array_equal(mask, direct.brain.mask)
    np.testing.assert_array_equal(planted[mask], direct.brain.planted)
    assert planted[~mask].sum() == 0
    np.testing.assert_allclose(r[planted > 0], direct.brain.r_true, rtol=1e-6)
    for region in ("early", "late"):
        assert nib.load(folder / f"anat/sub-01_label-{region}_mask.nii.gz").get_fdata()[mask].sum() == int(
            0.05 * mask.sum()
        )


def test_features_are_remade_from_the_files_bit_for_bit(phantom):
    """Words and word vectors on disk are the ones that the brain responded to."""
    embedding = read_embedding(phantom / EMBEDDING_FILE)
    words = [read_words(phantom / f"stimuli/story{run + 1:02d}_words.tsv") for run in range(3)]
    remade = zscore_runs([phantom_features(w, embedding, 2.0 * np.arange(150)) for w in words])
    for mine, theirs in zip(remade, simulate_story_runs(SETTINGS).stories.features, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_events_hold_the_story_and_its_words(phantom):
    events = pd.read_csv(phantom / "sub-01/func/sub-01_task-story_run-02_events.tsv", sep="\t", keep_default_na=False)
    words = read_words(phantom / "stimuli/story02_words.tsv")
    assert list(events.columns) == ["onset", "duration", "trial_type", "word", "stim_file"]
    assert events["stim_file"][0] == "story02_words.tsv"
    assert set(events["stim_file"][1:]) == {"n/a"}
    assert tuple(events["word"][1:]) == words.word
    assert (events["onset"] + events["duration"]).max() <= 300


def test_pictures_and_training_set_are_where_their_tables_say(phantom):
    from PIL import Image

    shown = pd.read_csv(phantom / "stimuli/pictures.tsv", sep="\t")
    training = pd.read_csv(phantom / "stimuli/training_split.tsv", sep="\t")
    assert len(shown) == 12
    assert list(training.groupby(["class", "split"]).size().unstack()["train"]) == [200] * 6
    for name in [*shown["file"], *training["file"][::100]]:
        with Image.open(phantom / "stimuli" / name) as picture:
            assert (picture.size, picture.mode) == ((64, 64), "RGB")
    events = pd.read_csv(phantom / "sub-01/func/sub-01_task-pictures_run-01_events.tsv", sep="\t")
    assert set(events["stim_file"]) == set(shown["file"])


def test_descriptions(phantom):
    raw = json.loads((phantom / "dataset_description.json").read_text())
    assert raw["Name"] == PHANTOM_NAME
    assert raw["DatasetType"] == "raw"
    assert (
        json.loads((phantom / "derivatives/truth/dataset_description.json").read_text())["DatasetType"] == "derivative"
    )
    assert list(pd.read_csv(phantom / "participants.tsv", sep="\t")["participant_id"]) == ["sub-01", "sub-02"]


def test_raw_like_images_stand_out_of_their_ground():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[1:3, 1:3, 1:3] = True
    image = raw_like(np.random.default_rng(0).standard_normal((50, 8)), mask, np.random.default_rng(1))
    assert image[mask].min() > 600
    assert 0 <= image[~mask].min() <= image[~mask].max() < 30
    assert image[mask].std(axis=1).mean() == pytest.approx(20, rel=0.2)


def test_a_phantom_is_whole_or_absent(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "bids") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_older_phantom_is_replaced_and_other_folders_are_not(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "bids") as folder:
            (folder / "dataset_description.json").write_text(json.dumps({"Name": PHANTOM_NAME}))
            (folder / content).write_text(content)
    assert sorted(path.name for path in (tmp_path / "bids").iterdir()) == ["dataset_description.json", "new"]
    assert [path.name for path in tmp_path.iterdir()] == ["bids"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="an older phantom, or nothing"), whole_folder(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine/thesis.txt").exists()
