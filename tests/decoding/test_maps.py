"""Maps: planted voxels, smoothing, files, and the stage on a small phantom on disk."""

import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from decoders.config import PhantomSettings, VoxelMapSettings, parse_settings
from decoders.decoding import maps
from decoders.decoding.bottleneck import GateFit
from decoders.decoding.listening import prepare
from decoders.decoding.refit import decode_runs, identification_scores
from decoders.decoding.splits_voxels import declare_voxels
from decoders.decoding.stage_voxels import oracle, recovery_table, refit
from decoders.decoding.voxel_maps import PairingMaps, VoxelMaps, gather, locate, map_pairing, with_null_text
from decoders.errors import InputError
from decoders.stats.timed_runs import recorded
from decoders.store.images import write_map
from decoders.store.recording import Recording

RNG = np.random.default_rng(0)
MASK = np.zeros((6, 7, 5), dtype=bool)
MASK[1:-1, 1:-1, 1:-1] = True


def test_smoothing_is_normalised_and_sees_nothing_outside():
    np.testing.assert_allclose(maps.smooth_in_mask(np.ones(MASK.sum()), MASK, 1.0), 1.0, rtol=1e-6)
    values = RNG.normal(size=MASK.sum())
    volume = np.zeros(MASK.shape)
    volume[MASK] = values
    expected = gaussian_filter(volume, 1.0, mode="constant") / gaussian_filter(MASK * 1.0, 1.0, mode="constant")
    np.testing.assert_allclose(maps.smooth_in_mask(values, MASK, 1.0), expected[MASK], rtol=1e-5)


def test_encoding_map_finds_planted_voxels_only():
    features = [RNG.normal(size=(60, 4)) for _ in range(6)]
    weights = RNG.normal(size=(4, 3))
    x = []
    for run in features:
        data = RNG.normal(size=(60, 40)).astype(np.float32)
        data[:, :3] += (run @ weights).astype(np.float32)
        x.append(data)
    r = maps.encoding_map(x, features, [1, 3], 3, seed=0)
    assert r[:3].min() > 0.5
    assert np.abs(r[3:]).max() < 0.3
    assert abs(r[3:].mean()) < 0.05


def test_recovery_and_cut_by_hand():
    planted = np.array([True, False, True, False])
    assert maps.recovery(np.array([4.0, 3.0, 2.0, 1.0]), planted) == (0.75, pytest.approx(0.5 + 1 / 3))
    assert maps.above_cut(np.array([4.0, 3.0, 2.0, 1.0]), 2.5, planted) == (0.5, 0.5)
    assert np.isnan(maps.above_cut(np.zeros(4), 1.0, planted)[0])


def test_top_share_and_combination():
    np.testing.assert_array_equal(maps.top_share(np.array([0.1, 5.0, 3.0, 4.0]), 0.5), [1, 3])
    assert len(maps.top_share(np.zeros(10), 0.001)) == 1
    a, b = RNG.normal(size=(2, 50))
    both = maps.combine([a, 100 * b])
    np.testing.assert_allclose(both, ((a - a.mean()) / a.std() + (b - b.mean()) / b.std()) / 2, rtol=1e-5, atol=1e-6)
    # Null maps stand on the scale of the real ones.
    np.testing.assert_allclose(maps.combine([a + a.std()], [a]), (a - a.mean()) / a.std() + 1, rtol=1e-5, atol=1e-6)


def test_map_file_is_deterministic_and_exact(tmp_path):
    affine = np.diag([3.0, 3.0, 3.5, 1.0])
    values = RNG.normal(size=MASK.sum()).astype(np.float32)
    for name in ("one", "two"):
        write_map(tmp_path / f"sub-{name}_map-gate_statmap.nii.gz", values, MASK, affine, "nats")
    first, second = sorted(tmp_path.glob("*.nii.gz"))
    assert first.read_bytes() == second.read_bytes()
    image = nib.load(first)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[MASK], values)
    assert not np.asarray(image.dataobj)[~MASK].any()
    np.testing.assert_allclose(image.affine, affine)
    assert gzip.decompress(first.read_bytes())[:4] == (348).to_bytes(4, "little")


def test_truth_of_another_grid_is_refused(tmp_path):
    write_map(tmp_path / "truth.nii.gz", np.ones(MASK.sum()), MASK, np.eye(4), "")
    assert maps.read_planted(tmp_path / "truth.nii.gz", MASK).all()
    with pytest.raises(InputError, match="the recording's grid"):
        maps.read_planted(tmp_path / "truth.nii.gz", MASK[1:])


def decoding_case(signal, seed=0):
    rng = np.random.default_rng(seed)
    targets = [rng.normal(size=(104, 3)) for _ in range(6)]
    weights = rng.normal(size=(3, 8))
    x = [rng.normal(size=(104, 20)) for _ in targets]
    for run, target in zip(x, targets, strict=True):
        run[:, :8] += signal * np.roll(target, 2, axis=0) @ weights
    return x, targets


def test_refit_identifies_planted_text_and_not_noise():
    for signal, low, high in ((1.0, 0.95, 1.0), (0.0, 0.3, 0.7)):
        x, y = decoding_case(signal)
        decoded = decode_runs(x[:4], y[:4], x[4:], np.arange(8), (1, 2, 3, 4), 2)
        assert len(decoded[0]) == 100
        scores, windows = identification_scores(decoded, y[4:], 10, np.random.default_rng(0), [0, 1], n_nulls=50)
        assert low <= scores["percentile"].score <= high
        assert len(windows.percentile) == 20
        assert (scores["percentile"].p < 0.05) == (signal > 0)
        assert abs(scores["percentile"].null.mean() - 0.5) < 0.1


def test_runs_too_short_for_lags_or_windows_are_refused():
    x, y = decoding_case(1.0)
    with pytest.raises(InputError, match=r"runs of more than 4 volumes.*found 4"):
        decode_runs(x[:4], y[:4], [x[4][:4]], np.arange(8), (1, 2, 3, 4), 2)
    decoded = decode_runs(x[:4], y[:4], [x[4][:18]], np.arange(8), (1, 2, 3, 4), 2)
    with pytest.raises(InputError, match="two windows, found 14"):
        identification_scores(decoded, [y[4][:18]], 10, np.random.default_rng(0), [0])


def test_refit_never_reads_unchosen_voxels_or_test_text():
    x, y = decoding_case(1.0)
    chosen = np.arange(8)
    decoded = decode_runs(x[:4], y[:4], x[4:], chosen, (1, 2), 2)
    for run in x:
        run[:, 8:] = np.nan
    np.testing.assert_array_equal(decoded[0], decode_runs(x[:4], y[:4], x[4:], chosen, (1, 2), 2)[0])


@pytest.fixture(scope="module")
def phantom():
    from decoders.simulate.story import simulate_story_runs

    settings = PhantomSettings(grid=(8, 10, 8), r0=0.5, story_runs=7, seed=100)
    return settings, simulate_story_runs(settings)


def listening(phantom, test_runs=2):
    _, runs = phantom
    words = {f"s{i}": w for i, w in enumerate(runs.stories.words)}
    recordings = [
        Recording(
            runs.x[i], "volume", "01", task="story", run=f"{i:02d}", stimulus=f"s{i}", time=2.0 * np.arange(150),
            tr=2.0, mask=runs.brain.mask, affine=np.eye(4),
        )
        for i in range(len(words))
    ]  # fmt: skip
    return prepare(recordings, words, runs.stories.embedding, split_of(recordings, test_runs))


def split_of(recordings, test_runs):
    """The last runs are held out."""
    settings = VoxelMapSettings(features="phantom", test_runs=test_runs)
    return declare_voxels(recorded(recordings), settings, sorted({r.stimulus for r in recordings})).splits[0]


def draw(*keys):
    return np.random.default_rng([sum(map(ord, str(key))) for key in keys])


def test_maps_of_a_small_phantom_recover_its_voxels_and_null_maps_do_not(phantom):
    settings = VoxelMapSettings(epochs=60, features="phantom", test_runs=2, select_share=0.06, n_null_gates=1)
    heard = listening(phantom)
    found = locate(heard.training, settings, 0, np.random.default_rng(0))
    planted = phantom[1].brain.planted
    table = recovery_table(found, planted, phantom[0]).set_index("map")
    # Sites of four voxels on a tiny grid: the smoothed gate is coarse here (test_bottleneck has the sharp case).
    for name, least in (("gate", 0.75), ("encoding", 0.85), ("combined", 0.85)):
        assert table.loc[name, "auc"] > least
        assert table.loc[f"null_{name}", "auc"] < 0.8
    assert table.loc["gate", ["seed", "grid", "r0"]].tolist() == [100, "8x10x8", 0.5]
    scores, arrays = refit(heard, found, settings, draw, "01")
    assert scores["bottleneck_refit"]["percentile"].score > scores["control:shuffled"]["percentile"].score + 0.15
    assert scores["bottleneck_refit"]["percentile"].p < 0.05
    assert len(arrays["selected"].values) == round(0.06 * len(planted))
    assert recovery_table(found, None, None).empty


def test_null_pairings_of_the_workflow_do_not_hang_on_their_number(phantom):
    """Each has a generator of its own, and the text of each is another one."""
    heard = listening(phantom).training
    one, other = (with_null_text(heard, np.random.default_rng(seed)) for seed in (1, 2))
    again = with_null_text(heard, np.random.default_rng(1))
    np.testing.assert_array_equal(one.targets[0], again.targets[0])
    assert not np.array_equal(one.targets[0], other.targets[0])
    # Targets and features are moved alike, and the recording stays.
    assert one.x is heard.x
    shift = [np.flatnonzero((run == one.targets[0][0]).all(1)) for run in heard.targets]
    source = next(i for i, found in enumerate(shift) if len(found) == 1)
    np.testing.assert_array_equal(np.roll(heard.features[source], -int(shift[source][0]), axis=0), one.features[0])


def sharp_site(seed):
    """Maps of a cube of planted voxels and of four nulls: noise per voxel, and two parts that smoothing blurs."""
    rng = np.random.default_rng(seed)
    mask, planted = np.ones((14, 14, 14), bool), np.zeros((14, 14, 14), bool)
    planted[4:9, 4:9, 4:9] = True

    def one(signal):
        r = (signal * planted[mask] + 0.3 * rng.normal(size=mask.sum())).astype(np.float32)
        blurred = maps.smooth_in_mask(r, mask, 1.0)
        return PairingMaps(GateFit(2 * blurred, blurred, blurred, blurred, np.zeros((1, 3))), r, blurred)

    return one(1.0), [one(0.0) for _ in range(4)], planted[mask]


def false_share(heard, nulls, planted):
    found = gather(heard, nulls)
    return maps.above_cut(found.combined, maps.null_maximum(found.nulls)["combined"], planted)[0]


def test_the_combined_map_does_not_leak_over_borders(monkeypatch):
    sites = [sharp_site(seed) for seed in range(3)]
    sharp = [false_share(*site) for site in sites]
    # A mutation: without the r of the voxel itself smoothing carries the site over its border.
    monkeypatch.setattr(PairingMaps, "parts", property(lambda self: [self.gate.logits, self.encoding]))
    leaking = [false_share(*site) for site in sites]
    assert min(leaking) > 0.15
    assert np.mean(sharp) < np.mean(leaking) / 2


def test_the_cut_is_the_maximum_over_all_nulls(phantom):
    settings = VoxelMapSettings(epochs=8, folds=2, features="phantom", test_runs=2, n_null_gates=3)
    found = locate(listening(phantom).training, settings, 0, np.random.default_rng(0))
    cuts = maps.null_maximum(found.nulls)
    for name, nulls in found.nulls.items():
        assert len(nulls) == 3
        assert cuts[name] == max(null.max() for null in nulls) > min(null.max() for null in nulls)
    # The text that was heard as its own null: the real map is its own cut, and nothing is above.
    own = map_pairing(listening(phantom).training, settings, 0)
    same = gather(own, [own])
    np.testing.assert_array_equal(same.nulls["combined"][0], same.combined)
    table = recovery_table(same, phantom[1].brain.planted, phantom[0]).set_index("map")
    assert table.loc[["gate", "encoding", "combined"], "tpr"].tolist() == [0, 0, 0]
    assert table.loc[["gate", "encoding", "combined"], "fdr"].isna().all()


def test_maps_of_other_runs_or_a_lost_null_are_refused(phantom, tmp_path):
    from decoders.decoding.stage_gate import _write, read_pairings

    heard = listening(phantom)
    settings = VoxelMapSettings(epochs=1, folds=2, features="phantom", test_runs=2)
    found, mask = map_pairing(heard.training, settings, 0), heard.mask
    paths = [tmp_path / f"{pairing}.h5" for pairing in range(3)]
    for pairing, path in enumerate(paths):
        _write(path, found, mask, {"pairing": pairing, "trained": ["a", "b"]})
    own, nulls = read_pairings(paths[::-1], mask, ["a", "b"])
    np.testing.assert_array_equal(own.gate.logits, found.gate.logits)
    assert len(nulls) == 2
    for wrong, message in (([paths[0], paths[2]], "the pairings 0 to 1"), ([*paths, paths[1]], "the pairings 0 to 3")):
        with pytest.raises(InputError, match=message):
            read_pairings(wrong, mask, ["a", "b"])
    with pytest.raises(InputError, match="maps of the training runs a, c"):
        read_pairings(paths, mask, ["a", "c"])


def test_test_runs_have_no_say_in_the_maps(phantom):
    settings = VoxelMapSettings(epochs=2, folds=2, features="phantom", test_runs=2, n_null_gates=0)
    heard = listening(phantom)
    first = locate(heard.training, settings, 0, np.random.default_rng(0))
    changed = replace(heard, x=[*heard.x[:-2], *(run[::-1].copy() for run in heard.x[-2:])])
    second = locate(changed.training, settings, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(first.combined, second.combined)
    # z-scoring is by the training runs alone.
    train = np.concatenate(heard.targets[:-2])
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-4)


def test_decoders_are_fitted_to_training_runs_and_tested_on_the_others(phantom, monkeypatch):
    settings = VoxelMapSettings(features="phantom", test_runs=2, select_share=0.06)
    heard, seen = listening(phantom), []

    def spy(train_x, train_y, test_x, *rest):
        seen.append(([id(run) for run in train_x], len(train_y), [id(run) for run in test_x]))
        return decode_runs(train_x, train_y, test_x, *rest)

    monkeypatch.setattr("decoders.decoding.stage_voxels.decode_runs", spy)
    n = int(heard.mask.sum())
    values = np.random.default_rng(0).normal(size=(4, n)).astype(np.float32)
    found = VoxelMaps(GateFit(*values, np.zeros((1, 3))), *values[:3])
    refit(heard, found, settings, draw, "01")
    oracle(heard, np.arange(n) < 20, settings, draw, "01")
    identities = [id(run) for run in heard.x]
    assert seen == [(identities[:-2], 5, identities[-2:])] * 4


def test_runs_are_brought_to_common_voxels():
    mask_b = MASK.copy()
    mask_b[1, 1, 1] = False
    base = {"kind": "volume", "subject": "01", "time": 2.0 * np.arange(20), "tr": 2.0, "affine": np.eye(4)}
    from decoders.stimuli.embedding import Embedding
    from decoders.stimuli.timings import Words

    words = Words(np.array([1.0]), np.array([0.2]), ("a",), ("a ",))
    embedding = Embedding(("a",), np.ones((1, 2)))
    a = Recording(RNG.normal(size=(20, MASK.sum())).astype(np.float32), mask=MASK, stimulus="s", **base)
    b = Recording(RNG.normal(size=(20, mask_b.sum())).astype(np.float32), mask=mask_b, stimulus="s", **base)
    heard = prepare([a, b], {"s": words}, embedding, split_of([a, b], 1))
    assert {run.shape[1] for run in heard.x} == {int(mask_b.sum())}
    np.testing.assert_array_equal(heard.x[1], b.data)
    with pytest.raises(InputError, match="one grid and TR"):
        prepare([a, replace(b, affine=2 * np.eye(4))], {"s": words}, embedding, split_of([a, b], 1))
    with pytest.raises(InputError, match="on a voxel grid"):
        prepare([replace(a, mask=None)], {"s": words}, embedding, split_of([a, b], 1))
    with pytest.raises(InputError, match="more than 2 runs"):
        split_of([a, b], 2)
    with pytest.raises(InputError, match="more than 1 runs, found 1"):
        split_of([a], 1)


def test_the_stage_from_folder_to_files(tmp_path, monkeypatch):
    """Simulate, read, preprocess and map a tiny phantom; run twice, the bytes are equal."""
    from decoders import stage

    def run_stage(name, study, *files):
        stage.run_stage(stage.SettingsSlice.of(name, study), *files)

    monkeypatch.chdir(tmp_path)
    study = parse_settings(
        {
            "study": "tiny",
            "data": {
                "source": "phantom",
                "phantom": {"grid": [8, 10, 8], "r0": 0.5, "story_runs": 4, "picture_subjects": 0, "seed": 5},
            },
            "preprocess": {},
            "decoding": {"voxels": {"task": "story", "test_runs": 1, "epochs": 3, "folds": 3, "features": "phantom"}},
        }
    )
    root = tmp_path / "results"
    run_stage("simulate", study, {}, {"bids": root / "bids"})
    manifest = root / "manifest.tsv"
    run_stage("manifest", study, {"bids": [root / "bids"]}, {"manifest": manifest})
    from decoders.data.manifest import read_manifest

    recordings = []
    for run in read_manifest(manifest):
        recordings.append(root / f"{run.run_id}_recording.h5")
        run_stage("preprocess", study, {"manifest": [manifest]}, {"recording": recordings[-1]}, {"run": run.run_id})
    text = {"words": root / "words.tsv", "characters": root / "characters.tsv"}
    run_stage("text", study, {"manifest": [manifest]}, text)
    planned = {"manifest": [manifest], "words": [text["words"]], "quality": [root / "quality.tsv"]}
    checked = {"manifest": [manifest], "recording": recordings}
    run_stage("quality", study, checked, {"quality": root / "quality.tsv", "series": root / "quality.h5"})
    run_stage("splits-voxels", study, planned, {"splits": root / "splits.json"})
    audit = {"manifest": [manifest], "words": [text["words"]], "splits": [root / "splits.json"]}
    run_stage("leaks", study, audit, {"leaks": root / "leaks.tsv"})
    contents, seen = [], []

    def spy(training, *rest):
        seen.append(len(training.x))
        return map_pairing(training, *rest)

    monkeypatch.setattr("decoders.decoding.stage_gate.map_pairing", spy)
    for attempt in ("a", "b"):
        outputs = {name: root / attempt / f"map-{name}.nii.gz" for name in ("gate", "encoding", "combined")}
        outputs |= {name: root / attempt / f"{name}.tsv" for name in ("scores", "recovery")}
        outputs |= {name: root / attempt / f"{name}.h5" for name in ("arrays", "nulls")}
        inputs = {"manifest": [manifest], "words": [text["words"]], "recording": recordings}
        inputs |= {"splits": audit["splits"], "leaks": [root / "leaks.tsv"]}
        gates = [root / attempt / f"gate-{pairing}.h5" for pairing in range(3)]
        for pairing, path in enumerate(gates):
            run_stage("gate", study, inputs, {"gate": path}, {"subject": "01", "pairing": str(pairing)})
        run_stage("voxels", study, {**inputs, "gates": gates[::-1]}, outputs, {"subject": "01"})
        outputs |= {path.stem: path for path in gates}
        contents.append({name: path.read_bytes() for name, path in outputs.items()})
    assert contents[0] == contents[1]
    # The maps never see the test run.
    assert seen == [3] * 6
    assert len({contents[0][path.stem] for path in gates}) == 3
    recovery = (root / "a" / "recovery.tsv").read_text().splitlines()
    assert recovery[0].startswith("seed\tgrid\tr0\tmap\tauc\tap")
    assert recovery[1].startswith("5\t8x10x8\t0.5\tgate\t")
