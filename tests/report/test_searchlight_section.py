"""The searchlight part of the page: group maps, or subjects' maps and the reason, and the peaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decoders.config import AlignmentSettings, SearchlightSettings
from decoders.report.methods import _searchlight
from decoders.report.read import Named, Results
from decoders.report.sections.searchlight import peaks_table, searchlight_maps, searchlight_notice
from decoders.report.stage import run
from decoders.store.arrays import Array, Arrays, write_arrays
from decoders.store.tables import COLUMNS, write_table

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
# Stored from right to left: the page turns it.
TURNED = np.diag([-3.0, 3.0, 3.0, 1.0])


@pytest.fixture
def results():
    mask = np.zeros((5, 6, 4), dtype=bool)
    mask[1:4, 1:5, 1:3] = True
    score = np.linspace(-0.1, 0.3, mask.sum())
    arrays = {}
    for who, affine in (("01", TURNED), ("02", TURNED)):
        arrays[f"{who}/mask"] = Array(mask.astype(np.uint8), ("x", "y", "z"))
        arrays[f"{who}/affine"] = Array(affine, ("row", "column"), "mm")
        arrays[f"{who}/controlPixel"] = Array(score, ("voxel",), "spearman")
    counts = {who: {"n_centres": 24, "n_left_out": 0, "n_undefined": int(who == "02")} for who in ("01", "02")}
    attributes = {
        "models": {"controlPixel": "control:pixel"}, "subjects": ["01", "02"], "excluded": {"03": "no trial of disc01"},
        "comparator": "spearman", "cuts": {}, "no_group": "2 subjects: no group test below 5", "counts": counts,
    }  # fmt: skip
    row = dict.fromkeys(COLUMNS["searchlight"])
    row |= {"level": "subject", "subject": "01", "analysis": "searchlight", "model": "control:pixel", "peak": 0.3}
    file = Named(Path("searchlight.h5"), Arrays(arrays, attributes))
    return Results(None, {"searchlight": pd.DataFrame([row])}, {"searchlight_maps": [file]})


def with_group(results):
    arrays, attributes = results.first("searchlight_maps").arrays, results.first("searchlight_maps").attributes
    for name in ("mask", "affine"):
        arrays[f"group/{name}"] = arrays[f"01/{name}"]
    arrays["group/controlPixel/statistic"] = Array(np.arange(24.0), ("voxel",), "t")
    attributes |= {"cuts": {"controlPixel": 19.5}, "no_group": ""}
    return results


def test_subjects_are_drawn_where_there_is_no_group(results):
    figure = searchlight_maps(results)
    assert [label for label, _ in figure.drawings] == ["control: pixels, subject 01", "control: pixels, subject 02"]
    assert "single subjects are not tested" in figure.caption
    assert searchlight_notice(results).items == [
        "subject 03: no trial of disc01",
        "subject 02: 1 centre of 24 without a score (constant patterns)",
        "2 subjects: no group test below 5",
    ]


def test_the_groups_map_outlines_what_survives(results):
    figure = searchlight_maps(with_group(results))
    (label, drawing), (row,) = figure.drawings[0], figure.data.rows
    assert label == "control: pixels, group"
    assert 'class="cut"' in drawing
    assert row[figure.data.columns.index("above_cut")] == 4
    assert row[figure.data.columns.index("highest")] == 23


def test_the_peaks_are_a_table(results):
    table = peaks_table(results)
    assert table.data.columns[:4] == ("level", "subject", "analysis", "model")
    assert table.words["model"] == {"control:pixel": "control: pixels"}


def test_a_study_without_a_searchlight_has_none_of_it():
    empty = Results(None)
    assert [part(empty) for part in (searchlight_maps, searchlight_notice, peaks_table)] == [None] * 3


def test_the_page_holds_the_searchlight(results, study, tools, tmp_path):
    file = with_group(results).first("searchlight_maps")
    write_arrays(tmp_path / "searchlight.h5", file.arrays, file.attributes)
    write_table(tmp_path / "searchlight.tsv", results.table("searchlight"), "searchlight")
    wanted = ("manifest", "alignment_scores", "inference", "ceilings", "models", "controls")
    inputs = {name: study.inputs[name] for name in wanted}
    inputs |= {"searchlight": [tmp_path / "searchlight.tsv"], "searchlight_maps": [tmp_path / "searchlight.h5"]}
    job = tools.job_of(study, tools.settings(), inputs)
    run(job)
    page = job.outputs["page"].read_text(encoding="utf-8")
    assert "Searchlight maps" in page
    assert "control: pixels, group" in page


def test_the_methods_say_what_the_searchlight_was():
    assert _searchlight(AlignmentSettings()) == ""
    words = _searchlight(AlignmentSettings(rdm="crossnobis", searchlight=SearchlightSettings(radius_mm=7.5)))
    assert "spheres of 7.5 mm radius, at least 50% inside the mask" in words
    assert "each voxel scaled by its own noise" in words
