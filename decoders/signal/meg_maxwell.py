"""Maxwell filter (signal space separation) of an MEG run: as one matrix, or piece by piece where it changes in time.

Taulu & Kajola 2005 (J. Appl. Phys. 97, 124905), Taulu & Simola 2006 (Phys. Med. Biol. 51, 1759-1768).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import MegSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.meg_filter import Read
from decoders.signal.steps import Steps

# Without movement and windows in time the chunk is of no consequence; with them it is a whole number of windows.
_CHUNK_S = 30.0
# Coils of Neuromag, Elekta and MEGIN systems (FIFF constants VV_PLANAR_T1 … VV_MAG_T3).
_ELEKTA = {3011, 3012, 3013, 3014, 3021, 3022, 3023, 3024}


@dataclass(frozen=True)
class Maxwell:
    """What the Maxwell filter of a run needs; `how` is "none" where there is none.

    Attributes
    ----------
    how : {"none", "sss", "tsss"}
    options : dict
        Of `mne.preprocessing.maxwell_filter`.
    moves : bool
        Whether head positions are used, so that the filter changes in time.
    """

    how: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    moves: bool = False

    @property
    def in_time(self) -> bool:
        """Whether the filter is another one at another time."""
        return self.how == "tsss" or self.moves


def is_filtered(info: Any) -> bool:
    """Whether a recording was Maxwell filtered before it came here."""
    return any(entry.get("max_info", {}).get("sss_info") for entry in info["proc_history"])


def plan(raw: Any, run: Run, settings: MegSettings, reference: Any, steps: Steps) -> Maxwell:
    """Decide on the Maxwell filter, and say what it lacks.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    run : Run
    settings : MegSettings
    reference : mne.Transform or None
        Device-to-head transform of the subject's first run, to which the head is moved.
    steps : Steps

    Raises
    ------
    InputError
        The recording was made with active shielding, which only the Maxwell filter undoes, and the settings leave it
        out; files of the filter cannot be read.
    """
    where, how = run.path("image") or run.image, _how(raw.info, settings)
    if how == "none":
        _say_none(raw, settings, where, steps)
        return Maxwell()
    options: dict[str, Any] = {"skip_by_annotation": (), "bad_condition": "ignore", "verbose": "ERROR"}
    for key, column, name in (
        ("calibration", "calibration", "fine calibration"),
        ("cross_talk", "crosstalk", "cross-talk"),
    ):
        path = run.path(column)  # type: ignore[arg-type]
        if path is None:
            steps.warn(f"no {name} file (acq-{column}_meg): the Maxwell filter goes without, and removes less")
        elif not path.exists():
            raise InputError(f"the {name} file of the manifest", "no such file", path, "Add it to the data set.")
        else:
            options[key] = str(path)
    options |= _frame(raw.info, reference, steps)
    positions = _positions(raw, run, settings, steps)
    if positions is not None:
        options["head_pos"] = positions
    if how == "tsss":
        options |= {"st_duration": min(settings.tsss_window_s, raw.times[-1]), "st_overlap": False}
    return Maxwell(how, options, positions is not None)


def _how(info: Any, settings: MegSettings) -> str:
    if is_filtered(info) or settings.maxwell == "none":
        return "none"
    return ("sss" if _is_elekta(info) else "none") if settings.maxwell == "auto" else settings.maxwell


def _is_elekta(info: Any) -> bool:
    return any(int(channel["coil_type"]) in _ELEKTA for channel in info["chs"])


def _say_none(raw: Any, settings: MegSettings, where: object, steps: Steps) -> None:
    if is_filtered(raw.info):
        steps.add("maxwell filter", "not done: the recording is Maxwell filtered already", method="none")
        return
    if raw.info.get("maxshield"):
        remedy = "Set preprocess.meg.maxwell to auto, sss or tsss."
        raise InputError("a Maxwell filter for a run with active shielding (MaxShield)", "none", str(where), remedy)
    why = (
        "set in preprocess.meg.maxwell"
        if settings.maxwell == "none"
        else "not done: no Elekta, Neuromag or MEGIN system"
    )
    steps.add("maxwell filter", why, method="none")


def _frame(info: Any, reference: Any, steps: Steps) -> dict[str, Any]:
    """Return origin and frame: the centre of the head's sphere, or of the helmet where the head's place is unknown."""
    import mne

    if info["dev_head_t"] is None:
        steps.warn("the place of the head is not in the file: the Maxwell filter works around the centre of the helmet")
        return {"coord_frame": "meg", "origin": (0.0, 0.0, 0.0)}
    points = [point for point in info["dig"] or () if int(point["kind"]) == 4]
    options: dict[str, Any] = {"coord_frame": "head", "origin": "auto"}
    if len(points) < 10:
        steps.warn(f"{len(points)} points of the head's shape: the Maxwell filter takes the origin (0, 0, 40 mm)")
        options["origin"] = (0.0, 0.0, 0.04)
    if reference is not None:
        options["destination"] = mne.transforms.Transform("meg", "head", np.array(reference["trans"]))
    return options


def _positions(raw: Any, run: Run, settings: MegSettings, steps: Steps) -> NDArray[np.float64] | None:
    """Return head positions as mne has them (n, 10): of the file .pos, or of the cHPI coils in the run."""
    import mne

    if not settings.movement or raw.info["dev_head_t"] is None:
        return None
    path = run.path("head_positions")
    if path is not None:
        try:
            positions = mne.chpi.read_head_pos(path)
        except (OSError, ValueError, RuntimeError) as error:
            remedy = "Write it again (MaxFilter -headpos, or mne.chpi.write_head_pos)."
            raise InputError("head positions as MaxFilter writes them", f"'{error}'", path, remedy) from error
        _check_positions(positions, raw, path)
        steps.add("movement compensation", "head positions of the file", n=len(positions), **movement(positions))
        return np.asarray(positions)
    positions = _from_coils(raw, steps)
    if positions is not None:
        steps.add("movement compensation", "head positions from cHPI coils", n=len(positions), **movement(positions))
    return positions


def _check_positions(positions: NDArray[np.float64], raw: Any, path: Path) -> None:
    start, stop = raw.first_time, raw.first_time + raw.times[-1]
    if not len(positions) or positions[0, 0] > stop or positions[-1, 0] < start:
        found = f"{positions[0, 0]:g} to {positions[-1, 0]:g} s" if len(positions) else "none"
        remedy = "It belongs to another run; its times count from the start of the system, as first_samp does."
        raise InputError(f"head positions between {start:g} and {stop:g} s", found, path, remedy)


def _from_coils(raw: Any, steps: Steps) -> NDArray[np.float64] | None:
    import mne

    try:
        mne.chpi.get_chpi_info(raw.info, on_missing="raise", verbose="ERROR")
    except (ValueError, RuntimeError, KeyError):
        return None
    try:
        amplitudes = mne.chpi.compute_chpi_amplitudes(raw, t_step_min=0.2, t_window="auto", verbose="ERROR")
        places = mne.chpi.compute_chpi_locs(raw.info, amplitudes, verbose="ERROR")
        positions = mne.chpi.compute_head_pos(raw.info, places, verbose="ERROR")
    except (ValueError, RuntimeError, KeyError, np.linalg.LinAlgError) as error:
        steps.warn(f"the coils that track the head (cHPI) could not be evaluated ({error}): no movement compensation")
        return None
    if not len(positions):
        steps.warn("the coils that track the head (cHPI) are off or not seen: no movement compensation")
        return None
    return np.asarray(positions)


def movement(positions: NDArray[np.float64]) -> dict[str, float]:
    """Return how far the head moved: largest distance from the first position (mm) and rotation (degrees)."""
    import mne

    shift = np.linalg.norm(positions[:, 4:7] - positions[0, 4:7], axis=1).max() * 1000
    turns = mne.transforms.quat_to_rot(positions[:, 1:4])
    cosine = (np.einsum("nij,ij->n", turns, turns[0]) - 1) / 2
    return {
        "max_mm": round(float(shift), 3),
        "max_degrees": round(float(np.degrees(np.arccos(cosine.clip(-1, 1))).max()), 3),
    }


def operator(info: Any, maxwell: Maxwell) -> NDArray[np.float64]:
    """Return the matrix (n_meg, n_meg) of a Maxwell filter that does not change in time.

    The filter is linear: it is applied to unit vectors. Bad channels of the info get no weight and are rebuilt.
    """
    import mne

    n = len(info["ch_names"])
    unit = mne.io.RawArray(np.eye(n), info.copy(), verbose="ERROR")
    return np.asarray(mne.preprocessing.maxwell_filter(unit, **maxwell.options).get_data())


class ChunkedMaxwell:
    """Reads a run through a Maxwell filter that changes in time, a few chunks in memory at once.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Not loaded.
    picks : sequence of int
        Channels to return, in order; MEG channels among them are filtered.
    maxwell : Maxwell
    """

    def __init__(self, raw: Any, picks: Sequence[int], maxwell: Maxwell) -> None:
        self._raw, self._picks, self._maxwell = raw, list(picks), maxwell
        window = maxwell.options.get("st_duration", 0.0)
        samples = round((window * max(1, round(_CHUNK_S / window)) if window else _CHUNK_S) * raw.info["sfreq"])
        edges = list(range(0, raw.n_times, samples))
        # A last chunk that is shorter than a window belongs to the one before it.
        if len(edges) > 1 and raw.n_times - edges[-1] < max(window * raw.info["sfreq"], 1.0):
            edges.pop()
        self._edges = [*edges, raw.n_times]
        self._kept: OrderedDict[int, NDArray[np.float64]] = OrderedDict()

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return samples (n_picks, stop - start)."""
        parts = []
        for number, (low, high) in enumerate(zip(self._edges, self._edges[1:], strict=False)):
            if low < stop and high > start:
                parts.append(self._chunk(number)[:, max(start, low) - low : min(stop, high) - low])
        return np.concatenate(parts, axis=1)

    def _chunk(self, number: int) -> NDArray[np.float64]:
        import mne

        if number not in self._kept:
            low, high = self._edges[number], self._edges[number + 1]
            times = self._raw.times
            part = self._raw.copy().crop(times[low], times[high - 1]).pick(self._picks).load_data(verbose="ERROR")
            names = [self._raw.ch_names[pick] for pick in self._picks]
            part = mne.preprocessing.maxwell_filter(part, **self._maxwell.options)
            self._kept[number] = part.get_data(picks=names)
            while len(self._kept) > 2:
                self._kept.popitem(last=False)
        return self._kept[number]


def reader(raw: Any, picks: Sequence[int], maxwell: Maxwell) -> Read:
    """Return a function that reads samples of some channels, through the Maxwell filter where it changes in time."""
    if maxwell.in_time:
        return ChunkedMaxwell(raw, picks, maxwell).read
    rows = list(picks)
    return lambda start, stop: raw[rows, start:stop][0]


def noisy_by_maxwell(
    raw: Any, pieces: Sequence[tuple[int, int]], maxwell: Maxwell, most: int = 24
) -> dict[str, list[str]]:
    """Find noisy and flat MEG channels that differ from what the Maxwell filter makes of the others.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    pieces : sequence of (int, int)
        As `excerpts` returns them; at most `most` of them are used.
    maxwell : Maxwell
    most : int

    Returns
    -------
    found : dict of str to list of str
        "noisy (Maxwell)" and "flat (Maxwell)".

    Notes
    -----
    `mne.preprocessing.find_bad_channels_maxwell`, the heuristic of MaxFilter.
    """
    import mne

    chosen = [pieces[i] for i in np.unique(np.linspace(0, len(pieces) - 1, min(most, len(pieces))).astype(int))]
    parts = [
        raw.copy().crop(raw.times[start], raw.times[stop - 1]).pick(["meg"], exclude=[]).load_data(verbose="ERROR")
        for start, stop in chosen
    ]
    joined = mne.concatenate_raws(parts, verbose="ERROR")
    joined.set_annotations(None)
    seconds = (chosen[0][1] - chosen[0][0]) / raw.info["sfreq"]
    keys = ("calibration", "cross_talk", "coord_frame", "origin", "bad_condition")
    options = {key: value for key, value in maxwell.options.items() if key in keys}
    high = 40.0 if raw.info["sfreq"] > 100 and seconds >= 2 else None
    noisy, flat = mne.preprocessing.find_bad_channels_maxwell(
        joined, duration=seconds, min_count=max(1, min(5, len(chosen) // 2)), h_freq=high, verbose="ERROR", **options
    )
    return {"noisy (Maxwell)": list(noisy), "flat (Maxwell)": list(flat)}
