"""Stage `searchlight-models`: the RDMs of all models (and of MEG times) once, for the many jobs of the searchlight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.fusion.maps import read_time_rows
from decoders.alignment.models import ModelRow, Models
from decoders.alignment.recorded import read_recorded
from decoders.alignment.stage import gather_models
from decoders.errors import SettingsError
from decoders.stage import Job
from decoders.store.arrays import Array, read_arrays, write_arrays

_LABELS = ("kind", "rule", "architecture", "seed", "layer", "size")


@dataclass(frozen=True)
class SearchlightModels:
    """Model RDMs as the searchlight reads them.

    Attributes
    ----------
    vectors : array of shape (n_rows, n_pairs)
    stimuli : list of str
    groups : dict of str to list of int
        Rows per model, joined over seeds.
    shown : list of str
        Models that have maps unless the study names others: controls, own models, times of MEG, and per rule and
        architecture the last layer at the first size.
    """

    vectors: NDArray[np.float64]
    stimuli: list[str]
    groups: dict[str, list[int]]
    shown: list[str]

    def chosen(self, names: Sequence[str] | None) -> list[str]:
        """Return the models that have maps.

        Raises
        ------
        SettingsError
            A name that no model has.
        """
        unknown = [name for name in names or () if name not in self.groups]
        if unknown:
            known = ", ".join(self.groups)
            raise SettingsError(f"alignment.searchlight.models: '{unknown[0]}' is no model here; they are {known}.")
        return list(names) if names is not None else self.shown


def shown_models(rows: Sequence[ModelRow]) -> list[str]:
    """Return controls, own models, MEG times, and the last layer (not pooled) at the first size of all networks."""
    found: dict[tuple[str, ...], str] = {}
    sizes: dict[tuple[str, ...], str] = {}
    for row in rows:
        key: tuple[str, ...] = (row.kind, row.rule, row.architecture)
        if row.kind != "network":
            found[(*key, row.layer, row.size)] = row.name
        elif row.size == sizes.setdefault(key, row.size) and not row.layer.endswith("_pooled"):
            found[key] = row.name
    return list(dict.fromkeys(found.values()))


def read_models(path: Path) -> SearchlightModels:
    """Read what this stage wrote."""
    file = read_arrays(path)
    columns = [file[name].tolist() for name in _LABELS]
    rows = [ModelRow(k, r, None, a, s, y, z) for k, r, a, s, y, z in zip(*columns, strict=True)]
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.name, []).append(number)
    return SearchlightModels(file["vectors"], file["stimuli"].tolist(), groups, shown_models(rows))


def write_models(path: Path, models: Models, stimuli: Sequence[str]) -> None:
    """Write every usable RDM with its labels."""
    arrays = {"vectors": Array(models.vectors, ("model", "pair"))}
    for name in _LABELS:
        arrays[name] = Array(np.array([getattr(row, name) for row in models.usable], dtype=object), ("model",))
    arrays["stimuli"] = Array(np.array(list(stimuli), dtype=object), ("stimulus",))
    write_arrays(path, arrays, {})


def run(job: Job) -> None:
    """Write models.h5."""
    _, stimuli = read_recorded(str(job.input("rdms")))
    models = gather_models(job, stimuli)
    # Fusion in space: where in the brain RDMs are like those of MEG at a time.
    models = Models([*models.rows, *read_time_rows(job, stimuli)])
    write_models(job.outputs["models"], models, stimuli.names)
