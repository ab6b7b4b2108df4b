"""What the page is made of: the tables, arrays and maps of a study, as far as they exist."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from decoders.errors import IntegrityError
from decoders.report.exclusions import mark_excluded
from decoders.report.provenance import StageRun, collect
from decoders.report.volumes import Volume, read_volume
from decoders.store.arrays import Arrays, read_arrays
from decoders.store.tables import COLUMNS, read_table

# Labels that look like numbers stay text: a subject "01" must not become 1.
_LABELS = (
    "level",
    "subject",
    "session",
    "task",
    "run",
    "run_id",
    "split",
    "region",
    "stimulus",
    "reference",
    "decoded",
    "layer",
    "size",
    "rule",
    "architecture",
    "model",
    "name",
    "analysis",
    "contrast",
    "family",
    "map",
    "cluster",
    "pairing",
    "explained_by",
    "status",
    "excluded",
    "warnings",
    "reason",
    "check",
    "found",
    "needed",
    "passed",
    "detail",
    "design",
    "bound",
    "verdict",
    "measure",
    "modality",
    "channel",
)
_TABLES = (
    "manifest",
    "verdicts",
    "quality",
    "labels",
    "networks",
    "plausibility",
    "alignment_scores",
    "ceilings",
    "inference",
    "encoding",
    "encoding_scores",
    "geometry",
    "decoding_scores",
    "text",
    "recovery",
    "across",
    "clusters",
    "voxel_features",
    "rate",
    "halves",
    "leaks",
    "certificate",
    "searchlight",
    "time_scores",
    "time_ceilings",
    "time_inference",
    "time_clusters",
    "latencies",
    "fusion_table",
    "fusion_clusters",
    "fusion_latencies",
)
# Tables whose columns are those of another one.
_LIKE = {
    "time_scores": "alignment_scores",
    "time_ceilings": "ceilings",
    "time_inference": "inference",
    "fusion_table": "inference",
    "fusion_clusters": "time_clusters",
    "fusion_latencies": "latencies",
}
_ARRAYS = (
    "series",
    "controls",
    "rdms",
    "models",
    "names_arrays",
    "voxels_arrays",
    "encode_arrays",
    "pictures",
    "searchlight_maps",
    "time_rdms",
    "time_generalisation",
    "sensor_searchlight",
    "fusion_arrays",
    "meg_arrays",
)


@dataclass(frozen=True)
class Named:
    """Something read from a file, with the file it came from."""

    path: Path
    content: Any


@dataclass(frozen=True)
class Results:
    """All that exists of a study.

    Attributes
    ----------
    settings : SettingsSlice
        The blocks study, report, data, preprocess, decoding, learning, alignment, certificate, seed, threads.
    tables : dict of str to DataFrame
        By the name of the input; absent tables are absent keys. The manifest also marks what preprocessing excluded.
    arrays : dict of str to list of Named
        Content is `Arrays`.
    cards, curves : list of Named
        One per network: the card (a mapping) and the training curves (a DataFrame).
    maps : list of Volume
    runs : list of StageRun
        Provenance of every stage that these inputs rest on.
    """

    settings: Any
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    arrays: Mapping[str, list[Named]] = field(default_factory=dict)
    cards: Sequence[Named] = ()
    curves: Sequence[Named] = ()
    maps: Sequence[Volume] = ()
    runs: Sequence[StageRun] = ()

    def table(self, name: str) -> pd.DataFrame:
        """Return a table; an empty one (with its columns, where they are an interface) when it is absent."""
        empty = pd.DataFrame(columns=list(COLUMNS.get(_LIKE.get(name, name), ())))
        return self.tables.get(name, empty)

    def first(self, name: str) -> Arrays | None:
        """Return the arrays of the first file of that name, or None."""
        found = self.arrays.get(name, [])
        return found[0].content if found else None


def read_results(settings: Any, inputs: Mapping[str, Sequence[Path]]) -> Results:
    """Read and verify every input that is given.

    Parameters
    ----------
    settings : SettingsSlice
    inputs : mapping of str to sequence of Path
        As the stage "report" gets them; every name may be absent.

    Raises
    ------
    IntegrityError
        A file that was changed after it was written, or that cannot be read.
    """
    paths = {name: [Path(path) for path in found] for name, found in inputs.items()}
    tables = {name: _table(paths[name]) for name in _TABLES if paths.get(name)}
    if "manifest" in tables and "quality" in tables:
        tables["manifest"] = mark_excluded(tables["manifest"], tables["quality"])
    return Results(
        settings=settings,
        tables=tables,
        arrays={name: [Named(p, read_arrays(p)) for p in paths[name]] for name in _ARRAYS if paths.get(name)},
        cards=[Named(path, _card(path)) for path in paths.get("card", [])],
        curves=[Named(path, _read(path)) for path in paths.get("curves", [])],
        maps=[read_volume(path) for path in paths.get("maps", [])],
        runs=collect([path for found in paths.values() for path in found]),
    )


def _table(paths: Sequence[Path]) -> pd.DataFrame:
    return pd.concat([_read(path) for path in paths], ignore_index=True) if len(paths) > 1 else _read(paths[0])


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path, _LABELS)
    # A column without a single value says nothing about its type: keep it as text.
    empty = [column for column in table if table[column].isna().all()]
    return table.astype(dict.fromkeys(empty, object))


def _card(path: Path) -> dict[str, Any]:
    return read_mapping(path, "a network card", "Delete it and train again.")


def read_mapping(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises
    ------
    IntegrityError
        It is no JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{what} (JSON)", f"'{error}'", path, remedy) from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{what} (a mapping)", type(found).__name__, path, remedy)
    return found
