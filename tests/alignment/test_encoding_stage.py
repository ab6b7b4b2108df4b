"""The stage `align-encoding` on planted responses, its verdicts, and what the page shows of it."""

import numpy as np
import pandas as pd
import pytest

from decoders.config import parse_settings
from decoders.data.manifest import write_manifest
from decoders.errors import SettingsError
from decoders.report.sections.alignment import _encoding
from decoders.report.words import analysis
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.verdicts import encoding_verdicts
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, write_recording
from decoders.store.tables import COLUMNS, read_table, write_json, write_table

N, N_VOXELS = 16, 6
NAMES = [f"p{i:02d}" for i in range(N)]
TEXT = ("subject", "seed", "size")


def text_array(values, axis):
    return Array(np.array(values, dtype=object), (axis,))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Five subjects with three runs; backprop's fc1 is what the voxels hold, up to noise."""
    folder = tmp_path_factory.mktemp("encoding")
    rng = np.random.default_rng(0)
    content = rng.standard_normal((N, 5))
    subjects = ["01", "02", "03", "04", "05"]
    estimates = []
    for subject in subjects:
        signal = content @ rng.standard_normal((5, N_VOXELS))
        for run in ("1", "2", "3"):
            order = rng.permutation(N)
            values = (signal + rng.standard_normal(signal.shape))[order].astype(np.float32)
            names = np.array(NAMES, dtype=object)[order]
            estimates.append(folder / f"{subject}_{run}.h5")
            recording = Recording(values, "region", subject, run=run, axis="trial", time=np.arange(N) * 4.0, tr=2.0,
                                  names=np.array([f"v{i}" for i in range(N_VOXELS)], dtype=object), conditions=names)  # fmt: skip
            write_recording(estimates[-1], recording)
    write_manifest(folder / "manifest.tsv", [])
    rdms = {"subjects": text_array(subjects, "subject"), "stimuli": text_array(NAMES, "stimulus")}
    write_arrays(folder / "rdms.h5", rdms, {})
    pictures = rng.integers(0, 255, (N, 8, 8, 3)).astype(np.uint8)
    arrays = {
        "pictures": Array(pictures, ("picture", "row", "column", "channel")),
        "names": text_array(NAMES, "picture"),
    }
    write_arrays(folder / "pictures.h5", arrays, {})
    write_table(folder / "pictures.tsv", pd.DataFrame({"stimulus": NAMES, "animate": ["yes", "no"] * (N // 2)}))
    inputs = {"manifest": [folder / "manifest.tsv"], "estimates": estimates, "rdms": [folder / "rdms.h5"],
              "pictures": [folder / "pictures.h5"], "labels": [folder / "pictures.tsv"], "features": [], "card": []}  # fmt: skip
    for rule in ("untrained", "backprop"):
        for seed in range(2):
            base = content @ rng.standard_normal((5, 20)) if rule == "backprop" else np.zeros((N, 20))
            layer = Array(base + 0.3 * rng.standard_normal(base.shape), ("stimulus", "unit"))
            write_arrays(folder / f"{rule}{seed}.h5", {"32/fc1": layer}, {"stimuli": NAMES})
            card = {"rule": rule, "architecture": "cnn3", "seed": seed, "trained": "yes", "claimed": {"fc1": True}}
            write_json(folder / f"{rule}{seed}.json", card if rule == "backprop" else {**card, "claimed": {}})
            inputs["features"].append(folder / f"{rule}{seed}.h5")
            inputs["card"].append(folder / f"{rule}{seed}.json")
    return inputs


def settings(**alignment):
    block = {"controls": ["pixel", "luminance", "animacy"], "n_bootstrap": 200, **alignment}
    return parse_settings(
        {"study": "x", "data": {"source": "bids", "root": "b"}, "preprocess": {"estimates": "lsa"}, "alignment": block}
    )


@pytest.fixture(scope="module")
def tables(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    outputs = {name: folder / f"{name}.tsv" for name in ("encoding", "encoding_scores")}
    own = settings(encoding={"penalties": [0.1, 1.0, 10.0], "n_permutations": 60, "n_folds": 4, "n_band_weights": 4})
    run_stage(SettingsSlice.of("align-encoding", own), study, outputs)
    return {name: read_table(path, TEXT) for name, path in outputs.items()}


def test_the_tables_are_those_of_inference_and_of_scores(tables):
    encoding, scores = tables["encoding"], tables["encoding_scores"]
    assert tuple(encoding.columns[:14]) == COLUMNS["inference"]
    assert set(encoding["analysis"]) == {"encoding"}
    assert encoding.groupby("family").size().to_dict() == {
        "encoding: models against chance, all": 5,
        "encoding: region mean against chance, all": 5,
        "encoding: rules against rules, all": 1,
        "encoding: models against controls, all": 2,
        "encoding: controls against controls, all": 3,
        "encoding: models beyond all controls together, all": 2,
    }
    assert encoding["method"].str.contains("share training stimuli").all()
    assert not encoding["method"].str.contains("bootstrap over stimuli").any()
    assert encoding["method"].str.contains(r"bootstrap over subjects").all()
    # Five subjects; three controls and four networks; two measures and CKA.
    assert len(scores) == 5 * 7 * 3


def test_planted_responses_are_found_beyond_the_controls(tables):
    encoding = tables["encoding"].set_index(["family", "model"])
    chance = encoding.loc["encoding: models against chance, all", "p_corrected"]
    assert chance["backprop cnn3 fc1 32px"] < 0.05
    assert (chance.drop("backprop cnn3 fc1 32px") > 0.05).all()
    for family in ("models against controls", "models beyond all controls together"):
        rows = encoding.loc[f"encoding: {family}, all"]
        assert rows.loc["backprop cnn3 fc1 32px", "p_corrected"] < 0.05
        assert rows.loc["untrained cnn3 fc1 32px", "p_corrected"] > 0.05
    cka = tables["encoding_scores"].query("comparator == 'linear_cka'").groupby("rule")["score"].mean()
    assert cka.idxmax() == "backprop"


def test_the_verdicts_and_the_page_say_so(tables):
    found = encoding_verdicts(tables["encoding_scores"], tables["encoding"], 0.05).set_index("analysis")
    assert found.loc["encoding all: backprop cnn3 fc1 32px", "verdict"] == "above all controls"
    assert found.loc["encoding all: untrained cnn3 fc1 32px", "verdict"] == "not above chance"
    assert found.index[0] == "encoding ranking of rules, all"
    assert analysis(found.index[0]) == "Encoding, ranking of the rules, all"

    from decoders.report.read import Results

    page = Results(SettingsSlice.of("report", settings()), tables)
    figure, table = _encoding(page)
    assert "held-out correlation" in str(figure.drawings[0][1])
    assert len(table.data.rows) == len(tables["encoding"])
    assert _encoding(Results(SettingsSlice.of("report", settings()), {})) == []


def test_encoding_of_shipped_rdms_is_refused():
    with pytest.raises(SettingsError, match="needs responses"):
        settings(recordings="rdms", encoding={})
