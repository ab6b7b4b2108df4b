import numpy as np
import pytest

from decoders.alignment.bootstrap import resampled_scores
from decoders.alignment.comparators import compare
from decoders.alignment.contrasts import Contrast, Model, Scores, draw_all
from decoders.alignment.families import all_families
from decoders.alignment.inference import (
    Plan,
    all_pairs,
    chance_family,
    contrast_family,
    hardest_control,
)
from decoders.alignment.models import ModelRow, Models
from decoders.alignment.rdm import correlation_rdm
from decoders.stats.permutation import label_permutations, permutation_p
from decoders.stats.resampling import draw_counts

N_STIMULI, N_SUBJECTS = 20, 8
PLAN = Plan("spearman", "max", 200)


def patterns(rng, n_features=12):
    return rng.standard_normal((N_STIMULI, n_features))


def recorded_rdms(rng, shared, noise=2.0):
    return np.array([correlation_rdm(shared + noise * rng.standard_normal(shared.shape)) for _ in range(N_SUBJECTS)])


def odd_stimuli(rng):
    """Return an RDM in which some stimuli are far from all others."""
    oddness = rng.exponential(size=N_STIMULI) ** 2
    rows, columns = np.triu_indices(N_STIMULI, 1)
    return oddness[rows] + oddness[columns]


def make_scores(rng, models, recorded, comparator="spearman", n_resamples=200):
    resampled = resampled_scores(models, recorded, draw_counts(N_STIMULI, n_resamples, rng), comparator)
    subjects, _ = draw_all(len(recorded), [], n_resamples, rng)
    return Scores(compare(models, recorded, comparator), resampled, N_STIMULI, subjects)


def chance(rng, models, recorded, comparator="spearman"):
    units = [Model(f"m{i}", {"": i}) for i in range(len(models))]
    orders = label_permutations(N_STIMULI, 200, rng)
    plan = Plan(comparator, "max", 200)
    scores = make_scores(rng, models, recorded, comparator, 40)
    return chance_family("models against chance, x", "x", units, models, recorded, scores, plan, orders)


def test_a_planted_model_is_above_chance_and_others_are_not():
    rng = np.random.default_rng(0)
    shared = patterns(rng)
    recorded = recorded_rdms(rng, shared)
    models = np.array([correlation_rdm(shared), *(correlation_rdm(patterns(rng)) for _ in range(5))])
    table = chance(rng, models, recorded)
    assert table["p_corrected"][0] <= 0.01
    assert (table["p_corrected"][1:] > 0.05).all()
    assert (table["p_corrected"] >= table["p"]).all()
    assert table["ci_low"][0] < table["estimate"][0] < table["ci_high"][0]
    assert abs(table["null_mean"]).max() < 0.02
    assert (table["contrast"] == [f"m{i} - chance" for i in range(6)]).all()
    assert "max-statistic over the 6 tests" in table["method"][0]


@pytest.mark.parametrize("comparator", ["spearman", "rho_a", "cosine", "corr_cov", "tau_a"])
def test_the_fast_null_is_the_mean_of_scores_of_relabelled_models(comparator):
    from decoders.alignment.inference import _permuted_scores
    from decoders.stats.permutation import permute_pairs

    rng = np.random.default_rng(0)
    recorded = recorded_rdms(rng, patterns(rng))
    models = np.array([correlation_rdm(patterns(rng)) for _ in range(3)])
    units = [Model("a", {"0": 0, "1": 2}), Model("b", {"": 1})]
    orders = label_permutations(N_STIMULI, 5, rng)
    null = _permuted_scores(units, models, recorded, comparator, orders)
    for order, row in zip(orders, null, strict=True):
        # Relabelling the recordings by an order is relabelling the models by its inverse.
        relabelled = np.array([permute_pairs(model, np.argsort(order)) for model in models])
        means = compare(relabelled, recorded, comparator).mean(axis=1)
        np.testing.assert_allclose(row, [means[[0, 2]].mean(), means[1]], atol=1e-12)


def test_false_positives_of_the_permutation_test():
    rng = np.random.default_rng(0)
    label, pair = [], []
    for _ in range(150):
        # An odd stimulus raises all of its pairs, in the model and, elsewhere, in the recordings.
        recorded = odd_stimuli(rng) + rng.random((N_SUBJECTS, N_STIMULI * (N_STIMULI - 1) // 2))
        model = odd_stimuli(rng)[None]
        observed = compare(model, recorded, "spearman").mean()
        label.append(chance(rng, model, recorded)["p"][0])
        shuffled = rng.permuted(np.repeat(model, 200, axis=0), axis=1)
        pair.append(permutation_p(observed, compare(shuffled, recorded, "spearman").mean(axis=1)))
    assert np.mean(np.array(label) <= 0.05) <= 0.10
    # Mutation: permuting pairs forgets that the pairs of a stimulus depend on each other.
    assert np.mean(np.array(pair) <= 0.05) > 0.15


def test_false_positives_of_a_contrast_of_equally_related_models():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(120):
        shared = patterns(rng)
        recorded = recorded_rdms(rng, shared)
        models = np.array([correlation_rdm(shared + 1.5 * patterns(rng)) for _ in range(2)])
        scores = make_scores(rng, models, recorded, n_resamples=100)
        found = all_pairs(scores, [Model("a", {"": 0}), Model("b", {"": 1})])
        p.append(contrast_family("f", "x", found, scores, PLAN, rng)["p"][0])
    # Two models that relate equally in the population of stimuli differ in a sample of 20.
    assert np.mean(np.array(p) <= 0.05) <= 0.10


def test_a_planted_difference_survives_and_the_family_is_written():
    rng = np.random.default_rng(0)
    shared = patterns(rng)
    recorded = recorded_rdms(rng, shared, noise=0.7)
    models = np.array([correlation_rdm(shared), *(correlation_rdm(patterns(rng)) for _ in range(3))])
    scores = make_scores(rng, models, recorded)
    units = [Model(f"m{i}", {"": i}) for i in range(4)]
    for correction in ("max", "fdr"):
        plan = Plan("spearman", correction, 200)
        table = contrast_family("f", "x", all_pairs(scores, units), scores, plan, np.random.default_rng(0))
        assert len(table) == 6
        assert (table["p_corrected"][:3] <= 0.05).all()
        assert (table["p_corrected"][3:] > 0.05).all()
        assert ((table["ci_low"] < table["estimate"]) & (table["estimate"] < table["ci_high"])).all()
        assert (table["family"] == "f").all()
        assert "over the 6 tests of the family" in table["method"][0]


def test_the_hardest_control_is_the_one_least_clearly_beaten():
    rng = np.random.default_rng(0)
    shared = patterns(rng)
    recorded = recorded_rdms(rng, shared, noise=0.7)
    near = shared + 0.3 * patterns(rng)
    models = np.array([correlation_rdm(values) for values in (shared, patterns(rng), near, patterns(rng))])
    scores = make_scores(rng, models, recorded)
    units = [Model(f"m{i}", {"": i}) for i in range(4)]
    found = hardest_control(scores, units[0], units[1:])
    assert found.reference == "m2"
    assert hardest_control(scores, units[0], []) is None
    below = hardest_control(scores, units[1], [units[0]])
    table = contrast_family("f", "x", [found, below, None], scores, PLAN, rng, "greater")
    assert table["p"][1] > 0.95
    assert "one-sided (greater)" in table["method"][0]


def test_the_hardest_control_is_the_least_certain_one_where_degrees_of_freedom_differ(monkeypatch):
    def found(scores, model, control):
        df, t = {"few seeds": (1, 2.2), "many": (14, 2.0), "copy": (14, 0.0)}[control.name]
        variance = 0.0 if control.name == "copy" else 0.01
        return Contrast(model.name, control.name, 0.1 * t, variance, df, np.zeros(0), 1)

    monkeypatch.setattr("decoders.alignment.inference.contrast", found)
    model, few, many, copy = (Model(name, {"": 0}) for name in ("m", "few seeds", "many", "copy"))
    # t 2.2 with one degree of freedom is p .14, t 2.0 with fourteen is p .03.
    assert hardest_control(None, model, [few, many]).reference == "few seeds"
    # A copy of the model was never beaten.
    assert hardest_control(None, model, [few, copy, many]).reference == "copy"


def test_trained_rules_are_held_against_the_untrained_layers_too():
    rng = np.random.default_rng(0)
    shared = patterns(rng)
    recorded = recorded_rdms(rng, shared, noise=0.7)
    # The untrained layer is as close as the trained one; the control is far.
    values = {"backprop": shared, "untrained": shared + 0.1 * patterns(rng), "random_features": patterns(rng)}
    rows = [ModelRow("control", "control:pixel", correlation_rdm(patterns(rng)))]
    for layer, noise in (("fc1", 0.0), ("conv1", 5.0)):
        for rule, own in values.items():
            rdm = correlation_rdm(own + noise * patterns(rng))
            rows.append(ModelRow("network", rule, rdm, "cnn3", "0", layer, "32"))
    models = Models(rows)
    scores = make_scores(rng, models.vectors, recorded)
    orders = label_permutations(N_STIMULI, 50, rng)
    table = all_families(models, {"IT": recorded}, {"IT": list("abcdefgh")}, {"IT": scores}, PLAN, orders, rng)
    held = table[table["family"].str.startswith("models against controls")].set_index("model")["reference"]
    assert held["backprop cnn3 fc1 32px"] == "untrained cnn3 fc1 32px"
    # A baseline is held against the controls alone.
    assert held["untrained cnn3 fc1 32px"] == held["random_features cnn3 conv1 32px"] == "control:pixel"


def test_no_contrast_gives_an_empty_family():
    scores = Scores(np.zeros((1, 2)), None, 5, None)
    assert contrast_family("f", "x", [None], scores, PLAN, np.random.default_rng(0)).empty
