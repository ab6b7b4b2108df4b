"""The stage ``simulate``: the phantom as a BIDS folder, whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate.write import PHANTOM_NAME, write_phantom
from decoders.stage import Job


def run(job: Job) -> None:
    """Write the phantom of the study's settings."""
    settings = job.settings.data.phantom or PhantomSettings()
    with whole_folder(job.outputs["bids"]) as folder:
        write_phantom(folder, settings, job.settings.data.mirror)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` on success.

    An older phantom there is replaced. Anything else is left alone.

    Raises
    ------
    InputError
        `path` exists and is no phantom.
    """
    path = Path(path)
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as name:
        folder = Path(name) / path.name
        folder.mkdir()
        yield folder
        if path.exists():
            path.rename(Path(name) / "replaced")
        folder.rename(path)


def _check_replaceable(path: Path) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        name = json.loads((path / "dataset_description.json").read_text(encoding="utf-8"))["Name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if name != PHANTOM_NAME:
        found = f"a folder of the name '{name}'" if name else "other files"
        remedy = "Choose another folder, or move it away."
        raise InputError("an older phantom, or nothing, where the phantom is written", found, path, remedy)
