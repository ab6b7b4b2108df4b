"""Noise ceilings: how well any model could do, given how much the subjects differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import comparable, compare, embed


def noise_ceiling(rdms: NDArray[np.float64], comparator: str) -> tuple[float, float]:
    """Return the lower and the upper noise ceiling.

    Parameters
    ----------
    rdms : array of shape (n_subjects, n_pairs)
    comparator : str
        See `decoders.alignment.comparators.compare`.

    Returns
    -------
    low, high : float
        Mean comparison of each subject with the pooled RDM of the others (low), and with that of all including itself
        (high), after Nili et al. 2014. Both are not a number for a single subject, whose ceiling cannot be known.

    Notes
    -----
    For `tau_a` the pooled RDM is the mean of ranks, which is near the best but not the best.
    A score may lie beyond the ceiling: it is shown as it is, and nothing is divided by a ceiling.
    """
    n_subjects = len(rdms)
    if n_subjects < 2:
        return float("nan"), float("nan")
    scaled = comparable(rdms, comparator)
    total = scaled.sum(axis=0)
    high = compare(total[None] / n_subjects, rdms, comparator).mean()
    others = (total - scaled) / (n_subjects - 1)
    if comparator == "tau_a":
        low = [compare(rest[None], rdm[None], comparator)[0, 0] for rest, rdm in zip(others, rdms, strict=True)]
    else:
        low = np.einsum("sp,sp->s", embed(others, comparator), embed(rdms, comparator))
    return float(np.mean(low)), float(high)
