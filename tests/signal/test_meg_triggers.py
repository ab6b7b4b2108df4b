"""Events against the stimulus channel: what was planted wrong is found, with its numbers."""

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.meg_triggers import check_triggers, match_triggers, read_triggers, usual_offset
from decoders.signal.steps import Steps, parameter_of, warnings_of

SFREQ = 1000.0


def recording(triggers, seconds=60.0, name="STI101"):
    stim = np.zeros((1, round(seconds * SFREQ)))
    for at in triggers:
        stim[0, round(at * SFREQ) : round(at * SFREQ) + 5] = 4
    return mne.io.RawArray(stim, mne.create_info([name], SFREQ, "stim"), verbose="ERROR")


def run_with(folder: Path, onset, duration=0.3, kind="tone", text=""):
    table = pd.DataFrame({"onset": np.atleast_1d(onset), "duration": duration, "trial_type": kind})
    table.to_csv(folder / "events.tsv", sep="\t", index=False)
    return Run(
        "sub-01_task-a_meg", "01", modality="meg", root=str(folder), image="a.fif", events="events.tsv", text=text
    )


def checked(raw, run, settings=None):
    steps = Steps(run.run_id)
    return check_triggers(raw, run, settings or MegSettings(), steps), steps.entries


ONSETS = np.arange(2.0, 52.0, 1.37)


def test_events_and_triggers_that_agree(tmp_path):
    shift, steps = checked(recording(ONSETS), run_with(tmp_path, ONSETS))
    assert shift == 0
    assert not warnings_of(steps)
    assert parameter_of(steps, "triggers", "n_triggers") == ONSETS.size
    assert parameter_of(steps, "triggers", "offset_ms") == pytest.approx(0, abs=0.6)


def test_missing_extra_doubled_and_jitter_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    jitter = rng.normal(0, 0.004, ONSETS.size)
    triggers = np.sort(
        np.concatenate([(ONSETS - 0.033 + jitter)[2:], [51.9], ONSETS[10:11] - 0.033 + jitter[10] + 0.012])
    )
    _, steps = checked(recording(triggers), run_with(tmp_path, ONSETS))
    found = {key: parameter_of(steps, "triggers", key) for key in ("missing", "extra", "doubled")}
    assert found == {"missing": 2, "extra": 1, "doubled": 1}
    assert parameter_of(steps, "triggers", "offset_ms") == pytest.approx(33, abs=3)
    assert parameter_of(steps, "triggers", "jitter_ms") == pytest.approx(jitter[2:].std() * 1000, rel=0.25)
    said = " ".join(warnings_of(steps))
    for sentence in ("2 events have no trigger", "1 triggers have no event", "1 triggers are doubled"):
        assert sentence in said
    # bug: without the usual offset no event would be within a few milliseconds of its trigger
    assert np.abs(ONSETS[2:] - triggers[: ONSETS.size - 2]).min() > 0.015


def test_no_triggers_at_all_is_a_sentence(tmp_path):
    _, steps = checked(recording([]), run_with(tmp_path, ONSETS))
    assert warnings_of(steps) == ["the stimulus channel STI101 has no triggers: events.tsv cannot be checked"]


def test_no_stimulus_channel_is_said(tmp_path):
    raw = mne.io.RawArray(np.zeros((1, 60000)), mne.create_info(["MISC1"], SFREQ, "misc"), verbose="ERROR")
    _, steps = checked(raw, run_with(tmp_path, ONSETS))
    assert "no stimulus channel" in next(step["why"] for step in steps if step["step"] == "triggers")


def test_no_events_table_is_said(tmp_path):
    run = Run("sub-01_task-a_meg", "01", modality="meg", root=str(tmp_path), image="a.fif")
    _, steps = checked(recording(ONSETS), run)
    assert warnings_of(steps) == [f"no events.tsv ({ONSETS.size} triggers in STI101)"]


def test_triggers_of_something_else_are_said(tmp_path):
    _, steps = checked(recording(ONSETS[:4] + 3.9), run_with(tmp_path, np.arange(30.0, 55.0, 0.777)))
    assert any("fit no events" in text for text in warnings_of(steps))


def test_an_onset_that_is_really_the_end_is_shifted(tmp_path):
    # A story of 50 s in a run of 60 s; its only trigger, at 55 s, is the one at its end.
    run = run_with(tmp_path, 55.0, 50.0, "story")
    shift, steps = checked(recording([55.0]), run)
    assert shift == 50.0
    assert any(
        "is the end of the stimulus of 50 s" in text and "taken to be at 5 s" in text for text in warnings_of(steps)
    )
    with pytest.raises(InputError, match=r"the onset of the stimulus, found the onset at 55 s is the end"):
        checked(recording([55.0]), run, MegSettings(end_trigger="refuse"))
    # bug: a right onset must stay
    assert checked(recording([5.0]), run_with(tmp_path, 5.0, 50.0, "story"))[0] == 0


def test_the_duration_of_a_story_may_be_that_of_its_words(tmp_path):
    pd.DataFrame({"word": ["a", "b"], "onset": [0.0, 49.0], "duration": [0.5, 1.0]}).to_csv(
        tmp_path / "s_words.tsv", sep="\t"
    )
    shift, _ = checked(recording([55.0]), run_with(tmp_path, 55.0, 0.0, "story", "s_words.tsv"))
    assert shift == 50.0


def test_a_stimulus_that_outlasts_the_run_either_way_is_only_said(tmp_path):
    shift, steps = checked(recording([20.0]), run_with(tmp_path, 20.0, 50.0, "story"))
    assert shift == 0
    assert any("outlasts the recording, which ends at 60 s" in text for text in warnings_of(steps))


def test_events_after_the_run_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"events before the end of the run at 60 s, found the first at 100 s"):
        checked(recording([5.0]), run_with(tmp_path, [100.0, 110.0]))


def test_the_composite_channel_is_read(tmp_path):
    raw = recording(ONSETS, name="STI001").add_channels([recording(ONSETS[:3], name="STI101")])
    name, times = read_triggers(raw)
    assert name == "STI101"
    np.testing.assert_allclose(times, ONSETS[:3], atol=6e-4)


@given(
    offset=st.floats(-0.4, 0.4),
    lost=st.integers(0, 5),
    seed=st.integers(0, 100),
)
def test_any_constant_offset_is_found(offset, lost, seed):
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.uniform(1.0, 2.0, 30)) + 1
    triggers = np.delete(onsets - offset, rng.choice(30, lost, replace=False))
    assert usual_offset(onsets, triggers) == pytest.approx(offset, abs=1e-6)
    found = match_triggers(onsets, triggers)
    assert (found.missing, found.extra, found.doubled) == (lost, 0, 0)
    assert found.worst_ms < 0.01
