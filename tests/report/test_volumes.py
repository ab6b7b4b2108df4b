import nibabel as nib
import numpy as np
import pytest

from decoders.errors import IntegrityError
from decoders.report.volumes import canonical, crop, outline, read_volume, slice_choice


def save(path, values, affine):
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), path)
    return path


def test_a_map_is_turned_to_left_right_and_its_zeros_are_outside(tmp_path):
    values = np.zeros((4, 5, 6))
    values[0, 1, 2] = 3.0
    flipped = np.diag([-2.0, 2, 2, 1])
    volume = read_volume(save(tmp_path / "sub-01_map-gate_statmap.nii.gz", values, flipped))
    assert (volume.subject, volume.name) == ("01", "gate")
    place = np.argwhere(np.isfinite(volume.values))
    assert place.tolist() == [[3, 1, 2]]
    # The same voxel stands at the same millimetres.
    assert np.allclose(volume.affine @ [3, 1, 2, 1], flipped @ [0, 1, 2, 1])


def test_canonical_arrays_agree_with_nibabel():
    values = np.random.default_rng(0).random((3, 4, 5))
    affine = np.array([[0, -2.0, 0, 5], [0, 0, 3, 1], [-1, 0, 0, 2], [0, 0, 0, 1]])
    turned, new = canonical(values, affine)
    image = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    assert np.array_equal(turned, image.get_fdata())
    assert np.allclose(new, image.affine)


def test_a_damaged_map_is_named(tmp_path):
    path = tmp_path / "sub-01_map-gate_statmap.nii.gz"
    save(path, np.ones((9, 9, 9)), np.eye(4))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(IntegrityError, match="sub-01_map-gate"):
        read_volume(path)


def test_a_map_of_four_axes_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="three axes"):
        read_volume(save(tmp_path / "m.nii.gz", np.ones((2, 2, 2, 2)), np.eye(4)))


def test_slices_are_spread_over_what_is_filled():
    inside = np.zeros((4, 4, 40), bool)
    inside[1, 1, 5:35] = True
    chosen = slice_choice(inside, 6)
    assert (chosen[0], chosen[-1], len(chosen)) == (5, 34, 6)
    assert crop(inside) == (slice(0, 3), slice(0, 3))


def test_the_outline_of_one_pixel_has_four_sides():
    mask = np.zeros((3, 3), bool)
    mask[1, 2] = True
    sides = sorted(outline(mask).split("M")[1:])
    assert sides == sorted(["2 1h1", "2 2h1", "2 1v1", "3 1v1"])


def test_neighbours_share_no_side():
    mask = np.ones((1, 2), bool)
    assert outline(mask).count("M") == 6
