"""One MEG or EEG run from its files to a Recording of sensors.

The order is that of MNE: bad channels, Maxwell filter, filters, artefacts, then noise. An hour of 306 channels
does not fit into memory, so that whatever changes in time is done block by block at the full rate, and whatever is
a mixture of channels is one matrix that is applied after decimation, where it gives the same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import PreprocessSettings
from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.data.tree import read_json
from decoders.signal.meg_artefacts import Cleaning, find_artefacts
from decoders.signal.meg_filter import Lines
from decoders.signal.meg_low import Low, filter_slow, find_lines, to_low_rate
from decoders.signal.meg_maxwell import is_filtered, operator
from decoders.signal.meg_noise import shrunk_covariance
from decoders.signal.meg_noise_of import Processing, noise_samples
from decoders.signal.meg_open import Opened, open_run
from decoders.signal.meg_source import to_regions
from decoders.signal.meg_spatial import (
    acquisition_projector,
    apply_in_place,
    average_reference,
    interpolation,
    operator_rank,
    positions,
    typical_sizes,
)
from decoders.signal.meg_triggers import check_triggers
from decoders.signal.steps import Steps
from decoders.signal.whitening import numerical_rank
from decoders.store.recording import Recording

# The sample of a run that artefacts are looked for in.
_SAMPLE_S, _SAMPLE_PIECE_S, _LEAST_PIECE_S = 300.0, 30.0, 4.0


@dataclass(frozen=True)
class Spatial:
    """The mixture of channels of a run: from what is read to what is kept.

    Attributes
    ----------
    matrix : array of shape (n_sensors, n_sensors)
        Maxwell filter or projectors, interpolation, reference.
    kept : list of int
        Rows that are kept.
    info : mne.Info
        Of the kept sensors.
    rank : int
        Dimensions of the kept sensors.
    """

    matrix: NDArray[np.float64]
    kept: list[int]
    info: Any
    rank: int


def prepare_sensor_run(
    run: Run, runs: Sequence[Run], settings: PreprocessSettings, log: logging.Logger | None = None
) -> Recording:
    """Read and preprocess one MEG or EEG run.

    Parameters
    ----------
    run : Run
    runs : sequence of Run
        The whole manifest: runs of one subject must agree in rate, channels and place of the head.
    settings : PreprocessSettings
        The block `meg` counts.
    log : Logger, optional

    Returns
    -------
    recording : Recording
        Kind "sensor", in T, T/m and V. With `excluded` set, and no data, if the manifest excludes the run.

    Raises
    ------
    InputError
        The run is not what the settings need.
    """
    import mne

    steps, meg = Steps(run.run_id, log), settings.meg or MegSettings()
    if run.status == "excluded":
        return excluded_run(run, run.reason or "excluded in the manifest", steps)
    with mne.utils.use_log_level("ERROR"):
        opened = open_run(run, runs, meg, steps)
        shift = check_triggers(opened.raw, run, meg, steps)
        lines = find_lines(opened, _stated_line(run), meg, steps)
        low, spatial, cleaning = _cleaned(run, opened, lines, meg, steps)
        rank = _rank_left(low, spatial, cleaning, steps)
        done = Processing(spatial.matrix, spatial.kept, cleaning.operator, lines)
        covariance = _noise(run, opened, low, done, spatial, rank, meg, steps)
        recording = _recording(run, low, spatial, cleaning, covariance, shift, steps)
        if meg.source is None:
            return recording
        return to_regions(recording, spatial.info, meg.source, run.path("image") or run.image, steps)


def excluded_run(run: Run, reason: str, steps: Steps) -> Recording:
    """Return the Recording of a run that must not be used."""
    empty = np.zeros((0, 0), dtype=np.float32)
    return Recording(
        data=empty, kind="sensor", subject=run.subject, session=run.session, task=run.task, run=run.run,
        stimulus=run.stimulus, unit="SI", steps=steps.entries, excluded=reason,
    )  # fmt: skip


def _cleaned(
    run: Run, opened: Opened, lines: Lines, settings: MegSettings, steps: Steps
) -> tuple[Low, Spatial, Cleaning]:
    where = run.path("image") or run.image
    rows = [opened.raw.ch_names.index(name) for name in [*opened.sensors, *opened.others]]
    low = to_low_rate(opened.raw, rows, opened.maxwell, lines, settings, where, steps)
    spatial = spatial_steps(opened, settings, where, steps)
    apply_in_place(spatial.matrix, low.data)
    low.data = _only(low.data, spatial.kept, len(opened.sensors))
    filter_slow(low, lines, settings, where, steps)
    sample = _sample(low, spatial, opened)
    cleaning = Cleaning(np.eye(len(spatial.kept)))
    if sample is None:
        steps.warn(f"no {_LEAST_PIECE_S:g} s without bad spans: eye and heart artefacts stay in")
    else:
        cleaning = find_artefacts(sample, spatial.info.get_channel_types(), spatial.rank, settings, steps)
    apply_in_place(cleaning.operator, low.data)
    return low, spatial, cleaning


def _stated_line(run: Run) -> float | None:
    found = None
    for path in run.paths("sidecar"):
        value = read_json(path).get("PowerLineFrequency")
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
            found = float(value)
    return found


def _only(data: NDArray[np.float32], kept: list[int], n_sensors: int) -> NDArray[np.float32]:
    rows = [*kept, *range(n_sensors, len(data))]
    return data if len(rows) == len(data) else data[rows]


def spatial_steps(opened: Opened, settings: MegSettings, where: object, steps: Steps) -> Spatial:
    """Return the mixture of channels: Maxwell filter or projectors, interpolation, reference.

    Raises
    ------
    InputError
        Bad channels cannot be interpolated.
    """
    import mne

    raw, maxwell = opened.raw, opened.maxwell
    info = mne.pick_info(raw.info, [raw.ch_names.index(name) for name in opened.sensors])
    kinds = np.array(opened.kinds)
    meg = np.flatnonzero(kinds != "eeg")
    matrix, base, rebuilt = np.eye(len(kinds)), len(meg), False
    if maxwell.how != "none":
        static = operator(mne.pick_info(info, meg), maxwell)
        base, rebuilt = operator_rank(static, typical_sizes(kinds[meg])), True
        why = "signal space separation" + (" in windows of time" if maxwell.how == "tsss" else "")
        steps.add("maxwell filter", why,
                  method=maxwell.how, rank=base, moves=maxwell.moves,
                  **{key: key in maxwell.options for key in ("calibration", "cross_talk", "destination")})  # fmt: skip
        if not maxwell.in_time:
            matrix[np.ix_(meg, meg)] = static
    elif len(meg) and is_filtered(info):
        base = _filtered_rank(info)
    elif len(meg):
        projector, names = acquisition_projector(info)
        matrix = projector @ matrix
        if names:
            steps.add("projectors", "of the acquisition, as the file holds them", names=names)
    matrix = _rebuild(info, matrix, rebuilt, settings, where, steps)
    if settings.eeg_reference == "average" and "eeg" in opened.kinds:
        matrix = average_reference(opened.kinds) @ matrix
        steps.add("reference", "mean of the EEG channels")
    kept = [row for row, kind in enumerate(opened.kinds) if kind in opened.kept]
    return Spatial(matrix, kept, _kept_info(info, kept, maxwell), _rank(matrix, kept, kinds, base, maxwell.in_time))


def _filtered_rank(info: Any) -> int:
    import mne

    nothing = mne.io.RawArray(np.zeros((len(info["ch_names"]), 1)), info.copy(), verbose="ERROR")
    return int(sum(value for kind, value in mne.compute_rank(nothing, rank="info").items() if kind != "eeg"))


def _rebuild(
    info: Any, matrix: NDArray[np.float64], rebuilt: bool, settings: MegSettings, where: object, steps: Steps
) -> NDArray[np.float64]:
    """Interpolate what the Maxwell filter has not rebuilt."""
    kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    left = [name for name in info["bads"] if not (rebuilt and kinds[name] != "eeg")]
    rest = [name for name in info["bads"] if name not in left]
    if rest:
        steps.add("rebuilt channels", "by the Maxwell filter, from all others", names=rest, n=len(rest))
    if not left or settings.bad_channels == "drop":
        return matrix
    info = info.copy()
    info["bads"] = left
    steps.add(
        "interpolated channels",
        "from their neighbours, so that all runs have the same channels",
        names=left,
        n=len(left),
    )
    return interpolation(info, where) @ matrix


def _kept_info(info: Any, kept: list[int], maxwell: Any) -> Any:
    import mne

    info = mne.pick_info(info, kept)
    info["bads"] = []
    with info._unlock():
        info["projs"] = []
        if "destination" in maxwell.options:
            info["dev_head_t"] = maxwell.options["destination"]
    return info


def _rank(matrix: NDArray[np.float64], kept: list[int], kinds: NDArray[Any], base: int, in_time: bool) -> int:
    """Return the dimensions of the kept sensors: MEG and EEG are apart, and MEG has no more than its filter left."""
    total = 0
    for own in (kinds[kept] != "eeg", kinds[kept] == "eeg"):
        rows = np.array(kept)[own]
        if not rows.size:
            continue
        sources = np.flatnonzero((kinds == "eeg") == (kinds[rows[0]] == "eeg"))
        wide = matrix[np.ix_(rows, sources)] * typical_sizes(kinds[sources])[None] / typical_sizes(kinds[rows])[:, None]
        values = np.linalg.svd(wide, compute_uv=False)
        rank = int((values > 1e-7 * values[0]).sum())
        total += rank if kinds[rows[0]] == "eeg" else min(rank, base)
    return total


def _sample(low: Low, spatial: Spatial, opened: Opened) -> Any:
    """Return good pieces, spread over the run, high-passed at 1 Hz, as an mne object; None if there are none."""
    import mne

    pieces = [
        (first, min(first + round(_SAMPLE_PIECE_S * low.rate), stop))
        for start, stop in low.good(_LEAST_PIECE_S)
        for first in range(start, stop, round(_SAMPLE_PIECE_S * low.rate))
    ]
    pieces = [piece for piece in pieces if piece[1] - piece[0] >= _LEAST_PIECE_S * low.rate]
    if not pieces:
        return None
    most = round(_SAMPLE_S / _SAMPLE_PIECE_S)
    chosen = [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, min(most, len(pieces))).astype(int))]
    data = np.concatenate(
        [mne.filter.filter_data(low.data[:, a:b].astype(np.float64), low.rate, 1.0, None) for a, b in chosen], axis=1
    )
    return mne.io.RawArray(data, _sample_info(low, spatial, opened))


def _sample_info(low: Low, spatial: Spatial, opened: Opened) -> Any:
    import mne

    raw, names = opened.raw, [*spatial.info["ch_names"], *opened.others]
    info = mne.pick_info(raw.info, [raw.ch_names.index(name) for name in names])
    info["bads"] = []
    with info._unlock():
        info["projs"], info["sfreq"], info["lowpass"], info["highpass"] = [], low.rate, low.rate / 2, 0.0
        info["dev_head_t"] = spatial.info["dev_head_t"]
    return info


def _noise(
    run: Run,
    opened: Opened,
    low: Low,
    done: Processing,
    spatial: Spatial,
    rank: int,
    settings: MegSettings,
    steps: Steps,
) -> NDArray[np.float64]:
    kinds = spatial.info.get_channel_types()
    found, cleaning = noise_samples(run, opened, low, done, settings, steps), done.cleaning
    mixture = (cleaning @ spatial.matrix[spatial.kept]) * typical_sizes(opened.kinds)
    covariance = shrunk_covariance(found.samples, kinds, rank, mixture @ mixture.T)
    left = numerical_rank(covariance)
    steps.add("noise covariance", f"of {found.source}, shrunk within {left} dimensions (Ledoit-Wolf)",
              source=found.kind, n_samples=int(found.samples.shape[1]), rank=left)  # fmt: skip
    if left < rank:
        steps.warn(f"the noise has {left} dimensions, fewer than the data's {rank}: whitening is done in {left}")
    why = "dimensions that the steps above left, in which to whiten"
    steps.add("rank", why, rank=min(rank, left), n_channels=len(kinds))
    return covariance


def _rank_left(low: Low, spatial: Spatial, cleaning: Cleaning, steps: Steps) -> int:
    """Return the rank that the steps leave, and say so if the data have another."""
    kinds = spatial.info.get_channel_types()
    expected = max(1, spatial.rank - (len(kinds) - operator_rank(cleaning.operator, typical_sizes(kinds))))
    good = np.flatnonzero(~low.bad)
    if good.size < 2 * len(kinds):
        return expected
    chosen = good[:: max(1, good.size // 20_000)]
    sample = low.data[: len(kinds), chosen].astype(np.float64)
    seen = numerical_rank(np.cov(sample))
    if seen < expected:
        steps.warn(f"the data have {seen} dimensions, though the steps should leave {expected}")
    return min(seen, expected)


def _recording(
    run: Run,
    low: Low,
    spatial: Spatial,
    cleaning: Cleaning,
    covariance: NDArray[np.float64],
    shift: float,
    steps: Steps,
) -> Recording:
    n = len(spatial.kept)
    # float32 all the way: the copy to time x channels is the largest that there is.
    data = np.ascontiguousarray(low.data[:n].T)
    start = run.start_time if run.text and math.isfinite(run.start_time) else 0.0
    quality: dict[str, NDArray[Any]] = {"bad": low.bad.astype(np.uint8)}
    if cleaning.removed:
        quality["artefact_topographies"] = np.stack([item.topography for item in cleaning.removed])
    return Recording(
        data=data, kind="sensor", subject=run.subject, session=run.session, task=run.task, run=run.run,
        stimulus=run.stimulus, time=start + shift + np.arange(len(data)) / low.rate, unit="SI", sfreq=low.rate,
        names=np.array(spatial.info["ch_names"], dtype=object), positions=positions(spatial.info),
        channel_types=np.array(spatial.info.get_channel_types(), dtype=object), noise_covariance=covariance,
        groups=np.full(len(data), -1, dtype=np.int64), conditions=np.full(len(data), "", dtype=object),
        steps=steps.entries, quality=quality,
    )  # fmt: skip
