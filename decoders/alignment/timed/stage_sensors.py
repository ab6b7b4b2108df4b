"""Stage `sensor-searchlight`: scores of models around every sensor over time, and the group's test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.models import Models, Stimuli
from decoders.alignment.searchlight_group import no_test
from decoders.alignment.stage import gather_models
from decoders.alignment.stage_searchlight_models import shown_models
from decoders.alignment.timed.sensors import Neighbours, find_neighbours, sensor_scores, sensor_test
from decoders.alignment.timed.stage_rdms import prepare, shared_frame, usable_subjects
from decoders.errors import InputError, SettingsError
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import read_recording


@dataclass
class SensorMaps:
    """Scores around the sensors of all subjects.

    Attributes
    ----------
    subjects : list of str
    scores : list of array of shape (n_models, n_channels, n_times)
        Per subject; its own sensors.
    channels : list of list of str
    types : list of list of str
    positions : list of array of shape (n_channels, 3)
    excluded : dict of str to str
    """

    subjects: list[str] = field(default_factory=list)
    scores: list[NDArray[np.float64]] = field(default_factory=list)
    channels: list[list[str]] = field(default_factory=list)
    types: list[list[str]] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)

    def common(self) -> SensorMaps:
        """Return the maps of the sensors that all subjects have, in the order of the first."""
        shared = set.intersection(*(set(names) for names in self.channels))
        wanted = [name for name in self.channels[0] if name in shared]
        found = SensorMaps(self.subjects, excluded=self.excluded)
        for place, names in enumerate(self.channels):
            rows = [names.index(name) for name in wanted]
            found.scores.append(self.scores[place][:, rows])
            found.channels.append(wanted)
            found.types.append([self.types[place][row] for row in rows])
            found.positions.append(self.positions[place][rows])
        return found


def chosen_models(models: Models, names: Sequence[str] | None) -> tuple[list[str], NDArray[np.float64]]:
    """Return the names and RDMs of the models that are shown, seeds as rows of one name.

    Raises
    ------
    SettingsError
        A name that no model has.
    """
    joined = {model.name: list(model.rows.values()) for model in models.joined("control", "network", "user")}
    unknown = [name for name in names or () if name not in joined]
    if unknown:
        raise SettingsError(
            f"alignment.time.sensors.models: '{unknown[0]}' is no model here; they are {', '.join(joined)}."
        )
    shown = list(names) if names is not None else [name for name in shown_models(models.usable) if name in joined]
    rows = [row for name in shown for row in joined[name]]
    owners = [name for name in shown for _ in joined[name]]
    return owners, models.vectors[rows]


def collect_maps(job: Job, names: Sequence[str], vectors: NDArray[np.float64], stimuli: Stimuli) -> SensorMaps:
    """Return the scores of all subjects, one subject in memory at a time."""
    settings = job.settings.alignment
    by_subject, excluded = usable_subjects(job.inputs.get("estimates", []), settings)
    shared_frame(by_subject, excluded, settings)
    maps = SensorMaps(excluded=excluded)
    for subject in sorted(by_subject):
        try:
            _add_subject(maps, subject, by_subject[subject], names, vectors, stimuli, settings)
        except InputError as error:
            maps.excluded[subject] = str(error)
        else:
            job.log.info("subject %s: %d sensors, %d moments", subject, *maps.scores[-1].shape[1:])
    return maps


def _add_subject(
    maps: SensorMaps, subject: str, paths: Sequence[Path], names: Sequence[str], vectors: NDArray[np.float64],
    stimuli: Stimuli, settings: Any,
) -> None:  # fmt: skip
    whose = f"subject {subject}"
    ready = prepare([read_recording(path) for path in paths], stimuli.names, settings, whose)
    first = ready.trials.recordings[0]
    types = [str(kind) for kind in first.channel_types]
    neighbours = find_neighbours(first.positions, types, settings.time.sensors.radius_mm, whose)
    patterns = ready.trials.patterns[:, :, :: settings.time.sensors.step]
    found = sensor_scores(
        patterns, ready.cells, ready.covariance, neighbours, vectors, settings.rdm, settings.comparators[0]
    )
    kept = list(dict.fromkeys(names))
    over_seeds = [found[[n for n, owner in enumerate(names) if owner == name]].mean(axis=0) for name in kept]
    maps.subjects.append(subject)
    maps.scores.append(np.array(over_seeds))
    maps.channels.append(ready.trials.channels)
    maps.types.append(types)
    maps.positions.append(first.positions)


def group_arrays(
    maps: SensorMaps, names: Sequence[str], times: NDArray[np.float64], neighbours: Neighbours | None, settings: Any,
    rng: np.random.Generator,
) -> dict[str, Array]:  # fmt: skip
    """Return mean scores, statistic and corrected p; the latter two not a number where there is no test."""
    scores = np.array(maps.scores)
    statistic, p = np.full(scores.shape[1:], np.nan), np.full(scores.shape[1:], np.nan)
    block = settings.time.sensors
    for place in range(len(names) if neighbours is not None else 0):
        assert neighbours is not None
        test = sensor_test(
            scores[:, place], neighbours.touching, block.statistic, settings.time.cluster_p,
            settings.time.n_permutations, rng,
        )  # fmt: skip
        statistic[place], p[place] = test.statistic, test.p_corrected
    axes = ("model", "channel", "time")
    return {
        "scores": Array(scores.mean(axis=0), axes, settings.comparators[0]),
        "subject_scores": Array(scores.astype(np.float32), ("subject", *axes), settings.comparators[0]),
        "statistic": Array(statistic, axes, "t"),
        "p_corrected": Array(p, axes),
        "models": Array(np.array(names, dtype=object), ("model",)),
        "channels": Array(np.array(maps.channels[0], dtype=object), ("channel",)),
        "channel_types": Array(np.array(maps.types[0], dtype=object), ("channel",)),
        "positions": Array(np.mean(maps.positions, axis=0), ("channel", "xyz"), "m"),
        "times": Array(times, ("time",), "s"),
        "subjects": Array(np.array(maps.subjects, dtype=object), ("subject",)),
    }


def run(job: Job) -> None:
    """Write sensor_searchlight.h5."""
    settings = job.settings.alignment
    if settings.time.sensors is None:
        remedy = "Add the block alignment.time.sensors."
        raise InputError("the settings alignment.time.sensors", "none", "the study", remedy)
    by_subject, excluded = usable_subjects(job.inputs.get("estimates", []), settings)
    frame = shared_frame(by_subject, excluded, settings)
    stimuli = Stimuli(frame.stimuli)
    owners, vectors = chosen_models(gather_models(job, stimuli), settings.time.sensors.models)
    names = list(dict.fromkeys(owners))
    maps = collect_maps(job, owners, vectors, stimuli)
    for who, why in maps.excluded.items():
        job.log.warning("%s is left out of the sensor searchlight: %s", who, why)
    if not maps.subjects:
        reasons = "; ".join(f"{who}: {why}" for who, why in list(maps.excluded.items())[:3])
        remedy = "Check the events and the preprocessing of the runs."
        wanted = "one subject or more with RDMs around its sensors"
        raise InputError(wanted, f"none ({reasons})", "the recordings", remedy)
    shared = maps.common()
    lost = sorted({name for own in maps.channels for name in own} - set(shared.channels[0]))
    note = no_test(settings.comparators[0], settings.rdm, len(maps.subjects))
    neighbours = None
    if not note:
        mean = np.mean(shared.positions, axis=0)
        neighbours = find_neighbours(mean, shared.types[0], settings.time.sensors.radius_mm, "the group")
    times = frame.times[:: settings.time.sensors.step]
    arrays = group_arrays(shared, names, times, neighbours, settings, job.rng("sensor-searchlight"))
    attributes = {
        "comparator": settings.comparators[0], "excluded": maps.excluded, "not_shared": lost, "no_group": note,
        "method": _method(settings, note),
    }  # fmt: skip
    if note or lost:
        job.log.warning("sensor searchlight: %s", "; ".join(filter(None, [note, f"sensors not shared: {lost}"])))
    write_arrays(job.outputs["searchlight"], arrays, attributes)


def _method(settings: Any, note: str) -> str:
    block = settings.time.sensors
    near = "touching sites" if block.radius_mm is None else f"sites within {block.radius_mm:g} mm"
    what = {"cluster": "largest cluster mass", "tfce": "threshold-free cluster enhancement", "max": "largest t"}
    test = note or (
        f"mean over subjects above zero, one-sided, sign flips, {what[block.statistic]} over sensors and time (each "
        "model is a family of its own)"
    )
    return f"{settings.rdm} RDMs of sensors of one type at {near}; {settings.comparators[0]}; {test}"
