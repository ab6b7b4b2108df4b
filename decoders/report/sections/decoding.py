"""What was decoded: scores beside their controls, texts side by side, confusions, identification of windows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.decoding.text_scores import LOWER_IS_BETTER
from decoders.report.blocks import Data, Figure, Notice, Pair, Pairs, Section, Table, parts, show, worded
from decoders.report.figures import Dot, DotRow, Reference, dot_grid
from decoders.report.heat import matrix
from decoders.report.lines import Series, line_chart
from decoders.report.read import Results
from decoders.report.sections.across import across_blocks
from decoders.report.sections.leaks import leak_blocks
from decoders.report.sections.sensors import rank_curve, sensor_blocks
from decoders.report.text_diff import edits, median_first, pieces
from decoders.report.words import (
    N_WORDS,
    control_title,
    count,
    is_control,
    level,
    metric,
    split,
    task,
    text,
    title,
    window_seconds,
)

_MODES = {"free": "from the recording alone", "teacher_forced": "given the true text so far"}
_SHORT = 24  # characters; names of categories need little room
_WHOLE = ("", "all", "mean", "group")
_MOST_TEXTS = 48
_MOST_CHARACTERS = 4000
_FEW = 6  # seeds or subjects that are drawn one by one with their intervals
_ABSENT = "absent: "
_COMMON = {"level": level, "subject": lambda who: f"subject {who}", "split": split, "seed": lambda seed: f"seed {seed}"}
_LABELS = {"ci_low": "CI low", "ci_high": "CI high", "null_mean": "null mean", "p_corrected": "corrected p"}


def section(results: Results) -> Section:
    """Return the section on decoding."""
    scores = results.table("decoding_scores")
    measured = scores[~_is_absent(scores)]
    told_apart = by_modality(measured)
    lead = "Every score stands beside its controls: a score means something only where it is above all of them."
    order = parts(
        ("Scores and controls", [_dots(told_apart), _table(measured), _absent(scores)]),
        ("Identification of windows", [_windows(scores), rank_curve(told_apart)]),
        ("Sensors that carry the text", sensor_blocks(results)),
        ("Decoding of new people", across_blocks(results)),
        ("Names: reference and decoded", [*_confusions(results)]),
        ("Text: reference and decoded", _texts(results.table("text"))),
        ("Encoding per region", [_regions(results)]),
        ("Training and test data", leak_blocks(results)),
    )
    return Section("decoding", "Decoding", lead, order)


def by_modality(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with the kind of sensors in front of the tasks of MEG and EEG, as verdicts name them."""
    if "modality" not in scores:
        return scores
    kinds = scores["modality"].map(text)
    names = [f"{kind} {name}" if kind else name for kind, name in zip(kinds, scores["task"].map(text), strict=True)]
    return scores.assign(task=names)


def _is_absent(scores: pd.DataFrame) -> pd.Series:
    if "method" not in scores:
        return pd.Series(False, index=scores.index)
    return scores["method"].map(text).astype(str).str.startswith(_ABSENT)


def _absent(scores: pd.DataFrame) -> Notice | None:
    """Name the scores and controls that were not measured, each with its reason."""
    rows = scores[_is_absent(scores)]
    items = [
        f"{control_title(row['model']) if is_control(text(row['model'])) else metric(text(row['metric']))}: "
        f"{text(row['method']).removeprefix(_ABSENT)}."
        for row in rows.to_dict("records")
    ]
    return Notice("Not measured", list(dict.fromkeys(items))) if items else None


def _table(scores: pd.DataFrame) -> Table | None:
    if not len(scores):
        return None
    data = Data.of(scores)
    # A column with one value says nothing in every row; how a score was made is a sentence, kept for the download.
    bare = [name for name in scores if scores[name].isna().all()]
    bare += [name for name in ("level", "split", "seed", "subject") if name in scores and _one_value(scores[name])]
    common = [
        words(text(scores[name].iloc[0]))
        for name, words in _COMMON.items()
        if name in bare and len(scores[name].dropna())
    ]
    caption = "Models and controls of every task, level, split and seed."
    caption += f" All rows: {', '.join(common)}." if common else ""
    if (scores["level"] == "group").any():
        caption += f" n: {N_WORDS}."
    words = {"level": level, "task": task, "metric": metric, "model": title, "control_of": title, "split": split}
    return Table(
        "decoding-scores",
        "Scores",
        caption,
        data,
        _LABELS,
        filters=("level", "task", "metric", "model", "split"),
        first=15,
        hide=(*bare, "method"),
        words=worded(data, words),
    )


def _one_value(column: pd.Series) -> bool:
    return column.map(text).nunique() == 1


def _whole(value: object) -> bool:
    return text(value).lower() in _WHOLE


def _dots(scores: pd.DataFrame) -> Figure | None:
    if not len(scores):
        return None
    drawings = []
    for name, same in scores.groupby("metric", sort=False):
        # Splits that carry a score of the group are analyses of their own; others are folds and become dots.
        named = [
            part
            for part in same["split"].map(text).unique()
            if part not in _WHOLE and ((same["level"] == "group") & (same["split"].map(text) == part)).any()
        ]
        others = same[~same["split"].map(text).isin(named)]
        for chosen in [*named, *([""] if len(others) else [])]:
            rows = same[same["split"].map(text) == chosen] if chosen else others
            columns = list(dict.fromkeys(rows["task"].map(text)))
            owners = rows["control_of"].map(text) if "control_of" in rows else pd.Series("", index=rows.index)
            kinds = sorted(
                dict.fromkeys(zip(rows["model"].map(text), owners, strict=True)), key=lambda kind: is_control(kind[0])
            )
            drawn = [
                _dot_row(rows[(rows["model"] == model) & (owners == owner)], model, owner) for model, owner in kinds
            ]
            label = metric(name) + (f", {split(chosen)}" if chosen else "")
            titles = {column: task(column) for column in columns}
            shown = [
                DotRow(
                    row.label,
                    row.control,
                    {titles[c]: d for c, d in row.cells.items()},
                    {titles[c]: v for c, v in row.nulls.items()},
                )
                for row in drawn
            ]
            drawings.append((label, dot_grid(f"Scores: {label}", list(titles.values()), shown, _axis(name))))
    caption = (
        "Large marker: the score over all splits and seeds, or of the group, with its 95 % interval. Small "
        "dots: subjects, splits and seeds. Open diamonds below the dotted line: controls. Upright line: mean "
        "of the null."
    )
    return Figure("scores", "Scores beside their controls", caption, drawings, Data.of(scores))


def _axis(name: str) -> str:
    return metric(name) + (" (lower is better)" if name in LOWER_IS_BETTER else "")


def _dot_row(rows: pd.DataFrame, model: str, owner: str) -> DotRow:
    cells: dict[str, list[Dot]] = {}
    nulls: dict[str, float] = {}
    for name, here in rows.groupby("task", sort=False):
        grouped = bool((here["level"] == "group").any())
        summed = bool((here["split"].map(_whole) & here["seed"].map(_whole)).any())
        few = not grouped and not summed and len(here) <= _FEW
        dots = [_dot(row, grouped, summed, few, model) for _, row in here.iterrows()]
        cells[text(name)] = [dot for dot in dots if math.isfinite(dot.value)]
        main = here[here["level"] == "group"] if grouped else here
        null = pd.to_numeric(main["null_mean"], errors="coerce").dropna()
        if len(null):
            nulls[text(name)] = float(null.iloc[0])
    label = control_title(model) if is_control(model) else title(model)
    return DotRow(label + (f" ({title(owner)})" if owner else ""), is_control(model), cells, nulls)


def _dot(row: pd.Series, grouped: bool, summed: bool, few: bool, model: str) -> Dot:
    whole = _whole(row["split"]) and _whole(row["seed"])
    if grouped:
        kind = "main" if row["level"] == "group" else "subject"
    else:
        kind = "main" if whole or few else "split" if summed else "subject"
    about = [title(model), "group" if row["level"] == "group" else f"subject {text(row['subject'])}"]
    about += [split(text(row["split"]))] if not _whole(row["split"]) else []
    about += [f"seed {text(row['seed']).removesuffix('.0')}"] if not _whole(row["seed"]) else []
    score, low, high = (
        float(v) if v == v and v is not None else math.nan for v in (row["score"], row["ci_low"], row["ci_high"])
    )
    interval = f" [{show(low)}, {show(high)}]" if math.isfinite(low) and math.isfinite(high) else ""
    return Dot(score, low, high, kind, f"{', '.join(about)}: {show(score)}{interval}")


def _windows(scores: pd.DataFrame) -> Figure | None:
    scores = scores[scores["modality"].map(text) == ""] if "modality" in scores else scores
    seconds = scores["task"].map(window_seconds)
    rows = scores[seconds.notna() & (scores["metric"] == "percentile")].assign(seconds=seconds)
    if not len(rows) or rows["seconds"].nunique() < 2:
        return None
    drawings = []
    for kind, (part, subject), here in _by_length(rows):
        shifted = here[here["model"] == "control:shifted"].sort_values("seconds")
        band = _series("null: time-shifted text, 95 %", shifted, 7) if len(shifted) > 1 else None
        models = [model for model in dict.fromkeys(here["model"]) if model != "control:shifted"]
        lines = [
            _series(
                control_title(model) if is_control(model) else title(model),
                here[here["model"] == model].sort_values("seconds"),
                i,
                marks=True,
            )
            for i, model in enumerate(models)
        ]
        label = ", ".join(filter(None, [split(text(part)), "" if kind == "group" else f"subject {text(subject)}"]))
        chart = line_chart(
            f"Identification by window length: {label}",
            lines,
            ("window (s)", "identification percentile"),
            band=band,
            level=Reference("chance", 0.5),
            log_x=True,
        )
        drawings.append((label, chart))
    if not drawings:
        return None
    caption = (
        "Percentile of the true window among all windows of the held-out part (0.5 is chance), with 95 % "
        "intervals. Band: 95 % of the same analysis with the text shifted in time."
    )
    return Figure(
        "windows", "Identification by window length", caption, drawings, Data.of(rows.drop(columns="seconds"))
    )


def _by_length(rows: pd.DataFrame) -> Iterator[tuple[str, tuple[object, object], pd.DataFrame]]:
    """Yield level, (split, subject) and rows of what has several window lengths: the group where a split has one."""
    for part, same in rows.groupby("split", sort=False, dropna=False):
        kind = "group" if (same["level"] == "group").any() else "subject"
        for subject, here in same[same["level"] == kind].groupby("subject", sort=False, dropna=False):
            if here["seconds"].nunique() > 1:
                yield kind, (part, subject), here


def _series(label: str, rows: pd.DataFrame, colour: int, marks: bool = False) -> Series:
    def column(name: str) -> list[float]:
        return [float(v) for v in pd.to_numeric(rows[name], errors="coerce")]

    return Series(label, column("seconds"), column("score"), colour, colour, column("ci_low"), column("ci_high"), marks)


def _confusions(results: Results) -> list[Figure]:
    drawings, rows = [], []
    for item in results.arrays.get("names_arrays", []):
        subject = text(item.content.attributes.get("subject")) or item.path.name.removeprefix("sub-").split("_")[0]
        labels = [text(name) for name in item.content.attributes.get("names", [])]
        for name, array in item.content.arrays.items():
            if labels and name.startswith("confusion/") and array.values.shape == (len(labels), len(labels)):
                about = name.removeprefix("confusion/")
                label = f"subject {subject}, {_confusion_words(about)}"
                drawings.append((label, _confusion(label, array.values.astype(float), labels)))
                rows += [
                    (subject, about, a, b, float(array.values[i, j]))
                    for i, a in enumerate(labels)
                    for j, b in enumerate(labels)
                ]
    if not drawings:
        return []
    caption = (
        "Rows: the name that was shown or heard; columns: the name that was decoded. Share of the row's "
        "samples; the diagonal is right."
    )
    return [
        Figure(
            "confusion",
            "Confusion of names",
            caption,
            drawings,
            Data(("subject", "model", "reference", "decoded", "count"), rows),
        )
    ]


def _confusion_words(name: str) -> str:
    """Return the words for ``speller_block_seed-0``."""
    match = re.fullmatch(r"(?P<model>\w+?)_(?P<unit>volume|block)(_seed-(?P<seed>\d+))?", name)
    if match is None:
        return name.replace("_", " ")
    return f"{title(match['model'])}, {match['unit']}" + (f", seed {match['seed']}" if match["seed"] else "")


def _confusion(label: str, counts: np.ndarray, names: list[str]) -> Markup:
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return matrix(
        f"Confusion of names: {label}",
        shares,
        (names, names),
        ("reference", "decoded"),
        (0.0, 1.0, "viridis", "share of the row"),
    )


def _texts(table: pd.DataFrame) -> list[Pairs]:
    blocks: list[Pairs] = []
    if not len(table):
        return blocks
    table = table[~table["model"].map(text).map(is_control)]
    for (mode, model), rows in table.groupby(["mode", "model"], sort=False, dropna=False):
        found = [
            pieces(text(a)[:_MOST_CHARACTERS], text(b)[:_MOST_CHARACTERS])
            for a, b in zip(rows["reference"], rows["decoded"], strict=True)
        ]
        counts = [edits(item) for item in found]
        order = median_first(counts)[:_MOST_TEXTS]
        about = [_about(row) for _, row in rows.iterrows()]
        shown = [Pair(about[i], counts[i], found[i]) for i in order]
        exact = counts.count(0)
        head = title(text(model)) + (f", {_MODES.get(text(mode), text(mode).replace('_', ' '))}" if text(mode) else "")
        caption = (
            f"{count(len(rows), 'text')}, {exact} without a difference. The median comes first, then outwards to "
            "the best and the worst, so that the first ones are typical."
        )
        # Names of a word each say most in the confusions: one line of them is enough to begin with.
        first = 3 if max(len(text(words)) for words in rows["reference"]) <= _SHORT else 9
        if len(rows) > len(shown):
            caption += f" {len(shown)} are shown; the download holds all."
        blocks.append(Pairs(f"text-{len(blocks) + 1}", head, caption, shown, Data.of(rows), first))
    return blocks


def _about(row: Mapping[str, object] | pd.Series) -> str:
    parts_ = [
        f"subject {text(row['subject'])}" if text(row["subject"]) else "",
        f"run {text(row['run'])}" if text(row["run"]) else "",
    ]
    onset = row["onset"]
    if isinstance(onset, int | float) and math.isfinite(onset):
        parts_.append(f"{onset:.0f} s")
    return ", ".join(part for part in parts_ if part)


def _regions(results: Results) -> Figure | None:
    arrays = results.first("encode_arrays")
    if arrays is None or "region_r" not in arrays.arrays:
        return None
    values = arrays["region_r"].astype(float)
    subjects, regions = [text(v) for v in arrays["subjects"]], [text(v) for v in arrays["regions"]]
    if values.shape != (len(subjects), len(regions)) or not regions:
        return None
    reach = float(np.nanmax(np.abs(values))) or 1.0
    drawing = matrix(
        "Encoding r per subject and region",
        values,
        (subjects, regions),
        ("subject", "region"),
        (-reach, reach, "diverging", "encoding r"),
    )
    rows = [(s, r, float(values[i, j])) for i, s in enumerate(subjects) for j, r in enumerate(regions)]
    return Figure(
        "regions",
        "Encoding r per subject and region",
        "Correlation of predicted and measured series in held-out time.",
        [("", drawing)],
        Data(("subject", "region", "r"), rows),
    )
