"""Where a BIDS study is read: the raw folder, its derivatives, and the recordings that the settings ask for."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from decoders.config import DataSettings
from decoders.data.entities import check_label
from decoders.data.sensor_files import sensor_files
from decoders.data.tree import BidsFile, Tree, read_files, read_tree
from decoders.errors import InputError

VOLUMES = (".nii.gz", ".nii")
SURFACES = (".func.gii",)
GRAYORDINATES = (".dtseries.nii",)
_log = logging.getLogger("corticode")


@dataclass(frozen=True)
class Source:
    """Where runs are read.

    Attributes
    ----------
    raw : Tree
    derived : Tree or None
        fMRIPrep-style derivatives.
    planted : Tree
        What ``derivatives/truth`` and ``derivatives/masks`` of the raw folder hold.
    root : Path
        Folder that holds both, to which the manifest's paths are relative.
    """

    raw: Tree
    derived: Tree | None
    planted: Tree
    root: Path

    def relative(self, tree: Tree, file: BidsFile | None) -> str:
        """Return the path of a file relative to the common root, "" for none."""
        if file is None:
            return ""
        return Path(os.path.relpath(tree.root / file.path, self.root)).as_posix()


def open_source(settings: DataSettings) -> Source:
    """Read the names in the raw folder and in its derivatives.

    Raises
    ------
    InputError
        A folder is missing or holds no subjects, or a name in it is not BIDS.
    """
    if settings.root is None:
        raise InputError("a BIDS folder", "none", "data.root", "Name the folder in the study.")
    raw = read_tree(settings.root)
    derived = read_tree(_derivatives(raw.root, settings.derivatives)) if settings.derivatives else None
    files = tuple(file for name in ("truth", "masks") for file in _below(raw.root, f"derivatives/{name}"))
    root = raw.root if derived is None else Path(os.path.commonpath([raw.root.resolve(), derived.root.resolve()]))
    return Source(raw, derived, Tree(raw.root, files), root)


def _below(root: Path, folder: str) -> list[BidsFile]:
    """Return the files of a folder inside the root, by their paths relative to the root."""
    found = read_files(root / folder) if (root / folder).is_dir() else ()
    return [BidsFile(f"{folder}/{file.path}", file.name) for file in found]


def _derivatives(root: Path, derivatives: str) -> Path:
    """Return the derivatives: inside the BIDS folder where there is one of that name, else as the path says."""
    inner = root / derivatives
    return inner if inner.is_dir() else Path(derivatives)


def find_recordings(source: Source, settings: DataSettings) -> tuple[list[BidsFile], list[BidsFile]]:
    """Return the images, and the MEG and EEG recordings, that the settings ask for.

    Raises
    ------
    InputError
        There are none; a subject, session, task or space of the settings is not among them; the
        derivatives are in several spaces and the settings name none.
    """
    tree, sensors = source.derived or source.raw, sensor_files(source.raw)
    found = _images(source, settings)
    if not found and (source.derived is not None or not sensors):
        kind = "preprocessed images (desc-preproc_bold, hemi-L/R_bold.func.gii or bold.dtseries.nii)"
        raw = "recordings named sub-<label>_task-<label>_meg.fif or images named sub-<label>_task-<label>_bold.nii.gz"
        expected = kind if source.derived else raw
        raise InputError(expected, "none", tree.root, "Check the folder, and that its files were downloaded.")
    chosen = found + sensors
    for key, name, wanted in (
        ("sub", "subjects", settings.subjects),
        ("ses", "sessions", settings.sessions),
        ("task", "tasks", settings.tasks),
    ):
        chosen = _filter(chosen, key, name, wanted, tree.root)
    kept = set(map(id, chosen))
    return [file for file in found if id(file) in kept], [file for file in sensors if id(file) in kept]


def _images(source: Source, settings: DataSettings) -> list[BidsFile]:
    if source.derived is None:
        return _raw_images(source.raw)
    _log.info("Reading the derivatives in %s in place of the raw images in %s.", source.derived.root, source.raw.root)
    images = _derived_images(source.derived)
    return _one_space(images, settings.space, source.derived.root) if images else []


def _raw_images(tree: Tree) -> list[BidsFile]:
    found = [file for file in tree.find("bold", *VOLUMES) if file.name.get("part") in ("", "mag")]
    for file in found:
        if file.name.get("echo"):
            remedy = "Combine the echoes first (fMRIPrep does) and set data.derivatives."
            raise InputError("one image per run", "several echoes", tree.root / file.path, remedy)
    return found


def _derived_images(tree: Tree) -> list[BidsFile]:
    volumes = [file for file in tree.find("bold", *VOLUMES) if file.name.get("desc") == "preproc"]
    surfaces = tree.find("bold", *SURFACES, *GRAYORDINATES)
    finished = [file for file in surfaces if file.name.get("desc") in ("", "preproc")]
    return [file for file in volumes + finished if not file.name.get("echo")]


def _one_space(files: list[BidsFile], space: str | None, root: Path) -> list[BidsFile]:
    spaces = sorted({file.name.get("space") for file in files})
    named = ", ".join(name or "(the run's own)" for name in spaces)
    if space is None and len(spaces) > 1:
        raise InputError("derivatives in one space", named, root, "Choose one with data.space ('' for the run's own).")
    if space is not None and space not in spaces:
        raise InputError(f"derivatives in the space '{space}'", named or "none", root, "Correct data.space.")
    return [file for file in files if space is None or file.name.get("space") == space]


def _filter(
    files: list[BidsFile], key: str, setting: str, wanted: tuple[str, ...] | None, root: Path
) -> list[BidsFile]:
    if wanted is None:
        return files
    present = {file.name.get(key) for file in files}
    for label in wanted:
        check_label(label, key, f"data.{setting}")
        if label not in present:
            there = ", ".join(sorted(present - {""})) or "none"
            raise InputError(f"the label '{label}'", there, root, f"Correct data.{setting} in the study.")
    return [file for file in files if file.name.get(key) in wanted]
