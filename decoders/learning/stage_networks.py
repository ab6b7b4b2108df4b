"""Stage ``networks``: the cards of all networks as one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from decoders.errors import IntegrityError
from decoders.stage import Job
from decoders.store.tables import write_table

_COPIED = (
    "rule", "architecture", "seed", "dataset", "epochs", "test_accuracy", "readout_accuracy",
    "untrained_readout_accuracy", "trained", "cpu_seconds", "peak_mb", "status",
)  # fmt: skip


def run(job: Job) -> None:
    """Write networks.tsv, in the order of the settings' rules, architectures and seeds."""
    cards = [read_card(path) for path in job.inputs["card"]]
    settings = job.settings.learning
    orders = [list(settings.rules), list(settings.architectures), list(settings.seeds)]
    keys = ("rule", "architecture", "seed")
    cards.sort(key=lambda card: [order.index(card[key]) for order, key in zip(orders, keys, strict=True)])
    write_table(job.outputs["networks"], pd.DataFrame([network_row(card) for card in cards]), "networks")


def read_card(path: Path) -> dict[str, Any]:
    """Read a network's card."""
    remedy = "Delete it and run again: the stage 'train' will write it anew."
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError("the card of a network (JSON)", f"'{error}'", path, remedy) from error
    missing = [key for key in (*_COPIED, "displacement", "claimed") if key not in card]
    if missing:
        raise IntegrityError("the card of a network", f"none of the keys {missing}", path, remedy)
    return card


def network_row(card: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a network: displacement over all layers, so that frozen ones show as 0."""
    moved = list(card["displacement"].values())
    claimed = [layer for layer, claim in card["claimed"].items() if claim]
    return {
        **{key: card[key] for key in _COPIED},
        "displacement_min": min(moved, default=None),
        "displacement_max": max(moved, default=None),
        "layers_claimed": " ".join(claimed) or None,
        **{f"displacement_{layer}": value for layer, value in card["displacement"].items()},
    }
