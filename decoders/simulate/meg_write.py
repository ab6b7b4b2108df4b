"""The MEG half of the phantom on disk: FIF with its BIDS tables and sidecars, the empty room, and the planted truth."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decoders.config import PhantomSettings
from decoders.simulate.bids import write_sidecar, write_tsv
from decoders.simulate.meg_fif import write_fif
from decoders.simulate.meg_head import FIDUCIALS_M, meg_of
from decoders.simulate.meg_run import MegRun, check_stories, draw_empty_room, draw_meg_run
from decoders.simulate.meg_sensors import AUXILIARY, sensor_types
from decoders.simulate.meg_tasks import Task
from decoders.simulate.meg_truth import channel_table, source_table

# A day on which nobody was recorded: people follow each other hour by hour, the empty room comes first.
DAY = datetime.datetime(2020, 1, 1, 6, tzinfo=datetime.UTC)
EMPTY_ROOM = "sub-emptyroom/ses-20200101/meg/sub-emptyroom_ses-20200101_task-noise_meg.fif"
_UNITS = {
    "mag": ("MEGMAG", "T"),
    "grad": ("MEGGRADPLANAR", "T/m"),
    "eog": ("EOG", "V"),
    "ecg": ("ECG", "V"),
    "stim": ("TRIG", "V"),
}
_EVENT_COLUMNS = {
    "onset": {"Description": "Seconds from the first sample of the recording.", "Units": "s"},
    "value": {"Description": "Value of the trigger channel STI101; n/a for a word that begins with its story."},
    "sample": {"Description": "Sample of the trigger, from 0."},
    "trial_type": {
        "Description": "Name of the picture (column stimulus of stimuli/pictures.tsv), or what else happened; "
        "n/a in the row of a story as a whole.",
        "Levels": {
            "word": "A spoken word",
            "fixation": "The cross before the first picture",
            "catch": "The cross changes; no picture is shown",
        },
    },
    "stim_file": {"Description": "The picture, or the words of the story in time: a file below stimuli."},
}


@dataclass
class _Log:
    """What a person's scans table says."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, file: str, date: datetime.datetime) -> None:
        self.rows.append({"filename": file, "acq_time": date.strftime("%Y-%m-%dT%H:%M:%S")})


def write_meg(root: Path, people: list[str], settings: PhantomSettings, mirror: str | Path | None) -> None:
    """Write all MEG runs of a phantom, with the empty room and the truth.

    Parameters
    ----------
    root : Path
        The BIDS folder; its stimuli are written by the tasks of fMRI.
    people : list of str
        Labels of all people of the phantom.
    settings : PhantomSettings
        With its block `meg`.
    mirror : str or Path, optional
        Folder read instead of the network (text 'alice').
    """
    check_stories(settings)
    _write_empty_room(root, settings)
    for subject, person in enumerate(people):
        log, tasks = _Log(), _tasks(settings, subject)
        for number, (task, run) in enumerate((task, run) for task, n in tasks.items() for run in range(n)):
            date = DAY + datetime.timedelta(hours=subject + 1, minutes=10 * number)
            file = f"meg/sub-{person}_task-{task}_run-{run + 1:02d}_meg.fif"
            recorded = draw_meg_run(settings, task, subject, run, mirror)
            _write_run(root / f"sub-{person}" / file, recorded, settings, date, task)
            log.add(file, date)
        for task in tasks:
            _write_truth(root, person, subject, settings, task)
        if log.rows:
            write_tsv(root / f"sub-{person}" / f"sub-{person}_scans.tsv", pd.DataFrame(log.rows))
            _write_coordinates(root / f"sub-{person}" / "meg" / f"sub-{person}_coordsystem.json")


def _tasks(settings: PhantomSettings, subject: int) -> dict[Task, int]:
    """Return the runs of each task of one person."""
    meg = meg_of(settings)
    tasks: dict[Task, int] = {}
    if subject < meg.picture_subjects:
        tasks["pictures"] = meg.picture_runs
    if subject < meg.story_subjects:
        tasks["story"] = meg.story_runs
    return tasks


def _write_run(path: Path, run: MegRun, settings: PhantomSettings, date: datetime.datetime, task: str) -> None:
    meg = meg_of(settings)
    triggers = run.timeline.triggers(meg.sfreq)
    write_fif(path, run.info, np.vstack([run.data, run.eog, run.ecg, triggers]), date, meg.line_hz, task != "noise")
    stem = path.name.removesuffix("_meg.fif")
    write_tsv(path.with_name(f"{stem}_channels.tsv"), channels(run.info, settings))
    sidecar = _sidecar(settings, task, run.timeline.n_times)
    if task != "noise":
        sidecar["AssociatedEmptyRoom"] = EMPTY_ROOM
        write_tsv(path.with_name(f"{stem}_events.tsv"), run.events)
        write_sidecar(path.with_name(f"{stem}_events.json"), _EVENT_COLUMNS)
    write_sidecar(path.with_name(f"{stem}_meg.json"), sidecar)


def channels(info: Any, settings: PhantomSettings) -> pd.DataFrame:
    """Return the table of channels of a run, bad ones as far as they are declared."""
    sfreq = meg_of(settings).sfreq
    kinds = [*sensor_types(), "eog", "ecg", "stim"]
    return pd.DataFrame(
        {
            "name": info["ch_names"],
            "type": [_UNITS[kind][0] for kind in kinds],
            "units": [_UNITS[kind][1] for kind in kinds],
            "low_cutoff": 0.0,
            "high_cutoff": sfreq / 2,
            "sampling_frequency": sfreq,
            "status": ["bad" if name in info["bads"] else "good" for name in info["ch_names"]],
        }
    )


def _sidecar(settings: PhantomSettings, task: str, n_times: int) -> dict[str, Any]:
    meg, kinds = meg_of(settings), sensor_types()
    return {
        "TaskName": task,
        "Manufacturer": "Corticode phantom",
        "SamplingFrequency": meg.sfreq,
        "PowerLineFrequency": meg.line_hz or "n/a",
        "DewarPosition": "upright",
        "SoftwareFilters": "n/a",
        "DigitizedLandmarks": task != "noise",
        "DigitizedHeadPoints": task != "noise",
        "MEGChannelCount": len(kinds),
        "EOGChannelCount": 1,
        "ECGChannelCount": 1,
        "TriggerChannelCount": len(AUXILIARY) - 2,
        "RecordingDuration": n_times / meg.sfreq,
        "RecordingType": "continuous",
        "ContinuousHeadLocalization": False,
    }


def _write_empty_room(root: Path, settings: PhantomSettings) -> None:
    path = root / EMPTY_ROOM
    _write_run(path, draw_empty_room(settings), settings, DAY, "noise")
    log = _Log()
    log.add(f"meg/{path.name}", DAY)
    write_tsv(path.parents[1] / "sub-emptyroom_ses-20200101_scans.tsv", pd.DataFrame(log.rows))


def _write_coordinates(path: Path) -> None:
    landmarks = {name.upper() if name != "nasion" else "NAS": list(place) for name, place in FIDUCIALS_M.items()}
    system = {"CoordinateSystem": "ElektaNeuromag", "CoordinateUnits": "m"}
    described = "RAS orientation, origin between the ears"
    write_sidecar(
        path,
        {
            **{f"MEG{key}": value for key, value in system.items()},
            "MEGCoordinateSystemDescription": described,
            "HeadCoilCoordinateSystem": "ElektaNeuromag",
            "HeadCoilCoordinateUnits": "m",
            "HeadCoilCoordinateSystemDescription": described,
            "DigitizedHeadPointsCoordinateSystem": "ElektaNeuromag",
            "DigitizedHeadPointsCoordinateUnits": "m",
            "DigitizedHeadPointsCoordinateSystemDescription": described,
            "AnatomicalLandmarkCoordinates": landmarks,
            "AnatomicalLandmarkCoordinateSystem": "ElektaNeuromag",
            "AnatomicalLandmarkCoordinateUnits": "m",
            "AnatomicalLandmarkCoordinateSystemDescription": described,
        },
    )


def _write_truth(root: Path, person: str, subject: int, settings: PhantomSettings, task: Task) -> None:
    stem = root / "derivatives/truth" / f"sub-{person}" / "meg" / f"sub-{person}_task-{task}_desc-planted"
    write_tsv(stem.with_name(f"{stem.name}_sources.tsv"), source_table(settings, task, subject))
    write_tsv(stem.with_name(f"{stem.name}_channels.tsv"), channel_table(settings, task, subject))
