"""RDMs of recorded patterns (by rsatoolbox, but for correlation) and of network features; patterns checked by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.stats.permutation import pair_indices

# A full precision matrix of more features does not fit in memory: they are scaled one by one.
MAX_NOISE_FEATURES = 2000
# Degrees of freedom below which no noise is estimated from repeats.
MIN_REPEATS = 10
_BLOCK_FEATURES = 4096


def check_patterns(patterns: NDArray[Any], conditions: Sequence[str], whose: str) -> None:
    """Refuse patterns from which no dissimilarity follows.

    Parameters
    ----------
    patterns : array of shape (n_conditions, n_features)
    conditions : sequence of str
    whose : str
        Subject or network, named in the error.

    Raises
    ------
    InputError
        A pattern with a value that is not finite, or with one value throughout, by the name of its condition.
    """
    if patterns.shape[1] < 2:
        remedy = "Choose a larger region or a wider layer."
        raise InputError("patterns of two or more features", f"{patterns.shape[1]}", whose, remedy)
    finite = np.isfinite(patterns).all(axis=1)
    constant = finite & (np.ptp(patterns, axis=1) == 0)
    for bad, what in ((~finite, "values that are not finite"), (constant, "one value throughout")):
        if bad.any():
            names = [name for name, flag in zip(conditions, bad, strict=True) if flag]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise InputError(
                "patterns that are finite and vary",
                f"{what} for the condition {', '.join(names[:3])}{more}",
                whose,
                "Exclude it, or check the mask and the preprocessing.",
            )


def correlation_rdm(patterns: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 - Pearson correlation between patterns, condensed.

    Parameters
    ----------
    patterns : array of shape (n_conditions, n_features)
        Features of a network, of any width; equal to rsatoolbox and many times faster for wide layers.

    Returns
    -------
    array of shape (n_conditions * (n_conditions - 1) / 2,)
        In the order of scipy's squareform.
    """
    values = np.asarray(patterns)
    means = values.mean(axis=1, dtype=np.float64, keepdims=True)
    products = np.zeros((len(values), len(values)))
    # In blocks, so that no centred copy of a wide layer is written to memory; wider ones are faster to multiply.
    for start in range(0, values.shape[1], _BLOCK_FEATURES):
        block = values[:, start : start + _BLOCK_FEATURES] - means
        products += block @ block.T
    size = np.sqrt(np.diagonal(products))
    rows, columns = pair_indices(len(values))
    return np.asarray(1.0 - products[rows, columns] / (size[rows] * size[columns]))


def feature_rdm(features: NDArray[Any], conditions: Sequence[str], whose: str) -> NDArray[np.float64]:
    """Check the features of a network or of a user's model and return their correlation RDM."""
    check_patterns(features, conditions, whose)
    return correlation_rdm(features)


def recorded_rdm(
    patterns: NDArray[Any],
    conditions: Sequence[str],
    runs: Sequence[str],
    method: str,
    whose: str,
    order: Sequence[str],
) -> NDArray[np.float64]:
    """Return the RDM of one subject and region.

    Parameters
    ----------
    patterns : array of shape (n_trials, n_features)
    conditions, runs : sequence of str of shape (n_trials,)
        Stimulus and run of each trial.
    method : {"correlation", "euclidean", "mahalanobis", "crossnobis"}
        `correlation` and `euclidean` (squared, per feature) on the mean over all trials of a condition; `crossnobis`
        across runs, unbiased (zero when the patterns do not differ; Walther et al. 2016). Its noise covariance is from
        repeats of a condition within a run, shrunk (Ledoit & Wolf), above 2000 features from their variances alone.
        Without such repeats the features are taken as they are: differences between runs must not serve, because
        features in which runs agree by chance would count more, and distances would no longer be zero on average.
        `mahalanobis` (squared, per feature) on the means over all trials, its noise covariance from the residuals of
        the trials about run and condition, shrunk alike. Like all distances that are not across runs it is positive for
        patterns that do not differ.
    whose : str
    order : sequence of str
        Conditions, as the RDM is to hold them.

    Returns
    -------
    array of shape (n_pairs,)

    Raises
    ------
    InputError
        A missing condition, a pattern that `check_patterns` refuses, too few runs for crossnobis, or too few repeats
        for mahalanobis.
    """
    labels = np.asarray(conditions, dtype=object)
    known = set(labels)
    missing = [name for name in order if name not in known]
    if missing:
        remedy = "Exclude the subject, or check its events."
        raise InputError(f"trials of all {len(order)} conditions", f"none of {', '.join(missing[:3])}", whose, remedy)
    means = _means(patterns, labels, order)
    check_patterns(means, order, whose)
    if method == "crossnobis":
        return _crossnobis(np.asarray(patterns, dtype=np.float64), labels, np.asarray(runs, dtype=object), order, whose)
    if method == "correlation":
        return correlation_rdm(means)
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    noise = None
    if method == "mahalanobis":
        means, noise = _whitened(means, np.asarray(patterns, dtype=np.float64), labels, runs, order, whose)
    rdms: Any = calc_rdm(Dataset(means), method=method, noise=noise)
    return np.asarray(rdms.dissimilarities[0], dtype=np.float64)


def _means(patterns: NDArray[Any], labels: NDArray[Any], order: Sequence[str]) -> NDArray[np.float64]:
    """Return the mean pattern of each condition, (n_conditions, n_features)."""
    place: dict[Any, list[int]] = {name: [] for name in order}
    for index, label in enumerate(labels):
        if label in place:
            place[label].append(index)
    if len({len(trials) for trials in place.values()}) == 1:
        return np.asarray(patterns[np.array([place[name] for name in order])].mean(axis=1), dtype=np.float64)
    return np.array([patterns[place[name]].mean(axis=0) for name in order], dtype=np.float64)


def _whitened(
    means: NDArray[np.float64],
    patterns: NDArray[np.float64],
    labels: NDArray[Any],
    runs: Sequence[str],
    order: Sequence[str],
    whose: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return mean patterns and the precision of the trials' noise; above 2000 features scaled patterns and None."""
    from rsatoolbox.data.noise import prec_from_residuals

    chosen = np.isin(labels, list(order))
    codes = [np.unique(values[chosen], return_inverse=True)[1] for values in (labels, np.asarray(runs, dtype=object))]
    design = np.column_stack([np.eye(code.max() + 1)[code] for code in codes])
    basis, singular, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, singular > 1e-8 * singular[0]]
    residuals, dof = patterns[chosen] - basis @ (basis.T @ patterns[chosen]), len(design) - basis.shape[1]
    if dof < MIN_REPEATS:
        remedy = "Use 'correlation' or 'euclidean', which need no repeats."
        raise InputError(f"{MIN_REPEATS} or more repeats of conditions for mahalanobis", f"{dof}", whose, remedy)
    if patterns.shape[1] <= MAX_NOISE_FEATURES:
        return means, np.asarray(prec_from_residuals(residuals, dof=dof, method="shrinkage_eye"))
    variance = (residuals**2).sum(axis=0) / dof
    return means / np.sqrt(np.maximum(variance, np.finfo(float).tiny)), None


def _crossnobis(
    patterns: NDArray[np.float64], labels: NDArray[Any], runs: NDArray[Any], order: Sequence[str], whose: str
) -> NDArray[np.float64]:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    names = sorted(set(runs))
    if len(names) < 2:
        remedy = "Use 'correlation', which needs one run."
        raise InputError("two or more runs for crossnobis", f"{len(names)}", whose, remedy)
    for run in names:
        absent = sorted(set(order) - set(labels[runs == run]))
        if absent:
            remedy = "Use 'correlation', which does not need every condition in every run."
            raise InputError("every condition in every run", f"no {absent[0]} in run {run}", whose, remedy)
    chosen = np.isin(labels, list(order))
    # Whole numbers: rsatoolbox sorts descriptors, and the order of the result must be known.
    codes = np.array([order.index(name) for name in labels[chosen]])
    folds = np.array([names.index(run) for run in runs[chosen]])
    values, noise, scale = _prewhitened(patterns[chosen], codes * len(names) + folds)
    data = Dataset(values, obs_descriptors={"condition": codes, "run": folds})
    rdms: Any = calc_rdm(data, method="crossnobis", descriptor="condition", cv_descriptor="run", noise=noise)
    where = np.argsort(np.asarray(rdms.pattern_descriptors["condition"]))
    rows, columns = pair_indices(len(order))
    return np.asarray(scale * rdms.get_matrices()[0][np.ix_(where, where)][rows, columns], dtype=np.float64)


def _prewhitened(
    values: NDArray[np.float64], cells: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, float]:
    """Return patterns, the precision of their noise (None for none) and a factor for the distances.

    `cells` numbers the condition and run of each trial.
    """
    from rsatoolbox.data.noise import prec_from_residuals

    _, place = np.unique(cells, return_inverse=True)
    means = np.array([values[place == cell].mean(axis=0) for cell in range(place.max() + 1)])
    residuals, dof = values - means[place], len(values) - len(means)
    repeated = dof >= MIN_REPEATS
    if values.shape[1] <= MAX_NOISE_FEATURES:
        noise = prec_from_residuals(residuals, dof=dof, method="shrinkage_eye") if repeated else None
        return values, None if noise is None else np.asarray(noise), 1.0
    variance = (residuals**2).sum(axis=0) / dof if repeated else np.ones(values.shape[1])
    scaled = values / np.sqrt(np.maximum(variance, np.finfo(float).tiny))
    # A rotation onto the space of the trials keeps all distances; rsatoolbox divides them by the number of features.
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    return left * singular, None, len(singular) / values.shape[1]
