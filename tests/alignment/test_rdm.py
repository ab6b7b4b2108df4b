import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist

from decoders.alignment import rdm as module
from decoders.alignment.rdm import check_patterns, correlation_rdm, feature_rdm, recorded_rdm
from decoders.errors import InputError

NAMES = ["d", "b", "a", "c", "e"]


def trials(rng, n_runs=3, n_features=30, noise=1.0, spread=1.0, repeats=3):
    means = spread * rng.standard_normal((len(NAMES), n_features))
    conditions = NAMES * n_runs * repeats
    runs = [str(run) for run in range(n_runs) for _ in range(repeats) for _ in NAMES]
    values = np.tile(means, (n_runs * repeats, 1)) + noise * rng.standard_normal((len(conditions), n_features))
    order = rng.permutation(len(conditions))
    return values[order], [conditions[i] for i in order], [runs[i] for i in order], means


def test_correlation_equals_rsatoolbox_and_scipy():
    values = np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32)
    found = correlation_rdm(values)
    np.testing.assert_allclose(found, pdist(values.astype(float), "correlation"), atol=1e-12)
    np.testing.assert_allclose(found, calc_rdm(Dataset(values.astype(float)), method="correlation").dissimilarities[0])


@pytest.mark.parametrize(("method", "scipy_name"), [("correlation", "correlation"), ("euclidean", "sqeuclidean")])
def test_recorded_patterns_are_averaged_per_condition(method, scipy_name):
    values, conditions, runs, _ = trials(np.random.default_rng(0))
    means = np.array([values[np.array(conditions) == name].mean(axis=0) for name in sorted(NAMES)])
    expected = pdist(means, scipy_name) / (means.shape[1] if method == "euclidean" else 1)
    found = recorded_rdm(values, conditions, runs, method, "subject 1", sorted(NAMES))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def null_t(rng, method, repeats):
    """Return the t of the mean distance when the patterns do not differ."""
    null = [recorded_rdm(*trials(rng, spread=0, repeats=repeats)[:3], method, "s", NAMES).mean() for _ in range(60)]
    return np.mean(null) / np.std(null) * np.sqrt(60)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("limit", [2000, 10])
def test_crossnobis_is_unbiased_and_in_the_order_asked_for(limit, repeats, monkeypatch):
    monkeypatch.setattr(module, "MAX_NOISE_FEATURES", limit)
    rng = np.random.default_rng(0)
    assert abs(null_t(rng, "crossnobis", repeats)) < 3
    # Mutations: the squared distance of the means, and noise from differences between runs.
    assert null_t(rng, "euclidean", repeats) > 10
    inner = module._prewhitened
    monkeypatch.setattr(module, "_prewhitened", lambda values, cells: inner(values, cells // 3))
    assert null_t(rng, "crossnobis", 1) > 4
    monkeypatch.setattr(module, "_prewhitened", inner)
    *data, means = trials(rng, noise=0.1)
    found = recorded_rdm(*data, "crossnobis", "s", NAMES)
    assert np.corrcoef(found, pdist(means, "sqeuclidean"))[0, 1] > 0.9


@pytest.mark.parametrize("n_features", [30, 80])  # fewer, and more, than the 45 trials
def test_wide_crossnobis_equals_the_narrow_one_with_the_same_noise(n_features, monkeypatch):
    *data, _ = trials(np.random.default_rng(0), n_features=n_features)
    monkeypatch.setattr(module, "MAX_NOISE_FEATURES", 10)
    found = recorded_rdm(*data, "crossnobis", "s", NAMES)
    values, conditions, runs = data
    codes = np.array([NAMES.index(name) for name in conditions])
    cells = codes + 5 * np.array(runs, dtype=int)
    means = np.array([values[cells == cell].mean(axis=0) for cell in range(15)])
    variance = ((values - means[cells]) ** 2).sum(axis=0) / (len(values) - 15)
    dataset = Dataset(values, obs_descriptors={"condition": codes, "run": np.array(runs)})
    noise = np.diag(1 / variance)
    reference = calc_rdm(dataset, method="crossnobis", descriptor="condition", cv_descriptor="run", noise=noise)
    np.testing.assert_allclose(np.sort(found), np.sort(reference.dissimilarities[0]), atol=1e-10)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(np.nan, "not finite for the condition a"), (2.0, "one value throughout for the condition a")],
)
def test_bad_patterns_are_refused_by_condition_and_subject(spoil, message):
    values, conditions, runs, _ = trials(np.random.default_rng(0))
    values[np.array(conditions) == "a"] = spoil
    with pytest.raises(InputError, match="subject 7.*" + message):
        recorded_rdm(values, conditions, runs, "correlation", "subject 7", NAMES)


def test_crossnobis_needs_runs_and_conditions():
    values, conditions, runs, _ = trials(np.random.default_rng(0))
    with pytest.raises(InputError, match="two or more runs"):
        recorded_rdm(values, conditions, ["1"] * len(runs), "crossnobis", "s", NAMES)
    lacking = np.array([not (name == "a" and run == "0") for name, run in zip(conditions, runs, strict=True)])
    some = [[x for x, keep in zip(items, lacking, strict=True) if keep] for items in (conditions, runs)]
    with pytest.raises(InputError, match="no a in run 0"):
        recorded_rdm(values[lacking], *some, "crossnobis", "s", NAMES)
    with pytest.raises(InputError, match="none of z"):
        recorded_rdm(values, conditions, runs, "correlation", "s", [*NAMES, "z"])


def test_dead_units_are_refused_by_network():
    features = np.random.default_rng(0).standard_normal((4, 9))
    features[2] = 0
    with pytest.raises(InputError, match=r"backprop fc1.*the condition p2\."):
        feature_rdm(features, ["p0", "p1", "p2", "p3"], "backprop fc1")
    with pytest.raises(InputError, match="two or more features"):
        check_patterns(features[:, :1], ["p0", "p1", "p2", "p3"], "x")
