"""The models of a study: control RDMs, networks and the user's own, one RDM per row of the score table."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.contrasts import Model
from decoders.alignment.rdm import feature_rdm
from decoders.alignment.text_windows import window_features
from decoders.errors import InputError, SettingsError
from decoders.stats.permutation import pair_indices
from decoders.store.arrays import read_arrays

Kind = Literal["control", "user", "network", "time"]
Summary = Callable[[NDArray[Any], Sequence[str], str], NDArray[np.float64]]
"""From features (stimulus, unit), the names of the stimuli and whose they are, to a vector."""
BASELINES = ("untrained", "random_features")


@dataclass(frozen=True, eq=False)
class ModelRow:
    """One model RDM, or the reason why there is none.

    Attributes
    ----------
    kind : {"control", "user", "network", "time"}
    rule : str
        Learning rule, ``control:<name>``, ``user:<name>``, or ``meg:<ms>ms`` for MEG at one time.
    rdm : array of shape (n_pairs,) or None
        For encoding models the kernel in its place, of shape (n_stimuli ** 2,).
    architecture, seed, layer : str
        Empty where they do not apply.
    size : str
        Edge of the pictures in pixels, or ``native``; ``text`` of words.
    refused : str
        Why there is no RDM.
    ranked : bool
        Whether the network may enter contrasts: not when its rule claims to train a layer that did not move.
    """

    kind: Kind
    rule: str
    rdm: NDArray[np.float64] | None
    architecture: str = ""
    seed: str = ""
    layer: str = ""
    size: str = "native"
    refused: str = ""
    ranked: bool = True

    @property
    def name(self) -> str:
        """Name without the seed, e.g. ``backprop cnn3 fc1 32px`` or ``control:pixel``."""
        size = f"{self.size}px" if self.size.isdigit() else self.size
        parts = (self.rule, self.architecture, self.layer, size if self.kind == "network" else "")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Stimuli:
    """The recorded stimuli, and how to bring other orders into theirs.

    Attributes
    ----------
    names : list of str
    windows : DataFrame or None
        What the stimuli are where they are windows of stories (`decoders.stimuli.story_windows.story_windows`).
    """

    names: list[str]
    windows: pd.DataFrame | None = None

    def positions(self, others: Sequence[str], where: str | Path) -> NDArray[np.int64]:
        """Return where each recorded stimulus stands among `others`.

        Raises
        ------
        InputError
            A recorded stimulus is not there, or a name occurs twice.
        """
        place = {str(name): index for index, name in enumerate(others)}
        if len(place) != len(others):
            raise InputError("a name for each stimulus", "a name that occurs twice", where, "Rename the stimuli.")
        missing = [name for name in self.names if name not in place]
        if missing:
            close = difflib.get_close_matches(missing[0], place, n=1)
            hint = f" The closest name there is '{close[0]}'." if close else ""
            raise InputError(
                f"all {len(self.names)} recorded stimuli by name",
                f"no '{missing[0]}'" + (f" and {len(missing) - 1} more missing" if len(missing) > 1 else ""),
                where,
                f"Name the stimuli as the events of the recordings do.{hint}",
            )
        return np.array([place[name] for name in self.names], dtype=np.int64)


def reorder(condensed: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a condensed RDM with its stimuli chosen and ordered by `positions`."""
    from scipy.spatial.distance import squareform

    rows, columns = pair_indices(len(positions))
    square = squareform(np.asarray(condensed, dtype=np.float64), checks=False)
    return np.asarray(square[positions[rows], positions[columns]])


def control_rows(path: Path, stimuli: Stimuli) -> list[ModelRow]:
    """Read the control RDMs of the pictures.

    A control that is constant (a category that all pictures share) is refused by name.
    """
    file = read_arrays(path)
    positions = stimuli.positions(file["names"].tolist(), path)
    rows = []
    for name in (name for name in file.arrays if name != "names"):
        rdm = reorder(file[name], positions)
        flaw = file.attributes.get("refused", {}).get(name) or _flaw(rdm)
        rows.append(ModelRow("control", f"control:{name}", None if flaw else rdm, refused=flaw))
    return rows


def _flaw(rdm: NDArray[np.float64]) -> str:
    if not np.isfinite(rdm).all():
        return "dissimilarities that are not finite"
    return "one dissimilarity throughout" if np.ptp(rdm) == 0 else ""


def network_rows(
    features: Path,
    card: Mapping[str, Any],
    stimuli: Stimuli,
    layers: Sequence[str] | None,
    summary: Summary = feature_rdm,
) -> list[ModelRow]:
    """Return one row per picture size and layer of a network.

    Parameters
    ----------
    features : Path
        Arrays ``<size>/<layer>`` (stimulus, unit), and the attribute ``stimuli`` with the names of their rows; no array
        for a rule that is not supported. Features of words (word, unit) are pooled where the stimuli are windows of
        text, and passed over where they are not; so are those of pictures where the stimuli are windows.
    card : mapping
        Card of the network: rule, architecture, seed, trained.
    stimuli : Stimuli
    layers : sequence of str or None
        Taps to compare (with their pooled version); all when None.
    summary : callable
        What stands for the features: their RDM, or their kernel.

    Returns
    -------
    list of ModelRow
        A layer with a constant pattern (dead units) is refused by name; the study goes on.
    """
    file = read_arrays(features)
    if stimuli.windows is not None:
        file = window_features(file, stimuli.windows, stimuli.names)
    shown = [name for name, array in file.arrays.items() if array.axes[:1] != ("word",)]
    if not shown:
        return []
    names = [str(name) for name in file.attributes.get("stimuli", [])]
    positions = stimuli.positions(names, features)
    labels = {"rule": str(card["rule"]), "architecture": str(card["architecture"]), "seed": str(card["seed"])}
    ranked = not (any(card.get("claimed", {}).values()) and str(card.get("trained")).lower() in ("no", "false"))
    rows = []
    # HDF5 lists names by alphabet; the last layer of a network is that of its own order.
    order = {layer: place for place, layer in enumerate(file.attributes.get("layers", []))}
    for name in sorted(shown, key=lambda name: order.get(name.partition("/")[2], len(order))):
        array, (size, _, layer) = file.arrays[name], name.partition("/")
        if not layer or not _wanted(layer, layers):
            continue
        if len(array.values) != len(names):
            found = f"{len(array.values)} rows in {name}"
            raise InputError(f"features of {len(names)} stimuli", found, features, "Delete it and train again.")
        whose = f"{labels['rule']} {labels['architecture']} seed {labels['seed']}, {layer} at {size}"
        rdm, refused = _try_summary(summary, array.values[positions], stimuli.names, whose)
        rows.append(ModelRow("network", rdm=rdm, layer=layer, size=size, refused=refused, ranked=ranked, **labels))
    return rows


def _wanted(layer: str, layers: Sequence[str] | None) -> bool:
    return layers is None or layer in layers or layer.removesuffix("_pooled") in layers


def _try_summary(
    summary: Summary, values: NDArray[Any], names: list[str], whose: str
) -> tuple[NDArray[np.float64] | None, str]:
    try:
        return summary(values, names, whose), ""
    except InputError as error:
        return None, str(error)


def check_layers(rows: Sequence[ModelRow], layers: Sequence[str] | None) -> None:
    """Refuse a setting `alignment.layers` that names a tap of no network."""
    known = sorted({row.layer for row in rows if row.kind == "network"})
    for layer in layers or ():
        if known and not any(_wanted(name, [layer]) for name in known):
            raise SettingsError(f"alignment.layers: '{layer}' is a layer of no network here.")


def read_card(path: Path) -> dict[str, Any]:
    """Read the card of a network."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return {**card, "rule": card["rule"], "architecture": card["architecture"], "seed": card["seed"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "Delete it and train again."
        raise InputError("a card with rule, architecture and seed", f"'{error}'", path, remedy) from error


@dataclass
class Models:
    """All rows, and the models (rows joined over seeds) that enter inference.

    Attributes
    ----------
    rows : list of ModelRow
        In the order of the score table; those with an RDM have a row of `vectors`.
    vectors : array of shape (n_usable, n_pairs)
    """

    rows: list[ModelRow]
    usable: list[ModelRow] = field(init=False)
    vectors: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.usable = [row for row in self.rows if row.rdm is not None]
        self.vectors = np.array([row.rdm for row in self.usable])

    def joined(self, *kinds: Kind) -> list[Model]:
        """Return the models of some kinds, joined over seeds; networks that may not be ranked are left out."""
        found: dict[str, dict[str, int]] = {}
        for index, row in enumerate(self.usable):
            if row.kind in kinds and row.ranked:
                found.setdefault(row.name, {})[row.seed] = index
        return [Model(name, rows) for name, rows in found.items()]

    def setting(self, model: Model) -> tuple[str, str, str, str]:
        """Return rule, architecture, layer and size of a model."""
        row = self.usable[next(iter(model.rows.values()))]
        return row.rule, row.architecture, row.layer, row.size
