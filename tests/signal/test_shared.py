from dataclasses import replace

import numpy as np
import pytest

from decoders.errors import InputError
from decoders.signal.shared import share_features
from decoders.store.recording import Recording


def voxels(rng, mask, affine):
    data = rng.standard_normal((5, mask.sum())).astype(np.float32)
    return Recording(data, "volume", "01", mask=mask, affine=affine, quality={"tsnr": data[0]})


def test_voxels_are_matched_by_place(rng, affine):
    masks = [rng.random((4, 4, 4)) > 0.3 for _ in range(3)]
    recordings = [voxels(rng, mask, affine) for mask in masks]
    common = masks[0] & masks[1] & masks[2]
    for before, after in zip(recordings, share_features(recordings), strict=True):
        volume = np.full((5, 4, 4, 4), np.nan, np.float32)
        volume[:, before.mask] = before.data
        assert np.array_equal(after.data, volume[:, common])
        assert np.array_equal(after.quality["tsnr"], after.data[0])
        assert (after.mask == common).all()
    with pytest.raises(InputError, match="on the grid of"):
        share_features([recordings[0], replace(recordings[1], affine=affine * 2)])
    with pytest.raises(InputError, match="features that all runs share"):
        share_features([recordings[0], voxels(rng, ~masks[0], affine)])


def test_regions_are_matched_by_name(rng):
    one = Recording(
        np.arange(6, dtype=np.float32).reshape(2, 3), "region", "1", names=np.array(["a", "b", "c"], object)
    )
    two = Recording(np.arange(4, dtype=np.float32).reshape(2, 2), "region", "2", names=np.array(["c", "a"], object))
    first, second = share_features([one, two])
    assert first.names.tolist() == second.names.tolist() == ["a", "c"]
    assert first.data.tolist() == [[0, 2], [3, 5]]
    assert second.data.tolist() == [[1, 0], [3, 2]]
    assert share_features([one, one])[0] is one


def test_one_mask_on_two_grids_is_refused(rng, affine):
    mask = np.ones((4, 4, 4), bool)
    one = voxels(rng, mask, affine)
    with pytest.raises(InputError, match="on the grid of"):
        share_features([one, voxels(rng, mask, affine + np.diag([1.0, 0, 0, 0]))])
    with pytest.raises(InputError, match="voxels and others"):
        share_features(
            [one, Recording(np.ones((5, 3), np.float32), "region", "1", names=np.array(["a", "b", "c"], object))]
        )
