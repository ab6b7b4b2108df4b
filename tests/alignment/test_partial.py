"""Partial RSA and variance partitioning against regression by numpy, and planted shares."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from decoders.alignment import partial as module
from decoders.alignment.beyond import beyond_controls
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models
from decoders.alignment.partial import PLAIN, partition
from decoders.alignment.stage import Recorded, infer
from decoders.stats.resampling import draw_counts

N = 16
ROWS, COLUMNS = np.triu_indices(N, 1)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    controls = rng.random((3, len(ROWS)))
    own = rng.random((4, len(ROWS)))
    models = own + 0.8 * controls[0]
    recorded = own[:2].mean(0) + controls.sum(0) / 3 + 0.3 * rng.random((5, len(ROWS)))
    return models, controls, recorded, draw_counts(N, 6, rng)


def prepared(rdms, count, plain):
    """Return vectors of a resample by copying pairs, centred unless cosine."""
    times = (count[ROWS] * count[COLUMNS]).astype(int)
    values = np.repeat(rdms, times, axis=1)
    if plain == "spearman":
        values = rankdata(values, axis=1)
    return values if plain == "cosine" else values - values.mean(1, keepdims=True)


def r2(target, predictors):
    fitted = predictors.T @ np.linalg.lstsq(predictors.T, target, rcond=None)[0]
    return 1 - ((target - fitted) ** 2).sum() / (target**2).sum()


def residual(target, predictors):
    return target - predictors.T @ np.linalg.lstsq(predictors.T, target, rcond=None)[0]


def check_partition(found, data, comparator):
    models, controls, recorded, counts = data
    for b, count in enumerate(counts):
        m, c, r = (prepared(rdms, count, PLAIN[comparator]) for rdms in (models, controls, recorded))
        for i in range(len(m)):
            for j in range(len(r)):
                left, right = residual(m[i], c), residual(r[j], c)
                partial = left @ right / np.sqrt(left @ left * (right @ right))
                unique = r2(r[j], np.vstack([c, m[i]])) - r2(r[j], c)
                assert found.partial[b, i, j] == pytest.approx(partial, abs=1e-10)
                assert found.unique[b, i, j] == pytest.approx(unique, abs=1e-10)
                assert found.shared[b, i, j] == pytest.approx(r2(r[j], m[i : i + 1]) - unique, abs=1e-10)


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "cosine", "corr_cov", "tau_a"])
def test_equal_to_regression_in_every_resample(data, comparator):
    models, controls, recorded, counts = data
    check_partition(partition(models, controls, recorded, counts, comparator), data, comparator)


@pytest.mark.parametrize("mutation", ["one control", "copies of the stimuli count once"])
def test_mutations_fail(data, mutation):
    models, controls, recorded, counts = data
    held = controls[:1] if mutation == "one control" else controls
    drawn = np.minimum(counts, 1) if mutation.startswith("copies") else counts
    with pytest.raises(AssertionError):
        check_partition(partition(models, held, recorded, drawn, "spearman"), data, "spearman")


def test_a_model_that_the_controls_hold_has_no_partial_score(data):
    _, controls, recorded, _ = data
    once = np.ones((1, N), dtype=int)
    copies = np.vstack([controls[0], controls[0] + 2 * controls[1]])
    found = partition(copies, np.vstack([controls, controls[:1]]), recorded, once, "pearson")
    assert np.isnan(found.partial).all()
    constant = partition(np.ones((1, len(ROWS))), controls, recorded, once, "pearson")
    assert np.nan_to_num(constant.partial).max() == 0


def test_without_a_control_in_common_nothing_is_shared():
    rng = np.random.default_rng(1)
    q = np.linalg.qr(rng.standard_normal((len(ROWS), 4)) - 0.0)[0].T
    q = q - q.mean(1, keepdims=True)
    model, control = q[0], q[1] - q[1] @ q[0] / (q[0] @ q[0]) * q[0]
    target = 2 * model / np.linalg.norm(model) + control / np.linalg.norm(control)
    found = partition(model[None], control[None], target[None], np.ones((1, N), dtype=int), "pearson")
    assert found.unique[0, 0, 0] == pytest.approx(0.8)
    assert found.shared[0, 0, 0] == pytest.approx(0.0, abs=1e-10)
    assert found.partial[0, 0, 0] == pytest.approx(1.0)


# ---- families -------------------------------------------------------------------------------------------------------


def network(name, rdm, seed="0"):
    return ModelRow("network", name, rdm, "net", seed, "layer", "32")


@pytest.fixture
def study(data):
    """A model that is a noisy control, and one that holds what no control holds."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((3, N, 12))
    rdm = [np.linalg.norm(f[ROWS] - f[COLUMNS], axis=1) for f in features]
    noise = lambda: 0.4 * rng.standard_normal(len(ROWS))  # noqa: E731
    recorded = np.array([rdm[0] + rdm[1] + noise() for _ in range(8)])
    rows = [
        network("copy", rdm[0] + noise()),
        network("own", rdm[1] + noise()),
        ModelRow("control", "control:a", rdm[0]),
        ModelRow("control", "control:b", rdm[2]),
    ]
    return Models(rows), [Recorded("r", [str(i) for i in range(8)], recorded)]


def test_a_model_beyond_the_controls_is_told_from_one_that_they_hold(study):
    models, recorded = study
    table = infer(models, recorded, N, Plan("spearman", "max", 200), np.random.default_rng(0))
    beyond = table[table["analysis"] == "partial_rsa"].set_index("model")
    assert set(beyond["reference"]) == {"all controls"}
    assert beyond.loc["own net layer 32px", "ci_low"] > 0.1
    assert beyond.loc["copy net layer 32px", "ci_low"] < 0 < beyond.loc["copy net layer 32px", "ci_high"]
    assert beyond["p"].isna().all()  # nothing is claimed: non-linear functions of the controls lie beyond them, too
    chance = table[(table["reference"] == "chance") & (table["analysis"] == "rsa")].set_index("model")
    assert (chance.loc[["own net layer 32px", "copy net layer 32px"], "p_corrected"] < 0.05).all()
    variance = table[table["analysis"] == "variance_partition"].set_index(["model", "reference"])
    assert variance.loc[("own net layer 32px", "beyond controls"), "estimate"] > 0.15
    assert variance.loc[("copy net layer 32px", "beyond controls"), "estimate"] < 0.03
    assert variance.loc[("copy net layer 32px", "with controls"), "estimate"] > 0.15
    assert variance["p"].isna().all()
    assert variance["ci_low"].notna().all()


def test_the_mutation_that_holds_no_control_constant_takes_the_copy_for_more(study, monkeypatch):
    models, recorded = study
    monkeypatch.setattr(module, "basis_of", lambda controls: np.zeros_like(controls))
    table = infer(models, recorded, N, Plan("spearman", "max", 200), np.random.default_rng(0))
    beyond = table[table["analysis"] == "partial_rsa"].set_index("model")
    assert beyond.loc["copy net layer 32px", "ci_low"] > 0.1


def test_without_controls_or_models_there_is_no_such_family(study):
    models, recorded = study
    for kind in ("control", "network"):
        rest = Models([row for row in models.rows if row.kind != kind])
        rdms = {"r": recorded[0].rdms}
        assert beyond_controls(rest, rdms, {}, None, Plan("spearman", "max", 200), np.random.default_rng(0)) == []


def test_one_subject_and_few_stimuli_give_estimates_without_tests(study):
    models, recorded = study
    alone = [Recorded("r", ["0"], recorded[0].rdms[:1])]
    small = Models([ModelRow(**{**vars(row), "rdm": row.rdm[:28]}) for row in models.rows])
    few = [Recorded("r", ["0"], recorded[0].rdms[:1, :28])]
    many = infer(models, alone, N, Plan("spearman", "max", 200), np.random.default_rng(0))
    assert pd.notna(many[many["analysis"] == "partial_rsa"]["ci_low"]).all()
    none = infer(small, few, 8, Plan("spearman", "max", 200), np.random.default_rng(0))
    assert none[none["analysis"] == "partial_rsa"]["ci_low"].isna().all()
