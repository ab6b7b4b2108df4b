"""The stage ``across-group``: scores across people as a group, and what each method gains over a person's own runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.decoding.group_scores import GROUP, group_rows
from decoders.decoding.score_nulls import read_nulls
from decoders.decoding.splits_across import amount_of
from decoders.stage import Job
from decoders.stats.resampling import bootstrap_interval, mean_interval
from decoders.store.arrays import Arrays, read_arrays
from decoders.store.tables import read_table, write_table

_LABELS = ("subject", "split", "task", "model", "metric", "control_of")
Values = NDArray[np.float64]


def run(job: Job) -> None:
    """Write the rows of the group, and the table of scores by the amount of given runs."""
    scores = pd.concat([read_table(path, _LABELS) for path in job.inputs["scores"]], ignore_index=True)
    arrays = {str(found.attributes["subject"]): found for found in map(read_arrays, job.inputs["arrays"])}
    group = group_rows(scores, read_nulls(job.inputs["nulls"]))
    table = by_amount(pd.concat([scores, group], ignore_index=True), arrays, job.rng("gain"))
    write_table(job.outputs["scores"], group, "decoding_scores")
    write_table(job.outputs["across"], table, "across")
    best = table[(table["level"] == GROUP) & (table["metric"] == "percentile")]
    for row in best.to_dict("records"):
        job.log.info("group, %s runs given, %s: percentile %.3f", row["runs"], row["model"], row["score"])


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
        found[GROUP, split, model, metric] = np.array([value.mean() for value in people])
    return found


def _over_within(
    row: dict[Any, Any], gains: Mapping[tuple[str, str, str, str], Values], rng: np.random.Generator
) -> dict[str, float]:
    empty = dict.fromkeys(("over_within", "over_within_low", "over_within_high"), float("nan"))
    values = gains.get((row["subject"], row["split"], row["model"], row["metric"]))
    if values is None or row["model"] == "within":
        return empty
    low, high = mean_interval(values) if row["subject"] == GROUP else bootstrap_interval(values, rng)
    return {"over_within": float(values.mean()), "over_within_low": low, "over_within_high": high}
