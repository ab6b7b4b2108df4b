"""Where everything came from: versions, settings, checksums, times, licences, methods."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from decoders.data.registry import registry
from decoders.decoding.group_scores import is_tested_group
from decoders.report.blocks import Code, Data, Facts, Section, Table, parts
from decoders.report.citations import bibtex
from decoders.report.methods import methods, works
from decoders.report.provenance import differences, raw_inputs
from decoders.report.read import Results
from decoders.report.words import text
from decoders.stage import package_versions

BLOCKS = ("data", "preprocess", "decoding", "learning", "alignment", "report")


def section(results: Results) -> Section:
    """Return the section on provenance."""
    packages = package_versions()
    order = parts(
        ("Data set", [_licence(results), _training_data(results)]),
        ("Methods, ready to paste", [_methods(results, packages), _bibtex(results, packages)]),
        ("Settings", [_settings(results)]),
        ("Software", [_versions(results, packages)]),
        ("Runs of the stages", [_stages(results)]),
        ("Checksums", [_checksums(results), _artefacts(results)]),
    )
    lead = (
        "Every number on this page rests on the files, settings and versions below; provenance.json holds "
        "the full records."
    )
    return Section("provenance", "Provenance", lead, order)


def settings_values(settings: Any) -> dict[str, Any]:
    """Return the settings as plain values."""
    found: dict[str, Any] = {key: getattr(settings, key) for key in ("study", "seed", "threads")}
    for key in BLOCKS:
        block = getattr(settings, key)
        found[key] = block.model_dump(mode="json") if isinstance(block, BaseModel) else None
    return found


def _licence(results: Results) -> Facts | None:
    data = results.settings.data
    if data.source == "phantom":
        pairs = [("Data", "The phantom: simulated by Corticode, with planted truth"), ("Seed", str(data.phantom.seed))]
        return Facts("", pairs)
    if data.source == "registry":
        entry = registry().entry(data.name)
        pairs = [("Data set", entry.title), ("Licence", entry.licence), ("Please cite", entry.citation)]
        return Facts("", pairs + ([("Note", entry.note)] if entry.note else []))
    if data.source == "none":
        return None
    return Facts(
        "", [("Data", f"BIDS folder {data.root}"), ("Licence", "as stated in the folder's dataset_description.json")]
    )


_TRAINING = {"cifar10": "img_cifar10_subset", "mnist": "img_mnist"}


def _training_data(results: Results) -> Facts | None:
    """Return licence and citation of what the networks were trained on."""
    name = _trained_on(results.settings)
    if not name:
        return None
    entry = registry().entry(name)
    pairs = [("Data set", entry.title), ("Licence", entry.licence), ("Please cite", entry.citation)]
    return Facts("Training data of the networks", pairs)


def _trained_on(settings: Any) -> str:
    """Return the registered set that the networks were trained on; empty where there is none."""
    training = settings.learning.training if settings.learning is not None else None
    if training is not None and training.dataset == "text":
        return "alice_fmri_brennan2016" if training.text == "alice" else ""
    return _TRAINING.get(training.dataset, "") if training is not None else ""


def attribution(settings: Any) -> list[str]:
    """Return sentences that name the sources of the data, with licence and citation, for the foot of the page."""
    data, names = settings.data, []
    if data.source == "registry":
        names.append(data.name)
    if _trained_on(settings):
        names.append(_trained_on(settings))
    entries = [registry().entry(name) for name in names]
    return [f"{e.title}. {e.licence.rstrip('.')}. Cite: {e.citation}" for e in entries]


def _methods(results: Results, packages: Mapping[str, str]) -> Code:
    group = is_tested_group(results.table("decoding_scores"))
    words = methods(results.settings, results.table("manifest"), packages, group)
    return Code("methods", "Methods", "Written from this study's settings.", words, "methods.txt")


def _bibtex(results: Results, packages: Mapping[str, str]) -> Code:
    return Code(
        "bibtex",
        "BibTeX of tools and methods",
        "",
        bibtex(works(results.settings, packages, results.table("manifest"))),
        "references.bib",
    )


def _settings(results: Results) -> Table:
    rows: list[tuple[str, object, object]] = []
    for key in BLOCKS:
        rows += differences(getattr(results.settings, key), key)
    for key, default in (("seed", 0), ("threads", 1)):
        value = getattr(results.settings, key)
        rows += [(key, value, default)] if value != default else []
    data = Data(
        ("setting", "value", "default"), [(name, _written(value), _written(default)) for name, value, default in rows]
    )
    return Table(
        "settings", "Differences to the defaults", "Every setting that is not listed has its default.", data, first=40
    )


def _written(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(
        value,
        default=lambda item: item.model_dump(mode="json") if isinstance(item, BaseModel) else str(item),
        ensure_ascii=False,
    )


def _versions(results: Results, packages: Mapping[str, str]) -> Facts:
    pythons = sorted({text(run.record.get("python")) for run in results.runs} - {""})
    hosts = sorted({text(dict(run.record.get("host", {})).get("system")) for run in results.runs} - {""})
    pairs = [(name, number) for name, number in packages.items() if number != "absent"]
    pairs += [("Python", ", ".join(pythons))] if pythons else []
    pairs += [("System", "; ".join(hosts))] if hosts else []
    pairs += [("Seed", str(results.settings.seed)), ("Numerical threads", str(results.settings.threads))]
    return Facts("", pairs)


def _stages(results: Results) -> Table | None:
    if not results.runs:
        return None
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in results.runs:
        groups[run.stage].append(run.record)
    rows = [
        (
            stage,
            len(records),
            sum(float(record.get("wall_seconds", 0)) for record in records),
            sum(float(record.get("cpu_seconds", 0)) for record in records),
            max(float(record.get("peak_mb", 0)) for record in records),
            ", ".join(sorted({text(record.get("source_digest")) for record in records})),
        )
        for stage, records in groups.items()
    ]
    data = Data(("stage", "jobs", "wall_seconds", "cpu_seconds", "peak_mb", "source_digest"), rows)
    labels = {
        "wall_seconds": "wall time (s)",
        "cpu_seconds": "CPU time (s)",
        "peak_mb": "peak memory (MB)",
        "source_digest": "digest of the code",
    }
    return Table(
        "stages",
        "Time and memory",
        "Sums over the jobs of a stage; the peak is that of the largest job. Times differ from run to run.",
        data,
        labels,
        first=30,
    )


def _checksums(results: Results) -> Table | None:
    found = raw_inputs(results.runs)
    if not found:
        return None
    data = Data(("file", "sha256"), found)
    return Table("inputs", "Inputs", "Files that no stage of this study wrote.", data, first=8)


def _artefacts(results: Results) -> Table | None:
    rows = [(path, run.stage, run.labels, digest) for run in results.runs for path, digest in run.outputs.items()]
    if not rows:
        return None
    return Table(
        "artefacts",
        "Artefacts",
        "What the stages wrote.",
        Data(("file", "stage", "job", "sha256"), sorted(rows)),
        filters=("stage",),
        first=8,
    )
