import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import squareform

from decoders.report.heat import matrix, mosaic, percentiles, rdm_wall, square
from decoders.report.volumes import Volume


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40))
@settings(max_examples=40)
def test_percentiles_keep_the_order_and_fill_zero_to_one(values):
    values = np.array(values)
    ranks = percentiles(values)
    assert ranks.min() >= 0
    assert ranks.max() <= 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()


def test_percentiles_leave_missing_pairs_missing():
    assert np.isnan(percentiles(np.array([1.0, np.nan, 2.0]))).tolist() == [False, True, False]


def test_square_agrees_with_scipy_off_the_diagonal():
    pairs = np.arange(10.0)
    full = square(pairs)
    assert np.isnan(np.diag(full)).all()
    assert np.array_equal(squareform(np.nan_to_num(full)), pairs)


def test_every_rdm_gets_a_box_and_boxes_do_not_overlap():
    rng = np.random.default_rng(0)
    _, boxes = rdm_wall("x", [(f"m{i}", rng.random(45)) for i in range(8)])
    assert [box["name"] for box in boxes] == [f"m{i}" for i in range(8)]
    places = {(box["x"], box["y"]) for box in boxes}
    assert len(places) == 8


def test_cells_hold_values_and_notes():
    values = np.array([[np.nan, 0.25], [-0.25, np.nan]])
    markup = matrix(
        "x", values, (["a", "b"], ["a", "b"]), ("", ""), (-1, 1, "diverging", "d"), [["", "p 0.005"], ["p 0.005", ""]]
    )
    assert ">0.25<" in markup
    assert markup.count("p 0.005") == 2


@pytest.fixture
def volume():
    values = np.full((6, 7, 5), np.nan)
    values[1:5, 1:6, 1:4] = np.random.default_rng(0).random((4, 5, 3))
    return Volume(values, np.diag([2.0, 2, 2, 1]), "01", "gate")


def test_a_mosaic_draws_the_filled_slices_with_truth_and_cut(volume):
    truth = np.zeros(volume.values.shape, bool)
    truth[2, 2, 2] = True
    markup = mosaic("x", volume, "nats", truth, 0.5)
    assert markup.count("<image") == 3 + 1  # slices and the colour bar
    assert markup.count('class="truth"') == 1
    assert 'class="cut"' in markup
    assert "z 4 mm" in markup


def test_a_mosaic_without_truth_has_no_outline(volume):
    markup = mosaic("x", volume, "nats")
    assert 'class="truth"' not in markup
    assert 'class="cut"' not in markup
