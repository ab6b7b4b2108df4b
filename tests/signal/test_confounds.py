import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.signal.confounds import MOTION, fit_rows, framewise_displacement, read_confounds, select


@pytest.fixture
def motion(rng):
    return np.cumsum(rng.standard_normal((20, 6)) * [0.1, 0.1, 0.1, 0.002, 0.002, 0.002], axis=0)


@pytest.fixture
def fmriprep(tmp_path, motion, rng):
    table = pd.DataFrame(motion, columns=list(MOTION))
    for name in MOTION:
        table[f"{name}_derivative1"] = table[name].diff()
    table["std_dvars"] = [np.nan, *np.ones(19)]
    for index in range(9):
        table[f"a_comp_cor_{index:02d}"] = rng.standard_normal(20)
    table["motion_outlier00"] = np.eye(20)[5]
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    masks = {f"a_comp_cor_{i:02d}": {"Mask": "CSF" if i < 2 else "combined"} for i in range(9)}
    path.with_suffix(".json").write_text(json.dumps(masks))
    return path


def said(call, *parts):
    with pytest.raises(InputError) as error:
        call()
    for part in parts:
        assert part in str(error.value), str(error.value)


def test_conventions_of_motion_files_agree(tmp_path, motion):
    np.savetxt(tmp_path / "rp_bold.txt", motion)
    np.savetxt(tmp_path / "bold_mc.par", motion[:, [3, 4, 5, 0, 1, 2]])
    np.savetxt(tmp_path / "bold_moest.txt", motion[:, [3, 4, 5, 0, 1, 2]])
    spm, fsl, moest = (read_confounds(tmp_path / name) for name in ("rp_bold.txt", "bold_mc.par", "bold_moest.txt"))
    assert (spm.kind, fsl.kind, moest.kind) == ("spm", "fsl", "fsl")
    for other in (fsl, moest):
        assert np.allclose(spm.table[list(MOTION)], other.table[list(MOTION)])
    assert np.allclose(framewise_displacement(spm), framewise_displacement(fsl))


def test_framewise_displacement_by_hand(tmp_path):
    rows = [[0, 0, 0, 0, 0, 0], [1, -2, 0, 0.01, 0, -0.02], [1, -2, 0, 0.01, 0, -0.02]]
    np.savetxt(tmp_path / "rp_a.txt", rows)
    displacement = framewise_displacement(read_confounds(tmp_path / "rp_a.txt"))
    assert np.allclose(displacement, [0, 1 + 2 + 50 * 0.01 + 50 * 0.02, 0])
    # The mutation: SPM's file read in FSL's order takes millimetres for radians.
    np.savetxt(tmp_path / "a.par", rows)
    assert framewise_displacement(read_confounds(tmp_path / "a.par"))[1] > 100


def test_motion24_is_friston(fmriprep, motion):
    columns = select(read_confounds(fmriprep), ("motion24",))
    assert columns.shape == (20, 24)
    change = np.vstack([motion[1] - motion[0], np.diff(motion, axis=0)])
    truth = np.hstack([motion, change, motion**2, change**2])
    assert np.allclose(columns.to_numpy(), truth)


def test_compcor_takes_the_combined_mask(fmriprep):
    names = list(select(read_confounds(fmriprep), ("compcor",)).columns)
    assert names == [f"a_comp_cor_{i:02d}" for i in range(2, 8)]
    fmriprep.with_suffix(".json").unlink()
    assert next(iter(select(read_confounds(fmriprep), ("compcor",)).columns)) == "a_comp_cor_00"
    fmriprep.with_suffix(".json").write_text("{")
    said(lambda: read_confounds(fmriprep), "JSON", "timeseries.json")


def test_scrub_takes_fmripreps_outliers_or_the_displacement(fmriprep, tmp_path, motion):
    assert list(select(read_confounds(fmriprep), ("scrub",)).columns) == ["motion_outlier00"]
    jump = motion.copy()
    jump[7:, 0] += 2
    np.savetxt(tmp_path / "rp_a.txt", jump)
    confounds = read_confounds(tmp_path / "rp_a.txt")
    spikes = select(confounds, ("scrub",))
    assert np.flatnonzero(spikes["scrub_7"]) == 7
    assert spikes.shape[1] == (framewise_displacement(confounds) > 0.5).sum()


def test_names_first_rows_and_drops(fmriprep):
    confounds = read_confounds(fmriprep)
    columns = select(confounds, ("trans_x", "trans_x_derivative1", "motion6"), drop=3)
    assert columns.shape == (17, 7)
    said(lambda: select(confounds, ("trans_xx",)), "'trans_xx'", "Did you mean 'trans_x", str(fmriprep))
    confounds.table.loc[4, "rot_z"] = np.nan
    said(lambda: select(confounds, ("motion6",)), "rot_z", "row 6")


def test_rows_must_fit_the_volumes(fmriprep):
    confounds = read_confounds(fmriprep)
    assert fit_rows(confounds, 20, 10)[1] == 0
    shorter, left_out = fit_rows(confounds, 10, 10)
    assert left_out == 10
    assert np.allclose(shorter.table["trans_x"], confounds.table["trans_x"][10:])
    said(lambda: fit_rows(confounds, 12, 10), "12 rows", "20", str(fmriprep))
    said(lambda: fit_rows(confounds, 25, 0), "25 rows")


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("rp_a.txt", "1 2 3 4 5 6\n1 2 3 4 5 x\n", ["line 2", "x"]),
        ("rp_a.txt", "1 2 3 4 5\n", ["six columns", "5 columns"]),
        ("rp_a.txt", "1 2 3 4 5 6\n1 2\n", ["2 values in line 2"]),
        ("rp_a.txt", "", ["empty"]),
        ("motion.txt", "1 2 3 4 5 6\n", ["FSL", "SPM", "Rename"]),
        ("a.tsv", "trans_x\n1\nfoo\n", ["'foo' in row 3", "trans_x"]),
    ],
)
def test_what_is_no_table_is_said(tmp_path, name, text, parts):
    (tmp_path / name).write_text(text)
    said(lambda: read_confounds(tmp_path / name), *parts, name)
    said(lambda: read_confounds(tmp_path / "no" / name), "no such file" if "motion" not in name else "FSL")


@given(st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused_in_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("motion") / "rp_a.txt"
    path.write_bytes(content)
    try:
        read_confounds(path)
    except InputError as error:
        assert "rp_a.txt" in str(error)
