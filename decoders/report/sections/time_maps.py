"""Pictures of what happens over time: RDMs, generalisation from one moment to another, searchlight over sensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, Notice, Value
from decoders.report.heat import Floats, rdm_wall
from decoders.report.read import Results
from decoders.report.timemaps import Mask, plane, reach_of
from decoders.report.topography import Head, even_times, flat, heads, milliseconds, sensor_sets
from decoders.report.words import comparator_words, count, listed, model_words, text
from decoders.store.arrays import Arrays

_MOST_HOVERED = 200
_MOST_PAIRS = 20_000
_MOST_CELLS = 40_000
_MOST_MAPS = 12  # moments of one sensor map, and models of the searchlight


def rdm_strip(results: Results) -> Figure | None:
    """Return RDMs at evenly spaced moments, mean over subjects."""
    file = results.first("time_rdms")
    if file is None or "rdms" not in file.arrays or not file["rdms"].size:
        return None
    rdms, times = file["rdms"].astype(float), file["times"].astype(float)
    stimuli = [text(name) for name in file["stimuli"]]
    chosen = even_times(times, _MOST_MAPS)
    walls = [(milliseconds(times[i]), _mean(rdms[:, i])) for i in chosen]
    drawing, boxes = rdm_wall("RDMs of the sensors over time, in one order and on one scale", walls, 112.0)
    hover = {"labels": stimuli, "boxes": boxes} if len(stimuli) <= _MOST_HOVERED else None
    method = text(file.attributes.get("method"))
    caption = (
        f"{len(stimuli)} stimuli in the order of all matrices of this page; {method + ', ' if method else ''}mean over "
        f"{rdms.shape[0]} subjects. Moments are evenly spaced, whatever they show. Colour: rank within the matrix."
    )
    # The pointer reads the same rows as the download, in the order of the pairs.
    return Figure("time-rdms", "RDMs over time", caption, [("", drawing)], _pairs(stimuli, walls), hover)


def _mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _pairs(stimuli: Sequence[str], walls: Sequence[tuple[str, Floats]]) -> Data:
    rows, columns = (axis.tolist() for axis in np.triu_indices(len(stimuli), 1))
    if len(rows) > _MOST_PAIRS:
        quartiles = [np.nanpercentile(values, [0, 25, 50, 75, 100]).tolist() for _, values in walls]
        cells = [(name, *row) for (name, _), row in zip(walls, quartiles, strict=True)]
        return Data(("time", "lowest", "quartile_1", "median", "quartile_3", "highest"), cells)
    names = ("stimulus_a", "stimulus_b", *(name for name, _ in walls))
    labels = [[stimuli[i] for i in rows], [stimuli[j] for j in columns]]
    return Data(names, list(zip(*labels, *(values.tolist() for _, values in walls), strict=True)))


_KINDS = {
    "": ("RDMs", "the RDM of each subject at one moment with those of the others at another"),
    "patterns/": ("patterns", "distances of patterns between two moments of the same subject, across folds"),
}


def generalisation_figure(results: Results) -> Figure | None:
    """Return likeness of the geometry between every two moments, significant clusters outlined."""
    file = results.first("time_generalisation")
    if file is None:
        return None
    alpha = float(results.settings.alignment.alpha)
    drawings: list[tuple[str, Markup]] = []
    rows: list[tuple[Value, ...]] = []
    told = []
    for prefix, (kind, words) in _KINDS.items():
        if f"{prefix}scores" in file.arrays and file[f"{prefix}scores"].size:
            mean, marked, p = _generalisation(file, prefix, alpha)
            axes = ("training time (ms)", "testing time (ms)")
            unit = comparator_words(file.arrays[f"{prefix}scores"].unit)
            drawings.append((kind, plane(f"Time generalisation of {kind}", mean, _times(file), marked, axes, unit)))
            rows += _plane_rows(kind, mean, p, _times(file))
            told.append(f"{kind}: {words}")
    if not drawings:
        return None
    caption = (
        f"What holds at one moment (upwards) tested at another (to the right), mean over subjects; {'; '.join(told)}. "
        "A square: one lasting representation; a diagonal alone: one that changes all the time. Outlined: significant "
        f"clusters at {alpha:g}, corrected over both times, where there are enough subjects for a test."
    )
    columns = ("what", "train_time", "test_time", "score", "p_corrected")
    return Figure("generalisation", "Time generalisation", caption, drawings, Data(columns, rows))


def _times(file: Arrays) -> Floats:
    values: Floats = file["times"].astype(float)
    return values


def _generalisation(file: Arrays, prefix: str, alpha: float) -> tuple[Floats, Mask, Floats]:
    """Return mean, what is significant, and p of each point."""
    scores = file[f"{prefix}scores"].astype(float)
    mean = _mean(scores) if scores.ndim == 3 else scores
    p = file[f"{prefix}p_corrected"].astype(float) if f"{prefix}p_corrected" in file.arrays else mean * np.nan
    if f"{prefix}clusters" not in file.arrays:
        return mean, np.isfinite(p) & (p <= alpha), p
    labels, cluster_p = file[f"{prefix}clusters"].astype(int), file[f"{prefix}cluster_p"].astype(float)
    return mean, np.isin(labels, 1 + np.flatnonzero(cluster_p <= alpha)), p


def _plane_rows(kind: str, values: Floats, p: Floats, times: Floats) -> list[tuple[Value, ...]]:
    step = max(1, int(np.ceil(np.sqrt(values.size / _MOST_CELLS))))
    kept = range(0, len(times), step)
    return [(kind, float(times[i]), float(times[j]), float(values[i, j]), float(p[i, j])) for i in kept for j in kept]


def sensor_notice(results: Results) -> Notice | None:
    """Return who and what the searchlight over sensors left out, and why there is no test of the group."""
    file = results.first("sensor_searchlight")
    if file is None:
        return None
    items = [f"subject {text(who)}: {text(why)}" for who, why in file.attributes.get("excluded", {}).items()]
    if lost := [text(name) for name in file.attributes.get("not_shared", [])]:
        items.append(f"{count(len(lost), 'sensor')} that not all subjects have: {listed(lost)}")
    if note := text(file.attributes.get("no_group")):
        items.append(note)
    return Notice("What the searchlight over sensors left out", items) if items else None


def sensor_figure(results: Results) -> Figure | None:
    """Return the searchlight over sensors as maps of the head at evenly spaced moments, one variant per model."""
    file = results.first("sensor_searchlight")
    if file is None or "scores" not in file.arrays or not file["scores"].size:
        return None
    scores, positions = file["scores"].astype(float), file["positions"].astype(float)
    p = file["p_corrected"].astype(float) if "p_corrected" in file.arrays else np.full(scores.shape, np.nan)
    times = file["times"].astype(float) if "times" in file.arrays else np.zeros(1)
    scores, p = (values[..., None] if values.ndim == 2 else values for values in (scores, p))
    marked = np.isfinite(p) & (p <= float(results.settings.alignment.alpha))
    chosen = even_times(times, _MOST_MAPS)
    models = [text(name) for name in file["models"]][:_MOST_MAPS]
    sets = sensor_sets(positions, _types(file))
    scale = (*reach_of(scores[: len(models), :, chosen]), "diverging", _measure(results))
    drawings = []
    for m, name in enumerate(models):
        rows = []
        for words, index in sets:
            points = flat(positions[index])
            maps = [Head(milliseconds(times[t]), points, scores[m, index, t], marked[m, index, t]) for t in chosen]
            rows.append((words if len(sets) > 1 else "", maps))
        drawings.append((model_words(name), heads(f"Searchlight over sensors: {model_words(name)}", rows, scale)))
    left = len(file["models"]) - len(models)
    caption = (
        "RSA in the neighbourhood of every sensor, group mean, the head from above with the nose up. Large pink dots: "
        "sensors that are significant, corrected over the sensors and moments of a map; models are families of their "
        "own. Moments are evenly spaced, whatever they show; colours lie linearly between sensors."
    )
    caption += f" {left} further models are in alignment/sensor_searchlight.h5." if left else ""
    data = _sensor_data(models, [text(name) for name in file["channels"]], times, chosen, scores, p)
    return Figure("sensor-searchlight", "Searchlight over sensors", caption, drawings, data)


def _types(file: Arrays) -> list[str]:
    return [text(kind) for kind in file["channel_types"]] if "channel_types" in file.arrays else []


def _measure(results: Results) -> str:
    return comparator_words(str(results.settings.alignment.comparators[0]))


def _sensor_data(
    models: Sequence[str], channels: Sequence[str], times: Floats, chosen: np.ndarray, scores: Floats, p: Floats
) -> Data:
    rows = [
        (name, channel, float(times[t]), float(scores[m, c, t]), float(p[m, c, t]))
        for m, name in enumerate(models)
        for c, channel in enumerate(channels)
        for t in chosen
    ]
    return Data(("model", "channel", "time", "score", "p_corrected"), rows)
