"""Text windows as stimuli of alignment: what was recorded in each, and what networks make of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from decoders.signal.events import Block
from decoders.signal.glm import apply_weights, block_weights
from decoders.stimuli.story_windows import pooled
from decoders.store.arrays import Array, Arrays
from decoders.store.recording import Recording

_EDGE = 1e-6


def window_trials(recording: Recording, windows: pd.DataFrame, lag_s: float) -> Recording:
    """Return one sample per window of the recording's story: the mean of the volumes that start in it, after a lag.

    Parameters
    ----------
    recording : Recording
        Axis "time", in seconds since the onset of its stimulus.
    windows : DataFrame
        As `decoders.stimuli.story_windows.story_windows` returns it.
    lag_s : float
        Seconds by which the response follows the words.

    Returns
    -------
    recording : Recording
        Axis "trial", windows as conditions. Windows that the recording does not hold to their end are left out; an
        excluded recording is returned as it is.
    """
    if recording.excluded:
        return replace(recording, axis="trial")
    heard = windows[windows["stimulus"].astype(str) == recording.stimulus]
    blocks = [
        Block(str(name), float(onset), float(onset + duration))
        for name, onset, duration in zip(heard["name"], heard["onset"], heard["duration"], strict=True)
    ]
    start = float(recording.time[0]) - _EDGE
    stop = float(recording.time[-1]) + recording.tr + _EDGE
    blocks = [block for block in blocks if start <= block.onset + lag_s and block.end + lag_s <= stop]
    whose = f"subject {recording.subject}, story {recording.stimulus}"
    weights = block_weights(blocks, recording.time, lag_s, whose) if blocks else np.zeros((0, len(recording.time)))
    return replace(
        recording,
        data=apply_weights(weights, recording.data),
        axis="trial",
        time=np.array([block.onset for block in blocks]),
        conditions=np.array([block.condition for block in blocks], dtype=object),
        groups=np.zeros(0, dtype=np.int64),
    )


def window_features(file: Arrays, windows: pd.DataFrame, names: Sequence[str]) -> Arrays:
    """Return the features of words as features of windows: the mean over the words that begin in each.

    Parameters
    ----------
    file : Arrays
        ``text/<layer>`` (word, unit), and the words that the rows belong to (`decoders.learning.text_features`).
    windows : DataFrame
    names : sequence of str
        The recorded windows.

    Returns
    -------
    Arrays
        ``text/<layer>`` (stimulus, unit), the attribute ``stimuli`` with the names; no array where the network reads
        no text.
    """
    layers = {name: array for name, array in file.arrays.items() if name.startswith("text/")}
    if not layers:
        return Arrays({}, file.attributes)
    told = windows[windows["name"].isin(list(names))]
    stimuli, onsets = file["words/stimulus"].tolist(), np.asarray(file["words/onset"], dtype=float)
    arrays = {
        name: Array(pooled(told, stimuli, onsets, array.values), ("stimulus", "unit")) for name, array in layers.items()
    }
    return Arrays(arrays, {**file.attributes, "stimuli": told["name"].tolist()})
