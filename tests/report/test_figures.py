import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.report.figures import (
    Bar,
    BarPanel,
    Dot,
    DotRow,
    Reference,
    bar_panels,
    dot_grid,
    interval_cell,
    shorten,
    spread,
)
from decoders.report.lines import Series, line_chart

NAMESPACE = "{http://www.w3.org/2000/svg}"


def elements(markup, tag, css):
    return [e for e in ElementTree.fromstring(str(markup)).iter(NAMESPACE + tag) if css in e.get("class", "").split()]


def test_bars_stand_on_zero_and_reach_their_estimates_on_one_scale():
    bars = [Bar("a", 0.2, 0.1, 0.3, [], 0), Bar("b", -0.1, -0.2, 0.0, [], 1)]
    drawn = elements(bar_panels("x", [BarPanel("EVC", bars, [], None)], "rho"), "rect", "bar")
    heights = [float(e.get("height")) for e in drawn]
    assert heights[0] == pytest.approx(2 * heights[1], rel=1e-2)
    # The first ends where the second begins: both stand on zero.
    assert float(drawn[0].get("y")) + heights[0] == pytest.approx(float(drawn[1].get("y")), abs=0.02)


def test_ceiling_controls_and_dots_are_drawn():
    panel = BarPanel(
        "IT",
        [Bar("a", 0.1, 0.0, 0.2, [Dot(0.1), Dot(0.12), Dot(math.nan)], 0)],
        [Reference("pixels", 0.146)],
        (0.45, 0.54),
    )
    markup = bar_panels("x", [panel], "rho")
    assert len(elements(markup, "rect", "ceiling")) == 1
    assert len(elements(markup, "circle", "faint")) == 2
    assert "pixels 0.146" in markup


def test_a_panel_without_a_ceiling_has_no_band():
    assert not elements(bar_panels("x", [BarPanel("IT", [], [], None)], "rho"), "rect", "ceiling")


def test_controls_are_hollow_diamonds_below_a_line():
    rows = [
        DotRow("lda", False, {"block": [Dot(0.9, 0.8, 1.0)]}, {"block": 0.125}),
        DotRow("shuffled", True, {"block": [Dot(0.12)]}),
    ]
    markup = dot_grid("x", ["block"], rows, "accuracy", (0.0, 1.0))
    assert len(elements(markup, "line", "rule")) == 1
    assert len(elements(markup, "path", "hollow")) == 1
    assert len(elements(markup, "circle", "mark")) == 1
    assert len(elements(markup, "line", "null")) == 1


def test_several_equal_dots_do_not_hide_each_other():
    rows = [DotRow("speller", False, {"block": [Dot(0.8, 0.7, 0.9) for _ in range(3)]})]
    places = {e.get("cy") for e in elements(dot_grid("x", ["block"], rows, "accuracy"), "circle", "mark")}
    assert len(places) == 3


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_are_moved_apart(places):
    moved = spread(sorted(places), 13.0, 0.0, 300.0)
    assert all(b - a >= 12.5 for a, b in pairwise(moved))


def test_lines_have_names_bands_and_levels():
    series = [Series("ridge", [10, 20, 40], [0.6, 0.7, math.nan], 0, marks=True, low=[0.5] * 3, high=[0.8] * 3)]
    band = Series("null", [10, 20, 40], [0.5] * 3, 7, low=[0.45] * 3, high=[0.55] * 3)
    markup = line_chart("x", series, ("s", "percentile"), band=band, level=Reference("chance", 0.5), log_x=True)
    assert len(elements(markup, "path", "band")) == 1
    assert len(elements(markup, "circle", "mark")) == 2
    assert [e.text for e in elements(markup, "text", "name")] == ["ridge"]
    # Window lengths double: on the logarithmic axis they are evenly spaced.
    ticks = [float(e.get("x")) for e in elements(markup, "text", "small") if re.fullmatch(r"[124]0", e.text)]
    assert ticks[1] - ticks[0] == pytest.approx(ticks[2] - ticks[1], abs=0.02)


def test_the_interval_of_a_cell_lies_between_the_ends():
    markup = interval_cell(0.5, 0.4, 0.6, 0.125, (0.7, 0.8), (0, 1), "c2", "tip")
    (line,) = elements(markup, "line", "ci")
    assert float(line.get("x1")) < float(line.get("x2"))
    assert len(elements(markup, "rect", "ceiling")) == 1
    assert not elements(
        interval_cell(0.5, math.nan, math.nan, math.nan, (math.nan, math.nan), (0, 1), "c2", ""), "line", "ci"
    )


def test_long_names_are_shortened():
    assert shorten("abcdef", 4) == "abc…"
