"""Provenance of a page: the files that say how every artefact came to be, followed back to the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from decoders.errors import IntegrityError
from decoders.stage import provenance_path

_PER_FILE = ("sha256",)


@dataclass(frozen=True)
class StageRun:
    """One call of a stage: its record, and the files it wrote with their checksums."""

    record: dict[str, Any]
    outputs: dict[str, str]

    @property
    def stage(self) -> str:
        """Return the stage's name."""
        return str(self.record.get("stage", ""))

    @property
    def labels(self) -> str:
        """Return what the job was about, in words."""
        return ", ".join(f"{key} {value}" for key, value in sorted(dict(self.record.get("labels", {})).items()))


def collect(paths: Iterable[Path]) -> list[StageRun]:
    """Return every stage run that some files rest on, by following the inputs that each record names.

    Only what the page rests on is listed: what an older run left in the folder is not.

    Parameters
    ----------
    paths : iterable of Path
        Artefacts; each has a record ``<name>.prov.json`` beside it, or none (raw data).
    """
    runs: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
    seen: set[str] = set()
    waiting = [str(path) for path in paths]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        record = _record(Path(name))
        if record is None:
            continue
        digest = str(record.pop("sha256", "n/a"))
        key = json.dumps(record, sort_keys=True)
        runs.setdefault(key, (record, {}))[1][name] = digest
        waiting.extend(str(item["path"]) for items in record.get("inputs", {}).values() for item in items)
    found = [StageRun(record, dict(sorted(outputs.items()))) for record, outputs in runs.values()]
    return sorted(found, key=lambda run: (run.stage, run.labels, sorted(run.outputs)))


def _record(path: Path) -> dict[str, Any] | None:
    beside = provenance_path(path)
    if not beside.is_file():
        return None
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(
            "a provenance record (JSON)", f"'{error}'", beside, "Delete the artefact and run again."
        ) from error
    return record if isinstance(record, dict) else None


def raw_inputs(runs: Sequence[StageRun]) -> list[tuple[str, str]]:
    """Return path and checksum of every input that no stage wrote, sorted by path."""
    written = {path for run in runs for path in run.outputs}
    read = {
        (str(item["path"]), str(item["sha256"]))
        for run in runs
        for items in run.record.get("inputs", {}).values()
        for item in items
    }
    return sorted((path, digest) for path, digest in read if path not in written)


def summary(runs: Sequence[StageRun], study: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what ``provenance.json`` holds: the settings, and one record per stage run."""
    return {
        "study": study,
        "settings": settings,
        "stages": [{**run.record, "outputs": run.outputs} for run in runs],
        "raw_inputs": [{"path": path, "sha256": digest} for path, digest in raw_inputs(runs)],
    }


def differences(value: object, path: str = "") -> list[tuple[str, object, object]]:
    """Return the settings that differ from their defaults: path, value, default.

    A setting without a default is listed with the default ``"(required)"``.
    """
    if not isinstance(value, BaseModel):
        return []
    rows: list[tuple[str, object, object]] = []
    for name, info in type(value).model_fields.items():
        here, found = f"{path}.{name}".strip("."), getattr(value, name)
        default = "(required)" if info.is_required() else info.get_default(call_default_factory=True)
        if isinstance(found, BaseModel):
            # A block that is absent by default still shows only what differs inside it.
            rows += differences(found, here)
        elif found != default:
            rows.append((here, found, default))
    return rows
