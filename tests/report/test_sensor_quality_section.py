"""Runs of sensors on the page of quality, beside those of fMRI."""

import numpy as np
import pandas as pd
import pytest
from made_up_meg_results import MegResults

from decoders.report.read import read_results
from decoders.report.sections import quality
from decoders.report.sections.sensor_quality import of_sensors, sensor_blocks, without_sensors


@pytest.fixture(scope="module")
def results(tools, tmp_path_factory):
    study = tools.Study(tmp_path_factory.mktemp("quality"))
    study.manifest()
    MegResults(study).quality()
    return read_results(tools.job_of(study, tools.settings()).settings, study.inputs)


@pytest.fixture
def mixed(results):
    row = {"run_id": "sub-01_task-pictures_run-01", "subject": "01", "kind": "volume", "n_volumes": 120, "tr": 2.0}
    return pd.concat([results.tables["quality"], pd.DataFrame([row | {"tsnr_median": 60.0}])], ignore_index=True)


def test_runs_of_sensors_are_told_from_those_of_fmri(mixed):
    assert of_sensors(mixed).tolist() == [True, True, False]
    imaging = without_sensors(mixed)
    assert imaging["run_id"].tolist() == ["sub-01_task-pictures_run-01"]
    assert "n_eye" not in imaging
    assert "tsnr_median" in imaging
    # An excluded run of sensors has no rate: its name says what it is.
    assert of_sensors(mixed.assign(sfreq=np.nan)).tolist() == [True, True, False]


def test_sensors_have_a_table_and_figures_without_the_columns_of_fmri(results, mixed):
    table, dots, power, spectra, artefacts = sensor_blocks(mixed, results.first("series"))
    assert "tr" not in table.data.columns
    assert table.data.columns[:3] == ("run_id", "subject", "session")
    assert len(table.data.rows) == 2
    assert [label for label, _ in dots.drawings][:2] == ["bad channels", "trials rejected"]
    assert len(power.data.rows) == 2
    assert [label for label, _ in spectra.drawings] == ["gradiometers", "magnetometers"]
    assert len(artefacts.drawings) == 2


def test_spectra_are_the_numbers_of_the_arrays_without_zero_hertz(results, mixed):
    spectra = sensor_blocks(mixed, results.first("series"))[3]
    run, kind, frequency, level = spectra.data.rows[0]
    assert (kind, frequency) == ("grad", 0.25)
    stored = results.first("series")[f"spectrum/{run}"][0, 1]
    assert level == pytest.approx(np.log10(stored))
    assert all(np.isfinite(row[3]) for row in spectra.data.rows)


def test_a_study_without_sensors_has_none_of_it(results):
    assert sensor_blocks(results.tables["quality"].iloc[:0], results.first("series")) == []
    plain = pd.DataFrame([{"run_id": "sub-01_task-rest", "subject": "01", "kind": "volume"}])
    assert sensor_blocks(plain, None) == []
    assert without_sensors(plain).equals(plain)


def test_a_study_of_sensors_alone_has_no_table_of_fmri(results):
    found = [block.key for part in quality.section(results).parts for block in part.blocks if hasattr(block, "key")]
    assert found == ["sensor-quality", "sensor-dots", "sensor-power", "sensor-spectra", "artefacts"]


def test_tables_without_arrays_and_arrays_without_artefacts_are_enough(results, mixed):
    from decoders.store.arrays import Arrays

    table, dots, *others = sensor_blocks(mixed, None)
    assert len(table.data.rows) == 2
    assert dots is not None
    assert others == [None] * 3
    series = results.first("series")
    kept = {name: array for name, array in series.arrays.items() if not name.startswith("artefacts/")}
    assert sensor_blocks(mixed, Arrays(kept, series.attributes))[-1] is None
