import nibabel as nib
import numpy as np
import pytest
from nilearn.image import resample_to_img, smooth_img

from decoders.errors import InputError
from decoders.signal.steps import Steps, warnings_of
from decoders.signal.streaming import open_image
from decoders.signal.volumes import VolumeOptions, read_volume, target_grid


@pytest.fixture
def steps():
    return Steps("r")


@pytest.fixture
def run(tmp_path, save, rng):
    data = rng.standard_normal((8, 7, 6, 5)).astype(np.float32) + 100
    return open_image(save(tmp_path / "bold.nii.gz", data)), np.ones((8, 7, 6), bool), data


def test_voxels_in_c_order_and_bad_ones_left_out(tmp_path, save, run, steps):
    _, mask, data = run
    data[0, 0, 0], data[3, 2, 1, 2] = 5, np.nan
    mask[7] = False
    data[7] = np.nan  # outside the mask: ignored
    series = read_volume(open_image(save(tmp_path / "b.nii", data)), mask, VolumeOptions(drop=1), steps)
    left = mask.copy()
    left[0, 0, 0] = left[3, 2, 1] = False
    assert (series.mask == left).all()
    assert np.array_equal(series.data, data[left].T[1:])
    assert series.n_bad == 2
    assert "1 of 294 voxels in the mask are not finite, 1 are constant" in warnings_of(steps.entries)[0]


def test_more_bad_voxels_than_the_limit_are_refused(tmp_path, save, run, steps):
    _, mask, data = run
    data[0] = 5
    path = save(tmp_path / "b.nii", data)
    with pytest.raises(InputError, match=r"b.nii.*at most 5.0%.*12.5%"):
        read_volume(open_image(path), mask, VolumeOptions(), steps)
    assert read_volume(open_image(path), mask, VolumeOptions(max_bad_share=0.2), steps).data.shape == (5, 294)
    data[:] = 5
    assert "all 336 voxels" in read_volume(open_image(save(path, data)), mask, VolumeOptions(), steps).excluded


def test_smoothing_is_nilearns(run, steps):
    image, mask, _ = run
    series = read_volume(image, mask, VolumeOptions(smoothing_mm=6.0), steps)
    truth = smooth_img(nib.load(image.path), 6.0).get_fdata()[mask].T
    assert np.allclose(series.data, truth, atol=1e-3)
    assert [entry["step"] for entry in steps.entries] == ["smooth"]
    assert steps.entries[0]["fwhm_mm"] == 6.0


def test_a_non_finite_voxel_does_not_spread_by_smoothing(tmp_path, save, run, steps):
    _, mask, data = run
    data[4, 4, 4, 1] = np.inf
    series = read_volume(open_image(save(tmp_path / "b.nii", data)), mask, VolumeOptions(smoothing_mm=6.0), steps)
    assert np.isfinite(series.data).all()
    assert series.n_bad == 1
    assert not series.mask[4, 4, 4]


def test_resampling_is_nilearns_and_carries_bad_voxels(tmp_path, save, run, steps):
    image, mask, data = run
    affine, shape = target_grid(image, 4.0)
    assert np.allclose(np.abs(affine[:3, :3]), np.eye(3) * 4)
    series = read_volume(image, mask, VolumeOptions(resample_mm=4.0, max_bad_share=0.3), steps)
    target = nib.Nifti1Image(np.zeros(shape), affine)
    volumes = [nib.Nifti1Image(data[..., time], image.affine) for time in range(5)]
    there = [resample_to_img(one, target, copy_header=True, force_resample=True) for one in volumes]
    truth = np.stack([one.get_fdata()[series.mask] for one in there])
    assert np.allclose(series.data, truth, atol=1e-3)
    assert np.allclose(series.affine, affine)
    data[3:5, 3:5, 2:4, 0] = np.nan
    bad = read_volume(
        open_image(save(tmp_path / "b.nii", data)), mask, VolumeOptions(resample_mm=4.0, max_bad_share=0.3), steps
    )
    assert bad.n_bad > series.n_bad
    assert np.isfinite(bad.data).all()


def test_without_the_settings_nothing_is_moved(run, steps):
    image, mask, data = run
    series = read_volume(image, mask, VolumeOptions(), steps)
    assert np.array_equal(series.data, data[mask].T)
    assert series.affine is image.affine
    assert not steps.entries
