"""Alignment with text: planted features are found in windows of recordings, and only with the right lag."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from decoders.alignment.models import Stimuli, network_rows
from decoders.alignment.rdm import correlation_rdm, recorded_rdm
from decoders.alignment.stage_rdms import estimated_rdms
from decoders.alignment.text_windows import window_features, window_trials
from decoders.config import parse_settings
from decoders.stimuli.story_windows import pooled, story_windows
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.recording import Recording

TR, LAG, N_UNITS, N_VOXELS = 2.0, 6.0, 12, 30


@pytest.fixture(scope="module")
def story():
    """Words of two stories with features, and what a listener's voxels make of them 6 s later, with noise."""
    rng = np.random.default_rng(3)
    words = pd.concat(
        [pd.DataFrame({"stimulus": name, "onset": np.sort(rng.uniform(0, 400, 900)), "duration": 0.2, "word": "w"}) for name in "ab"],
        ignore_index=True,
    )  # fmt: skip
    features = rng.standard_normal((len(words), N_UNITS)).astype(np.float32)
    weights = rng.standard_normal((N_UNITS, N_VOXELS))
    recordings = []
    for name in "ab":
        mine = (words["stimulus"] == name).to_numpy()
        onsets, time = words["onset"].to_numpy()[mine], np.arange(0, 420, TR)
        heard = [(onsets >= t - LAG) & (onsets < t - LAG + TR) for t in time]
        signal = np.array([features[mine][h].mean(axis=0) if h.any() else np.zeros(N_UNITS) for h in heard]) @ weights
        data = (signal + 0.5 * rng.standard_normal(signal.shape)).astype(np.float32)
        recordings.append(Recording(data, "volume", "01", task="story", stimulus=name, time=time, tr=TR, run=name))
    return words, features, story_windows(words, 16, 4), recordings


def _found(story, lag):
    words, features, windows, recordings = story
    trials = [window_trials(recording, windows, lag) for recording in recordings]
    names = sorted({name for trial in trials for name in trial.conditions})
    patterns = np.concatenate([trial.data for trial in trials])
    conditions = [name for trial in trials for name in trial.conditions]
    rdm = recorded_rdm(patterns, conditions, ["1"] * len(conditions), "correlation", "sub-01", names)
    chosen = windows.set_index("name").loc[names].reset_index()
    model = pooled(chosen, words["stimulus"].tolist(), words["onset"].to_numpy(), features)
    return spearmanr(rdm, correlation_rdm(model)).statistic


def test_planted_features_are_found_with_the_right_lag_alone(story):
    assert _found(story, LAG) > 0.5
    # The named bug: no lag, or one that reads the answer to the window before.
    assert abs(_found(story, LAG + 20)) < 0.2
    assert _found(story, LAG - 6) < _found(story, LAG) - 0.1


def test_a_sample_is_the_mean_of_the_volumes_of_its_window(story):
    _, _, windows, recordings = story
    trial = window_trials(recordings[0], windows, LAG)
    first = windows[windows["stimulus"] == "a"].iloc[1]
    inside = (recordings[0].time >= first["onset"] + LAG) & (recordings[0].time < first["onset"] + LAG + 16)
    place = trial.conditions.tolist().index(first["name"])
    np.testing.assert_allclose(trial.data[place], recordings[0].data[inside].mean(axis=0), atol=1e-5)
    assert trial.axis == "trial"


def test_windows_beyond_the_end_of_a_recording_are_left_out(story):
    _, _, windows, recordings = story
    short = replace(recordings[0], data=recordings[0].data[:50], time=recordings[0].time[:50])
    trial = window_trials(short, windows, LAG)
    assert len(trial.conditions) == 4  # 16 s each, 20 s apart, of 100 s from 6 s on
    assert window_trials(replace(short, excluded="moved"), windows, LAG).excluded == "moved"


def test_a_subject_without_a_story_is_left_out_by_name(story):
    _, _, windows, recordings = story
    people = [*recordings, replace(recordings[0], subject="02")]
    block = {"recordings": "windows", "windows": {"seconds": 16, "gap_s": 4, "lag_s": LAG}}
    settings = _study(block).alignment
    collected = estimated_rdms([window_trials(r, windows, LAG) for r in people], settings, {})
    assert set(collected.rdms["all"]) == {"01"}
    assert "no pattern" in collected.excluded["02, all"] or "condition" in collected.excluded["02, all"]


def _study(alignment, **changes):
    study = {
        "study": "windows", "data": {"source": "phantom", "phantom": {"story_subjects": 2}}, "preprocess": {},
        "learning": {"rules": ["untrained"], "architectures": ["rnn"], "training": {"dataset": "text"}},
        "alignment": alignment, **changes,
    }  # fmt: skip
    return parse_settings(study, "test")


def test_settings_refuse_what_has_no_text():
    from decoders.errors import SettingsError

    told = {"recordings": "windows", "windows": {}}
    assert _study(told).alignment.windows.seconds == 20
    for alignment, changes, sentence in (
        ({"windows": {}}, {"preprocess": {"estimates": "lsa"}}, "need each other"),
        ({"recordings": "windows"}, {}, "need each other"),
        ({**told, "searchlight": {}}, {}, "needs trial estimates"),
        ({**told, "encoding": {}}, {}, "needs responses"),
        (told, {"preprocess": None}, "needs the block 'preprocess'"),
        (told, {"learning": {"rules": ["untrained"]}}, "networks that read"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            _study(alignment, **changes)


@pytest.fixture
def features_file(story, tmp_path):
    words, features, _, _ = story
    arrays = {"text/h1": Array(features, ("word", "unit")), "text/h2": Array(0 * features, ("word", "unit"))}
    for column in ("stimulus", "onset", "duration", "word"):
        arrays[f"words/{column}"] = Array(words[column].to_numpy(), ("word",))
    write_arrays(tmp_path / "features.h5", arrays, {"layers": ["h1", "h2"], "stimuli": ["a", "b"]})
    return tmp_path / "features.h5"


def test_networks_have_a_row_per_layer(story, features_file):
    words, features, windows, _ = story
    names = windows["name"].tolist()[::-1][:9]  # another order, and not all
    card = json.loads('{"rule": "backprop", "architecture": "rnn", "seed": 0}')
    rows = network_rows(features_file, card, Stimuli(names, windows), None)
    assert [row.name for row in rows] == ["backprop rnn h1 text", "backprop rnn h2 text"]
    chosen = windows.set_index("name").loc[names].reset_index()
    expected = correlation_rdm(pooled(chosen, words["stimulus"].tolist(), words["onset"].to_numpy(), features))
    np.testing.assert_allclose(rows[0].rdm, expected, atol=1e-10)
    assert "one value throughout" in rows[1].refused
    # As pictures, words are passed over; pictures are, as words.
    assert network_rows(features_file, card, Stimuli(names), None) == []
    assert window_features(read_arrays(features_file), windows, names).attributes["stimuli"] != names
