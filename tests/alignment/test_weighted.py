"""Feature-weighted RSA on planted weights, and the map of RDMs against distances that are known."""

import numpy as np
import pytest

from decoders.alignment import weighted as module
from decoders.alignment.geometry import classical_mds, geometry_table, second_order_distances
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models
from decoders.alignment.weighted import halves_of, weighted_families, weighted_scores

N = 24
ROWS, COLUMNS = np.triu_indices(N, 1)


def layer_rdms(rng, n=4):
    features = rng.standard_normal((n, N, 10))
    return ((features[:, ROWS] - features[:, COLUMNS]) ** 2).sum(2)


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    layers = layer_rdms(rng)
    recorded = 3 * layers[0] + layers[1] + 6 * rng.standard_normal((6, len(ROWS)))
    return layers, recorded, halves_of(N, 4, rng)


def test_halves_are_complements():
    halves = halves_of(9, 3, np.random.default_rng(0))
    assert halves.shape == (6, 9)
    assert (halves[::2] != halves[1::2]).all()
    assert set(halves.sum(1)) == {4, 5}


@pytest.mark.parametrize("comparator", ["spearman", "cosine", "corr_cov"])
def test_planted_weights_are_found_and_score_higher(planted, comparator):
    layers, recorded, halves = planted
    weighted, equal, weights = weighted_scores(layers, recorded, halves, comparator)
    assert (weighted > equal).all()
    if comparator == "spearman":
        scaled = weights.mean(0) / layers.std(1)
        assert scaled[0] / scaled[1] == pytest.approx(3, rel=0.25)
        assert scaled[2:].max() < 0.15 * scaled[0]


def test_weights_without_noise_are_exact(planted):
    layers, _, halves = planted
    weights = weighted_scores(layers, (2 * layers[0] + 5 * layers[3])[None], halves[:1], "pearson")[2][0]
    train = module.training_pairs(halves[0], ROWS, COLUMNS)
    np.testing.assert_allclose(weights / layers[:, train].std(1), [2, 0, 0, 5], atol=1e-8)


def noise_scores():
    rng = np.random.default_rng(1)
    found = [
        weighted_scores(layer_rdms(rng, 8), rng.standard_normal((4, len(ROWS))), halves_of(N, 2, rng), "spearman")[0]
        for _ in range(10)
    ]
    return np.mean(found)


def test_weights_on_noise_score_nothing():
    assert noise_scores() == pytest.approx(0, abs=0.03)


def test_the_mutation_fitted_on_all_stimuli_scores_on_noise(monkeypatch):
    monkeypatch.setattr(module, "training_pairs", lambda half, rows, columns: np.ones(len(rows), dtype=bool))
    assert noise_scores() > 0.06


def test_the_family_tests_weighted_less_equal(planted):
    layers, recorded, _ = planted
    rows = [
        ModelRow("network", "backprop", rdm + 0.1 * seed, "net", str(seed), f"layer{number}", "32")
        for seed in range(2)
        for number, rdm in enumerate(layers)
    ]
    rows.append(ModelRow("network", "single", layers[0], "net", "0", "layer0", "32"))
    plan = Plan("spearman", "max", 200)
    (table,) = weighted_families(Models(rows), {"IT": recorded}, N, 3, plan, np.random.default_rng(0))
    assert table["family"].tolist() == ["feature-weighted models, IT"]
    assert table["contrast"].tolist() == ["backprop net all_layers 32px - equal weights"]
    assert table["p_corrected"].iloc[0] < 0.05
    assert "halves that share stimuli" in table["method"].iloc[0]
    assert weighted_families(Models(rows[-1:]), {"IT": recorded}, N, 3, plan, np.random.default_rng(0)) == []


# ---- geometry -------------------------------------------------------------------------------------------------------


def test_points_in_a_plane_come_back_with_their_distances():
    points = np.random.default_rng(0).standard_normal((9, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    found, share = classical_mds(distances)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=2), distances, atol=1e-10)
    assert share == pytest.approx(1)
    # The mutation without squares.
    wrong, _ = classical_mds(np.sqrt(distances))
    assert not np.allclose(np.linalg.norm(wrong[:, None] - wrong, axis=2), distances, atol=1e-2)


def test_the_table_holds_every_pair_and_the_page_draws_every_item(planted):
    from decoders.report.sections.geometry import scatter

    layers, recorded, _ = planted
    rows = [ModelRow("network", "backprop", layers[0], "net", str(seed), "conv", "32") for seed in range(2)]
    rows += [ModelRow("control", "control:pixel", layers[2]), ModelRow("control", "control:flat", np.ones(len(ROWS)))]
    table = geometry_table(Models(rows), {"IT": recorded}, "spearman")
    assert len(table) == 9
    distance = table.set_index(["item", "other"])["distance"]
    assert distance["recorded:IT", "backprop net conv 32px"] < 0.5 < distance["recorded:IT", "control:pixel"]
    assert distance["control:pixel", "control:pixel"] == 0
    direct = 1 - np.corrcoef(layers)[0, 2]
    assert second_order_distances(layers, "pearson")[0, 2] == pytest.approx(direct, abs=1e-12)
    drawing = str(scatter(table.drop_duplicates("item")))
    assert drawing.count("data-tip") == 3
    assert "IT" in drawing
