"""What all tests share: the mirror of the public data, and the promise that CI skips nothing but GPU tests."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("corticode", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("corticode")

ROOT = Path(__file__).resolve().parents[1]


def _reasons() -> dict[str, str]:
    """Return what this machine lacks, by marker."""
    lacks = {}
    if not Path(os.environ.get("CORTICODE_MIRROR", "/nonexistent")).is_dir():
        lacks["mirror"] = "CORTICODE_MIRROR names no folder with the public data"
    if not Path(os.environ.get("CORTICODE_CHROMIUM", "/usr/bin/chromium")).exists():
        lacks["browser"] = "no chromium (set CORTICODE_CHROMIUM)"
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        lacks["slurm"] = "no slurmctld, or not root"
    return lacks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacks = _reasons()
    strict = os.environ.get("CORTICODE_NO_SKIPS") == "1"
    if strict and lacks:
        raise pytest.UsageError(f"CORTICODE_NO_SKIPS is set, but tests would be skipped: {lacks}")
    for item in items:
        for marker in item.iter_markers():
            if marker.name in lacks:
                item.add_marker(pytest.mark.skip(reason=lacks[marker.name]))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Return the folder of the public data (use with the marker `mirror`)."""
    return Path(os.environ["CORTICODE_MIRROR"])


@pytest.fixture
def project_root() -> Path:
    return ROOT
