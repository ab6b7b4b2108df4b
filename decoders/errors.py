"""Errors are sentences for a neuroscientist: expected, found, where, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class CorticodeError(Exception):
    """Base class of every error that the user can act on; the CLI prints it without a traceback."""


class InputError(CorticodeError):
    """An input that is not what the study needs.

    Parameters
    ----------
    expected : str
        What was expected, as the second half of "expected …".
    found : str
        What was found, as the second half of "found …".
    where : str or Path
        The file (or setting) in question.
    remedy : str
        A sentence that says what to do.
    """

    def __init__(self, expected: str, found: str, where: str | Path, remedy: str) -> None:
        self.expected, self.found, self.where, self.remedy = expected, found, where, remedy
        super().__init__(f"{where}: expected {expected}, found {found}. {remedy}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str | Path, str]]:
        return type(self), (self.expected, self.found, self.where, self.remedy)


class SettingsError(CorticodeError):
    """A study file that cannot be used as it stands."""


class IntegrityError(InputError):
    """A file whose content does not match its checksum, or that cannot be opened."""


class Unsupported(CorticodeError):  # noqa: N818 (a state of a rule, named so in tables)
    """A learning rule that cannot run on an architecture; recorded in the report, never replaced in silence.

    Parameters
    ----------
    rule, architecture : str
        Registered names.
    why : str
        The reason, as a sentence.
    """

    def __init__(self, rule: str, architecture: str, why: str) -> None:
        self.rule, self.architecture, self.why = rule, architecture, why
        super().__init__(f"The rule '{rule}' cannot train the architecture '{architecture}': {why}")

    def __reduce__(self) -> tuple[type[Unsupported], tuple[str, str, str]]:
        return type(self), (self.rule, self.architecture, self.why)


class TrainingFailed(CorticodeError):  # noqa: N818 (a state of a network, named so in tables)
    """A training that broke: something is not finite, or a layer no longer learns.

    It is a result of the rule at these settings: the network's row and the report say so, and other networks go on.

    Attributes
    ----------
    history : History or None
        The training curve up to there, from whoever knows it.
    """

    history: Any = None
