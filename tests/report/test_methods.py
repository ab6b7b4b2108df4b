import re

import pandas as pd

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
