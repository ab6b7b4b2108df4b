"""The record of what was done to a run: every step with its parameters and its reason."""

from __future__ import annotations

import logging
from typing import Any

WARNING = "warning"


class Steps:
    """Collects steps and warnings in order, and logs them.

    Parameters
    ----------
    run_id : str
        Named in the log.
    log : Logger, optional

    Attributes
    ----------
    entries : list of dict
        ``{"step": name, "why": sentence, …parameters}``; JSON can hold them.
    """

    def __init__(self, run_id: str, log: logging.Logger | None = None) -> None:
        self.run_id, self.entries = run_id, list[dict[str, Any]]()
        self._log = log or logging.getLogger("corticode")

    def add(self, step: str, why: str, **parameters: Any) -> None:
        """Note a step that was taken."""
        self.entries.append({"step": step, "why": why, **parameters})
        self._log.info("%s: %s (%s)", self.run_id, step, why)

    def warn(self, sentence: str) -> None:
        """Note something that the reader of the report must know."""
        self.entries.append({"step": WARNING, "why": sentence})
        self._log.warning("%s: %s", self.run_id, sentence)


def warnings_of(entries: list[dict[str, Any]]) -> list[str]:
    """Return the warnings among the steps of a Recording."""
    return [str(entry["why"]) for entry in entries if entry["step"] == WARNING]


def parameter_of(entries: list[dict[str, Any]], step: str, parameter: str, default: Any = None) -> Any:
    """Return a parameter of the last step of that name; `default` where there is none."""
    values = [entry[parameter] for entry in entries if entry["step"] == step and parameter in entry]
    return values[-1] if values else default
