"""One run of the phantom's MEG, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate.meg_artefacts import bad_sensors, blinks, eog_ecg, heart, line
from decoders.simulate.meg_dipoles import dipole_fields
from decoders.simulate.meg_head import device_to_head, meg_of, person_info
from decoders.simulate.meg_noise import Part, alpha_noise, brain_noise, sensor_noise
from decoders.simulate.meg_tasks import (
    Fields,
    Task,
    Timeline,
    picture_answer,
    picture_timeline,
    story_answer,
    story_timeline,
)
from decoders.simulate.pictures import draw_pictures
from decoders.simulate.story import draw_stories
from decoders.simulate.streams import stream

_NOBODY = "emptyroom"


@dataclass(frozen=True)
class MegRun:
    """A run as it is recorded, and all that it is made of.

    Attributes
    ----------
    info : mne.Info
        306 sensors, EOG, ECG and triggers; declared bad sensors in `bads`.
    timeline : Timeline
        Events and triggers.
    parts : dict of str to Part
        What the brain answers ("visual", "ventral"; "auditory", "envelope", "temporal"), "brain" and "alpha",
        "blinks", "heart", "line".
    sensor_noise : array of shape (306, n_times), float32
    eog, ecg : array of shape (n_times,)
        V.
    flat, noisy : array of int
        Bad sensors, declared or not.
    """

    info: Any
    timeline: Timeline
    parts: dict[str, Part]
    sensor_noise: NDArray[np.float32]
    eog: NDArray[np.float64]
    ecg: NDArray[np.float64]
    flat: NDArray[np.int64]
    noisy: NDArray[np.int64]

    @property
    def events(self) -> pd.DataFrame:
        """Events of the run."""
        return self.timeline.events

    @property
    def evoked(self) -> NDArray[np.float64]:
        """What the stimuli evoke, free of noise, shape (306, n_times)."""
        return self.sum_of(*(name for name in self.parts if name not in _NOT_EVOKED))

    @property
    def brain_noise(self) -> NDArray[np.float64]:
        """What the brain does besides, alpha included, shape (306, n_times)."""
        return self.sum_of("brain", "alpha")

    @property
    def clean(self) -> NDArray[np.float64]:
        """What the sensors would record without blinks, heart beats and the mains, shape (306, n_times)."""
        return self._dead(self.evoked + self.brain_noise + self.sensor_noise)

    @property
    def data(self) -> NDArray[np.float64]:
        """What the sensors record, shape (306, n_times)."""
        return self._dead(self.sum_of(*self.parts) + self.sensor_noise)

    def sum_of(self, *names: str) -> NDArray[np.float64]:
        """Return the sum of some parts, shape (306, n_times)."""
        total = np.zeros(self.sensor_noise.shape)
        for name in names:
            if name in self.parts:
                total += self.parts[name].data
        return total

    def _dead(self, data: NDArray[np.float64]) -> NDArray[np.float64]:
        data[self.flat] = 0.0
        return data


_NOT_EVOKED = ("brain", "alpha", "blinks", "heart", "line")


def draw_meg_run(
    settings: PhantomSettings, task: Task, subject: int = 0, run: int = 0, mirror: str | Path | None = None
) -> MegRun:
    """Draw a run of one person.

    Parameters
    ----------
    settings : PhantomSettings
        With its block `meg`.
    task : {"pictures", "story"}
    subject, run : int
        From 0.
    mirror : str or Path, optional
        Folder read instead of the network (text 'alice').

    Returns
    -------
    MegRun
        Each part has a random stream of its own: to change one leaves the others as they are.

    Raises
    ------
    InputError
        More story runs than the phantom has stories, or events too close for the sampling rate.
    """
    name = f"{task} {run}"
    info, fields = person_info(settings, subject, name), dipole_fields(settings, subject, name)
    timeline, answer = _stimulation(settings, fields, task, subject, run, mirror)
    n_times, sfreq = timeline.n_times, meg_of(settings).sfreq
    rng = lambda part: stream(settings.seed, f"meg {part}", subject, task, run)  # noqa: E731
    place = np.asarray(info["dev_head_t"]["trans"])
    parts = {
        **answer,
        "brain": brain_noise(settings, subject, name, n_times, rng("brain noise")),
        "alpha": alpha_noise(settings, subject, name, n_times, rng("alpha")),
        "blinks": blinks(settings, fields["eyes"], n_times, rng("blinks")),
        "heart": heart(settings, place, n_times, rng("heart")),
        "line": line(settings, place, n_times, rng("line")),
    }
    flat, noisy = bad_sensors(settings, subject)
    eog, ecg = eog_ecg(parts["blinks"], parts["heart"], sfreq, rng("electrodes"))
    noise = sensor_noise(settings, n_times, noisy, rng("sensor noise"))
    if meg_of(settings).declare_bad:
        info["bads"] = [info["ch_names"][i] for i in sorted([*flat, *noisy])]
    return MegRun(info, timeline, parts, noise, eog, ecg, flat, noisy)


def draw_empty_room(settings: PhantomSettings) -> MegRun:
    """Draw the recording without a person: the sensors' own noise and the mains."""
    meg = meg_of(settings)
    info = person_info(settings, 0)
    n_times = round(meg.empty_room_s * meg.sfreq)
    rng = lambda part: stream(settings.seed, f"meg {part}", _NOBODY)  # noqa: E731
    mains = line(settings, device_to_head(settings, 0), n_times, rng("line"))
    info["dev_head_t"] = None
    nothing = pd.DataFrame({"onset": [], "value": np.zeros(0, int), "sample": np.zeros(0, int)})
    none = np.zeros(0, dtype=np.int64)
    noise = sensor_noise(settings, n_times, none, rng("sensor noise"))
    silent = np.zeros(n_times)
    return MegRun(info, Timeline(nothing, n_times), {"line": mains}, noise, silent, silent, none, none)


def _stimulation(
    settings: PhantomSettings, fields: Fields, task: Task, subject: int, run: int, mirror: str | Path | None
) -> tuple[Timeline, dict[str, Part]]:
    if task == "pictures":
        shown = draw_pictures(settings)
        timeline = picture_timeline(settings, shown, subject, run)
        visual, ventral = picture_answer(settings, fields, shown, timeline, subject)
        return timeline, {"visual": visual, "ventral": ventral}
    check_stories(settings)
    stories = draw_stories(settings, mirror)
    timeline = story_timeline(settings, stories, run)
    auditory, envelope, temporal = story_answer(settings, fields, stories, timeline, subject, run)
    return timeline, {"auditory": auditory, "envelope": envelope, "temporal": temporal}


def check_stories(settings: PhantomSettings) -> None:
    """Refuse more story runs in the MEG than there are stories."""
    meg = meg_of(settings)
    if meg.story_subjects and meg.story_runs > settings.story_runs:
        expected = f"at most the {settings.story_runs} stories of data.phantom.story_runs"
        remedy = "Lower it, or raise data.phantom.story_runs."
        raise InputError(expected, f"{meg.story_runs}", "data.phantom.meg.story_runs", remedy)
