"""What a check states: a rate or a value, its exact interval, the bound that it must respect, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Bound = Literal["at most", "at least", "p", "none"]
FALSE_ALARMS = 0.05
_TOGETHER = "all"


@dataclass(frozen=True)
class Finding:
    """One line of the certificate.

    Attributes
    ----------
    name : str
        What was counted.
    design, size : str
        In which simulated studies.
    value : float
    low, high : float
        Exact 95 % interval of the value, by itself.
    bound : {"at most", "at least", "p", "none"}
        ``p``: the value is a p itself, which must not be small; ``none``: shown, and neither passed nor failed.
    limit : float
    n : int
        Studies, or chances of an error, behind it.
    k : int
        Of these, how often it happened.
    passed : bool
        False when the interval lies wholly beyond the limit, at a level that is divided by the number of checks: a
        certificate of valid methods fails by chance in at most 5 % of all runs.
    """

    name: str
    design: str
    size: str
    value: float
    low: float
    high: float
    bound: Bound
    limit: float
    n: int
    k: int
    passed: bool = True

    def judged(self, n_checks: int) -> Finding:
        """Return the finding with its verdict among `n_checks` checks."""
        if self.bound == "none":
            return self
        if self.bound == "p":
            return replace(self, passed=self.value >= FALSE_ALARMS / max(n_checks, 1))
        low, high = exact_interval(self.k, self.n, FALSE_ALARMS / max(n_checks, 1))
        beyond = low > self.limit if self.bound == "at most" else high < self.limit
        return replace(self, passed=not beyond)

    @property
    def is_pooled(self) -> bool:
        """Whether it is a rate over several sizes, whose studies are counted there already."""
        return self.size.startswith(_TOGETHER)

    @property
    def sentence(self) -> str:
        """The finding as a sentence for the terminal and the report."""
        shown = f"{self.value:.3f}" + ("" if self.bound == "p" else f" [{self.low:.3f}, {self.high:.3f}]")
        rule = f", {self.bound} {self.limit:g} is required" if self.bound in ("at most", "at least") else ""
        return f"{self.name} ({self.design}; {self.size}): {shown} in {self.n} simulated studies{rule}"

    @property
    def verdict(self) -> str:
        """``passed``, ``FAILED``, ``conservative`` (passed, the whole interval on the safe side) or ``shown``."""
        if self.bound == "none":
            return "shown"
        if not self.passed:
            return "FAILED"
        safe = self.high < self.limit if self.bound == "at most" else self.low > self.limit
        return "conservative" if self.bound != "p" and safe else "passed"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, and the verdict."""
        return {**asdict(self), "verdict": self.verdict}


def exact_interval(k: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the exact binomial interval of k out of n (Clopper & Pearson 1934).

    Raises
    ------
    ValueError
        Not 0 <= k <= n, or n is 0.
    """
    from scipy.stats import beta

    if not 0 <= k <= n or n == 0:
        raise ValueError(f"{k} out of {n} is no count")
    low = 0.0 if k == 0 else float(beta.ppf(alpha / 2, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - alpha / 2, k + 1, n - k))
    return low, high


def rate(name: str, design: str, size: str, happened: Sequence[bool], bound: Bound, limit: float) -> Finding:
    """Return a finding from a yes or no of each simulated study.

    Raises
    ------
    ValueError
        No study at all.
    """
    k, n = sum(map(bool, happened)), len(happened)
    low, high = exact_interval(k, n)
    return Finding(name, design, size, k / n, low, high, bound, limit, n, k)


def pooled(findings: Sequence[Finding]) -> list[Finding]:
    """Return the rates of a design over all sizes together: an error that is small in each shows in their sum.

    Parameters
    ----------
    findings : sequence of Finding
        Of all cells.

    Returns
    -------
    list of Finding
        One for each bounded rate that was counted in two or more sizes of a design.
    """
    groups: dict[tuple[str, str, Bound, float], list[Finding]] = {}
    for finding in findings:
        if finding.bound in ("at most", "at least"):
            groups.setdefault((finding.name, finding.design, finding.bound, finding.limit), []).append(finding)
    found = []
    for (name, design, bound, limit), parts in groups.items():
        if len(parts) > 1:
            k, n = sum(part.k for part in parts), sum(part.n for part in parts)
            low, high = exact_interval(k, n)
            found.append(Finding(name, design, f"{_TOGETHER} {len(parts)} sizes", k / n, low, high, bound, limit, n, k))
    return found


def judged(findings: Sequence[Finding]) -> list[Finding]:
    """Return all findings with their verdicts."""
    n_checks = sum(finding.bound != "none" for finding in findings)
    return [finding.judged(n_checks) for finding in findings]
