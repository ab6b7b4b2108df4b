"""The stage `align` on planted RDMs, and on the 92 objects where the mirror is there."""

import numpy as np
import pandas as pd
import pytest

from decoders.alignment.rdm import correlation_rdm
from decoders.config import parse_settings
from decoders.data.manifest import write_manifest
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.tables import COLUMNS, read_table, write_json

TEXT = ("subject", "seed", "size")
N_STIMULI = 14
NAMES = [f"p{i:02d}" for i in range(N_STIMULI)]


def text_array(values, axis):
    return Array(np.array(values, dtype=object), (axis,))


@pytest.fixture
def study(tmp_path):
    """Two regions, five subjects; backprop's fc1 is what IT holds, pixels are what EVC holds."""
    rng = np.random.default_rng(0)
    pixel, content = rng.standard_normal((2, N_STIMULI, 20))
    subjects = ["01", "02", "03", "04", "05"]
    regions = {}
    for region, code in (("EVC", pixel), ("IT", content)):
        rdms = [correlation_rdm(code + 0.6 * rng.standard_normal(code.shape)) for _ in subjects]
        regions[region] = Array(np.array(rdms), ("subject", "pair"))
    # A subject without a usable RDM in one region.
    regions["IT"].values[4] = np.nan
    names = {"subjects": text_array(subjects, "subject"), "stimuli": text_array(NAMES, "stimulus")}
    write_arrays(tmp_path / "rdms.h5", {**regions, **names}, {})
    noise = correlation_rdm(rng.standard_normal((N_STIMULI, 20)))
    controls = {"pixel": Array(correlation_rdm(pixel), ("pair",)), "hog": Array(noise, ("pair",))}
    definitions = {"definitions": {"pixel": "Pixels.", "hog": "Gradients."}}
    write_arrays(tmp_path / "controls.h5", {"names": text_array(NAMES, "picture"), **controls}, definitions)
    inputs = {"rdms": [tmp_path / "rdms.h5"], "controls": [tmp_path / "controls.h5"], "features": [], "card": []}
    for rule in ("untrained", "backprop"):
        for seed in range(3):
            base = content if rule == "backprop" else np.zeros_like(content)
            layers = {
                "32/conv1": rng.standard_normal((N_STIMULI, 30)),
                "32/fc1": base + 0.5 * rng.standard_normal(content.shape),
            }
            arrays = {name: Array(values, ("stimulus", "unit")) for name, values in layers.items()}
            write_arrays(tmp_path / f"{rule}{seed}.h5", arrays, {"stimuli": NAMES})
            card = {"rule": rule, "architecture": "cnn3", "seed": seed, "trained": "yes", "claimed": {"fc1": True}}
            if rule == "untrained":
                card |= {"trained": "no", "claimed": {"fc1": False}}
            write_json(tmp_path / f"{rule}{seed}.json", card)
            inputs["features"].append(tmp_path / f"{rule}{seed}.h5")
            inputs["card"].append(tmp_path / f"{rule}{seed}.json")
    return inputs


def align(folder, inputs, **alignment):
    settings = {"recordings": "rdms", "n_bootstrap": 300, **alignment}
    study = parse_settings({"study": "x", "data": {"source": "bids", "root": "b"}, "alignment": settings})
    outputs = {name: folder / f"{name}.tsv" for name in ("scores", "ceilings", "inference")}
    outputs["models"] = folder / "models.h5"
    run_stage(SettingsSlice.of("align", study), inputs, outputs)
    return {name: read_table(path, TEXT) for name, path in outputs.items() if path.suffix == ".tsv"}, outputs["models"]


def test_the_tables_hold_every_row_and_family(study, tmp_path):
    tables, path = align(tmp_path, study, comparators=["spearman", "cosine"])
    scores, inference = tables["scores"], tables["inference"]
    assert tuple(scores.columns[:10]) == COLUMNS["alignment_scores"]
    # Nine subject-region pairs, two controls and 2 rules x 3 seeds x 2 layers, two comparators.
    assert len(scores) == 9 * (2 + 12) * 2
    pixel = scores[scores["rule"] == "control:pixel"]
    assert pixel["seed"].isna().all()
    assert pixel["layer"].isna().all()
    assert (pixel["size"] == "native").all()
    assert set(tables["ceilings"]["n_subjects"]) == {4, 5}
    sizes = inference.groupby("family").size().to_dict()
    for region in ("EVC", "IT"):
        assert sizes[f"models against chance, {region}"] == 6
        assert sizes[f"rules against rules, {region}"] == 2
        assert sizes[f"models against controls, {region}"] == 4
        assert sizes[f"controls against controls, {region}"] == 1
    # The regions have other subjects: they are not contrasted.
    assert not any(name.startswith("controls between") for name in sizes)
    drawn = read_arrays(path)
    assert set(drawn.arrays) == {
        "recorded:EVC", "recorded:IT", "control:pixel", "control:hog", "backprop cnn3 fc1 32px", "untrained cnn3 fc1 32px"
    }  # fmt: skip
    assert drawn.attributes["stimuli"] == NAMES
    assert drawn.attributes["definitions"]["pixel"] == "Pixels."


def test_planted_models_are_found_and_others_are_not(study, tmp_path):
    inference = align(tmp_path, study)[0]["inference"].set_index(["family", "model"])
    chance = inference.loc["models against chance, IT"]["p_corrected"]
    assert chance["backprop cnn3 fc1 32px"] <= 0.01
    assert (chance.drop("backprop cnn3 fc1 32px") > 0.05).all()
    evc = inference.loc["models against chance, EVC"]["p_corrected"]
    assert evc["control:pixel"] <= 0.01
    assert (evc.drop("control:pixel") > 0.05).all()
    row = inference.loc[("models against controls, IT", "backprop cnn3 fc1 32px")]
    # The untrained network counts among the controls of a trained rule.
    assert row["reference"] in ("control:pixel", "control:hog", "untrained cnn3 fc1 32px")
    assert row["estimate"] > 0.2
    assert "seeds" in row["method"]


def test_the_same_seed_gives_the_same_bits(study, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        align(tmp_path / name, study)
    files = [(tmp_path / name / "inference.tsv").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_network_that_is_not_trained_is_scored_but_not_ranked(study, tmp_path):
    for path in study["card"][3:]:
        card = {"rule": "backprop", "architecture": "cnn3", "seed": int(path.stem[-1])}
        write_json(path, {**card, "trained": "no", "claimed": {"fc1": True}})
    tables, path = align(tmp_path, study)
    assert (tables["scores"]["rule"] == "backprop").any()
    assert not tables["inference"]["model"].str.startswith("backprop").any()
    assert not tables["inference"]["family"].str.startswith("rules against rules").any()
    note = tables["inference"].query("family == 'models against controls, IT'")["method"]
    assert note.str.contains(r"left out as not trained: backprop cnn3 conv1 32px \(seed 0\)").all()
    assert read_arrays(path).attributes["not_ranked"] == ["backprop cnn3 conv1 32px", "backprop cnn3 fc1 32px"]


def test_one_subject_and_few_stimuli(study, tmp_path):
    file = read_arrays(study["rdms"][0])
    few = [i for i, (a, b) in enumerate(zip(*np.triu_indices(N_STIMULI, 1), strict=True)) if b < 8]
    arrays = {
        "IT": Array(file["IT"][:1, few], ("subject", "pair")),
        "subjects": text_array(["01"], "subject"),
        "stimuli": text_array(NAMES[:8], "stimulus"),
    }
    write_arrays(tmp_path / "few.h5", arrays, {})
    inputs = {"rdms": [tmp_path / "few.h5"], "controls": study["controls"]}
    tables, _ = align(tmp_path, inputs)
    assert tables["ceilings"]["ceiling_low"].isna().all()
    table = tables["inference"].set_index("family")
    contrast = table.loc["controls against controls, IT"]
    assert np.isnan(contrast["p"])
    assert "no test" in contrast["method"]
    assert "one subject: no inference beyond this subject" in contrast["method"]
    assert "fewer than 10" in contrast["method"]
    # Relabelling the stimuli needs neither.
    assert table.loc["models against chance, IT"]["p"].notna().all()


def test_no_model_and_unpaired_cards_are_refused(study, tmp_path):
    with pytest.raises(InputError, match="a model to compare"):
        align(tmp_path, {"rdms": study["rdms"]})
    with pytest.raises(InputError, match="5 cards for 6 features files"):
        align(tmp_path, {**study, "card": study["card"][1:]})
    file = read_arrays(study["rdms"][0])
    arrays = {**file.arrays, "EVC": Array(np.full((5, 91), np.nan), ("subject", "pair"))}
    arrays["IT"] = arrays["EVC"]
    write_arrays(tmp_path / "none.h5", arrays, {})
    with pytest.raises(InputError, match="none that is usable"):
        align(tmp_path, {**study, "rdms": [tmp_path / "none.h5"]})


@pytest.fixture(scope="module")
def objects92(tmp_path_factory):
    """The stages pictures, rdms and align on the 92 objects, with all controls but the filter banks."""
    import os
    from pathlib import Path

    from decoders.data.adapters.cichy92 import read_runs

    folder = tmp_path_factory.mktemp("objects92")
    controls = ["pixel", "silhouette", "luminance", "animacy", "face", "human", "natural", "hog"]
    comparators = ["spearman", "rho_a"]
    study = parse_settings(
        {
            "study": "x",
            "data": {"source": "registry", "name": "rsa92_fmri_cichy2014"},
            "alignment": {"recordings": "rdms", "controls": controls, "comparators": comparators},
        }
    )
    write_manifest(folder / "manifest.tsv", read_runs(Path(os.environ["CORTICODE_MIRROR"]) / "rsa92_fmri_cichy2014"))
    manifest = {"manifest": [folder / "manifest.tsv"]}
    files = {"pictures": "pictures.h5", "labels": "pictures.tsv", "controls": "controls.h5"}
    files = {name: folder / file for name, file in files.items()}
    run_stage(SettingsSlice.of("pictures", study), manifest, files)
    run_stage(SettingsSlice.of("rdms", study), manifest, {"rdms": folder / "rdms.h5"})
    inputs = {"rdms": [folder / "rdms.h5"], **{name: [path] for name, path in files.items()}}
    return align(folder, inputs, controls=controls, comparators=comparators, n_bootstrap=1000)[0]


CEILINGS = {"EVC": (0.2419, 0.3917), "IT": (0.4525, 0.5422)}
CONTROLS = {
    "pixel": (0.179, 0.146), "silhouette": (0.211, 0.132), "luminance": (0.022, 0.052), "animacy": (0.020, 0.255),
    "face": (-0.025, 0.142), "human": (0.053, 0.141), "natural": (0.029, 0.099),
}  # fmt: skip


@pytest.mark.mirror
@pytest.mark.parametrize("comparator", ["spearman", "rho_a"])
@pytest.mark.parametrize("region", ["EVC", "IT"])
def test_ceilings_of_the_92_objects(objects92, region, comparator):
    table = objects92["ceilings"].set_index(["region", "comparator"])
    found = table.loc[(region, comparator), ["ceiling_low", "ceiling_high"]].tolist()
    assert found == pytest.approx(CEILINGS[region], abs=0.001)


@pytest.mark.mirror
@pytest.mark.parametrize("control", CONTROLS)
def test_controls_of_the_92_objects(objects92, control):
    scores = objects92["scores"].query(
        "comparator == 'spearman' and rule == @name", local_dict={"name": f"control:{control}"}
    )
    means = scores.groupby("region")["score"].mean()
    assert [means["EVC"], means["IT"]] == pytest.approx(CONTROLS[control], abs=0.005)


@pytest.mark.mirror
def test_contrasts_of_the_92_objects(objects92):
    """Estimates and intervals of an independent prototype (percentiles of a dual bootstrap)."""
    table = objects92["inference"].set_index("contrast")
    assert isinstance(table, pd.DataFrame)
    expected = {
        "control:animacy in EVC - IT": (-0.235, -0.314, -0.161),
        "control:pixel - chance": (0.179, 0.101, 0.263),
    }
    for name, (estimate, low, high) in expected.items():
        row = table.loc[[name]].iloc[0]
        assert row["estimate"] == pytest.approx(estimate, abs=0.005)
        assert [row["ci_low"], row["ci_high"]] == pytest.approx([low, high], abs=0.03)
        assert row["p_corrected"] < 0.01
