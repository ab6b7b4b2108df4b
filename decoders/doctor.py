"""What this machine has, and what stands in the way of a run."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from decoders.stage import package_versions

_FREE_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what, found : str
    good : bool
        Whether a study can run with it.
    remedy : str
        What to do where it is not good.
    """

    what: str
    found: str
    good: bool = True
    remedy: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.good else "FAIL"
        return f"{mark} {self.what}: {self.found}" + (f". {self.remedy}" if self.remedy and not self.good else "")


def examine(folder: str | Path = ".") -> list[Finding]:
    """Look at Python, packages, cores, memory, disk, the mirror and Snakemake's lock in `folder`."""
    folder = Path(folder)
    return [_python(), *_packages(), _cores(), _disk(folder), _mirror(), _lock(folder), _gpu()]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", found, sys.version_info >= (3, 11), "Corticode needs Python 3.11 or newer.")


def _packages() -> list[Finding]:
    remedy = "Run `make demo`, or `pip install -c constraints.txt -e .`"
    return [Finding(name, version, version != "absent", remedy) for name, version in package_versions().items()]


def _cores() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("cores and memory", f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    return Finding("disk", f"{free:.0f} GB free in {folder.resolve().name}", free > _FREE_GB, "Free some space.")


def _mirror() -> Finding:
    mirror = os.environ.get("CORTICODE_MIRROR")
    if not mirror:
        return Finding("mirror", "none: registered data are downloaded")
    return Finding("mirror", mirror, Path(mirror).is_dir(), "CORTICODE_MIRROR names a folder that is not there.")


def _lock(folder: Path) -> Finding:
    """Find the lock that a killed run leaves behind; Snakemake itself cannot tell it from a running one."""
    locks = list(folder.glob(".snakemake/locks/*.lock"))
    remedy = "If no other snakemake runs in this folder, a killed run left it: `snakemake --unlock`."
    return Finding("Snakemake's lock", f"{len(locks)} lock files" if locks else "none", not locks, remedy)


def _gpu() -> Finding:
    import torch

    return Finding("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none: CPU is used")
