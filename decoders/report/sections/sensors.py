"""Decoding from MEG or EEG: which sensors carry the text, and how the true window ranks among the others."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from decoders.report.blocks import Block, Data, Figure, Table, Value
from decoders.report.heat import Floats
from decoders.report.read import Named, Results
from decoders.report.topography import Head, flat, heads, sensor_sets
from decoders.report.words import text
from decoders.store.arrays import Arrays

_MOST_MAPS = 24


def sensor_blocks(results: Results) -> list[Block | None]:
    """Return the blocks on sensors that carry the text, one map per subject."""
    return [gate_maps(results), gate_table(results)]


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
