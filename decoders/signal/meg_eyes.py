"""An EOG for runs that have none: the sensors' own view of the eyes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.signal.meg_spatial import in_head, positions

# Eyes of an adult in head coordinates: 32 mm to each side, 20 mm behind the nasion and 10 mm below.
_EYES_M = np.array([[-0.032, -0.02, -0.01], [0.032, -0.02, -0.01]])
_NASION_M = np.array([0.0, 0.1, 0.0])
_FRONTAL = ("fp1", "fp2", "fpz", "af7", "af8")
_SHRINK = 0.05


def virtual_eog(one: Any, kind: str) -> tuple[NDArray[np.float64], str] | None:
    """Return a time course of blinks from the sensors alone, and how it was made.

    Parameters
    ----------
    one : mne.io.RawArray
        Sensors of one kind, and other channels.
    kind : {"meg", "eeg"}

    Returns
    -------
    series : array of shape (n_times,)
        For MEG a beamformer on upright current dipoles at both eyes; for EEG the mean of frontal channels.
    how : str
    """
    return _frontal(one) if kind == "eeg" else _beamformed(one)


def _frontal(one: Any) -> tuple[NDArray[np.float64], str] | None:
    import mne

    eeg = [row for row, kind in enumerate(one.get_channel_types()) if kind == "eeg"]
    named = [row for row in eeg if one.ch_names[row].lower() in _FRONTAL]
    if not named:
        places = positions(mne.pick_info(one.info, eeg))
        front = np.where(np.isfinite(places[:, 1]), places[:, 1], -np.inf)
        named = [eeg[row] for row in np.argsort(-front)[:2] if np.isfinite(front[row])]
    if not named:
        return None
    names = [one.ch_names[row] for row in named]
    return one.get_data(picks=names).mean(axis=0), f"the mean of the frontal channels {', '.join(names)}"


def _beamformed(one: Any) -> tuple[NDArray[np.float64], str] | None:
    """Pass a unit of the eyes' field, and as little else as can be (Van Veen et al. 1997)."""
    import mne

    if one.info["dev_head_t"] is None:
        return None
    rows = [row for row, kind in enumerate(one.get_channel_types()) if kind in ("mag", "grad")]
    names = [one.ch_names[row] for row in rows]
    field = eye_field(mne.pick_info(one.info, rows))
    data = one.get_data(picks=names)
    size = data.std(axis=1, keepdims=True)
    size[size == 0] = 1.0
    scaled, field = data / size, field / size[:, 0]
    covariance = scaled @ scaled.T / scaled.shape[1]
    covariance += _SHRINK * np.trace(covariance) / len(rows) * np.eye(len(rows))
    weights = np.linalg.solve(covariance, field)
    series = weights @ scaled / (weights @ field)
    # In volts, as an EOG: the size is of no consequence.
    return series / max(series.std(), 1e-300) * 1e-4, "a beamformer on the eyes"


def eye_field(info: Any) -> NDArray[np.float64]:
    """Return the field of upright current dipoles at both eyes, as a blink makes it, in a conducting sphere.

    Parameters
    ----------
    info : mne.Info
        MEG sensors.

    Returns
    -------
    field : array of shape (n_channels,)
        T/(Am) and T/m/(Am). A current dipole in a sphere makes the same field whatever the sphere's radius is
        (Sarvas 1987, Phys. Med. Biol. 32, 11-22), so that the eyes, outside the skull, are no exception.
    """
    import mne

    nasion = next(
        (np.asarray(p["r"]) for p in info["dig"] or () if int(p["kind"]) == 1 and int(p["ident"]) == 2), _NASION_M
    )
    places = nasion + _EYES_M
    upright = np.tile([0.0, 0.0, 1.0], (2, 1))
    dipoles = mne.Dipole(np.zeros(2), places, np.full(2, 1.0), upright, np.full(2, 100.0), verbose="ERROR")
    sphere = mne.make_sphere_model((0.0, 0.0, 0.04), head_radius=None, verbose="ERROR")
    forward, _ = mne.make_forward_dipole(dipoles, sphere, in_head(info), verbose="ERROR")
    return np.asarray(forward["sol"]["data"]).sum(axis=1)
