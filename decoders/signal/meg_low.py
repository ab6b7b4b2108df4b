"""A run brought to the low rate: what is left to do fits into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import MegSettings
from decoders.signal.meg_filter import (
    BLOCK_S,
    Lines,
    Read,
    decimation,
    filter_in_place,
    low_pass_decimate,
    low_pass_kernel,
    resample,
    segments,
    slow_kernel,
)
from decoders.signal.meg_maxwell import Maxwell, reader
from decoders.signal.meg_open import Opened
from decoders.signal.meg_scan import annotated, line_frequency
from decoders.signal.steps import Steps


@dataclass
class Low:
    """A run at the low rate.

    Attributes
    ----------
    data : array of shape (n_rows, n_times), float32
        Sensors, then EOG and ECG.
    rate : float
        Samples per second.
    pieces : list of (int, int)
        Stretches without a gap.
    bad : array of bool of shape (n_times,)
        Samples inside an annotation BAD…, or in a gap.
    """

    data: NDArray[np.float32]
    rate: float
    pieces: list[tuple[int, int]]
    bad: NDArray[np.bool_]

    def good(self, least_s: float) -> list[tuple[int, int]]:
        """Return the stretches without anything bad that are at least so long."""
        edges = np.flatnonzero(np.diff(np.concatenate([[1], self.bad.astype(np.int8), [1]])))
        runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        inside = [(max(a, c), min(b, d)) for a, b in runs for c, d in self.pieces]
        return [(start, stop) for start, stop in inside if stop - start >= least_s * self.rate]


def to_low_rate(
    raw: Any,
    rows: list[int],
    maxwell: Maxwell,
    lines: Lines,
    settings: MegSettings,
    where: object,
    steps: Steps | None = None,
) -> Low:
    """Low-pass and decimate channels of a recording, block by block; a constant is taken from each channel first.

    Raises
    ------
    InputError
        The low-pass lies above half of the sampling rate.
    """
    sfreq = float(raw.info["sfreq"])
    kernel, stop_hz = low_pass_kernel(sfreq, settings.low_pass_hz, where)
    step = decimation(sfreq, settings.sfreq)
    gaps = annotated(raw, "EDGE", "BAD_ACQ_SKIP")
    pieces = segments(raw.n_times, gaps)
    data = low_pass_decimate(
        _centred(reader(raw, rows, maxwell), raw.n_times, sfreq), len(rows), pieces, raw.n_times, kernel, step,
        round(BLOCK_S * sfreq),
        sfreq, lines.below(sfreq / 2 - 1),
    )  # fmt: skip
    rate = sfreq / step
    if settings.rates == "resample" and abs(rate - settings.sfreq) > 1e-9 * rate:
        data, rate = resample(data, rate, settings.sfreq), settings.sfreq
    if steps is not None:
        _note(sfreq, rate, step, stop_hz, settings, steps)
    scale = rate / sfreq
    low_pieces = [
        (-(-round(a * scale * 1e6) // 10**6), min(data.shape[1], int((b - 1) * scale + 1e-6) + 1)) for a, b in pieces
    ]
    low_pieces = [(start, stop) for start, stop in low_pieces if stop > start]
    return Low(data, rate, low_pieces, _bad(raw, low_pieces, data.shape[1], rate))


def _centred(read: Read, n_times: int, sfreq: float) -> Read:
    """Take from each channel the mean of its first second: offsets of sensors are larger than float32 can carry."""
    offset = read(0, min(n_times, max(1, round(sfreq)))).mean(axis=1, keepdims=True)
    return lambda start, stop: read(start, stop) - offset


def _note(sfreq: float, rate: float, step: int, stop_hz: float, settings: MegSettings, steps: Steps) -> None:
    why = f"low-pass at {settings.low_pass_hz:g} Hz (nothing above {stop_hz:g} Hz), then every {step}. sample"
    steps.add("decimation", why, sfreq=sfreq, kept=rate, low_pass_hz=settings.low_pass_hz, step_samples=step,
              resampled=abs(rate - sfreq / step) > 1e-9 * rate)  # fmt: skip
    if sfreq < settings.sfreq and settings.rates == "refuse":
        steps.warn(
            f"the run has {sfreq:g} samples per second, below preprocess.meg.sfreq ({settings.sfreq:g}): all are kept"
        )
    elif abs(rate - settings.sfreq) > 1e-6 * rate:
        steps.warn(f"{rate:g} samples per second are kept: {sfreq:g} is no multiple of {settings.sfreq:g}")


def _bad(raw: Any, pieces: list[tuple[int, int]], n: int, rate: float) -> NDArray[np.bool_]:
    bad = np.ones(n, dtype=bool)
    for start, stop in pieces:
        bad[start:stop] = False
    for start, stop in annotated(raw, "BAD"):
        first = int(np.floor(start / raw.info["sfreq"] * rate))
        bad[first : int(np.ceil(stop / raw.info["sfreq"] * rate)) + 1] = True
    return bad


def filter_slow(low: Low, lines: Lines, settings: MegSettings, where: object, steps: Steps | None = None) -> None:
    """Apply the notches and the high-pass in place.

    Raises
    ------
    InputError
        The run is shorter than the filters.
    """
    longest = max((stop - start for start, stop in low.pieces), default=0)
    kernel = slow_kernel(low.rate, lines.removed, settings.high_pass_hz, longest, where)
    filter_in_place(low.data, kernel, low.pieces, low.rate, lines.below(low.rate / 2 - 1) if lines.removed else ())
    if steps is not None:
        steps.add(
            "high-pass",
            "zero-phase FIR of mne's design",
            high_pass_hz=settings.high_pass_hz,
            length_s=len(kernel) / low.rate,
        )


def find_lines(opened: Opened, stated: float | None, settings: MegSettings, steps: Steps) -> Lines:
    """Return the frequency of the mains, and the multiples of it that the low-pass leaves.

    Parameters
    ----------
    opened : Opened
    stated : float or None
        PowerLineFrequency of the sidecar.
    settings : MegSettings
    steps : Steps
    """
    if not settings.notch:
        steps.add("line noise", "left in: set in preprocess.meg.notch", line_hz=None, removed_hz=[])
        return Lines()
    raw = opened.raw
    rows = [raw.ch_names.index(name) for name in opened.sensors if name not in raw.info["bads"]]
    seen = line_frequency(raw, rows, opened.pieces)
    header = raw.info["line_freq"]
    line, source = next(
        ((float(value), name) for value, name in (
            (settings.line_hz, "the settings"), (stated, "the sidecar"), (header, "the file"), (seen, "the spectrum"),
        ) if value),
        (None, ""),
    )  # fmt: skip
    if line is None:
        steps.add(
            "line noise", "no line stands out of the spectrum, and no sidecar states one", line_hz=None, removed_hz=[]
        )
        return Lines()
    if seen is not None and abs(seen - line) > 2:
        steps.warn(f"the line is said to be at {line:g} Hz ({source}), but {seen:g} Hz stands out of the spectrum")
    _, stop_hz = low_pass_kernel(float(raw.info["sfreq"]), settings.low_pass_hz, raw.filenames[0])
    rate = raw.info["sfreq"] / decimation(raw.info["sfreq"], settings.sfreq)
    lines = [line * n for n in range(1, 20) if line * n < min(stop_hz + 1, rate / 2 - 2)]
    above = "" if lines else f"; the low-pass takes it out ({settings.low_pass_hz:g} Hz)"
    steps.add("line noise", f"frequency of {source}{above}", line_hz=line, removed_hz=lines)
    return Lines(line, tuple(lines))
