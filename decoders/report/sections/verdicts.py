"""The table of every verdict: score, interval, null, ceiling, and the words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import DASH, Data, Table, show, worded
from decoders.report.figures import interval_cell
from decoders.report.svg import escape
from decoders.report.words import (
    N_WORDS,
    analysis,
    analysis_of,
    control_title,
    is_alignment,
    parse_analysis,
    parse_model,
    text,
)

# A share of a ceiling below this says more about the ceiling than about the score.
LEAST_CEILING = 0.05
KINDS = {
    "above": ("above all controls", "c2", '<circle class="sym full" cx="7" cy="7" r="5.5"/>'),
    "control": (
        "above chance but explained by a control",
        "c1",
        '<circle class="sym" cx="7" cy="7" r="5.5"/><path class="full" d="M7 1.5a5.5 5.5 0 0 0 0 11z"/>',
    ),
    "ranking": ("ranking", "c0", '<path class="sym" d="M2 11.5h3v-4H2zM5.5 11.5h3v-9h-3zM9 11.5h3v-6H9z"/>'),
    "unranked": ("no ranking supported", "c7", '<path class="sym" d="M2 5h10M2 9h10"/>'),
    "chance": ("not above chance", "c7", '<circle class="sym" cx="7" cy="7" r="5.5"/>'),
}
_LABELS = {
    "analysis": "Analysis",
    "level": "Level",
    "score": "Score",
    "ci_low": "Interval",
    "null_mean": "Null mean",
    "p_corrected": "Corrected p",
    "ceiling_low": "Noise ceiling",
    "share": "Share of ceiling",
    "n": "n",
    "verdict": "Verdict",
    "explained_by": "Explained by",
}
_DRAWN = ("score", "ci_low", "ci_high", "null_mean", "ceiling_low", "ceiling_high")


def kind_of(verdict: str) -> str:
    """Return "above", "control", "chance", "unranked" or "ranking" for the words of a verdict."""
    words = verdict.lower()
    if "no ranking" in words:
        return "unranked"
    if "contrasts of rules" in words:
        return "ranking"
    if "not above chance" in words:
        return "chance"
    return "control" if "explained" in words else "above" if "above all controls" in words else "chance"


def share_of_ceiling(score: float, low: float, high: float) -> float:
    """Return the score over the lower bound of the ceiling; nan where that bound is missing or near zero."""
    return score / low if math.isfinite(low) and math.isfinite(high) and low >= LEAST_CEILING else math.nan


def in_order(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of the page: rankings, rows of the group, rows of subjects; decoding first."""
    names = verdicts["analysis"].map(text)
    ranked = names.map(lambda name: parse_analysis(name).kind == "ranking")
    single = verdicts["level"] != "group"
    order = 4 * single + 2 * ~ranked + names.map(is_alignment).astype(bool)
    return verdicts.assign(_order=order).sort_values("_order", kind="stable").drop(columns="_order")


def verdict_table(verdicts: pd.DataFrame, first: int = 400) -> Table:
    """Return the table of every verdict, `first` rows of it drawn at once."""
    verdicts = in_order(verdicts)
    number = {name: pd.to_numeric(verdicts[name], errors="coerce") for name in _DRAWN}
    shares = [
        share_of_ceiling(*row)
        for row in zip(number["score"], number["ceiling_low"], number["ceiling_high"], strict=True)
    ]
    frame = pd.DataFrame(
        {
            "analysis": verdicts["analysis"],
            "level": verdicts["level"],
            "subject": verdicts["subject"],
            "score": number["score"],
            "ci_low": number["ci_low"],
            "ci_high": number["ci_high"],
            "null_mean": number["null_mean"],
            "p_corrected": pd.to_numeric(verdicts["p_corrected"], errors="coerce"),
            "ceiling_low": number["ceiling_low"],
            "ceiling_high": number["ceiling_high"],
            "share": shares,
            "n": verdicts["n"],
            "verdict": verdicts["verdict"],
            "explained_by": verdicts["explained_by"],
        }
    )
    # A column that is empty in every row says nothing: it stays in the download.
    bare = [name for name in ("null_mean", "ceiling_low", "share") if frame[name].isna().all()]
    data = Data.of(frame)
    words = worded(data, {"analysis": analysis, "verdict": _bare_words})
    menus = ("level", "verdict") if len(frame) > 6 else ()
    hide = ("level", "subject", "ci_high", "ceiling_high", "explained_by", *bare)
    return Table(
        "verdicts",
        "Verdict table",
        _caption(bare, data),
        data,
        _LABELS,
        _cells(data),
        menus,
        first=first,
        css="landing",
        hide=hide,
        words=words,
    )


def _bare_words(verdict: str) -> str:
    return verdict_words(verdict, verdict.partition("explained by ")[2])


def _caption(bare: Sequence[str], data: Data) -> str:
    words = "Interval: 95 %, the dot is the score, the upright line the mean of the null"
    words += ". " if "ceiling_low" in bare else ", the grey band the noise ceiling. "
    words += f"n: {N_WORDS}. "
    if "share" not in bare:
        words += f"Share of ceiling: score over the lower bound, left empty where that bound is below {LEAST_CEILING}. "
    if any(str(row[0]).startswith("rsa ") for row in data.rows):
        words += (
            "Intervals of alignment hold for new stimuli, subjects and seeds and are wide with few seeds; its p comes "
            "from permuted stimulus labels. So p can be small while the interval holds zero. "
        )
    if any(row[1] == "group" and analysis_of(str(row[0])) == "Decoding" for row in data.rows):
        words += (
            "Intervals of decoding over the group are of the mean over people and wide with few of them; its p says "
            "that some of these people were read, not all. So p can be small while the interval holds the null. "
        )
    if any(str(row[0]).startswith("time ") for row in data.rows):
        words += (
            "Alignment in time has a row for every significant cluster, at its peak: the p is that of the search over "
            "all models and moments, the score is the highest of the cluster. "
        )
    return words.strip()


def _cells(data: Data) -> dict[tuple[int, str], Markup]:
    rows = [dict(zip(data.columns, values, strict=True)) for values in data.rows]
    ends = ends_of(rows)
    cells: dict[tuple[int, str], Markup] = {}
    for i, row in enumerate(rows):
        drawn = _row_cells(row, ends[measure_of(text(row["analysis"]))])
        cells |= {(i, name): markup for name, markup in drawn.items()}
    return cells


def measure_of(name: str) -> str:
    """Return what an analysis is measured in: analyses of one measure are drawn on one scale."""
    parts_ = parse_analysis(name)
    return parts_.metric or parts_.what or parts_.kind


def ends_of(rows: Sequence[Mapping[str, object]]) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest value that is drawn, zero included, per measure."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values = found.setdefault(measure_of(text(row["analysis"])), [0.0])
        values += [
            float(value) for name in _DRAWN if isinstance(value := row[name], int | float) and math.isfinite(value)
        ]
    return {name: (min(values), max(values) or 1.0) for name, values in found.items()}


def verdict_words(verdict: str, explained: str) -> str:
    """Return a verdict with its control in words."""
    if kind_of(verdict) != "control":
        return verdict
    return "above chance but explained by " + (
        control_title(parse_model(explained).words) if explained else "a control"
    )


def badge(kind: str, words: str) -> str:
    """Return a verdict with its symbol, as HTML."""
    symbol = f'<svg viewBox="0 0 14 14" aria-hidden="true">{KINDS[kind][2]}</svg>'
    return f'<span class="verdict {kind}">{symbol}{escape(words)}</span>'


def _row_cells(row: Mapping[str, object], ends: tuple[float, float]) -> dict[str, Markup]:
    def number(name: str) -> float:
        value = row[name]
        return float(value) if isinstance(value, int | float) else math.nan

    who = "group" if row["level"] == "group" else f"subject {text(row['subject'])}"
    kind = kind_of(text(row["verdict"]))
    interval = f"{show(number('ci_low'))} to {show(number('ci_high'))}" if math.isfinite(number("ci_low")) else ""
    tip = f"{analysis(text(row['analysis']))}, {who}: {show(number('score'))}" + (
        f", 95 % interval {interval}" if interval else ""
    )
    limits = (number("ceiling_low"), number("ceiling_high"))
    mini = interval_cell(
        number("score"), number("ci_low"), number("ci_high"), number("null_mean"), limits, ends, KINDS[kind][1], tip
    )
    drawing = f'<span>{mini}<span class="ci-text">{escape(interval)}</span></span>'
    ceiling = (
        f"{show(number('ceiling_low'))} {DASH} {show(number('ceiling_high'))}"
        if math.isfinite(number("ceiling_low"))
        else DASH
    )
    share = number("share")
    explained = text(row["explained_by"])
    plain = {
        "analysis": (
            f'<span class="what">{escape(analysis(text(row["analysis"])))}</span><span class="who">{escape(who)}</span>'
        ),
        "score": f"<b>{escape(show(number('score')))}</b>",
        "ci_low": drawing if math.isfinite(number("score")) else DASH,
        # A null mean of a ten-thousandth is zero to a reader.
        "null_mean": escape(show(round(number("null_mean"), 3) + 0.0)),
        "ceiling_low": escape(ceiling),
        "share": f"{share * 100:.0f}\N{THIN SPACE}%" if math.isfinite(share) else DASH,
        "verdict": badge(kind, verdict_words(text(row["verdict"]), explained)),
    }
    return {name: Markup(value) for name, value in plain.items()}
