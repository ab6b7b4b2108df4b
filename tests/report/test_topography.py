import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_meg_results import helmet

from decoders.report import topography as module
from decoders.report.topography import Head, even_times, flat, heads, interpolated, milliseconds, sensor_sets


def test_the_nose_is_up_and_the_left_is_on_the_left():
    positions, _ = helmet(102, 1)
    points = flat(positions)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
    for axis in (0, 1):
        # Order along an axis is kept, wherever it is not near the centre.
        far = np.abs(positions[:, axis] - positions[:, axis].mean()) > 0.04
        assert (np.sign(points[far, axis]) == np.sign(positions[far, axis] - positions[:, axis].mean())).all()


def test_the_centre_is_that_of_the_helmet_and_not_of_the_coordinates():
    positions, _ = helmet(102, 1)
    top = positions[:, 2].argmax()
    assert np.linalg.norm(flat(positions)[top]) < 0.2
    assert np.allclose(flat(positions + np.array([0.03, 0.05, 0.02])), flat(positions), atol=1e-6)


def test_sensors_in_a_plane_and_a_single_sensor_have_a_place():
    assert np.isfinite(flat(np.array([[0.1, 0, 0], [0, 0.1, 0], [-0.1, 0, 0], [0, -0.1, 0.0]]))).all()
    assert flat(np.array([[0.0, 0.0, 0.1]])).tolist() == [[0.0, 0.0]]


def test_triplets_are_split_so_that_no_two_sensors_share_a_place():
    positions, types = helmet()
    sets = sensor_sets(positions, list(types))
    assert [(name, len(index)) for name, index in sets] == [
        ("gradiometers 1", 102), ("gradiometers 2", 102), ("magnetometers", 102),
    ]  # fmt: skip
    assert sorted(np.concatenate([index for _, index in sets])) == list(range(306))
    assert [len(index) for _, index in sensor_sets(positions)] == [102, 102, 102]
    positions[5] = np.nan
    assert sum(len(index) for _, index in sensor_sets(positions, list(types))) == 305


def at_sensors(points, values):
    picture = interpolated(points, values)
    size = len(picture)
    columns = np.floor((points[:, 0] / module._RIM + 1) / 2 * size).astype(int)
    rows = np.floor((1 - points[:, 1] / module._RIM) / 2 * size).astype(int)
    return picture[rows, columns]


def test_colours_at_sensors_are_their_values_and_none_lies_beyond():
    positions, _ = helmet(102, 1)
    points = flat(positions)
    # Linear in the plane: what lies between sensors is known exactly.
    values = 2 * points[:, 0] - points[:, 1]
    assert at_sensors(points, values) == pytest.approx(values, abs=0.12)
    noise = np.random.default_rng(0).normal(size=102)
    picture = interpolated(points, noise)
    assert np.nanmin(picture) >= noise.min()
    assert np.nanmax(picture) <= noise.max()


def test_a_map_upside_down_is_noticed(monkeypatch):
    """The deliberate bug: rows of the picture from the back of the head to the nose."""
    right = module.interpolated
    monkeypatch.setitem(globals(), "interpolated", lambda points, values: right(points, values)[::-1])
    points = flat(helmet(102, 1)[0])
    values = 2 * points[:, 0] - points[:, 1]
    assert np.abs(at_sensors(points, values) - values).max() > 0.5


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_few_sensors_are_drawn_as_the_nearest(number):
    line = np.column_stack([np.linspace(-1, 1, number), np.zeros(number)]) if number else np.zeros((0, 2))
    picture = interpolated(line, np.arange(float(number)))
    known = picture[np.isfinite(picture)]
    assert set(known) <= set(np.arange(float(number)))
    assert (len(known) > 0) == (number > 0)


def test_a_sensor_without_a_value_is_left_out():
    points = flat(helmet(102, 1)[0])
    values = np.ones(102)
    values[7] = np.nan
    picture = interpolated(points, values)
    assert np.nanmin(picture) == pytest.approx(1)
    assert np.isnan(picture[0, 0])


@given(st.floats(-0.5, 0.2), st.floats(0.1, 3.0), st.integers(2, 400), st.integers(2, 12))
def test_moments_are_even_few_and_after_the_onset(start, length, n, most):
    times = np.linspace(start, start + length, n)
    chosen = even_times(times, most)
    assert 1 <= len(chosen) <= most + 1
    assert len(set(chosen.tolist())) == len(chosen)
    after = times[times >= 0]
    if len(after) > 1:
        assert (times[chosen] >= -1e-9).all()
        gaps = np.diff(times[chosen])
        assert gaps.max(initial=0) - gaps.min(initial=length) <= 2 * (times[1] - times[0]) + 1e-9 or len(chosen) < 3


def test_marked_sensors_stand_out_and_names_are_for_the_pointer():
    positions, _ = helmet(10, 1)
    marked = np.arange(10) < 3
    head = Head("0 ms", flat(positions), np.arange(10.0), marked, [f"MEG<{i}>" for i in range(10)])
    markup = str(heads("x", [("", [head])], (0.0, 9.0, "viridis", "nats")))
    on = markup.split('class="sensor on"')[0].rsplit('d="', 1)[1]
    assert on.count("M") == 3
    assert markup.count('class="spot"') == 10
    assert "MEG&lt;0&gt;: 0" in markup
    assert milliseconds(0.1204) == "120 ms"
