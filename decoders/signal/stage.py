"""Stage preprocess: one run of the manifest to a Recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from decoders.config import PreprocessSettings
from decoders.data.manifest import SENSORS, Run, read_manifest
from decoders.errors import InputError
from decoders.signal.fmri import prepare_run
from decoders.signal.meg import prepare_sensor_run
from decoders.signal.preflight import check_duplicates
from decoders.stage import Job
from decoders.store.recording import write_recording


def run(job: Job) -> None:
    """Read one run, check it, preprocess it, and write the Recording."""
    manifest = job.input("manifest")
    runs = read_manifest(manifest)
    row = find_run(runs, job.labels["run"], manifest)
    data, settings = job.settings.data, settings_of(job)
    if row.modality in SENSORS:
        recording = prepare_sensor_run(row, runs, settings, job.log)
    else:
        recording = prepare_run(row, runs, settings, data.tr, data.source == "bids", job.log)
    if not recording.excluded:
        # Later than the other checks, because constant runs are alike and must not stop the study.
        check_duplicates(row, runs)
    write_recording(job.outputs["recording"], recording)


def settings_of(job: Job) -> PreprocessSettings:
    """Return the block preprocess.

    Raises
    ------
    InputError
        The study has none.
    """
    settings = job.settings.preprocess
    if settings is None:
        remedy = "Add it; an empty mapping takes all defaults."
        raise InputError("the block 'preprocess'", "none", "the study's settings", remedy)
    return settings


def find_run(runs: Sequence[Run], run_id: str, manifest: Path) -> Run:
    """Return the row of a run.

    Raises
    ------
    InputError
        The manifest does not hold it.
    """
    for candidate in runs:
        if candidate.run_id == run_id:
            return candidate
    listed = ", ".join(candidate.run_id for candidate in runs[:6])
    raise InputError(f"the run '{run_id}'", f"{listed}, … ({len(runs)} runs)", manifest, "Choose one of them.")
