"""Decoding from MEG or EEG: which sensors carry the text, and how the true window ranks among the others."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Block, Data, Figure, Table, Value
from decoders.report.contrasts import numbers
from decoders.report.heat import Floats
from decoders.report.lines import Series, line_chart
from decoders.report.read import Named, Results
from decoders.report.topography import Head, flat, heads, sensor_sets
from decoders.report.words import best_of, control_title, is_control, split, task, text, title
from decoders.store.arrays import Arrays

_MOST_MAPS = 24


def sensor_blocks(results: Results) -> list[Block | None]:
    """Return the blocks on sensors that carry the text, one map per subject."""
    return [gate_maps(results), gate_table(results)]


def rank_curve(scores: pd.DataFrame) -> Figure | None:
    """Return how often the true window is among the k best, over k, where the tables hold two k or more.

    Parameters
    ----------
    scores : DataFrame
        Table `decoding_scores`, measured rows, with the kind of sensors in front of their tasks.
    """
    ranks = scores["metric"].map(best_of)
    rows = scores[ranks.notna()].assign(k=ranks[ranks.notna()].astype(int))
    drawings = []
    place = ["task", "level", "subject", "split"]
    for (name, level, subject, part), here in rows.groupby(place, sort=False, dropna=False):
        if here["k"].nunique() > 1:
            who = "group" if level == "group" else f"subject {text(subject)}"
            label = ", ".join(word for word in (task(text(name)), who, split(text(part))) if word)
            drawings.append((label, _rank_chart(here)))
    if not drawings:
        return None
    caption = (
        "How often the true window is among the k best of all windows of the held-out part, with 95 % intervals. "
        "Dashed grey: controls; of a control with several models the one that belongs to the first."
    )
    columns = [name for name in _RANK_COLUMNS if name in rows]
    return Figure("ranks", "Rank of the true window", caption, drawings[:_MOST_MAPS], Data.of(rows[columns]))


_RANK_COLUMNS = ("task", "level", "subject", "split", "model", "control_of", "k", "score", "ci_low", "ci_high", "n")


def _rank_chart(here: pd.DataFrame) -> Markup:
    lines: list[Series] = []
    for model, rows in here.groupby("model", sort=False):
        curve = rows.drop_duplicates("k").sort_values("k")
        control = is_control(text(model))
        x, y, low, high = (numbers(curve, name).tolist() for name in ("k", "score", "ci_low", "ci_high"))
        label = control_title(text(model)) if control else title(text(model))
        lines.append(Series(label, x, y, 7 if control else len(lines) % 7, int(control), low, high, not control))
    highest = max([value for line in lines for value in (*line.y, *line.high) if math.isfinite(value)] + [0.1])
    axes = ("k", "true window among the k best")
    return line_chart("Rank of the true window", lines, axes, fixed=(0.0, min(1.0, highest)), log_x=True)


def gate_maps(results: Results) -> Figure | None:
    """Return what passes each sensor's gate, over the head, with the sensors above the cut of null gates."""
    drawings: list[tuple[str, Markup]] = []
    rows: list[tuple[Value, ...]] = []
    for item in results.arrays.get("meg_arrays", []):
        if "nats" not in item.content.arrays or "positions" not in item.content.arrays:
            continue
        who = subject_of(item)
        if len(drawings) < _MOST_MAPS:
            drawings.append((f"subject {who}", _gate_drawing(item.content, who)))
        rows += _gate_rows(item.content, who)
    if not drawings:
        return None
    caption = (
        "Information that passes the gate of each sensor, in nats, mean over cross-fitting folds; the head from above "
        "with the nose up. Large pink dots: sensors above the largest value of the null gates (text rolled in time)."
    )
    return Figure("sensor-gate", "Sensors that carry the text", caption, drawings, Data(_GATE_COLUMNS, rows))


_GATE_COLUMNS = ("subject", "channel", "type", "nats", "z", "cut", "above_cut")


def subject_of(item: Named) -> str:
    """Return the subject of an array file."""
    return text(item.content.attributes.get("subject")) or item.path.name.removeprefix("sub-").split("_")[0]


def _gate_drawing(file: Arrays, who: str) -> Markup:
    nats, positions = file["nats"].astype(float), file["positions"].astype(float)
    names, above = [text(name) for name in file["names"]], above_cut(file)
    maps = [
        Head(words, flat(positions[index]), nats[index], above[index], [names[i] for i in index])
        for words, index in sensor_sets(positions, types_of(file))
    ]
    finite = nats[np.isfinite(nats)]
    scale = (0.0, float(finite.max()) if finite.size and finite.max() > 0 else 1.0, "viridis", "nats per sensor")
    return heads(f"Sensors that carry the text, subject {who}", [("", maps)], scale, 230.0)


def types_of(file: Arrays) -> list[str]:
    """Return the type of each channel; empty where the file does not say."""
    return [text(kind) for kind in file["channel_types"]] if "channel_types" in file.arrays else []


def _cut(file: Arrays) -> float:
    if "cut" in file.arrays and np.size(file["cut"]) == 1:
        return float(np.asarray(file["cut"], dtype=float).reshape(-1)[0])
    value = file.attributes.get("cut")
    return float(value) if isinstance(value, int | float) else float("nan")


def above_cut(file: Arrays) -> np.ndarray:
    """Return which sensors exceed the cut of the null gates."""
    cut = _cut(file)
    values: Floats = file["nats"].astype(float)
    return np.isfinite(values) & (values > cut) if np.isfinite(cut) else np.zeros(len(values), dtype=bool)


def _gate_rows(file: Arrays, who: str) -> list[tuple[Value, ...]]:
    kinds = types_of(file) or [""] * len(file["nats"])
    z = file["z"].astype(float) if "z" in file.arrays else np.full(len(kinds), np.nan)
    return [
        (who, text(name), kind, float(nats), float(score), _cut(file), int(above))
        for name, kind, nats, score, above in zip(file["names"], kinds, file["nats"], z, above_cut(file), strict=True)
    ]


def gate_table(results: Results) -> Table | None:
    """Return how many sensors of each subject exceed the cut."""
    rows: list[tuple[Value, ...]] = []
    for item in results.arrays.get("meg_arrays", []):
        if "nats" in item.content.arrays:
            above = above_cut(item.content)
            strongest = int(np.nanargmax(item.content["nats"].astype(float)))
            name = text(item.content["names"][strongest])
            rows.append((subject_of(item), len(above), int(above.sum()), _cut(item.content), name))
    if not rows:
        return None
    data = Data(("subject", "sensors", "above_cut", "cut", "strongest"), rows)
    labels = {"above_cut": "above the cut", "cut": "cut (nats)", "strongest": "strongest sensor"}
    return Table("sensor-counts", "Sensors above the cut of null gates", "", data, labels)
