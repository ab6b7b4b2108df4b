"""Options of learning rules: declared once with default, search grid and meaning, checked where they are given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from decoders.errors import SettingsError

OptionValue = bool | int | float | str


@dataclass(frozen=True)
class Option:
    """A number, switch or word that a rule can be set by.

    Attributes
    ----------
    default : bool, int, float or str
    meaning : str
        One line, with the unit.
    grid : tuple of values
        What the common search may choose from; empty for options that it leaves alone.
    choices : tuple of str
        Of a word: all that is allowed.
    """

    default: OptionValue
    meaning: str
    grid: tuple[OptionValue, ...] = ()
    choices: tuple[str, ...] = ()


# Of every rule. The search covers the learning rate of every rule; others add their own grids.
COMMON: dict[str, Option] = {
    "learning_rate": Option(
        0.0,
        "Peak of the one-cycle schedule; 0 takes that of the common budget.",
        grid=(3e-4, 1e-3, 3e-3),
    ),
    "optimizer": Option(
        "adam", "Adam, or SGD with or without momentum, on the rule's updates.", choices=("adam", "sgd", "plain_sgd")
    ),
    "weight_decay": Option(0.0, "Decoupled (Adam) or plain (SGD) decay of the weights."),
    "companion_rate": Option(1.0, "Learning rate of heads and feedback networks, relative to the network's."),
}


def chosen_options(rule: str, known: Mapping[str, Option], given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return the value of every known option.

    Raises
    ------
    SettingsError
        An unknown option (the closest one is named), another type, or a word that is no choice.
    """
    for name, value in given.items():
        where = f"learning.options.{rule}.{name}"
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(known)}."
            raise SettingsError(f"{where}: the rule '{rule}' has no such option. {hint}")
        option = known[name]
        if not _fits(option.default, value):
            expected = type(option.default).__name__
            raise SettingsError(f"{where}: expected a value of type {expected}, found {value!r}. {option.meaning}")
        if option.choices and value not in option.choices:
            raise SettingsError(f"{where}: expected one of {', '.join(option.choices)}, found {value!r}.")
    return {
        name: _as_default(option.default, given[name]) if name in given else option.default
        for name, option in known.items()
    }


def _fits(default: OptionValue, value: OptionValue) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) or _is_number(value)
    return isinstance(value, type(default))


def _as_default(default: OptionValue, value: OptionValue) -> OptionValue:
    # YAML reads 1 as an integer, and 1e-5 as a word, where numbers with a point were meant.
    return float(value) if isinstance(default, float) else value


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
