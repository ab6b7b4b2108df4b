"""The stage `fusion` and MEG times as models of the searchlight, on files: names, people, bad input, verdicts."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from decoders.alignment.comparators import pool
from decoders.alignment.fusion.maps import chosen_times
from decoders.alignment.fusion.pairing import choose_reference, pair_region
from decoders.alignment.models import reorder
from decoders.alignment.recorded import Recorded
from decoders.alignment.stage_searchlight_models import read_models
from decoders.config import parse_settings
from decoders.errors import InputError, SettingsError
from decoders.report.words import model_words
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.verdicts_fusion import TOGETHER, fusion_verdicts
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.tables import COLUMNS, read_table

N, TIMES = 12, np.arange(-0.05, 0.151, 0.01)
NAMES = [f"p{i:02d}" for i in range(N)]
PEOPLE = ["01", "02", "03", "04", "05"]
TEXT = ("subject", "region", "model", "reference")


def words(values, axis):
    return Array(np.array(values, dtype=object), (axis,))


def geometry(rng, n=N):
    return pdist(rng.standard_normal((n, 6)), "sqeuclidean")


def files(folder, meg_people=PEOPLE, fmri_people=PEOPLE, meg_names=NAMES, spoil=None):
    """Write RDMs of fMRI (IT holds A) and of MEG (A at 60 ms), and a control that is A; return the inputs."""
    rng = np.random.default_rng(0)
    a = geometry(rng)
    place = {name: number for number, name in enumerate(NAMES)}
    positions = np.array([place.get(name, number) for number, name in enumerate(meg_names)])
    course = np.exp(-0.5 * ((TIMES - 0.06) / 0.02) ** 2)
    meg = np.outer(course, reorder(a, positions))[None] + 2.0 * rng.standard_normal((len(meg_people), len(TIMES), len(positions) * (len(positions) - 1) // 2))  # fmt: skip
    if spoil is not None:
        meg[spoil, 3, 5] = np.nan
    regions = {"IT": a + 2 * rng.standard_normal((len(fmri_people), a.size)), "EVC": np.full((len(fmri_people), a.size), np.nan)}  # fmt: skip
    arrays = {name: Array(rdms, ("subject", "pair")) for name, rdms in regions.items()}
    names = {"subjects": words(fmri_people, "subject"), "stimuli": words(NAMES, "stimulus")}
    write_arrays(folder / "rdms.h5", {**arrays, **names}, {})
    sensor = {"rdms": Array(meg, ("subject", "time", "pair")), "times": Array(TIMES, ("time",), "s")}
    names = {"subjects": words(meg_people, "subject"), "stimuli": words(meg_names, "stimulus")}
    write_arrays(folder / "time_rdms.h5", {**sensor, **names}, {"method": "crossnobis", "excluded": {}})
    controls = {"pixel": Array(a, ("pair",)), "hog": Array(geometry(rng), ("pair",)), "names": words(NAMES, "picture")}
    write_arrays(folder / "controls.h5", controls, {})
    return {key: [folder / f"{key}.h5"] for key in ("rdms", "time_rdms", "controls")}


def study(fusion=None, **alignment):
    fusion = {"n_permutations": 200} | (fusion or {})
    settings = {"recordings": "rdms", "n_bootstrap": 60, "time": {}, "fusion": fusion, **alignment}
    return parse_settings(
        {"study": "x", "data": {"source": "bids", "root": "b"}, "preprocess": {}, "alignment": settings}
    )


def run_fusion(folder, inputs, fusion=None, **alignment):
    outputs = {name: folder / f"{name}.tsv" for name in ("fusion", "clusters", "latencies")}
    outputs["arrays"] = folder / "fusion.h5"
    run_stage(SettingsSlice.of("fusion", study(fusion, **alignment)), inputs, outputs)
    return {name: read_table(path, TEXT) for name, path in outputs.items() if path.suffix == ".tsv"}, outputs


def test_the_tables_the_arrays_and_the_verdicts(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        tables, outputs = run_fusion(tmp_path, files(tmp_path))
    assert "region EVC is left out, nobody has a usable fMRI RDM there" in caplog.text
    table = tables["fusion"]
    assert tuple(table.columns[:14]) == COLUMNS["inference"]
    assert set(table["analysis"]) == {"fusion", "partial_fusion", "commonality"}
    fusion = table[table["analysis"] == "fusion"]
    assert len(fusion) == len(TIMES)
    assert fusion.loc[fusion["estimate"].idxmax(), "time"] == pytest.approx(0.06, abs=0.021)
    assert fusion["method"].str.contains("own fMRI").all()
    assert tuple(tables["clusters"].columns) == COLUMNS["time_clusters"]
    assert tuple(tables["latencies"].columns[:10]) == COLUMNS["latencies"]
    arrays = read_arrays(outputs["arrays"])
    np.testing.assert_allclose(arrays["fusion/IT"], fusion["estimate"], atol=1e-9)
    np.testing.assert_allclose(arrays["fusion/IT"], arrays["people/IT"].mean(axis=0), atol=1e-12)
    assert arrays["models"].tolist() == ["control:hog", "control:pixel"]
    assert arrays["commonality/IT"].shape == arrays["commonality_low/IT"].shape == (2, len(TIMES))
    assert (arrays["commonality/IT"] <= arrays["maximum/IT"] + 1e-12).all()
    np.testing.assert_allclose(arrays["maximum/IT"], (arrays["people/IT"] ** 2).mean(axis=0), atol=1e-12)
    run_stage(SettingsSlice.of("verdict", study()), {"fusion": [outputs["fusion"]]}, {"verdicts": tmp_path / "v.tsv"})
    verdicts = read_table(tmp_path / "v.tsv", TEXT)
    assert verdicts["analysis"][0].startswith("fusion IT: peak at ")
    assert verdicts["verdict"][0] == "above chance but explained by pixel"


def test_stimuli_in_another_order_give_the_same_numbers(tmp_path):
    plain, _ = run_fusion(tmp_path, files(tmp_path))
    inputs = files(tmp_path)
    file = read_arrays(inputs["time_rdms"][0])
    order = np.random.default_rng(1).permutation(N)

    def write(names):
        rdms = np.array([[reorder(rdm, order) for rdm in person] for person in file["rdms"]])
        arrays = file.arrays | {"rdms": Array(rdms, ("subject", "time", "pair")), "stimuli": words(names, "stimulus")}
        write_arrays(inputs["time_rdms"][0], arrays, {})
        return run_fusion(tmp_path, inputs)[0]

    moved = write([NAMES[i] for i in order])
    pd.testing.assert_frame_equal(plain["fusion"], moved["fusion"])
    # The bug: stimuli are matched by their place, not by name.
    with pytest.raises(AssertionError):
        pd.testing.assert_frame_equal(plain["fusion"], write(NAMES)["fusion"])


def test_other_people_are_compared_with_the_mean_of_all_others(tmp_path):
    tables, outputs = run_fusion(tmp_path, files(tmp_path, meg_people=["01", "06", "07"]))
    assert tables["fusion"]["method"][0].count("mean fMRI RDM of all other people") == 1
    arrays = read_arrays(outputs["arrays"])
    assert arrays.attributes["reference"] == "others"
    assert arrays.attributes["people"]["IT"] == ["01", "06", "07"]
    assert len(tables["clusters"]) == 0
    fmri = read_arrays(tmp_path / "rdms.h5")["IT"]
    found = pair_region(["01", "06"], Recorded("IT", PEOPLE, fmri), "others", "spearman")
    np.testing.assert_array_equal(found.reference[0], pool(fmri[1:], "spearman"))
    np.testing.assert_array_equal(found.reference[1], pool(fmri, "spearman"))
    assert not np.array_equal(found.reference[0], found.reference[1])


def test_the_reference_is_one_choice_for_all_regions():
    rdms = np.zeros((2, 3))
    both = [Recorded("a", ["01", "02"], rdms), Recorded("b", ["01", "02"], rdms)]
    assert choose_reference(["01", "02"], both, None) == "own"
    assert choose_reference(["01", "02"], [both[0], replace(both[1], subjects=["01", "03"])], None) == "others"
    assert choose_reference(["01", "02"], both, "others") == "others"
    left = pair_region(["01", "09"], both[0], "own", "spearman")
    assert left.left_out == {"09": "no fMRI of this person"}


def test_one_person_has_no_group(tmp_path):
    tables, _ = run_fusion(tmp_path, files(tmp_path, meg_people=["03"]))
    table = tables["fusion"]
    assert set(table["n_subjects"]) == {1}
    assert table["method"].str.contains("one subject: no inference beyond this subject").any()
    verdicts = fusion_verdicts(table, 0.05)
    assert set(verdicts["level"]) == {"subject"}
    assert set(verdicts["subject"]) == {"03"}


def test_without_models_there_is_fusion_alone(tmp_path):
    inputs = files(tmp_path)
    tables, outputs = run_fusion(tmp_path, {key: inputs[key] for key in ("rdms", "time_rdms")})
    assert set(tables["fusion"]["analysis"]) == {"fusion"}
    assert read_arrays(outputs["arrays"])["models"].size == 0
    verdicts = fusion_verdicts(tables["fusion"], 0.05)
    assert verdicts["explained_by"][0] == "controls that were not tested"


def test_a_person_with_gaps_is_left_out_by_name(tmp_path, caplog):
    inputs = files(tmp_path, spoil=1)
    with caplog.at_level(logging.WARNING):
        tables, outputs = run_fusion(tmp_path, inputs)
    assert "subject 02 is left out, MEG with dissimilarities that are not finite" in caplog.text
    assert set(tables["fusion"]["n_subjects"]) == {4}
    assert read_arrays(outputs["arrays"]).attributes["excluded"] == {"02": "dissimilarities that are not finite"}


OTHERS = [f"q{i:02d}" for i in range(N)]


@pytest.mark.parametrize(
    ("changes", "fusion", "sentence"),
    [
        ({"meg_names": OTHERS}, {}, "stimuli that MEG and fMRI have in common, found none .fMRI: 'p00'"),
        ({"meg_names": NAMES[:11]}, {}, "the same stimuli in MEG and fMRI, found 'p11' in fMRI alone.*to 'common' to use the 11"),
        ({"meg_names": [*NAMES[:11], "q"]}, {}, "'p11' in fMRI alone and 1 more in one of them alone"),
        ({"meg_names": NAMES[:9]}, {"stimuli": "common"}, "10 stimuli or more in MEG and fMRI, found 9"),
        ({"meg_people": ["11"]}, {"reference": "own"}, "region IT: expected people with both, found MEG of 11"),
        ({"fmri_people": ["01"], "meg_people": ["01"]}, {"reference": "others"}, "fMRI of other people than those with MEG"),
        ({"meg_people": ["01"], "spoil": 0}, {}, "usable sensor RDMs of one subject or more, found none .01: dissim"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence(tmp_path, changes, fusion, sentence):
    inputs = files(tmp_path, **changes)
    with pytest.raises(InputError, match=sentence):
        run_fusion(tmp_path, inputs, fusion)


def test_common_stimuli_are_used_where_the_study_says_so(tmp_path, caplog):
    inputs = files(tmp_path, meg_names=[*NAMES[:11], "q"])
    with caplog.at_level(logging.WARNING):
        tables, _ = run_fusion(tmp_path, inputs, {"stimuli": "common"})
    assert "11 stimuli are in both MEG and fMRI" in caplog.text
    assert set(tables["fusion"]["n_stimuli"]) == {11}


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"alignment.fusion.models: 'control:gist' is no model here"):
        run_fusion(tmp_path, files(tmp_path), {"models": ["control:gist"]})


def searchlight_models(folder, inputs, fusion=None):
    run_stage(SettingsSlice.of("searchlight-models", study(fusion)), inputs, {"models": folder / "models.h5"})
    return read_models(folder / "models.h5")


def test_meg_times_are_models_of_the_searchlight(tmp_path):
    inputs = files(tmp_path)
    found = searchlight_models(tmp_path, inputs)
    assert found.chosen(None) == ["control:hog", "control:pixel", "meg:0ms", "meg:50ms", "meg:100ms", "meg:150ms"]
    rdms = read_arrays(inputs["time_rdms"][0])["rdms"]
    row = found.groups["meg:50ms"][0]
    np.testing.assert_array_equal(found.vectors[row], pool(rdms[:, 10], "spearman"))
    chosen = searchlight_models(tmp_path, inputs, {"map_times_ms": [61.0]})
    assert [name for name in chosen.groups if name.startswith("meg:")] == ["meg:60ms"]
    assert model_words("meg:60ms") == "MEG at 60 ms"
    without = searchlight_models(tmp_path, {key: inputs[key] for key in ("rdms", "controls")})
    assert list(without.groups) == ["control:hog", "control:pixel"]


def test_meg_that_lacks_stimuli_makes_no_maps(tmp_path, caplog):
    inputs = files(tmp_path, meg_names=NAMES[:11])
    with pytest.raises(InputError, match="all 12 recorded stimuli by name, found no 'p11'"):
        searchlight_models(tmp_path, inputs)
    with caplog.at_level(logging.WARNING):
        found = searchlight_models(tmp_path, inputs, {"stimuli": "common"})
    assert "no maps of MEG times" in caplog.text
    assert list(found.groups) == ["control:hog", "control:pixel"]


def test_a_time_beyond_the_epoch_is_refused():
    np.testing.assert_array_equal(chosen_times(TIMES, [60.0, 62.0, 150.0]), [11, 20])
    with pytest.raises(SettingsError, match=r"200 ms lies beyond the MEG epochs .-50 to 150 ms"):
        chosen_times(TIMES, [200.0])


def test_meg_times_are_points_of_the_map_of_rdms(tmp_path):
    inputs = files(tmp_path)
    outputs = {name: tmp_path / f"{name}.tsv" for name in ("scores", "ceilings", "inference", "geometry")}
    run_stage(SettingsSlice.of("align", study()), inputs, outputs | {"models": tmp_path / "m.h5"})
    table = read_table(outputs["geometry"])
    assert set(table[table["kind"] == "time"]["item"]) == {"meg:0ms", "meg:50ms", "meg:100ms", "meg:150ms"}
    near = table[table["item"] == "control:pixel"].set_index("other")["distance"]
    assert near["meg:50ms"] < min(near["meg:0ms"], near["meg:150ms"])
    # MEG times are no models of the regions: no test takes them in.
    assert not read_table(outputs["inference"])["contrast"].str.contains("meg:").any()


def region(p_fusion, p_partial, p_pixel):
    common = {"region": "IT", "n_subjects": 8, "ci_low": 0.1, "ci_high": 0.3, "null_mean": 0.0, "subject": None}
    rows = [
        {"family": "f", "analysis": "fusion", "time": time, "estimate": value, "p_corrected": p, "model": "fusion"}
        for time, value, p in ((0.1, 0.2, p_fusion), (0.2, 0.1, 0.9))
    ]
    rows += [{"family": "p", "analysis": "partial_fusion", "time": 0.1, "estimate": 0.1, "p_corrected": p_partial}]
    for name, value in (("control:pixel", 0.03), ("control:hog", 0.01), ("user:own", 0.04)):
        rows.append({"family": "c", "analysis": "commonality", "time": 0.1, "estimate": value, "p_corrected": p_pixel, "model": name})  # fmt: skip
    return pd.DataFrame([{**common, **row} for row in rows])


@pytest.mark.parametrize(
    ("p", "sentence", "by"),
    [
        ((0.01, 0.01, 0.01), "above all controls", None),
        ((0.01, 0.20, 0.01), "above chance but explained by pixel", "pixel"),
        ((0.01, 0.20, 0.20), f"above chance but explained by {TOGETHER}", TOGETHER),
        ((0.20, 0.01, 0.01), "not above chance", None),
    ],
)
def test_verdicts_of_a_region(p, sentence, by):
    found = fusion_verdicts(region(*p), 0.05)
    assert found["verdict"].tolist() == [sentence]
    assert found["explained_by"][0] == by
    assert found["analysis"][0] == "fusion IT: peak at 100 ms"
    assert found["score"][0] == 0.2
