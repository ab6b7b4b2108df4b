"""Every file of the mirror's MEG folder: read, checked and processed, or refused with the right reason."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from decoders.config import DataSettings, PreprocessSettings
from decoders.config.meg import MegSettings
from decoders.data.stage import list_runs
from decoders.errors import InputError
from decoders.signal.meg import prepare_sensor_run
from decoders.signal.meg_evoked import (
    contrast_strength,
    field_strength,
    peak,
    rdms_over_time,
    read_averages,
    read_covariance,
    separation,
    whitened,
)
from decoders.signal.steps import parameter_of, warnings_of

pytestmark = pytest.mark.mirror
SHORT = MegSettings(high_pass_hz=None, notch=False)
AUDITORY, VISUAL = ("Left Auditory", "Right Auditory"), ("Left visual", "Right visual")

# file: channels, samples and rate that are kept, dimensions, Maxwell filter, what is said, length that the default needs
RAWS = {
    "141027_cropped_90Hz_raw.fif": (306, 900, 90.0, 73, "sss", "around the centre of the helmet", "33 s"),
    "MQKIT_125_2sec.con": (125, 400, 200.0, 125, "none", "no events.tsv (0 triggers in STI 014)", "39.6 s"),
    "sample_audvis_trunc_raw_sss.fif": (306, 301, 300.307, None, "none", "300.307 samples per second are kept", "33 s"),
    "somMDYO-18av.ds_raw.fif": (151, 105, 208.333, 144, "none", "208.333 samples per second are kept", "33 s"),
    "test_move_anon_erm_raw.fif": (306, 201, 200.0, 73, "sss", "around the centre of the helmet", "33 s"),
    "testdata_ctf_short_discontinuous.ds_raw.fif": (273, 401, 200.0, 273, "none", "no events.tsv", "39.6 s"),
}
OTHERS = {"test-ave.fif.gz", "test_elekta-ave.fif", "test-cov.fif", "test-eve.fif"}


@pytest.fixture
def folder(mirror) -> Path:
    return mirror / "meg_mne_testdata"


def test_the_table_is_the_folder(folder):
    assert {path.name for path in folder.iterdir()} == {*RAWS, *OTHERS}


def _prepared(folder: Path, name: str, root: Path, settings: MegSettings):
    target = root / "sub-01" / "meg" / f"sub-01_task-a_meg{Path(name).suffix}"
    target.parent.mkdir(parents=True)
    target.symlink_to(folder / name)
    runs = list_runs(DataSettings(source="bids", root=str(root)))
    return prepare_sensor_run(runs[0], runs, PreprocessSettings(meg=settings))


@pytest.mark.parametrize("name", RAWS)
def test_raw_files_are_processed(folder, tmp_path, name):
    channels, samples, rate, rank, maxwell, said, _ = RAWS[name]
    found = _prepared(folder, name, tmp_path, SHORT)
    assert found.data.shape == (samples, channels)
    assert np.isfinite(found.data).all()
    assert found.sfreq == pytest.approx(rate, rel=1e-4)
    assert parameter_of(found.steps, "maxwell filter", "method") == maxwell
    assert any(said in text for text in warnings_of(found.steps))
    left = parameter_of(found.steps, "rank", "rank")
    assert left == rank if rank else 50 < left < 90
    W = np.diag(found.noise_covariance)
    assert (W > 0).all()


@pytest.mark.parametrize("name", RAWS)
def test_seconds_of_raw_are_too_short_for_the_default_high_pass(folder, tmp_path, name):
    with pytest.raises(InputError, match=rf"a run of at least {RAWS[name][-1]} for the high-pass and notch filters"):
        _prepared(folder, name, tmp_path, MegSettings(artefacts="none"))


@pytest.mark.parametrize("name", ["test-cov.fif", "test-eve.fif", "test_elekta-ave.fif"])
def test_files_that_hold_no_recording_are_refused(folder, tmp_path, name):
    with pytest.raises(InputError, match=r"a readable MEG or EEG recording, found"):
        _prepared(folder, name, tmp_path, SHORT)


def test_averages_and_covariance_are_read(folder):
    averages = read_averages(folder / "test_elekta-ave.fif")
    assert averages.data.shape == (7, 306, 351)
    assert averages.n_trials == [26, 5, 7, 17, 197, 254, 19]
    sample = read_averages(folder / "test-ave.fif.gz")
    assert sample.conditions == [*AUDITORY, *VISUAL]
    covariance = read_covariance(folder / "test-cov.fif", sample.names)
    expected = mne.read_cov(folder / "test-cov.fif", verbose="ERROR")
    np.testing.assert_array_equal(
        np.diag(covariance), np.diag(expected.data)[[expected.ch_names.index(n) for n in sample.names]]
    )
    assert len(mne.read_events(folder / "test-eve.fif")) == 31
    with pytest.raises(InputError, match="averages in FIF"):
        read_averages(folder / "test-cov.fif")
    with pytest.raises(InputError, match=r"a covariance of these channels, found no MEG0111"):
        read_covariance(folder / "test-cov.fif", ["MEG0111"])


@pytest.mark.parametrize("kind", ["mag", "grad"])
def test_auditory_and_visual_conditions_separate_at_their_latencies(folder, kind):
    averages = read_averages(folder / "test-ave.fif.gz", (kind,), low_pass_hz=30.0)
    times, before = averages.times, averages.times < 0
    auditory, _ = field_strength(averages, (AUDITORY, VISUAL))
    # The N100m; the visual response comes later.
    assert 0.085 <= peak(auditory, times, (0.06, 0.15)) <= 0.1
    white = whitened(averages, read_covariance(folder / "test-cov.fif", averages.names), 60)
    apart = contrast_strength(white, AUDITORY, VISUAL)
    at_100 = apart[np.abs(times - 0.09) < 0.01].mean()
    assert at_100 > 2 * apart[before].mean()
    assert at_100 > 1.5 * apart[before].max()
    assert separation(white, AUDITORY, VISUAL)[np.abs(times - 0.09) < 0.01].mean() > 1.15
    assert np.abs(separation(white, AUDITORY, VISUAL)[before].mean() - 1) < 0.1
    # bug: groups of one auditory and one visual condition each do not separate
    mixed = contrast_strength(white, (AUDITORY[0], VISUAL[0]), (AUDITORY[1], VISUAL[1]))
    assert mixed[np.abs(times - 0.09) < 0.01].mean() < at_100


def test_the_rdm_over_time_is_the_distance_of_the_averages(folder):
    averages = read_averages(folder / "test-ave.fif.gz", ("mag",))
    rdms = rdms_over_time(averages)
    assert rdms.shape == (421, 6)
    moment = 210
    expected = ((averages.data[0, :, moment] - averages.data[2, :, moment]) ** 2).mean()
    assert rdms[moment, 1] == pytest.approx(expected)
