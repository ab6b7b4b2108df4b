"""Scores of decoding over a group of people, tested against nulls that all of them share.

The score is the mean over people and its interval is of that mean (t), so it holds for new people. The p is against
the mean of the people's nulls, draw by draw: `decoders.decoding.score_nulls` draws alike for all who got the same. A
small p says that the recordings know the text in some of these people at least; the interval says what to expect of
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.decoding.score_nulls import Nulls, null_name
from decoders.decoding.text_extras import ABSENT
from decoders.decoding.text_scores import LOWER_IS_BETTER
from decoders.stats.permutation import permutation_p
from decoders.stats.resampling import t_interval

GROUP = "group"
METHOD = "one-sided; {draws} draws of the null, of all {n} people alike, and their mean"
_TASK = ("modality", "task", "split")
_PLACE = (*_TASK, "seed", "model", "metric", "control_of")
_CONTROL = "control:"
Values = NDArray[np.float64]


def group_rows(scores: pd.DataFrame, nulls: Mapping[str, Nulls]) -> pd.DataFrame:
    """Return the means over people of every score of subjects.

    Parameters
    ----------
    scores : DataFrame
        Columns of `decoding_scores`; rows of level "subject".
    nulls : mapping of str to Nulls
        By subject, as `read_nulls` returns them.

    Returns
    -------
    DataFrame
        Columns of `scores`. A control that holds a null (the shifted text) stands for it: the mean and the central
        95 % of the null of the group. A score that one person alone has is absent, with the reason. A task of one
        person has no rows.
    """
    task, place = ([name for name in names if name in scores] for names in (_TASK, _PLACE))
    rows = []
    for _, same in scores.groupby(task, dropna=False, sort=False):
        n_all = same["subject"].nunique()
        if n_all > 1:
            rows += [
                {**dict(zip(place, keys, strict=True)), **_row(people, nulls, n_all)}
                for keys, people in same.groupby(place, dropna=False, sort=False)
            ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*scores.columns, "method"])))


def _row(people: pd.DataFrame, nulls: Mapping[str, Nulls], n_all: int) -> dict[str, Any]:
    about: dict[str, Any] = {"level": GROUP, "subject": GROUP, "p_corrected": np.nan}
    scored = people[people["score"].astype(float).notna()]
    names = [(str(row["subject"]), null_name(row)) for row in scored.to_dict("records")]
    values = scored["score"].to_numpy(np.float64)
    if len(values) < 2:
        missing = ("score", "ci_low", "ci_high", "null_mean", "p")
        return {**about, **dict.fromkeys(missing, np.nan), "n": len(values), "method": _why_absent(people, len(values))}
    note = f"; {n_all - len(values)} of {n_all} people have no such score" if len(values) < n_all else ""
    found = [nulls.get(subject, {}).get(name) for subject, name in names]
    kept = [null for null in found if null is not None]
    low, high = interval_over_people(values)
    row = {**about, "score": values.mean(), "ci_low": low, "ci_high": high, "n": len(values)}
    if len(kept) < len(values):
        means = scored["null_mean"].astype(float)
        return {**row, "null_mean": float(means.mean()), "p": np.nan, "method": note.removeprefix("; ") or np.nan}
    null = mean_null(kept)
    if str(people["model"].iloc[0]).startswith(_CONTROL):
        low, high = np.quantile(null, [0.025, 0.975])
        row |= {"score": null.mean(), "ci_low": low, "ci_high": high}
        return {**row, "null_mean": float(null.mean()), "p": np.nan, "method": note.removeprefix("; ") or np.nan}
    sign = -1 if people["metric"].iloc[0] in LOWER_IS_BETTER else 1
    p = float(permutation_p(sign * values.mean(), sign * null))
    method = METHOD.format(draws=len(null), n=len(values)) + note
    return {**row, "null_mean": float(null.mean()), "p": p, "method": method}


def _why_absent(people: pd.DataFrame, n_scored: int) -> str:
    told = people["method"].dropna().astype(str) if "method" in people else pd.Series(dtype=str)
    reasons = told[told.str.startswith(ABSENT)]
    # With one person's score the reason of the others is theirs alone.
    if n_scored == 0 and len(reasons):
        return str(reasons.iloc[0])
    return f"{ABSENT}{'one person has' if n_scored else 'nobody has'} such a score, two are needed for a group"


def mean_null(nulls: Sequence[Values]) -> Values:
    """Return the mean over people, draw by draw, shape (n_draws,).

    Parameters
    ----------
    nulls : sequence of array of shape (n_draws,)
        Of each person. People whose runs allow fewer draws are read at the same relative places, so that what all
        of them got is still moved alike.
    """
    n_draws = max(map(len, nulls))
    return np.mean([null[(np.arange(n_draws) * len(null)) // n_draws] for null in nulls], axis=0)


def interval_over_people(values: Values) -> tuple[float, float]:
    """Return the 95 % limits of the mean over people (t); not a number for one person."""
    if len(values) < 2:
        return float("nan"), float("nan")
    low, high = t_interval(values.mean(), values.var(ddof=1) / len(values), len(values) - 1)
    return float(low), float(high)
