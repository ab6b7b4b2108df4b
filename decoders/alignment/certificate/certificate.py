"""The certificate as a whole: which studies are simulated, and what is said when a bound is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from decoders.alignment.certificate.findings import FALSE_ALARMS, Finding, exact_interval, judged, pooled
from decoders.alignment.inference import Plan
from decoders.config import CertificateSettings
from decoders.errors import CorticodeError
from decoders.stage import Job

N_STUDIES = {"quick": 60, "full": 2000}


def plan_of(job: Job) -> Plan:
    """Return how the certified tests are run: as the study's own alignment does, where it has one."""
    alignment = job.settings.alignment
    # Settings of a block that is absent are None.
    comparator = (alignment.comparators or ("spearman",))[0]
    return Plan(comparator, alignment.correction or "max", job.settings.certificate.n_resamples)


def n_studies(settings: CertificateSettings) -> int:
    """Return how many studies each cell simulates."""
    return settings.n_studies or N_STUDIES[settings.mode]


def summary(findings: Sequence[Finding], mode: str, plan: Plan) -> dict[str, Any]:
    """Return the certificate as it is written to disk.

    Parameters
    ----------
    findings : sequence of Finding
        Of all cells; judged here, together, and pooled over the sizes of a design.
    mode : str
    plan : Plan
    """
    checks = judged([*findings, *pooled(findings)])
    return {
        "passed": all(check.passed for check in checks),
        "mode": mode,
        "comparator": plan.comparator,
        "correction": plan.correction,
        "n_resamples": plan.n_resamples,
        "n_studies": max(finding.n for finding in findings),
        "checks": [check.as_dict() for check in checks],
        "sentence": sentence(checks),
    }


def sentence(checks: Sequence[Finding]) -> str:
    """Return the outcome in a sentence or two."""
    bounded = [check for check in checks if check.bound != "none"]
    failed = [check for check in bounded if not check.passed]
    if failed:
        worst = "; ".join(check.sentence for check in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        return f"{len(failed)} of {len(bounded)} bounds are broken: {worst}{more}. Do not trust the p-values above."
    safe = sum(check.verdict == "conservative" for check in bounded)
    words = (
        f"All {len(bounded)} bounds hold; {safe} of them with a rate that is wholly on the safe side (conservative)."
    )
    n = max((check.n for check in bounded if not check.is_pooled), default=0)
    return (
        f"{words} With {n} studies of a kind, a rate of wrong findings of {noticed(n, len(bounded)):.0%} would be seen."
    )


def noticed(n: int, n_checks: int) -> float:
    """Return the smallest share of wrong findings among n studies that breaks the bound of 5 %."""
    for k in range(n + 1):
        if exact_interval(k, n, FALSE_ALARMS / max(n_checks, 1))[0] > FALSE_ALARMS:
            return k / n
    return 1.0


def table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return the findings as rows."""
    return pd.DataFrame([finding.as_dict() for finding in findings])


def require(certificate: dict[str, Any]) -> None:
    """Refuse a certificate that is not passed.

    Raises
    ------
    CorticodeError
        With the sentence of the certificate.
    """
    if not certificate["passed"]:
        raise CorticodeError(f"The certificate is refused. {certificate['sentence']}")
