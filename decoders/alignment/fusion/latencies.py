"""When a region's fusion begins and peaks, and which region comes first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Scores
from decoders.alignment.fusion.pairing import Paired, same_people
from decoders.alignment.fusion.prepared import Study
from decoders.alignment.fusion.resampled import Windows
from decoders.alignment.timed.latencies import DEGREE, HIGH, LOW, amplitude, onset_times, peak_times
from decoders.stats.correction import holm
from decoders.stats.resampling import Factors, crossed_variance, effective_df, factor_sets, t_interval, t_test
from decoders.store.tables import COLUMNS

MEASURES: dict[str, Callable[..., NDArray[np.float64]]] = {"onset": onset_times, "peak": peak_times}
_WHAT = {
    "onset": f"where the line through the rise of the mean course ({LOW:g} to {HIGH:g} of its peak, signed root) meets "
    "zero",
    "peak": f"largest value of the mean course (signed root), between samples by a polynomial of degree {DEGREE}",
}


def course_draws(scores: Scores) -> dict[Factors, NDArray[np.float64]]:
    """Return mean courses (n_resamples, n_times) when exactly these factors are resampled; for none, as they are."""
    n_people = scores.full.shape[1]
    draws = {frozenset[str](): scores.full.mean(axis=1)[None]}
    if scores.resampled is not None:
        draws[frozenset({"stimuli"})] = scores.resampled.mean(axis=2)
    if scores.subject_counts is not None:
        weights = scores.subject_counts / n_people
        draws[frozenset({"subjects"})] = weights @ scores.full.T
        if scores.resampled is not None:
            draws[frozenset({"stimuli", "subjects"})] = np.einsum("bts,bs->bt", scores.resampled, weights)
    return draws


def latency_table(study: Study, scores: Mapping[str, Scores], windows: Windows) -> pd.DataFrame:
    """Return onsets and peaks of the regions whose fusion survives, and their differences between regions.

    Parameters
    ----------
    study : Study
    scores : mapping of region to Scores
        Fusion, one row per time.
    windows : mapping of region to array of bool of shape (n_times,)
        Times at which fusion survives; the peak is looked for between the first and the last of them.

    Returns
    -------
    DataFrame
        Columns of `latencies` and p_corrected (Holm over the differences of one measure). A difference has the other
        region as reference, and is negative where `region` comes first.
    """
    pairs = {pair.region: pair for pair in study.pairs if pair.region in windows}
    tables = [_measure_rows(study, pairs, scores, windows, measure) for measure in MEASURES]
    rows = [row for table in tables for row in table]
    return pd.DataFrame(rows, columns=[*COLUMNS["latencies"], "p_corrected"])


def _measure_rows(
    study: Study, pairs: Mapping[str, Paired], scores: Mapping[str, Scores], windows: Windows, measure: str
) -> list[dict[str, Any]]:
    times, found = study.sensor.times, {}
    for region in pairs:
        of, places, draws = MEASURES[measure], np.flatnonzero(windows[region]), course_draws(scores[region])
        stretch = int(places[0]), int(places[-1]) + 1
        found[region] = {factors: of(amplitude(courses), times, *stretch) for factors, courses in draws.items()}
    rows = [_row(measure, region, "", values, scores[region], test=False) for region, values in found.items()]
    differences = []
    for first, second in combinations(pairs, 2):
        if same_people(pairs, first, second):
            values = {key: found[first][key] - found[second][key] for key in found[first]}
            differences.append(_row(measure, first, second, values, scores[first], test=True))
    corrected = holm(np.array([row["p"] for row in differences], dtype=np.float64))
    for row, p in zip(differences, corrected, strict=True):
        row["p_corrected"] = p
    return [*rows, *differences]


def _row(
    measure: str, region: str, reference: str, draws: Mapping[Factors, NDArray[np.float64]], scores: Scores, test: bool
) -> dict[str, Any]:
    n_people = scores.full.shape[1]
    levels = {"stimuli": scores.n_stimuli} | ({"subjects": n_people} if n_people > 1 else {})
    estimate = float(draws[frozenset()][0])
    parts = {key: _variance(draws[key]) for key in factor_sets(levels)}
    variance = float(crossed_variance(parts, levels))
    df = effective_df(variance, parts, levels)
    low, high = t_interval(np.array([estimate]), np.array([variance]), df)
    lost = int(np.isnan(draws[frozenset(levels)]).sum())
    method = (
        f"{_WHAT[measure]}; bootstrap over {', '.join(levels)}, corrected variance (of the central 68 % of draws), "
        "t, effective df" + (f"; {lost} resamples without a latency left out" if lost else "")
    )
    p = float(t_test(np.array([estimate]), np.array([variance]), df)[0]) if test else float("nan")
    return {
        "model": "fusion", "reference": reference or None, "region": region, "measure": measure, "latency_s": estimate,
        "ci_low": float(low[0]), "ci_high": float(high[0]), "p": p, "n_subjects": n_people, "method": method,
        "p_corrected": float("nan"),
    }  # fmt: skip


def _variance(draws: NDArray[np.float64]) -> float:
    """Return the square of half the width of the central 68 %: the variance, where a few draws have no clear onset."""
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [0.1587, 0.8413]) if len(known) > 1 else (np.nan, np.nan)
    return float(((high - low) / 2) ** 2)
