"""RDMs in bootstrap resamples of the stimuli, many resamples at once.

What every comparison needs (weights of the pairs, centred values or ranks, norms and inner products) is computed once
per resample and shared by the scores and by the partition of variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.ranks import RankedRDMs
from decoders.stats.permutation import pair_indices

# Numbers in one table: small enough for fast memory, large enough that calls do not cost more than the work.
_NUMBERS_AT_ONCE = 2_000_000
_RDMS_AT_ONCE = 256
# Relative norm below which rounding is all there is.
_CONSTANT = 1e-10


@dataclass(frozen=True)
class Values:
    """What is compared of some RDMs in some resamples.

    Attributes
    ----------
    table : array of shape (n_resamples, n_rdms, n_pairs)
        Centred values (doubled ranks for Spearman), or values as they are for the cosine.
    weights : array of shape (n_resamples, n_pairs)
        How often each pair counts.
    scale : array of shape (n_rdms,)
        Size of the numbers that rounding is relative to; 0 for ranks, which are exact.
    """

    table: NDArray[np.float64]
    weights: NDArray[np.float64]
    scale: NDArray[np.float64]

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """Weighted norms (n_resamples, n_rdms); zero where an RDM is constant but for rounding."""
        found = np.sqrt(np.einsum("bip,bip,bp->bi", self.table, self.table, self.weights))
        floor = _CONSTANT * np.sqrt(self.weights.sum(axis=1))[:, None] * self.scale
        return np.where(found > floor, found, 0.0)

    def units(self) -> NDArray[np.float64]:
        """Return rows of norm 1 whose plain inner product is the similarity; constant ones become 0."""
        scaled = self.table * np.sqrt(self.weights)[:, None]
        norms = self.norms[:, :, None]
        return np.divide(scaled, norms, out=np.zeros_like(scaled), where=norms > 0)


@dataclass(frozen=True)
class Resampled:
    """Some models, all recorded RDMs and all controls in some resamples.

    Attributes
    ----------
    resamples, chosen : slice
        Which resamples, and which models.
    models, recorded : Values
    controls : Values or None
    """

    resamples: slice
    chosen: slice
    models: Values
    recorded: Values
    controls: Values | None

    @cached_property
    def products(self) -> NDArray[np.float64]:
        """Weighted inner products of models and recorded RDMs, array (n_resamples, n_models, n_recorded)."""
        weighted = self.recorded.table * self.recorded.weights[:, None]
        return np.asarray(self.models.table @ weighted.swapaxes(1, 2))

    @cached_property
    def similarity(self) -> NDArray[np.float64]:
        """Weighted correlations or cosines (n_resamples, n_models, n_recorded); not a number for a constant RDM."""
        scale = self.models.norms[:, :, None] * self.recorded.norms[:, None]
        return np.divide(self.products, scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def resample(
    models: NDArray[np.float64],
    recorded: NDArray[np.float64],
    counts: NDArray[np.int64],
    plain: str,
    controls: NDArray[np.float64] | None = None,
) -> Iterator[Resampled]:
    """Yield RDMs in resamples of the stimuli, in parts that fit into memory.

    Parameters
    ----------
    models : array of shape (n_models, n_pairs)
    recorded : array of shape (n_recorded, n_pairs)
    counts : array of shape (n_resamples, n_stimuli)
        How often each stimulus was drawn; ones for the data as they are.
    plain : {"spearman", "pearson", "cosine"}
    controls : array of shape (n_controls, n_pairs) or None

    Yields
    ------
    Resampled
        Every resample of every model once.
    """
    rows, columns = pair_indices(counts.shape[1])
    others, held = _Comparable(recorded, plain), None if controls is None else _Comparable(controls, plain)
    for first in range(0, len(models), _RDMS_AT_ONCE):
        chosen = slice(first, min(first + _RDMS_AT_ONCE, len(models)))
        own = _Comparable(models[chosen], plain)
        step = max(1, _NUMBERS_AT_ONCE // ((chosen.stop - first + len(recorded)) * len(rows)))
        for start in range(0, len(counts), step):
            part = slice(start, min(start + step, len(counts)))
            # Only pairs of different stimuli have a place in the condensed RDM, so copies are dropped here.
            times = counts[part][:, rows] * counts[part][:, columns]
            kept = None if held is None else held.values(times)
            yield Resampled(part, chosen, own.values(times), others.values(times), kept)


class _Comparable:
    """RDMs that can be resampled."""

    def __init__(self, rdms: NDArray[np.float64], plain: str) -> None:
        self.rdms, self.plain = rdms, plain
        self.ranked = RankedRDMs(rdms) if plain == "spearman" else None

    def values(self, times: NDArray[np.int64]) -> Values:
        """Return what is compared when pairs count so many times (n_resamples, n_pairs)."""
        weights = times.astype(np.float64)
        if self.ranked is not None:
            return Values(self.ranked.centred(times), weights, np.zeros(len(self.rdms)))
        scale = np.abs(self.rdms).max(axis=1, initial=0.0)
        if self.plain == "cosine":
            return Values(np.broadcast_to(self.rdms, (len(times), *self.rdms.shape)), weights, scale)
        means = weights @ self.rdms.T / np.maximum(weights.sum(axis=1, keepdims=True), 1)
        return Values(self.rdms - means[:, :, None], weights, scale)
