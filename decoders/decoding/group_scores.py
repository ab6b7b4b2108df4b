"""Scores of decoding over a group of people, tested against nulls that all of them share.

The score is the mean over people and its interval is of that mean (t), so it holds for new people. The p is against
the mean of the people's nulls, draw by draw: `decoders.decoding.score_nulls` draws alike for all who got the same. A
small p says that the recordings know the text in some of these people at least; the interval says what to expect of
others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.decoding.score_nulls import Nulls, null_name
from decoders.decoding.text_extras import ABSENT
from decoders.decoding.text_scores import LOWER_IS_BETTER
from decoders.errors import IntegrityError
from decoders.stats.permutation import permutation_p
from decoders.stats.resampling import mean_interval

GROUP = "group"
METHOD = "one-sided; mean of the nulls of {n} people, {draws} draws that are alike in all of them"
_ALIKE = METHOD.rpartition("} ")[2]
_TASK = ("modality", "task", "split")
_PLACE = (*_TASK, "model", "metric", "control_of")
_MEANS = ("score", "ci_low", "ci_high", "null_mean")
_CONTROL = "control:"
Values = NDArray[np.float64]


def is_tested_group(scores: pd.DataFrame) -> bool:
    """Return whether a table of scores holds a group that was tested by nulls that are alike in all people."""
    if not {"level", "method"} <= set(scores.columns):
        return False
    return bool((scores["level"] == GROUP).to_numpy().any() and scores["method"].astype(str).str.contains(_ALIKE).any())


def group_rows(scores: pd.DataFrame, nulls: Mapping[str, Nulls]) -> pd.DataFrame:
    """Return the means over people of every score of subjects; seeds of a person are averaged first.

    Parameters
    ----------
    scores : DataFrame
        Columns of `decoding_scores`; rows of level "subject".
    nulls : mapping of str to Nulls
        By subject, as `read_nulls` returns them.

    Returns
    -------
    DataFrame
        Columns of `scores`, seed not a number where there are several. A control that holds a null (the shifted text)
        stands for it: the mean and the central 95 % of the null of the group. A score that one person alone has is
        absent, with the reason. A task of one person has no rows.

    Raises
    ------
    IntegrityError
        A score was tested, and its null is not there.
    """
    task, place = ([name for name in names if name in scores] for names in (_TASK, _PLACE))
    rows = []
    for _, same in scores.groupby(task, dropna=False, sort=False):
        n_all = same["subject"].nunique()
        if n_all > 1:
            rows += [
                {**dict(zip(place, keys, strict=True)), **_row(found, nulls, n_all)}
                for keys, found in same.groupby(place, dropna=False, sort=False)
            ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*scores.columns, "method"])))


@dataclass(frozen=True)
class _Person:
    """One person's score, its own limits, and its null where it has one; means over seeds."""

    score: float
    low: float
    high: float
    null: Values | None
    null_mean: float


def _row(found: pd.DataFrame, nulls: Mapping[str, Nulls], n_all: int) -> dict[str, Any]:
    scored = found[found["score"].astype(float).notna()]
    people = [_person(rows, nulls.get(str(who), {})) for who, rows in scored.groupby("subject", sort=False)]
    seeds = found["seed"].unique()
    about: dict[str, Any] = {"level": GROUP, "subject": GROUP, "p_corrected": np.nan, "n": len(people)}
    about |= {"seed": seeds[0] if len(seeds) == 1 else np.nan}
    if len(people) < 2:
        missing = ("score", "ci_low", "ci_high", "null_mean", "p")
        return {**about, **dict.fromkeys(missing, np.nan), "method": _why_absent(found, len(people))}
    note = f"{n_all - len(people)} of {n_all} people have no such score" if len(people) < n_all else ""
    values = np.array([person.score for person in people])
    low, high = mean_interval(values)
    row = {**about, "score": values.mean(), "ci_low": low, "ci_high": high, "p": np.nan, "method": note or np.nan}
    own = [person.null for person in people if person.null is not None]
    null = mean_null(own) if len(own) == len(people) else None
    if str(found["model"].iloc[0]).startswith(_CONTROL):
        return row | (_of_people(people, low, high) if null is None else _of_null(null))
    if null is None:
        return {**row, "null_mean": float(np.mean([person.null_mean for person in people]))}
    sign = -1 if found["metric"].iloc[0] in LOWER_IS_BETTER else 1
    p = float(permutation_p(sign * values.mean(), sign * null))
    method = METHOD.format(draws=len(null), n=len(people)) + (f"; {note}" if note else "")
    return {**row, "null_mean": float(null.mean()), "p": p, "method": method}


def _person(rows: pd.DataFrame, nulls: Nulls) -> _Person:
    named = [(null_name(row), row) for row in rows.to_dict("records")]
    for name, row in named:
        if pd.notna(row["p"]) and name not in nulls:
            remedy = "Delete the scores and the nulls of this person and run again."
            raise IntegrityError(f"the null of {name}", "none", f"the nulls of subject {row['subject']}", remedy)
    own = [nulls[name] for name, _ in named if name in nulls]
    score, low, high, null_mean = (float(rows[key].astype(float).mean()) for key in _MEANS)
    return _Person(score, low, high, mean_null(own) if len(own) == len(rows) else None, null_mean)


def _of_people(people: Sequence[_Person], low: float, high: float) -> dict[str, Any]:
    """Return the limits of a control over people.

    They are no narrower than those of one person: people who hear the same windows share what a few windows do by
    chance, and a control that is the same in everybody is as uncertain as in one of them. What has no limits in
    people has none in the group.
    """
    lows, highs = (np.array([getattr(person, name) for person in people]) for name in ("low", "high"))
    if np.isnan(highs).all():
        low, high = np.nan, np.nan
    else:
        low, high = min(low, float(np.nanmean(lows))), max(high, float(np.nanmean(highs)))
    return {"ci_low": low, "ci_high": high, "null_mean": float(np.mean([person.null_mean for person in people]))}


def _of_null(null: Values) -> dict[str, Any]:
    low, high = np.quantile(null, [0.025, 0.975])
    return {"score": float(null.mean()), "ci_low": low, "ci_high": high, "null_mean": float(null.mean())}


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
        Of each person. Those with fewer draws (all combinations of few words) are read again at the same relative
        places.
    """
    n_draws = max(map(len, nulls))
    return np.mean([null[(np.arange(n_draws) * len(null)) // n_draws] for null in nulls], axis=0)
