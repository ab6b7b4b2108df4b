"""What every job shares: settings slice, seed, threads, log, provenance.

A stage is a module with a function ``run(job)``; its row in ``decoders/stages.py`` names the
settings that it may read. The job carries no more than those.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import platform
import resource
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from decoders.config import StudySettings, pick
from decoders.errors import CorticodeError, InputError
from decoders.stages import STAGES, stage_digest
from decoders.store.atomic import sha256_of
from decoders.store.tables import write_json

_PACKAGES = (
    "numpy", "scipy", "pandas", "torch", "scikit-learn", "nilearn", "nibabel", "mne", "h5py", "rsatoolbox",
    "himalaya", "snakemake",
)  # fmt: skip


class SettingsSlice:
    """The settings that a stage declared, by attribute; reading any other is an error."""

    def __init__(self, stage: str, values: Mapping[str, Any]) -> None:
        self.stage, self.values = stage, dict(values)

    def __getattr__(self, key: str) -> Any:
        values = self.__dict__["values"]
        if key in values:
            return values[key]
        block = {name.removeprefix(key + "."): value for name, value in values.items() if name.startswith(key + ".")}
        if block:
            return SettingsSlice(self.stage, block)
        raise AttributeError(f"this stage did not declare the setting '{key}', only {sorted(values)}")

    @classmethod
    def of(cls, stage: str, study: StudySettings, member: str | None = None) -> SettingsSlice:
        """Take from a study what a stage may read; for a stage with a family, what its `member` may read."""
        values = {key: pick(study, key) for key in STAGES[stage].keys}
        for key in STAGES[stage].by_member if member is not None else ():
            values[key] = {name: value for name, value in values[key].items() if name == member}
        return cls(stage, values)

    def changed(self, **values: Any) -> SettingsSlice:
        """Return the same settings with other values of some that were declared.

        Raises
        ------
        KeyError
            A setting that was not declared.
        """
        if unknown := set(values) - set(self.values):
            raise KeyError(f"this stage did not declare the settings {sorted(unknown)}")
        return SettingsSlice(self.stage, {**self.values, **values})

    def dump(self) -> dict[str, Any]:
        """Return the settings as JSON holds them."""
        return {key: _plain(value) for key, value in self.values.items()}


@dataclass(frozen=True)
class Job:
    """One call of a stage.

    Attributes
    ----------
    settings : SettingsSlice
        Attribute access to the declared top-level settings.
    inputs : mapping of str to list of Path
    outputs : mapping of str to Path
    labels : mapping of str to str
        What this job is about (run, subject, rule, …): Snakemake's wildcards.
    seed : int
        Seed of the study.
    log : Logger
    """

    settings: SettingsSlice
    inputs: Mapping[str, list[Path]]
    outputs: Mapping[str, Path]
    labels: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("corticode"))

    def input(self, name: str) -> Path:
        """Return the one input of that name."""
        paths = self.inputs.get(name, [])
        if len(paths) != 1:
            remedy = f"Give --input {name}=PATH once."
            raise InputError(f"one input '{name}'", f"{len(paths)}", "the command line", remedy)
        return paths[0]

    def rng(self, *keys: str | int) -> np.random.Generator:
        """Return a generator that depends on the seed and the keys alone, not on the order of calls."""
        words = [zlib.crc32(str(key).encode()) for key in keys]
        return np.random.default_rng([self.seed, *words])

    def torch_seed(self, *keys: str | int) -> int:
        """Return a seed for torch that depends on the study's seed and the keys alone."""
        return int(self.rng("torch", *keys).integers(2**31))


def run_stage(
    settings: SettingsSlice,
    inputs: Mapping[str, list[Path]],
    outputs: Mapping[str, Path],
    labels: Mapping[str, str] | None = None,
    log: logging.Logger | None = None,
) -> None:
    """Run one stage with its threads fixed and write a provenance file beside every output.

    Raises
    ------
    CorticodeError
        Whatever the stage finds wrong, or an output that it did not write.
    """
    name = settings.stage
    start_wall, start_cpu = time.perf_counter(), time.process_time()
    module = import_module(STAGES[name].module)
    # After the import: the pools of the libraries that it loaded are then there to be limited.
    fix_threads(settings.threads)
    log = log or logging.getLogger("corticode")
    job = Job(settings, dict(inputs), dict(outputs), dict(labels or {}), settings.values.get("seed", 0), log)
    module.run(job)
    missing = [str(path) for path in outputs.values() if not Path(path).exists()]
    if missing:
        raise CorticodeError(f"The stage '{name}' did not write {', '.join(missing)}. Please report this defect.")
    record = _record(job, time.perf_counter() - start_wall, time.process_time() - start_cpu)
    for path in outputs.values():
        if Path(path).is_file():
            write_json(provenance_path(path), {**record, "sha256": sha256_of(path)})


def provenance_path(path: str | Path) -> Path:
    """Return the name of the provenance file of an artefact: ``<name>.prov.json`` beside it."""
    path = Path(path)
    return path.with_name(path.name + ".prov.json")


def fix_threads(threads: int) -> None:
    """Set the number of numerical threads of BLAS, OpenMP and torch, for libraries loaded now or later."""
    import threadpoolctl

    for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[key] = str(threads)
    threadpoolctl.threadpool_limits(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def _record(job: Job, wall: float, cpu: float) -> dict[str, Any]:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "stage": job.settings.stage,
        "labels": dict(job.labels),
        "settings": job.settings.dump(),
        "source_digest": stage_digest(job.settings.stage, job.labels.get("rule", "")),
        "inputs": {key: [_input_record(path) for path in paths] for key, paths in job.inputs.items()},
        "packages": package_versions(),
        "python": platform.python_version(),
        "host": {"system": platform.platform(), "user": hashlib.sha256(getpass.getuser().encode()).hexdigest()[:8]},
        "wall_seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "peak_mb": round(peak_kib / 1024, 1),
    }


def _input_record(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": sha256_of(path) if path.is_file() else "n/a"}


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on, as far as they are installed."""
    versions = {}
    for package in ("corticode", *_PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return versions
