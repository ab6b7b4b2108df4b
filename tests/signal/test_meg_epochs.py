"""Trials of sensors: cut where they should be, and only the good ones."""

from dataclasses import replace

import numpy as np
import pytest

from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.events import Events
from decoders.signal.meg_epochs import auto_threshold, epoch_run
from decoders.signal.steps import Steps, parameter_of, warnings_of
from decoders.signal.whitening import numerical_rank
from decoders.store.recording import Recording, read_recording, write_recording

RATE, N = 200.0, 8000
RUN = Run("sub-01_task-a_meg", "01", modality="meg")
SETTINGS = MegSettings(epoch_s=(-0.1, 0.4), baseline_s=(-0.1, 0.0))


def made(seed=0, offset=3e-12):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((N, 8)) * np.array([1e-13] * 4 + [1e-11] * 4) + offset
    return Recording(
        data=data.astype(np.float32), kind="sensor", subject="01", time=np.arange(N) / RATE, sfreq=RATE, unit="SI",
        names=np.array([f"MEG{i}" for i in range(8)], dtype=object), positions=np.zeros((8, 3)),
        channel_types=np.array(["mag"] * 4 + ["grad"] * 4, dtype=object), noise_covariance=np.eye(8) * 1e-26,
        groups=np.full(N, -1), conditions=np.full(N, "", dtype=object), quality={"bad": np.zeros(N, dtype=np.uint8)},
        steps=[{"step": "rank", "rank": 8}],
    )  # fmt: skip


def events(onset, kinds=None):
    onset = np.asarray(onset, dtype=float)
    kinds = kinds or ["cat", "dog"] * onset.size
    return Events(onset, np.full(onset.size, 0.3), np.array(kinds[: onset.size], dtype=object), True, "events.tsv")


ONSETS = np.arange(1.0, 38.0, 0.9)


def cut(recording, table, settings=SETTINGS):
    return epoch_run(recording, table, settings, RUN, Steps("x"))


def test_a_trial_is_what_lies_around_its_onset():
    recording = made()
    recording.data[[round(onset * RATE) + 20 for onset in ONSETS], 2] += 1e-12
    found = cut(recording, events(ONSETS), SETTINGS.model_copy(update={"reject": "none"}))
    assert found.data.shape == (ONSETS.size, 8, 101)
    np.testing.assert_allclose(found.epoch_time[[0, 20, -1]], [-0.1, 0.0, 0.4])
    mean = found.data.mean(axis=0)[2]
    assert found.epoch_time[mean.argmax()] == pytest.approx(0.1)
    np.testing.assert_allclose(found.data[:, :, :21].mean(axis=2), 0, atol=1e-17)
    assert found.conditions.tolist()[:3] == ["cat", "dog", "cat"]
    np.testing.assert_allclose(found.time, ONSETS)
    assert found.groups.tolist() == list(range(ONSETS.size))
    # bug: an onset that is off by a sample moves the peak
    late = cut(recording, events(ONSETS + 1 / RATE), SETTINGS.model_copy(update={"reject": "none"}))
    assert late.epoch_time[late.data.mean(axis=0)[2].argmax()] != pytest.approx(0.1)


def test_the_noise_is_that_of_the_baselines():
    found = cut(made(), events(ONSETS))
    np.testing.assert_allclose(np.sqrt(np.diag(found.noise_covariance)), [1e-13] * 4 + [1e-11] * 4, rtol=0.1)
    assert numerical_rank(found.noise_covariance) == parameter_of(found.steps, "rank", "rank") == 8
    kept = cut(made(), events(ONSETS), SETTINGS.model_copy(update={"noise": "run"}))
    np.testing.assert_array_equal(kept.noise_covariance, made().noise_covariance)


def test_outliers_are_rejected_by_a_threshold_from_the_data_or_a_given_one():
    recording = made()
    recording.data[round(ONSETS[5] * RATE) + 10, 1] += 1e-11
    found = cut(recording, events(ONSETS))
    assert 5 not in found.groups
    assert parameter_of(found.steps, "epochs", "n_rejected") == 1
    assert parameter_of(found.steps, "epochs", "rejected_by") == {"mag": 1, "grad": 0}
    fixed = SETTINGS.model_copy(update={"reject": "fixed", "reject_above": {"mag": 4e-12}})
    assert parameter_of(cut(recording, events(ONSETS), fixed).steps, "epochs", "thresholds") == {"mag": 4e-12}
    assert 5 in cut(recording, events(ONSETS), SETTINGS.model_copy(update={"reject": "none"})).groups


def test_the_threshold_spares_what_is_usual():
    sizes = np.exp(np.random.default_rng(0).normal(0, 0.2, 200))
    assert (sizes <= auto_threshold(sizes)).all()
    assert auto_threshold(np.ones(20)) == pytest.approx(2.0)


def test_events_outside_and_bad_spans_are_left_out_and_counted():
    recording = made()
    recording.quality["bad"][round(10.2 * RATE)] = 1
    found = cut(recording, events([0.05, *ONSETS, 39.9]))
    assert parameter_of(found.steps, "epochs", "n_outside") == 2
    assert parameter_of(found.steps, "epochs", "n_in_bad_spans") == 1
    assert len(found.data) == ONSETS.size - 1
    assert any(
        "2 of 44 events are left out: their epoch reaches beyond the run" in text for text in warnings_of(found.steps)
    )


def test_events_shorter_than_the_epoch_are_said():
    found = cut(made(), events(np.arange(1.0, 30.0, 0.25)))
    assert any("are shorter than the epoch: the next begins after 0.25 s" in text for text in warnings_of(found.steps))


def test_an_onset_that_was_the_end_is_shifted_here_too():
    recording = made()
    recording = replace(recording, steps=[*recording.steps, {"step": "triggers", "onset_shift_s": 10.0}])
    found = cut(recording, events(ONSETS[20:]))
    np.testing.assert_allclose(found.time, ONSETS[20:] - 10)
    expected = (
        made().data[round((ONSETS[20] - 10) * RATE), 0]
        - made().data[round((ONSETS[20] - 10) * RATE) - 20 :][:21, 0].mean()
    )
    assert found.data[0, 0, 20] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (events([100.0, 200.0]), "2 events, and no whole epoch inside the run of 40 s"),
        (events(ONSETS, [""] * 60), "events with a trial_type, found none"),
        (events(ONSETS, ["BAD_cough"] * 60), r"events with a trial_type that are not BAD_…"),
    ],
)
def test_events_that_give_no_trials_are_refused(table, sentence):
    with pytest.raises(InputError, match=sentence):
        cut(made(), table)


def test_a_run_whose_trials_are_all_rejected_is_excluded(tmp_path):
    fixed = SETTINGS.model_copy(update={"reject": "fixed", "reject_above": {"mag": 1e-16}})
    found = cut(made(), events(ONSETS), fixed)
    assert found.excluded == f"all {ONSETS.size} trials are rejected"
    write_recording(tmp_path / "a.h5", found)
    assert read_recording(tmp_path / "a.h5").excluded


def test_conditions_without_trials_are_said():
    recording = made()
    recording.quality["bad"][round(ONSETS[3] * RATE)] = 1
    kinds = ["cat"] * ONSETS.size
    kinds[3] = "dog"
    found = cut(recording, events(ONSETS, kinds))
    assert any("no trial is left of 1 conditions: dog" in text for text in warnings_of(found.steps))


def test_trials_survive_the_disk(tmp_path):
    found = cut(made(), events(ONSETS))
    write_recording(tmp_path / "a.h5", found)
    back = read_recording(tmp_path / "a.h5")
    np.testing.assert_array_equal(back.data, found.data)
    np.testing.assert_array_equal(back.epoch_time, found.epoch_time)
    assert back.steps == found.steps
