"""Stage ``networks``: the cards of all networks as one table, each paired with the random features of its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import IntegrityError
from decoders.learning.measures import paired_p
from decoders.stage import Job
from decoders.store.arrays import read_arrays
from decoders.store.tables import write_table

_COPIED = (
    "rule", "architecture", "seed", "dataset", "epochs", "test_accuracy", "readout_accuracy",
    "untrained_readout_accuracy", "layer", "layer_accuracy", "untrained_layer_accuracy", "layer_p", "trained",
    "cpu_seconds", "peak_mb", "status",
)  # fmt: skip
CONTROL = "random_features"
_KEYS = ("rule", "architecture", "seed")
# Which of the test inputs a network got right.
Right = NDArray[np.bool_]


def run(job: Job) -> None:
    """Write networks.tsv, in the order of the settings' rules, architectures and seeds."""
    cards = [read_card(path) for path in job.inputs["card"]]
    right = {_key(card): read_right(path) for card, path in zip(cards, job.inputs["predictions"], strict=True)}
    settings = job.settings.learning
    orders = [list(settings.rules), list(settings.architectures), list(settings.seeds)]
    cards.sort(key=lambda card: [order.index(card[key]) for order, key in zip(orders, _KEYS, strict=True)])
    rows = [{**network_row(card), **against_control(_key(card), right)} for card in cards]
    write_table(job.outputs["networks"], pd.DataFrame(rows), "networks")


def _key(card: Mapping[str, Any]) -> tuple[str, str, int]:
    return card["rule"], card["architecture"], card["seed"]


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


def read_right(path: Path) -> Right | None:
    """Return which test inputs a network got right: by its own prediction, else by the read-out of all layers."""
    file = read_arrays(path)
    if "labels" not in file.arrays:
        return None
    predicted = file["native"] if "native" in file.arrays else file["readout"]
    return np.asarray(predicted == file["labels"])


def against_control(
    key: tuple[str, str, int], right: Mapping[tuple[str, str, int], Right | None]
) -> dict[str, float | None]:
    """Return a network's gain over `random_features` of the same architecture and seed, and its exact paired p.

    A rule that does not beat random convolutions under a trained head has not shown that it learned features.
    """
    rule, architecture, seed = key
    own, control = right[key], right.get((CONTROL, architecture, seed))
    if rule == CONTROL or own is None or control is None:
        return {"gain_over_random_features": None, "p_random_features": None}
    gain = float(own.mean() - control.mean())
    return {"gain_over_random_features": gain, "p_random_features": paired_p(own, control)}


def network_row(card: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a network: displacement over all layers, so that frozen ones show as 0."""
    moved = list(card["displacement"].values())
    claimed = [layer for layer, claim in card["claimed"].items() if claim]
    return {
        **{key: card[key] for key in _COPIED},
        "displacement_min": min(moved, default=None),
        "displacement_max": max(moved, default=None),
        "displacement_claimed_min": min((card["displacement"][layer] for layer in claimed), default=None),
        "layers_claimed": " ".join(claimed) or None,
        **{f"displacement_{layer}": value for layer, value in card["displacement"].items()},
    }
