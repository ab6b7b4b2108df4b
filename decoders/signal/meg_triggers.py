"""Are the events those that the system recorded? events.tsv against the stimulus channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.events import Events, read_events, read_text_table
from decoders.signal.steps import Steps

# Composite channels first: the single bits of a system hold parts of a code.
_PREFERRED = ("STI101", "STI 101", "STI201", "STI 014", "STI014", "UPPT001", "STIM", "TRIGGER", "Status")
# An event and its trigger are one within this time about their usual distance, which is at most the reach.
_SAME_S, _REACH_S, _BIN_S = 0.05, 2.0, 0.005
# Two triggers so close are one that bounced.
_BOUNCE_S = 0.02
# A stimulus so long is a story or a film, of which a run holds one; it may outlast the file by the slack.
_LONG_S, _SLACK_S = 10.0, 1.0


@dataclass(frozen=True)
class Match:
    """How events and triggers agree.

    Attributes
    ----------
    n_events, n_triggers : int
        Events of types that have triggers; triggers.
    missing, extra, doubled : int
        Events without a trigger, triggers without an event, triggers that follow another within 20 ms.
    offset_ms : float
        Usual time from the trigger to the onset that events.tsv gives.
    jitter_ms, worst_ms : float
        Deviation and largest distance about it.
    """

    n_events: int
    n_triggers: int
    missing: int
    extra: int
    doubled: int
    offset_ms: float
    jitter_ms: float
    worst_ms: float


def check_triggers(raw: Any, run: Run, settings: MegSettings, steps: Steps) -> float:
    """Compare the events of a run with its stimulus channel, and say what does not fit.

    Returns
    -------
    shift : float
        Seconds by which events.tsv is late: the duration of the stimulus where its onset is really its end,
        else 0.

    Raises
    ------
    InputError
        The onset is the end of the stimulus, and the settings refuse it; the events begin after the run.
    """
    path = run.path("events")
    channel, triggers = read_triggers(raw)
    if path is None:
        steps.warn(f"no events.tsv{f' ({len(triggers)} triggers in {channel})' if channel else ''}")
        return 0.0
    events = read_events(path)
    end = raw.n_times / raw.info["sfreq"]
    shift = end_as_onset(events, run, end, settings, steps)
    _check_inside(events, end, steps)
    if channel is None:
        steps.add("triggers", "no stimulus channel: events.tsv is taken as it is", onset_shift_s=shift)
    elif not len(triggers):
        steps.warn(f"the stimulus channel {channel} has no triggers: events.tsv cannot be checked")
        steps.add("triggers", f"none in {channel}", channel=channel, n_triggers=0, onset_shift_s=shift)
    else:
        _compare(events, triggers, channel, shift, steps)
    return shift


def read_triggers(raw: Any) -> tuple[str | None, NDArray[np.float64]]:
    """Return the stimulus channel that holds triggers, and their times in seconds from the first sample."""
    import mne

    there = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "stim"]
    # Where there is a composite channel, others are bits of it or counters.
    ordered = [name for name in _PREFERRED if name in there] or there
    for name in ordered:
        options = {"shortest_event": 1, "uint_cast": True, "verbose": "ERROR"}
        found = mne.find_events(raw, stim_channel=name, consecutive=True, **options)
        if len(found):
            return name, (found[:, 0] - raw.first_samp) / raw.info["sfreq"]
    return (ordered[0] if ordered else None), np.zeros(0)


def _check_inside(events: Events, end: float, steps: Steps) -> None:
    late = events.onset > end
    if late.all() and late.size:
        found = f"the first at {events.onset[0]:g} s"
        remedy = "Check that the events belong to this run, and are in seconds from the first sample."
        raise InputError(f"events before the end of the run at {end:g} s", found, events.where, remedy)
    if late.any():
        steps.warn(f"{int(late.sum())} of {late.size} events lie after the end of the run at {end:g} s")


def end_as_onset(events: Events, run: Run, end: float, settings: MegSettings, steps: Steps) -> float:
    """Return the duration of a stimulus whose onset in events.tsv is really its end, else 0.

    The only trigger of some runs is the one at the end of the story (SMN4Lang, sub-08 run-16 and sub-09 run-7):
    the story would outlast the file, and fits if it began earlier by its duration.
    """
    long = [
        (float(on), float(length))
        for on, length in zip(events.onset, _durations(events, run), strict=True)
        if length > _LONG_S
    ]
    if len(long) != 1:
        return 0.0
    onset, length = long[0]
    if onset + length <= end + _SLACK_S:
        return 0.0
    if onset - length < -_SLACK_S:
        steps.warn(f"the stimulus of {length:g} s from {onset:g} s outlasts the recording, which ends at {end:g} s")
        return 0.0
    sentence = (
        f"the onset at {onset:g} s is the end of the stimulus of {length:g} s: from there it would outlast the"
        f" recording, which ends at {end:g} s"
    )
    if settings.end_trigger == "refuse":
        remedy = "Correct the onset, or set preprocess.meg.end_trigger to shift."
        raise InputError("the onset of the stimulus", sentence, events.where, remedy)
    steps.warn(f"{sentence}; the onset is taken to be at {onset - length:g} s")
    return length


def _durations(events: Events, run: Run) -> NDArray[np.float64]:
    """Return durations; where none is stated for the one event of a story, that of its text."""
    path = run.path("text")
    if events.duration.max(initial=0) > _LONG_S or path is None or path.suffix != ".tsv":
        return events.duration
    words = read_text_table(path, "the words of the story")
    if not {"onset", "duration"} <= set(words.columns) or events.onset.size != 1:
        return events.duration
    return np.array([(words["onset"].astype(float) + words["duration"].astype(float)).max()])


def _compare(events: Events, triggers: NDArray[np.float64], channel: str, shift: float, steps: Steps) -> None:
    kinds = [kind for kind in dict.fromkeys(events.trial_type) if kind and not str(kind).upper().startswith("BAD")]
    offset = usual_offset(events.onset, triggers)
    having = [kind for kind in kinds if _share(events.onset[events.trial_type == kind], triggers, offset) > 0.5]
    used = np.isin(events.trial_type, having) if kinds else np.ones(events.onset.size, dtype=bool)
    without = [str(kind) for kind in kinds if kind not in having]
    if not used.any():
        steps.warn(
            f"the {len(triggers)} triggers of {channel} fit no events of events.tsv ({events.onset.size} events)"
        )
        steps.add(
            "triggers",
            f"{channel} and events.tsv do not agree",
            channel=channel,
            n_triggers=len(triggers),
            onset_shift_s=shift,
        )
        return
    found = match_triggers(events.onset[used], triggers)
    steps.add("triggers", f"events.tsv against {channel}", channel=channel, onset_shift_s=shift,
              types_without_triggers=without[:10], **vars(found))  # fmt: skip
    for number, what in (
        (found.missing, "events have no trigger"),
        (found.extra, "triggers have no event"),
        (found.doubled, "triggers are doubled (within 20 ms)"),
    ):
        if number:
            steps.warn(f"{number} {what} in {channel}")
    if found.worst_ms > 10:
        steps.warn(f"events and triggers differ by up to {found.worst_ms:.1f} ms (deviation {found.jitter_ms:.1f} ms)")


def usual_offset(onsets: NDArray[np.float64], triggers: NDArray[np.float64]) -> float:
    """Return the time from triggers to onsets that most pairs share, in seconds; of equals, the smallest."""
    differences = np.concatenate(
        [onset - triggers[np.abs(onset - triggers) <= _REACH_S] for onset in onsets] or [np.zeros(0)]
    )
    if not differences.size:
        return 0.0
    edges = np.arange(-_REACH_S - _BIN_S / 2, _REACH_S + _BIN_S, _BIN_S)
    counts, _ = np.histogram(differences, edges)
    wide = np.convolve(counts, np.ones(3), mode="same")
    centres = (edges[:-1] + edges[1:]) / 2
    best = centres[wide >= 0.9 * wide.max()]
    middle = best[np.argmin(np.abs(best))]
    return float(np.median(differences[np.abs(differences - middle) <= 2 * _BIN_S]))


def _share(onsets: NDArray[np.float64], triggers: NDArray[np.float64], offset: float) -> float:
    distance = np.abs(onsets[:, None] - triggers[None] - offset).min(axis=1)
    return float((distance <= _SAME_S).mean())


def match_triggers(onsets: NDArray[np.float64], triggers: NDArray[np.float64]) -> Match:
    """Match events and triggers.

    Parameters
    ----------
    onsets : array of shape (n_events,)
        Seconds, as events.tsv gives them.
    triggers : array of shape (n_triggers,)
        Seconds, in order.
    """
    bounced = np.concatenate([[False], np.diff(triggers) < _BOUNCE_S])
    single = triggers[~bounced]
    offset = usual_offset(onsets, single)
    difference = onsets[:, None] - single[None] - offset
    nearest = np.abs(difference).argmin(axis=1)
    apart = difference[np.arange(onsets.size), nearest]
    fits = np.abs(apart) <= _SAME_S
    taken = np.unique(nearest[fits])
    rest = apart[fits] if fits.any() else np.zeros(1)
    return Match(
        n_events=int(onsets.size), n_triggers=int(triggers.size), missing=int((~fits).sum()),
        extra=int(single.size - taken.size), doubled=int(bounced.sum()), offset_ms=round(offset * 1000, 3),
        jitter_ms=round(float(rest.std()) * 1000, 3), worst_ms=round(float(np.abs(rest).max()) * 1000, 3),
    )  # fmt: skip
