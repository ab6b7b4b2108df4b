"""The stage ``across-group``: scores across people as a group, and what each method gains over a person's own runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.decoding.across_scores import METHOD
from decoders.decoding.splits_across import amount_of
from decoders.stage import Job
from decoders.stats.permutation import permutation_p
from decoders.stats.resampling import bootstrap_interval, t_interval
from decoders.store.arrays import Arrays, read_arrays
from decoders.store.tables import read_table, write_table

_LABELS = ("subject", "split", "task", "model", "metric", "control_of")
_PLACE = ["split", "seed", "task", "model", "metric", "control_of"]
Values = NDArray[np.float64]


def run(job: Job) -> None:
    """Write the rows of the group, and the table of scores by the amount of given runs."""
    scores = pd.concat([read_table(path, _LABELS) for path in job.inputs["scores"]], ignore_index=True)
    arrays = {str(found.attributes["subject"]): found for found in map(read_arrays, job.inputs["arrays"])}
    group = group_rows(scores, arrays)
    table = by_amount(pd.concat([scores, group], ignore_index=True), arrays, job.rng("gain"))
    write_table(job.outputs["scores"], group, "decoding_scores")
    write_table(job.outputs["across"], table, "across")
    best = table[(table["level"] == "group") & (table["metric"] == "percentile")]
    for row in best.to_dict("records"):
        job.log.info("group, %s runs given, %s: percentile %.3f", row["runs"], row["model"], row["score"])


def group_rows(scores: pd.DataFrame, arrays: Mapping[str, Arrays]) -> pd.DataFrame:
    """Return the means over held-out people.

    The interval is of the mean over people (t), so it holds for new people; the null is the mean of the people's
    nulls, whose shifts were drawn apart.

    Parameters
    ----------
    scores : DataFrame
        Rows of all people.
    arrays : mapping of str to Arrays
        By subject: ``null/<split>/<model>/<metric>``.
    """
    rows = []
    for keys, people in scores.groupby(_PLACE, dropna=False, sort=False):
        place = dict(zip(_PLACE, keys, strict=True))
        values = people["score"].to_numpy(np.float64)
        low, high = interval_over_people(values)
        name = f"null/{place['split']}/{place['model']}/{place['metric']}"
        nulls = [arrays[who][name] for who in people["subject"] if name in arrays[who].arrays]
        null = np.mean(nulls, axis=0) if nulls else np.full(1, people["null_mean"].astype(float).mean())
        tested = bool(nulls)
        rows.append({
            "level": "group", "subject": "group", **place, "score": values.mean(), "ci_low": low, "ci_high": high,
            "n": len(values), "null_mean": float(np.mean(null)),
            "p": float(permutation_p(values.mean(), null)) if tested else np.nan, "p_corrected": np.nan,
            "method": METHOD if tested else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


def interval_over_people(values: Values) -> tuple[float, float]:
    """Return the 95 % limits of the mean over people (t); not a number for one person."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = t_interval(values.mean(), values.var(ddof=1) / len(values), len(values) - 1)
    return float(low), float(high)


def by_amount(scores: pd.DataFrame, arrays: Mapping[str, Arrays], rng: np.random.Generator) -> pd.DataFrame:
    """Return scores by the runs given, and their paired difference from ``within`` with as many runs.

    Parameters
    ----------
    scores : DataFrame
        Rows of people and of the group.
    arrays : mapping of str to Arrays
        By subject: ``windows/<split>/<model>/<metric>``.
    rng : Generator
        Resamples windows for the interval of one person's difference.

    Returns
    -------
    DataFrame
        Columns of `across`.
    """
    gains = _gains(scores, arrays)
    per_run = {
        who: (found.attributes["all_runs"], found.attributes["minutes_per_run"]) for who, found in arrays.items()
    }
    all_runs, minutes = (float(np.mean([pair[i] for pair in per_run.values()])) for i in (0, 1))
    rows = []
    for row in scores.to_dict("records"):
        own_runs, own_minutes = per_run.get(row["subject"], (all_runs, minutes))
        amount = amount_of(row["split"])
        n = own_runs if amount == "all" else amount
        about = {name: row[name] for name in ("level", "subject", "metric", "score", "ci_low", "ci_high", "control_of")}
        about |= {"runs": n, "minutes": n * own_minutes, "split": row["split"], "model": row["model"]}
        rows.append({**about, **_over_within(row, gains, rng)})
    return pd.DataFrame(rows)


def _gains(scores: pd.DataFrame, arrays: Mapping[str, Arrays]) -> dict[tuple[str, str, str, str], Values]:
    """Return differences per window, by subject, split, model and metric; of the group per person."""
    found: dict[tuple[str, str, str, str], Values] = {}
    for who, windows in arrays.items():
        for name in windows.arrays:
            if not name.startswith("windows/"):
                continue
            _, split, model, metric = name.split("/")
            own = f"windows/{split}/within/{metric}"
            if own in windows.arrays:
                found[who, split, model, metric] = np.asarray(windows[name] - windows[own], dtype=np.float64)
    for split, model, metric in dict.fromkeys(key[1:] for key in found):
        people: Sequence[Values] = [value for key, value in found.items() if key[1:] == (split, model, metric)]
        found["group", split, model, metric] = np.array([value.mean() for value in people])
    return found


def _over_within(
    row: dict[Any, Any], gains: Mapping[tuple[str, str, str, str], Values], rng: np.random.Generator
) -> dict[str, float]:
    empty = dict.fromkeys(("over_within", "over_within_low", "over_within_high"), float("nan"))
    values = gains.get((row["subject"], row["split"], row["model"], row["metric"]))
    if values is None or row["model"] == "within":
        return empty
    low, high = interval_over_people(values) if row["subject"] == "group" else bootstrap_interval(values, rng)
    return {"over_within": float(values.mean()), "over_within_low": low, "over_within_high": high}
