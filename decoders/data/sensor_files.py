"""Which files of a BIDS folder are MEG and EEG recordings of people, and which of an empty room."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from decoders.data.raw_files import EEG_ENDINGS, MEG_ENDINGS
from decoders.data.tree import BidsFile, Tree, read_json

# Files of the suffix meg that are no recordings, and tasks whose recordings hold no person.
_OF_SYSTEM = ("calibration", "crosstalk")
EMPTY_ROOM = "emptyroom"
NOISE_TASKS = ("noise", EMPTY_ROOM)


def sensor_files(tree: Tree) -> list[BidsFile]:
    """Return the MEG and EEG recordings of people, without empty rooms and files of the system."""
    empty = set(_associated(tree))
    return [
        file
        for file in recordings(tree)
        if file.path not in empty
        and file.name.get("sub") != EMPTY_ROOM
        and file.name.get("task").lower() not in NOISE_TASKS
    ]


def recordings(tree: Tree) -> list[BidsFile]:
    """Return all MEG and EEG recordings, empty rooms too."""
    found = tree.find("meg", *MEG_ENDINGS) + tree.find("eeg", *EEG_ENDINGS)
    return [file for file in found if file.name.get("acq") not in _OF_SYSTEM]


def empty_rooms(tree: Tree, sidecar: BidsFile) -> list[str]:
    """Return the paths in AssociatedEmptyRoom: relative to the data set, or BIDS URIs; the first of several."""
    value: Any = read_json(tree.root / sidecar.path).get("AssociatedEmptyRoom")
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, str) or not value.strip():
        return []
    return [PurePosixPath(value.strip().removeprefix("bids::").lstrip("/")).as_posix()]


def _associated(tree: Tree) -> list[str]:
    return [name for sidecar in tree.find("meg", ".json") for name in empty_rooms(tree, sidecar)]
