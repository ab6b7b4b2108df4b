"""Searchlight RSA: the RDM around every centre, compared with all model RDMs at once.

Spheres of one size are gathered into a stack and their dissimilarities follow from one batched matrix product;
the comparison with the models is a second one. Nothing is approximated: scores equal those of rsatoolbox centre by
centre, and memory is bounded by the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import embed
from decoders.alignment.rdm import MIN_REPEATS
from decoders.alignment.regions import Trials
from decoders.alignment.spheres import Spheres
from decoders.errors import InputError

Method = Literal["correlation", "euclidean", "crossnobis"]
METHODS = ("correlation", "euclidean", "crossnobis")
COMPARATORS = ("spearman", "rho_a", "pearson", "cosine")
# Spread of a pattern over its mean that rounding alone can leave.
_CONSTANT = 1e-10
# What the arrays of one batch may hold; small enough to stay in the processor's cache.
_BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Patterns:
    """Patterns of all voxels, ready for the spheres.

    Attributes
    ----------
    method : {"correlation", "euclidean", "crossnobis"}
    first, second : array of shape (n_voxels, n_folds, n_conditions)
        Distances are sums over folds of products of differences of `first` and of `second`: held-out run and mean
        of the others (crossnobis), or the same patterns twice.
    """

    method: Method
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def prepare_patterns(trials: Trials, method: Method, order: Sequence[str], whose: str) -> Patterns:
    """Average the trials of each condition.

    Parameters
    ----------
    trials : Trials
        Of all voxels of the mask.
    method : {"correlation", "euclidean", "crossnobis"}
        As in `decoders.alignment.rdm.recorded_rdm`, but crossnobis scales each voxel by its own noise: the covariance
        of the noise would have to be estimated and inverted in every sphere.
    order : sequence of str
        Conditions, as the RDMs are to hold them.
    whose : str

    Raises
    ------
    InputError
        Another method, a missing condition, or too few runs for crossnobis.
    """
    if method not in METHODS:
        remedy = "Set alignment.rdm to one of them, or leave alignment.searchlight out."
        raise InputError(f"a dissimilarity of {', '.join(METHODS)}", f"'{method}'", "alignment.searchlight", remedy)
    values = np.asarray(trials.patterns, dtype=np.float64)
    labels, runs = np.asarray(trials.conditions, dtype=object), np.asarray(trials.runs, dtype=object)
    names = sorted(set(trials.runs))
    if method != "crossnobis":
        means = _means(values, labels, order, whose)[:, None]
        return Patterns(method, means, means)
    if len(names) < 2:
        remedy = "Use 'correlation', which needs one run."
        raise InputError("two or more runs for crossnobis", f"{len(names)}", whose, remedy)
    values = values / _noise(values, labels, runs)
    held_out = [_means(values[runs == run], labels[runs == run], order, f"{whose}, run {run}") for run in names]
    others = [_means(values[runs != run], labels[runs != run], order, whose) for run in names]
    return Patterns(method, np.stack(held_out, axis=1), np.stack(others, axis=1))


def _means(
    values: NDArray[np.float64], labels: NDArray[np.object_], order: Sequence[str], whose: str
) -> NDArray[np.float64]:
    """Return mean patterns, array of shape (n_voxels, n_conditions)."""
    missing = [name for name in order if name not in set(labels)]
    if missing:
        remedy = "Exclude the subject, or check its events."
        raise InputError(f"trials of all {len(order)} conditions", f"none of {', '.join(missing[:3])}", whose, remedy)
    return np.ascontiguousarray(np.array([values[labels == name].mean(axis=0) for name in order]).T)


def _noise(values: NDArray[np.float64], labels: NDArray[np.object_], runs: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the noise of each voxel from repeats of a condition within a run; ones where there are too few."""
    cells = np.unique([f"{run}\n{label}" for run, label in zip(runs, labels, strict=True)], return_inverse=True)[1]
    n_cells = int(cells.max()) + 1
    sums = np.zeros((n_cells, values.shape[1]))
    np.add.at(sums, cells, values)
    residuals = values - (sums / np.bincount(cells)[:, None])[cells]
    dof = len(values) - n_cells
    noise = np.sqrt((residuals**2).sum(axis=0) / dof) if dof >= MIN_REPEATS else np.ones(values.shape[1])
    # A voxel without noise is one without signal: it stays as it is and adds nothing.
    return np.where(noise > 0, noise, 1.0)


def sphere_rdms(patterns: Patterns, neighbours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the RDMs of spheres of one size.

    Parameters
    ----------
    patterns : Patterns
    neighbours : array of shape (n_spheres, n_voxels_of_a_sphere)

    Returns
    -------
    array of shape (n_spheres, n_pairs)
        Not a number where a value is not finite or, for correlation, a pattern has one value throughout the sphere.
    """
    first, fine = _gathered(patterns.first, neighbours, patterns.method)
    second = first if patterns.second is patterns.first else _gathered(patterns.second, neighbours, patterns.method)[0]
    products = np.matmul(first.swapaxes(1, 2), second)
    n = products.shape[1]
    rows, columns = np.triu_indices(n, 1)
    flat = products.reshape(len(products), n * n)
    rdms = flat.take(rows * n + columns, axis=1)
    if patterns.method == "correlation":
        np.subtract(1.0, rdms, out=rdms)
    else:
        rdms += flat.take(columns * n + rows, axis=1)
        own = flat[:, :: n + 1]
        rdms = (own[:, rows] + own[:, columns] - rdms) / first.shape[1]
    rdms[~(fine & np.isfinite(rdms).all(axis=1))] = np.nan
    return rdms


def _gathered(
    values: NDArray[np.float64], neighbours: NDArray[np.int64], method: Method
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return stacks (sphere, voxel x fold, condition) whose products give distances, and which spheres are usable."""
    n_spheres, size = neighbours.shape
    stack = values[neighbours].reshape(n_spheres, size * values.shape[1], values.shape[2])
    if method != "correlation":
        # Distances do not change, and large means of the voxels no longer cost digits.
        stack -= stack.mean(axis=2, keepdims=True)
        return stack, np.ones(n_spheres, dtype=bool)
    means = stack.mean(axis=1, keepdims=True)
    stack -= means
    norms = np.sqrt(np.einsum("bkc,bkc->bc", stack, stack))[:, None]
    constant = ~(norms > _CONSTANT * np.sqrt(size) * np.abs(means))
    stack /= np.where(constant, 1.0, norms)
    return stack, ~constant.any(axis=(1, 2))


def searchlight_scores(
    patterns: Patterns,
    spheres: Spheres,
    centres: NDArray[np.int64],
    models: NDArray[np.float64],
    comparator: str,
) -> NDArray[np.float64]:
    """Compare the RDM around each centre with each model RDM.

    Parameters
    ----------
    patterns : Patterns
    spheres : Spheres
    centres : array of shape (n_centres,)
        Some of `spheres.centres`.
    models : array of shape (n_models, n_pairs)
    comparator : {"spearman", "rho_a", "pearson", "cosine"}

    Returns
    -------
    array of shape (n_centres, n_models)
        Not a number where no RDM follows from the sphere, or one that is constant.

    Raises
    ------
    InputError
        Another comparator.
    """
    if comparator not in COMPARATORS:
        remedy = "Set the first of alignment.comparators to one of them, or leave alignment.searchlight out."
        found = f"'{comparator}'"
        raise InputError(f"a comparator of {', '.join(COMPARATORS)}", found, "alignment.searchlight", remedy)
    prepared = embed(models, comparator).T
    scores = np.full((len(centres), len(models)), np.nan)
    for rows, neighbours in spheres.batches(centres, _most_voxels(patterns)):
        rdms = sphere_rdms(patterns, neighbours)
        fine = np.isfinite(rdms[:, 0])
        # A constant RDM has ranks, and no variance: not a number, as without a sphere.
        fine &= np.ptp(rdms, axis=1) > 0
        scores[rows[fine]] = embed(rdms[fine], comparator) @ prepared
    return scores


def _most_voxels(patterns: Patterns) -> int:
    """Return how many voxels the spheres of a batch may hold together."""
    _, n_folds, n_conditions = patterns.first.shape
    # Two stacks per voxel; products, RDM and its ranks, spread over a sphere of about fifty voxels.
    per_voxel = 8 * n_conditions * (2 * n_folds + (4 * n_conditions) // 50 + 1)
    return max(1, _BATCH_BYTES // per_voxel)
