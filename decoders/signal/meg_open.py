"""One MEG or EEG run as it is found: opened, its channels named and judged, nothing loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from decoders.config.meg import MegSettings
from decoders.data.manifest import SENSORS, Run
from decoders.data.raw_files import open_raw
from decoders.errors import InputError
from decoders.signal.meg_channels import apply_channel_table, place_electrodes, wanted_types
from decoders.signal.meg_maxwell import Maxwell, noisy_by_maxwell, plan
from decoders.signal.meg_scan import check_enough_good, excerpts, judge_channels
from decoders.signal.steps import Steps


@dataclass(frozen=True)
class Opened:
    """A run ready to be read.

    Attributes
    ----------
    raw : mne.io.BaseRaw
        Not loaded; its info holds the bad channels.
    sensors, kinds : list of str
        Sensors that are read, and their types. Where there is a Maxwell filter they hold all MEG sensors.
    kept : list of str
        Types that are kept.
    others : list of str
        EOG and ECG channels.
    pieces : list of (int, int)
        Excerpts that stand for the run.
    maxwell : Maxwell
    """

    raw: Any
    sensors: list[str]
    kinds: list[str]
    kept: list[str]
    others: list[str]
    pieces: list[tuple[int, int]]
    maxwell: Maxwell


def open_run(run: Run, runs: Sequence[Run], settings: MegSettings, steps: Steps) -> Opened:
    """Open a run, and say which of its channels are bad.

    Raises
    ------
    InputError
        The recording cannot be read; see `meg_channels`, `meg_scan` and `meg_maxwell`.
    """
    same = _same_subject(run, runs)
    check_rates(run, same, settings, steps)
    raw = _raw(run, steps)
    kept = wanted_types(run, settings.channels, raw)
    sensors, kinds = _sensors(raw, kept)
    pieces = excerpts(raw)
    listed = list(raw.info["bads"])
    maxwell = (
        plan(raw, run, settings, _reference(run, same, steps), steps)
        if "grad" in kinds or "mag" in kinds
        else Maxwell()
    )
    found = _judged(raw, sensors, kinds, pieces, settings)
    if maxwell.how != "none":
        clear = [name for names in found.values() for name in names]
        raw.info["bads"] = _in_order(raw, [*raw.info["bads"], *clear])
        found |= noisy_by_maxwell(raw, pieces, maxwell)
    raw.info["bads"] = _in_order(raw, [*listed, *(name for names in found.values() for name in names)])
    _note_bad(raw, run, sensors, listed, found, steps)
    if settings.bad_channels == "drop":
        dropped = _dropped(run, same, raw, kept, settings, steps)
        sensors, kinds = _without(sensors, kinds, dropped)
    others = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind in ("eog", "ecg")]
    others = [name for name in others if name not in raw.info["bads"]]
    return Opened(raw, sensors, kinds, kept, others, pieces, maxwell)


def _raw(run: Run, steps: Steps) -> Any:
    raw, notes = open_raw(run.paths("image"), run.paths("headshape"))
    for note in notes:
        steps.warn(f"the reader says: {note}")
    apply_channel_table(raw, run, steps)
    place_electrodes(raw, run, steps)
    return raw


def _sensors(raw: Any, kept: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the sensors to read: all MEG where some MEG is kept, because the Maxwell filter needs them."""
    read = {*kept, *(("mag", "grad") if {"mag", "grad"} & set(kept) else ())}
    pairs = [(name, kind) for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind in read]
    return [name for name, _ in pairs], [kind for _, kind in pairs]


def _judged(
    raw: Any, sensors: list[str], kinds: list[str], pieces: list[tuple[int, int]], settings: MegSettings
) -> dict[str, list[str]]:
    good = [(name, kind) for name, kind in zip(sensors, kinds, strict=True) if name not in raw.info["bads"]]
    return judge_channels(raw, [name for name, _ in good], [kind for _, kind in good], pieces, settings.noisy_z)


def _in_order(raw: Any, names: Sequence[str]) -> list[str]:
    return sorted(set(names), key=raw.ch_names.index)


def _note_bad(
    raw: Any, run: Run, sensors: list[str], listed: list[str], found: dict[str, list[str]], steps: Steps
) -> None:
    found = {"listed": [name for name in listed if name in sensors], **found}
    found = {reason: names for reason, names in found.items() if names}
    bad = [name for name in raw.info["bads"] if name in sensors]
    told = "; ".join(
        f"{reason}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" for reason, names in found.items()
    )
    check_enough_good(len(bad), len(sensors), told, run.path("image") or run.image)
    steps.add("bad channels", told or "none was found", found=found, bad=bad, n_bad=len(bad), n_sensors=len(sensors))


def _dropped(
    run: Run, same: Sequence[Run], raw: Any, kept: list[str], settings: MegSettings, steps: Steps
) -> list[str]:
    """Return the channels that are bad in any run of the subject, so that all runs keep the same ones."""
    dropped = set(raw.info["bads"])
    for other in same:
        if other.run_id == run.run_id:
            continue
        theirs = _raw(other, Steps(other.run_id))
        sensors, kinds = _sensors(theirs, kept)
        found = _judged(theirs, sensors, kinds, excerpts(theirs), settings)
        dropped |= {*theirs.info["bads"], *(name for names in found.values() for name in names)}
    names = [name for name in raw.ch_names if name in dropped]
    steps.add(
        "dropped channels", "bad in a run of this subject (preprocess.meg.bad_channels)", names=names, n=len(names)
    )
    return names


def _without(sensors: list[str], kinds: list[str], dropped: Sequence[str]) -> tuple[list[str], list[str]]:
    left = [(name, kind) for name, kind in zip(sensors, kinds, strict=True) if name not in set(dropped)]
    return [name for name, _ in left], [kind for _, kind in left]


def _same_subject(run: Run, runs: Sequence[Run]) -> list[Run]:
    return [
        other
        for other in runs
        if other.subject == run.subject
        and other.modality == run.modality
        and other.modality in SENSORS
        and (other.status == "ok" or other.run_id == run.run_id)
    ]


def check_rates(run: Run, same: Sequence[Run], settings: MegSettings, steps: Steps) -> None:
    """Refuse runs of a subject with different sampling rates, or say that they are resampled.

    Raises
    ------
    InputError
        The rates differ and the settings do not resample.
    """
    rates = {other.run_id: other.sfreq for other in same if other.sfreq == other.sfreq}
    if len(set(rates.values())) < 2:
        return
    listed = ", ".join(f"{rate:g} Hz in {name}" for name, rate in list(rates.items())[:4])
    if settings.rates == "refuse":
        remedy = "Set preprocess.meg.rates to resample, or choose runs of one rate (data.tasks, data.sessions)."
        raise InputError(f"one sampling rate in the runs of sub-{run.subject}", listed, run.image, remedy)
    steps.warn(f"the runs of this subject have different sampling rates ({listed}): all are resampled")


def _reference(run: Run, same: Sequence[Run], steps: Steps) -> Any:
    """Return the place of the head in the subject's first run, None for that run itself."""
    import numpy as np

    if run.modality != "meg" or same[0].run_id == run.run_id:
        return None
    raw, _ = open_raw(same[0].paths("image"), same[0].paths("headshape"))
    mine, _ = open_raw(run.paths("image"), run.paths("headshape"))
    reference, own = raw.info["dev_head_t"], mine.info["dev_head_t"]
    if reference is None or own is None:
        return None
    moved = float(np.linalg.norm(reference["trans"][:3, 3] - own["trans"][:3, 3]) * 1000)
    steps.add("head position", f"distance from that of {same[0].run_id}", between_runs_mm=round(moved, 2))
    return reference
