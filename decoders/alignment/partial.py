"""Partial RSA and variance partitioning: what a model shares with a recorded RDM beyond all controls together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.ranks import RankedRDMs

# What stands for comparators that are no plain correlation of vectors.
PLAIN = {
    "spearman": "spearman", "rho_a": "spearman", "tau_a": "spearman", "pearson": "pearson", "corr_cov": "pearson",
    "cosine": "cosine", "cosine_cov": "cosine",
}  # fmt: skip
_NOTHING_LEFT = 1e-10


@dataclass(frozen=True)
class Parts:
    """How a recorded RDM relates to models, given the controls.

    Attributes
    ----------
    partial : array of shape (n_resamples, n_models, n_recorded)
        Correlation (or cosine) of what the controls leave of both RDMs; not a number where they leave nothing.
    unique : array of the same shape
        Share of the recorded RDM's variance that the model explains beyond the controls (R2 of both less R2 of the
        controls).
    shared : array of the same shape
        Share that model and controls explain alike: R2 of the model less `unique`. Below 0 where the model explains
        more in company than alone (suppression).
    """

    partial: NDArray[np.float64]
    unique: NDArray[np.float64]
    shared: NDArray[np.float64]


def partition(
    models: NDArray[np.float64],
    controls: NDArray[np.float64],
    recorded: NDArray[np.float64],
    counts: NDArray[np.int64],
    comparator: str,
) -> Parts:
    """Partition the variance of recorded RDMs, in bootstrap resamples of the stimuli.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    controls : array of shape (n_controls, n_pairs)
        All are held constant at once.
    recorded : array of shape (n_recorded, n_pairs)
    counts : array of shape (n_resamples, n_stimuli)
        How often each stimulus was drawn; ones for the data as they are. Pairs of copies are dropped.
    comparator : str
        Rank comparators stand for Spearman's, whitened ones for the plain ones (`PLAIN`).

    Returns
    -------
    Parts
    """
    plain = PLAIN[comparator]
    rows, columns = np.triu_indices(counts.shape[1], 1)
    sets = (models, controls, recorded)
    ranked = [RankedRDMs(rdms) for rdms in sets] if plain == "spearman" else None
    parts = []
    for count in counts.astype(np.float64):
        weights = count[rows] * count[columns]
        pairs = np.flatnonzero(weights)
        values = [table.ranks(weights, pairs) for table in ranked] if ranked else [rdms[:, pairs] for rdms in sets]
        parts.append(_once(*(unit_rows(rdms, weights[pairs], plain != "cosine") for rdms in values)))
    partial, unique, shared = (np.stack(part) for part in zip(*parts, strict=True))
    return Parts(partial, unique, shared)


def unit_rows(rdms: NDArray[np.float64], weights: NDArray[np.float64], centre: bool) -> NDArray[np.float64]:
    """Return rows of norm 1 whose inner product is the weighted correlation or cosine; constant ones become 0."""
    if centre:
        rdms = rdms - (rdms @ weights / weights.sum())[:, None]
    scaled = rdms * np.sqrt(weights)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    floor = 1e-10 * np.abs(rdms).max(initial=0.0) * np.sqrt(weights.sum())
    return np.asarray(np.divide(scaled, norms, out=np.zeros_like(scaled), where=norms > floor))


def _once(
    models: NDArray[np.float64], controls: NDArray[np.float64], recorded: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    basis = basis_of(controls)
    in_models, in_recorded = models @ basis.T, recorded @ basis.T
    left_models = 1 - (in_models**2).sum(axis=1)
    left_recorded = 1 - (in_recorded**2).sum(axis=1)
    together = models @ recorded.T
    beyond = together - in_models @ in_recorded.T
    usable = (left_models > _NOTHING_LEFT)[:, None] & (left_recorded > _NOTHING_LEFT)
    norms = np.sqrt(np.outer(np.maximum(left_models, 0), np.maximum(left_recorded, 0)))
    missing = np.full(beyond.shape, np.nan)
    partial = np.divide(beyond, norms, out=missing.copy(), where=usable)
    unique = np.divide(beyond**2, left_models[:, None], out=missing.copy(), where=usable)
    return partial, unique, together**2 - unique


def basis_of(controls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return orthonormal rows that span the controls; controls may be copies of each other."""
    _, singular, right = np.linalg.svd(controls, full_matrices=False)
    return np.asarray(right[singular > 1e-8])
