"""File names of the Brain Imaging Data Structure: entities, suffix, extension (BIDS 1.10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from decoders.errors import InputError

# In the order in which BIDS writes them; others keep the order of the file name, before `desc`.
ENTITIES = (
    "sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part", "hemi", "space", "res", "den", "desc",
)  # fmt: skip
LABEL = re.compile(r"[A-Za-z0-9]+(\+[A-Za-z0-9]+)*")
_KEY = re.compile(r"[A-Za-z0-9]+")
_ENDING = re.compile(r"(?P<suffix>[A-Za-z0-9]+)(?P<extension>(\.[A-Za-z0-9]+)*)")


@dataclass(frozen=True)
class BidsName:
    """A BIDS file name in its parts.

    Attributes
    ----------
    entities : dict of str to str
        Key to label, e.g. ``{"sub": "01", "task": "story"}``.
    suffix : str
        e.g. ``bold``.
    extension : str
        With its dots, e.g. ``.nii.gz``.
    """

    entities: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    extension: str = ""

    def get(self, key: str) -> str:
        """Return the label of an entity, "" where it has none."""
        return self.entities.get(key, "")

    def without(self, *keys: str) -> BidsName:
        """Return the name without some entities."""
        kept = {key: label for key, label in self.entities.items() if key not in keys}
        return BidsName(kept, self.suffix, self.extension)

    def applies_to(self, other: BidsName) -> bool:
        """Whether all entities of this name are those of another: the rule of inheritance."""
        return all(other.get(key) == label for key, label in self.entities.items())


def parse_name(path: str | Path) -> BidsName:
    """Take a BIDS file name apart.

    Raises
    ------
    InputError
        It is none: a label holds other characters than letters, digits and ``+``, an entity comes
        twice, or the suffix is missing.
    """
    name = Path(path).name
    *pairs, ending = name.split("_")
    match = _ENDING.fullmatch(ending)
    if match is None:
        raise _refusal(path, f"'{ending}' at the end")
    entities: dict[str, str] = {}
    for pair in pairs:
        key, dash, label = pair.partition("-")
        if not dash or not _KEY.fullmatch(key) or not LABEL.fullmatch(label):
            raise _refusal(path, f"'{pair}'")
        if key in entities:
            raise _refusal(path, f"the entity '{key}' twice")
        entities[key] = label
    return BidsName(entities, match["suffix"], match["extension"])


def format_name(name: BidsName) -> str:
    """Put a BIDS file name together, entities in the order of the standard."""
    known = [key for key in ENTITIES if key in name.entities]
    others = [key for key in name.entities if key not in ENTITIES]
    ordered = [key for key in known if key != "desc"] + others + [key for key in known if key == "desc"]
    return "_".join([*(f"{key}-{name.entities[key]}" for key in ordered), name.suffix + name.extension])


def check_label(label: str, key: str, where: str | Path) -> str:
    """Return a label if BIDS allows it.

    Raises
    ------
    InputError
        It holds other characters than letters, digits and ``+``.
    """
    if not LABEL.fullmatch(label):
        hint = f"Leave '{key}-' out. " if label.startswith(f"{key}-") else ""
        remedy = f"{hint}Rename it: no spaces, dots, dashes or underscores."
        raise InputError(f"a BIDS label of letters and digits for '{key}'", f"'{label}'", where, remedy)
    return label


def _refusal(path: str | Path, found: str) -> InputError:
    return InputError(
        "a BIDS file name: key-label pairs of letters and digits joined by '_', then a suffix",
        found,
        path,
        "Rename the file, e.g. sub-01_task-story_run-01_bold.nii.gz.",
    )
