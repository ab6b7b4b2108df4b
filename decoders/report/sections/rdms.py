"""RDMs of recordings, controls and networks in one order, and the stimuli behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, Table
from decoders.report.heat import Floats, rdm_wall
from decoders.report.images import data_uri
from decoders.report.read import Results
from decoders.report.svg import escape
from decoders.report.words import parse_model, text
from decoders.stimuli.story_windows import words_within

_MOST_HOVERED = 200


def rdm_figure(results: Results) -> Figure | None:
    """Return the RDMs of recordings, controls and networks, or None where there are none."""
    rdms = _drawn(results)
    if not rdms:
        return None
    length = len(rdms[0][1])
    rdms = [(name, values) for name, values in rdms if len(values) == length]
    labels = _stimulus_names(results, length)
    drawing, boxes = rdm_wall("Dissimilarity matrices in one order and on one scale", rdms)
    hover = {"labels": labels, "boxes": boxes} if len(labels) <= _MOST_HOVERED else None
    return Figure(
        "rdms", "RDMs in one order and on one scale",
        f"{len(labels)} stimuli in the same order everywhere. Recorded: mean over subjects; networks: the last "
        "layer, mean over seeds. "
        "Colour: rank within the matrix, since units differ. Point at a cell to read its two stimuli.",
        [("", drawing)], _pair_data(labels, rdms), hover,
    )  # fmt: skip


def _drawn(results: Results) -> list[tuple[str, Floats]]:
    """Return the RDMs that the stage "align" wrote for the page, recorded ones first, then controls."""
    models = results.first("models")
    if models is None:
        return []
    found = {name: array.values.astype(float) for name, array in models.arrays.items() if array.axes == ("pair",)}
    order = {"recorded": 0, "control": 1}
    names = sorted(found, key=lambda name: order.get(name.split(":")[0], 2))
    return [(_model_label(name), found[name]) for name in names]


def _model_label(name: str) -> str:
    if name.startswith("recorded:"):
        return name.replace(":", ": ", 1)
    return parse_model(name).words


def _stimulus_names(results: Results, n_pairs: int) -> list[str]:
    count = round((1 + math.sqrt(1 + 8 * n_pairs)) / 2)
    recorded, models = results.first("rdms"), results.first("models")
    candidates: list[list[str]] = [
        list(models.attributes.get("stimuli", [])) if models is not None else [],
        [text(name) for name in recorded["stimuli"]] if recorded is not None and "stimuli" in recorded.arrays else [],
    ]
    for names in candidates:
        if len(names) == count:
            return [text(name) for name in names]
    return [f"stimulus {i + 1}" for i in range(count)]


def _pair_data(labels: Sequence[str], rdms: Sequence[tuple[str, Floats]]) -> Data:
    rows, columns = (axis.tolist() for axis in np.triu_indices(len(labels), 1))
    values = [[None if not math.isfinite(v) else float(f"{v:.4g}") for v in pairs] for _, pairs in rdms]
    names = ("stimulus_a", "stimulus_b", *(name for name, _ in rdms))
    cells = zip([labels[i] for i in rows], [labels[j] for j in columns], *values, strict=True)
    return Data(names, [tuple(row) for row in cells])


def windows_table(results: Results) -> Table | None:
    """Return the windows of the stories and what is said in them, where text is compared."""
    windows, words = results.table("windows"), results.table("words")
    if not len(windows) or not len(words):
        return None
    recorded = results.first("rdms")
    if recorded is not None:
        windows = windows[windows["name"].isin([text(name) for name in recorded["stimuli"]])]
    onsets = words["onset"].to_numpy(dtype=float)
    inside = words_within(windows, words["stimulus"].map(text).tolist(), onsets)
    written = words["word"].map(text).to_numpy(dtype=object)
    said = [" ".join(written[row]) for row in inside]
    caption = (
        f"The {len(windows)} windows, in the order of the matrices, with the words that begin in them. Windows of one "
        "story follow each other: what drifts slowly makes neighbours alike, as the control 'nearness in time' has it. "
        "Tests against chance take windows as independent; read them beside that control and the partial scores."
    )
    data = Data.of(windows.assign(words=said))
    labels = {"onset": "onset (s)", "duration": "duration (s)", "n_words": "words", "words": "text"}
    return Table("windows", "Windows", caption, data, labels, first=8)


def stimuli_table(results: Results) -> Table | None:
    """Return the names of the pictures, and the pictures where the study shows them."""
    labels = results.table("labels")
    if "stimulus" not in labels or not len(labels):
        return None
    data = Data.of(labels)
    cells = {}
    pictures = results.first("pictures") if results.settings.report.thumbnails else None
    if pictures is not None:
        by_name = {text(name): image for name, image in zip(pictures["names"], pictures["pictures"], strict=True)}
        for i, row in enumerate(data.rows):
            if text(row[0]) in by_name:
                cells[i, "stimulus"] = _thumbnail(by_name[text(row[0])], text(row[0]))
    note = "" if cells else " The pictures themselves are not shown: report.thumbnails is off."
    return Table(
        "stimuli",
        "Stimuli",
        f"Names and category models of the {len(labels)} pictures, in the order of the matrices.{note}",
        data,
        cells=cells,
        first=8,
    )


def _thumbnail(picture: np.ndarray, name: str) -> Markup:
    step = max(1, math.ceil(max(picture.shape[:2]) / 68))
    small = np.ascontiguousarray(picture[::step, ::step])
    small = small[..., 0] if small.ndim == 3 and small.shape[2] == 1 else small
    return Markup(f'<img class="thumb" src="{data_uri(small)}" alt="">{escape(name)}')
