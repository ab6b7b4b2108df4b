"""A BIDS folder read once: its file names, and what applies to a file by inheritance."""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from decoders.data.entities import BidsName, check_label, parse_name
from decoders.errors import InputError

# Deeper than any BIDS folder; also ends a loop of links.
_MAX_DEPTH = 8
# Names that no BIDS reader could place are refused among these, and of no interest elsewhere.
_OF_INTEREST = re.compile(
    r"_(bold|events|timeseries|regressors|mask|statmap|dseg|meg|eeg|channels|electrodes|headshape|markers|headpos)(\.|$)"
)
# Folders that are one recording: CTF, and those of BTi and KIT.
_RECORDING = re.compile(r"sub-.*_meg(\.ds)?")
_OTHER_FOLDERS = {"derivatives", "sourcedata", "code", "stimuli", "rawdata"}


@dataclass(frozen=True)
class BidsFile:
    """A file of a BIDS folder: its path relative to the folder, and its parts."""

    path: str
    name: BidsName


@dataclass(frozen=True)
class Tree:
    """The BIDS files of a folder, by path."""

    root: Path
    files: tuple[BidsFile, ...]

    @cached_property
    def _index(self) -> dict[tuple[str, str], list[BidsFile]]:
        index: dict[tuple[str, str], list[BidsFile]] = defaultdict(list)
        for file in self.files:
            index[file.name.suffix, file.name.extension].append(file)
        return index

    def find(self, suffix: str, *extensions: str) -> list[BidsFile]:
        """Return the files of a suffix and any of some extensions."""
        return [file for extension in extensions for file in self._index.get((suffix, extension), [])]

    def inherited(self, target: BidsFile, suffix: str, extension: str) -> list[BidsFile]:
        """Return the files that apply to another by inheritance, the most general first.

        A file applies when it lies in the same folder or above, and all of its entities are those of
        the target (BIDS, "the inheritance principle").
        """
        folder = PurePosixPath(target.path).parent
        found = [
            file
            for file in self.find(suffix, extension)
            if file.name.applies_to(target.name) and folder.is_relative_to(PurePosixPath(file.path).parent)
        ]
        return sorted(found, key=lambda file: (len(PurePosixPath(file.path).parts), len(file.name.entities), file.path))

    def nearest(self, target: BidsFile, suffix: str, extension: str) -> BidsFile | None:
        """Return the one file that applies most closely, None where there is none.

        Raises
        ------
        InputError
            Two files apply equally closely.
        """
        found = self.inherited(target, suffix, extension)
        if len(found) > 1 and _closeness(found[-1]) == _closeness(found[-2]):
            refuse_two(found[-2].path, found[-1].path, self.root / target.path)
        return found[-1] if found else None


def _closeness(file: BidsFile) -> tuple[int, int]:
    return len(PurePosixPath(file.path).parts), len(file.name.entities)


def refuse_two(first: str, second: str, where: str | Path) -> None:
    """Refuse two files that claim the same run."""
    found = f"two that claim it: {first} and {second}"
    raise InputError("one file per run", found, where, "Remove or rename one of them.")


def read_tree(root: str | Path) -> Tree:
    """Read the names in a BIDS folder, without its ``derivatives``.

    The names of functional images, their tables, masks and sidecars must be BIDS names. Names that do
    not begin with ``sub-`` count only where they may be inherited (``task-story_bold.json``). Links are
    followed, as data sets on clusters and of DataLad are made of them.

    Raises
    ------
    InputError
        No such folder; no subject in it; a label or name that is not BIDS; a subject's file in the
        folder of another.
    """
    root = Path(root)
    if not root.is_dir():
        remedy = "Correct data.root (or data.derivatives) in the study."
        raise InputError("a BIDS folder", "no such folder", root, remedy)
    files = read_files(root)
    if not any(file.path.startswith("sub-") for file in files):
        remedy = "Point data.root to the folder that holds sub-01, sub-02, …"
        raise InputError("folders named sub-<label> with files in them", "none", root, remedy)
    return Tree(root, files)


def read_files(root: Path) -> tuple[BidsFile, ...]:
    """Return the BIDS files of a folder, which may be none."""
    return tuple(file for path in _walk(root) if (file := _bids_file(root, path)) is not None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder to look into: not one that is a recording."""
    return entry.is_dir() and _RECORDING.fullmatch(entry.name) is None


def _walk(root: Path) -> Iterator[str]:
    """Yield the paths of files, relative to the root, in a fixed order; hidden ones are left out."""
    waiting = [(0, root)]
    while waiting:
        depth, folder = waiting.pop()
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name, reverse=True)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry) and depth < _MAX_DEPTH and (depth or entry.name not in _OTHER_FOLDERS):
                waiting.append((depth + 1, Path(entry.path)))
        yield from sorted(
            Path(entry.path).relative_to(root).as_posix()
            for entry in entries
            if not entry.name.startswith(".") and not _is_folder(entry)
        )


def _bids_file(root: Path, path: str) -> BidsFile | None:
    parts = PurePosixPath(path).parts
    folder = parts[0] if len(parts) > 1 else ""
    if folder.startswith("sub-"):
        check_label(folder.removeprefix("sub-"), "sub", root / folder)
    if len(parts) > 2 and parts[1].startswith("ses-"):
        check_label(parts[1].removeprefix("ses-"), "ses", root / folder / parts[1])
    if not parts[-1].startswith("sub-"):
        return _general(path) if len(parts) == 1 or folder.startswith("sub-") else None
    if not _OF_INTEREST.search(parts[-1]):
        return None
    name = parse_name(root / path)
    if folder.startswith("sub-") and folder != f"sub-{name.get('sub')}":
        remedy = "Move it to the folder of its subject, or rename it."
        raise InputError(f"files of {folder}", f"one of sub-{name.get('sub')}", root / path, remedy)
    return BidsFile(path, name)


def _general(path: str) -> BidsFile | None:
    """Return a file for several subjects, such as task-story_bold.json; None for README and the like."""
    try:
        name = parse_name(path)
    except InputError:
        return None
    return BidsFile(path, name) if name.extension in (".json", ".tsv") else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        The file is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError("a JSON object", f"'{error}'", path, "Correct the file.") from error
    if not isinstance(value, dict):
        raise InputError("a JSON object", f"a {type(value).__name__}", path, "Correct the file.")
    return value


def metadata(tree: Tree, target: BidsFile) -> tuple[dict[str, Any], str]:
    """Return the metadata of an image and the closest sidecar that states its repetition time ("" if none)."""
    values: dict[str, Any] = {}
    stating = ""
    for file in tree.inherited(target, target.name.suffix, ".json"):
        found = read_json(tree.root / file.path)
        stating = file.path if "RepetitionTime" in found else stating
        values.update(found)
    return values, stating


def repetition_time(values: dict[str, Any], where: Path) -> float:
    """Return the repetition time in seconds.

    Raises
    ------
    InputError
        It is no number of seconds between 0 and 100 (milliseconds, most likely).
    """
    found = values.get("RepetitionTime")
    number = not isinstance(found, bool) and isinstance(found, int | float) and math.isfinite(found)
    if not number or not 0 < found < 100:  # type: ignore[operator]
        remedy = "Correct the sidecar; BIDS states it in seconds, not milliseconds."
        raise InputError("a RepetitionTime in seconds, above 0 and below 100", repr(found), where, remedy)
    return float(found)  # type: ignore[arg-type]
