"""Quality of MEG and EEG runs: channels, artefacts, triggers, trials, head movement; power over time and spectra."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Block, Data, Figure, Table, Value, show
from decoders.report.contrasts import numbers
from decoders.report.figures import Dot, DotRow, dot_grid, shorten
from decoders.report.heat import Floats
from decoders.report.images import indexed_uri
from decoders.report.lines import Series, line_chart
from decoders.report.svg import Svg
from decoders.report.topography import Head, flat, heads, sensor_sets
from decoders.report.words import count, text
from decoders.store.arrays import Arrays

_OF_FMRI = ("n_volumes", "tr", "tsnr_median", "fd_mean", "fd_max")
_OF_SENSORS = (
    "sfreq", "duration_s", "bad_channels", "bad_share", "rank", "maxwell", "line_hz", "head_mm", "between_runs_mm",
    "n_eye", "n_heart", "artefact_variance", "noise", "n_events", "n_epochs", "n_epochs_rejected", "triggers",
    "triggers_missing", "triggers_extra", "triggers_doubled", "trigger_offset_ms", "trigger_jitter_ms",
)  # fmt: skip
_LABELS = {
    "sfreq": "samples/s", "duration_s": "duration (s)", "n_features": "channels", "n_bad": "bad",
    "bad_channels": "bad channels", "bad_share": "share of bad samples", "line_hz": "line (Hz)",
    "head_mm": "head movement (mm)", "between_runs_mm": "from first run (mm)", "n_eye": "eye components",
    "n_heart": "heart components", "artefact_variance": "variance of artefacts", "noise": "noise covariance",
    "n_events": "events", "n_epochs": "trials", "n_epochs_rejected": "trials rejected", "triggers": "trigger channel",
    "triggers_missing": "triggers missing", "triggers_extra": "triggers without event",
    "triggers_doubled": "triggers doubled", "trigger_offset_ms": "trigger offset (ms)",
    "trigger_jitter_ms": "trigger jitter (ms)",
}  # fmt: skip
_MEASURES = {
    "n_bad": "bad channels",
    "n_epochs_rejected": "trials rejected",
    "head_mm": "head movement within the run (mm)",
    "between_runs_mm": "distance of the head from the first run (mm)",
    "trigger_jitter_ms": "jitter of the triggers (ms)",
}
_TYPES = {"mag": "magnetometers", "grad": "gradiometers", "eeg": "EEG"}
_UNITS = {"mag": "T²/Hz", "grad": "(T/m)²/Hz", "eeg": "V²/Hz"}
_MOST_RUNS = 24
_RUNS_PER_SHEET = 12
_MOST_NAMES = 14
_MOST_FREQUENCIES = 400


def of_sensors(quality: pd.DataFrame) -> pd.Series:
    """Return which rows of the table `quality` are runs of MEG or EEG."""
    named = quality["run_id"].map(text).astype(str).str.endswith(("_meg", "_eeg")) if "run_id" in quality else False
    return pd.Series(named, index=quality.index, dtype=bool) | np.isfinite(numbers(quality, "sfreq"))


def without_sensors(quality: pd.DataFrame) -> pd.DataFrame:
    """Return the table of the other runs, without columns that only sensors have."""
    kept = quality[~of_sensors(quality)] if len(quality) else quality
    return kept.drop(columns=[name for name in _OF_SENSORS if name in kept])


def sensor_blocks(quality: pd.DataFrame, series: Arrays | None) -> list[Block | None]:
    """Return the blocks on runs of sensors; none where there are no such runs."""
    runs = quality[of_sensors(quality)] if len(quality) else quality
    if not len(runs):
        return []
    runs = runs.drop(columns=[name for name in _OF_FMRI if name in runs])
    return [_table(runs, series), _dots(runs), _power(series), _spectra(runs, series), _artefacts(series)]


def _table(runs: pd.DataFrame, series: Arrays | None) -> Table:
    bare = tuple(name for name in runs if runs[name].isna().all())
    definitions = series.attributes.get("definitions", {}) if series is not None else {}
    told = [f"{_LABELS[name]}: {text(definitions[name])}" for name in ("bad_share", "head_mm") if name in definitions]
    caption = (
        "Components: artefacts of eyes and heart that were removed. Triggers are compared with the events of the "
        "table: missing, without an event, doubled, and how late and how unevenly they come. "
    )
    caption += "; ".join(told) + "." if told else ""
    first = ["run_id", "subject", "session", "task", "run", "kind", "sfreq", "duration_s", "n_features", "n_bad"]
    order = [name for name in first if name in runs] + [name for name in runs if name not in first]
    return Table(
        "sensor-quality", "Runs of sensors", caption, Data.of(runs[order]), _LABELS, filters=("subject", "task"),
        first=15, hide=(*bare, "session", "run", "kind"),
    )  # fmt: skip


def _dots(runs: pd.DataFrame) -> Figure | None:
    drawings = []
    found = {name: label for name, label in _MEASURES.items() if np.isfinite(numbers(runs, name)).any()}
    for name, label in found.items():
        rows = []
        for who, group in runs.groupby("subject", sort=True):
            values = zip(group["run_id"], numbers(group, name), strict=True)
            dots = [Dot(v, kind="subject", tip=f"{text(run)}: {show(v)}") for run, v in values if math.isfinite(v)]
            rows.append(DotRow(f"subject {text(who)}", False, {"runs": dots}))
        drawings.append((label, dot_grid(label, ["runs"], rows, label, (0.0,))))
    if not drawings:
        return None
    data = Data.of(runs[["run_id", "subject", *found]])
    return Figure("sensor-dots", "Channels, trials and movement per subject", "One dot per run.", drawings, data)


def _named(series: Arrays | None, prefix: str) -> dict[str, Floats]:
    arrays = series.arrays if series is not None else {}
    return {
        name.removeprefix(prefix): array.values.astype(float)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _power(series: Arrays | None) -> Figure | None:
    """Return the size of the signal over time, one picture per run."""
    pictures = {run: values for run, values in sorted(_named(series, "power/").items()) if values.size}
    runs = list(pictures)
    if not runs:
        return None
    sheets = [runs[i : i + _RUNS_PER_SHEET] for i in range(0, len(runs), _RUNS_PER_SHEET)]
    drawings = [
        (sheet[0] if len(sheet) == 1 else f"{sheet[0]} to {sheet[-1]}", _power_sheet({r: pictures[r] for r in sheet}))
        for sheet in sheets
    ]
    caption = (
        "Root mean square of neighbouring sensors (rows) in stretches of time (to the right), relative to the median "
        "of the row: black a tenth, white ten times. Jumps and bad stretches are upright lines, bad sensors are rows. "
        "The numbers are in preprocessed/quality.h5."
    )
    shapes = [(run, *values.shape, float(values.max())) for run, values in pictures.items()]
    data = Data(("run_id", "rows", "stretches", "largest_log10"), shapes)
    return Figure("sensor-power", "Power over time", caption, drawings, data)


def _power_sheet(pictures: Mapping[str, Floats]) -> Markup:
    across, wide, tall = min(len(pictures), 3), 300.0, 96.0
    drawing = Svg(across * (wide + 26) - 26, math.ceil(len(pictures) / across) * (tall + 34), "Power over time")
    for i, (run, values) in enumerate(pictures.items()):
        x, y = (i % across) * (wide + 26), (i // across) * (tall + 34) + 18
        drawing.text(x, y - 5, shorten(run, 46), "t small")
        drawing.image(x, y, wide, tall, indexed_uri(values, -1, 1, "gray"))
        drawing.rect(x, y, wide, tall, "frame")
    return drawing.markup()


def _spectra(runs: pd.DataFrame, series: Arrays | None) -> Figure | None:
    """Return the spectrum of each type of sensors, one line per run in the colour of its subject."""
    if series is None:
        return None
    lines: dict[str, list[Series]] = {}
    rows: list[tuple[Value, ...]] = []
    subjects = list(dict.fromkeys(runs["subject"].map(text)))
    for run, who in zip(runs["run_id"].map(text), runs["subject"].map(text), strict=True):
        if f"spectrum/{run}" not in series.arrays:
            continue
        place = subjects.index(who)
        for kind, frequencies, levels in _run_spectra(series, run):
            label = f"subject {who}" if len(subjects) <= _MOST_NAMES else ""
            line = Series(label, frequencies.tolist(), levels.tolist(), place, place // 8)
            lines.setdefault(kind, []).append(line)
            rows += [(run, kind, float(f), float(level)) for f, level in zip(frequencies, levels, strict=True)]
    if not lines:
        return None
    drawings = []
    for kind, chosen in lines.items():
        label, unit = _TYPES.get(kind, kind), _UNITS.get(kind, "power")
        drawings.append((label, line_chart(f"Spectra: {label}", chosen, ("frequency (Hz)", f"log10 power ({unit})"))))
    caption = (
        "Mean power spectral density of the sensors of one type after all steps, one line per run. Peaks that stay at "
        "multiples of the line's frequency are line noise; the band that was kept ends where the lines fall."
    )
    data = Data(("run_id", "type", "frequency_hz", "log10_power"), rows)
    return Figure("sensor-spectra", "Spectra", caption, drawings, data)


def _run_spectra(series: Arrays, run: str) -> list[tuple[str, Floats, Floats]]:
    frequencies = series[f"frequencies/{run}"].astype(float)
    kinds = [text(kind) for kind in series[f"spectrum_types/{run}"]]
    step = max(1, math.ceil(len(frequencies) / _MOST_FREQUENCIES))
    found = []
    for kind, power in zip(kinds, series[f"spectrum/{run}"].astype(float), strict=True):
        # The mean of a filtered signal at zero says nothing, and it would set the scale.
        kept = (frequencies > 0) & (power > 0)
        found.append((kind, frequencies[kept][::step], np.log10(power[kept])[::step]))
    return found


def _artefacts(series: Arrays | None) -> Figure | None:
    """Return the sensor maps of the artefacts that were removed, one variant per run."""
    drawings: list[tuple[str, Markup]] = []
    rows: list[tuple[Value, ...]] = []
    for run, maps in sorted(_named(series, "artefacts/").items())[:_MOST_RUNS]:
        if series is None or f"positions/{run}" not in series.arrays or not maps.size:
            continue
        positions = series[f"positions/{run}"].astype(float)
        drawings.append((run, _artefact_drawing(run, maps, positions)))
        rows += [
            (run, component, sensor, float(value))
            for component, values in enumerate(maps)
            for sensor, value in enumerate(values)
        ]
    if not drawings:
        return None
    caption = (
        "Sensor map of each component of eyes or heart that was taken out, in units of its largest value among the "
        "sensors of a map; the head from above with the nose up. Eyes lie at the front, the heart is wide and smooth."
    )
    data = Data(("run_id", "component", "sensor", "value"), rows)
    return Figure("artefacts", "Artefacts that were removed", caption, drawings, data)


def _artefact_drawing(run: str, maps: Floats, positions: Floats) -> Markup:
    rows: list[tuple[str, Sequence[Head]]] = []
    sets = sensor_sets(positions)
    for words, index in sets:
        points = flat(positions[index])
        row = []
        for component, values in enumerate(maps):
            largest = float(np.nanmax(np.abs(values[index]), initial=0.0))
            row.append(Head(f"component {component + 1}", points, values[index] / (largest or 1.0)))
        rows.append((words if len(sets) > 1 else "", row))
    label = f"{count(len(maps), 'component')} removed from {run}"
    return heads(label, rows, (-1.0, 1.0, "diverging", "share of the largest value"), 110.0)
