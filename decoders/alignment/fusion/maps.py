"""RDMs of MEG at single times, as models of the fMRI searchlight and as points of the map of RDMs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import pool
from decoders.alignment.fusion.pairing import SensorRDMs, in_order, read_time_rdms
from decoders.alignment.models import ModelRow, Stimuli
from decoders.errors import SettingsError
from decoders.stage import Job

STEP_MS = 50.0


def chosen_times(times: NDArray[np.float64], wanted_ms: Sequence[float] | None) -> NDArray[np.int64]:
    """Return the numbers of the times with a map: those nearest to the wanted ones, or every 50 ms from onset on.

    Parameters
    ----------
    times : array of shape (n_times,)
        Seconds.
    wanted_ms : sequence of float or None

    Raises
    ------
    SettingsError
        A time beyond the epoch.
    """
    ms = 1000 * times
    step = float(np.diff(ms).max(initial=0.0)) if len(ms) > 1 else 1.0
    if wanted_ms is None:
        wanted_ms = np.arange(0.0, ms[-1] + 1e-6, STEP_MS).tolist()
        wanted_ms = [value for value in wanted_ms if value >= ms[0] - step / 2]
    nearest = [int(np.abs(ms - value).argmin()) for value in wanted_ms]
    for value, place in zip(wanted_ms, nearest, strict=True):
        if abs(ms[place] - value) > step / 2 + 1e-6:
            raise SettingsError(
                f"alignment.fusion.map_times_ms: {value:g} ms lies beyond the MEG epochs ({ms[0]:g} to {ms[-1]:g} ms)."
            )
    return np.unique(np.array(nearest, dtype=np.int64))


def time_rows(meg: SensorRDMs, numbers: NDArray[np.int64], comparator: str) -> list[ModelRow]:
    """Return one row ``meg:<ms>ms`` per time: the RDM pooled over people as the comparator sees it best."""
    rows = []
    for number in numbers:
        name = f"meg:{1000 * meg.times[number]:.0f}ms"
        rows.append(ModelRow("time", name, pool(meg.rdms[:, number], comparator)))
    return rows


def read_time_rows(job: Job, stimuli: Stimuli) -> list[ModelRow]:
    """Return the rows of the input `time_rdms`, with the stimuli in the order of fMRI; none without that input.

    Raises
    ------
    InputError
        MEG lacks stimuli of fMRI (where the study says that both show the same).
    """
    if not job.inputs.get("time_rdms"):
        return []
    settings, path = job.settings.alignment, Path(job.input("time_rdms"))
    meg = read_time_rdms(path)
    missing = [name for name in stimuli.names if name not in set(meg.stimuli)]
    if missing and settings.fusion.stimuli == "common":
        # The other models are compared on all stimuli of fMRI, and stay so.
        job.log.warning("no maps of MEG times: %s does not hold '%s' (%d missing)", path, missing[0], len(missing))
        return []
    meg, _ = in_order(meg, [], stimuli.names, stimuli, str(path))
    numbers = chosen_times(meg.times, settings.fusion.map_times_ms)
    return time_rows(meg, numbers, settings.comparators[0])
