import numpy as np
import pandas as pd

from decoders.report.exclusions import left_out, mark_excluded
from decoders.report.read import read_results
from decoders.report.sections import landing
from decoders.store.arrays import Arrays
from decoders.store.tables import write_table

MANIFEST = pd.DataFrame(
    {
        "run_id": ["a", "b", "c"],
        "subject": ["01", "33", "34"],
        "status": ["ok", "ok", "excluded"],
        "reason": [np.nan, np.nan, "no sidecar"],
    }
)


def test_what_preprocessing_excluded_is_named_with_what_the_manifest_excluded():
    quality = pd.DataFrame({"run_id": ["a", "b"], "excluded": [np.nan, "all 6 regions are constant"]})
    marked = mark_excluded(MANIFEST, quality)
    assert marked["status"].tolist() == ["ok", "excluded", "excluded"]
    assert left_out(marked, None) == ["b (subject 33): all 6 regions are constant", "c (subject 34): no sidecar"]
    assert MANIFEST["status"].tolist() == ["ok", "ok", "excluded"]


def test_rdms_are_named_once():
    rdms = Arrays({}, {"excluded": {"33, IT": "one dissimilarity throughout", "34": "no sidecar"}})
    assert left_out(MANIFEST, rdms) == ["c (subject 34): no sidecar", "RDM of 33, IT: one dissimilarity throughout"]


def test_without_a_quality_table_the_manifest_stands():
    assert mark_excluded(MANIFEST, pd.DataFrame()) is MANIFEST


def test_a_constant_subject_is_named_at_the_top_and_not_counted(study, tools, tmp_path):
    quality = pd.DataFrame(
        {"run_id": ["sub-01_task-pictures_run-01"], "subject": ["01"], "excluded": ["all regions are constant"]}
    )
    write_table(tmp_path / "quality.tsv", quality)
    results = read_results(
        tools.settings(), {"manifest": study.inputs["manifest"], "quality": [tmp_path / "quality.tsv"]}
    )
    notice = landing.section(results).parts[0].blocks[0]
    assert "sub-01_task-pictures_run-01 (subject 01): all regions are constant" in notice.items
    assert "7 simulated recordings of 4 people; 2 were excluded" in landing.summary(results)[0]


def test_a_subject_whom_exclusions_cost_the_decoding_is_named():
    subjects, states = ["1", "1", "2", "2", "3", "3"], ["ok", "ok", "ok", "excluded", "excluded", "excluded"]
    manifest = pd.DataFrame(
        {"run_id": list("abcdef"), "subject": subjects, "task": "x", "status": states, "reason": "flat"}
    )
    scores = pd.DataFrame({"level": ["subject"], "subject": ["1"]})
    assert "Decoding of subject 2: too few of its runs are left" in left_out(manifest, None, scores)
    assert len(left_out(manifest, None, scores)) == 4
    other = manifest.assign(task=["x", "x", "y", "y", "x", "x"])
    assert not [item for item in left_out(other, None, scores) if "Decoding" in item]
