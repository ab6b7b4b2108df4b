"""The short form of the verdict table: what belongs together is counted, and no best layer, size or seed is chosen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import DASH, Data, Table, show
from decoders.report.figures import strip_cell
from decoders.report.sections.verdicts import KINDS, badge, ends_of, in_order, kind_of, measure_of, verdict_words
from decoders.report.svg import escape
from decoders.report.words import (
    AnalysisName,
    alignment_words,
    control_title,
    count,
    listed,
    metric,
    parse_analysis,
    parse_model,
    split,
    task,
    text,
    title,
    window_seconds,
)

FEW = 12  # a table of so few rows needs no short form
_COUNTED = ("above", "control", "chance")
_COLUMNS = (
    "analysis",
    "level",
    "rows",
    "score_low",
    "score_high",
    "ceiling_low",
    "ceiling_high",
    "verdict",
    "above_all_controls",
    "explained_by_a_control",
    "not_above_chance",
)
_LABELS = {
    "analysis": "Analysis",
    "level": "Level",
    "rows": "Rows",
    "score_low": "Scores",
    "score_high": "Every score",
    "ceiling_low": "Noise ceiling",
    "verdict": "Verdicts",
}
_RANKED = {"encoding": " by encoding", "time": " over time", "commonality": " by their share of the fusion"}
Row = Mapping[str, object]
Key = tuple[str, ...]


def group_table(verdicts: pd.DataFrame) -> Table | None:
    """Return one row per region and rule, or per model; None where that is hardly shorter than every row.

    Parameters
    ----------
    verdicts : DataFrame
        Table `verdicts`. Only its counts and ranges are shown: no score is computed or chosen.
    """
    groups = grouped(verdicts)
    if len(verdicts) <= FEW or len(groups) > 0.6 * len(verdicts):
        return None
    # Intervals are drawn for single rows only: elsewhere they would take the scale and not be seen.
    shown = [
        row if len(rows) == 1 else {**row, "ci_low": None, "ci_high": None} for rows in groups.values() for row in rows
    ]
    ends = ends_of(shown)
    several = len({key[5] for key in groups if key[5]}) > 1
    data = Data(_COLUMNS, [_values(rows, several) for rows in groups.values()])
    cells: dict[tuple[int, str], Markup] = {}
    for i, rows in enumerate(groups.values()):
        cells |= {(i, name): Markup(html) for name, html in _cells(rows, ends, several).items()}
    caption = (
        "One row per region and rule, or per model. It counts the verdicts of everything below it: all layers, picture "
        "sizes, window lengths, seeds or subjects. None of them is chosen as the best. Filled circle: above all "
        "controls; diamond: explained by a control; open circle: not above chance; a line through a single score: its "
        "95 % interval. Upright lines: means of the null"
    )
    empty = all(row[_COLUMNS.index("ceiling_low")] is None for row in data.rows)
    caption += "." if empty else "; grey band: noise ceiling."
    hide = ("level", "rows", *_COLUMNS[8:], "ceiling_high", *(("ceiling_low",) if empty else ()))
    menus = ("level",) if len({row[1] for row in data.rows}) > 1 else ()
    return Table(
        "verdict-groups", "Verdicts in short", caption, data, _LABELS, cells, menus, first=60, css="landing", hide=hide
    )


def grouped(verdicts: pd.DataFrame) -> dict[Key, list[Row]]:
    """Return the rows by what belongs together, in the order of the page."""
    found: dict[Key, list[Row]] = {}
    for row in in_order(verdicts).to_dict("records"):
        found.setdefault(_key(row), []).append({str(name): value for name, value in row.items()})
    return found


def _key(row: Mapping[str, object] | Mapping[object, object]) -> Key:
    level = "group" if row["level"] == "group" else "subject"
    parts = parse_analysis(text(row["analysis"]))
    model = parse_model(parts.model)
    kind = "windows" if window_seconds(parts.task) is not None else parts.task
    place = (level, parts.kind, parts.region, kind, model.rule, model.architecture, parts.metric, parts.split)
    return (*place, parts.what, parts.modality)


def _number(row: Row, name: str) -> float:
    value = pd.to_numeric(row[name], errors="coerce")
    return float(value)


def _span(rows: Sequence[Row], name: str) -> tuple[float, float]:
    values = [value for row in rows if math.isfinite(value := _number(row, name))]
    return (min(values), max(values)) if values else (math.nan, math.nan)


def _tally(rows: Sequence[Row]) -> list[tuple[int, str, str]]:
    """Return number, kind and words of each verdict among the rows."""
    kinds = [kind_of(text(row["verdict"])) for row in rows]
    found = []
    for kind in (*_COUNTED, "ranking", "unranked"):
        here = [row for row, this in zip(rows, kinds, strict=True) if this == kind]
        if not here:
            continue
        if kind == "control":
            names = Counter(control_title(parse_model(text(row["explained_by"])).words) for row in here)
            several = len(names) > 1
            who = listed([f"{name} ({n})" if several else name for name, n in names.most_common()], 4)
            found.append((len(here), kind, f"above chance but explained by {who}"))
        else:
            words = verdict_words(text(here[0]["verdict"]), "") if kind == "ranking" else KINDS[kind][0]
            found.append((len(here), kind, words))
    return found


def _values(rows: Sequence[Row], architecture: bool) -> tuple[str | float | int | None, ...]:
    kinds = [kind_of(text(row["verdict"])) for row in rows]
    spans = [value if math.isfinite(value) else None for value in _span(rows, "score")]
    ceiling = (_span(rows, "ceiling_low")[0], _span(rows, "ceiling_high")[1])
    verdict = "; ".join(f"{n} {words}" for n, _, words in _tally(rows))
    level = "group" if rows[0]["level"] == "group" else "subject"
    limits = [value if math.isfinite(value) else None for value in ceiling]
    counts = [kinds.count(kind) for kind in _COUNTED]
    return heading(rows, architecture), level, len(rows), *spans, *limits, verdict, *counts


def heading(rows: Sequence[Row], architecture: bool = False) -> str:
    """Return what the rows have in common, in words; the architecture only where there are several."""
    parts = parse_analysis(text(rows[0]["analysis"]))
    if parts.kind == "ranking":
        head = "Ranking of the rules" + _RANKED.get(parts.what, "")
        return f"{head}, {parts.region}"
    if parts.kind == "rsa":
        model = parse_model(parts.model)
        rule = title(model.rule) + (f" ({model.architecture})" if architecture and model.architecture else "")
        return f"{alignment_words(parts.what)}, {parts.region}" + (f": {rule}" if rule else "")
    if parts.kind == "decoding":
        head = "Windows" if window_seconds(parts.task) is not None else _capital(task(parts.task))
        head = f"{parts.modality.upper()}, {head[:1].lower()}{head[1:]}" if parts.modality else head
        words = [title(parts.model), metric(parts.metric), split(parts.split) if parts.split else ""]
        return f"{head}: {', '.join(word for word in words if word)}"
    return parts.task


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def covered(rows: Sequence[Row]) -> str:
    """Return over what the rows differ, in words."""
    names = [parse_analysis(text(row["analysis"])) for row in rows]
    subjects = list(dict.fromkeys(text(row["subject"]) for row in rows if row["level"] != "group"))
    who = "group" if not subjects else f"subject {subjects[0]}" if len(subjects) == 1 else f"{len(subjects)} subjects"
    return ", ".join([who, *_different(names)])


def _different(names: Sequence[AnalysisName]) -> list[str]:
    models = [parse_model(name.model) for name in names]
    layers = {model.layer for model in models if model.layer}
    sizes = {model.size for model in models if model.size}
    windows = sorted({seconds for name in names if (seconds := window_seconds(name.task)) is not None})
    seeds = {name.seed for name in names if name.seed}
    found = [count(len(layers), "layer")] if len(layers) > 1 else []
    found += [count(len(sizes), "picture size")] if len(sizes) > 1 else []
    found += [f"{listed([f'{w:g}' for w in windows])} s"] if windows else []
    moments = {name.when for name in names if name.when}
    found += [count(len(moments), "stretch of time", "stretches of time")] if moments else []
    return found + ([count(len(seeds), "seed")] if len(seeds) > 1 else [])


def _cells(rows: Sequence[Row], ends: Mapping[str, tuple[float, float]], architecture: bool) -> dict[str, str]:
    low, high = _span(rows, "score")
    first, last = _span(rows, "ceiling_low")[0], _span(rows, "ceiling_high")[1]
    tally = _tally(rows)
    badges = [
        badge(kind, words if len(rows) == 1 else f"{'all' if n == len(rows) else f'{n} of'} {len(rows)} {words}")
        for n, kind, words in tally
    ]
    scores = show(low) if show(low) == show(high) else f"{show(low)} to {show(high)}"
    drawing = _strip(rows, ends[measure_of(text(rows[0]["analysis"]))]) if math.isfinite(low) else DASH
    what, who = escape(heading(rows, architecture)), escape(covered(rows))
    return {
        "analysis": f'<span class="what">{what}</span><span class="who">{who}</span>',
        "score_low": f"<b>{escape(scores)}</b>",
        "score_high": drawing,
        "ceiling_low": escape(f"{show(first)} {DASH} {show(last)}" if math.isfinite(first) else DASH),
        "verdict": f'<span class="badges">{"".join(badges)}</span>',
    }


def _strip(rows: Sequence[Row], ends: tuple[float, float]) -> str:
    points = [(_number(row, "score"), kind_of(text(row["verdict"])), _tip(row)) for row in rows]
    # Those that are above something lie on top.
    points.sort(key=lambda point: -[*_COUNTED, point[1]].index(point[1]))
    nulls = sorted({round(value, 3) for row in rows if math.isfinite(value := _number(row, "null_mean"))})
    limits = {(_number(row, "ceiling_low"), _number(row, "ceiling_high")) for row in rows}
    ceiling = next(iter(limits)) if len(limits) == 1 else (math.nan, math.nan)
    label = f"{heading(rows)}: {count(len(points), 'score')}"
    interval = (_number(rows[0], "ci_low"), _number(rows[0], "ci_high")) if len(rows) == 1 else (math.nan, math.nan)
    return str(strip_cell(points, nulls, ceiling, ends, label, interval))


def _tip(row: Row) -> str:
    name = parse_analysis(text(row["analysis"]))
    place = parse_model(name.model).words if name.kind == "rsa" else task(name.task)
    place = ", ".join(part for part in (place, name.when) if part)
    who = "" if row["level"] == "group" else f", subject {text(row['subject'])}"
    return (
        f"{place}{who}: {show(_number(row, 'score'))}, {verdict_words(text(row['verdict']), text(row['explained_by']))}"
    )
