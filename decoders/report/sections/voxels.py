"""Which voxels respond: maps in slices, the null's maximum, and the recovery of a planted truth."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from decoders.report.blocks import Data, Figure, Section, Table, Value, Viewer, parts, worded
from decoders.report.heat import Floats, mosaic
from decoders.report.images import packed, table
from decoders.report.lines import Series, line_chart
from decoders.report.read import Named, Results
from decoders.report.sections.landing import matched_notice
from decoders.report.sections.stability import cluster_table, halves_table, rate_curve
from decoders.report.volumes import Volume, canonical
from decoders.report.words import text

NAMES = {"gate": "Selection map", "encoding": "Encoding map", "combined": "Combined map"}
UNITS = {"gate": "nats per voxel (upper bound)", "encoding": "encoding r", "combined": "mean z of the other maps"}
_MOST_VOXELS = 1_500_000


def section(results: Results) -> Section:
    """Return the section on voxels."""
    truths = planted(results)
    lead = (
        "The selection map bounds, voxel by voxel, how much of the recording the decoder lets through. It has no "
        "absolute meaning: "
        "what counts is what exceeds the largest value of the null."
        if results.maps or "voxel_features" in results.tables
        else "The gates of the character speller bound, voxel by voxel, how much of the recording it lets through. "
        "They have no absolute meaning: what counts is the margin over gates from shuffled labels."
    )
    volumes = [*results.maps, *names_gates(results)]
    order = parts(
        (
            "Maps",
            [
                matched_notice(results),
                _mosaics(volumes, cuts(results), truths),
                _viewer(volumes, truths),
                features_table(results),
                cluster_table(results),
                _gates(results),
            ],
        ),
        ("Stability of the maps", [halves_table(results), rate_curve(results)]),
        ("Recovery of the planted truth", [_recovery(results)]),
        ("Training of the gate", [_gate_curves(results)]),
    )
    return Section("voxels", "Voxels", lead, order)


def features_table(results: Results) -> Table | None:
    """Return the maps of regions or vertices, which have no place in an image."""
    found = results.table("voxel_features")
    if not len(found):
        return None
    labels = {name: f"{NAMES[name].lower()} ({UNITS[name]})" for name in NAMES}
    labels |= {f"null_maximum_{name}": f"null maximum, {NAMES[name].lower()}" for name in NAMES}
    caption = "The maps of the regions (or vertices). What counts is what exceeds the largest value of the null."
    bare = tuple(name for name in found if found[name].isna().all())
    return Table("voxel-features", "Maps of regions", caption, Data.of(found), labels, first=15, hide=bare)


def planted(results: Results) -> dict[str, NDArray[np.bool_]]:
    """Return the planted voxels per subject, where the data set is a phantom."""
    found: dict[str, NDArray[np.bool_]] = {}
    for item in results.arrays.get("voxels_arrays", []):
        arrays = item.content
        if {"planted", "mask", "affine"} <= set(arrays.arrays):
            mask = arrays["mask"].astype(bool)
            volume = np.zeros(mask.shape)
            volume[mask] = arrays["planted"]
            found[_subject_of(item)] = canonical(volume, arrays["affine"].astype(float))[0] > 0
    return found


def _subject_of(item: Named) -> str:
    return text(item.content.attributes.get("subject")) or item.path.name.removeprefix("sub-").split("_")[0]


def unit_of(volume: Volume) -> str:
    """Return the unit of a map: what the file says, else what its name means."""
    return volume.description or UNITS.get(volume.name, "value")


def cuts(results: Results) -> dict[tuple[str, str], float]:
    """Return the null's maximum per subject and map."""
    found: dict[tuple[str, str], float] = {}
    for item in results.arrays.get("voxels_arrays", []):
        subject = _subject_of(item)
        maxima = item.content.attributes.get("null_maximum", {})
        for name, value in dict(maxima).items() if isinstance(maxima, Mapping) else ():
            if isinstance(value, int | float) and np.isfinite(value):
                found[subject, text(name)] = float(value)
    return found


def names_gates(results: Results) -> list[Volume]:
    """Return the gates of the character spellers as maps: mean over folds, per subject and seed."""
    found = []
    for item in results.arrays.get("names_arrays", []):
        arrays = item.content
        if "mask" not in arrays.arrays or "affine" not in arrays.arrays:
            continue
        mask = arrays["mask"].astype(bool)
        subject = text(arrays.attributes.get("subject"))
        for name in arrays.arrays:
            if name.endswith("/m_mean") and arrays[name].shape == (int(mask.sum()),):
                values = np.full(mask.shape, np.nan)
                values[mask] = arrays[name]
                seed = name.split("/")[0].removeprefix("gate_seed-")
                turned, affine = canonical(values, arrays["affine"].astype(float))
                found.append(Volume(turned, affine, subject, f"speller gate, seed {seed}", "gate (1 is open)"))
    return found


_GATE_COLUMNS = {
    "nats_mean": "nats passed",
    "nats_at_start": "at the start",
    "open_share": "share open",
    "halves_rho": "halves, rho",
    "halves_dice": "halves, Dice",
    "halves_shuffled_rho": "shuffled, rho",
    "halves_shuffled_dice": "shuffled, Dice",
    "head": "head",
}


def _gates(results: Results) -> Table | None:
    rows: list[tuple[str | float | int | None, ...]] = []
    for item in results.arrays.get("names_arrays", []):
        attributes = item.content.attributes
        for name in sorted(attributes):
            record = attributes[name]
            if name.startswith("gate_seed-") and isinstance(record, Mapping):
                rows.append(
                    (
                        text(attributes.get("subject")),
                        name.removeprefix("gate_seed-"),
                        *(record.get(key) for key in _GATE_COLUMNS),
                    )
                )
    if not rows:
        return None
    caption = (
        "What the voxel gates of the character speller let through (an upper bound in nats per volume), and how "
        "well gates from disjoint halves of the "
        "runs agree, beside the same with shuffled labels: smoothing alone makes halves agree, only the margin counts."
    )
    return Table(
        "gates",
        "Gates of the character speller",
        caption,
        Data(("subject", "seed", *_GATE_COLUMNS), rows),
        _GATE_COLUMNS,
        hide=("head",),
    )


def _mosaics(
    volumes: Sequence[Volume], limits: Mapping[tuple[str, str], float], truths: Mapping[str, NDArray[np.bool_]]
) -> Figure | None:
    if not volumes:
        return None
    drawings, rows = [], []
    for volume in volumes:
        truth, cut = _fitting(truths.get(volume.subject), volume), limits.get((volume.subject, volume.name))
        label = _label(volume)
        drawings.append((label, mosaic(label, volume, unit_of(volume), truth, cut)))
        rows.append(_row(volume, truth, cut))
    caption = "Axial slices, left is left, front is up."
    caption += (
        " White outline: voxels above the largest value of the null; a map without it has none." if limits else ""
    )
    caption += " Pink outline: planted voxels (the truth of the phantom)." if truths else ""
    columns = (
        "subject",
        "map",
        "unit",
        "voxels",
        "lowest",
        "median",
        "highest",
        "null_maximum",
        "above_null_maximum",
        "planted",
    )
    return Figure(
        "maps",
        "Maps of responding voxels",
        caption + " The maps themselves are the files decoding/*_statmap.nii.gz.",
        drawings,
        Data(columns, rows),
    )


def _label(volume: Volume) -> str:
    name = NAMES.get(volume.name, volume.name)
    return f"{name[:1].upper()}{name[1:]}, subject {volume.subject}"


def _fitting(truth: NDArray[np.bool_] | None, volume: Volume) -> NDArray[np.bool_] | None:
    return truth if truth is not None and truth.shape == volume.values.shape else None


def _row(volume: Volume, truth: NDArray[np.bool_] | None, cut: float | None) -> tuple[str | float | int | None, ...]:
    values = volume.values[np.isfinite(volume.values)]
    low, middle, high = (float(f(values)) for f in (np.min, np.median, np.max)) if values.size else (np.nan,) * 3
    above = None if cut is None else int((values > cut).sum())
    return (
        volume.subject,
        volume.name,
        unit_of(volume),
        int(values.size),
        low,
        middle,
        high,
        cut,
        above,
        None if truth is None else int(truth.sum()),
    )


def _viewer(volumes: Sequence[Volume], truths: Mapping[str, NDArray[np.bool_]]) -> Viewer | None:
    small = [volume for volume in volumes if volume.values.size <= _MOST_VOXELS]
    if not small:
        return None
    payload = {"colours": base64.b64encode(table("viridis").tobytes()).decode("ascii"), "maps": _maps(small, truths)}
    caption = "Click or drag in a slice, or use the sliders with the arrow keys, to move through the volume."
    return Viewer("slices", "Slices", caption, payload)


def _maps(volumes: Sequence[Volume], truths: Mapping[str, NDArray[np.bool_]]) -> list[dict[str, object]]:
    return [_payload(volume, _fitting(truths.get(volume.subject), volume)) for volume in volumes]


def _payload(volume: Volume, truth: NDArray[np.bool_] | None) -> dict[str, object]:
    inside = np.isfinite(volume.values)
    values: Floats = volume.values[inside]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    levels = np.zeros(volume.values.shape, "<u2")
    levels[inside] = 1 + np.round((values - low) / ((high - low) or 1.0) * 65534).astype("<u2")
    peak = np.unravel_index(int(np.nanargmax(volume.values)) if values.size else 0, volume.values.shape)
    return {
        "title": _label(volume),
        "unit": unit_of(volume),
        "shape": list(volume.values.shape),
        "affine": volume.affine.tolist(),
        "low": low,
        "high": high,
        "peak": [int(axis) for axis in peak],
        "levels": packed(levels.tobytes()),
        "truth": packed(truth.astype(np.uint8).tobytes()) if truth is not None else None,
    }


def _gate_curves(results: Results) -> Figure | None:
    names = ("held-out loss", "training loss", "KL per voxel")
    drawings: list[tuple[str, Markup]] = []
    rows: list[tuple[Value, ...]] = []
    for item in results.arrays.get("voxels_arrays", []):
        if "gate/curve" not in item.content.arrays or item.content["gate/curve"].shape[1] != len(names):
            continue
        curve, subject = item.content["gate/curve"].astype(float), _subject_of(item)
        epochs = [float(epoch + 1) for epoch in range(len(curve))]
        losses = [Series(names[i], epochs, curve[:, i].tolist(), i, i) for i in (0, 1)]
        nats = [Series(names[2], epochs, curve[:, 2].tolist(), 2)]
        label = f"subject {subject}"
        drawings.append((f"loss, {label}", line_chart(f"Loss of the gate, {label}", losses, ("epoch", "nats"))))
        drawings.append((f"KL, {label}", line_chart(f"KL of the gate, {label}", nats, ("epoch", "nats per voxel"))))
        rows += [(subject, epoch + 1, *(float(value) for value in values)) for epoch, values in enumerate(curve)]
    caption = (
        "The gate learns from runs that its read-out has not seen (held-out loss). The KL bounds the information that "
        "a voxel passes from above."
    )
    data = Data(("subject", "epoch", "held_out_loss", "training_loss", "kl"), rows)
    return Figure("gate-curves", "Training of the gate", caption, drawings, data) if drawings else None


_MAPS = {
    "gate": "selection map",
    "encoding": "encoding map",
    "combined": "combined map",
    "gate_prior": "selection map of the others",
    "gate_alone": "selection map, given runs alone",
    "gate_with_prior": "selection map, given runs and the others' prior",
    "null_gate": "null of the selection map",
    "null_encoding": "null of the encoding map",
    "null_combined": "null of the combined map",
}


def _recovery(results: Results) -> Table | None:
    recovery = results.table("recovery")
    if not len(recovery):
        return None
    wanted = ("subject", "map", "auc", "ap", "fdr", "tpr")
    kept = recovery[[name for name in wanted if name in recovery] + [n for n in recovery if n not in wanted]]
    # What is the same in every row stands in the caption.
    same = [name for name in _GIVEN if name in kept and kept[name].map(text).nunique() == 1]
    value = {name: _feature_words(text(kept[name].iloc[0])) for name in same}
    given = [f"{label} {value[name]}" for name, label in _GIVEN.items() if name in same]
    bare = [name for name in kept if kept[name].isna().all()]
    labels = {"auc": "AUC", "ap": "average precision", "fdr": "FDR above the null", "tpr": "TPR above the null"}
    caption = (
        "How well each map ranks the planted voxels (outlined in pink in the maps above) before all others. At chance "
        f"AUC is 0.5 and average precision the share of planted voxels{_planted_share(results)}. FDR and TPR: of the "
        "voxels above the largest value of the null, the share that is not planted; of the planted voxels, the share "
        "that lies above it. A dash: no voxel exceeds the null. Null rows: the same maps from targets rolled in time."
    )
    caption += f" All rows: {', '.join(given)}." if given else ""
    data = Data.of(kept)
    hide = (*bare, *same)
    words = worded(data, {"map": lambda name: _MAPS.get(name, name.replace("_", " ")), "features": _feature_words})
    return Table("recovery", "Recovery", caption, data, labels, hide=hide, words=words)


_GIVEN = {"features": "word features", "r0": "mean true correlation of planted voxels", "grid": "grid", "seed": "seed"}


def _feature_words(name: str) -> str:
    return {
        "phantom": "the phantom's own",
        "trigram": "letter trigrams",
        "cooccurrence": "co-occurrence in the corpus",
        "language_model": "states of the language model",
    }.get(name, name)


def _planted_share(results: Results) -> str:
    counts = []
    for item in results.arrays.get("voxels_arrays", []):
        if "planted" in item.content.arrays:
            truth = item.content["planted"].astype(bool)
            counts.append(f"{int(truth.sum())} of {truth.size}, {truth.mean():.3f}")
    return f" ({'; '.join(dict.fromkeys(counts))})" if counts else ""
