"""How all models, regions and MEG times lie to each other: distances between RDMs, and their map in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.comparators import compare, pool
from decoders.alignment.models import ModelRow, Models


def second_order_distances(vectors: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Return 1 - comparator between RDMs (n_rdms, n_pairs), array (n_rdms, n_rdms) with a zero diagonal."""
    distances = 1 - compare(vectors, vectors, comparator)
    distances = (distances + distances.T) / 2
    np.fill_diagonal(distances, 0)
    return np.asarray(distances)


def classical_mds(distances: NDArray[np.float64], n_dimensions: int = 2) -> tuple[NDArray[np.float64], float]:
    """Return coordinates of points whose distances come near the given ones (Torgerson 1952).

    Parameters
    ----------
    distances : array of shape (n, n)
    n_dimensions : int

    Returns
    -------
    points : array of shape (n, n_dimensions)
        Closed form, hence the same bits each time; each axis points to its largest coordinate.
    share : float
        Eigenvalues of these dimensions over the sum of the absolute values of all.
    """
    centre = np.eye(len(distances)) - 1 / len(distances)
    values, vectors = np.linalg.eigh(-0.5 * centre @ distances**2 @ centre)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = np.maximum(values[:n_dimensions], 0)
    points = vectors[:, :n_dimensions] * np.sqrt(kept)
    largest = np.abs(points).argmax(axis=0)
    points *= np.where(points[largest, np.arange(points.shape[1])] < 0, -1, 1)
    total = np.abs(values).sum()
    return points, float(kept.sum() / total) if total > 0 else float("nan")


def geometry_table(
    models: Models, recorded: Mapping[str, NDArray[np.float64]], comparator: str, times: Sequence[ModelRow] = ()
) -> pd.DataFrame:
    """Return one row per ordered pair of models (means over seeds), regions and MEG times (means over subjects).

    Parameters
    ----------
    models : Models
    recorded : mapping of region to array of shape (n_subjects, n_pairs)
    comparator : str
    times : sequence of ModelRow
        RDMs of MEG at single times.

    Returns
    -------
    DataFrame
        Columns of `geometry`: item and its kind (recorded, time, control, network, user), x and y of its point, other,
        distance (1 - comparator), share (of the points' configuration in the distances), comparator. RDMs that are
        constant have no distance and are left out.
    """
    items = {("recorded", f"recorded:{region}"): pool(rdms, comparator) for region, rdms in recorded.items()}
    items |= {("time", row.name): row.rdm for row in times if row.rdm is not None}
    for kind in ("control", "network", "user"):
        for model in models.joined(kind):
            items[kind, model.name] = pool(models.vectors[list(model.rows.values())], comparator)
    names, vectors = list(items), np.array(list(items.values()))
    varies = np.ptp(vectors, axis=1) > 0
    names, vectors = [name for name, flag in zip(names, varies, strict=True) if flag], vectors[varies]
    distances = second_order_distances(vectors, comparator)
    points, share = classical_mds(distances)
    n = len(names)
    return pd.DataFrame(
        {
            "item": np.repeat([name for _, name in names], n), "kind": np.repeat([kind for kind, _ in names], n),
            "x": np.repeat(points[:, 0], n), "y": np.repeat(points[:, 1], n), "other": [name for _, name in names] * n,
            "distance": distances.ravel(), "share": share, "comparator": comparator,
        }
    )  # fmt: skip
