"""The certificate over time finds wrong inference, and holds for ours."""

import numpy as np
import pytest

from decoders.alignment.certificate import timed_cells
from decoders.alignment.certificate.findings import judged
from decoders.alignment.certificate.layout import TIME_LAYOUT, Size, cell_names
from decoders.alignment.certificate.timed_cells import TIMED_CELLS, TIMED_DESIGNS, TimedCell, certify_timed_cell
from decoders.alignment.inference import Plan
from decoders.alignment.timed import flips

PLAN = Plan("spearman", "max", 100)


SMALL = Size(12, 8)


def findings(design, n=25, size=SMALL):
    return certify_timed_cell(TimedCell(design, size), n, PLAN, np.random.default_rng(0))


def test_where_there_is_nothing_nothing_is_found():
    found = judged(findings("time_nothing"))
    assert len(found) == 7
    assert all(item.passed for item in found)


def test_moments_without_correction_break_the_certificate(monkeypatch):
    # Mutation: the largest mass and value of a permutation are those of the data alone.
    monkeypatch.setattr(flips, "_share_of_largest", lambda values, largest: np.where(values > 0, 0.01, 1.0))
    found = {item.name: item for item in judged(findings("time_nothing", 12))}
    assert not found["any cluster against chance where there is nothing, p <= .05"].passed
    assert not found["any cluster against relabelled stimuli where there is nothing, p <= .05"].passed


def test_the_planted_rule_is_found_when_it_is_there():
    found = {item.name.split(" in s")[0]: item for item in findings("time_planted", 12, Size(16, 8))}
    assert found["power: a cluster of the planted rule"].value > 0.5
    assert abs(found["mean error of the planted onset"].value) < 0.015
    assert abs(found["mean error of the planted peak"].value) < 0.015
    assert found["any corrected moment between two equal rules, p <= .05"].bound == "at most"


def test_one_subject_is_certified_by_relabelling_alone():
    found = findings("time_nothing", 10, Size(12, 1))
    assert [item.name for item in found] == ["any cluster against relabelled stimuli where there is nothing, p <= .05"]


def test_cells_over_time_belong_to_studies_over_time():
    assert set(TIMED_CELLS) == set(TIME_LAYOUT) <= set(cell_names(False, over_time=True))
    assert not set(TIME_LAYOUT) & set(cell_names(False))
    assert cell_names(True, kinds=["time"]) == list(TIME_LAYOUT)
    assert cell_names(True, True, ["rsa"]) == cell_names(True)
    assert {design for design, _ in TIME_LAYOUT.values()} == set(TIMED_DESIGNS)
    assert pytest.approx(0.05) == timed_cells.ALPHA
