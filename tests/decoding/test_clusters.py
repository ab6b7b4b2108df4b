"""Clusters of a made-up map: their places, sizes and names."""

import nibabel as nib
import numpy as np
import pytest

from decoders.decoding.clusters import COLUMNS, clusters_above

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0]) + np.array([[0, 0, 0, -30], [0, 0, 0, -40], [0, 0, 0, -20], [0, 0, 0, 0]])


def image(sign=0.0):
    """Two blobs: 8 voxels with a peak of 5, 1 voxel of 3; not a number outside of the mask."""
    values = np.full((12, 12, 12), np.nan)
    values[1:11, 1:11, 1:11] = 0.5
    values[2:4, 2:4, 2:4] = 2.0
    values[2, 3, 2] = 5.0
    values[8, 8, 8] = 3.0
    return nib.Nifti1Image(values + sign, AFFINE)


@pytest.mark.parametrize("shift", [0.0, -10.0])
def test_clusters_lie_where_the_map_exceeds_the_cut_whatever_its_sign(shift):
    found = clusters_above(image(shift), "gate", 1.0 + shift)
    assert list(found.columns) == list(COLUMNS)
    assert found.volume_mm3.tolist() == [8 * 27, 27]
    np.testing.assert_allclose(found.peak, [5 + shift, 3 + shift])
    expected = nib.affines.apply_affine(AFFINE, [[2, 3, 2], [8, 8, 8]])
    np.testing.assert_allclose(found[["x_mm", "y_mm", "z_mm"]], expected)


def test_a_higher_cut_leaves_fewer():
    assert clusters_above(image(), "gate", 4.0).volume_mm3.tolist() == [27]
    assert not len(clusters_above(image(), "gate", 5.0))


def test_without_a_null_there_are_none():
    assert not len(clusters_above(image(), "gate", float("nan")))


def test_peaks_are_named_by_the_region_that_holds_them():
    mask = np.zeros((12, 12, 12), bool)
    mask[8, 8, 8] = True
    assert clusters_above(image(), "gate", 1.0, {"IT": mask}).region.tolist() == ["", "IT"]


def test_no_voxel_above_the_null_is_a_result(tmp_path):
    """The stage writes a table without rows, and says how many nulls it was."""
    from decoders.config import parse_settings
    from decoders.stage import SettingsSlice, run_stage
    from decoders.store.arrays import Array, write_arrays
    from decoders.store.images import write_map
    from decoders.store.tables import COLUMNS as TABLES
    from decoders.store.tables import read_table

    values = {"study": "x", "data": {"source": "bids", "root": "bids"}, "preprocess": {}, "decoding": {"voxels": {}}}
    study = parse_settings(values)
    mask = np.ones((4, 4, 4), bool)
    map_ = np.random.default_rng(0).normal(size=64).astype(np.float32)
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("gate", "encoding", "combined")}
    for path in paths.values():
        write_map(path, map_, mask, AFFINE, "z")

    def rows(cut):
        arrays = {"null/gate": Array(np.zeros((8, 64)), ("null", "voxel"))}
        write_arrays(tmp_path / "voxels.h5", arrays, {"null_maximum": dict.fromkeys(paths, cut)})
        inputs = {name: [path] for name, path in paths.items()} | {"arrays": [tmp_path / "voxels.h5"]}
        run_stage(SettingsSlice.of("clusters", study), inputs, {"clusters": tmp_path / "c.tsv"}, {"subject": "01"})
        return read_table(tmp_path / "c.tsv")

    none = rows(float(map_.max()))
    assert not len(none)
    assert set(TABLES["clusters"]) <= set(none)
    some = rows(float(np.sort(map_)[-3]))
    assert len(some)
    assert set(some.n_nulls) == {8}
