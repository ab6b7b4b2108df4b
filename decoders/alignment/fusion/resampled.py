"""Fusion and commonality in resamples of stimuli, people and seeds: corrected variances and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.contrasts import Scores, draw_all
from decoders.alignment.fusion.prepared import Prepared, Resampler, Study
from decoders.alignment.fusion.shared import Relations, region_commonality
from decoders.stats.resampling import Factors, crossed_variance, draw_counts, effective_df, factor_sets, t_interval

Windows = Mapping[str, NDArray[np.bool_]]


def mean_over_seeds(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values (…, n_rows) averaged by weights (n_models, n_rows); a missing row spoils its own model alone."""
    bad = ~np.isfinite(values)
    if not bad.any():
        return np.asarray(values @ weights.T)
    means = np.where(bad, 0.0, values) @ weights.T
    return np.where(bad.astype(np.float64) @ (weights.T > 0), np.nan, means)


class Moments:
    """Running variance of values about a fixed point, for each set of resampled factors; missing values do not count.

    Parameters
    ----------
    centre : array
        Near the mean, for numerical safety.
    """

    def __init__(self, centre: NDArray[np.float64]) -> None:
        self.centre = centre
        self._sums: dict[Factors, list[NDArray[np.float64]]] = {}

    def add(self, factors: Factors, values: NDArray[np.float64]) -> None:
        """Take one draw."""
        shifted = values - self.centre
        known = np.isfinite(shifted)
        shifted = np.where(known, shifted, 0.0)
        parts = self._sums.setdefault(factors, [np.zeros(values.shape) for _ in range(3)])
        for total, part in zip(parts, (known, shifted, shifted**2), strict=True):
            total += part

    def variances(self) -> dict[Factors, NDArray[np.float64]]:
        """Return the variance (one degree of freedom less) per set of factors."""
        found = {}
        for factors, (n, first, second) in self._sums.items():
            n = np.where(n > 1, n, np.nan)
            found[factors] = np.maximum(second - first**2 / n, 0) / (n - 1)
        return found


@dataclass
class Resampled:
    """What the resamples give.

    Attributes
    ----------
    fusion, partial : dict of region to Scores
        One row per time: MEG with fMRI, and the same beyond the controls (empty without controls).
    window, beyond : dict of region to Scores
        One row per row of the models: commonality averaged over the window of the region, and the same beyond the
        controls; only regions with a window.
    low, high : list of array of shape (n_times, n_models)
        95 % limits of the commonality per region.
    """

    fusion: dict[str, Scores] = field(default_factory=dict)
    partial: dict[str, Scores] = field(default_factory=dict)
    window: dict[str, Scores] = field(default_factory=dict)
    beyond: dict[str, Scores] = field(default_factory=dict)
    low: list[NDArray[np.float64]] = field(default_factory=list)
    high: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True)
class _Once:
    """All values of one resample of the stimuli."""

    found: Relations
    beyond: Relations | None


def resample(
    study: Study,
    resampler: Resampler,
    counts: NDArray[np.int64],
    windows: Windows,
    rng: np.random.Generator,
) -> Resampled:
    """Resample stimuli, people and seeds.

    Parameters
    ----------
    study : Study
    resampler : Resampler
    counts : array of shape (n_resamples, n_stimuli)
    windows : mapping of region to array of bool of shape (n_times,)
        Times over which commonality is averaged; regions without one may lack.
    rng : Generator

    Returns
    -------
    Resampled
    """
    collect = _Collector(study, windows, resampler.prepare(), counts, rng)
    for number, count in enumerate(counts):
        collect.add(number, resampler.prepare(count))
    return collect.result()


class _Collector:
    def __init__(
        self, study: Study, windows: Windows, prepared: Prepared, counts: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        self.study, self.windows, self.n = study, windows, len(counts)
        self.full = _once(prepared)
        seeds = [len(model.rows) for model in study.models]
        wanted = range(2, max(seeds, default=1) + 1)
        sizes = sorted({len(who) for who in study.people})
        # One draw for all regions with as many people, so that regions can be contrasted within person.
        draws = {size: draw_all(size, wanted, self.n, rng) for size in sizes}
        self.draws = [draws[len(who)] for who in study.people]
        self.seed_counts = self.draws[0][1]
        self.tables = {key: self._empty(key) for key in ("fusion", "partial", "window", "beyond")}
        shared = [prepared.shared(self.full.found, r) for r in range(len(study.pairs))]
        self.moments = [Moments(values.mean(axis=0) @ study.averaging.T) for values in shared]
        self.shared = shared

    def _empty(self, key: str) -> dict[int, NDArray[np.float64]]:
        found = {r: _values(self.full, r, key, self._window(r), self.study) for r in range(len(self.study.pairs))}
        return {r: np.empty((self.n, *table.shape)) for r, table in found.items() if table is not None}

    def _window(self, region: int) -> NDArray[np.bool_] | None:
        return self.windows.get(self.study.pairs[region].region)

    def add(self, number: int, prepared: Prepared) -> None:
        once = _once(prepared)
        for key, tables in self.tables.items():
            for r, table in tables.items():
                values = _values(once, r, key, self._window(r), self.study)
                assert values is not None
                table[number] = values
        if len(self.study.models):
            self._add_shared(number, prepared, once)

    def _add_shared(self, number: int, prepared: Prepared, once: _Once) -> None:
        weights = self._seed_weights(number)
        for r, (moments, full) in enumerate(zip(self.moments, self.shared, strict=True)):
            drawn = prepared.shared(once.found, r)
            subjects = self.draws[r][0]
            for factors in factor_sets(self._levels(r)):
                values = drawn if "stimuli" in factors else full
                if "subjects" in factors and subjects is not None:
                    means = np.tensordot(subjects[number] / values.shape[0], values, 1)
                else:
                    means = values.mean(axis=0)
                averaging = weights if "seeds" in factors else self.study.averaging
                moments.add(factors, mean_over_seeds(means, averaging))

    def _levels(self, region: int) -> dict[str, int]:
        n_people, most = len(self.study.people[region]), max(len(model.rows) for model in self.study.models)
        levels = {"stimuli": self.study.n_stimuli, "subjects": n_people, "seeds": most}
        return {name: n for name, n in levels.items() if n > 1}

    def _seed_weights(self, number: int) -> NDArray[np.float64]:
        weights = np.zeros_like(self.study.averaging)
        for row, model in enumerate(self.study.models):
            n = len(model.rows)
            weights[row, list(model.rows.values())] = self.seed_counts[n][number] / n if n > 1 else 1.0
        return weights

    def result(self) -> Resampled:
        result = Resampled()
        for key, tables in self.tables.items():
            kept: dict[str, Scores] = getattr(result, key)
            for r, table in tables.items():
                full = _values(self.full, r, key, self._window(r), self.study)
                assert full is not None
                subjects, seeds = self.draws[r]
                kept[self.study.pairs[r].region] = Scores(full, table, self.study.n_stimuli, subjects, seeds)
        if len(self.study.models):
            for r, moments in enumerate(self.moments):
                low, high = self._limits(r, moments)
                result.low.append(low)
                result.high.append(high)
        return result

    def _limits(self, region: int, moments: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        parts = moments.variances()
        low, high = np.full(moments.centre.shape, np.nan), np.full(moments.centre.shape, np.nan)
        numbers = np.array([len(model.rows) for model in self.study.models])
        # Models with other numbers of seeds have other factors, hence other degrees of freedom.
        for n in sorted(set(numbers.tolist())):
            columns = numbers == n
            levels = {name: size for name, size in self._levels(region).items() if name != "seeds"}
            if n > 1:
                levels["seeds"] = n
            chosen = {key: parts[key][:, columns] for key in factor_sets(levels)}
            variance = crossed_variance(chosen, levels)
            df = _all_df(variance, chosen, levels)
            low[:, columns], high[:, columns] = t_interval(moments.centre[:, columns], variance, df)
        return low, high


def _all_df(
    variance: NDArray[np.float64], parts: Mapping[Factors, NDArray[np.float64]], levels: Mapping[str, int]
) -> NDArray[np.float64]:
    df = np.empty(variance.shape)
    for place in np.ndindex(variance.shape):
        df[place] = effective_df(
            float(variance[place]), {key: float(part[place]) for key, part in parts.items()}, levels
        )
    return df


def _once(prepared: Prepared) -> _Once:
    found = prepared.relations()
    return _Once(found, prepared.beyond(found))


def _values(
    once: _Once, region: int, key: str, window: NDArray[np.bool_] | None, study: Study
) -> NDArray[np.float64] | None:
    """Return one table (n_rows, n_people) of one region; None where there is none."""
    found = once.found if key in ("fusion", "window") else once.beyond
    if found is None:
        return None
    if key in ("fusion", "partial"):
        return found.fusion[region].T
    if window is None or not len(study.models):
        return None
    people = study.people[region]
    part = Relations(
        [values[:, window] for values in found.fusion], found.sensors[:, window], found.regions, found.left[:, window]
    )
    return region_commonality(part, region, people).mean(axis=1).T


def stimulus_counts(study: Study, n_resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each stimulus is drawn, array of shape (n_resamples, n_stimuli)."""
    return draw_counts(study.n_stimuli, n_resamples, rng)
