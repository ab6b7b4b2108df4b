# What the rules share: the study, its paths, its runs, and the command of a stage.
import json
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)
# The workflow runs the library that stands beside it, also on a node and without an activated environment.
CORTICODE = f"PYTHONPATH={shlex.quote(str(workflow.basedir))} {shlex.quote(sys.executable)} -m decoders.cli"

from decoders.config import parse_settings
from decoders.errors import CorticodeError
from decoders.stages import STAGES, source_digest

try:
    STUDY = parse_settings(dict(config), workflow.configfiles[-1] if workflow.configfiles else "--config")
except CorticodeError as error:
    raise WorkflowError(str(error)) from None

RESULTS = f"results/{STUDY.study}"
NETWORKS = (
    [
        f"{rule}_{architecture}_seed-{seed}"
        for rule in STUDY.learning.rules
        for architecture in STUDY.learning.architectures
        for seed in STUDY.learning.seeds
    ]
    if STUDY.learning
    else []
)


wildcard_constraints:
    run="[A-Za-z0-9_-]+",
    subject="[A-Za-z0-9]+",
    rule="[a-z][a-z0-9_]*?",
    architecture="[a-z0-9]+",
    seed="[0-9]+",


def S(path):
    """A path below the study's results."""
    return f"{RESULTS}/{path}"


def settings(stage):
    """Exactly the settings that a stage declares, so that a change of others does not rerun it."""
    values = {}
    for key in STAGES[stage].keys:
        value = getattr(STUDY, key)
        values[key] = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    return json.dumps(values, sort_keys=True)


def source(stage):
    """The digest of the code that a stage runs: Snakemake does not see imported modules."""
    return source_digest(STAGES[stage].module)


def io(wildcards, input, output):
    """The options that name inputs, outputs and labels of a job."""
    words = []
    for flag, files in (("--input", input), ("--output", output)):
        for name, value in files.items():
            paths = [value] if isinstance(value, str) else list(value)
            words += [word for path in paths for word in (flag, f"{name}={path}")]
    for name, value in wildcards.items():
        words += ["--label", f"{name}={value}"]
    return shlex.join(words)


def runs(task=None, subject=None):
    """The runs of the manifest, once it is there."""
    from decoders.data.manifest import read_manifest, select_runs

    checkpoints.manifest.get()
    return select_runs(read_manifest(S("manifest.tsv")), subject=subject, task=task)


def row(wildcards):
    """A run's own row of the manifest: another subject's new run must not rerun this one."""
    from dataclasses import astuple

    chosen = [run for run in runs() if run.run_id == wildcards.run]
    return repr([astuple(run) for run in chosen])


def tree():
    """Names, sizes and times of a user's BIDS folder, so that a changed file renews the manifest."""
    import hashlib

    digest = hashlib.sha256()
    for folder in filter(None, (STUDY.data.root, STUDY.data.derivatives)):
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                status = path.stat()
                digest.update(f"{path}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()


def recordings(task=None, subject=None, kind="recording"):
    """The preprocessed files of the runs that hold time series."""
    chosen = [run for run in runs(task, subject) if run.modality != "rdm" and run.status == "ok"]
    return [S(f"preprocessed/{run.run_id}_{kind}.h5") for run in chosen]


def subjects(task=None):
    return sorted({run.subject for run in runs(task) if run.modality != "rdm" and run.status == "ok"})
