"""Stage `certify-cell`: the findings of one cell of the certificate (label ``cell``)."""

from __future__ import annotations

from decoders.alignment.certificate.cells import CELLS, certify_cell
from decoders.alignment.certificate.certificate import n_studies, plan_of, table
from decoders.alignment.certificate.findings import Finding
from decoders.alignment.certificate.layout import RECORDED
from decoders.alignment.certificate.recorded import certify_recorded
from decoders.alignment.certificate.timed_cells import TIMED_CELLS, certify_timed_cell
from decoders.alignment.models import control_rows
from decoders.alignment.stage import read_recorded
from decoders.errors import SettingsError
from decoders.stage import Job
from decoders.store.tables import write_table


def run(job: Job) -> None:
    """Write the findings; those of the study's own recordings need the inputs ``rdms`` and ``controls``."""
    name = job.labels["cell"]
    plan, n = plan_of(job), n_studies(job.settings.certificate)
    rng = job.rng("certificate", name)
    if name == RECORDED:
        findings = _of_recordings(job, n)
    elif name in CELLS:
        findings = certify_cell(CELLS[name], n, plan, rng)
    elif name in TIMED_CELLS:
        findings = certify_timed_cell(TIMED_CELLS[name], n, plan, rng)
    else:
        known = ", ".join([*CELLS, *TIMED_CELLS, RECORDED])
        raise SettingsError(f"The certificate has no cell '{name}'; its cells are {known}.")
    write_table(job.outputs["findings"], table(findings))
    for finding in findings:
        job.log.info("%s", finding.sentence)


def _of_recordings(job: Job, n: int) -> list[Finding]:
    plan, rng = plan_of(job), job.rng("certificate", RECORDED)
    recorded, stimuli = read_recorded(str(job.input("rdms")))
    rows = control_rows(job.input("controls"), stimuli)
    return certify_recorded(recorded, rows, len(stimuli.names), n, plan, rng)
