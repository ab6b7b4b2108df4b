"""Low-pass and decimation of a run that does not fit into memory, then line noise and high-pass at the low rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

# Samples of a block that is filtered at once, and channels that are filtered at once at the low rate.
BLOCK_S, GROUP = 30.0, 24
# Neighbours on each side in the interpolation to another rate (Kaiser window, beta 10: below -90 dB).
_REACH, _BETA = 48, 10.0
# Width of the stop band of a notch: 0.5 % of the frequency, and 1 Hz of transition (as mne.filter.notch_filter).
_NOTCH_WIDTH, _NOTCH_TRANSITION = 0.005, 1.0

# Line noise is fitted to so much of a run's ends.
_FIT_S = 1.0

Read = Callable[[int, int], NDArray[np.float64]]


def low_pass_kernel(sfreq: float, edge: float, where: object) -> tuple[NDArray[np.float64], float]:
    """Return the linear-phase low-pass of odd length (mne's design: Hamming window), and where its stop band starts.

    Raises
    ------
    InputError
        The edge is not below half of the sampling rate.
    """
    import mne

    if edge >= sfreq / 2:
        remedy = "Lower preprocess.meg.low_pass_hz (and high_pass_hz)."
        found = f"{sfreq:g} samples per second"
        raise InputError(f"more than {2 * edge:g} samples per second (twice low_pass_hz)", found, str(where), remedy)
    kernel = mne.filter.create_filter(None, sfreq, None, edge, verbose="ERROR")
    return np.asarray(kernel), edge + min(max(0.25 * edge, 2.0), sfreq / 2 - edge)


def decimation(sfreq: float, wanted: float) -> int:
    """Return how many samples become one: the most that leave at least `wanted` per second."""
    return max(1, int(sfreq / wanted + 1e-9))


def segments(n_times: int, gaps: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the stretches between gaps (first sample, end): filters must not reach over them."""
    edges, found = [*gaps.tolist(), (n_times, n_times)], []
    start = 0
    for gap_start, gap_stop in edges:
        if gap_start > start:
            found.append((start, gap_start))
        start = max(start, gap_stop)
    return found


def low_pass_decimate(
    read: Read,
    n_channels: int,
    pieces: Sequence[tuple[int, int]],
    n_times: int,
    kernel: NDArray[np.float64],
    step: int,
    block: int,
    rate: float = 1.0,
    lines: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Filter a run piece by piece and keep every `step`-th sample.

    Parameters
    ----------
    read : callable
        ``read(start, stop)`` returns the samples as array of shape (n_channels, stop - start).
    n_channels : int
    pieces : sequence of (int, int)
        As `segments` returns them; what lies outside becomes zero.
    n_times : int
        Samples of the run.
    kernel : array of shape (n_taps,)
        Symmetric, of odd length.
    step : int
    block : int
        Samples that are read at once.
    rate : float
        Samples per second.
    lines : sequence of float
        Frequencies of line noise in Hz, which goes on beyond the ends of a piece.

    Returns
    -------
    data : array of shape (n_channels, ceil(n_times / step)), float32
        Sample i is at sample ``i * step`` of the run: the filter has no delay. A piece is continued beyond its
        ends as `continued` does it.
    """
    out = np.zeros((n_channels, -(-n_times // step)), dtype=np.float32)
    half = len(kernel) // 2
    for start, stop in pieces:
        for first, last in _blocks(-(-start // step), (stop - 1) // step + 1, max(1, block // step)):
            wanted = (first * step - half, (last - 1) * step + half + 1)
            data = _beyond(read, wanted, (start, stop), rate, lines)
            out[:, first:last] = _every(data, kernel, step, last - first)
    return out


def _blocks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, size):
        yield start, min(start + size, last)


def _beyond(
    read: Read, wanted: tuple[int, int], piece: tuple[int, int], rate: float, lines: Sequence[float]
) -> NDArray[np.float64]:
    """Return samples, continued beyond the ends of the piece."""
    fitted = round(_FIT_S * rate)
    before, after = max(0, piece[0] - wanted[0]), max(0, wanted[1] - piece[1])
    low, high = max(piece[0], wanted[0]), min(piece[1], wanted[1])
    # A short last block is continued from samples before it.
    low = max(piece[0], min(low, piece[1] - max(after + 1, fitted))) if after else low
    high = min(piece[1], max(high, piece[0] + max(before + 1, fitted))) if before else high
    data = continued(read(low, high), before, after, rate, lines) if before or after else read(low, high)
    first = 0 if before else wanted[0] - low
    return data[:, first : first + wanted[1] - wanted[0]]


@dataclass(frozen=True)
class Lines:
    """Line noise of a run.

    Attributes
    ----------
    hz : float or None
        Frequency of the mains; None where it is unknown, or left in.
    removed : tuple of float
        Its multiples that notches take out at the low rate.
    """

    hz: float | None = None
    removed: tuple[float, ...] = ()

    def below(self, limit: float) -> list[float]:
        """Return the multiples of the mains below a frequency."""
        return (
            [] if self.hz is None else [self.hz * n for n in range(1, int(limit / self.hz) + 1) if self.hz * n < limit]
        )


def continued(
    data: NDArray[np.float64], before: int, after: int, rate: float, lines: Sequence[float]
) -> NDArray[np.float64]:
    """Continue rows beyond their ends: sine waves of the line noise go on, the rest is mirrored.

    A mirror image alone would put a kink into the line noise, which is often larger than the signal and would leave a
    transient; a reflection about the end point (mne's "reflect_limited") would move the level by twice the
    distance of that one sample from it.

    Parameters
    ----------
    data : array of shape (n_channels, n_times)
    before, after : int
        Samples to add.
    rate : float
        Samples per second.
    lines : sequence of float
        Frequencies of line noise in Hz.
    """
    n = data.shape[1]
    mode: Literal["reflect", "edge"] = "reflect" if n > 1 else "edge"
    fitted = min(n, round(_FIT_S * rate))
    if not lines or fitted < 4 * len(lines) + 4:
        return np.pad(data, ((0, 0), (before, after)), mode=mode)
    waves = _waves(np.arange(-before, n + after), rate, lines)
    parts = []
    for count, seen in ((before, slice(0, fitted)), (after, slice(n - fitted, n))):
        within = np.concatenate([waves[before : -after or None][seen], np.ones((fitted, 1))], axis=1)
        size = np.linalg.lstsq(within, data[:, seen].T, rcond=None)[0][:-1]
        rest = data - (waves[before : before + n] @ size).T if count else data
        padded = np.pad(rest, ((0, 0), (before, after)), mode=mode) + (waves @ size).T if count else None
        parts.append(padded)
    first = parts[0][:, :before] if parts[0] is not None else data[:, :0]
    last = parts[1][:, before + n :] if parts[1] is not None else data[:, :0]
    return np.concatenate([first, data, last], axis=1)


def _waves(samples: NDArray[np.int64], rate: float, lines: Sequence[float]) -> NDArray[np.float64]:
    angle = 2 * np.pi * np.outer(samples / rate, lines)
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def _every(data: NDArray[np.float64], kernel: NDArray[np.float64], step: int, count: int) -> NDArray[np.float64]:
    from scipy.signal import upfirdn

    # upfirdn starts with the kernel's first tap on the first sample; the full overlap comes len(kernel) - 1 later.
    skipped = len(kernel) - 1
    shift = -skipped % step
    padded = np.concatenate([np.zeros((len(data), shift)), data], axis=1) if shift else data
    first = (skipped + shift) // step
    return np.asarray(upfirdn(kernel, padded, 1, step, axis=1)[:, first : first + count])


def slow_kernel(
    sfreq: float, lines: Sequence[float], high_pass: float | None, n_least: int, where: object
) -> NDArray[np.float64]:
    """Return one kernel for the notches and the high-pass at the low rate.

    Parameters
    ----------
    sfreq : float
    lines : sequence of float
        Frequencies of line noise in Hz.
    high_pass : float or None
    n_least : int
        Samples of the longest stretch without a gap: a filter longer than it cannot work.
    where : object
        For messages.

    Raises
    ------
    InputError
        The run is shorter than the filter.
    """
    import mne

    kernel = np.ones(1)
    for line in lines:
        half = (line * _NOTCH_WIDTH + _NOTCH_TRANSITION) / 2
        edge = {"l_trans_bandwidth": _NOTCH_TRANSITION / 2, "h_trans_bandwidth": _NOTCH_TRANSITION / 2}
        notch = mne.filter.create_filter(None, sfreq, line + half, line - half, **edge, verbose="ERROR")
        kernel = np.convolve(kernel, notch)
    if high_pass is not None:
        kernel = np.convolve(kernel, mne.filter.create_filter(None, sfreq, high_pass, None, verbose="ERROR"))
    if len(kernel) > n_least:
        seconds = len(kernel) / sfreq
        found = f"{n_least / sfreq:.3g} s at most without a gap"
        remedy = "Raise preprocess.meg.high_pass_hz or set it to null (and notch to false), or leave this run out."
        expected = f"a run of at least {seconds:.3g} s for the high-pass and notch filters"
        raise InputError(expected, found, str(where), remedy)
    return kernel


def filter_in_place(
    data: NDArray[np.float32],
    kernel: NDArray[np.float64],
    pieces: Sequence[tuple[int, int]],
    rate: float = 1.0,
    lines: Sequence[float] = (),
) -> None:
    """Filter channels at the low rate, some at a time; pieces are continued as `continued` does it."""
    from scipy.signal import oaconvolve

    half = len(kernel) // 2
    if not half:
        return
    for start, stop in pieces:
        for first in range(0, len(data), GROUP):
            rows = continued(data[first : first + GROUP, start:stop].astype(np.float64), half, half, rate, lines)
            data[first : first + GROUP, start:stop] = oaconvolve(rows, kernel[None], mode="valid", axes=1)


def resample(data: NDArray[np.float32], rate: float, wanted: float) -> NDArray[np.float32]:
    """Return the channels at exactly another rate.

    Parameters
    ----------
    data : array of shape (n_channels, n_times)
        Band-limited well below half of the lower rate, as the low-pass leaves it.
    rate, wanted : float
        Samples per second.

    Returns
    -------
    data : array of shape (n_channels, n_new)
        Sample j is at j / wanted seconds; interpolated by a windowed sinc over 48 neighbours on each side.
    """
    count = int((data.shape[1] - 1) * wanted / rate + 1e-9) + 1
    place = np.arange(count) * (rate / wanted)
    base = np.floor(place).astype(np.int64)
    offset = place - base
    out = np.zeros((len(data), count), dtype=np.float32)
    for first in range(0, len(data), GROUP):
        rows = continued(data[first : first + GROUP].astype(np.float64), _REACH + 1, _REACH + 1, rate, ())
        total = np.zeros((len(rows), count))
        for tap in range(1 - _REACH, _REACH + 1):
            total += rows[:, base + tap + _REACH + 1] * _sinc(offset - tap)
        out[first : first + GROUP] = total
    return out


def _sinc(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (distance / _REACH) ** 2, 0, None))) / np.i0(_BETA)
    return np.asarray(np.sinc(distance) * window)
