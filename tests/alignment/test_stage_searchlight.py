"""The stages of the searchlight on a phantom whose regions code the pixels (early) and the shapes (late)."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from decoders.alignment import searchlight_group, stage_searchlight, stage_searchlight_maps
from decoders.alignment.models import ModelRow
from decoders.alignment.rdm import correlation_rdm
from decoders.alignment.searchlight_group import GroupMap, group_map, no_test, surviving
from decoders.alignment.stage_searchlight_models import shown_models
from decoders.config import PhantomSettings, parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.errors import InputError, SettingsError
from decoders.simulate.pictures import REGIONS, draw_picture_brain, draw_pictures, picture_features
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.recording import Recording, read_recording, write_recording
from decoders.store.tables import COLUMNS, read_table

PHANTOM = PhantomSettings(grid=(10, 12, 10), n_pictures=16, seed=0)
SHOWN = draw_pictures(PHANTOM)
NAMES = sorted(SHOWN.names)
ORDER = [SHOWN.names.index(name) for name in NAMES]
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SUBJECTS = [f"{i:02d}" for i in range(1, 7)]


def words(values, axis):
    return Array(np.array(values, dtype=object), (axis,))


def trial_estimates(subject, rng, noise=1.0):
    """Two runs of one person: planted patterns and white noise."""
    person = draw_picture_brain(PHANTOM, SHOWN, int(subject))
    signal = np.zeros((len(NAMES), len(person.brain.site)))
    signal[:, person.brain.site >= 0] = person.patterns
    order = np.tile(np.arange(len(NAMES)), 2)
    found = []
    for run in ("1", "2"):
        data = signal[order] + noise * rng.standard_normal((len(order), signal.shape[1]))
        conditions = np.array([SHOWN.names[i] for i in order], dtype=object)
        labels = {"task": "pictures", "run": run, "axis": "trial", "conditions": conditions}
        mask = person.brain.mask
        found.append(Recording(data.astype(np.float32), "volume", subject, mask=mask, affine=AFFINE, **labels))
    return found, person


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Files of six people: estimates, masks of the planted regions, controls that hold what the regions code."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    inputs = {subject: [] for subject in SUBJECTS}
    for subject in SUBJECTS:
        recordings, person = trial_estimates(subject, rng)
        for recording in recordings:
            inputs[subject].append(folder / f"sub-{subject}_run-{recording.run}.h5")
            write_recording(inputs[subject][-1], recording)
        for number, region in enumerate(REGIONS):
            volume = np.zeros(person.brain.mask.shape, dtype=np.uint8)
            volume[person.brain.mask] = person.brain.site == number
            nibabel.save(nibabel.Nifti1Image(volume, AFFINE), folder / f"sub-{subject}_{region}.nii.gz")
    codes = [code[ORDER] for code in picture_features(SHOWN)]
    controls = {region: Array(1 - (code @ code.T)[np.triu_indices(len(NAMES), 1)], ("pair",)) for region, code in zip(REGIONS, codes, strict=True)}  # fmt: skip
    controls["noise"] = Array(correlation_rdm(rng.standard_normal((len(NAMES), 20))), ("pair",))
    write_arrays(folder / "controls.h5", {"names": words(NAMES, "picture"), **controls}, {})
    rdm = Array(controls["late"].values[None], ("subject", "pair"))
    arrays = {"all": rdm, "subjects": words(["01"], "subject"), "stimuli": words(NAMES, "stimulus")}
    write_arrays(folder / "rdms.h5", arrays, {})
    write_manifest(folder / "manifest.tsv", [Run(f"sub-{s}", s, task="pictures", root=str(folder)) for s in SUBJECTS])
    run_stage(
        SettingsSlice.of("searchlight-models", study()),
        {"rdms": [folder / "rdms.h5"], "controls": [folder / "controls.h5"]},
        {"models": folder / "models.h5"},
    )
    return folder, inputs


def study(searchlight=None, **alignment):
    block = {"radius_mm": 6.0, "n_chunks": 2, "min_share": 0.4, "n_permutations": 500, **(searchlight or {})}
    regions = {region: f"sub-{{subject}}_{region}.nii.gz" for region in REGIONS}
    base = {"study": "x", "data": {"source": "bids", "root": "b"}, "preprocess": {"estimates": "lsa"}}
    return parse_settings({**base, "alignment": {"regions": regions, "searchlight": block, **alignment}})


def search(folder, out, inputs, settings, models=None):
    """Run both stages for some subjects; return the table and the arrays."""
    chunks = []
    for subject, paths in inputs.items():
        for chunk in range(settings.alignment.searchlight.n_chunks):
            chunks.append(out / f"sub-{subject}_chunk-{chunk}.h5")
            labels = {"subject": subject, "chunk": str(chunk)}
            given = {"estimates": paths, "models": [models or folder / "models.h5"]}
            run_stage(SettingsSlice.of("searchlight", settings), given, {"scores": chunks[-1]}, labels)
    given = {"scores": chunks, "models": [models or folder / "models.h5"], "manifest": [folder / "manifest.tsv"]}
    outputs = {"maps": out / "maps", "arrays": out / "searchlight.h5", "table": out / "searchlight.tsv"}
    run_stage(SettingsSlice.of("searchlight-maps", settings), given, outputs)
    return read_table(outputs["table"], ("subject",)), read_arrays(outputs["arrays"])


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    folder, inputs = planted
    out = tmp_path_factory.mktemp("found")
    return *search(folder, out, inputs, study()), out


def peaks_are_right(table, folder):
    """The group's peak lies inside of its region; each person's sphere at the peak holds voxels of it."""
    group, alone = (table[table["level"] == level] for level in ("group", "subject"))
    for region in REGIONS:
        row = group[group["model"] == f"control:{region}"].iloc[0]
        if row["region"] != region or row["p_corrected"] >= 0.05 or row["n_above"] < 2:
            return False
        for _, peak in alone[alone["model"] == f"control:{region}"].iterrows():
            voxels = np.argwhere(nibabel.load(folder / f"sub-{peak['subject']}_{region}.nii.gz").get_fdata())
            place = peak[["x_mm", "y_mm", "z_mm"]].to_numpy(float)
            if np.linalg.norm(3.0 * voxels - place, axis=1).min() > 6.0:
                return False
    return True


def test_the_right_model_peaks_inside_its_planted_region(planted, found):
    table, arrays, out = found
    assert tuple(table.columns[: len(COLUMNS["searchlight"])]) == COLUMNS["searchlight"]
    assert peaks_are_right(table, planted[0])
    group = table[table["level"] == "group"]
    noise = group[group["model"] == "control:noise"]
    assert noise["n_above"].tolist() == [0]
    assert noise["p_corrected"].iloc[0] > 0.05
    # Maps hold the peak where the table says.
    row = group[group["model"] == "control:late"].iloc[0]
    image = nibabel.load(out / "maps" / "group_map-controlLate_stat-mean_statmap.nii.gz")
    voxel = tuple(np.rint(np.linalg.inv(image.affine) @ [row["x_mm"], row["y_mm"], row["z_mm"], 1])[:3].astype(int))
    assert image.get_fdata()[voxel] == pytest.approx(row["peak"], abs=1e-6)
    assert len(list((out / "maps").glob("*.nii.gz"))) == 3 * (len(SUBJECTS) + 3)
    p, cut = arrays["group/controlLate/p"], arrays.attributes["cuts"]["controlLate"]
    np.testing.assert_array_equal(arrays["group/controlLate/statistic"] > cut, p <= 0.05)


def test_the_planted_region_notices_scores_at_other_centres(planted, tmp_path, monkeypatch):
    folder, inputs = planted
    true = stage_searchlight.searchlight_scores
    monkeypatch.setattr(stage_searchlight, "searchlight_scores", lambda *arguments: true(*arguments)[::-1])
    table, _ = search(folder, tmp_path, inputs, study({"n_chunks": 1}))
    assert not peaks_are_right(table, folder)


def permuted_labels(planted, out):
    folder, inputs = planted
    rng, changed = np.random.default_rng(1), {}
    for subject, paths in inputs.items():
        other = dict(zip(NAMES, rng.permutation(NAMES), strict=True))
        changed[subject] = []
        for path in paths:
            recording = read_recording(path)
            labels = np.array([other[name] for name in recording.conditions], dtype=object)
            changed[subject].append(out / path.name)
            write_recording(changed[subject][-1], replace(recording, conditions=labels))
    return search(folder, out, changed, study())[0]


def test_nothing_survives_permuted_labels(planted, tmp_path, monkeypatch):
    group = permuted_labels(planted, tmp_path).query("level == 'group'")
    assert (group["p_corrected"] > 0.05).all()
    assert (group["n_above"] == 0).all()
    # Mutation: p of each voxel by itself, without the maximum.
    from scipy.stats import ttest_1samp

    def uncorrected(scores, *_):
        test = ttest_1samp(scores, 0, alternative="greater")
        return GroupMap(scores.mean(axis=0), test.statistic, test.pvalue)

    monkeypatch.setattr(stage_searchlight_maps, "group_map", uncorrected)
    (tmp_path / "mutation").mkdir()
    assert (permuted_labels(planted, tmp_path / "mutation").query("level == 'group'")["n_above"] > 0).any()


def test_chunks_and_equal_seeds_change_nothing(planted, found, tmp_path):
    folder, inputs = planted
    table, _ = search(folder, tmp_path, inputs, study({"n_chunks": 3}))
    assert table.drop(columns="method").equals(found[0].drop(columns="method"))


def test_few_subjects_and_other_grids_have_no_group_map(planted, tmp_path):
    folder, inputs = planted
    few = {subject: inputs[subject] for subject in SUBJECTS[:2]}
    table, arrays = search(folder, tmp_path, few, study({"models": ["control:late"]}))
    assert set(table["level"]) == {"subject"}
    assert arrays.attributes["no_group"] == "2 subjects: no group test below 5"
    assert set(arrays.attributes["models"].values()) == {"control:late"}
    moved = dict(inputs)
    moved["06"] = []
    for path in inputs["06"]:
        moved["06"].append(tmp_path / path.name)
        write_recording(moved["06"][-1], replace(read_recording(path), affine=np.diag([3.0, 3.0, 3.5, 1.0])))
    _, arrays = search(folder, tmp_path, moved, study({"n_chunks": 1}, regions={}))
    assert "different grids" in arrays.attributes["no_group"]


def test_subjects_that_cannot_be_used_are_left_out_by_name(planted, tmp_path):
    folder, inputs = planted
    bad = {"01": inputs["01"], "02": [], "03": []}
    for subject, changes in (("02", {"excluded": "too much motion"}), ("03", {})):
        for path in inputs[subject]:
            recording = replace(read_recording(path), **changes)
            keep = recording.conditions != NAMES[0]
            if subject == "03":
                recording = replace(recording, data=recording.data[keep], conditions=recording.conditions[keep])
            bad[subject].append(tmp_path / path.name)
            write_recording(bad[subject][-1], recording)
    table, arrays = search(folder, tmp_path, bad, study())
    assert set(table["subject"]) == {"01"}
    assert arrays.attributes["excluded"] == {"02": "all runs are excluded", "03": f"no trial of {NAMES[0]}"}
    with pytest.raises(InputError, match="one subject or more with a searchlight"):
        search(folder, tmp_path, {"02": bad["02"]}, study())


def test_constant_patterns_are_counted(planted, tmp_path):
    folder, inputs = planted
    paths = []
    for path in inputs["01"]:
        recording = read_recording(path)
        data = recording.data.copy()
        data[np.ix_(recording.conditions == NAMES[0], np.arange(data.shape[1] // 2))] = 0
        paths.append(tmp_path / path.name)
        write_recording(paths[-1], replace(recording, data=data))
    table, arrays = search(folder, tmp_path, {"01": paths}, study())
    counts = arrays.attributes["counts"]["01"]
    assert 0 < counts["n_undefined"] < counts["n_centres"]
    assert np.isnan(arrays["01/controlLate"]).sum() == counts["n_undefined"] + counts["n_left_out"]
    assert f"{counts['n_undefined']} centres without a score" in table["method"].iloc[0]


def test_no_volumes_and_other_grids_between_runs_are_refused(planted, tmp_path):
    folder, inputs = planted
    first, second = (read_recording(path) for path in inputs["01"])
    write_recording(tmp_path / "a.h5", first)
    write_recording(tmp_path / "b.h5", replace(second, affine=np.diag([3.0, 3.0, 4.0, 1.0])))
    names = np.array([f"v{i}" for i in range(first.data.shape[1])], dtype=object)
    write_recording(tmp_path / "c.h5", replace(first, kind="surface", mask=None, affine=None, names=names))
    with pytest.raises(InputError, match="on the grid of"):
        search(folder, tmp_path, {"01": [tmp_path / "a.h5", tmp_path / "b.h5"]}, study())
    with pytest.raises(InputError, match="volumes, for spheres of voxels, found surface"):
        search(folder, tmp_path, {"01": [tmp_path / "c.h5"]}, study())
    with pytest.raises(InputError, match="a radius that reaches the next voxel, found 2 mm"):
        search(folder, tmp_path, {"01": inputs["01"]}, study({"radius_mm": 2.0}))
    with pytest.raises(SettingsError, match="'control:lat' is no model here; they are control:early"):
        search(folder, tmp_path, {"01": inputs["01"]}, study({"models": ["control:lat"]}))


@pytest.mark.parametrize(
    ("alignment", "message"),
    [
        ({"comparators": ["tau_a"]}, "must be of"),
        ({"recordings": "rdms"}, "needs trial estimates"),
        ({"rdm": "mahalanobis"}, "no noise covariance in its spheres"),
    ],
)
def test_settings_that_do_not_fit_are_refused(alignment, message):
    with pytest.raises(SettingsError, match=message):
        study(**alignment)


def test_there_is_no_test_where_zero_is_not_chance():
    assert "above zero by chance" in no_test("cosine", "correlation", 9)
    assert no_test("cosine", "crossnobis", 9) == ""
    assert no_test("spearman", "euclidean", 5) == ""


def test_clusters_that_reach_wide_gain_by_tfce():
    rng = np.random.default_rng(5)
    mask = np.ones((6, 6, 6), dtype=bool)
    scores = 0.2 * rng.standard_normal((8, 216))
    inside = np.zeros(mask.shape, dtype=bool)
    inside[:3, :3, :3] = True
    scores[:, inside.ravel()] += 0.25
    plain, enhanced = (group_map(scores, mask, AFFINE, name, 100, 0) for name in ("max", "tfce"))
    assert (enhanced.p[inside.ravel()] <= 0.05).sum() > (plain.p[inside.ravel()] <= 0.05).sum()
    assert (enhanced.p[~inside.ravel()] <= 0.05).mean() < 0.1
    largest = surviving(enhanced, mask, 0.05)[0]
    assert enhanced.statistic[largest[0]] == enhanced.statistic[largest].max()
    assert searchlight_group.place_of(int(np.ravel_multi_index((1, 2, 3), (6, 6, 6))), mask, AFFINE) == (3, 6, 9)


def test_the_last_layer_at_the_first_size_is_shown():
    rows = [ModelRow("control", "control:pixel", None)]
    for size in ("32", "0"):
        for layer in ("conv1", "fc1", "fc1_pooled"):
            rows += [ModelRow("network", "backprop", None, "cnn3", seed, layer, size) for seed in ("0", "1")]
    assert shown_models(rows) == ["control:pixel", "backprop cnn3 fc1 32px"]
