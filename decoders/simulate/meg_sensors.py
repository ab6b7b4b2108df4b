"""The phantom's MEG sensors: 102 sites of two planar gradiometers and a magnetometer, as in a Vectorview helmet.

mne ships the channel names with their places on paper and the surface of the helmet. Both are joined here: the paper is
an azimuthal map of the helmet seen from above, whose few constants describe the map.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_SITES = 102
COIL_GRADIOMETER, COIL_MAGNETOMETER = 3012, 3024
AUXILIARY = ("EOG061", "ECG063", "STI101")
# Top of the map on paper (share of its width and height), radians per width and per height, and how the angle from the
# top bends with its size: angle = r (1 - .067 r + .066 r^2).
_TOP, _RADIANS, _BEND = (0.4995, 0.4895), (4.07, 3.85), (-0.067, 0.066)
# The map is seen from this point of the device, in metres.
_CENTRE = np.array([0.0, 0.0, -0.02])
# What one step of the analogue-digital converter means, in T/m, T and V: quantisation is far below the noise.
STEP = {"grad": 1e-14, "mag": 5e-16, "eog": 1e-7, "ecg": 1e-7, "stim": 1.0}


@cache
def sites() -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Return the sites on the helmet.

    Returns
    -------
    names : tuple of str
        The 306 sensors, site by site: two gradiometers (…3 and …2, or …2 and …3), then the magnetometer (…1).
    positions : array of shape (102, 3)
        Metres, device coordinates.
    axes : array of shape (102, 3, 3)
        Rows are the coil's x (down the helmet), y (around it) and z (outwards), each of unit length.
    """
    import mne

    layout = mne.channels.read_layout("Vectorview-all")
    # Places of the magnetometers, which are drawn beside the two gradiometers of their site.
    directions = _directions(np.asarray(layout.pos)[2::3, :2])
    positions, outwards = _on_helmet(directions)
    return tuple(name.replace(" ", "") for name in layout.names), positions, _coil_axes(outwards)


def sensor_info(sfreq: float, device_to_head: NDArray[np.float64]) -> Any:
    """Return mne's measurement info of 306 sensors, EOG, ECG and the trigger channel.

    Parameters
    ----------
    sfreq : float
        Samples per second.
    device_to_head : array of shape (4, 4)
        Where the head lay: device to head coordinates in metres.
    """
    import mne

    sensors, positions, axes = sites()
    types = [*sensor_types(), "eog", "ecg", "stim"]
    info = mne.create_info([*sensors, *AUXILIARY], sfreq, types)
    for number, channel in enumerate(info["chs"]):
        channel["cal"], channel["range"] = STEP[types[number]], 1.0
        if number < len(sensors):
            site, kind = divmod(number, 3)
            channel["loc"] = np.concatenate([positions[site], _coil(axes[site], kind).ravel()])
            channel["coil_type"] = COIL_MAGNETOMETER if kind == 2 else COIL_GRADIOMETER
    info["dev_head_t"] = mne.transforms.Transform("meg", "head", device_to_head)
    return info


def sensor_types() -> list[str]:
    """Return "grad" or "mag" of the 306 sensors."""
    return ["grad", "grad", "mag"] * N_SITES


def _coil(axes: NDArray[np.float64], kind: int) -> NDArray[np.float64]:
    """Return a coil's axes: of the three at a site, the second is turned by a quarter."""
    x, y, z = axes
    return np.stack([y, -x, z]) if kind == 1 else axes


def _directions(paper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where each place on paper lies as seen from the map's centre, unit vectors of shape (n, 3)."""
    across, along = ((paper - _TOP) * _RADIANS).T
    radius = np.hypot(across, along)
    angle = radius * (1 + _BEND[0] * radius + _BEND[1] * radius**2)
    flat = np.sin(angle) / np.where(radius > 0, radius, 1.0)
    return np.stack([flat * across, flat * along, np.cos(angle)], axis=1)


def _on_helmet(directions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where rays from the map's centre meet the helmet, and its outward normals there."""
    import mne

    path = Path(mne.__file__).parent / "data" / "helmets" / "306m.fif.gz"
    surface = mne.read_bem_surfaces(path, verbose="error")[0]
    corners = surface["rr"][surface["tris"]] - _CENTRE
    # Barycentric weights (up to scale) of each direction in each triangle: none is negative in the one it meets.
    weights = np.einsum("tij,nj->nti", np.linalg.inv(corners).transpose(0, 2, 1), directions)
    hit = np.argmax(weights.min(axis=2) / np.abs(weights).sum(axis=2), axis=1)
    weight = weights[np.arange(len(directions)), hit]
    distance = 1 / weight.sum(axis=1)
    normals = np.einsum("ni,nij->nj", weight, surface["nn"][surface["tris"][hit]])
    return _CENTRE + distance[:, None] * directions, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _coil_axes(outwards: NDArray[np.float64]) -> NDArray[np.float64]:
    down = outwards[:, 2:] * outwards - np.array([0.0, 0.0, 1.0])
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    return np.stack([down, np.cross(outwards, down), outwards], axis=1)
