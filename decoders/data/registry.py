"""The registry of public data sets: where their files come from, what they must be, whose they are.

Nothing of them ships with Corticode. `fetch` returns a folder with verified files: of the mirror
where there is one, else of the user's cache, into which it downloads what is missing.
"""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache as memoize
from importlib.resources import files as package_files
from pathlib import Path
from typing import Literal

from decoders.data.download import default_cache, download
from decoders.data.manifest import inside
from decoders.data.recipes import RECIPES
from decoders.errors import InputError, IntegrityError
from decoders.store.atomic import atomic_path, sha256_of

MIRROR_VARIABLE = "CORTICODE_MIRROR"
FILE_COLUMNS = ("entry", "path", "kind", "sha256", "size", "url", "recipe", "origin")
_log = logging.getLogger("corticode")
# Verified in this process: path, size and time of change -> checksum.
_verified: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class RegisteredFile:
    """A file of an entry.

    Attributes
    ----------
    path : str
        Relative to the entry's folder.
    kind : {"raw", "derived", "official"}
        raw: byte for byte from `url`. derived: made from other material as `origin` says, by our
        `recipe` where there is one, else read from a mirror only. official: what a user gets in place
        of the derived files that have no recipe, from `url` or by our `recipe`.
    sha256 : str
    size : int
        Bytes.
    url : str
        Pinned address; empty for derived files.
    recipe : str
        Name in `decoders.data.recipes` of what makes the file.
    origin : str
        What a derived file is made from.
    """

    path: str
    kind: Literal["raw", "derived", "official"]
    sha256: str
    size: int
    url: str = ""
    recipe: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Entry:
    """A registered data set: its files, licence and citation."""

    name: str
    title: str
    licence: str
    citation: str
    note: str
    files: tuple[RegisteredFile, ...]

    def needed(self, official: bool) -> list[RegisteredFile]:
        """Return the files of a whole data set: with the official files, or with the derived ones in their place."""
        if official and any(file.kind == "official" for file in self.files):
            return [file for file in self.files if file.kind != "derived" or file.recipe]
        return [file for file in self.files if file.kind != "official"]


@dataclass(frozen=True)
class Registry:
    """Entries by name, and replacements of the start of their addresses (tests, proxies)."""

    entries: Mapping[str, Entry]
    bases: Mapping[str, str] = field(default_factory=dict)

    def entry(self, name: str) -> Entry:
        """Return an entry by name."""
        if name not in self.entries:
            known = ", ".join(sorted(self.entries))
            raise InputError("a registered data set", f"'{name}'", "data.name", f"Registered are: {known}.")
        return self.entries[name]

    def address(self, url: str) -> str:
        """Return the address that is asked for `url`."""
        for start, replacement in self.bases.items():
            if url.startswith(start):
                return replacement + url.removeprefix(start)
        return url


def load_registry() -> Registry:
    """Read the registry that ships with the package."""
    folder = package_files("decoders.data")
    texts = json.loads((folder / "entries.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((folder / "files.tsv").read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    return Registry({name: parse_entry(name, text, rows) for name, text in texts.items()})


def parse_entry(name: str, text: Mapping[str, str], rows: list[dict[str, str]]) -> Entry:
    """Build an entry from its texts and the rows of the table of files."""
    found = tuple(
        RegisteredFile(
            inside(row["path"], name),
            _kind(row["kind"]),
            row["sha256"],
            int(row["size"]),
            row["url"],
            row["recipe"],
            row["origin"],
        )
        for row in rows
        if row["entry"] == name
    )
    return Entry(name, text["title"], text["licence"], text["citation"], text["note"], found)


def _kind(value: str) -> Literal["raw", "derived", "official"]:
    if value not in ("raw", "derived", "official"):
        raise InputError("raw, derived or official", f"'{value}'", "files.tsv", "Correct the registry.")
    return value  # type: ignore[return-value]


@memoize
def registry() -> Registry:
    """Return the shipped registry, read once."""
    return load_registry()


def names() -> list[str]:
    """Return the names of the registered data sets."""
    return sorted(registry().entries)


def mirror_folder(mirror: str | Path | None = None) -> Path | None:
    """Return the mirror: the setting `data.mirror`, else the environment's CORTICODE_MIRROR, else None."""
    value = str(mirror) if mirror else os.environ.get(MIRROR_VARIABLE, "")
    return Path(value).expanduser() if value else None


def fetch(
    name: str,
    mirror: str | Path | None = None,
    cache: str | Path | None = None,
    source: Registry | None = None,
) -> Path:
    """Return the folder of a registered data set, every file verified by its SHA-256.

    Parameters
    ----------
    name : str
        Name of the entry.
    mirror : str or Path, optional
        Folder with one sub-folder per entry that is read in place of the network; the environment
        variable CORTICODE_MIRROR says the same.
    cache : str or Path, optional
        Where downloads go; the user's cache folder when absent.
    source : Registry, optional
        The shipped registry when absent.

    Raises
    ------
    InputError
        No such entry; a file is missing in the mirror; a file cannot be downloaded.
    IntegrityError
        A file is not the registered one.
    """
    source = source or registry()
    entry = source.entry(name)
    folder = mirror_folder(mirror)
    if folder is not None:
        return _verify_mirror(entry, folder / name)
    return _complete_cache(entry, Path(cache or default_cache()) / name, source)


def _verify_mirror(entry: Entry, folder: Path) -> Path:
    if not folder.is_dir():
        remedy = f"Point data.mirror or {MIRROR_VARIABLE} to the folder above, or unset both to download."
        raise InputError(f"the data set '{entry.name}' in the mirror", "no such folder", folder, remedy)
    # A mirror may also be a copy of somebody's cache, with the official files.
    official = all((folder / file.path).is_file() for file in entry.needed(official=True))
    for file in entry.needed(official):
        path = folder / file.path
        if not path.is_file():
            raise InputError("a file of the mirror", "no such file", path, _origin_sentence(file))
        verify_file(path, file.sha256)
    return folder


def _complete_cache(entry: Entry, folder: Path, source: Registry) -> Path:
    needed = entry.needed(official=True)
    missing = [file for file in needed if not (folder / file.path).is_file()]
    derived = [file for file in missing if file.kind == "derived" and not file.recipe]
    if derived:
        # Before any download: half a data set would be of no use.
        raise InputError(
            f"the derived file {derived[0].path} of '{entry.name}'",
            "no address to download it from",
            folder / derived[0].path,
            _origin_sentence(derived[0]),
        )
    if missing:
        _log.info("downloading %d files of %s. %s Cite: %s", len(missing), entry.name, entry.licence, entry.citation)
    for file in needed:
        path = folder / file.path
        if not path.is_file():
            _obtain(file, path, source)
        verify_file(path, file.sha256)
    return folder


def _obtain(file: RegisteredFile, path: Path, source: Registry) -> None:
    if file.recipe:
        with atomic_path(path) as temporary:
            RECIPES[file.recipe](temporary, source.address)
            verify_file(temporary, file.sha256)
    else:
        download(source.address(file.url), path, file.sha256)


def _origin_sentence(file: RegisteredFile) -> str:
    if file.kind == "raw":
        return f"It comes from {file.url} (SHA-256 {file.sha256})."
    return (
        f"It is derived: {file.origin} Corticode does not make it here; put a copy (SHA-256 {file.sha256}) "
        f"into a mirror folder as <mirror>/<data set>/{file.path} and set {MIRROR_VARIABLE}."
    )


def verify_file(path: Path, sha256: str) -> None:
    """Compare a file with its checksum; within a process, an unchanged file is read once.

    Raises
    ------
    IntegrityError
        The file is not the registered one.
    """
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _verified:
        _verified[key] = sha256_of(path)
    if _verified[key] != sha256:
        remedy = "The file was changed or damaged: delete it and fetch it again."
        raise IntegrityError(f"the SHA-256 {sha256[:12]}…", f"{_verified[key][:12]}…", path, remedy)


def describe(name: str, source: Registry | None = None) -> str:
    """Return title, licence, citation and notes of an entry, as text."""
    entry = (source or registry()).entry(name)
    needed = entry.needed(official=True)
    size = sum(file.size for file in needed) / 1e6
    lines = [
        f"{entry.name}: {entry.title}",
        f"  Files: {len(needed)}, {size:.1f} MB",
        f"  Licence: {entry.licence}",
        f"  Cite: {entry.citation}",
    ]
    return "\n".join([*lines, f"  Note: {entry.note}"] if entry.note else lines)
