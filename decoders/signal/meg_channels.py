"""Channels of an MEG or EEG run: what the file says of them, and what channels.tsv says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.events import read_text_table
from decoders.signal.steps import Steps

# BIDS types to those of mne; CTF's axial gradiometers are "mag" there.
_MEG = {"MEGMAG": "mag", "MEGGRADPLANAR": "grad", "MEGGRADAXIAL": "mag", "MEGOTHER": "mag", "MEG": "mag"}
_REFERENCE = ("MEGREFMAG", "MEGREFGRADAXIAL", "MEGREFGRADPLANAR")
_OTHERS = {
    "EEG": "eeg", "EOG": "eog", "VEOG": "eog", "HEOG": "eog", "ECG": "ecg", "EMG": "emg", "TRIG": "stim",
    "ECOG": "ecog", "SEEG": "seeg", "RESP": "resp", "GSR": "gsr", "TEMP": "temperature", "EYEGAZE": "eyegaze",
    "PUPIL": "pupil", "AUDIO": "misc", "MISC": "misc", "OTHER": "misc", "REF": "eeg", "PPG": "misc", "VIDEO": "misc",
    "ADC": "misc", "DAC": "misc", "HLU": "misc", "FITERR": "misc", "SYSCLOCK": "syst", "DBS": "dbs",
}  # fmt: skip
_SENSORS = ("mag", "grad", "ref_meg")


def apply_channel_table(raw: Any, run: Run, steps: Steps) -> None:
    """Set bad channels and the types of channels that are no MEG sensors, as channels.tsv says.

    Raises
    ------
    InputError
        The table names channels that the file lacks, a type that is none, or another type than an MEG sensor has.
    """
    path = run.path("channels")
    if path is None:
        steps.warn("no channels.tsv: types of channels are those of the file, and no channel is known to be bad")
        return
    table = read_text_table(path, "a BIDS table of channels (tab-separated, with the columns name and type)")
    _check_names(table, raw, path)
    types = dict(zip(table["name"], table["type"].str.upper().str.strip(), strict=True))
    raw.set_channel_types(_changed_types(raw, types, path), on_unit_change="ignore", verbose="ERROR")
    status = table["status"].str.strip().str.lower() if "status" in table else pd.Series([""] * len(table))
    listed = [str(name) for name in table.loc[status == "bad", "name"]]
    raw.info["bads"] = sorted({*raw.info["bads"], *listed}, key=raw.ch_names.index)
    steps.add("channels", "types and status of channels.tsv, and bad channels of the file", bad=list(raw.info["bads"]))


def _check_names(table: pd.DataFrame, raw: Any, path: Path) -> None:
    missing = [column for column in ("name", "type") if column not in table]
    if missing:
        found = f"only {', '.join(map(str, table.columns))}"
        raise InputError("the columns name and type", found, path, "Name the columns as BIDS does.")
    doubled = sorted(table["name"][table["name"].duplicated()])
    absent = sorted(set(table["name"]) - set(raw.ch_names))
    if doubled or absent:
        found = f"{', '.join((doubled or absent)[:5])} ({'more than once' if doubled else 'not in the recording'})"
        remedy = "Correct the names: they must be those of the file."
        raise InputError("each channel of the recording once", found, path, remedy)


def _changed_types(raw: Any, types: dict[str, str], path: Path) -> dict[str, str]:
    known = {*_MEG, *_REFERENCE, *_OTHERS, "N/A", ""}
    changed = {}
    for name, own in zip(raw.ch_names, raw.get_channel_types(), strict=True):
        said = types.get(name, "")
        if said not in known:
            remedy = f"Correct the column type; BIDS has {', '.join([*_MEG, *_OTHERS][:12])}, …"
            raise InputError("a BIDS type of channel", f"'{said}' for {name}", path, remedy)
        if said in ("", "N/A"):
            continue
        wanted = "ref_meg" if said in _REFERENCE else _MEG.get(said) or _OTHERS[said]
        if wanted == own or (said in ("MEGOTHER", "MEG") and own in _SENSORS):
            continue
        if own in _SENSORS or wanted in _SENSORS:
            remedy = "One of them is wrong: correct the table (or the file)."
            raise InputError(f"the type {own} that the recording gives {name}", f"'{said}'", path, remedy)
        changed[name] = wanted
    return changed


def wanted_types(run: Run, chosen: tuple[str, ...], raw: Any) -> list[str]:
    """Return the types of sensors of this run that are kept, in the order mag, grad, eeg.

    Raises
    ------
    InputError
        The recording has none of them.
    """
    asked = ("eeg",) if run.modality == "eeg" else chosen
    there = set(raw.get_channel_types())
    kept: list[str] = [kind for kind in ("mag", "grad", "eeg") if kind in asked and kind in there]
    if not kept:
        remedy = "Correct preprocess.meg.channels, or the types in channels.tsv."
        found = f"channels of the types {', '.join(sorted(there))}"
        raise InputError(f"sensors of the types {', '.join(asked)}", found, run.path("image") or run.image, remedy)
    return kept


def place_electrodes(raw: Any, run: Run, steps: Steps) -> None:
    """Give EEG channels their places: of the file, of electrodes.tsv, or of the 10-05 system by their names."""
    import mne

    picks = mne.pick_types(raw.info, meg=False, eeg=True, exclude=[])
    places = np.array([raw.info["chs"][pick]["loc"][:3] for pick in picks])
    if not len(picks) or (np.isfinite(places).all() and (np.abs(places).sum(axis=1) > 0).all()):
        return
    names, path = [raw.ch_names[pick] for pick in picks], run.path("electrodes")
    if path is not None:
        found, unit = _electrodes(path, names)
        montage = mne.channels.make_dig_montage(found, coord_frame="head")
        steps.add("electrodes", f"places of electrodes.tsv, in {unit} by their size", n=len(found), of=len(names))
    else:
        montage = mne.channels.make_standard_montage("standard_1005")
        known = {name.lower() for name in montage.ch_names} & {name.lower() for name in names}
        if not known:
            steps.warn("no places of the electrodes: neither in the file nor in an electrodes.tsv, nor by their names")
            return
        steps.warn(
            f"places of {len(known)} of {len(names)} electrodes are those of the 10-05 system on a template head"
        )
    raw.set_montage(montage, match_case=False, on_missing="ignore", verbose="ERROR")


def _electrodes(path: Path, names: list[str]) -> tuple[dict[str, Any], str]:
    table = read_text_table(path, "a BIDS table of electrodes (tab-separated, with the columns name, x, y, z)")
    if not {"name", "x", "y", "z"} <= set(table.columns):
        only = f"only {', '.join(map(str, table.columns))}"
        raise InputError("the columns name, x, y and z", only, path, "Name the columns as BIDS does.")
    places = table[["x", "y", "z"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    found = {str(name): place for name, place in zip(table["name"], places, strict=True) if np.isfinite(place).all()}
    found = {name: place for name, place in found.items() if name in names}
    if not found:
        raise InputError("places of electrodes of this recording", "none", path, "Correct the names in the table.")
    # Radius of a head: about 0.1 m, 10 cm or 100 mm.
    size = float(np.median(np.linalg.norm(np.array(list(found.values())), axis=1)))
    unit, scale = ("mm", 1e-3) if size > 30 else ("cm", 1e-2) if size > 1 else ("m", 1.0)
    return {name: place * scale for name, place in found.items()}, unit
