"""How alike two RDMs are: rank and linear comparators, plain and whitened.

`spearman`, `rho_a`, `pearson` and `cosine` are computed here from vectors that are prepared once per RDM (ranking
is the cost, so each RDM is ranked once); the whitened ones as the cosine of doubly centred RDMs, which is
what rsatoolbox does without a noise covariance (Diedrichsen et al. 2020); `tau_a` by rsatoolbox.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from decoders.alignment.ranks import midranks

COMPARATORS = ("spearman", "rho_a", "tau_a", "pearson", "cosine", "corr_cov", "cosine_cov")
LINEAR = frozenset(COMPARATORS) - {"tau_a"}
RANKED = frozenset({"spearman", "rho_a", "tau_a"})
WHITENED = frozenset({"corr_cov", "cosine_cov"})
RSATOOLBOX_NAMES = {"rho_a": "rho-a", "tau_a": "tau-a", "pearson": "corr"}


def compare(first: NDArray[np.float64], second: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Compare each RDM of one set with each of another.

    Parameters
    ----------
    first : array of shape (n_first, n_pairs)
    second : array of shape (n_second, n_pairs)
    comparator : {"spearman", "rho_a", "tau_a", "pearson", "cosine", "corr_cov", "cosine_cov"}
        `rho_a` is the expectation of Spearman's rho when ties are broken at random (Schuett et al. 2023).

    Returns
    -------
    array of shape (n_first, n_second)
        Not a number where an RDM is constant and the comparator needs variation.
    """
    if comparator not in COMPARATORS:
        raise ValueError(f"'{comparator}' is no comparator; they are {', '.join(COMPARATORS)}")
    if comparator == "tau_a":
        return tau_a(first, second)
    return embed(first, comparator) @ embed(second, comparator).T


def embed(rdms: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Prepare RDMs so that the comparator is a plain inner product.

    Parameters
    ----------
    rdms : array of shape (n_rdms, n_pairs)
    comparator : str
        Any but ``tau_a``.

    Returns
    -------
    array of shape (n_rdms, n_pairs), or (n_rdms, n_stimuli ** 2) for the whitened comparators
        Relabelling the stimuli of the RDM relabels the entries of this vector.
    """
    vectors = np.atleast_2d(np.asarray(rdms, dtype=np.float64))
    if comparator in RANKED:
        vectors = midranks(vectors)
    if comparator not in ("cosine", "cosine_cov"):
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
    if comparator == "rho_a":
        n_pairs = vectors.shape[1]
        return np.asarray(vectors * np.sqrt(12 / (n_pairs**3 - n_pairs)))
    if comparator in WHITENED:
        vectors = _doubly_centred(vectors)
    norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    # Rounding leaves a constant RDM with a norm that is not quite zero.
    scale = np.abs(rdms).max(axis=-1, initial=0.0).reshape(-1, 1) if comparator not in RANKED else 1.0
    return np.asarray(np.divide(vectors, norms, out=np.full(vectors.shape, np.nan), where=norms > 1e-10 * scale))


def tau_a(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Kendall's tau-a by rsatoolbox, array of shape (n_first, n_second)."""
    from rsatoolbox.rdm.compare import compare_kendall_tau_a

    vectors: list[Any] = [np.atleast_2d(first), np.atleast_2d(second)]
    return np.asarray(compare_kendall_tau_a(*vectors), dtype=np.float64)


def pool(rdms: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Return the mean RDM that the comparator sees best, array of shape (n_pairs,).

    For rank comparators the mean of the ranked RDMs (which the comparator ranks again), for the
    others the mean after each RDM was brought to equal scale, as rsatoolbox pools them.
    """
    return np.asarray(comparable(rdms, comparator).mean(axis=0))


def comparable(rdms: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Return RDMs (n_rdms, n_pairs) as `pool` averages them: ranked, or brought to equal scale."""
    if comparator in RANKED:
        return midranks(rdms)
    centre = 0.0 if comparator in ("cosine", "cosine_cov") else rdms.mean(axis=1, keepdims=True)
    centred = rdms - centre
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True)))


def _doubly_centred(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return second-moment matrices (n_rdms, n_stimuli ** 2) of squared distances."""
    squares = np.array([squareform(vector, checks=False) for vector in vectors])
    centred = squares - squares.mean(axis=1, keepdims=True) - squares.mean(axis=2, keepdims=True)
    return np.asarray(-0.5 * (centred + squares.mean(axis=(1, 2), keepdims=True))).reshape(len(vectors), -1)
