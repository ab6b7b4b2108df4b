"""A look at pieces of a run before anything is done: bad channels, and the frequency of the mains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

# Pieces are spread evenly over the run: an hour is judged by five minutes of it.
TOTAL_S, PIECE_S = 300.0, 5.0
# Below this share of the median deviation of its type a channel is flat.
_FLAT = 0.01
# A run of equal samples at the largest value this long is clipping.
_CLIPPED_S, _CLIPPED_SHARE = 0.01, 0.005
# A noisy channel has also this many times the median deviation: where all channels are alike, z alone says little.
_LEAST_RATIO = 3.0
_MAX_BAD = 0.3
# A line stands out of its surroundings by this factor in power.
_STANDS_OUT = 5.0


def annotated(raw: Any, *prefixes: str) -> NDArray[np.int64]:
    """Return the stretches whose annotations begin with one of some words.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    *prefixes : str
        In capitals.

    Returns
    -------
    spans : array of shape (n_spans, 2)
        First sample and the one after the last, from the start of the file, in order; annotations without
        duration give spans without samples.
    """
    shift, sfreq = raw.first_time if raw.annotations.orig_time is not None else 0.0, raw.info["sfreq"]
    spans = [
        (round((item["onset"] - shift) * sfreq), round((item["onset"] - shift + item["duration"]) * sfreq))
        for item in raw.annotations
        if str(item["description"]).upper().startswith(prefixes)
    ]
    inside = [(max(0, start), min(raw.n_times, stop)) for start, stop in spans if start <= raw.n_times and stop >= 0]
    return np.array(sorted(inside), dtype=np.int64).reshape(-1, 2)


def excerpts(raw: Any, total_s: float = TOTAL_S, piece_s: float = PIECE_S) -> list[tuple[int, int]]:
    """Return evenly spread pieces of a run without those that annotations call bad (first sample, end)."""
    piece = min(raw.n_times, max(1, round(piece_s * raw.info["sfreq"])))
    room = raw.n_times // piece
    count = min(room, max(1, round(total_s / piece_s)))
    starts = [int(place * piece) for place in np.unique(np.linspace(0, room - 1, count).astype(int))]
    spans = annotated(raw, "BAD", "EDGE")
    good = [start for start in starts if not ((spans[:, 0] < start + piece) & (spans[:, 1] > start)).any()]
    return [(start, start + piece) for start in good or starts]


def judge_channels(
    raw: Any, names: Sequence[str], kinds: Sequence[str], pieces: Sequence[tuple[int, int]], noisy_z: float
) -> dict[str, list[str]]:
    """Find channels that are flat, saturated, not finite or noisy.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    names, kinds : sequence of str
        Channels to judge, and the type of each; a channel is compared with those of its type.
    pieces : sequence of (int, int)
        As `excerpts` returns them.
    noisy_z : float
        Robust z (median and MAD over the channels of a type) of the logarithm of the deviation.

    Returns
    -------
    found : dict of str to list of str
        Reason ("not finite", "flat", "saturated", "noisy") to names.

    Notes
    -----
    A channel's deviation is the median over seconds of the deviation about a straight line: a blink, or a drift,
    does not make a channel noisy.
    """
    rows = [raw.ch_names.index(name) for name in names]
    size: list[NDArray[np.float64]] = []
    clipped, seen = np.zeros(len(rows)), 0
    finite = np.ones(len(rows), dtype=bool)
    # Extremes of all pieces first: what is clipped in one piece must not hide behind another range.
    low, high = _extremes(raw, rows, pieces)
    second = max(2, round(raw.info["sfreq"]))
    for start, stop in pieces:
        data = raw[rows, start:stop][0]
        finite &= np.isfinite(data).all(axis=1)
        data = np.nan_to_num(data, posinf=0.0, neginf=0.0)
        clipped += _clipped(data, low, high, max(3, round(_CLIPPED_S * raw.info["sfreq"])))
        seen += data.shape[1]
        size += [_deviation(part) for part in np.array_split(data, max(1, data.shape[1] // second), axis=1)]
    spread = np.median(size, axis=0)
    reasons = _reasons(spread, clipped / max(seen, 1), finite, np.asarray(kinds), noisy_z)
    return {reason: [name for name, bad in zip(names, found, strict=True) if bad] for reason, found in reasons.items()}


def _extremes(
    raw: Any, rows: list[int], pieces: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    for start, stop in pieces:
        data = raw[rows, start:stop][0]
        low, high = np.fmin(low, data.min(axis=1)), np.fmax(high, data.max(axis=1))
    return low, high


def _clipped(
    data: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], least: int
) -> NDArray[np.float64]:
    """Return the number of samples in runs of at least `least` at an extreme."""
    counts = np.zeros(len(data))
    for row, values in enumerate(data):
        if low[row] == high[row]:
            continue
        for extreme in (low[row], high[row]):
            at = np.concatenate([[0], (values == extreme).astype(np.int8), [0]])
            edges = np.flatnonzero(np.diff(at))
            lengths = edges[1::2] - edges[::2]
            counts[row] += lengths[lengths >= least].sum()
    return counts


def _deviation(data: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.signal import detrend

    return np.asarray(detrend(data, axis=1).std(axis=1))


def _reasons(
    spread: NDArray[np.float64],
    clipped: NDArray[np.float64],
    finite: NDArray[np.bool_],
    kinds: NDArray[Any],
    noisy_z: float,
) -> dict[str, NDArray[np.bool_]]:
    flat, noisy = np.zeros(len(spread), dtype=bool), np.zeros(len(spread), dtype=bool)
    saturated = finite & (clipped > _CLIPPED_SHARE)
    for kind in np.unique(kinds):
        own = (kinds == kind) & finite
        if not own.any():
            continue
        middle = float(np.median(spread[own]))
        flat |= own & (spread <= _FLAT * middle)
        used = own & ~flat & ~saturated
        if used.sum() < 3:
            continue
        logs = np.log(spread[used])
        mad = 1.4826 * np.median(np.abs(logs - np.median(logs)))
        z = (logs - np.median(logs)) / max(mad, 1e-12)
        noisy[used] = (z > noisy_z) & (logs - np.median(logs) > np.log(_LEAST_RATIO))
    return {"not finite": ~finite, "flat": flat, "saturated": saturated & ~flat, "noisy": noisy}


def check_enough_good(n_bad: int, n_all: int, listed: str, where: object) -> None:
    """Refuse a run of which more than 30 % of the sensors are bad.

    Raises
    ------
    InputError
        Names the share and the reasons.
    """
    if n_bad > _MAX_BAD * n_all:
        remedy = "Look at the recording: it cannot be used like this. Exclude the run, or correct channels.tsv."
        expected = f"at most {_MAX_BAD:.0%} bad sensors"
        raise InputError(expected, f"{n_bad} of {n_all} ({listed})", str(where), remedy)


def line_frequency(raw: Any, rows: Sequence[int], pieces: Sequence[tuple[int, int]]) -> float | None:
    """Return 50 or 60 Hz, whichever stands out of the spectrum of the sensors; None where neither does.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    rows : sequence of int
        Channels; at most 40 of them are read.
    pieces : sequence of (int, int)
    """
    power, frequencies = _spectrum(raw, list(rows[:: max(1, len(rows) // 40)]), pieces)
    heights = {line: prominence(power, frequencies, line) for line in (50.0, 60.0)}
    line = max(heights, key=lambda key: heights[key])
    return line if heights[line] > _STANDS_OUT else None


def _spectrum(
    raw: Any, rows: list[int], pieces: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.signal import welch

    found = []
    for start, stop in pieces:
        data = np.nan_to_num(raw[rows, start:stop][0])
        length = min(data.shape[1], round(2 * raw.info["sfreq"]))
        frequencies, power = welch(data, raw.info["sfreq"], nperseg=length, axis=1)
        found.append(power)
    return np.mean(found, axis=0), frequencies


def prominence(power: NDArray[np.float64], frequencies: NDArray[np.float64], line: float) -> float:
    """Return the power at a frequency over that beside it (1.5 to 5 Hz away), median over channels; 0 out of range."""
    if line + 5 >= frequencies[-1]:
        return 0.0
    distance = np.abs(frequencies - line)
    at, beside = power[:, distance <= 0.6].max(axis=1), power[:, (distance >= 1.5) & (distance <= 5)]
    around = np.median(beside, axis=1)
    alive = around > 0
    return float(np.median(at[alive] / around[alive])) if alive.any() else 0.0
