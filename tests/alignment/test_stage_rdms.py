import nibabel
import numpy as np
import pytest

from decoders.alignment.rdm import correlation_rdm
from decoders.alignment.regions import subject_trials
from decoders.alignment.stage_rdms import estimated_rdms, write_rdms
from decoders.config import parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import read_arrays
from decoders.store.recording import Recording, write_recording

NAMES = ["a", "b", "c", "d"]
SHAPE = (4, 3, 2)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def settings(**alignment):
    study = {"study": "x", "data": {"source": "bids", "root": "b"}, "preprocess": {"estimates": "lsa"}}
    return parse_settings({**study, "alignment": {"recordings": "estimates", **alignment}})


def recording(rng, subject="01", run="1", mask=None, names=NAMES, **more):
    mask = np.ones(SHAPE, dtype=bool) if mask is None else mask
    conditions = np.array([*names, *names, "rest"], dtype=object)
    data = rng.standard_normal((len(conditions), int(mask.sum()))).astype(np.float32)
    fields = {"task": "pictures", "axis": "trial", "mask": mask, "affine": AFFINE, "conditions": conditions, **more}
    return Recording(data, "volume", subject, run=run, **fields)


def write_mask(path, values, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(values.astype(np.uint8), affine), path)


def test_patterns_are_averaged_over_runs_without_rest():
    rng = np.random.default_rng(0)
    runs = [recording(rng), recording(rng, run="2")]
    collected = estimated_rdms(runs, settings().alignment, {})
    means = np.array([np.concatenate([r.data[r.conditions == name] for r in runs]).mean(axis=0) for name in NAMES])
    assert collected.stimuli == NAMES
    np.testing.assert_allclose(collected.rdms["all"]["01"], correlation_rdm(means), atol=1e-6)


def test_voxels_that_a_run_lacks_are_left_out_of_all():
    rng = np.random.default_rng(0)
    mask = np.ones(SHAPE, dtype=bool)
    mask[0, 0, 0] = False
    first, second = recording(rng), recording(rng, run="2", mask=mask)
    found = subject_trials([first, second], {})["all"]
    assert found.patterns.shape == (16, mask.sum())
    np.testing.assert_array_equal(found.patterns[0], first.data[0, 1:])
    np.testing.assert_array_equal(found.patterns[8], second.data[0])


def test_region_masks_are_relative_to_the_root_and_named_by_subject(tmp_path):
    rng = np.random.default_rng(0)
    region = rng.random(SHAPE) > 0.5
    write_mask(tmp_path / "sub-01_v1.nii.gz", region)
    runs = [recording(rng)]
    collected = estimated_rdms(runs, settings(regions={"V1": "sub-{subject}_v1.nii.gz"}).alignment, {"01": tmp_path})
    inside = runs[0].data[:, region.ravel()]
    means = np.array([inside[runs[0].conditions == name].mean(axis=0) for name in NAMES])
    np.testing.assert_allclose(collected.rdms["V1"]["01"], correlation_rdm(means), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "affine", "fill", "message"),
    [
        ((5, 3, 2), AFFINE, 1, r"expected the grid \(4, 3, 2\)"),
        (SHAPE, np.diag([3.0, 2.0, 2.0, 1.0]), 1, r"found \(4, 3, 2\) and \[\[3.0"),
        (SHAPE, AFFINE, 0, "recorded voxels in the region 'V1'"),
        (None, AFFINE, 1, "a mask image, found no such file"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, shape, affine, fill, message):
    if shape:
        write_mask(tmp_path / "m.nii.gz", np.full(shape, fill), affine)
    with pytest.raises(InputError, match=message):
        subject_trials([recording(np.random.default_rng(0))], {"V1": tmp_path / "m.nii.gz"})


def test_runs_on_different_grids_are_refused():
    rng = np.random.default_rng(0)
    other = recording(rng, run="2", affine=np.diag([3.0, 2.0, 2.0, 1.0]))
    with pytest.raises(InputError, match="on the grid of"):
        subject_trials([recording(rng), other], {})
    regions = Recording(np.ones((1, 3), dtype=np.float32), "region", "01", conditions=np.array(["a"], dtype=object))
    with pytest.raises(InputError, match="volumes, for masks of regions, found region"):
        subject_trials([regions], {"V1": "x"})


def test_regions_that_differ_between_runs_are_matched_by_name():
    def regions(run, names):
        values = {"a": 1.0, "b": 2.0, "c": 3.0}
        data = np.array([[values[name] for name in names]], dtype=np.float32)
        labels = np.array(names, dtype=object)
        return Recording(data, "region", "01", run=run, names=labels, conditions=np.array(["x"], dtype=object))

    # As many columns in both runs, but of other regions: by position, b would be stacked on c.
    trials = subject_trials([regions("1", ["a", "b"]), regions("2", ["c", "a"])], {})["all"]
    assert trials.patterns.tolist() == [[1.0], [1.0]]


def test_who_cannot_be_used_is_left_out_by_name(tmp_path):
    rng = np.random.default_rng(0)
    flat = recording(rng, "04")
    flat.data[flat.conditions == "b"] = 1.0
    runs = [
        recording(rng),
        recording(rng, "02", names=["a", "b", "c"]),
        recording(rng, "03", excluded="constant"),
        flat,
        recording(rng, "05", task="story", names=["z"]),
    ]
    collected = estimated_rdms(runs, settings(task="pictures").alignment, {})
    assert list(collected.rdms["all"]) == ["01"]
    assert collected.stimuli == NAMES
    assert collected.excluded["03, pictures, 1"] == "constant"
    assert "none of d" in collected.excluded["02, all"]
    assert "one value throughout for the condition b" in collected.excluded["04, all"]
    write_rdms(tmp_path / "rdms.h5", collected, "correlation")
    file = read_arrays(tmp_path / "rdms.h5")
    assert file["all"].shape == (1, 6)
    assert set(file.attributes["excluded"]) == {"02, all", "03, pictures, 1", "04, all"}


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    rng = np.random.default_rng(0)
    collected = estimated_rdms([recording(rng, excluded="constant")], settings().alignment, {})
    with pytest.raises(InputError, match=r"none .01, pictures, 1: constant"):
        write_rdms(tmp_path / "rdms.h5", collected, "correlation")
    assert not (tmp_path / "rdms.h5").exists()


def test_the_stage_reads_estimates(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for subject in ("02", "01"):
        paths.append(tmp_path / f"{subject}.h5")
        write_recording(paths[-1], recording(rng, subject))
    write_manifest(tmp_path / "m.tsv", [Run(s, s, root=str(tmp_path)) for s in ("01", "02")])
    slice_ = SettingsSlice.of("rdms", settings(rdm="euclidean"))
    run_stage(slice_, {"manifest": [tmp_path / "m.tsv"], "estimates": paths}, {"rdms": tmp_path / "rdms.h5"})
    file = read_arrays(tmp_path / "rdms.h5")
    assert file["subjects"].tolist() == ["01", "02"]
    assert file["stimuli"].tolist() == NAMES
    assert "squared Euclidean" in file.attributes["method"]


def test_shipped_rdms_need_rows_in_the_manifest(tmp_path):
    write_manifest(tmp_path / "m.tsv", [Run("01", "01", root=str(tmp_path))])
    study = parse_settings({"study": "x", "data": {"source": "bids", "root": "b"}, "alignment": {"recordings": "rdms"}})
    with pytest.raises(InputError, match="RDMs in the manifest"):
        run_stage(SettingsSlice.of("rdms", study), {"manifest": [tmp_path / "m.tsv"]}, {"rdms": tmp_path / "r.h5"})
