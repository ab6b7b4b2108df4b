"""What the leak audit reads, and what a check finds in a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from decoders.config import LeakCheck
from decoders.stats.declared import Declaration, DeclaredSplit, Rows, TimedRun
from decoders.stimuli.timings import Words

Verdict = Literal["yes", "no", "allowed", "n/a"]


@dataclass(frozen=True)
class Material:
    """What the audit reads besides the declaration.

    Attributes
    ----------
    words : mapping of str to Words
        By stimulus; stimuli without text are absent.
    checksums : mapping of str to str
        SHA-256 of the image, by the row of the manifest.
    source : callable
        Returns the words of the texts that a corpus names, by name.
    manifest : str
        Named in errors.
    """

    words: Mapping[str, Words] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    source: Callable[[str], Mapping[str, tuple[str, ...]]] = lambda name: {}
    manifest: str = "manifest.tsv"


@dataclass(frozen=True)
class Finding:
    """What one check found in one split.

    Attributes
    ----------
    split, analysis : str
    check : str
    found, needed : str
        With units.
    passed : {"yes", "no", "allowed", "n/a"}
        "n/a": the split does not claim what the check is about.
    detail : str
        A sentence; for an allowed leak, why.
    where : str
        The file or setting to look at.
    remedy : str
        A sentence that says what to do.
    """

    split: str
    analysis: str
    check: LeakCheck
    found: str
    needed: str
    passed: Verdict
    detail: str
    where: str
    remedy: str


@dataclass(frozen=True)
class Audited:
    """A split with its runs, its declaration and what the audit reads."""

    split: DeclaredSplit
    declaration: Declaration
    runs: Mapping[str, TimedRun]
    material: Material

    def runs_of(self, rows: Sequence[Rows]) -> list[TimedRun]:
        """Return the runs that some rows lie in, each once."""
        return [self.runs[key] for key in dict.fromkeys(part.run for part in rows)]

    def finding(
        self, check: LeakCheck, found: str, needed: str, good: bool | None, detail: str, where: str, remedy: str
    ) -> Finding:
        """Return a finding; `good` is None where the split does not claim what is checked."""
        passed: Verdict = "n/a" if good is None else "yes" if good else "no"
        return Finding(self.split.name, self.declaration.analysis, check, found, needed, passed, detail, where, remedy)

    def unclaimed(self, check: LeakCheck, what: str) -> Finding:
        """Return the finding of a check that the split makes no claim about."""
        return self.finding(check, "", "", None, f"The split does not claim to hold out {what}.", "", "")


def excused(finding: Finding, reason: str) -> Finding:
    """Return a leak as allowed, where there is a reason; other findings as they are."""
    if finding.passed != "no" or not reason:
        return finding
    return Finding(**{**vars(finding), "passed": "allowed", "detail": f"{finding.detail} Allowed: {reason}"})
