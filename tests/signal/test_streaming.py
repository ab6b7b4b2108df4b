import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from decoders.errors import InputError
from decoders.signal.streaming import (
    header_tr,
    iterate_volumes,
    mean_volume,
    open_image,
    read_masked,
    read_transformed,
)


@pytest.fixture
def mask(rng):
    return rng.random((5, 4, 3)) > 0.4


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "slope"),
    [(np.int16, None), (np.int16, (0.7, 3.0)), (np.uint8, None), (np.float64, None), (">i2", (2, 0))],
)
def test_reads_what_nibabel_reads(tmp_path, save, rng, mask, suffix, dtype, slope):
    data = rng.integers(0, 200, (5, 4, 3, 8))
    path = save(tmp_path / f"a{suffix}", data, dtype=dtype, slope=slope)
    truth = np.asarray(nib.load(path).dataobj)
    image = open_image(path)
    masked = read_masked(image, mask, drop=2)
    assert masked.data.dtype == np.float32
    assert masked.data.flags.c_contiguous
    assert np.allclose(masked.data, truth[mask].T[2:], rtol=1e-6)
    assert np.allclose(np.stack(list(iterate_volumes(image)), axis=-1), truth, rtol=1e-6)
    assert np.allclose(mean_volume(image, 2), truth[..., 2:].mean(axis=-1), rtol=1e-5)


def test_flags_non_finite_and_constant_voxels(tmp_path, save, rng):
    data = rng.standard_normal((3, 1, 1, 6)).astype(np.float32)
    data[1, 0, 0, 4], data[2] = np.inf, 3.0
    masked = read_masked(open_image(save(tmp_path / "a.nii", data)), np.ones((3, 1, 1), bool))
    assert masked.nonfinite.tolist() == [False, True, False]
    assert masked.constant.tolist() == [False, False, True]


def test_flags_travel_with_a_transform(tmp_path, save, rng):
    data = rng.standard_normal((4, 1, 1, 6)).astype(np.float32)
    data[1, 0, 0, 4], data[2] = np.nan, 3.0
    image = open_image(save(tmp_path / "a.nii", data))
    masked = read_transformed(image, np.ones((4, 1, 1), bool), lambda v: v + 1, np.asarray)
    assert masked.nonfinite.tolist() == [False, True, False, False]
    assert masked.constant.tolist() == [False, False, True, False]
    assert masked.data[4, 1] == 1  # not finite reaches the transform as 0


@pytest.mark.parametrize(("suffix", "part"), [(".nii.gz", 0.6), (".nii", 0.6), (".nii.gz", 0.999)])
def test_truncated_files_are_noticed_and_named(tmp_path, save, rng, mask, suffix, part):
    path = save(tmp_path / f"a{suffix}", rng.standard_normal((5, 4, 3, 40)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError) as error:
        read_masked(open_image(path), mask)
    for piece in [str(path), "40 whole volumes", "at volume", "again"]:
        assert piece in str(error.value)


def test_a_lost_gzip_trailer_is_noticed(tmp_path, save, rng, mask):
    """All voxels are there, so a reader that stops at the last one (nibabel) sees nothing wrong."""
    path = save(tmp_path / "a.nii.gz", rng.standard_normal((5, 4, 3, 9)))
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # a bit of the checksum
    path.write_bytes(bytes(content))
    assert np.isfinite(nib.load(path).dataobj[..., 8]).all()
    with pytest.raises(InputError, match="CRC"):
        read_masked(open_image(path), mask)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda path, save: None, ["no such file"]),
        (lambda path, save: path.write_bytes(b"not an image"), ["nibabel"]),
        (lambda path, save: path.write_bytes(gzip.compress(b"x" * 400)), ["nibabel"]),
        (lambda path, save: save(path, np.zeros((3, 3, 3))), ["4-D image", "(3, 3, 3)"]),
        (lambda path, save: save(path, np.zeros((3, 3, 3, 2)), dtype=np.complex64), ["real numbers", "complex64"]),
    ],
)
def test_what_is_no_run_is_said(tmp_path, save, make, parts):
    path = tmp_path / "bold.nii.gz"
    make(path, save)
    with pytest.raises(InputError) as error:
        open_image(path)
    for part in [*parts, str(path)]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("value", "unit", "truth"),
    [(2.2, "sec", 2.2), (800, "msec", 0.8), (1.0, "unknown", None), (0.0, "sec", None), (1.79, "unknown", 1.79), (1.0, "sec", 1)],
)  # fmt: skip
def test_tr_of_the_header(value, unit, truth):
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 2), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", unit)
    image.header.set_zooms((1, 1, 1, value))
    found = header_tr(image.header)
    assert np.isnan(found) if truth is None else found == truth


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_image_is_never_held_twice(tmp_path, save, rng, suffix):
    """4-D 30 x 30 x 20 x 160 as float32 is 11.5 MB; the mask holds half of it."""
    shape, n = (30, 30, 20), 160
    path = save(tmp_path / f"a{suffix}", rng.integers(0, 999, (*shape, n)), dtype=np.int16)
    mask = np.zeros(shape, bool)
    mask[:15] = True
    volume, matrix = int(np.prod(shape)) * 8, int(mask.sum()) * n * 4
    read_masked(open_image(path), mask)  # imports
    tracemalloc.start()
    read_masked(open_image(path), mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.15 * matrix + 4 * volume
