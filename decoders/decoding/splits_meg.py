"""The split of decoding from sensors: the last runs are held out, or the end of the only run with a gap before it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from decoders.config import MegDecodingSettings, MegSettings
from decoders.decoding.splits_voxels import word_vectors
from decoders.errors import InputError
from decoders.stats.declared import Claim, Corpus, Declaration, DeclaredSplit, Fit, Rows, TimedRun
from decoders.stats.declared_rows import whole

ANALYSIS, SETTING = "meg", "decoding.meg"
TEXT_SCALING, SENSOR_SCALING = "mean and scale of the text features", "median and spread of each sensor"
# The FIR that mne designs (Hamming): 3.3 over the width of its transition band, in seconds.
_TAPS, _SHARE, _LEAST_HZ = 3.3, 0.25, 2.0
_NOTCH_TRANSITION_HZ = 0.5


def filter_memory(meg: MegSettings) -> float:
    """Return the seconds that the filters of preprocessing join: the lengths of their FIRs, and the window of tSSS."""
    seconds = meg.tsss_window_s if meg.maxwell == "tsss" else 0.0
    if meg.high_pass_hz is not None:
        seconds += _TAPS / min(max(_SHARE * meg.high_pass_hz, _LEAST_HZ), meg.high_pass_hz)
    if meg.notch:
        seconds += _TAPS / _NOTCH_TRANSITION_HZ
    return seconds


def sensor_runs(runs: Sequence[TimedRun], meg: MegSettings | None, response_s: float) -> list[TimedRun]:
    """Return runs of sensors with what reaches from one moment to another: the filters and the brain's answer."""
    memory = round(filter_memory(meg or MegSettings()), 6)
    return [replace(run, filter_s=memory, response_s=response_s) for run in runs]


def declare_meg(
    runs: Sequence[TimedRun], settings: MegDecodingSettings, stimuli: Collection[str], tested: Collection[str]
) -> Declaration:
    """Declare the split of one subject.

    Parameters
    ----------
    runs : sequence of TimedRun
        Of `sensor_runs`, in order of session, run and stimulus.
    settings : MegDecodingSettings
    stimuli : collection of str
        All stimuli with words.
    tested : collection of str
        Stimuli of held-out runs of any subject: the language model reads none of them.

    Raises
    ------
    InputError
        No run is left for training, or too little of the only one.
    """
    n = settings.test_runs
    claims: tuple[Claim, ...] = ("run", "stimulus")
    if len(runs) == 1:
        train, test = _of_one_run(runs[0], settings)
        name, claims = f"sub-{runs[0].subject}/end_of_run", ("time",)
    elif len(runs) > n:
        train, test = whole(runs[:-n]), whole(runs[-n:])
        name = f"sub-{runs[0].subject}/test_runs"
    else:
        remedy = "Lower 'test_runs' or add runs."
        raise InputError(f"more than {n} runs", f"{len(runs)}", f"{SETTING}.test_runs", remedy)
    split = DeclaredSplit(name, claims, train, test, _fits(len(runs) == 1), _corpora(settings, stimuli, tested))
    return Declaration(ANALYSIS, SETTING, tuple(runs), (split,))


def held_out_of(parts: Sequence[Sequence[TimedRun]], settings: MegDecodingSettings) -> set[str]:
    """Return the stimuli of the runs that are held out of each subject."""
    return {run.stimulus for part in parts for run in part[-settings.test_runs :]}


def _of_one_run(run: TimedRun, settings: MegDecodingSettings) -> tuple[tuple[Rows, ...], tuple[Rows, ...]]:
    """Return the beginning and the end of a run; what a filter or an answer reaches across lies between them."""
    first = run.n_rows - round(settings.test_share * run.n_rows)
    stop = first - math.ceil((run.filter_s + run.response_s) / run.tr)
    needed = 2 * (settings.window_s + settings.response_s)
    if stop * run.tr < needed * settings.folds or (run.n_rows - first) * run.tr < needed:
        found = f"{max(0.0, stop * run.tr):.4g} s and {(run.n_rows - first) * run.tr:.4g} s"
        expected = f"{needed * settings.folds:g} s to train on and {needed:g} s to test on, {run.filter_s:g} s apart"
        remedy = "One run is too short for this: add runs, or shorten the windows or the filter's memory."
        raise InputError(expected, found, f"{SETTING}.test_share ({run.key})", remedy)
    return (Rows(run.key, 0, stop),), (Rows(run.key, first, run.n_rows),)


def _fits(one_run: bool) -> tuple[Fit, ...]:
    cleaned = Fit("scaling", "what preprocessing takes out (artefacts, drifts)", "each run", "preprocess.meg")
    return (
        cleaned,
        Fit("scaling", SENSOR_SCALING, "train" if one_run else "each run", SETTING),
        Fit("scaling", TEXT_SCALING, "train", SETTING),
        Fit("selection", "the choice of sensors by the gate", "train", f"{SETTING}.n_null_gates"),
        Fit("penalty", "penalties and the epoch that is kept, by inner parts", "train", f"{SETTING}.folds"),
    )


def _corpora(settings: MegDecodingSettings, stimuli: Collection[str], tested: Collection[str]) -> tuple[Corpus, ...]:
    found = [word_vectors(settings, sorted(stimuli), block=SETTING)]
    if settings.text is not None:
        heard = tuple(sorted(set(stimuli) - set(tested)))
        what = "The character language model and the words that it may write"
        found.append(Corpus("language_model", what, f"{SETTING}.text.corpus", heard, settings.text.corpus))
    return tuple(found)
