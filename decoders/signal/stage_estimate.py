"""Stage estimate: the trial estimates of one run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from decoders.config import PreprocessSettings
from decoders.config.meg import MegSettings
from decoders.data.manifest import SENSORS, Run, read_manifest
from decoders.errors import InputError
from decoders.signal.events import Block, Events, merge_blocks, read_events
from decoders.signal.glm import (
    BASELINE,
    apply_weights,
    block_weights,
    lsa_weights,
    lss_weights,
    trial_events,
    trial_regressors,
)
from decoders.signal.meg_epochs import epoch_run
from decoders.signal.stage import find_run, settings_of
from decoders.signal.steps import Steps, parameter_of
from decoders.stage import Job
from decoders.store.recording import Recording, read_recording, write_recording


def run(job: Job) -> None:
    """Read a Recording and its events, and write the trial estimates."""
    manifest = job.input("manifest")
    row = find_run(read_manifest(manifest), job.labels["run"], manifest)
    settings = settings_of(job)
    recording = read_recording(job.input("recording"))
    if recording.excluded:
        estimates = replace(recording, axis="trial")
    elif row.modality in SENSORS:
        events, steps = read_events(_events_path(row, "alignment.time")), Steps(row.run_id, job.log)
        estimates = epoch_run(recording, events, settings.meg or MegSettings(), row, steps)
    else:
        events, steps = read_events(_events_path(row, "preprocess.estimates")), Steps(row.run_id, job.log)
        estimates = estimate_trials(recording, events, settings, row, steps)
    write_recording(job.outputs["estimates"], estimates)


def _events_path(row: Run, needed_by: str) -> str:
    path = row.path("events")
    if path is None:
        remedy = f"Add the events of the run, or leave {needed_by} out."
        raise InputError("an events file for trial estimates", "none", f"run {row.run_id} of the manifest", remedy)
    return str(path)


def estimate_trials(
    recording: Recording, events: Events, settings: PreprocessSettings, row: Run, steps: Steps
) -> Recording:
    """Turn a run in time into one sample per trial (or block).

    Parameters
    ----------
    recording : Recording
        As `decoders.signal.fmri.prepare_run` leaves it: its quality holds the nuisance basis.
    events : Events
    settings : PreprocessSettings
        `estimates`, `estimate_lag_s` and `hrf` count.
    row : Run
        Its start_time takes the recording's clock to that of the events.
    steps : Steps

    Returns
    -------
    recording : Recording
        Axis "trial"; betas are in the recording's unit per unit of regressor. `groups` is the block of each trial.

    Raises
    ------
    InputError
        Trials that cannot be estimated.
    """
    if settings.estimates is None:
        remedy = "Set it to lsa, lss or blocks."
        raise InputError("preprocess.estimates", "none", "the study's settings", remedy)
    start = row.start_time if np.isfinite(row.start_time) else 0.0
    frame = recording.time - start
    blocks = [block for block in merge_blocks(events, recording.tr) if block.condition != BASELINE]
    trials = blocks if settings.estimates == "blocks" else trial_events(events)
    weights = _weights(recording, events, trials, frame, settings)
    why = {
        "lsa": "one model with a regressor per trial, drift and confounds",
        "lss": "per trial, one model of this trial, all others together, drift and confounds",
        "blocks": "mean of the volumes in each block",
    }[settings.estimates]
    lag = {"lag_s": settings.estimate_lag_s} if settings.estimates == "blocks" else {"hrf": settings.hrf}
    steps.add("estimate", why, method=settings.estimates, n=len(trials), **lag)
    return replace(
        recording,
        data=apply_weights(weights, recording.data),
        axis="trial",
        time=start + np.array([trial.onset for trial in trials]),
        conditions=np.array([trial.condition for trial in trials], dtype=object),
        groups=_block_of(trials, blocks),
        steps=[*recording.steps, *steps.entries],
        quality={"tsnr": recording.quality["tsnr"]},
    )


def _weights(
    recording: Recording, events: Events, trials: list[Block], frame: NDArray[np.float64], settings: PreprocessSettings
) -> NDArray[np.float64]:
    if settings.estimates == "blocks":
        if not trials:
            trial_events(events)  # says that there are no trials
        return block_weights(trials, frame, settings.estimate_lag_s, events.where)
    moment = frame + float(parameter_of(recording.steps, "timing", "slice_time", 0.0))
    regressors = trial_regressors(trials, moment, settings.hrf)
    method = lsa_weights if settings.estimates == "lsa" else lss_weights
    return method(regressors, recording.quality["nuisance"], events.where)


def _block_of(trials: list[Block], blocks: list[Block]) -> NDArray[np.int64]:
    """Return the block of each trial: of its condition, and begun last before it."""
    found = []
    for trial in trials:
        fitting = [i for i, b in enumerate(blocks) if b.condition == trial.condition and b.onset <= trial.onset + 1e-6]
        found.append(fitting[-1] if fitting else -1)
    return np.array(found, dtype=np.int64)
