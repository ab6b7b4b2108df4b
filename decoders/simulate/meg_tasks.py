"""What happens in a run of MEG: pictures, catches and words on the sample grid, and the answers that they evoke."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate.meg_courses import superpose
from decoders.simulate.meg_dipoles import TEMPORAL, VENTRAL, VISUAL
from decoders.simulate.meg_head import meg_of
from decoders.simulate.meg_noise import Part
from decoders.simulate.meg_sources import Source, draw_sources
from decoders.simulate.pictures import PictureSet, picture_features, picture_order
from decoders.simulate.story import Stories
from decoders.simulate.streams import stream

Task = Literal["pictures", "story", "noise"]
Fields = dict[str, NDArray[np.float64]]
# Values of the trigger channel; pictures follow in the order of stimuli/pictures.tsv.
FIXATION, CATCH, STORY, WORD, FIRST_PICTURE = 1, 2, 3, 4, 11
PULSE_S = 0.012
DURATION_S = 0.5
LEAD_S, TAIL_S = 3.0, 2.0
_FIXATION_S = 0.5
_GAPS_S = (1.0, 1.1, 1.2)
_CATCH_SHARE, _CATCH_SIZE = 0.1, 0.6
_SYLLABLE_S = 0.2


@dataclass(frozen=True)
class Timeline:
    """What happens in a run, and when.

    Attributes
    ----------
    events : DataFrame
        Columns onset, duration (seconds from the first sample), trial_type, value, sample, stim_file, and word in
        stories. Rows in order of onset.
    n_times : int
        Samples of the run.
    """

    events: pd.DataFrame
    n_times: int

    def triggers(self, sfreq: float) -> NDArray[np.float64]:
        """Return the trigger channel: pulses of 12 ms with the value of each event, shape (n_times,)."""
        channel = np.zeros(self.n_times)
        sent = self.events.dropna(subset="value")
        for sample, value in zip(sent["sample"], sent["value"], strict=True):
            channel[sample : sample + max(1, round(PULSE_S * sfreq))] = value
        return channel


def picture_timeline(settings: PhantomSettings, shown: PictureSet, subject: int, run: int) -> Timeline:
    """Draw a run of pictures: each several times, never twice in a row, with catches (the cross changes) in between."""
    meg, rng = meg_of(settings), stream(settings.seed, "meg picture order", subject, run)
    indices = picture_order(len(shown.names), meg.repeats, rng)
    n_catches = max(1, round(_CATCH_SHARE * len(indices)))
    # Never first, never two in a row.
    places = np.sort(rng.choice(np.arange(1, len(indices)), n_catches, replace=False))
    order = np.insert(indices, places, -1)
    gaps = rng.permutation(np.resize(_GAPS_S, len(order)))
    onset = np.round((LEAD_S + np.concatenate([[0.0], np.cumsum(gaps)[:-1]])) * meg.sfreq) / meg.sfreq
    events = pd.DataFrame(
        {
            "onset": onset,
            "duration": DURATION_S,
            "trial_type": [shown.names[i] if i >= 0 else "catch" for i in order],
            "value": np.where(order >= 0, FIRST_PICTURE + order, CATCH),
            "stim_file": [f"pictures/{shown.names[i]}.png" if i >= 0 else None for i in order],
        }
    )
    fixation = pd.DataFrame(
        {
            "onset": [round(_FIXATION_S * meg.sfreq) / meg.sfreq],
            "duration": [onset[0] - _FIXATION_S],
            "trial_type": ["fixation"],
            "value": [FIXATION],
            "stim_file": [None],
        }
    )
    return _timeline(pd.concat([fixation, events], ignore_index=True), onset[-1] + gaps[-1] + TAIL_S, meg.sfreq)


def story_timeline(settings: PhantomSettings, stories: Stories, run: int) -> Timeline:
    """Return a run of a story: the story as a whole, then its words; triggers are at the samples nearest to them."""
    meg, words = meg_of(settings), stories.words[run]
    told = words.between(0.0, meg.story_s)
    duration = np.minimum(told.duration, meg.story_s - told.onset)
    start = round(LEAD_S * meg.sfreq) / meg.sfreq
    story = pd.DataFrame(
        {
            "onset": [start],
            "duration": [meg.story_s],
            "trial_type": [None],
            "value": [STORY],
            "word": [None],
            "stim_file": [f"story{run + 1:02d}_words.tsv"],
        }
    )
    spoken = pd.DataFrame(
        {"onset": start + told.onset, "duration": duration, "trial_type": "word", "value": WORD, "word": told.word}
    )
    # A word that begins with the story has no trigger of its own.
    spoken["value"] = spoken["value"].astype("Int64").mask(told.onset <= PULSE_S)
    events = pd.concat([story.astype({"value": "Int64"}), spoken.assign(stim_file=None)], ignore_index=True)
    return _timeline(events, start + meg.story_s + TAIL_S, meg.sfreq)


def picture_answer(
    settings: PhantomSettings, fields: Fields, shown: PictureSet, timeline: Timeline, subject: int
) -> tuple[Part, ...]:
    """Return what the pictures evoke, one part per source (visual, ventral).

    Returns
    -------
    tuple of Part
        Courses are the moments of the source's dipoles in Am.
    """
    times = np.arange(timeline.n_times) / meg_of(settings).sfreq
    rows = {name: i for i, name in enumerate(shown.names)}
    kinds = timeline.events["trial_type"]
    seen = timeline.events[kinds.isin([*rows, "catch"])]
    parts = []
    for source, code in zip(draw_sources(settings, "pictures", subject), picture_codes(shown), strict=True):
        values = np.array(
            [
                source.shared + code[rows[kind]] @ source.weights.T if kind in rows else _CATCH_SIZE * source.shared
                for kind in seen["trial_type"]
            ]
        )
        parts.append(_evoked(fields, source, times, seen["onset"].to_numpy(), values))
    return tuple(parts)


def picture_codes(shown: PictureSet) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the planted geometries: principal components of what the fMRI regions code.

    Returns
    -------
    visual : array of shape (n_pictures, 8)
        Of the pictures at 8 x 8 pixels; centred, rows of unit norm on (root mean square) average.
    ventral : array of shape (n_pictures, 5)
        Of family and shape, all of it.
    """
    early, late = picture_features(shown)
    return _components(early, VISUAL.n_dimensions), _components(late, VENTRAL.n_dimensions)


def word_codes(settings: PhantomSettings, stories: Stories, run: int) -> NDArray[np.float64]:
    """Return what the temporal source codes of each word of a run.

    Returns
    -------
    array of shape (n_words, 6)
        Projections of the 24-dimensional word vectors, the same for all people; of zero mean and unit norm (root mean
        square) over the words of all stories.
    """
    vectors = [stories.embedding.lookup(words.word) for words in stories.words]
    n = vectors[0].shape[1]
    frame = np.linalg.qr(stream(settings.seed, "meg word dimensions").standard_normal((n, TEMPORAL.n_dimensions)))[0]
    everything = np.concatenate(vectors)
    codes = (vectors[run] - everything.mean(axis=0)) / everything.std(axis=0) @ frame
    return np.asarray(codes / np.sqrt(TEMPORAL.n_dimensions), dtype=np.float64)


def story_answer(
    settings: PhantomSettings, fields: Fields, stories: Stories, timeline: Timeline, subject: int, run: int
) -> tuple[Part, ...]:
    """Return what a story evokes, one part per source (auditory, envelope, temporal)."""
    times = np.arange(timeline.n_times) / meg_of(settings).sfreq
    words = timeline.events[timeline.events["trial_type"] == "word"]
    onsets = words["onset"].to_numpy()
    codes = word_codes(settings, stories, run)[: len(words)]
    auditory, envelope, temporal = draw_sources(settings, "story", subject)
    syllables, loudness = _syllables(onsets, words["duration"].to_numpy())
    return (
        _evoked(fields, auditory, times, onsets, np.tile(auditory.shared, (len(words), 1))),
        _evoked(fields, envelope, times, syllables, loudness[:, None] * envelope.shared),
        _evoked(fields, temporal, times, onsets, temporal.shared + codes @ temporal.weights.T),
    )


def _syllables(
    onset: NDArray[np.float64], duration: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut words into pieces of about 200 ms, the humps of the speech envelope; the first of a word is the loudest."""
    n = np.maximum(1, np.round(duration / _SYLLABLE_S)).astype(int)
    number = np.concatenate([np.arange(k) for k in n]) if len(n) else np.zeros(0)
    times = np.repeat(onset, n) + number * np.repeat(duration / n, n)
    return times, 1 / (1 + 0.5 * number)


def _evoked(
    fields: Fields, source: Source, times: NDArray[np.float64], onsets: NDArray[np.float64], values: NDArray[np.float64]
) -> Part:
    return Part(
        fields[source.patch.name], superpose(times, onsets, values, source.course, (source.onset_s, source.end_s))
    )


def _components(features: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    centred = features - features.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is free: its largest entry is made positive, so that every machine agrees.
    left = left * np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    codes = np.zeros((len(features), n))
    kept = min(n, len(size))
    codes[:, :kept] = left[:, :kept] * size[:kept]
    return codes / np.sqrt((codes**2).sum(axis=1).mean())


def _timeline(events: pd.DataFrame, seconds: float, sfreq: float) -> Timeline:
    events.insert(events.columns.get_loc("value") + 1, "sample", np.round(events["onset"] * sfreq).astype(int))
    n_times = round(seconds * sfreq)
    sent = events.dropna(subset="value")
    close = np.diff(sent["sample"]) <= round(PULSE_S * sfreq)
    if close.any():
        at = float(sent["onset"].to_numpy()[1:][close][0])
        remedy = "Choose a higher sampling rate."
        raise InputError(
            "events whose triggers can be told apart", f"two at {at:.3f} s", "data.phantom.meg.sfreq", remedy
        )
    return Timeline(events, n_times)
