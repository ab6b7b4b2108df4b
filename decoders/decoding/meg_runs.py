"""Runs of MEG or EEG as decoding reads them: scaled sensors at two rates, and the features of what was heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from decoders.config import MegDecodingSettings
from decoders.decoding.splits_meg import SENSOR_SCALING, SETTING
from decoders.decoding.stage_free_text import heard_in
from decoders.errors import InputError
from decoders.stats.declared import DeclaredSplit, Rows
from decoders.stimuli.embedding import Embedding
from decoders.stimuli.features import feature_matrix, zscore_runs
from decoders.stimuli.timings import Words
from decoders.store.recording import Recording

# Columns of the text before the word vectors, each also a control of its own.
COLUMNS = ("word_rate", "duration", "letters")
_IQR_OF_NORMAL = 1.3489795
_MOST_SPREADS = 6.0  # what is further out is an artefact, and would be most of a mean square


@dataclass(frozen=True)
class Stretch:
    """A part of a run without a hole.

    Attributes
    ----------
    fast : array of shape (n_samples * factor, n_sensors), float32
        At `sfreq`: mean 0 and sd 1 over what it was scaled by.
    slow : array of shape (n_samples, n_sensors), float32
        At `text_hz`.
    words : Words
        What was heard, in seconds from its first sample.
    label, stimulus : str
        Of the run.
    start : float
        Seconds of the stimulus at its first sample.
    hz : float
        Samples of `slow` per second.
    text : array of shape (n_samples, n_features), float32
        Features of the words at `text_hz`: those of `COLUMNS`, then word vectors.
    """

    fast: NDArray[np.float32]
    slow: NDArray[np.float32]
    words: Words
    label: str
    stimulus: str
    start: float
    hz: float
    text: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))

    @property
    def factor(self) -> int:
        """Samples of `fast` per sample of `slow`."""
        return len(self.fast) // max(1, len(self.slow))

    def part(self, first: int, stop: int) -> Stretch:
        """Return the samples `first` to `stop` - 1 of `slow`, and the same of all else; words by their onset."""
        fast, begin = self.fast[first * self.factor : stop * self.factor], first / self.hz
        words = self.words.between(begin, stop / self.hz)
        return replace(
            self, fast=fast, slow=self.slow[first:stop], text=self.text[first:stop], start=self.start + begin,
            words=replace(words, onset=words.onset - begin),
        )  # fmt: skip


def stretches(
    recordings: Mapping[str, Recording], split: DeclaredSplit, words: Mapping[str, Words], settings: MegDecodingSettings
) -> tuple[list[Stretch], list[Stretch]]:
    """Return what trains and what is held out of the runs of one subject, without features of the text.

    Parameters
    ----------
    recordings : mapping of str to Recording
        By the key of the declared run; kind "sensor", axis "time".
    split : DeclaredSplit
    words : mapping of str to Words
        By stimulus.
    settings : MegDecodingSettings

    Raises
    ------
    InputError
        Runs of other sensors, values that are not finite, sensors without variation, or runs without words.
    """
    check_sensors(recordings)
    shared = split.fit("scaling", SENSOR_SCALING).on == "train"
    sides = []
    for side in (split.train, split.test):
        found = []
        for rows in side:
            recording = recordings[rows.run]
            by = next(part for part in split.train if part.run == rows.run) if shared else None
            found.append(stretch(recording, rows, words[recording.stimulus], settings, by))
        sides.append(found)
    return sides[0], sides[1]


def stretch(
    recording: Recording, rows: Rows, words: Words, settings: MegDecodingSettings, by: Rows | None = None
) -> Stretch:
    """Return declared rows of a recording, scaled by the whole run, or by some of its rows alone.

    Parameters
    ----------
    recording : Recording
    rows : Rows
    words : Words
        Of its stimulus.
    settings : MegDecodingSettings
    by : Rows, optional
        What median and spread are taken of; the run when absent.
    """
    where = run_name(recording)
    data = np.asarray(recording.data, dtype=np.float64)
    if not np.isfinite(data).all():
        remedy = "Look at what preprocessing did to this run, and leave it out."
        raise InputError("finite values", f"{int((~np.isfinite(data)).sum())} that are not", where, remedy)
    if settings.whiten:
        data = data @ symmetric_whitener(recording).T
    known = slice(None) if by is None else slice(by.first, by.stop)
    cut = scaled(data, known, recording.names, where)[rows.first : rows.stop]
    fast = resampled(cut, recording.sfreq, settings.sfreq, where)
    factor = round(settings.sfreq / settings.text_hz)
    n = len(fast) // factor
    if n < 2 * round((settings.window_s + settings.response_s) * settings.text_hz):
        expected = f"at least two windows of {settings.window_s:g} s and their answers in every run"
        remedy = "Leave the run out, or shorten the windows."
        raise InputError(expected, f"{len(cut) / recording.sfreq:g} s", where, remedy)
    fast = fast[: n * factor]
    slow = resampled(fast, settings.sfreq, settings.text_hz, where)[:n]
    timed = replace(recording, tr=1 / recording.sfreq, time=recording.time[rows.first : rows.stop])
    return Stretch(
        fast.astype(np.float32), slow.astype(np.float32), heard_in(timed, words), recording.run or "1",
        recording.stimulus, float(timed.time[0]), settings.text_hz,
    )  # fmt: skip


def with_text(
    train: Sequence[Stretch], test: Sequence[Stretch], embedding: Embedding, hz: float
) -> tuple[list[Stretch], list[Stretch]]:
    """Return stretches with the features of their words, z-scored by those that train.

    Parameters
    ----------
    train, test : sequence of Stretch
    embedding : Embedding
    hz : float
        Samples per second of the features.
    """
    every = [*train, *test]
    plain = [text_features(one.words, embedding, len(one.slow), hz) for one in every]
    scored = zscore_runs(plain, range(len(train)))
    filled = [replace(one, text=text.astype(np.float32)) for one, text in zip(every, scored, strict=True)]
    return filled[: len(train)], filled[len(train) :]


def text_features(words: Words, embedding: Embedding, n: int, hz: float) -> NDArray[np.float64]:
    """Return word count, seconds of speech, letters and word vectors per sample, shape (n, n_features).

    Sensors answer to the beginning of a word, so all but the seconds of speech stand there.
    """
    times = np.arange(n) / hz
    sudden = at_onset(words)
    count, letters, vectors = (
        feature_matrix((name,), sudden, times, 1 / hz, embedding=embedding)[0]
        for name in ("word_rate", "letters", "embedding")
    )
    spoken = feature_matrix(("speech_seconds",), words, times, 1 / hz)[0]
    return np.column_stack([count, spoken, letters, vectors])


def at_onset(words: Words) -> Words:
    """Return words whose middle is their onset."""
    return replace(words, duration=np.zeros(len(words)))


def fold_parts(train: Sequence[Stretch], settings: MegDecodingSettings) -> list[Stretch]:
    """Return runs as the folds of the gate take them: part k of a list belongs to fold k modulo the number of folds.

    Where there are fewer runs than folds, each is cut into as many parts as there are folds; what sensors answer to
    the end of a part is left out before the next one.

    Raises
    ------
    InputError
        Parts that are too short for three windows.
    """
    gap = round(settings.response_s * settings.text_hz)
    needed = 3 * round(settings.window_s * settings.text_hz) + gap
    parts = list(train)
    if len(train) < settings.folds:
        parts = []
        for one in train:
            edges = np.linspace(0, len(one.slow), settings.folds + 1).round().astype(int)
            ends = [*(edges[1:-1] - gap), edges[-1]]
            parts += [one.part(int(a), int(b)) for a, b in zip(edges[:-1], ends, strict=True)]
    shortest = min(len(part.slow) for part in parts)
    if shortest < needed:
        expected = f"training parts of {needed / settings.text_hz:g} s or more, {settings.folds} folds"
        found = f"{shortest / settings.text_hz:g} s"
        raise InputError(expected, found, f"{SETTING}.folds", "Lower 'folds' or 'window_s', or add runs.")
    return parts


def scaled(
    data: NDArray[np.float64], known: slice, names: Sequence[str] | NDArray[np.object_], where: str
) -> NDArray[np.float64]:
    """Scale every sensor by its median and spread, clip what is far out, and bring it to mean 0 and sd 1.

    Parameters
    ----------
    data : array of shape (n_samples, n_sensors)
    known : slice
        Samples that the scale is taken of.
    names : sequence of str
    where : str
        Named in errors.
    """
    low, middle, high = np.quantile(data[known], [0.25, 0.5, 0.75], axis=0)
    spread = (high - low) / _IQR_OF_NORMAL
    if not (spread > 0).all():
        flat = ", ".join(str(name) for name, s in zip(names, spread, strict=True) if not s > 0)
        raise InputError("sensors that vary", f"none in {flat}", where, "Mark them as bad in channels.tsv.")
    z = np.clip((data - middle) / spread, -_MOST_SPREADS, _MOST_SPREADS)
    result: NDArray[np.float64] = (z - z[known].mean(0)) / z[known].std(0)
    return result


def resampled(data: NDArray[np.floating], old_hz: float, new_hz: float, where: str) -> NDArray[np.floating]:
    """Resample time courses of shape (n_samples, n_sensors); a low-pass comes first.

    Raises
    ------
    InputError
        More samples per second than there are.
    """
    from scipy.signal import resample_poly

    if new_hz > old_hz * (1 + 1e-9):
        remedy = f"Lower it, or raise preprocess.meg.sfreq ({where})."
        raise InputError(f"at most the {old_hz:g} Hz of the recording", f"{new_hz:g} Hz", f"{SETTING}.sfreq", remedy)
    ratio = Fraction(new_hz / old_hz).limit_denominator(1000)
    if ratio == 1:
        return data
    found: NDArray[np.floating] = resample_poly(data, ratio.numerator, ratio.denominator, axis=0, padtype="line")
    return found


def symmetric_whitener(recording: Recording) -> NDArray[np.float64]:
    """Return C^(-1/2) of the noise covariance in its own subspace, shape (n_sensors, n_sensors).

    The symmetric root changes sensors least of all matrices that whiten: each stays the sensor that it was.

    Raises
    ------
    InputError
        No noise covariance.
    """
    if not recording.noise_covariance.size:
        remedy = "Set decoding.meg.whiten to false, or give an empty-room run."
        raise InputError("a noise covariance", "none", run_name(recording), remedy)
    values, vectors = np.linalg.eigh(recording.noise_covariance.astype(np.float64))
    kept = values > values.max() * len(values) * np.finfo(np.float64).eps ** 0.75
    root: NDArray[np.float64] = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    return root


def check_sensors(recordings: Mapping[str, Recording]) -> None:
    """Refuse runs of one subject that have other sensors, or the same in another order.

    Raises
    ------
    InputError
        Names the first odd run and its sensors.
    """
    first, *others = recordings.values()
    for other in others:
        if list(other.names) != list(first.names):
            odd = sorted(set(map(str, first.names)) ^ set(map(str, other.names)))
            found = f"others ({', '.join(odd[:6])})" if odd else "the same in another order"
            remedy = "Set preprocessing to interpolate bad sensors, or leave the run out."
            raise InputError(f"the {len(first.names)} sensors of {run_name(first)}", found, run_name(other), remedy)


def run_name(recording: Recording) -> str:
    """Return what a run is called in errors."""
    return f"sub-{recording.subject} task-{recording.task or 'n/a'} run-{recording.run or '1'}"
