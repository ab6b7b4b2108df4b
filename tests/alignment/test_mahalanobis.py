"""Mahalanobis RDMs against the formula, with residuals by least squares."""

import numpy as np
import pytest

from decoders.alignment import rdm as module
from decoders.alignment.rdm import recorded_rdm
from decoders.errors import InputError

NAMES = [f"c{i}" for i in range(6)]


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    labels, runs = NAMES * 4, [str(run) for run in range(4) for _ in NAMES]
    mixing = np.eye(5) + 0.6 * rng.standard_normal((5, 5))
    signal, offset = 2 * rng.standard_normal((6, 5)), 3 * rng.standard_normal((4, 5))
    values = np.tile(signal, (4, 1)) + np.repeat(offset, 6, axis=0) + rng.standard_normal((24, 5)) @ mixing
    return values, labels, runs


def direct(values, labels, runs):
    from rsatoolbox.data.noise import prec_from_residuals

    design = np.array([[label == name for name in NAMES] + [run == str(r) for r in range(4)]
                       for label, run in zip(labels, runs, strict=True)], dtype=float)  # fmt: skip
    residuals = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    precision = prec_from_residuals(residuals, dof=24 - 6 - 3, method="shrinkage_eye")
    means = np.array([values[np.array(labels) == name].mean(0) for name in NAMES])
    pairs = zip(*np.triu_indices(6, 1), strict=True)
    return np.array([(means[i] - means[j]) @ precision @ (means[i] - means[j]) / 5 for i, j in pairs])


def test_equal_to_the_formula(trials):
    found = recorded_rdm(*trials[:1], *trials[1:], "mahalanobis", "subject 1", NAMES)
    np.testing.assert_allclose(found, direct(*trials), atol=1e-10)


def test_the_mutation_that_leaves_runs_in_the_residuals_differs(trials):
    values, labels, runs = trials
    found = recorded_rdm(values, labels, ["one"] * len(runs), "mahalanobis", "subject 1", NAMES)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found, direct(values, labels, runs), atol=1e-3)


def test_wide_regions_are_scaled_feature_by_feature(trials, monkeypatch):
    values, labels, runs = trials
    monkeypatch.setattr(module, "MAX_NOISE_FEATURES", 4)
    found = recorded_rdm(values, labels, runs, "mahalanobis", "subject 1", NAMES)
    scaled = recorded_rdm(values * [1, 10, 100, 1, 1], labels, runs, "mahalanobis", "subject 1", NAMES)
    np.testing.assert_allclose(found, scaled)


def test_too_few_repeats_and_constant_patterns_are_refused(trials):
    values, labels, runs = trials
    with pytest.raises(InputError, match="repeats of conditions"):
        recorded_rdm(values[:12], labels[:12], runs[:12], "mahalanobis", "subject 1", NAMES)
    flat = values.copy()
    flat[np.array(labels) == "c2"] = 1
    with pytest.raises(InputError, match="c2"):
        recorded_rdm(flat, labels, runs, "mahalanobis", "subject 1", NAMES)
