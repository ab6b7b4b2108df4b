from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from decoders.data.manifest import Run
from decoders.signal.quality import COLUMNS, TsnrMap, carpet, decodable_subjects, quality_row
from decoders.store.recording import Recording
from decoders.store.tables import write_table


@pytest.fixture
def recording(rng, affine):
    mask = rng.random((4, 3, 2)) > 0.4
    data = rng.standard_normal((9, mask.sum())).astype(np.float32)
    quality = {"tsnr": np.full(mask.sum(), 50.0, np.float32), "framewise_displacement": np.array([0, *[0.2] * 7, 1.0])}
    steps = [{"step": "warning", "why": "odd"}, {"step": "features", "why": "", "n_bad": 3}]
    return Recording(data, "volume", "01", mask=mask, affine=affine, quality=quality, steps=steps, tr=2.0)


def test_a_row_holds_the_columns(recording):
    row = quality_row(Run("r", "01", task="x"), recording)
    assert tuple(row) == COLUMNS
    assert row["fd_mean"] == pytest.approx(0.3)
    assert row["fd_max"] == 1.0
    assert row["tsnr_median"] == 50
    assert row["n_bad"] == 3
    assert row["warnings"] == "odd"
    assert row["excluded"] is None
    assert row["session"] is None


def test_an_excluded_run_has_a_row(recording):
    empty = Recording(np.zeros((0, 0), np.float32), "volume", "01", excluded="constant")
    row = quality_row(Run("r", "01"), empty)
    assert row["excluded"] == "constant"
    assert row["n_features"] == 0
    assert row["tsnr_median"] is None


def test_carpet_is_small_and_standardized(rng):
    data = rng.standard_normal((30, 1007)).astype(np.float32)
    picture = carpet(data)
    assert picture.shape == (200, 30)
    assert picture.dtype == np.float16
    assert np.abs(picture.astype(float).std(axis=1) - 1).max() < 0.01
    first = data[:, :6].mean(axis=1)
    assert np.corrcoef(picture[0], first)[0, 1] > 0.999
    assert carpet(data[:, :5]).shape == (5, 30)
    assert (carpet(np.ones((4, 3), np.float32)) == 0).all()


def test_tsnr_maps_are_means_over_the_runs_that_have_the_voxel(recording, affine):
    found = TsnrMap()
    found.add(recording)
    smaller = recording.mask.copy()
    place = tuple(np.argwhere(smaller)[0])
    smaller[place] = False
    found.add(replace(recording, mask=smaller, quality={"tsnr": np.full(smaller.sum(), 100.0, np.float32)}))
    found.add(replace(recording, affine=affine * 3))
    arrays = found.arrays("01")
    values = arrays["tsnr/01"].values
    assert values[place] == 50
    assert (values[smaller] == 75).all()
    assert np.isnan(values[~recording.mask]).all()
    assert found.n_left_out == 1
    assert (arrays["tsnr_mask/01"].values == recording.mask).all()
    assert np.array_equal(arrays["tsnr_affine/01"].values, affine)


def test_tsnr_of_regions_is_matched_by_name():
    found = TsnrMap()
    for names, values in ((["a", "b"], [10, 20]), (["b", "c"], [40, 50])):
        data = np.zeros((2, 2), np.float32)
        quality = {"tsnr": np.array(values, np.float32)}
        found.add(Recording(data, "region", "1", names=np.array(names, object), quality=quality))
    arrays = found.arrays("1")
    assert arrays["tsnr/1"].values.tolist() == [10, 30, 50]
    assert arrays["tsnr_names/1"].values.tolist() == ["a", "b", "c"]


def test_subjects_whom_exclusions_cost_too_many_runs_drop_out(tmp_path):
    rows = [("1", "x", None)] * 3 + [("2", "x", None)] * 2 + [("2", "x", "flat"), ("3", "x", "flat")]
    rows += [("4", "x", None)] * 2 + [("5", "y", None)]
    columns = ["subject", "task", "excluded"]
    runs = pd.DataFrame(rows, columns=columns).assign(kind="volume")
    sensed = pd.DataFrame([("3", "x", None)] * 3, columns=columns).assign(kind="sensor")
    write_table(tmp_path / "q.tsv", pd.concat([runs, sensed]))
    assert decodable_subjects(tmp_path / "q.tsv", "x", 3, sensors=True) == ["3"]
    assert decodable_subjects(tmp_path / "q.tsv", "x", 3) == ["1", "4"]
    assert decodable_subjects(tmp_path / "q.tsv", "x", 2) == ["1", "2", "4"]
    assert decodable_subjects(tmp_path / "q.tsv", None, 1) == ["1", "2", "4", "5"]
    write_table(tmp_path / "n.tsv", pd.DataFrame([("1", None, None)], columns=columns).assign(kind="region"))
    assert decodable_subjects(tmp_path / "n.tsv", None, 3) == ["1"]
