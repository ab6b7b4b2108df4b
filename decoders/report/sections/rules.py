"""Learning rules: one row per rule and architecture, means over seeds beside their controls, and what each one cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from decoders.report.blocks import Data, Table, worded
from decoders.report.read import Results
from decoders.report.words import text, title

_LABELS = {
    "n_seeds": "seeds",
    "test_accuracy": "own prediction",
    "test_accuracy_sd": "sd over seeds",
    "readout_accuracy": "readout",
    "untrained_readout_accuracy": "readout, untrained",
    "layer_accuracy": "last trained layer",
    "untrained_layer_accuracy": "last layer, untrained",
    "gain_over_random_features": "gain over random features",
    "seeds_above_random_features": "seeds above random features (p < .05)",
    "displacement_claimed_min": "least moved",
    "cpu_of_backprop": "CPU time / backprop",
}
_MEANS = (
    "test_accuracy", "readout_accuracy", "untrained_readout_accuracy", "layer_accuracy", "untrained_layer_accuracy",
    "gain_over_random_features", "displacement_claimed_min",
)  # fmt: skip


def rule_table(results: Results) -> Table | None:
    """Return the table of rules, or None where no network was trained."""
    networks = results.table("networks")
    networks = networks[networks["status"].map(text) == "ok"]
    if not len(networks):
        return None
    infos = {text(item.content["rule"]): item.content.get("info", {}) for item in results.cards}
    # Not of a seed whose training broke: its counts end where it did.
    usable = [item.content for item in results.cards if text(item.content.get("status", "ok")) == "ok"]
    counters = {(text(card["rule"]), text(card["architecture"])): card for card in usable}
    rows = [
        _row(text(rule), text(architecture), group, networks, infos, counters)
        for (architecture, rule), group in networks.groupby(["architecture", "rule"], sort=False)
    ]
    data = Data.of(pd.DataFrame(rows))
    caption = (
        "Means over seeds. Own prediction: the rule's, where it has one. Readout: the same linear classifier for "
        "every rule on all layers, beside the same on the network before training: what exceeds it was learnt. Gain "
        "over random features: own prediction (or readout) minus that of frozen random convolutions under a trained "
        "head, paired over test inputs. Passes: per update, as the rule counts them."
    )
    hide = ("source",) if len(rows) > 12 else ()
    words = worded(data, {"rule": title})
    return Table("rules", "Learning rules", caption, data, _LABELS, {}, ("architecture", "family"), 60, "", hide, words)


def _row(
    rule: str,
    architecture: str,
    group: pd.DataFrame,
    networks: pd.DataFrame,
    infos: Mapping[str, Mapping[str, Any]],
    cards: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, Any]:
    numbers = {name: _numbers(group, name) for name in (*_MEANS, "p_random_features", "cpu_seconds")}
    p, gain = numbers["p_random_features"], numbers["gain_over_random_features"]
    same = (networks["rule"] == "backprop") & (networks["architecture"].map(text) == architecture)
    reference = _mean(_numbers(networks[same], "cpu_seconds"))
    above = int(np.sum((p < 0.05) & (gain > 0))) if np.isfinite(p).any() else None
    return {
        "rule": rule,
        "family": infos.get(rule, {}).get("family"),
        "architecture": architecture,
        "n_seeds": len(group),
        **{name: _mean(numbers[name]) for name in _MEANS},
        "test_accuracy_sd": float(np.std(numbers["test_accuracy"], ddof=1)) if len(group) > 1 else None,
        "seeds_above_random_features": above,
        "cpu_of_backprop": _mean(numbers["cpu_seconds"]) / reference if reference else None,
        "passes": _passes(cards.get((rule, architecture), {})),
        "source": infos.get(rule, {}).get("source"),
    }


def _numbers(table: pd.DataFrame, name: str) -> np.ndarray[Any, Any]:
    if name not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)


def _mean(values: np.ndarray[Any, Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _passes(card: Mapping[str, Any]) -> str | None:
    """Return the passes of an update in words, e.g. '1 forward, 1 backward'."""
    counters, budget = card.get("counters") or {}, card.get("budget") or {}
    if not counters or not budget:
        return None
    updates = int(card.get("epochs", 0)) * -(-int(budget["n_train"]) // int(budget["batch_size"]))
    parts: Sequence[str] = [
        f"{round(count / updates, 1):g} {name.replace('_', ' ')}" for name, count in counters.items() if updates
    ]
    return ", ".join(parts) or None
