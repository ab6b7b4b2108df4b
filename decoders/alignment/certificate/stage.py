"""Stage `certificate`: the findings of all cells, judged together."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pandas as pd

from decoders.alignment.certificate.certificate import plan_of, summary
from decoders.alignment.certificate.findings import Finding
from decoders.stage import Job
from decoders.store.tables import read_table, write_json, write_table


def run(job: Job) -> None:
    """Write certificate.json and its checks as a table.

    A broken bound does not stop the study, whose page shows it first; the sentence is logged as an error.
    """
    findings = [finding for path in job.inputs["findings"] for finding in read_findings(path)]
    certificate = summary(findings, job.settings.certificate.mode, plan_of(job))
    write_json(job.outputs["certificate"], certificate)
    write_table(job.outputs["checks"], pd.DataFrame(certificate["checks"]))
    (job.log.info if certificate["passed"] else job.log.error)("%s", certificate["sentence"])


def read_findings(path: Path) -> list[Finding]:
    """Read the findings of a cell."""
    names = [field.name for field in fields(Finding)]
    rows = read_table(path, ("name", "design", "size", "bound", "verdict"))
    return [Finding(**{name: row[name] for name in names}) for row in rows[names].to_dict("records")]
