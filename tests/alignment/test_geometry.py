"""The map of models and regions: against rsatoolbox, and on configurations that are known."""

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm import compare as rsatoolbox_compare
from scipy.spatial.distance import pdist, squareform

from decoders.alignment import geometry as module
from decoders.alignment.geometry import classical_mds, geometry_table, second_order_distances
from decoders.alignment.models import ModelRow, Models
from decoders.report.sections import geometry as page

N_PAIRS = 45  # of ten stimuli


def test_distances_between_rdms_are_those_of_rsatoolbox():
    rdms = np.random.default_rng(0).random((5, N_PAIRS))
    found = second_order_distances(rdms, "spearman")
    np.testing.assert_allclose(found, 1 - rsatoolbox_compare(RDMs(rdms), RDMs(rdms), method="spearman"), atol=1e-10)
    assert (np.diag(found) == 0).all()
    np.testing.assert_array_equal(found, found.T)


def planar_error(points):
    found, share = classical_mds(squareform(pdist(points)))
    return np.abs(pdist(found) - pdist(points)).max(), share


def test_a_plane_is_recovered_whole():
    error, share = planar_error(np.random.default_rng(0).standard_normal((12, 2)))
    assert error < 1e-10
    assert share == pytest.approx(1.0)
    # In more dimensions the plane is a part, and is said to be.
    error, share = planar_error(np.random.default_rng(0).standard_normal((12, 5)))
    assert error > 0.1
    assert 0.4 < share < 0.95


def test_the_mutation_without_centring_is_found(monkeypatch):
    eye = np.eye
    monkeypatch.setattr(module.np, "eye", lambda n: eye(n) + 1 / n)
    assert planar_error(np.random.default_rng(0).standard_normal((12, 2)))[0] > 0.1


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    own, other = rng.random((2, N_PAIRS))
    near = lambda rdm: rdm + 0.05 * rng.random(N_PAIRS)  # noqa: E731
    rows = [
        ModelRow("control", "control:pixel", other),
        ModelRow("control", "control:flat", np.ones(N_PAIRS)),
        *(ModelRow("network", "backprop", near(own), "cnn3", str(seed), "fc1", "32") for seed in range(2)),
        ModelRow("network", "hebb", near(other), "cnn3", "0", "fc1", "32", ranked=False),
    ]
    return geometry_table(Models(rows), {"IT": np.array([near(own) for _ in range(3)])}, "spearman")


def test_the_table_holds_every_pair_of_what_varies(table):
    items = ["recorded:IT", "control:pixel", "backprop cnn3 fc1 32px"]
    assert list(table["item"].unique()) == items  # the constant control, and what is not ranked, are left out
    assert len(table) == 9
    near = table.set_index(["item", "other"])["distance"]
    assert near["recorded:IT", "backprop cnn3 fc1 32px"] < 0.1 < near["recorded:IT", "control:pixel"]
    assert (table[table["item"] == table["other"]]["distance"] == 0).all()


def test_the_page_leaves_the_distances_of_many_items_to_the_table(table, monkeypatch):
    class Results:
        def table(self, name):
            return table

    assert len(page.geometry_figure(Results()).data.rows) == 9
    monkeypatch.setattr(page, "_MOST_ROWS", 5)
    figure = page.geometry_figure(Results())
    assert len(figure.data.rows) == 3
    assert "distance" not in figure.data.columns
    assert "geometry.tsv" in figure.caption
    assert isinstance(table, pd.DataFrame)
