"""Quality of MEG and EEG runs for the report: columns beside those of fMRI, power over time, spectra."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.signal.steps import parameter_of
from decoders.store.arrays import Array
from decoders.store.recording import Recording

# Only in tables that have runs of sensors.
SENSOR_COLUMNS = (
    "sfreq", "duration_s", "bad_channels", "bad_share", "rank", "maxwell", "line_hz", "head_mm", "between_runs_mm",
    "n_eye", "n_heart", "artefact_variance", "noise", "n_events", "n_epochs", "n_epochs_rejected", "triggers",
    "triggers_missing", "triggers_extra", "triggers_doubled", "trigger_offset_ms", "trigger_jitter_ms",
)  # fmt: skip
SENSOR_DEFINITIONS = {
    "power": "root mean square of a stretch of time over neighbouring sensors, as log10 of its ratio to the median",
    "spectrum": "mean power density of the sensors of a type after all steps (Welch, 4 s), squared SI unit per Hz",
    "bad_share": "share of samples inside annotations BAD_… or gaps",
    "head_mm": "largest distance of the head from its first place in the run",
}
_ROWS, _BINS, _SPECTRUM_S = 200, 600, 4.0
_MOST_SAMPLES = 200_000


def sensor_values(recording: Recording, trials: Recording | None) -> dict[str, Any]:
    """Return the entries of one run in the columns of sensors (None where there is no value).

    Parameters
    ----------
    recording : Recording
        The run in time.
    trials : Recording or None
        Its trials, where the study has them.
    """
    steps = recording.steps
    epochs = trials.steps if trials is not None else []
    removed = parameter_of(steps, "artefacts", "removed", [])
    bad = recording.quality.get("bad", np.zeros(0))
    found = {
        "sfreq": recording.sfreq or None,
        "duration_s": round(len(recording.data) / recording.sfreq, 3) if recording.sfreq else None,
        "n_bad": parameter_of(steps, "bad channels", "n_bad"),
        "bad_channels": ", ".join(parameter_of(steps, "bad channels", "bad", [])) or None,
        "bad_share": float(bad.mean()) if bad.size else None,
        "rank": parameter_of(steps, "rank", "rank"),
        "maxwell": parameter_of(steps, "maxwell filter", "method"),
        "line_hz": parameter_of(steps, "line noise", "line_hz"),
        "head_mm": parameter_of(steps, "movement compensation", "max_mm"),
        "between_runs_mm": parameter_of(steps, "head position", "between_runs_mm"),
        "n_eye": sum(item["artefact"] == "eye" for item in removed),
        "n_heart": sum(item["artefact"] == "heart" for item in removed),
        "artefact_variance": round(sum(item["variance"] for item in removed), 6),
        "noise": parameter_of(steps, "noise covariance", "source"),
        "n_events": parameter_of(epochs, "epochs", "n_events"),
        "n_epochs": parameter_of(epochs, "epochs", "n"),
        "n_epochs_rejected": parameter_of(epochs, "epochs", "n_rejected"),
        "triggers": parameter_of(steps, "triggers", "channel"),
    }
    of_triggers = {"missing": "missing", "extra": "extra", "doubled": "doubled"}
    found |= {f"triggers_{key}": parameter_of(steps, "triggers", name) for key, name in of_triggers.items()}
    return found | {f"trigger_{key}": parameter_of(steps, "triggers", key) for key in ("offset_ms", "jitter_ms")}


def sensor_arrays(run_id: str, recording: Recording) -> dict[str, Array]:
    """Return power over time, spectra and topographies of removed artefacts of one run; nothing for an excluded one."""
    if recording.excluded:
        return {}
    frequencies, spectra, kinds = spectrum(recording)
    arrays = {
        f"power/{run_id}": Array(power_picture(recording.data), ("feature", "time")),
        f"spectrum/{run_id}": Array(spectra, ("type", "frequency")),
        f"spectrum_types/{run_id}": Array(np.array(kinds, dtype=object), ("type",)),
        f"frequencies/{run_id}": Array(frequencies, ("frequency",), "Hz"),
    }
    if "artefact_topographies" in recording.quality:
        arrays[f"artefacts/{run_id}"] = Array(recording.quality["artefact_topographies"], ("component", "feature"))
        arrays[f"positions/{run_id}"] = Array(recording.positions, ("feature", "xyz"), "m")
    return arrays


def power_picture(data: NDArray[np.float32], rows: int = _ROWS, bins: int = _BINS) -> NDArray[np.float16]:
    """Return the size of the signal over time as a picture.

    Parameters
    ----------
    data : array of shape (n_times, n_channels)
    rows, bins : int
        At most as many rows (neighbouring channels) and columns (stretches of time).

    Returns
    -------
    picture : array of shape (n_rows, n_bins), float16
        log10 of the root mean square over the median of the row; 0 for rows without signal.
    """
    edges = np.linspace(0, len(data), min(bins, len(data)) + 1).astype(int)
    parts = np.array_split(np.arange(data.shape[1]), min(rows, data.shape[1]))
    size = np.empty((len(parts), len(edges) - 1))
    for column, (start, stop) in enumerate(pairwise(edges)):
        power = np.square(data[start:stop], dtype=np.float64).mean(axis=0)
        size[:, column] = [np.sqrt(power[part].mean()) for part in parts]
    middle = np.median(size, axis=1, keepdims=True)
    ratio = np.divide(size, middle, out=np.ones_like(size), where=middle > 0)
    return np.log10(np.maximum(ratio, 1e-4)).astype(np.float16)


def spectrum(recording: Recording) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return frequencies (Hz), the mean spectrum of each type of channel (n_types, n_frequencies), and the types."""
    from scipy.signal import welch

    kinds = [str(kind) for kind in recording.channel_types] or ["region"] * recording.data.shape[1]
    types = list(dict.fromkeys(kinds))
    # The middle of a long run stands for it.
    first = max(0, (len(recording.data) - _MOST_SAMPLES) // 2)
    part = recording.data[first : first + _MOST_SAMPLES]
    length = min(len(part), round(_SPECTRUM_S * recording.sfreq))
    frequencies, power = np.zeros(0), []
    for kind in types:
        own = [row for row, other in enumerate(kinds) if other == kind]
        frequencies, density = welch(part[:, own].astype(np.float64), recording.sfreq, nperseg=length, axis=0)
        power.append(density.mean(axis=1))
    return frequencies, np.stack(power), types
