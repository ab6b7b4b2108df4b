"""The certificate as a whole: which studies are simulated, and what is said when a bound is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from decoders.alignment.certificate.findings import Finding, judged
from decoders.alignment.inference import Plan
from decoders.config import AlignmentSettings, CertificateSettings
from decoders.errors import CorticodeError

N_STUDIES = {"quick": 60, "full": 2000}


def plan_of(settings: CertificateSettings, alignment: AlignmentSettings | None) -> Plan:
    """Return how the certified tests are run: as the study's own alignment does, where it has one."""
    comparator = alignment.comparators[0] if alignment else "spearman"
    correction = alignment.correction if alignment else "max"
    return Plan(comparator, correction, settings.n_resamples)


def n_studies(settings: CertificateSettings) -> int:
    """Return how many studies each cell simulates."""
    return settings.n_studies or N_STUDIES[settings.mode]


def summary(findings: Sequence[Finding], mode: str, plan: Plan) -> dict[str, Any]:
    """Return the certificate as it is written to disk.

    Parameters
    ----------
    findings : sequence of Finding
        Of all cells; judged here, together.
    mode : str
    plan : Plan
    """
    checks = judged(findings)
    return {
        "passed": all(check.passed for check in checks),
        "mode": mode,
        "comparator": plan.comparator,
        "correction": plan.correction,
        "n_resamples": plan.n_resamples,
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
    return f"All {len(bounded)} bounds hold; {safe} of them with a rate that is wholly on the safe side (conservative)."


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
