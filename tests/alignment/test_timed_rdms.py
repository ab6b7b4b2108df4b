"""RDMs over time: against rsatoolbox, sklearn and closed forms, and what is said of recordings that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_sensors import TIMES, helmet, rise_and_fall, sensor_trials
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from sklearn.covariance import ledoit_wolf

from decoders.alignment.timed import distances
from decoders.alignment.timed.distances import Cells, cells_of, crossnobis, pattern_generalisation, plain_distances
from decoders.alignment.timed.noise import (
    baseline_covariance,
    own_scale,
    rank_of,
    residual_covariance,
    shrunk_covariance,
    whitener_of,
)
from decoders.alignment.timed.trials import cells_in, join_trials
from decoders.config import parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import read_arrays
from decoders.store.recording import write_recording

N_CONDITIONS, N_FOLDS, N_CHANNELS, N_TIMES = 6, 3, 10, 5
NAMES = [f"p{number}" for number in range(4)]


def rng(seed=0):
    return np.random.default_rng(seed)


def trials(balanced=True, seed=0):
    draw = rng(seed)
    conditions = np.tile(np.repeat(np.arange(N_CONDITIONS), 4), N_FOLDS)
    folds = np.repeat(np.arange(N_FOLDS), N_CONDITIONS * 4)
    if not balanced:
        kept = draw.random(len(conditions)) > 0.3
        conditions, folds = conditions[kept], folds[kept]
    data = draw.standard_normal((len(conditions), N_CHANNELS, N_TIMES)).astype(np.float32)
    mixed = draw.standard_normal((N_CHANNELS, 2 * N_CHANNELS))
    return data, conditions, folds, mixed @ mixed.T / 20


def by_rsatoolbox(data, conditions, folds, precision, method="crossnobis"):
    found = []
    for values in np.moveaxis(data.astype(np.float64), 2, 0):
        one = Dataset(values, obs_descriptors={"condition": conditions, "fold": folds})
        more = {"cv_descriptor": "fold"} if method == "crossnobis" else {}
        found.append(calc_rdm(one, method=method, descriptor="condition", noise=precision, **more).dissimilarities[0])
    return np.array(found)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("at_once", [10**9, 100])
def test_crossnobis_is_that_of_rsatoolbox(monkeypatch, balanced, at_once):
    monkeypatch.setattr(distances, "_NUMBERS_AT_ONCE", at_once)
    data, conditions, folds, covariance = trials(balanced)
    cells = cells_of(conditions, folds, N_CONDITIONS, N_FOLDS)
    found = crossnobis(data, cells, whitener_of(covariance, None, "x"))
    expected = by_rsatoolbox(data, conditions, folds, np.linalg.inv(covariance))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_folds_that_are_not_left_out_are_noticed(monkeypatch):
    # Mutation: the sum of all folds in the place of the others.
    monkeypatch.setattr(distances, "_others", lambda means, counts: np.broadcast_to(means.mean(axis=0), means.shape))
    data, conditions, folds, covariance = trials(balanced=False)
    cells = cells_of(conditions, folds, N_CONDITIONS, N_FOLDS)
    found = crossnobis(data, cells, whitener_of(covariance, None, "x"))
    expected = by_rsatoolbox(data, conditions, folds, np.linalg.inv(covariance))
    assert np.abs(found - expected).max() > 0.01


@pytest.mark.parametrize("method", ["mahalanobis", "euclidean", "correlation"])
def test_plain_distances_are_those_of_rsatoolbox(method):
    data, conditions, folds, covariance = trials(balanced=False)
    cells = cells_of(conditions, folds, N_CONDITIONS, N_FOLDS)
    white = whitener_of(covariance, None, "x") if method == "mahalanobis" else own_scale(covariance)
    noise = np.linalg.inv(covariance) if method == "mahalanobis" else None
    scaled = data if method == "mahalanobis" else data / np.sqrt(np.diag(covariance))[:, None]
    expected = by_rsatoolbox(scaled, conditions, folds, noise, method)
    np.testing.assert_allclose(plain_distances(data, cells, white, method), expected, rtol=0, atol=1e-6)


def test_generalisation_has_the_mean_crossnobis_on_its_diagonal_and_turns_with_the_pattern():
    data, conditions, folds, covariance = trials(balanced=False)
    cells, white = cells_of(conditions, folds, N_CONDITIONS, N_FOLDS), whitener_of(covariance, None, "x")
    found = pattern_generalisation(data, cells, white)
    np.testing.assert_allclose(np.diag(found), crossnobis(data, cells, white).mean(axis=1), atol=1e-8)
    code = rng(1).standard_normal((N_CONDITIONS, N_CHANNELS))
    turned = np.stack([code, code, -code], axis=2)[conditions].astype(np.float32)
    found = pattern_generalisation(turned, cells, white)
    assert found[0, 1] == pytest.approx(found[0, 0])
    assert found[0, 2] == pytest.approx(-found[0, 0])


def test_without_a_difference_crossnobis_is_zero_on_average_and_plain_distances_are_not():
    draw, means = rng(3), []
    conditions, folds = np.tile(np.arange(5), 4), np.repeat(np.arange(4), 5)
    cells = cells_of(conditions, folds, 5, 4)
    for _ in range(200):
        data = draw.standard_normal((20, 6, 1)).astype(np.float32)
        means.append(
            (crossnobis(data, cells, np.eye(6)).mean(), plain_distances(data, cells, np.eye(6), "euclidean").mean())
        )
    cross, plain = np.array(means).T
    assert abs(cross.mean()) < 3 * cross.std() / np.sqrt(len(cross))
    assert plain.mean() == pytest.approx(2 / 4, rel=0.1)


# ---- noise ----------------------------------------------------------------------------------------------------------


def test_shrinkage_with_one_moment_is_that_of_ledoit_and_wolf():
    values = rng().standard_normal((30, 8)) @ rng(1).standard_normal((8, 8))
    values /= np.sqrt((values**2).mean(axis=0))
    expected, share = ledoit_wolf(values, assume_centered=True)
    assert 0.05 < share < 0.95
    np.testing.assert_allclose(shrunk_covariance(values[:, :, None]), expected, atol=1e-12)


def test_moments_of_one_trial_are_no_samples():
    # The same 12 trials, each moment said 40 times: no more is known, and no less shrinkage is called for.
    values = (rng().standard_normal((12, 8)) @ rng(1).standard_normal((8, 8)))[:, :, None]
    often = np.repeat(values, 40, axis=2)
    np.testing.assert_allclose(shrunk_covariance(often), shrunk_covariance(values), atol=1e-12)
    # Mutation: moments as samples.
    naive = ledoit_wolf(often.transpose(0, 2, 1).reshape(-1, 8), assume_centered=True)[1]
    assert naive < 0.5 * ledoit_wolf(values[:, :, 0], assume_centered=True)[1]


def test_units_of_channels_do_not_matter():
    values, unit = rng().standard_normal((20, 6, 4)), np.array([1e-13, 1e-11, 1.0, 1e-6, 2.0, 3.0])
    plain, scaled = shrunk_covariance(values), shrunk_covariance(values * unit[:, None])
    np.testing.assert_allclose(scaled, plain * np.outer(unit, unit), rtol=1e-9)


def test_residuals_are_about_the_condition_in_its_fold():
    data, conditions, folds, _ = trials()
    cells = cells_of(conditions, folds, N_CONDITIONS, N_FOLDS)
    plain = residual_covariance(data, cells, "x")
    moved = data + (rng(1).standard_normal((N_CONDITIONS, N_FOLDS, N_CHANNELS)) * 50)[conditions, folds][:, :, None]
    np.testing.assert_allclose(residual_covariance(moved.astype(np.float32), cells, "x"), plain, rtol=1e-3, atol=1e-4)
    assert np.diag(plain).mean() == pytest.approx(1.0, rel=0.1)
    # Mutation: about the condition over all folds.
    joined = residual_covariance(moved.astype(np.float32), cells.joined(), "x")
    assert np.diag(joined).mean() > 100


def test_whitening_keeps_to_the_rank():
    draw = rng()
    left = np.linalg.qr(draw.standard_normal((8, 8)))[0][:, :5] * np.array([1e-13] * 4 + [1e-11] * 4)[:, None]
    covariance = left @ left.T
    white = whitener_of(covariance, 5, "x")
    assert white.shape == (5, 8)
    np.testing.assert_allclose(white @ covariance @ white.T, np.eye(5), atol=1e-8)
    with pytest.raises(InputError, match="expected noise in 8 dimensions"):
        whitener_of(covariance, None, "x")


# ---- bad input ------------------------------------------------------------------------------------------------------


def one(run="1", seed=0, **more):
    return sensor_trials(rng(seed), NAMES, run=run, n_channels=5, **more)


def joined(recordings, window=None):
    return join_trials(recordings, window, "subject 01")


def test_catches_and_trials_of_nothing_are_left_out():
    recording = one()
    recording.conditions[:3] = ["catch", "rest", "n/a"]
    found = join_trials([recording], (0.0, 0.2), "subject 01", ["catch"])
    assert len(found.conditions) == len(recording.conditions) - 3
    np.testing.assert_array_equal(found.times, TIMES[(TIMES >= 0) & (TIMES <= 0.2)])
    np.testing.assert_array_equal(found.patterns, recording.data[3:][:, :, (TIMES >= 0) & (TIMES <= 0.2)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"epoch_time": TIMES + 0.05},
            "the moments of run 1, 51 moments from -0.1 to 0.4 s, found 51 moments from -0.05",
        ),
        (
            {"names": np.array([f"X{n}" for n in range(5)], dtype=object)},
            "the channels of run 1 in every run, found others",
        ),
        ({"kind": "volume"}, "trials of sensors, found volume"),
    ],
)
def test_runs_that_do_not_fit_each_other_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        joined([one(), replace(one("2", 1), **change)])


@pytest.mark.parametrize("window", [(-0.5, 0.2), (0.1, 0.9), (0.101, 0.109)])
def test_a_window_outside_of_the_trials_is_refused(window):
    with pytest.raises(InputError, match=r"the window .* within trials, found 51 moments"):
        joined([one()], window)


def test_bad_channels_are_left_out_by_name():
    recordings = [one(), one("2", 1)]
    recordings[0].data[:, 1] = 3e-13
    recordings[1].data[0, 2, 0] = np.nan
    found = joined(recordings)
    assert found.channels == ["MEG0000", "MEG0003", "MEG0004"]
    assert found.dropped == {
        "MEG0001": "one value throughout in run 1",
        "MEG0002": "values that are not finite in run 2",
    }
    assert found.recordings[0].noise_covariance.shape == (3, 3)
    recordings[0].data[:, 3] = 0
    with pytest.raises(InputError, match=r"three or more channels .*MEG0001: one value throughout in run 1"):
        joined(recordings)


def test_one_run_is_cut_into_blocks_of_trials_and_that_is_said():
    found = joined([one(repeats=5)])
    cells, words = cells_in(found, NAMES, "runs", 3, "subject 01")
    assert words == "3 blocks of trials (one run: no cross-validation across runs)"
    assert cells.counts.tolist() == [[2] * 4, [2] * 4, [1] * 4]
    # Blocks in order: a drift is no common pattern of two folds.
    assert all(max(cells.members[0, n]) < min(cells.members[1, n]) for n in range(4))
    with pytest.raises(InputError, match="two or more trials of every condition for folds of trials, found one of p"):
        cells_in(joined([one(repeats=1)]), NAMES, "runs", 3, "subject 01")


def test_conditions_that_lack_are_named():
    recordings = [one(), one("2", 1)]
    recordings[1].conditions[recordings[1].conditions == "p2"] = "rest"
    with pytest.raises(InputError, match="every condition in every run, found no p2 in run 2 of 2"):
        cells_in(joined(recordings), NAMES, "runs", 3, "subject 01")
    assert cells_in(joined(recordings), NAMES, "trials", 3, "subject 01")[1] == "3 blocks of trials"
    with pytest.raises(InputError, match="trials of all 5 conditions, found none of p9"):
        cells_in(joined(recordings), [*NAMES, "p9"], "trials", 3, "subject 01")


def test_noise_that_cannot_be_estimated_is_refused():
    found = joined([one(repeats=1), one("2", 1, repeats=1)])
    cells, _ = cells_in(found, NAMES, "runs", 3, "subject 01")
    with pytest.raises(InputError, match=r"10 or more repeats .* found 0. Set alignment.time.noise to 'baseline'"):
        residual_covariance(found.patterns, cells, "subject 01")
    assert baseline_covariance(found.recordings, "subject 01").shape == (5, 5)
    without = [replace(item, noise_covariance=np.zeros((0, 0))) for item in found.recordings]
    with pytest.raises(InputError, match=r"a finite noise covariance of 5 channels, found the shape \(0, 0\) in run 1"):
        baseline_covariance(without, "subject 01")
    ranked = [replace(one(), steps=[{"step": "rank", "rank": rank}]) for rank in (4, 3)]
    assert (rank_of(ranked), rank_of([one()])) == (3, None)


# ---- the stage ------------------------------------------------------------------------------------------------------


def settings(rdm="crossnobis", **time):
    study = {"study": "x", "data": {"source": "bids", "root": "b"}, "preprocess": {"estimates": "lsa"}}
    return parse_settings({**study, "alignment": {"rdm": rdm, "time": time}})


def written(tmp_path, recordings, **choices):
    paths = []
    for number, recording in enumerate(recordings):
        paths.append(tmp_path / f"{number}.h5")
        write_recording(paths[-1], recording)
    bad = Run(
        "sub-09_meg",
        "09",
        task="pictures",
        run="1",
        modality="meg",
        root=str(tmp_path),
        status="excluded",
        reason="no triggers",
    )
    write_manifest(tmp_path / "m.tsv", [Run("s", "01", root=str(tmp_path)), bad])
    slice_ = SettingsSlice.of("rdms-time", settings(**choices))
    run_stage(slice_, {"manifest": [tmp_path / "m.tsv"], "estimates": paths}, {"rdms": tmp_path / "t.h5"})
    return read_arrays(tmp_path / "t.h5")


def test_who_cannot_be_used_is_left_out_by_name(tmp_path):
    code, course = 3 * rng(9).standard_normal((4, 5)), rise_and_fall(TIMES, 0.06, 0.1, 0.2)
    people = [
        one(subject="02", codes=[code], courses=[course]),
        one("2", 1, subject="02", codes=[code], courses=[course]),
        one(subject="01", seed=2, repeats=8),
        sensor_trials(rng(3), NAMES[:3], subject="03", n_channels=5),
        one(subject="04", seed=4, times=TIMES[:-1]),
        one(subject="05", seed=5, excluded="flat"),
        one(subject="06", seed=6, task="story"),
    ]
    file = written(tmp_path, people, task="pictures", n_folds=4)
    assert file["subjects"].tolist() == ["01", "02"]
    assert file["stimuli"].tolist() == NAMES
    assert file["rdms"].shape == (2, 51, 6)
    assert file["generalisation"].shape == (2, 51, 51)
    left = file.attributes["excluded"]
    assert set(left) == {"03", "04", "05, pictures, 1", "09, pictures, 1"}
    assert "none of p3" in left["03"]
    assert "moments from -0.1 to 0.39 s (50), those of most subjects are from -0.1 to 0.4 s (51)" in left["04"]
    assert file.attributes["folds"] == {
        "01": "4 blocks of trials (one run: no cross-validation across runs)", "02": "2 runs",
    }  # fmt: skip
    means = file["rdms"][1].mean(axis=1)
    assert TIMES[np.argmax(means)] == pytest.approx(0.1, abs=0.015)
    assert np.abs(means[TIMES < 0.04]).max() < 0.05 * means.max()


@pytest.mark.parametrize("method", ["correlation", "euclidean", "mahalanobis"])
def test_other_distances_need_no_folds(tmp_path, method):
    file = written(tmp_path, [one(), one("2", 1)], rdm=method, window_s=(0.0, 0.2))
    assert file["rdms"].shape == (1, 21, 6)
    assert "generalisation" not in file.arrays
    assert (file["rdms"] > 0).all()


def test_nobody_is_an_error_that_says_why(tmp_path):
    with pytest.raises(InputError, match=r"trials of sensors .* none .01, pictures, 1: flat"):
        written(tmp_path, [one(excluded="flat")])
    with pytest.raises(InputError, match="three or more stimuli, found 2 stimuli"):
        written(tmp_path, [sensor_trials(rng(), NAMES[:2], n_channels=5, repeats=20)])


def test_cells_count_their_trials():
    cells = cells_of([0, 1, 1, -1], [0, 0, 1, 0], 2, 2)
    assert cells.counts.tolist() == [[1, 1], [0, 1]]
    assert isinstance(cells.joined(), Cells)
    assert cells.joined().counts.tolist() == [[1, 2]]


def test_the_stages_of_a_group_from_trials_to_latencies_and_sensors(tmp_path):
    from decoders.alignment.rdm import correlation_rdm
    from decoders.store.arrays import Array, write_arrays
    from decoders.store.tables import COLUMNS, read_table

    draw, names = rng(11), [f"p{n:02d}" for n in range(12)]
    positions, types = helmet()
    chosen = np.arange(0, 75, 3)
    features = draw.standard_normal((2, 12, 6))
    paths = []
    for subject, run in ((s, r) for s in range(6) for r in "12"):
        mixing = np.random.default_rng(subject).standard_normal((6, 25)) * (positions[chosen, 0] > 0)
        recording = sensor_trials(
            draw, names, f"{subject:02d}", run, 3, 25, codes=[features[0] @ mixing * 0.5],
            courses=[rise_and_fall(TIMES, 0.06, 0.11, 0.25)], positions=positions[chosen],
        )  # fmt: skip
        paths.append(tmp_path / f"{subject}{run}.h5")
        write_recording(paths[-1], recording)
    write_manifest(tmp_path / "m.tsv", [Run("s", "01", root=str(tmp_path))])
    arrays = {
        name: Array(correlation_rdm(values), ("pair",))
        for name, values in zip(("pixel", "gist"), features, strict=True)
    }
    write_arrays(tmp_path / "c.h5", {**arrays, "names": Array(np.array(names, dtype=object), ("stimulus",))})
    study = settings(n_permutations=100, sensors={"step": 5})
    inputs = {"manifest": [tmp_path / "m.tsv"], "estimates": paths}
    run_stage(SettingsSlice.of("rdms-time", study), inputs, {"rdms": tmp_path / "t.h5"})
    kinds = {"scores": "alignment_scores", "ceilings": "ceilings", "inference": "inference", "clusters": "time_clusters",
             "latencies": "latencies"}  # fmt: skip
    outputs = {name: tmp_path / f"{name}.tsv" for name in kinds} | {"generalisation": tmp_path / "g.h5"}
    controls = {"controls": [tmp_path / "c.h5"]}
    run_stage(SettingsSlice.of("align-time", study), {"rdms": [tmp_path / "t.h5"], **controls}, outputs)
    tables = {name: read_table(outputs[name]) for name in kinds}
    for name, kind in kinds.items():
        assert tuple(tables[name].columns[: len(COLUMNS[kind])]) == COLUMNS[kind]
    assert len(tables["scores"]) == 6 * 51 * 2 * 2
    assert len(tables["ceilings"]) == 51 * 2
    found = tables["latencies"].set_index(["model", "reference", "measure"])
    for reference in ("chance", "all other controls"):
        assert found.loc[("control:pixel", reference, "onset"), "latency_s"] == pytest.approx(0.06, abs=0.015)
        assert found.loc[("control:pixel", reference, "peak"), "latency_s"] == pytest.approx(0.11, abs=0.015)
    scores = read_arrays(outputs["generalisation"])
    assert scores["scores"].shape == scores["patterns/scores"].shape == (6, 51, 51)
    run_stage(SettingsSlice.of("sensor-searchlight", study), {**inputs, **controls}, {"searchlight": tmp_path / "s.h5"})
    file = read_arrays(tmp_path / "s.h5")
    assert file["scores"].shape == file["p_corrected"].shape == (2, 25, 11)
    place = file["models"].tolist().index("control:pixel")
    peak = np.abs(file["times"] - 0.1) < 0.03
    right, left = positions[chosen, 0] > 0.03, positions[chosen, 0] < -0.06
    at_peak = file["scores"][place][:, peak].mean(axis=1)
    assert at_peak[right].min() > at_peak[left].max()
    assert types[0] == "grad"
