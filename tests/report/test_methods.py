import re

import pandas as pd
import pytest

from decoders.config import DecodingSettings, FreeTextSettings, VoxelMapSettings
from decoders.report.citations import ENTRIES, bibtex
from decoders.report.methods import methods, works
from decoders.report.read import read_results


def test_the_text_says_what_the_settings_say(study, tools):
    settings = tools.settings()
    words = methods(
        settings,
        read_results(settings, {"manifest": study.inputs["manifest"]}).table("manifest"),
        {"numpy": "2.0", "corticode": "0.1.0"},
    )
    for part in (
        "8 simulated recordings of 4 people",
        "sub-33_task-pictures_run-01 (all 6 regions are constant)",
        "cut-off 100 s",
        "5 times the mean",
        "maximum statistic",
        "numpy 2.0",
    ):
        assert part in words
    assert "  " not in words


def test_windows_are_identified_in_the_brain_when_encoding_and_in_the_features_after_the_gate(tools):
    paragraphs = methods(tools.settings(), pd.DataFrame(), {}).split("\n\n")
    encoding = next(words for words in paragraphs if words.startswith("Ridge encoding"))
    gate = next(words for words in paragraphs if "information bottleneck on the voxel grid" in words)
    assert "correlation of predicted and measured brain activity" in encoding
    assert "true features" not in encoding
    assert "correlation of decoded and true word features" in gate


def test_absent_blocks_are_not_described(tools):
    settings = tools.settings().model_copy(update={"decoding": None, "learning": None, "alignment": None})
    words = methods(settings, pd.DataFrame(), {})
    assert "RDM" not in words
    assert "Networks" not in words
    assert set(works(settings, {})) == {"nilearn", "fd"}


def test_every_entry_is_balanced_bibtex_with_its_own_key():
    keys = [re.match(r"@\w+\{([\w]+),", entry)[1] for entry in ENTRIES.values()]
    assert len(set(keys)) == len(keys)
    for entry in ENTRIES.values():
        assert entry.count("{") == entry.count("}")
        assert "title" in entry


def test_works_are_cited_once(tools):
    text = bibtex([*works(tools.settings(), {"numpy": "2"}), "numpy"])
    assert text.count("harris2020numpy") == 1
    assert "lillicrap2016" in text


def test_free_text_names_its_baselines(tools):
    block = FreeTextSettings(baselines=("retrieval", "tang2023"), width=40)
    decoding = DecodingSettings(voxels=VoxelMapSettings(), free_text=block)
    settings = tools.settings().model_copy(update={"decoding": decoding, "learning": None, "alignment": None})
    words = methods(settings, pd.DataFrame(), {})
    assert "a beam search over words (40 hypotheses)" in words
    assert "Baselines: retrieval of training passages by ridge and the decoder of Tang et al. (2023)." in words
    assert "tang2023" in works(settings, {})
    assert "Tang" not in methods(tools.settings(), pd.DataFrame(), {})


@pytest.mark.parametrize("group", [True, False])
def test_the_null_of_the_group_is_described_where_there_is_a_group(tools, group):
    decoding = DecodingSettings(voxels=VoxelMapSettings())
    settings = tools.settings().model_copy(update={"decoding": decoding, "learning": None, "alignment": None})
    assert ("the text was moved alike" in methods(settings, pd.DataFrame(), {}, group)) == group


def test_decoding_across_subjects_is_described_and_cited():
    from types import SimpleNamespace

    from decoders.config import AcrossSettings
    from decoders.report.citations import ENTRIES
    from decoders.report.methods import _across, _across_works

    plain = _across(AcrossSettings())
    assert "decoded from 0, 1, 3 and all of the subject's other runs" in plain
    assert "reversed" not in plain
    assert "reversed gradient (weight 0.5)" in _across(AcrossSettings(gradient_reversal=0.5))
    cited = _across_works(SimpleNamespace(methods=("shared", "hyperalignment", "within"), gradient_reversal=0.5))
    assert cited == ["editing", "hyperalignment", "reversal"]
    assert set(cited) <= set(ENTRIES)


def test_sensors_are_described_and_cited(tools):
    from types import SimpleNamespace

    from decoders.report import methods_meg

    manifest = pd.DataFrame({"status": ["ok", "ok", "excluded"], "modality": ["meg", "bold", "eeg"]})
    assert methods_meg.kinds_of(manifest) == ["meg"]
    assert not methods_meg.only_sensors(manifest)
    assert methods_meg.only_sensors(manifest[:1])
    block = SimpleNamespace(
        channels=("mag", "grad"), bad_channels="interpolate", maxwell="tsss", movement=True, notch=True, artefacts="ica",
        high_pass_hz=0.1, low_pass_hz=40.0, sfreq=200.0, noise="empty_room", epoch_s=(-0.2, 0.8), baseline_s=(-0.2, 0.0),
        reject="auto",
    )  # fmt: skip
    preprocess = SimpleNamespace(meg=block)
    words = methods_meg.sensor_preprocessing(preprocess, manifest, True)
    for part in (
        "MEG was processed with MNE-Python", "magnetometers and gradiometers were kept", "temporal signal space separation",
        "between 0.1 and 40 Hz", "200 samples per second", "from -200 to 800 ms around the onset", "the empty room",
    ):  # fmt: skip
        assert part in words
    assert "Trials" not in methods_meg.sensor_preprocessing(preprocess, manifest, False)
    assert methods_meg.sensor_preprocessing(preprocess, manifest[:0], True) == ""
    plain = SimpleNamespace(
        **{**vars(block), "maxwell": "none", "notch": False, "artefacts": "none", "high_pass_hz": None}
    )
    words = methods_meg.sensor_preprocessing(SimpleNamespace(meg=plain), manifest, False)
    assert "separation" not in words
    assert "below 40 Hz" in words


def test_time_fusion_and_sensors_are_described_and_cited():
    from types import SimpleNamespace

    from decoders.report import methods_meg

    timed = SimpleNamespace(
        noise="residuals", folds="runs", n_folds=5, statistic="tfce", n_permutations=1000, cluster_p=0.05,
        sensors=SimpleNamespace(radius_mm=None, statistic="cluster"),
    )  # fmt: skip
    alignment = SimpleNamespace(
        rdm="crossnobis", n_bootstrap=500, time=timed, fusion=SimpleNamespace(n_permutations=1000)
    )
    words = methods_meg.in_time(alignment)
    assert "Crossnobis RDMs (Walther et al. 2016)" in words
    assert "threshold-free cluster enhancement" in words
    assert "neighbourhood of every sensor" in words
    assert "Commonality analysis (Hebart et al. 2018)" in methods_meg.fusion(alignment)
    assert methods_meg.in_time(SimpleNamespace(time=None)) == ""
    assert methods_meg.fusion(None) == methods_meg.decoding(None) == ""
    sensed = SimpleNamespace(
        beta=10.0, folds=4, n_null_gates=6, features="trigram", window_s=3.0, n_nulls=200,
        text=SimpleNamespace(width=40, language_weight=0.5, sensors=60, window_s=10.0),
    )  # fmt: skip
    assert "windows of 3 s of held-out runs" in methods_meg.decoding(sensed)
    assert "40 hypotheses" in methods_meg.decoding(sensed)
    settings = SimpleNamespace(
        preprocess=SimpleNamespace(meg=SimpleNamespace(maxwell="tsss")), data=SimpleNamespace(source="bids"),
        alignment=alignment, decoding=SimpleNamespace(meg=sensed),
    )  # fmt: skip
    manifest = pd.DataFrame({"status": ["ok"], "modality": ["meg"]})
    found = methods_meg.works(settings, manifest)
    assert set(found) <= set(ENTRIES)
    assert {
        "mne",
        "mne_bids",
        "tsss",
        "clusters",
        "tfce",
        "fusion",
        "commonality",
        "crossnobis",
        "defossez2023",
    } <= set(found)
