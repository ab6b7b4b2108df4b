"""Linear kernels of features: what ridge and linear CKA need of a layer, however wide it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError


def linear_kernel(features: NDArray[Any], conditions: Sequence[str], whose: str) -> NDArray[np.float64]:
    """Return the inner products of stimuli over standardised features, per feature.

    Parameters
    ----------
    features : array of shape (n_stimuli, n_features)
        Standardised here over all stimuli: no response enters, so nothing of a held-out response can.
    conditions : sequence of str
    whose : str
        Named in the error.

    Returns
    -------
    array of shape (n_stimuli, n_stimuli)
        With a mean diagonal of 1, so that one grid of penalties serves layers of any width. Exact: ridge needs no more,
        and no layer is projected at random.

    Raises
    ------
    InputError
        Features that are not finite, or none that varies.
    """
    values = np.asarray(features, dtype=np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        name = conditions[int(np.flatnonzero(~finite)[0])]
        raise InputError("finite features", f"others for the stimulus {name}", whose, "Check the network's weights.")
    centred, scale = values - values.mean(axis=0), values.std(axis=0)
    varies = scale > 1e-10 * np.maximum(1, np.abs(values).max(axis=0))
    if not varies.any():
        raise InputError("features that vary", "one value throughout each", whose, "Choose another layer.")
    standardised = centred[:, varies] / scale[varies]
    return np.asarray(standardised @ standardised.T / varies.sum())


def centred_on(kernel: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the kernel of features less their mean over some stimuli (those that train)."""
    means = kernel[:, rows].mean(axis=1)
    return np.asarray(kernel - means[:, None] - means[None] + means[rows].mean())


def linear_cka(first: NDArray[np.float64], second: NDArray[np.float64], debiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two kernels.

    Parameters
    ----------
    first, second : array of shape (n_stimuli, n_stimuli)
        Inner products of features.
    debiased : bool
        By the unbiased HSIC (Song et al. 2012), which is zero on average for unrelated features; the plain form grows
        with the number of features. Four or more stimuli.

    Returns
    -------
    float
        ||Y'X||^2 / (||X'X|| ||Y'Y||) of centred features (Kornblith et al. 2019); not a number where the features of
        one do not vary.
    """
    hsic = _unbiased_hsic if debiased else _hsic
    scale = hsic(first, first) * hsic(second, second)
    return hsic(first, second) / float(np.sqrt(scale)) if scale > 0 else float("nan")


def _hsic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    rows = np.arange(len(first))
    return float((centred_on(first, rows) * centred_on(second, rows)).sum())


def _unbiased_hsic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    n = len(first)
    a, b = (kernel - np.diag(np.diag(kernel)) for kernel in (first, second))
    # Song et al. 2012, equation 5.
    outer = a.sum() * b.sum() / ((n - 1) * (n - 2))
    return float(((a * b).sum() + outer - 2 * a.sum(axis=0) @ b.sum(axis=0) / (n - 2)) / (n * (n - 3)))
