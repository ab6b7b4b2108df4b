"""Bootstrap over crossed factors: counts of the levels drawn, corrected variance, t-tests.

Resampling two crossed factors at once counts their interaction three times (Schuett et al. 2023,
eLife 12:e82566). With the bootstrap variances of the single factors and of their joint draws the
excess can be removed, for any number of crossed factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Alternative = Literal["two-sided", "greater"]
Factors = frozenset[str]
# Share of the variance that a factor of the fewest levels may bring, for its levels not to decide.
MOST_OF_FEW = 1 / 3


def draw_counts(n_levels: int, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each level is drawn in bootstrap resamples with replacement.

    Parameters
    ----------
    n_levels, n_resamples : int
    rng : Generator

    Returns
    -------
    array of shape (n_resamples, n_levels)
        Each row sums to `n_levels`.
    """
    return rng.multinomial(n_levels, np.full(n_levels, 1 / n_levels), size=n_resamples)


def factor_sets(factors: Iterable[str]) -> list[Factors]:
    """Return every non-empty subset of the factors, small ones first."""
    return list(_subsets(tuple(sorted(factors))))


@lru_cache(maxsize=64)
def _subsets(names: tuple[str, ...]) -> tuple[Factors, ...]:
    return tuple(frozenset(chosen) for size in range(1, len(names) + 1) for chosen in combinations(names, size))


def crossed_variance(
    variances: Mapping[Factors, NDArray[Any] | float], levels: Mapping[str, int], small_sample: bool = True
) -> NDArray[np.float64]:
    """Return the variance of a mean over crossed random factors from bootstrap variances.

    Parameters
    ----------
    variances : mapping of frozenset of str to array
        Bootstrap variance when exactly those factors are resampled, for every non-empty subset.
    levels : mapping of str to int
        Number of levels of each factor (at least two).
    small_sample : bool
        Divide by c = (n - 1) / n of the resampled factors, which makes the estimate exactly unbiased for a
        mean of crossed effects. Without it the forms are V = 2 (V_a + V_b) - V_ab for two factors and
        V = 4 sum V_single - 2 sum V_pair + V_triple for three.

    Returns
    -------
    array
        Clipped to [largest single variance, variance of the joint draws], both with the same small-sample factor.

    Notes
    -----
    Let I_A be the part of the bootstrap variance that is due to the interaction of exactly the factors A
    (inclusion and exclusion over the subsets), and c_A the product of their c. The joint draw of A counts an
    interaction once for every subset of its factors, so V = sum over A of (-1)^(|A| + 1) I_A / c_A counts each once.
    For two factors this is rsatoolbox's form.
    """
    shrink = {name: (n - 1) / n if small_sample else 1.0 for name, n in levels.items()}
    weights = _crossed_weights(tuple(sorted(shrink.items())))
    total = sum(weight * np.asarray(variances[chosen], dtype=np.float64) for chosen, weight in weights.items())
    singles = [np.asarray(variances[frozenset({name})]) / shrink[name] for name in levels]
    # Each component of the joint variance is short by at most the smallest c.
    upper = np.asarray(variances[frozenset(levels)]) / min(shrink.values())
    return np.maximum(np.minimum(total, upper), np.max(singles, axis=0))


@lru_cache(maxsize=256)
def _crossed_weights(shrink: tuple[tuple[str, float], ...]) -> dict[Factors, float]:
    """Return how the bootstrap variance of each set of factors enters the variance of the mean."""
    c = dict(shrink)
    weights = dict.fromkeys(factor_sets(c), 0.0)
    for chosen in factor_sets(c):
        for part in factor_sets(chosen):
            # (-1)^(|A| + 1) of the sum, and (-1)^(|A| - |B|) of the interaction.
            weights[part] -= (-1) ** len(part) / float(np.prod([c[name] for name in chosen]))
    return weights


def effective_df(
    variance: float, variances: Mapping[Factors, float], levels: Mapping[str, int], small_sample: bool = True
) -> float:
    """Return the degrees of freedom of a variance that is a sum over crossed factors.

    Parameters
    ----------
    variance : float
        Of the estimate, from `crossed_variance`.
    variances : mapping of frozenset of str to float
        Bootstrap variance when a single factor is resampled, for every factor (others may be there).
    levels : mapping of str to int
    small_sample : bool
        As for `crossed_variance`.

    Returns
    -------
    float
        V^2 / sum over factors of V_f^2 / (n_f - 1) (Satterthwaite 1946, Biometrics Bulletin 2:110), between the least
        n_f - 1 and the sum of all. The least itself where a factor with so few levels has two, or brings more than a
        third of the variance: there the approximation is too sure in its tails.

    Notes
    -----
    A few seeds that hardly matter must not decide the test: with the least n_f - 1 throughout, three seeds leave no
    power at all. The certificate has studies in which the seeds hardly matter, and such in which they matter most.
    """
    least, most = min(levels.values()) - 1, sum(n - 1 for n in levels.values())
    shrink = {name: (n - 1) / n if small_sample else 1.0 for name, n in levels.items()}
    single = {name: variances[frozenset({name})] / shrink[name] for name in levels}
    few = max(single[name] for name, n in levels.items() if n - 1 == least)
    if least == 1 or not few <= variance * MOST_OF_FEW:
        return float(least)
    parts = sum(single[name] ** 2 / (n - 1) for name, n in levels.items())
    return float(min(max(variance**2 / parts, least), most)) if parts > 0 else float(least)


def t_interval(
    estimate: NDArray[np.float64], variance: NDArray[np.float64], df: NDArray[Any] | float, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the two-sided confidence limits of a t-distribution."""
    from scipy.stats import t

    half = t.ppf(0.5 + level / 2, df) * np.sqrt(variance)
    return estimate - half, estimate + half


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % limits (t) of the mean of independent values (n,); not a number for fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = t_interval(values.mean(), values.var(ddof=1) / len(values), len(values) - 1)
    return float(low), float(high)


def t_test(
    estimate: NDArray[np.float64],
    variance: NDArray[np.float64],
    df: NDArray[Any] | float,
    alternative: Alternative = "two-sided",
) -> NDArray[np.float64]:
    """Return p-values of estimates against zero; not a number where the variance is zero."""
    from scipy.stats import t

    variance = np.asarray(variance, dtype=np.float64)
    statistic = np.divide(estimate, np.sqrt(variance), out=np.full(variance.shape, np.nan), where=variance > 0)
    return 2 * t.sf(np.abs(statistic), df) if alternative == "two-sided" else t.sf(statistic, df)


def bootstrap_interval(
    values: NDArray[np.float64], rng: np.random.Generator, n_resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Return percentile limits of the mean of independent values (n,); not a number below two values."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    means = draw_counts(len(values), n_resamples, rng) @ values / len(values)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
