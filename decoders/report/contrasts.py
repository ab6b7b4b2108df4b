"""Tables of tests: who is compared with whom, and numbers of a column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from decoders.report.heat import Floats
from decoders.report.words import ModelName, parse_model, text


def scored(inference: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the columns model and reference, taken from the contrast where they are not there."""
    if "model" in inference and "reference" in inference:
        return inference
    halves = [(*text(name).split(" - ", 1), "chance")[:2] for name in inference["contrast"]]
    return inference.assign(model=[half[0] for half in halves], reference=[half[1] for half in halves])


def of_family(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows whose family is `name`, or starts with it and a comma (its region follows)."""
    families = table["family"].map(text).astype(str)
    return table[(families == name) | families.str.startswith(f"{name},")]


def numbers(table: pd.DataFrame, name: str) -> Floats:
    """Return a column as numbers; what is no number, or not there, is nan."""
    if name not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)


Place = tuple[str, str, str]


def places_in_order(models: Sequence[ModelName]) -> list[Place]:
    """Return architecture, layer and size of the networks: the last layer at the first size comes first."""
    places = list(dict.fromkeys(model.place for model in models if model.layer))
    layers, sizes = (list(dict.fromkeys(place[i] for place in places)) for i in (1, 2))
    return sorted(places, key=lambda place: (sizes.index(place[2]), -layers.index(place[1])))


def models_of(names: Sequence[object]) -> dict[str, ModelName]:
    """Return the parts of each name, in the order of the table."""
    return {text(name): parse_model(text(name)) for name in dict.fromkeys(names)}
