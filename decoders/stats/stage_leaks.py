"""Stage `leaks`: the audit of every split that decoding uses; any leak that the study does not allow stops it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import get_args

import pandas as pd

from decoders.config import AllowedLeak
from decoders.data.manifest import read_manifest
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.declared import Declaration, read_declaration
from decoders.stats.findings import Finding, Material
from decoders.stats.leaks import audit
from decoders.stimuli.stories import TextName
from decoders.stimuli.text import tokens_of
from decoders.stimuli.timings import words_by_stimulus
from decoders.stimuli.training_text import training_documents
from decoders.store.atomic import sha256_of
from decoders.store.tables import COLUMNS, read_table, write_table

_MOST = 12  # leaks that are logged one by one


def run(job: Job) -> None:
    """Write leaks.tsv, or fail with the first leak."""
    paths = job.inputs.get("splits", [])
    declarations = [read_declaration(path) for path in paths]
    allowed: Sequence[AllowedLeak] = job.settings.decoding.allowed_leaks or ()
    found = audit(declarations, _material(job, declarations), allowed)
    warn_of_idle(allowed, found, job.log)
    refuse(found, job.log)
    digests = {d.analysis: sha256_of(Path(path)) for d, path in zip(declarations, paths, strict=True)}
    write_table(job.outputs["leaks"], leaks_table(found, digests), "leaks")
    job.log.info("%d checks of %d splits", len(found), sum(len(d.splits) for d in declarations))


def leaks_table(found: Sequence[Finding], digests: dict[str, str]) -> pd.DataFrame:
    """Return the findings as the table `leaks`; `declaration` is the checksum of the splits that were audited."""
    rows = [{**vars(finding), "declaration": digests[finding.analysis]} for finding in found]
    table = pd.DataFrame(rows, columns=[*COLUMNS["leaks"], "declaration"])
    return table.replace({"found": {"": None}, "needed": {"": None}})


def refuse(found: Sequence[Finding], log: logging.Logger) -> None:
    """Refuse leaks that nothing allows.

    Raises
    ------
    InputError
        Names the first leak, and the number of all of them.
    """
    leaks = [finding for finding in found if finding.passed == "no"]
    for leak in leaks[:_MOST]:
        log.warning("%s, split %s, %s: %s", leak.analysis, leak.split, leak.check, leak.detail)
    if not leaks:
        return
    first = leaks[0]
    kinds = sorted({f"{leak.analysis}.{leak.check}" for leak in leaks})
    expected = f"training apart from test data ({first.analysis}, split {first.split}, {first.check}: {first.needed})"
    more = f"; {len(leaks)} leaks in all, of {', '.join(kinds)}" if len(leaks) > 1 else ""
    remedy = f"{first.remedy} If the study accepts the leak, say why in decoding.allowed_leaks."
    raise InputError(expected, f"{first.found}: {first.detail.rstrip('.')}{more}", first.where, remedy)


def warn_of_idle(allowed: Sequence[AllowedLeak], found: Sequence[Finding], log: logging.Logger) -> None:
    """Warn of allowances that nothing needs: they would hide a leak to come."""
    used = {(finding.analysis, finding.check) for finding in found if finding.passed == "allowed"}
    for item in allowed:
        if (item.analysis, item.check) not in used:
            log.warning("decoding.allowed_leaks: %s has no leak of '%s'; remove the entry", item.analysis, item.check)


def _material(job: Job, declarations: Sequence[Declaration]) -> Material:
    manifest = job.input("manifest")
    checksums = {row.run_id: row.sha256 for row in read_manifest(manifest) if row.sha256}
    material = Material({}, checksums, _reader(job), str(manifest))
    if not job.inputs.get("words"):
        return material
    table = read_table(job.input("words"), text_columns=("stimulus", "word", "text"))
    words = words_by_stimulus(table)
    return replace(material, words=words)


def _reader(job: Job):  # type: ignore[no-untyped-def]  # a cached function keeps its own type
    mirror = job.settings.data.mirror

    @lru_cache
    def read(source: str) -> dict[str, tuple[str, ...]]:
        """Return the words of each text of a corpus; files go by their stem."""
        documents = training_documents(source, mirror)
        path = Path(source).expanduser()
        files = [path] if path.is_file() else sorted(path.glob("*.txt")) if path.is_dir() else []
        named = source not in get_args(TextName) and len(files) == len(documents)
        names = [file.stem for file in files] if named else [f"{source}[{i}]" for i in range(len(documents))]
        return {
            name: tuple(token.word for token in tokens_of(document))
            for name, document in zip(names, documents, strict=True)
        }

    return read
