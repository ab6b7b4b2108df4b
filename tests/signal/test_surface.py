import nibabel as nib
import numpy as np
import pytest

from decoders.errors import InputError
from decoders.signal.steps import Steps, warnings_of
from decoders.signal.surface import read_surface


def gifti(path, data, tr_ms="2000"):
    image = nib.GiftiImage()
    for values in data:
        meta = nib.gifti.GiftiMetaData({"TimeStep": tr_ms} if tr_ms else {})
        intent = nib.nifti1.intent_codes["NIFTI_INTENT_TIME_SERIES"]
        image.add_gifti_data_array(nib.gifti.GiftiDataArray(values.astype(np.float32), intent=intent, meta=meta))
    nib.save(image, path)
    return path


def cifti(path, data, voxel_mask, tr=0.8):
    n_cortex = data.shape[1] - int(voxel_mask.sum())
    cortex = nib.cifti2.BrainModelAxis.from_surface(np.arange(n_cortex) * 2, 64, name="CIFTI_STRUCTURE_CORTEX_LEFT")
    thalamus = nib.cifti2.BrainModelAxis.from_mask(voxel_mask, affine=np.eye(4), name="thalamus_left")
    time = nib.cifti2.SeriesAxis(0, tr, len(data), "SECOND")
    nib.save(nib.Cifti2Image(data.astype(np.float32), (time, cortex + thalamus)), path)
    return path


@pytest.fixture
def steps():
    return Steps("r")


@pytest.fixture
def pair(tmp_path, rng):
    left, right = rng.standard_normal((10, 40)), rng.standard_normal((10, 40))
    left[:, :3], right[:, 5:8] = np.nan, 0
    names = [tmp_path / f"sub-01_task-x_hemi-{side}_space-fsaverage5_bold.func.gii" for side in "LR"]
    return [gifti(names[0], left), gifti(names[1], right)], np.hstack([left, right]).astype(np.float32)


def test_hemispheres_side_by_side_without_the_medial_wall(pair, steps):
    paths, truth = pair
    series, tr = read_surface(paths[::-1], 0.05, steps, drop=2)
    keep = np.ones(80, bool)
    keep[[0, 1, 2, 45, 46, 47]] = False
    assert tr == 2.0
    assert series.kind == "surface"
    assert series.n_bad == 6
    assert series.n_file == 10
    assert np.array_equal(series.data, truth[2:, keep])
    assert series.names[0] == "L:3"
    assert series.names[-1] == "R:39"
    assert "R:5" not in series.names
    assert steps.entries[0]["step"] == "medial wall"
    assert not warnings_of(steps.entries)


def test_more_than_the_medial_wall_is_refused(tmp_path, rng, steps):
    data = rng.standard_normal((5, 100))
    data[:, :35] = 0
    paths = [gifti(tmp_path / f"a_hemi-{side}_bold.func.gii", data) for side in "LR"]
    with pytest.raises(InputError, match=r"at most 15.0% bad vertices.*35.0%"):
        read_surface(paths, 0.05, steps)
    assert read_surface(paths, 0.3, steps)[0].data.shape == (5, 130)
    assert warnings_of(steps.entries)


def test_cifti_names_grayordinates(tmp_path, rng, steps):
    voxels = np.zeros((3, 3, 3), bool)
    voxels[1, 1, :2] = True
    data = rng.standard_normal((12, 22))
    path = cifti(tmp_path / "a_bold.dtseries.nii", data, voxels)
    series, tr = read_surface([path], 0.05, steps, drop=1)
    assert tr == pytest.approx(0.8)
    assert np.allclose(series.data, data[1:], atol=1e-6)
    assert series.names[1] == "CORTEX_LEFT:2"
    assert series.names[-1] == "THALAMUS_LEFT:1,1,1"


def test_what_is_no_surface_run_is_said(tmp_path, pair, rng, steps):
    paths, _ = pair
    short = gifti(tmp_path / "b_hemi-R_bold.func.gii", rng.standard_normal((9, 40)))
    broken = tmp_path / "c_hemi-R_bold.func.gii"
    broken.write_bytes(paths[1].read_bytes()[:900])
    cut = cifti(tmp_path / "a.dtseries.nii", rng.standard_normal((30, 20)), np.ones((1, 1, 1), bool))
    cut.write_bytes(cut.read_bytes()[:-400])
    for files, parts in [
        ([paths[0]], ["two hemispheres", "hemi-L"]),
        ([paths[0], paths[0]], ["hemi-L and hemi-R"]),
        ([paths[0], short], ["10 left and 9 right"]),
        ([paths[0], broken], ["GIFTI", broken.name]),
        ([cut], ["whole", "dtseries"]),
    ]:
        with pytest.raises(InputError) as error:
            read_surface(files, 0.05, steps)
        for part in parts:
            assert part in str(error.value), str(error.value)


def test_a_silent_tr_is_nan(tmp_path, rng, steps):
    paths = [gifti(tmp_path / f"a_hemi-{side}.func.gii", rng.standard_normal((5, 9)), "") for side in "LR"]
    assert np.isnan(read_surface(paths, 0.05, steps)[1])
