"""Stage `searchlight-maps`: the chunks of all subjects as maps, the group's test, and the table of peaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.regions import region_mask
from decoders.alignment.searchlight_group import (
    GroupMap,
    Masks,
    group_map,
    no_test,
    place_of,
    region_of,
    surviving,
)
from decoders.alignment.stage_rdms import mask_path
from decoders.alignment.stage_searchlight_models import SearchlightModels, read_models
from decoders.data.manifest import read_manifest
from decoders.errors import InputError
from decoders.signal.preflight import Grid, same_grid
from decoders.stage import Job
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.images import write_map
from decoders.store.tables import COLUMNS, write_table


@dataclass(frozen=True)
class SubjectMaps:
    """Scores of one subject in the voxels of its mask.

    Attributes
    ----------
    subject : str
    mask : array of shape (x, y, z), bool
    affine : array of shape (4, 4)
    maps : dict of str to array of shape (n_voxels,)
        Per model; not a number where there is no score.
    counts : dict of str to int
    regions : mapping of str to array of shape (x, y, z), bool
    """

    subject: str
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    maps: dict[str, NDArray[np.float64]]
    counts: dict[str, int]
    regions: Masks


def join_chunks(
    paths: Sequence[Path], models: SearchlightModels, shown: Sequence[str]
) -> tuple[list[SubjectMaps], dict[str, str]]:
    """Return the maps of every subject, seeds averaged, and the reasons of those that have none.

    Raises
    ------
    InputError
        A chunk that does not fit the others of its subject.
    """
    chunks: dict[str, list[Any]] = {}
    for path in paths:
        file = read_arrays(path)
        chunks.setdefault(str(file.attributes["subject"]), []).append((path, file))
    subjects, excluded = [], {}
    for subject, files in sorted(chunks.items()):
        reasons = [file.attributes["excluded"] for _, file in files if file.attributes["excluded"]]
        if reasons:
            excluded[subject] = reasons[0]
        else:
            subjects.append(_joined(subject, files, models, shown))
    return subjects, excluded


def _joined(subject: str, files: Sequence[Any], models: SearchlightModels, shown: Sequence[str]) -> SubjectMaps:
    first = files[0][1]
    mask = first["mask"].astype(bool)
    scores = np.full((int(mask.sum()), len(models.vectors)), np.nan)
    seen = 0
    for path, file in files:
        if not np.array_equal(file["mask"], first["mask"]) or file["scores"].shape[1] != len(models.vectors):
            remedy = "Delete the folder alignment/searchlight and run again."
            raise InputError("chunks of one mask and of the models as they are now", "others", path, remedy)
        scores[file["centres"]] = file["scores"]
        seen += len(file["centres"])
    counts = {name: int(first.attributes[name]) for name in ("n_centres", "n_left_out", "sphere_voxels")}
    if seen != counts["n_centres"]:
        remedy = "Delete the folder alignment/searchlight and run again."
        raise InputError(f"{counts['n_centres']} centres of subject {subject}", f"{seen}", files[0][0], remedy)
    counts["n_undefined"] = sum(int(file.attributes["n_undefined"]) for _, file in files)
    maps = {name: scores[:, models.groups[name]].mean(axis=1) for name in shown}
    return SubjectMaps(subject, mask, first["affine"], maps, counts, {})


def slug(name: str) -> str:
    """Return a model's name as file names hold it: ``control:pixel`` becomes ``controlPixel``."""
    first, *others = re.findall(r"[A-Za-z0-9]+", name)
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def common_voxels(subjects: Sequence[SubjectMaps]) -> NDArray[np.bool_] | None:
    """Return the voxels with a score in every subject, array of shape (x, y, z); None where grids differ."""
    grids = [Grid(item.mask.shape, item.affine, item.subject) for item in subjects]
    if not all(same_grid(grids[0], grid) for grid in grids[1:]):
        return None
    return np.logical_and.reduce([_finite(item) for item in subjects])


def _finite(item: SubjectMaps) -> NDArray[np.bool_]:
    volume = np.zeros(item.mask.shape, dtype=bool)
    volume[item.mask] = np.logical_and.reduce([np.isfinite(values) for values in item.maps.values()])
    return volume


def subject_rows(item: SubjectMaps, comparator: str, n_stimuli: int) -> list[dict[str, Any]]:
    """Return the peak of each map of one subject."""
    counts = item.counts
    method = (
        f"{comparator}; {counts['n_centres']} centres, spheres of up to {counts['sphere_voxels']} voxels; "
        f"{counts['n_left_out']} voxels left out, {counts['n_undefined']} centres without a score; "
        "no test of one subject"
    )
    rows = []
    for name, values in item.maps.items():
        if np.isfinite(values).any():
            peak = int(np.nanargmax(values))
            rows.append(
                _row("subject", item.subject, name, peak, item.mask, item.affine, [item.regions])
                | {"peak": values[peak], "n_voxels": int(np.isfinite(values).sum()), "n_subjects": 1}
                | {"n_stimuli": n_stimuli, "method": method}
            )
    return rows


def _row(
    level: str, subject: str, name: str, voxel: int, mask: NDArray[np.bool_], affine: NDArray[np.float64],
    regions: list[Masks],
) -> dict[str, Any]:  # fmt: skip
    row = dict.fromkeys(COLUMNS["searchlight"])
    place = dict(zip(("x_mm", "y_mm", "z_mm"), place_of(voxel, mask, affine), strict=True))
    labels = {"level": level, "subject": subject, "analysis": "searchlight", "model": name}
    return {**row, **labels, **place, "region": region_of(voxel, mask, regions) or None}


def group_rows(
    name: str, found: GroupMap, mask: NDArray[np.bool_], subjects: Sequence[SubjectMaps], alpha: float,
    common: Mapping[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row per surviving region; where none survives, the row of the peak, with none above."""
    regions = surviving(found, mask, alpha) or [np.array([int(np.argmax(found.statistic))])]
    rows = []
    for voxels in regions:
        peak = int(voxels[0])
        above = len(voxels) if found.p[peak] <= alpha else 0
        rows.append(
            _row("group", "group", name, peak, mask, subjects[0].affine, [item.regions for item in subjects])
            | {"peak": found.mean[peak], "statistic": found.statistic[peak], "p_corrected": found.p[peak]}
            | {"n_voxels": int(mask.sum()), "n_above": above, "n_subjects": len(subjects), **common}
        )
    return rows


def _defined(job: Job, subjects: Sequence[SubjectMaps], shown: Sequence[str]) -> list[str]:
    """Leave out, by name, models without a single score (a constant RDM)."""
    empty = [name for name in shown if not any(np.isfinite(item.maps[name]).any() for item in subjects)]
    for name in empty:
        job.log.warning("searchlight: %s is left out, it has no score anywhere (one dissimilarity throughout)", name)
        for item in subjects:
            del item.maps[name]
    return [name for name in shown if name not in empty]


def _with_regions(item: SubjectMaps, settings: Any, roots: Mapping[str, Path]) -> SubjectMaps:
    root = roots.get(item.subject, Path())
    masks = {
        region: region_mask(mask_path(root, mask, item.subject, region), item.mask.shape, item.affine)
        for region, mask in settings.regions.items()
    }
    return SubjectMaps(item.subject, item.mask, item.affine, item.maps, item.counts, masks)


def _correction(block: Any, comparator: str) -> str:
    what = "largest t" if block.statistic == "max" else "largest threshold-free cluster enhancement"
    return (
        f"{comparator}; mean over subjects above zero, one-sided, {block.n_permutations} sign flips, "
        f"{what} over the voxels of the map (each model is a family of its own)"
    )


def _subject_files(folder: Path, item: SubjectMaps, comparator: str) -> dict[str, Array]:
    arrays = {
        f"{item.subject}/mask": Array(item.mask.astype(np.uint8), ("x", "y", "z")),
        f"{item.subject}/affine": Array(item.affine, ("row", "column"), "mm"),
    }
    for name, values in item.maps.items():
        arrays[f"{item.subject}/{slug(name)}"] = Array(values, ("voxel",), comparator)
        # Zero is outside of the map for every viewer, as it is outside of the mask.
        path = folder / f"sub-{item.subject}_map-{slug(name)}_statmap.nii.gz"
        write_map(path, np.nan_to_num(values), item.mask, item.affine, comparator)
    return arrays


def _group_files(
    folder: Path, name: str, found: GroupMap, mask: NDArray[np.bool_], affine: NDArray[np.float64], unit: str
) -> dict[str, Array]:
    stats = {"mean": (found.mean, "mean score"), "statistic": (found.statistic, unit), "p": (found.p, "1")}
    shown = {**stats, "p": (-np.log10(found.p), "-log10 of corrected p")}
    for stat, (values, what) in shown.items():
        written = {"statistic": unit, "p": "logp"}.get(stat, stat)
        write_map(folder / f"group_map-{slug(name)}_stat-{written}_statmap.nii.gz", values, mask, affine, what)
    return {f"group/{slug(name)}/{stat}": Array(values, ("voxel",), what) for stat, (values, what) in stats.items()}


def run(job: Job) -> None:
    """Write the maps (a folder of NIfTI files, and the same as arrays) and the table of peaks."""
    settings = job.settings.alignment
    models = read_models(job.input("models"))
    shown = models.chosen(settings.searchlight.models)
    subjects, excluded = join_chunks(job.inputs.get("scores", []), models, shown)
    if not subjects:
        reasons = "; ".join(f"{who}: {why}" for who, why in list(excluded.items())[:3])
        remedy = "Check the events and the preprocessing of the runs."
        raise InputError("one subject or more with a searchlight", f"none ({reasons})", "the recordings", remedy)
    shown = _defined(job, subjects, shown)
    roots = {row.subject: Path(row.root) for row in read_manifest(job.input("manifest"))}
    subjects = [_with_regions(item, settings, roots) for item in subjects]
    folder, comparator = job.outputs["maps"], settings.comparators[0]
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {}
    rows: list[dict[str, Any]] = []
    for item in subjects:
        arrays |= _subject_files(folder, item, comparator)
        rows += subject_rows(item, comparator, len(models.stimuli))
    tested, note = _group(job, subjects, shown)
    cuts = {}
    for name, (found, mask) in tested.items():
        common = {"n_stimuli": len(models.stimuli), "method": _correction(settings.searchlight, comparator)}
        rows += group_rows(name, found, mask, subjects, settings.alpha, common)
        unit = "t" if settings.searchlight.statistic == "max" else "tfce"
        arrays |= _group_files(folder, name, found, mask, subjects[0].affine, unit)
        arrays["group/mask"] = Array(mask.astype(np.uint8), ("x", "y", "z"))
        arrays["group/affine"] = Array(subjects[0].affine, ("row", "column"), "mm")
        cuts[slug(name)] = found.cut(settings.alpha)
    job.log.info("%d subjects, %d models; %s", len(subjects), len(shown), note or f"{len(tested)} group maps")
    columns = [*COLUMNS["searchlight"], "statistic"]
    write_table(job.outputs["table"], pd.DataFrame(rows, columns=columns), "searchlight")
    attributes = {
        "models": {slug(name): name for name in shown},
        "subjects": [item.subject for item in subjects],
        "excluded": excluded,
        "comparator": comparator,
        "cuts": cuts,
        "no_group": note,
        "counts": {item.subject: item.counts for item in subjects},
    }
    write_arrays(job.outputs["arrays"], arrays, attributes)


def _group(
    job: Job, subjects: Sequence[SubjectMaps], shown: Sequence[str]
) -> tuple[dict[str, tuple[GroupMap, NDArray[np.bool_]]], str]:
    """Return the tested maps with their voxels, and why there are none."""
    settings, block = job.settings.alignment, job.settings.alignment.searchlight
    note = no_test(settings.comparators[0], settings.rdm, len(subjects))
    mask = None if note else common_voxels(subjects)
    if not note and (mask is None or not mask.any()):
        note = (
            "the subjects lie on different grids: no group map" if mask is None else "no voxel that all subjects share"
        )
    if note or mask is None:
        job.log.warning("searchlight: %s", note)
        return {}, note
    seed = int(job.rng("searchlight").integers(2**31))
    found = {}
    for name in shown:
        scores = np.array([item.maps[name][mask[item.mask]] for item in subjects])
        test = group_map(scores, mask, subjects[0].affine, block.statistic, block.n_permutations, seed)
        found[name] = (test, mask)
    return found, ""
