"""Searchlight RSA: maps in slices and the table of their peaks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from decoders.report.blocks import Data, Figure, Notice, Table, Value, worded
from decoders.report.heat import mosaic
from decoders.report.read import Results
from decoders.report.volumes import Volume, canonical
from decoders.report.words import comparator_words, count, model_words, text
from decoders.store.arrays import Arrays

# More drawings than these are left to the NIfTI files.
_MOST_DRAWN = 40
_COLUMNS = ("subject", "model", "map", "voxels", "lowest", "median", "highest", "cut", "above_cut")
_UNITS = {"t": "t", "tfce": "TFCE"}


def searchlight_notice(results: Results) -> Notice | None:
    """Return who and what was left out, and why there is no group map."""
    file = results.first("searchlight_maps")
    if file is None:
        return None
    items = [f"subject {text(who)}: {text(why)}" for who, why in file.attributes.get("excluded", {}).items()]
    for who, counts in file.attributes.get("counts", {}).items():
        if counts.get("n_undefined"):
            noun = count(int(counts["n_undefined"]), "centre")
            items.append(f"subject {text(who)}: {noun} of {counts['n_centres']} without a score (constant patterns)")
    if note := text(file.attributes.get("no_group")):
        items.append(note)
    return Notice("What the searchlight left out", items) if items else None


def searchlight_maps(results: Results) -> Figure | None:
    """Return the group's maps, or each subject's where there are none."""
    file = results.first("searchlight_maps")
    if file is None:
        return None
    names = {text(key): text(name) for key, name in file.attributes.get("models", {}).items()}
    grouped = "group/mask" in file.arrays
    volumes = _group(file, names) if grouped else _subjects(file, names)
    drawings, rows = [], []
    for volume, cut in volumes[:_MOST_DRAWN]:
        label = f"{model_words(volume.name)}, {'group' if grouped else 'subject ' + volume.subject}"
        drawings.append((label, mosaic(label, volume, volume.description, None, cut)))
        rows.append(_row(volume, cut))
    if not drawings:
        return None
    left = len(volumes) - len(drawings)
    caption = (
        "Group test in every voxel. White outline: voxels that survive the correction for the maximum over the voxels "
        "of the map; a map without it has none. Models are families of their own."
        if grouped
        else f"{_unit(file)} of each model with the RDM around every voxel; single subjects are not tested."
    )
    caption += " Axial slices, left is left, front is up. The maps themselves are in alignment/searchlight_maps."
    caption += f" {count(left, 'further map')} only there." if left else ""
    return Figure("searchlight", "Searchlight maps", caption, drawings, Data(_COLUMNS, rows))


def _unit(file: Arrays) -> str:
    words = comparator_words(text(file.attributes.get("comparator")))
    return words[:1].upper() + words[1:]


def _group(file: Arrays, names: Mapping[str, str]) -> list[tuple[Volume, float | None]]:
    cuts = file.attributes.get("cuts", {})
    found: list[tuple[Volume, float | None]] = []
    for key, name in names.items():
        where = f"group/{key}/statistic"
        if where in file.arrays:
            unit = _UNITS.get(file.arrays[where].unit, file.arrays[where].unit)
            found.append((_volume(file, "group", where, name, unit), cuts.get(key)))
    return found


def _subjects(file: Arrays, names: Mapping[str, str]) -> list[tuple[Volume, float | None]]:
    subjects = [text(subject) for subject in file.attributes.get("subjects", [])]
    pairs = [(subject, key) for subject in subjects for key in names if f"{subject}/{key}" in file.arrays]
    return [(_volume(file, who, f"{who}/{key}", names[key], _unit(file)), None) for who, key in pairs]


def _volume(file: Arrays, who: str, where: str, name: str, unit: str) -> Volume:
    mask: NDArray[np.bool_] = file[f"{who}/mask"].astype(bool)
    values = np.full(mask.shape, np.nan)
    values[mask] = file[where]
    turned, affine = canonical(values, file[f"{who}/affine"].astype(float))
    return Volume(turned, affine, who, name, unit)


def _row(volume: Volume, cut: float | None) -> tuple[Value, ...]:
    values = volume.values[np.isfinite(volume.values)]
    low, middle, high = (float(f(values)) for f in (np.min, np.median, np.max)) if values.size else (np.nan,) * 3
    above = None if cut is None else int((values > cut).sum())
    return volume.subject, volume.name, volume.description, int(values.size), low, middle, high, cut, above


def peaks_table(results: Results) -> Table | None:
    """Return the peaks of the maps."""
    found = results.table("searchlight")
    if not len(found):
        return None
    labels = {f"{axis}_mm": f"{axis} (mm)" for axis in "xyz"}
    labels |= {"p_corrected": "corrected p", "n_voxels": "voxels", "n_above": "surviving voxels", "peak": "score there"}
    caption = (
        "Group: one row per connected region of surviving voxels, at the peak of its statistic; where none survives, "
        "the peak of the map, with 0 surviving voxels. Subjects: the highest score, without a test. Coordinates are "
        "in the space of the recordings."
    )
    data = Data.of(found)
    bare = [name for name in found if found[name].isna().all()]
    hide = (*bare, "analysis", "method", "n_stimuli")
    words = worded(data, {"model": model_words})
    return Table(
        "searchlight-peaks",
        "Peaks",
        caption,
        data,
        labels,
        filters=("level", "model"),
        first=12,
        hide=hide,
        words=words,
    )
