"""Partial RSA and variance partitioning: what a model shares with a recorded RDM beyond all controls together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.resampled import Resampled, Values, resample

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

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Parts:
        """Return tables to be filled by `put`."""
        return cls(*np.empty((3, *shape)))

    def put(self, part: Resampled) -> None:
        """Fill in some models in some resamples."""
        for table, values in zip((self.partial, self.unique, self.shared), _parts(part), strict=True):
            table[part.resamples, part.chosen] = values


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
    parts = Parts.empty((len(counts), len(models), len(recorded)))
    for part in resample(models, recorded, counts, PLAIN[comparator], controls):
        parts.put(part)
    return parts


def _parts(part: Resampled) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    assert part.controls is not None
    basis = basis_of(part.controls.units()).swapaxes(1, 2)
    in_models, in_recorded = (_projected(values, basis) for values in (part.models, part.recorded))
    left_models, left_recorded = (1 - (inside**2).sum(axis=2) for inside in (in_models, in_recorded))
    # A constant RDM has norm 0 and nothing in common with any.
    together = np.nan_to_num(part.similarity)
    beyond = together - in_models @ in_recorded.swapaxes(1, 2)
    usable = (left_models > _NOTHING_LEFT)[:, :, None] & (left_recorded > _NOTHING_LEFT)[:, None]
    norms = np.sqrt(np.maximum(left_models, 0)[:, :, None] * np.maximum(left_recorded, 0)[:, None])
    partial = np.divide(beyond, norms, out=np.full(beyond.shape, np.nan), where=usable)
    unique = np.divide(beyond**2, left_models[:, :, None], out=np.full(beyond.shape, np.nan), where=usable)
    return partial, unique, together**2 - unique


def _projected(values: Values, basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit RDMs in the basis (n_resamples, n_pairs, n_axes), array (n_resamples, n_rdms, n_axes)."""
    inside = values.table @ (basis * np.sqrt(values.weights)[:, :, None])
    norms = values.norms[:, :, None]
    return np.divide(inside, norms, out=np.zeros_like(inside), where=norms > 0)


def unit_rows(rdms: NDArray[np.float64], weights: NDArray[np.float64], centre: bool) -> NDArray[np.float64]:
    """Return rows of norm 1 whose inner product is the weighted correlation or cosine; constant ones become 0."""
    if centre:
        rdms = rdms - (rdms @ weights / weights.sum())[:, None]
    scaled = rdms * np.sqrt(weights)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    floor = 1e-10 * np.abs(rdms).max(initial=0.0) * np.sqrt(weights.sum())
    return np.asarray(np.divide(scaled, norms, out=np.zeros_like(scaled), where=norms > floor))


def basis_of(controls: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return orthonormal rows that span unit controls (..., n_controls, n_pairs); none where they are copies.

    Rows of zeros stand in for what copies lack.
    """
    _, singular, right = np.linalg.svd(controls, full_matrices=False)
    return np.where(singular[..., None] > 1e-8, right, 0.0)
