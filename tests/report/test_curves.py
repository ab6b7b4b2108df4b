import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from decoders.report import curves as module
from decoders.report.curves import Span, time_chart
from decoders.report.lines import Series
from decoders.report.timemaps import edges_of, plane, raster, reach_of

NAMESPACE = "{http://www.w3.org/2000/svg}"
TIMES = [-0.1, 0.0, 0.1, 0.2, 0.3]


def elements(markup, tag, css):
    return [e for e in ElementTree.fromstring(str(markup)).iter(NAMESPACE + tag) if css in e.get("class", "").split()]


def chart(**options):
    lines = [
        Series("backprop", TIMES, [0.0, 0.0, 0.2, 0.1, math.nan], 0, 0, [-0.1] * 5, [0.1, 0.1, 0.3, 0.2, math.nan]),
        Series("pixels", TIMES, [0.0, 0.1, 0.0, 0.0, 0.0], 7, 1),
    ]
    return time_chart("x", lines, "rho", **options)


def test_lines_bands_ceiling_and_onset_are_drawn():
    ceiling = Series("noise ceiling", TIMES, [0.2] * 5, 7, 0, [0.2] * 5, [0.3] * 5)
    markup = chart(ceiling=ceiling)
    assert len(elements(markup, "path", "shade")) == 1
    assert len(elements(markup, "path", "ceiling")) == 1
    assert len(elements(markup, "line", "onset")) == 1
    # The ceiling lies behind the lines.
    classes = [e.get("class") for e in ElementTree.fromstring(str(markup)).iter(NAMESPACE + "path")]
    assert classes.index("ceiling") < min(i for i, css in enumerate(classes) if css.startswith("line"))
    assert {e.text for e in elements(markup, "text", "small")} >= {"0", "100", "200", "300"}


def bar_is_at_its_time():
    spans = {"backprop": [Span(0.1, 0.2, "backprop: 100 to 200 ms")]}
    markup = chart(spans=spans)
    (bar,) = elements(markup, "rect", "span")
    (onset,) = elements(markup, "line", "onset")
    ticks = {e.text: float(e.get("x")) for e in elements(markup, "text", "small")}
    left, width = float(bar.get("x")), float(bar.get("width"))
    # A pixel on either side, so that a cluster of one sample is seen.
    return (
        left == pytest.approx(ticks["100"] - 1, abs=0.05)
        and left + width == pytest.approx(ticks["200"] + 1, abs=0.05)
        and float(bar.get("y")) > float(onset.get("y1"))
    )


def test_a_cluster_is_a_bar_at_its_time():
    assert bar_is_at_its_time()


def test_a_bar_at_another_time_is_noticed(monkeypatch):
    """The deliberate bug: bars at twice their time."""
    monkeypatch.setattr(
        module, "_bars", lambda drawing, one, spans, scale, y: drawing.rect(scale(spans[0].start * 2), y, 5, 5, "span")
    )
    assert not bar_is_at_its_time()


def test_a_cluster_of_one_sample_is_seen():
    (bar,) = elements(chart(spans={"pixels": [Span(0.1, 0.1, "")]}), "rect", "span")
    assert float(bar.get("width")) >= 3


def test_nothing_to_draw_draws_a_frame():
    markup = time_chart("x", [Series("a", [], [], 0)], "rho")
    assert "time since onset" in markup


def test_a_raster_outlines_what_is_marked_and_is_even_around_zero():
    values = np.array([[0.0, 0.1, -0.3], [0.0, math.nan, 0.2]])
    marked = np.zeros((2, 3), bool)
    assert not elements(raster("x", values, ["a", "b"], np.array([0.0, 0.1, 0.2]), marked, "rho"), "path", "edge")
    marked[0, 1] = True
    (edge,) = elements(raster("x", values, ["a", "b"], np.array([0.0, 0.1, 0.2]), marked, "rho"), "path", "edge")
    assert edge.get("d").count("M") == 4
    assert reach_of(values) == (-0.3, 0.3)
    assert reach_of(np.full(2, math.nan)) == (-1, 1)
    assert edges_of(np.array([0.0, 0.1])) == pytest.approx((-0.05, 0.15))


def test_training_time_goes_up_and_testing_time_to_the_right():
    times = np.array([0.0, 0.1, 0.2])
    marked = np.zeros((3, 3), bool)
    marked[0, 2] = True  # trained early, tested late: the lower right corner
    (edge,) = elements(plane("x", np.eye(3), times, marked, ("train", "test"), "rho"), "path", "edge")
    corners = [tuple(map(float, step.split("h")[0].split("v")[0].split())) for step in edge.get("d").split("M")[1:]]
    diagonal = elements(plane("x", np.eye(3), times, marked, ("train", "test"), "rho"), "line", "diagonal")[0]
    middle_x = (float(diagonal.get("x1")) + float(diagonal.get("x2"))) / 2
    middle_y = (float(diagonal.get("y1")) + float(diagonal.get("y2"))) / 2
    assert all(x > middle_x and y > middle_y for x, y in corners)
