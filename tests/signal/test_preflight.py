import json
from dataclasses import replace

import numpy as np
import pytest

from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.preflight import (
    Grid,
    check_duplicates,
    check_enough,
    check_grid,
    check_n_volumes,
    judge_features,
    read_sidecar,
    resolve_tr,
    same_grid,
    sidecar_seconds,
)

NAN = float("nan")


def said(call, *parts):
    with pytest.raises(InputError) as error:
        call()
    for part in parts:
        assert part in str(error.value), str(error.value)


def test_a_mask_with_another_affine_is_refused_with_both_printed(affine):
    moved = affine.copy()
    moved[0, 3] += 3
    image, mask = Grid((7, 6, 5), affine, "bold.nii.gz"), Grid((7, 6, 5), moved, "mask.nii.gz")
    said(lambda: check_grid(image, mask, "mask"), "mask.nii.gz", "bold.nii.gz", "3 0 0 -20", "3 0 0 -17", "Resample")


def test_another_orientation_and_shape_are_printed(affine):
    flipped = affine @ np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = -2
    said(
        lambda: check_grid(Grid((7, 6, 5), affine, "a"), Grid((7, 6, 5), flipped, "b"), "mask"),
        "orientation RAS", "orientation LAS",
    )  # fmt: skip
    said(
        lambda: check_grid(Grid((7, 6, 5), affine, "a"), Grid((7, 6, 6), affine, "b"), "mask"), "(7, 6, 5)", "(7, 6, 6)"
    )


def test_rounding_of_the_affine_is_no_difference(affine):
    nearly = affine + 1e-4
    nearly[3] = affine[3]
    assert same_grid(Grid((7, 6, 5), affine, ""), Grid((7, 6, 5), nearly, ""))
    # A rotation that is small per element moves the far corner of a large image.
    turned = affine.copy()
    turned[0, 1] = 1e-3
    assert not same_grid(Grid((100, 100, 50), affine, ""), Grid((100, 100, 50), turned, ""))


def test_tr_that_header_and_sidecar_disagree_about():
    statements = {"the header": 1.79, "the sidecar": 2.0, "the manifest": NAN}
    said(lambda: resolve_tr(statements, None, "bold.nii.gz"), "1.79 s in the header", "2 s in the sidecar", "data.tr")
    assert resolve_tr(statements, 2.0, "") == 2.0
    said(lambda: resolve_tr(statements, 1.5, "bold.nii.gz"), "1.5 s (data.tr)", "1.79 s", "2 s")


def test_tr_that_agrees_or_is_silent():
    assert resolve_tr({"the header": NAN, "the sidecar": 0.8}, None, "") == 0.8
    assert resolve_tr({"the header": 2.0004, "the sidecar": 2.0}, None, "") == 2.0004
    assert resolve_tr({"the header": NAN}, 1.5, "") == 1.5
    said(lambda: resolve_tr({"the header": NAN, "the sidecar": 0.0}, None, "x"), "none", "data.tr")
    said(lambda: resolve_tr({"the header": 2.0, "the sidecar": 2.0}, 2.5, "x"), "2.5 s (data.tr)", "2 s in the header")


def test_sidecars(tmp_path):
    path = tmp_path / "bold.json"
    said(lambda: read_sidecar(path), "no such file", "RepetitionTime", str(path))
    for text in ("{", "[1]", "\x00", "[" * 100_000):
        path.write_text(text)
        said(lambda: read_sidecar(path), "JSON", str(path))
    path.write_text(json.dumps({"RepetitionTime": 2000}))
    said(lambda: sidecar_seconds(read_sidecar(path), "RepetitionTime", path), "2000", "seconds", str(path))
    for wrong in ("2.0", True, -1, [2]):
        said(lambda wrong=wrong: sidecar_seconds({"RepetitionTime": wrong}, "RepetitionTime", path), "seconds")
    assert np.isnan(sidecar_seconds({}, "RepetitionTime", path))


def test_volumes_of_the_manifest():
    run = Run("r", "01", image="bold.nii.gz", n_volumes=100)
    check_n_volumes(run, 100)
    check_n_volumes(replace(run, n_volumes=NAN), 7)
    said(lambda: check_n_volumes(run, 99), "100 volumes", "99", "bold.nii.gz")
    said(lambda: check_enough(10, 8, "bold.nii.gz"), "at least 3 volumes after dropping 8", "10 in all")


def test_duplicated_runs_are_named():
    runs = [Run(f"r{i}", "01", image=f"{i}.nii", sha256=str(i) * 64) for i in range(3)]
    check_duplicates(runs[0], runs)
    copied = replace(runs[2], sha256=runs[0].sha256)
    said(lambda: check_duplicates(runs[0], [*runs[:2], copied]), "same bytes in r2", "0.nii", "copy")
    check_duplicates(runs[0], [*runs[:2], replace(copied, status="excluded")])
    check_duplicates(replace(runs[0], sha256=""), [runs[1], replace(runs[2], sha256="")])


def test_bad_features():
    none, one, all_ = np.zeros(100, bool), np.arange(100) == 3, np.ones(100, bool)
    assert judge_features(none, none, 0.05, "voxels", "x").warning == ""
    verdict = judge_features(one, np.arange(100) == 4, 0.05, "voxels", "x")
    assert verdict.keep.sum() == 98
    assert "1 of 100 voxels are not finite, 1 are constant" in verdict.warning
    assert "all 100 voxels" in judge_features(none, all_, 0.05, "voxels", "x").excluded
    said(
        lambda: judge_features(np.arange(100) < 6, none, 0.05, "voxels", "bold.nii"),
        "bold.nii", "at most 5.0% bad voxels", "6.0%", "max_bad_share",
    )  # fmt: skip
    assert judge_features(np.arange(100) < 12, none, 0.05, "vertices", "x", spared=0.1).warning
