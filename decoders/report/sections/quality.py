"""Quality of the recordings: motion, signal, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, Notice, Section, Table, Value, parts, show
from decoders.report.figures import Dot, DotRow, dot_grid, shorten
from decoders.report.heat import Floats, mosaic
from decoders.report.images import indexed_uri
from decoders.report.read import Results
from decoders.report.sections.landing import excluded_notice
from decoders.report.sections.sensor_quality import sensor_blocks, without_sensors
from decoders.report.svg import Scale, Svg
from decoders.report.volumes import Volume, canonical
from decoders.report.words import count, text
from decoders.store.arrays import Arrays

_RUNS_PER_PANEL = 12
_CARPET_ROWS = 60
_MOST_MAPS = 12


def section(results: Results) -> Section:
    """Return the section on quality."""
    series, quality = results.first("series"), results.table("quality")
    imaging = without_sensors(quality)
    order = parts(
        ("Left out", [excluded_notice(results), _warnings(quality)]),
        ("Runs", [_table(imaging, series), _tsnr(imaging)]),
        ("MEG and EEG", sensor_blocks(quality, series)),
        ("Motion and carpets", [_carpets(series)]),
        ("Signal to noise in space", [_maps(series)]),
    )
    return Section(
        "quality", "Quality", "What the recordings are like before anything is decoded, and what was not used.", order
    )


def _warnings(quality: pd.DataFrame) -> Notice | None:
    if "warnings" not in quality:
        return None
    items = [
        f"{text(row['run_id'])}: {text(row['warnings'])}" for _, row in quality.iterrows() if text(row["warnings"])
    ]
    if len(items) > 15:
        items = [*items[:15], f"and {count(len(items) - 15, 'more run')}: see the table"]
    return Notice("Warnings of the preprocessing", items) if items else None


def _table(quality: pd.DataFrame, series: Arrays | None) -> Table | None:
    if not len(quality):
        return None
    bare = tuple(name for name in quality if quality[name].isna().all())
    definitions = series.attributes.get("definitions", {}) if series is not None else {}
    words = {"tsnr": "tSNR", "fd": "FD", "n_bad": "Bad features"}
    caption = " ".join(f"{words[name]}: {text(definitions[name])}." for name in words if name in definitions)
    caption += " Features are voxels, regions or vertices."
    labels = {
        "n_volumes": "volumes",
        "tr": "TR (s)",
        "n_features": "features",
        "tsnr_median": "median tSNR",
        "fd_mean": "mean FD (mm)",
        "fd_max": "max FD (mm)",
        "n_bad": "bad features",
    }
    return Table("quality", "Runs", caption, Data.of(quality), labels, filters=("task", "kind"), first=15, hide=bare)


def _tsnr(quality: pd.DataFrame) -> Figure | None:
    measures = {"tsnr_median": "median tSNR", "fd_mean": "mean FD (mm)"}
    found = {name: label for name, label in measures.items() if name in quality and quality[name].notna().any()}
    if not found:
        return None
    drawings = []
    for name, label in found.items():
        rows = [
            DotRow(f"subject {text(who)}", False, {"runs": _run_dots(group, name)})
            for who, group in quality.groupby("subject", sort=True)
        ]
        drawings.append((label, dot_grid(label, ["runs"], rows, label, (0.0,))))
    columns = ["run_id", "subject", *found]
    return Figure("tsnr", "Signal and motion per subject", "One dot per run.", drawings, Data.of(quality[columns]))


def _run_dots(group: pd.DataFrame, name: str) -> list[Dot]:
    values = pd.to_numeric(group[name], errors="coerce")
    return [
        Dot(float(v), kind="subject", tip=f"{text(run)}: {show(float(v))}")
        for run, v in zip(group["run_id"], values, strict=True)
        if math.isfinite(v)
    ]


def _carpets(series: Arrays | None) -> Figure | None:
    if series is None:
        return None
    carpets = {
        name.removeprefix("carpet/"): array.values
        for name, array in series.arrays.items()
        if name.startswith("carpet/")
    }
    moved = {
        name.removeprefix("fd/"): array.values.astype(float)
        for name, array in series.arrays.items()
        if name.startswith("fd/")
    }
    runs = sorted({*carpets, *moved})
    if not runs:
        return None
    highest = max([float(np.nanmax(values)) for values in moved.values() if values.size] + [0.5])
    chunks = [runs[i : i + _RUNS_PER_PANEL] for i in range(0, len(runs), _RUNS_PER_PANEL)]
    drawings = [
        (chunk[0] if len(chunk) == 1 else f"{chunk[0]} to {chunk[-1]}", _carpet_sheet(chunk, carpets, moved, highest))
        for chunk in chunks
    ]
    length = max([len(values) for values in moved.values()] + [0])
    padded = [[*values.tolist(), *[None] * (length - len(values))] for _, values in sorted(moved.items())]
    data = Data(("volume", *sorted(moved)), [tuple(row) for row in zip(range(length), *padded, strict=True)])
    caption = (
        "Line: framewise displacement (one scale for all runs). Below it the preprocessed series, "
        "neighbouring voxels averaged, each row in units of its own deviation (black -2, white +2). The rows "
        "of the carpet are in preprocessed/quality.h5."
    )
    if not moved:
        shapes = [(run, carpets[run].shape[0], carpets[run].shape[1]) for run in runs]
        data = Data(("run_id", "carpet_rows", "volumes"), shapes)
        caption = (
            caption[caption.index("Below") :].replace("Below it the", "The").replace("The preprocessed", "Preprocessed")
        )
    return Figure("carpets", "Carpets", caption, drawings, data)


def _carpet_sheet(
    runs: list[str], carpets: Mapping[str, np.ndarray], moved: Mapping[str, Floats], highest: float
) -> Markup:
    across = min(len(runs), 3)
    wide, tall, trace, head = 300.0, 84.0, 26.0 if moved else 0.0, 18.0
    step_x, step_y = wide + 26, tall + trace + head + 16
    drawing = Svg(across * step_x - 26, math.ceil(len(runs) / across) * step_y, "Framewise displacement and carpets")
    for i, run in enumerate(runs):
        x, y = (i % across) * step_x, (i // across) * step_y + head
        drawing.text(x, y - 5, shorten(run, 46), "t small")
        if run in moved and moved[run].size > 1:
            across_x, up = Scale(0, len(moved[run]) - 1, x, x + wide), Scale(0, highest, y + trace - 3, y)
            drawing.path(
                [(across_x(k), up(v)) for k, v in enumerate(moved[run])],
                "spark",
                tip=f"{run}: largest displacement {show(float(np.nanmax(moved[run])))} mm",
            )
        if run in carpets and carpets[run].size:
            drawing.image(x, y + trace, wide, tall, indexed_uri(_thinned(carpets[run].astype(float)), -2, 2, "gray"))
    return drawing.markup()


def _thinned(picture: Floats) -> Floats:
    parts_ = np.array_split(np.arange(len(picture)), min(_CARPET_ROWS, len(picture)))
    rows = np.stack([picture[part].mean(axis=0) for part in parts_])
    deviation = rows.std(axis=1, keepdims=True)
    return np.divide(rows, deviation, out=np.zeros_like(rows), where=deviation > 0)


def _maps(series: Arrays | None) -> Figure | None:
    if series is None:
        return None
    names = [
        name.removeprefix("tsnr/")
        for name, array in series.arrays.items()
        if name.startswith("tsnr/") and array.axes == ("x", "y", "z")
    ]
    drawings: list[tuple[str, Markup]] = []
    rows: list[tuple[Value, ...]] = []
    for subject in names[:_MOST_MAPS]:
        values, affine = series[f"tsnr/{subject}"].astype(float), series[f"tsnr_affine/{subject}"].astype(float)
        inside = series[f"tsnr_mask/{subject}"].astype(bool) & np.isfinite(values)
        turned, turned_affine = canonical(np.where(inside, values, np.nan), affine)
        drawings.append(
            (
                f"subject {subject}",
                mosaic(f"tSNR of subject {subject}", Volume(turned, turned_affine, subject, "tsnr"), "tSNR"),
            )
        )
        quartiles = np.percentile(values[inside], [0, 25, 50, 75, 100]) if inside.any() else np.full(5, np.nan)
        rows.append((subject, int(inside.sum()), *(float(v) for v in quartiles)))
    if not drawings:
        return None
    note = f" The first {_MOST_MAPS} of {len(names)} subjects." if len(names) > _MOST_MAPS else ""
    data = Data(("subject", "voxels", "lowest", "quartile_1", "median", "quartile_3", "highest"), rows)
    return Figure("tsnr-maps", "tSNR maps", f"Mean over the runs of a subject; left is left.{note}", drawings, data)
