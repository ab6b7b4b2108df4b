import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.report.svg import Scale, Svg, clean, domain, nice_ticks, number


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gives_well_formed_xml_that_holds_it(label, words):
    drawing = Svg(10, 10, label)
    drawing.text(1, 2, words)
    drawing.line(0, 0, 1, 1, "axis", tip=words)
    root = ElementTree.fromstring(str(drawing.markup()))
    text = root.find("{http://www.w3.org/2000/svg}text")
    # XML reads a carriage return as a line feed.
    assert (text.text or "").replace("\r", "\n") == clean(words).replace("\r\n", "\n").replace("\r", "\n")
    assert len(root) == 2


def test_equal_calls_give_equal_bytes():
    def draw():
        drawing = Svg(100, 50, "a")
        for shape in range(6):
            drawing.mark(1 / 3, 2.5, shape, 3, "mark c0", "tip")
        return drawing.markup()

    assert draw() == draw()


def test_marks_of_different_shapes_differ_without_colour():
    paths = []
    for shape in range(6):
        drawing = Svg(10, 10, "")
        drawing.mark(5, 5, shape, 3, "mark")
        paths.append(str(drawing.markup()))
    assert len(set(paths)) == 6


def test_a_path_breaks_where_a_value_is_missing():
    drawing = Svg(10, 10, "")
    drawing.path([(0, 0), (1, 1), (float("nan"), 2), (3, 3), (4, 4)], "line")
    assert 'd="M0 0L1 1M3 3L4 4"' in drawing.markup()


def test_no_mark_for_a_missing_value():
    drawing = Svg(10, 10, "")
    drawing.mark(float("nan"), 5, 0, 3, "mark")
    assert "circle" not in drawing.markup()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.2, 0.55), (3, 1200), (0, 1e-5)])
def test_ticks_are_inside_and_evenly_spaced(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 11
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)
    steps = {round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}
    assert steps == {1.0}


def test_a_scale_is_linear_and_a_domain_keeps_the_ends_that_are_asked_for():
    assert Scale(0, 2, 100, 0)(0.5) == 75
    low, high = domain([0.2, 0.9], include=(0.0,))
    assert low == 0.0
    assert high > 0.9
    assert domain([]) == (0.0, 1.0)


def test_numbers_are_short():
    assert [number(v) for v in (1.0, 0.333333, -0.001)] == ["1", "0.33", "0"]
