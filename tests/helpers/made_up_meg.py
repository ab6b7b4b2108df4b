"""Small MEG runs of known truth: dipoles, blinks, heart beats, line noise and sensor noise on a helmet of 306 sensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pandas as pd

SFREQ = 500.0
# White sensor noise per sample: about 3 fT and 3 fT/cm per root Hz.
NOISE = {"mag": 5e-14, "grad": 5e-12}
CONDITIONS = ("left", "right")
# Responses: dipoles of 60 nAm in both temporal lobes, at 100 ms.
PEAK_S, WIDTH_S = 0.1, 0.02


@cache
def helmet() -> mne.Info:
    """Return 102 places on a helmet of 12 cm, each with two planar gradiometers and a magnetometer of a VectorView."""
    n = 102
    k = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 1.25 * k / n), np.pi * (1 + 5**0.5) * k
    unit = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    names = [f"MEG{i + 1:03d}{c}" for i in range(n) for c in (2, 3, 1)]
    info = mne.create_info(names, SFREQ, ["grad", "grad", "mag"] * n)
    for place in range(n):
        z = unit[place]
        x = np.cross([0.0, 1.0, 0.0], z)
        x /= np.linalg.norm(x)
        y = np.cross(z, x)
        for offset, (coil, ex, ey) in enumerate(((3012, x, y), (3012, y, -x), (3024, x, y))):
            channel = info["chs"][3 * place + offset]
            channel["coil_type"] = coil
            channel["loc"][:] = np.concatenate([0.12 * z + [0, 0, 0.04], ex, ey, z])
    return info


def head_shape() -> Any:
    """Fiducials, and points on a sphere of 95 mm about (0, 0, 40 mm)."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((120, 3))
    points = 0.095 * points / np.linalg.norm(points, axis=1, keepdims=True) + [0, 0, 0.04]
    return mne.channels.make_dig_montage(
        nasion=[0, 0.1, 0], lpa=[-0.08, 0, 0], rpa=[0.08, 0, 0], hsp=points[points[:, 2] > 0.01], coord_frame="head"
    )


def field_of(places: Any, directions: Any, device_to_head: Any = None) -> np.ndarray:
    """Field of current dipoles in a sphere, (306, n), T and T/m per Am; by default the helmet's frame is the head's."""
    info = helmet().copy()
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", device_to_head)
    places, directions = np.atleast_2d(places).astype(float), np.atleast_2d(directions).astype(float)
    n = len(places)
    dipole = mne.Dipole(np.arange(n) / 10.0, places, np.ones(n), directions, np.full(n, 100.0), verbose="ERROR")
    sphere = mne.make_sphere_model((0.0, 0.0, 0.04), head_radius=None, verbose="ERROR")
    return mne.make_forward_dipole(dipole, sphere, info, verbose="ERROR")[0]["sol"]["data"]


@dataclass
class Planted:
    """A run, and what was planted in it; all arrays are (306, n_times) or (n_times,)."""

    raw: Any
    events: pd.DataFrame
    brain: np.ndarray
    noise: np.ndarray
    blinks: np.ndarray
    heart: np.ndarray
    line: np.ndarray
    extra: dict[str, Any] = field(default_factory=dict)


def plant(
    seed: int = 0, seconds: float = 60.0, line_hz: float = 50.0, parts: tuple[str, ...] = ("blinks", "heart", "line"),
    eog: bool = True, ecg: bool = True, head: bool = True, soa_s: float = 1.2, sfreq: float = SFREQ,
    line_size: float = 2e-12,
) -> Planted:  # fmt: skip
    """Make a run up."""
    rng = np.random.default_rng(seed)
    n = round(seconds * sfreq)
    t = np.arange(n) / sfreq
    kinds = np.array(helmet().get_channel_types())
    onsets = np.arange(1.0, seconds - 1.2, soa_s)
    kind = np.array([CONDITIONS[i % 2] for i in range(onsets.size)])
    fields = field_of([[-0.05, 0.0, 0.06], [0.05, 0.0, 0.06]], [[0.0, 0.4, 0.9], [0.0, 0.4, 0.9]])
    brain = np.zeros((306, n))
    for row, name in enumerate(CONDITIONS):
        course = sum((_bump(t - on - PEAK_S, WIDTH_S) for on in onsets[kind == name]), np.zeros(n))
        brain += np.outer(fields[:, row] * 60e-9, course)
    noise = rng.standard_normal((306, n)) * np.array([NOISE[k] for k in kinds])[:, None]
    blink_times = np.cumsum(rng.uniform(2.0, 5.0, int(seconds / 2)))
    blink = sum((_bump(t - at, 0.08) for at in blink_times[blink_times < seconds - 0.5]), np.zeros(n))
    eye = field_of([[-0.031, 0.083, -0.008], [0.031, 0.083, -0.008]], [[0.1, 0.1, 1.0], [-0.1, 0.1, 1.0]]).sum(axis=1)
    eye *= 3e-12 / np.abs(eye[kinds == "mag"]).max()
    beats = np.cumsum(rng.normal(0.9, 0.04, int(seconds / 0.8)))
    beat = sum(
        (_bump(t - at, 0.015) - 0.3 * _bump(t - at - 0.04, 0.02) for at in beats[beats < seconds - 0.2]), np.zeros(n)
    )
    chest = field_of([[0.03, 0.02, -0.08]], [[0.6, 0.6, -0.5]])[:, 0]
    chest *= 1e-12 / np.abs(chest[kinds == "mag"]).max()
    hum = rng.standard_normal(306) * np.where(kinds == "mag", line_size, line_size * 20)
    wave = np.sin(2 * np.pi * line_hz * t + 1.0) + 0.3 * np.sin(2 * np.pi * 2 * line_hz * t)
    planted = {"blinks": np.outer(eye, blink), "heart": np.outer(chest, beat), "line": np.outer(hum, wave)}
    used = {name: values if name in parts else 0.0 * values for name, values in planted.items()}
    data = [brain + noise + sum(used.values())]
    info = recording_info(sfreq, eog, ecg, head)
    if eog:
        data.append((blink * 2e-4 * ("blinks" in parts) + rng.standard_normal(n) * 5e-6)[None])
    if ecg:
        data.append((beat * 1e-3 * ("heart" in parts) + rng.standard_normal(n) * 1e-5)[None])
    data.append(stim_channel(onsets, kind, n, sfreq))
    raw = mne.io.RawArray(np.concatenate(data), info, verbose="ERROR")
    events = pd.DataFrame(
        {"onset": onsets, "duration": 0.3, "trial_type": kind, "value": [1 + CONDITIONS.index(k) for k in kind]}
    )
    return Planted(
        raw, events, brain, noise, used["blinks"], used["heart"], used["line"], {"eye": eye, "fields": fields}
    )


def _bump(t: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * (t / width) ** 2)


def stim_channel(onsets: np.ndarray, kind: np.ndarray, n: int, sfreq: float) -> np.ndarray:
    stim = np.zeros((1, n))
    for onset, name in zip(onsets, kind, strict=True):
        at = round(onset * sfreq)
        stim[0, at : at + 5] = 1 + CONDITIONS.index(name)
    return stim


def recording_info(sfreq: float, eog: bool, ecg: bool, head: bool) -> Any:
    own = helmet()
    extra = [("EOG061", "eog")] * eog + [("ECG063", "ecg")] * ecg + [("STI101", "stim")]
    info = mne.create_info(
        [*own["ch_names"], *(n for n, _ in extra)], sfreq, [*own.get_channel_types(), *(k for _, k in extra)]
    )
    for channel, of_helmet in zip(info["chs"], own["chs"], strict=False):
        channel["coil_type"], channel["loc"] = of_helmet["coil_type"], of_helmet["loc"].copy()
    if head:
        info.set_montage(head_shape(), on_missing="ignore")
        with info._unlock():
            info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
    return info


def write_meg(
    root: Path, raw: Any, events: pd.DataFrame | None, name: str = "sub-01_task-tones_run-01", line_hz: float | None = 50.0,
    bads: tuple[str, ...] = (), sidecar: Mapping[str, Any] | None = None, table: bool = True,
) -> Path:  # fmt: skip
    """Write a run into a BIDS folder; return its path."""
    subject = name.split("_")[0]
    session = next((part for part in name.split("_") if part.startswith("ses-")), None)
    folder = root / subject / (session or "") / "meg"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "made up", "BIDSVersion": "1.9.0"}))
    path = folder / f"{name}_meg.fif"
    raw.save(path, overwrite=True, verbose="ERROR")
    if events is not None:
        events.to_csv(folder / f"{name}_events.tsv", sep="\t", index=False)
    values = {
        "SamplingFrequency": raw.info["sfreq"],
        "TaskName": "tones",
        **({"PowerLineFrequency": line_hz} if line_hz else {}),
    }
    (folder / f"{name}_meg.json").write_text(json.dumps({**values, **(sidecar or {})}))
    if table:
        write_channels(folder / f"{name}_channels.tsv", raw, bads)
    return path


def write_channels(path: Path, raw: Any, bads: tuple[str, ...] = ()) -> None:
    types = {
        "mag": "MEGMAG",
        "grad": "MEGGRADPLANAR",
        "eog": "EOG",
        "ecg": "ECG",
        "stim": "TRIG",
        "eeg": "EEG",
        "misc": "MISC",
    }
    pd.DataFrame({
        "name": raw.ch_names, "type": [types[kind] for kind in raw.get_channel_types()],
        "status": ["bad" if name in bads else "good" for name in raw.ch_names],
    }).to_csv(path, sep="\t", index=False)  # fmt: skip
