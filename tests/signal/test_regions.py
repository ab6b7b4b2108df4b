import numpy as np
import pandas as pd
import pytest

from decoders.errors import InputError
from decoders.signal import regions as module
from decoders.signal.masking import grid_of
from decoders.signal.regions import atlas_masks, label_masks, read_region_table, read_regions, roi_masks
from decoders.signal.steps import Steps, warnings_of
from decoders.signal.streaming import open_image


@pytest.fixture
def steps():
    return Steps("r")


@pytest.fixture
def image(tmp_path, save, rng):
    data = rng.standard_normal((4, 4, 4, 12)).astype(np.float32) + 50
    data[3, 3] = 0
    return open_image(save(tmp_path / "bold.nii.gz", data))


def said(call, *parts):
    with pytest.raises(InputError) as error:
        call()
    for part in parts:
        assert part in str(error.value), str(error.value)


def box(*slices):
    mask = np.zeros((4, 4, 4), bool)
    mask[slices] = True
    return mask


def test_region_means_overlap_and_bad_voxels(tmp_path, save, image, steps):
    parts = {"a": box(slice(0, 2)), "b": box(slice(1, 4), slice(0, 3)), "edge": box(3), "gone": box(3, 3)}
    rois = {name: str(save(tmp_path / f"{name}.nii", mask.astype(np.uint8))) for name, mask in parts.items()}
    series = read_regions(image, roi_masks(rois, grid_of(image)), 0.3, steps, drop=2)
    truth = np.asarray(__import__("nibabel").load(image.path).dataobj)[..., 2:]
    assert series.names.tolist() == ["a", "b", "edge"]
    assert series.n_bad == 1
    assert np.allclose(series.data[:, 0], truth[parts["a"]].mean(axis=0), atol=1e-4)
    assert np.allclose(series.data[:, 2], truth[3, :3].mean(axis=(0, 1)), atol=1e-4)
    said_so = warnings_of(steps.entries)
    assert "25.0% of the 16 voxels of the region edge" in said_so[0]
    assert "region gone is left out" in said_so[1]
    strict = read_regions(image, parts, 0.05, steps)
    assert strict.names.tolist() == ["a", "b"]
    assert "all regions" in read_regions(image, {"gone": parts["gone"]}, 0.05, steps).excluded


def test_labels_and_their_names(tmp_path, save, image):
    labels = np.zeros((4, 4, 4), np.int16)
    labels[0], labels[1] = 3, 12
    path = save(tmp_path / "atlas_dseg.nii.gz", labels)
    assert list(label_masks(path, grid_of(image))) == ["label_3", "label_12"]
    pd.DataFrame({"index": [3, 12], "name": ["V1", "hV4"]}).to_csv(tmp_path / "atlas_dseg.tsv", sep="\t", index=False)
    masks = label_masks(path, grid_of(image))
    assert list(masks) == ["V1", "hV4"]
    assert (masks["hV4"] == (labels == 12)).all()
    said(lambda: label_masks(save(tmp_path / "p.nii", labels / 7), grid_of(image)), "whole numbers", "p.nii")
    said(lambda: label_masks(save(tmp_path / "q.nii", labels[:3]), grid_of(image)), "(4, 4, 4)", "(3, 4, 4)")


def test_an_mni_atlas_needs_an_mni_run(image, steps):
    grid = grid_of(image)
    said(lambda: atlas_masks("aal", grid, "", steps), "native", "fMRIPrep-style derivatives")
    said(lambda: atlas_masks("all", grid, "MNI152NLin6Asym", steps), "'all'", "aal")


def test_an_atlas_is_brought_to_the_run_by_nearest_label(tmp_path, save, image, steps, monkeypatch, affine):
    from types import SimpleNamespace

    import nilearn.datasets

    fine = affine @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] -= 0.1
    labels = np.repeat(np.arange(8), 64).reshape(8, 8, 8).astype(np.int16)
    path = save(tmp_path / "aal.nii", labels, affine=fine)
    lut = pd.DataFrame({"index": range(8), "name": ["out", *"abcdefg"]})
    monkeypatch.setattr(nilearn.datasets, "fetch_atlas_aal", lambda **_: SimpleNamespace(maps=str(path), lut=lut))
    masks = atlas_masks("aal", grid_of(image), "MNI152NLin6Asym", steps)
    assert list(masks) == ["b", "d", "f"]
    assert masks["d"][2].all()
    assert masks["d"].sum() == 16
    assert steps.entries[0]["step"] == "atlas"
    assert module.ATLASES["aal"][1]["version"] == "SPM12"


def test_tables_of_region_time_courses(tmp_path, rng, steps):
    values = rng.standard_normal((9, 3))
    np.savetxt(tmp_path / "plain.txt", values)
    values = np.loadtxt(tmp_path / "plain.txt")
    series = read_region_table(tmp_path / "plain.txt", "A, B,C", steps, drop=1)
    assert series.names.tolist() == ["A", "B", "C"]
    assert np.allclose(series.data, values[1:])
    assert series.n_file == 9
    (tmp_path / "named.tsv").write_text("V1\tIT\n1\t2\n2\t3\n3\t1\n")
    assert read_region_table(tmp_path / "named.tsv", "", steps).names.tolist() == ["V1", "IT"]
    assert not warnings_of(steps.entries)
    unnamed = read_region_table(tmp_path / "plain.txt", "", steps)
    assert unnamed.names[2] == "region_3"
    assert "names no regions" in warnings_of(steps.entries)[0]
    said(lambda: read_region_table(tmp_path / "plain.txt", "A,B", steps), "2 columns (A, B)", "3")
    said(lambda: read_region_table(tmp_path / "none.txt", "", steps), "no such file")


def test_a_constant_region_is_named_and_a_constant_subject_excluded(tmp_path, rng, steps):
    values = rng.standard_normal((9, 3))
    values[:, 1], values[4, 2] = 7, np.nan
    np.savetxt(tmp_path / "a.txt", values)
    series = read_region_table(tmp_path / "a.txt", "A,B,C", steps)
    assert series.names.tolist() == ["A"]
    assert series.n_bad == 2
    assert not series.excluded
    assert "B, C" in warnings_of(steps.entries)[0]
    np.savetxt(tmp_path / "a.txt", np.zeros((9, 3)))
    assert "A, B, C" in read_region_table(tmp_path / "a.txt", "A,B,C", steps).excluded
