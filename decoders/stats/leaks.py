"""The leak audit: whether what a split trains on is apart from what it tests on.

Every check reads declarations, the manifest and texts, never a recording's values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from decoders.config import AllowedLeak
from decoders.stats import leak_checks as checks
from decoders.stats.declared import Declaration, DeclaredSplit
from decoders.stats.findings import Audited, Finding, Material, excused


def audit(
    declarations: Sequence[Declaration], material: Material, allowed: Sequence[AllowedLeak] = ()
) -> list[Finding]:
    """Check every split of every analysis.

    Parameters
    ----------
    declarations : sequence of Declaration
    material : Material
    allowed : sequence of AllowedLeak
        What the study accepts, with its reasons.

    Returns
    -------
    list of Finding
        All of them, also those that passed.
    """
    reasons: dict[tuple[str, str], str] = {(item.analysis, item.check): item.reason for item in allowed}
    found = [
        finding
        for declaration in declarations
        for split in declaration.splits
        for finding in audit_split(split, declaration, material)
    ]
    return [excused(finding, reasons.get((finding.analysis, finding.check), "")) for finding in found]


def audit_split(split: DeclaredSplit, declaration: Declaration, material: Material) -> Iterator[Finding]:
    """Yield what each check finds in one split, before the study's allowances."""
    one = Audited(split, declaration, {run.key: run for run in declaration.runs}, material)
    yield checks.shared_run(one)
    yield checks.shared_subject(one)
    yield checks.shared_stimulus(one)
    yield checks.shared_text(one)
    yield checks.time_gap(one)
    for fit in split.fits:
        yield checks.fitted_apart(one, fit)
    for corpus in split.corpora:
        yield checks.corpus_apart(one, corpus)
