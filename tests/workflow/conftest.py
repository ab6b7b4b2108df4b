"""A tiny study that goes the whole path, in a copy of the project that tests may edit."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "study": "tiny",
    "seed": 1,
    "data": {
        "source": "phantom",
        "phantom": {
            "grid": [8, 10, 8], "r0": 0.5, "story_subjects": 1, "story_runs": 4, "picture_subjects": 3,
            "picture_runs": 2, "n_pictures": 12, "text": "embedded_en", "seed": 5,
        },
    },
    "preprocess": {"estimates": "lsa"},
    "decoding": {
        "voxels": {"task": "story", "test_runs": 1, "epochs": 3, "folds": 3, "n_null_gates": 1},
        "free_text": {"width": 4, "epochs": 1, "max_words": 40},
    },
    "learning": {
        "rules": ["untrained", "backprop"], "seeds": [0], "sizes": [32],
        "training": {"dataset": "phantom", "n_train": 128, "n_test": 64, "epochs": 1},
    },
    "alignment": {
        "task": "pictures", "n_bootstrap": 50,
        "regions": {
            name: f"derivatives/truth/sub-{{subject}}/anat/sub-{{subject}}_label-{name}_mask.nii.gz"
            for name in ("early", "late")
        },
    },
}  # fmt: skip


@dataclass
class Project:
    """A copy of the project with a study in it."""

    root: Path

    def snakemake(self, *options: str, cores: int = 2, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*self.command(cores), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.root / "cache")}
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, env=environment, check=False)
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return done

    def command(self, cores: int) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", "study.yaml"]

    def planned(self, *options: str) -> set[str]:
        """The rules that a dry run would run."""
        lines = self.snakemake("--dry-run", *options).stdout.splitlines()
        names = {
            line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "checkpoint ", "localrule "))
        }
        return names - {"all"}

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"


def make_project(folder: Path, study: dict | None = None) -> Project:
    folder.mkdir(exist_ok=True)
    for name in ("Snakefile", "workflow", "config", "decoders", "profiles"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / "study.yaml").write_text(yaml.safe_dump(study or TINY))
    return Project(folder)


@pytest.fixture(scope="session")
def build():
    """Return `make_project`."""
    return make_project


@pytest.fixture(scope="session")
def tiny_study() -> dict:
    return TINY


@pytest.fixture
def new_project(tmp_path):
    """Return a function that makes a fresh copy of the project with a study (the tiny one by default)."""

    def make(study: dict | None = None) -> Project:
        return make_project(tmp_path / "project", study)

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The tiny study, run to its end on two cores. Tests must not change it."""
    project = make_project(tmp_path_factory.mktemp("finished"))
    project.snakemake()
    return project


@pytest.fixture
def copy_of_finished(finished, tmp_path) -> Project:
    """A copy of the finished study, with the times of its files, that a test may change."""
    shutil.copytree(finished.root, tmp_path / "copy", copy_function=shutil.copy2)
    return Project(tmp_path / "copy")
