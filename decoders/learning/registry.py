"""All learning rules by name. A rule that cannot be imported is an error, never a missing row."""

from __future__ import annotations

import difflib
from importlib import import_module

import pandas as pd

from decoders.errors import SettingsError, Unsupported
from decoders.learning.rule import LearningRule, RuleInfo, registered
from decoders.models.networks import ARCHITECTURES, Network, build_network

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


def rule_table() -> pd.DataFrame:
    """Return the matrix rule x architecture: a row per rule, and per architecture 'yes' or why not."""
    networks = {name: build_network(name, n_classes=2, seed=0) for name in ARCHITECTURES}
    rows = []
    for name in rule_names():
        rule = create(name)
        info = rule.info
        row = {"rule": name, "family": info.family, "needs": ", ".join(info.needs), "trains": ", ".join(info.trains)}
        rows.append({**row, **{key: _support(rule, net) for key, net in networks.items()}, "source": info.source})
    return pd.DataFrame(rows)


def _support(rule: LearningRule, net: Network) -> str:
    try:
        rule.check_support(net)
    except Unsupported as refusal:
        return f"no: {refusal.why}"
    return "yes"


def _load() -> dict[str, type[LearningRule]]:
    for module in MODULES:
        import_module(module)
    known = registered()
    owners = {rule.__module__ for rule in known.values()}
    silent = [module for module in MODULES if module not in owners]
    if silent:
        raise ImportError(f"the modules {silent} register no learning rule: decorate their classes with @register")
    return {name: rule for module in MODULES for name, rule in known.items() if rule.__module__ == module}
