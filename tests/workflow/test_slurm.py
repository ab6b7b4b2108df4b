"""The profile `slurm` against a real SLURM of two nodes, started on this machine for the test."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slurm, pytest.mark.timeout(1500)]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
ReturnToService=2
MinJobAge=300
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node1}-{node2}] CPUs=2 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory):
    """Start munged, slurmctld and two slurmd; yield the folder of wrappers that set SLURM_CONF."""
    # Unix sockets have short names only, and munged refuses folders that others may write to.
    folder = Path(f"/run/corticode-slurm-{os.getpid()}")
    folder.mkdir(mode=0o755)
    started = []
    try:
        started += _start(folder)
        yield _wrappers(folder)
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder):
    munge = folder / "munge"
    munge.mkdir(mode=0o700)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    for path in (munge, folder / "munge.key"):
        shutil.chown(path, "munge", "munge")
    shutil.chown(folder, "munge", "munge")
    host = socket.gethostname().split(".")[0]
    ports = {"port": 16817, "node1": 17001, "node2": 17002}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, **ports))
    (folder / "state").mkdir()
    files = {"socket": "munge.socket", "key-file": "munge.key"}
    inside = {"pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{name}={folder / file}" for name, file in files.items()]
    options += [f"--{name}={munge / file}" for name, file in inside.items()]
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    started = [subprocess.Popen(["runuser", "-u", "munge", "--", "munged", "--foreground", *options])]
    _wait(lambda: (folder / "munge.socket").exists())
    started.append(subprocess.Popen(["slurmctld", "-D", "-c"], env=environment))
    started += [subprocess.Popen(["slurmd", "-D", "-N", name], env=environment) for name in ("n1", "n2")]
    idle = ["sinfo", "--noheader", "--format=%T"]
    _wait(
        lambda: (
            subprocess.run(idle, env=environment, capture_output=True, text=True, check=False).stdout.strip() == "idle"
        )
    )
    return started


def _wait(condition, seconds=60):
    for _ in range(seconds * 10):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("SLURM did not start")


def _wrappers(folder):
    """The job step drops SLURM_CONF before a nested srun: wrappers set it first."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol", "sacct", "sacctmgr"):
        if real := shutil.which(name):
            wrapper = programs / name
            wrapper.write_text(f'#!/bin/sh\nexport SLURM_CONF={folder}/slurm.conf\nexec {real} "$@"\n')
            wrapper.chmod(0o755)
    return programs


def test_a_study_runs_on_a_cluster(slurm, new_project, tiny_study, monkeypatch):
    study = {key: tiny_study[key] for key in ("study", "seed", "data", "preprocess", "alignment", "learning")}
    study["data"] = {**study["data"], "phantom": {**study["data"]["phantom"], "story_subjects": 0, "picture_runs": 1}}
    project = new_project(study)
    monkeypatch.setenv("PATH", f"{slurm}:{os.environ['PATH']}")
    project.snakemake(
        "--workflow-profile", "workflow/profiles/slurm", "--jobs", "4", "--latency-wait", "5",
        "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5",
        "--default-resources", "mem_mb=1500", "runtime=30",
    )  # fmt: skip
    assert (project.results / "report/index.html").exists()
    assert (project.results / "verdicts.tsv").exists()
