"""All learning rules by name. A rule that cannot be imported is an error, never a missing row."""

from __future__ import annotations

import difflib
from importlib import import_module

from decoders.errors import SettingsError
from decoders.learning.rule import LearningRule, RuleInfo, registered

# Full names: the source digest of the stage follows them.
MODULES = (
    "decoders.learning.rules.untrained",
    "decoders.learning.rules.gradient",
    "decoders.learning.rules.feedback",
)


def create(name: str) -> LearningRule:
    """Return a new rule, before its set-up.

    Raises
    ------
    SettingsError
        No rule of that name; the closest one is named.
    ImportError
        A module of the registry cannot be imported.
    """
    rules = _load()
    if name not in rules:
        close = difflib.get_close_matches(name, rules, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Registered: {', '.join(sorted(rules))}."
        raise SettingsError(f"learning.rules: '{name}' is not a learning rule. {hint}")
    return rules[name]()


def rule_names() -> list[str]:
    """Return the names of all rules, in the order of the modules."""
    return list(_load())


def rule_infos() -> list[RuleInfo]:
    """Return the cards of all rules."""
    return [rule.info for rule in _load().values()]


def _load() -> dict[str, type[LearningRule]]:
    for module in MODULES:
        import_module(module)
    known = registered()
    owners = {rule.__module__ for rule in known.values()}
    silent = [module for module in MODULES if module not in owners]
    if silent:
        raise ImportError(f"the modules {silent} register no learning rule: decorate their classes with @register")
    return {name: rule for module in MODULES for name, rule in known.items() if rule.__module__ == module}
