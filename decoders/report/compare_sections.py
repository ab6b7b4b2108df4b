"""Sections of the page that compares two runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from decoders.report.blocks import Block, Data, Figure, Notice, Section, Table, parts, show, worded
from decoders.report.contrasts import numbers
from decoders.report.figures import show_tick
from decoders.report.svg import Scale, Svg, domain
from decoders.report.words import analysis, metric, split, task, text, title

_EDGE, _MARGIN = 380.0, 52.0
_NTH = "nth"
_KEYS = {
    "verdicts": ("level", "subject", "analysis"),
    "decoding": ("level", "subject", "modality", "split", "seed", "task", "metric", "model", "control_of"),
    "networks": ("rule", "architecture", "seed"),
}
_SHOWN = {
    "verdicts": ("score", "ci_low", "ci_high", "p_corrected", "verdict"),
    "decoding": ("score", "ci_low", "ci_high", "p_corrected"),
    "networks": ("status", "test_accuracy", "readout_accuracy"),
}
_TITLES = {"verdicts": "Verdicts", "decoding": "Scores of decoding", "networks": "Networks"}
_DRAWN = {"verdicts": "score", "decoding": "score", "networks": "test_accuracy"}


@dataclass(frozen=True)
class Side:
    """One of the two studies.

    Attributes
    ----------
    name : str
    settings : dict
        As in provenance.json.
    tables : dict of str to DataFrame
        "manifest", "verdicts", "decoding", "networks", as far as they exist.
    stages : list of dict
        Records of stage runs.
    raw : dict of str to str
        Checksums of what no stage wrote, by path.
    """

    name: str
    settings: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    raw: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, an empty one where it is absent."""
        return self.tables.get(name, pd.DataFrame())

    def called(self, name: str) -> Side:
        """Return the same under another name."""
        return replace(self, name=name)


def flattened(settings: Mapping[str, Any], head: str = "") -> dict[str, str]:
    """Return settings by their dotted names, each value as JSON."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        path = f"{head}.{name}".strip(".")
        if isinstance(value, dict) and value:
            found |= flattened(value, path)
        else:
            found[path] = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return found


def settings_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the settings that differ: dotted name, and the value of each as JSON ("absent" where a side has none)."""
    one, other = flattened(a), flattened(b)
    names = [*one, *(name for name in other if name not in one)]
    pairs = [(name, one.get(name, "absent"), other.get(name, "absent")) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2] and pair[0] != "study"]


def scores_section(a: Side, b: Side) -> Section:
    """Return verdicts, scores of decoding and networks side by side."""
    lead = (
        "What both runs report, side by side. No difference is tested here: two runs on the same recordings are not "
        "independent, and a verdict may change without a meaningful change of the score."
    )
    blocks = [(name, _side_by_side(name, a, b)) for name in _KEYS]
    order = parts(*((_TITLES[name], found) for name, found in blocks))
    return Section("scores", "Scores side by side", lead, order)


def joined(name: str, a: Side, b: Side) -> pd.DataFrame:
    """Return the rows of both, those of one side alone too, with the suffixes _a and _b."""
    sides = []
    for side in (a, b):
        table = side.table(name)
        keys = [key for key in _KEYS[name] if key in a.table(name) or key in b.table(name)]
        kept = pd.DataFrame({key: table[key].map(text) if key in table else "" for key in keys}, index=table.index)
        shown = {column: table[column] for column in _SHOWN[name] if column in table}
        # Rows of equal keys stand side by side in their order: none is lost.
        kept[_NTH] = kept.groupby(keys, sort=False).cumcount() if len(kept) else []
        sides.append(kept.assign(**shown) if len(table) else None)
    if sides[0] is None and sides[1] is None:
        return pd.DataFrame()
    on = [*keys, _NTH]
    one, other = (side if side is not None else pd.DataFrame(columns=on) for side in sides)
    found = one.merge(other, on=on, how="outer", suffixes=("_a", "_b"), sort=False, indicator="in")
    for column in _SHOWN[name]:
        # A column that one side lacks altogether got no suffix.
        if column in found:
            found = found.rename(columns={column: f"{column}_a" if column in one else f"{column}_b"})
    found["in"] = found["in"].astype(str).map({"both": "both", "left_only": a.name, "right_only": b.name})
    return found


def _side_by_side(name: str, a: Side, b: Side) -> list[Block | None]:
    table = joined(name, a, b)
    if not len(table):
        return []
    if {"verdict_a", "verdict_b"} <= set(table):
        same = (table["verdict_a"] == table["verdict_b"]) | (table["in"] != "both")
        table.insert(len(_KEYS[name]), "changed", np.where(same, "no", "yes"))
        table = table.sort_values("changed", ascending=False, kind="stable")
    return [_scatter(name, table, a, b), _table(name, table, a, b)]


def _table(name: str, table: pd.DataFrame, a: Side, b: Side) -> Table:
    order = [key for key in (*_KEYS[name], "changed") if key in table]
    order += [f"{column}_{side}" for column in _SHOWN[name] for side in "ab" if f"{column}_{side}" in table]
    order += ["in"]
    data = Data.of(table[order].replace("", None))
    labels = {"in": "reported by", "changed": "verdict changed"}
    for column in _SHOWN[name]:
        labels |= {f"{column}_a": f"{column.replace('_', ' ')}, {a.name}"}
        labels |= {f"{column}_b": f"{column.replace('_', ' ')}, {b.name}"}
    bare = [column for column in order if table[column].replace("", None).isna().all()]
    bare += ["in"] if (table["in"] == "both").all() else []
    words = worded(
        data, {"analysis": analysis, "task": task, "metric": metric, "split": split, "model": title, "rule": title}
    )
    filters = tuple(key for key in ("in", "changed", "level", "metric", "task") if key in order)
    caption = "Rows of both runs; a dash where a run does not report the row."
    heading = f"{_TITLES[name]} of both"
    key, hide = f"compare-{name}", tuple(bare)
    return Table(key, heading, caption, data, labels, filters=filters, first=40, hide=hide, words=words)


def _scatter(name: str, table: pd.DataFrame, a: Side, b: Side) -> Figure | None:
    """Return the scores of one run over those of the other."""
    x, y = (numbers(table, f"{_DRAWN[name]}_{side}") for side in "ab")
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return None
    rows = table[known]
    keys = [key for key in _KEYS[name] if key in rows]
    words = [", ".join(part for part in map(text, row) if part) for row in rows[keys].to_numpy()]
    ends = domain([*x[known], *y[known]], (0.0,), margin=0.05)
    across, up = Scale(*ends, _MARGIN, _MARGIN + _EDGE), Scale(*ends, _EDGE + 12, 12)
    drawing = Svg(_MARGIN + _EDGE + 20, _EDGE + 60, f"{_TITLES[name]}: {b.name} over {a.name}")
    for tick in across.ticks():
        drawing.line(across(tick), 12, across(tick), 12 + _EDGE, "grid")
        drawing.line(_MARGIN, up(tick), _MARGIN + _EDGE, up(tick), "grid")
        drawing.text(across(tick), _EDGE + 28, show_tick(tick), "t small", "middle")
        drawing.text(_MARGIN - 6, up(tick) + 4, show_tick(tick), "t small", "end")
    drawing.line(across(ends[0]), up(ends[0]), across(ends[1]), up(ends[1]), "ref d1", "equal")
    changed = rows["changed"].to_numpy() == "yes" if "changed" in rows else np.zeros(len(rows), bool)
    for label, one, other, other_verdict in zip(words, x[known], y[known], changed, strict=True):
        css, shape = ("mark c1", 3) if other_verdict else ("faint c0", 0)
        tip = f"{label}: {show(float(one))} and {show(float(other))}"
        drawing.mark(across(one), up(other), shape, 4.5 if other_verdict else 3.5, css, tip)
    drawing.text(_MARGIN + _EDGE / 2, _EDGE + 50, a.name, "t small", "middle")
    drawing.text(14, 12 + _EDGE / 2, b.name, "t small", "middle", rotate=-90)
    caption = "One mark per row that both report; on the dashed line both are equal."
    caption += " Diamonds: the verdict changed." if changed.any() else ""
    columns = [*keys, f"{_DRAWN[name]}_a", f"{_DRAWN[name]}_b"]
    drawn = _DRAWN[name].replace("_", " ")
    heading = f"{_TITLES[name]}: {drawn} of both"
    return Figure(f"scatter-{name}", heading, caption, [("", drawing.markup())], Data.of(rows[columns]), wide=False)


def settings_section(a: Side, b: Side) -> Section:
    """Return the settings that differ."""
    rows = settings_differences(a.settings, b.settings)
    data = Data(("setting", "first", "second"), rows)
    labels = {"first": a.name, "second": b.name}
    table = Table("compare-settings", "Settings that differ", "", data, labels, first=60) if rows else None
    equal = None if rows else Notice("Settings", ["All settings are equal, but for the name of the study."])
    return Section("settings", "Settings", "Every setting that is not listed is equal.", parts(("", [table, equal])))


def data_section(a: Side, b: Side) -> Section:
    """Return what differs in recordings, other inputs, code and packages."""
    order = parts(
        ("Recordings", [_recordings(a, b)]),
        ("Other inputs", [_raw(a, b)]),
        ("Code and packages", [_pairs("compare-code", "Digest of the code", _digests(a), _digests(b), a, b)]),
        ("", [_pairs("compare-packages", "Packages", _packages(a), _packages(b), a, b)]),
    )
    if not any(part.blocks for part in order):
        words = ["Recordings, other inputs, code and packages are equal."]
        order = parts(("", [Notice("Data and code", words)]))
    return Section("data", "Data and code", "Only what differs is listed.", order)


def _recordings(a: Side, b: Side) -> Table | None:
    return _pairs("compare-recordings", "Recordings", _runs(a), _runs(b), a, b)


def _runs(side: Side) -> dict[str, str]:
    table = side.table("manifest")
    found = {}
    for row in table.to_dict("records"):
        state = text(row.get("status")) + (f": {text(row['reason'])}" if text(row.get("reason")) else "")
        digest = text(row.get("sha256"))
        found[text(row.get("run_id"))] = f"{state}, SHA-256 {digest[:12]}" if digest else state
    return found


def _raw(a: Side, b: Side) -> Table | None:
    """Compare files by their names: the same file may lie in another folder."""
    return _pairs("compare-inputs", "Checksums (SHA-256)", _checksums(a), _checksums(b), a, b)


def _checksums(side: Side) -> dict[str, str]:
    return _gathered((path.rsplit("/", 1)[-1], digest[:12]) for path, digest in side.raw.items())


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return all values of each name, sorted."""
    found: dict[str, set[str]] = {}
    for name, value in pairs:
        found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}


def _digests(side: Side) -> dict[str, str]:
    return _gathered((text(record.get("stage")), text(record.get("source_digest"))) for record in side.stages)


def _packages(side: Side) -> dict[str, str]:
    pairs = ((name, number) for record in side.stages for name, number in dict(record.get("packages", {})).items())
    return _gathered((text(name), text(number)) for name, number in pairs)


def _pairs(key: str, heading: str, one: Mapping[str, str], other: Mapping[str, str], a: Side, b: Side) -> Table | None:
    names = [*one, *(name for name in other if name not in one)]
    rows = [(n, one.get(n, "absent"), other.get(n, "absent")) for n in names if one.get(n) != other.get(n)]
    if not rows:
        return None
    labels = {"what": "", "first": a.name, "second": b.name}
    return Table(key, heading, "", Data(("what", "first", "second"), rows), labels, first=30)
