"""What every benchmark writes: figures, command, versions and commit, as JSON under benchmarks/results."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from decoders.stage import package_versions
from decoders.store.tables import write_json

FOLDER = Path(__file__).resolve().parent / "results"


def write_result(name: str, command: str, figures: dict[str, Any]) -> Path:
    """Write one benchmark's result and return its path."""
    path = FOLDER / f"{name}.json"
    machine = {"processor": platform.machine(), "python": platform.python_version()}
    record = {"command": command, "figures": figures, "versions": package_versions(), "machine": machine}
    write_json(path, {**record, "commit": commit()})
    return path


def commit() -> str:
    """Return the commit of the working tree, with '+' when it has changes outside benchmarks/results."""
    run = {"capture_output": True, "text": True, "check": False, "cwd": Path(__file__).parent}
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **run).stdout.strip()
    changes = subprocess.run(["git", "status", "--porcelain", "--", ":!results", ".."], **run).stdout.strip()
    return name + ("+" if changes else "")
