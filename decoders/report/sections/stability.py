"""How far the voxel maps can be trusted: their clusters, the choice of beta, and halves of the runs."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Data, Figure, Notice, Table, worded
from decoders.report.lines import Series, line_chart
from decoders.report.read import Results
from decoders.report.words import count, text

_MAPS = {"gate": "selection map", "encoding": "encoding map", "combined": "combined map"}
_PAIRINGS = {
    "data": "as heard",
    "null": "null (mean): text of other runs, rolled in time",
    "null_maximum": "null (highest)",
}


def _rate(found: pd.DataFrame) -> str:
    """Return how often a map without any signal has a cluster: its maximum exceeds that of n nulls 1 time in n + 1."""
    n = int(found["n_nulls"].min())
    return (
        f"With {count(n, 'null map')} a map without any signal has a cluster in 1 of {n + 1} cases: 19 or more "
        "(decoding.voxels.n_null_gates) bound that by 5 %; fewer make this table a description."
    )


def cluster_table(results: Results) -> Table | Notice | None:
    """Return the clusters above the maximum of the null."""
    found = results.table("clusters")
    if not len(found):
        none = "No voxel of any map lies above the maximum of its null."
        return Notice("No clusters", [none]) if "clusters" in results.tables else None
    labels = {f"{axis}_mm": f"{axis} (mm)" for axis in "xyz"}
    labels |= {"volume_mm3": "volume (mm³)", "cut": "maximum of the null"}
    caption = (
        "Connected voxels above the maximum of the null. Coordinates of the peak, in the space of the recordings; "
        f"further peaks of a cluster, 8 mm apart, have letters. {_rate(found)}"
    )
    data = Data.of(found)
    bare = tuple(name for name in found if found[name].isna().all() or (found[name].map(text) == "").all())
    words = worded(data, {"map": lambda name: _MAPS.get(name, name)})
    filters = ("subject", "map") if found["subject"].nunique() > 1 else ("map",)
    return Table("clusters", "Clusters", caption, data, labels, filters=filters, first=15, hide=bare, words=words)


def halves_table(results: Results) -> Table | None:
    """Return how well gates of disjoint halves of the runs agree, beside a null."""
    found = results.table("halves")
    if not len(found):
        return None
    caption = (
        "Gates that were trained on two disjoint halves of the training runs: Spearman correlation of their maps, and "
        "overlap (Dice) of the voxels that each would select. Smoothing alone makes maps agree, so only the margin "
        "over the equally smooth null counts, and only beyond its highest value."
    )
    data = Data.of(found)
    labels = {"rho": "rho", "dice": "Dice", "n_runs": "runs per half", "n_pairings": "pairings"}
    words = worded(data, {"pairing": lambda name: _PAIRINGS.get(name, name)})
    return Table("halves", "Halves of the runs", caption, data, labels, words=words)


def rate_curve(results: Results) -> Figure | None:
    """Return the rate-distortion curve of the gate."""
    found = results.table("rate")
    if not len(found):
        return None
    drawings: list[tuple[str, Markup]] = []
    for subject, rows in found.groupby("subject", sort=False):
        label = f"subject {text(subject)}"
        rows = rows.sort_values("rate")
        curve = Series(
            "one beta each", rows["rate"].astype(float).tolist(), rows["distortion"].astype(float).tolist(), 0
        )
        axes = ("rate, nats per volume (upper bound)", "held-out loss, nats")
        drawings.append((label, line_chart(f"Rate and distortion, {label}", [curve], axes)))
    caption = (
        "What the gate lets through, and what that costs the prediction of held-out text, at every beta of the sweep. "
        "The download has the agreement of each map with the one shown above."
    )
    return Figure("rate", "Rate and distortion", caption, drawings, Data.of(found))
