import numpy as np
import pytest

from decoders.errors import InputError
from decoders.signal.masking import NoBrainError, compute_mask, grid_of, read_mask
from decoders.signal.streaming import open_image


@pytest.fixture
def grid(tmp_path, save):
    return grid_of(open_image(save(tmp_path / "bold.nii", np.zeros((4, 4, 4, 3)))))


def test_reads_a_mask_of_any_one_value(tmp_path, save, grid, rng):
    values = rng.random((4, 4, 4)) > 0.5
    assert (read_mask(save(tmp_path / "m.nii.gz", values * 255, dtype=np.uint8), grid) == values).all()
    assert (read_mask(save(tmp_path / "m4.nii.gz", (values * 1.0)[..., None]), grid) == values).all()


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (np.zeros((4, 4, 4)), ["only zeros"]),
        (np.random.default_rng(0).random((4, 4, 4)), ["0 and one other value", "Threshold"]),
        (np.full((4, 4, 4), np.nan), ["0 and one other value"]),
        (np.ones((4, 4, 5)), ["(4, 4, 4)", "(4, 4, 5)", "bold.nii"]),
        (np.ones((4, 4, 4, 2)), ["3-D image", "(4, 4, 4, 2)"]),
    ],
)
def test_what_is_no_mask_is_said(tmp_path, save, grid, values, parts):
    path = save(tmp_path / "m.nii.gz", values)
    with pytest.raises(InputError) as error:
        read_mask(path, grid)
    for part in [*parts, str(path)]:
        assert part in str(error.value)


def test_a_truncated_mask_is_noticed(tmp_path, save, grid, rng):
    path = save(tmp_path / "m.nii.gz", rng.random((4, 4, 4)))
    path.write_bytes(path.read_bytes()[:-120])
    with pytest.raises(InputError, match="again"):
        read_mask(path, grid)


def test_a_computed_mask_finds_the_ball(tmp_path, save, rng):
    x, y, z = np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij")
    ball = x**2 + y**2 + z**2 < 80
    data = rng.normal(0, 20, (*ball.shape, 5)) + 30
    data[ball] += 1000
    mask = compute_mask(open_image(save(tmp_path / "bold.nii.gz", data.astype(np.float32))))
    assert (mask & ball).sum() / (mask | ball).sum() > 0.9


def test_no_brain_is_said(tmp_path, save):
    path = save(tmp_path / "bold.nii.gz", np.zeros((8, 8, 8, 4), np.float32))
    with pytest.raises(NoBrainError) as error:
        compute_mask(open_image(path))
    assert "brain" in str(error.value)
    assert "preprocess.mask" in str(error.value)
