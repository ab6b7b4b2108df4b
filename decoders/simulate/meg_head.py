"""Heads in the helmet: where they lie, and the fields of currents and magnets around them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.config.phantom_meg import PhantomMegSettings
from decoders.errors import InputError
from decoders.simulate.meg_sensors import N_SITES, sensor_info, sensor_types, sites
from decoders.simulate.streams import stream

# The conducting sphere, head coordinates in metres; MEG needs no radius, the brain does.
SPHERE_M = np.array([0.0, 0.0, 0.04])
BRAIN_RADIUS_M = 0.07
FIDUCIALS_M = {"lpa": (-0.075, 0.0, 0.0), "nasion": (0.0, 0.1, 0.0), "rpa": (0.075, 0.0, 0.0)}
# Where a person of middle size lies: the centre of the head 4.5 cm beneath that of the helmet's coordinates.
_REST_M = np.array([0.0, 0.005, 0.045])
_BASELINE_M = 0.0168
_MU0_4PI = 1e-7


def meg_of(settings: PhantomSettings) -> PhantomMegSettings:
    """Return the block `meg` of a phantom that has one."""
    if settings.meg is None:
        raise InputError(
            "the block data.phantom.meg", "none", "the settings", "Add it, with its defaults at least: {}."
        )
    return settings.meg


def device_to_head(settings: PhantomSettings, subject: int, run: str | None = None) -> NDArray[np.float64]:
    """Draw where a head lies: the person's own place, and for one run a small shift and turn from there.

    Parameters
    ----------
    settings : PhantomSettings
    subject : int
    run : str, optional
        Name of the run; where the head rests on the whole when absent.

    Returns
    -------
    array of shape (4, 4)
        Device to head coordinates, metres. A run's turn in degrees is a third of its shift in mm.
    """
    own = stream(settings.seed, "meg head", subject)
    turn, shift = own.normal(0, 2, 3), _REST_M + own.normal(0, 0.003, 3)
    if run is not None:
        moved, mm = stream(settings.seed, "meg head", subject, run), meg_of(settings).head_shift_mm
        turn, shift = turn + moved.normal(0, mm / 3, 3), shift + moved.normal(0, mm * 1e-3, 3)
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = _rotation(np.radians(turn)), shift
    return transform


def person_info(settings: PhantomSettings, subject: int, run: str | None = None) -> Any:
    """Return the sensors of the phantom around a person's head, in one run or at rest."""
    return sensor_info(meg_of(settings).sfreq, device_to_head(settings, subject, run))


def leadfield(info: Any, places: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the fields of current dipoles of 1 Am in a conducting sphere (mne's forward solution).

    Parameters
    ----------
    info : mne.Info
        Sensors and the transform from device to head.
    places, directions : array of shape (n, 3)
        Head coordinates in metres, and unit vectors.

    Returns
    -------
    array of shape (306, n)
        T or T/m per Am.
    """
    import mne

    sphere = mne.make_sphere_model(SPHERE_M, head_radius=None, verbose="error")
    source = mne.setup_volume_source_space(pos={"rr": places, "nn": directions}, verbose="error")
    forward = mne.make_forward_solution(
        info, trans=None, src=source, bem=sphere, meg=True, eeg=False, mindist=0.0, verbose="error"
    )
    free = forward["sol"]["data"].reshape(3 * N_SITES, len(places), 3)
    return np.asarray(np.einsum("cnk,nk->cn", free, directions), dtype=np.float64)


def magnet_field(
    device_to_head: NDArray[np.float64], place: NDArray[np.float64], moment: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the field of a distant magnetic dipole: heart, mains, elevators.

    The field is taken at the centre of a magnetometer, and 8.4 mm to both sides of a gradiometer's.

    Parameters
    ----------
    device_to_head : array of shape (4, 4)
    place : array of shape (3,)
        Head coordinates in metres, outside the helmet.
    moment : array of shape (3,)
        A m^2.

    Returns
    -------
    array of shape (306,)
        T or T/m.
    """
    _, positions, axes = sites()
    turn, shift = device_to_head[:3, :3], device_to_head[:3, 3]
    centres, outwards = positions @ turn.T + shift, axes[:, 2] @ turn.T
    field = np.empty((N_SITES, 3))
    for column, axis in enumerate((axes[:, 0], axes[:, 1])):
        step = axis @ turn.T * _BASELINE_M / 2
        beyond, before = (_dipole(centres + side - place, moment) for side in (step, -step))
        field[:, column] = ((beyond - before) * outwards).sum(axis=1) / _BASELINE_M
    field[:, 2] = (_dipole(centres - place, moment) * outwards).sum(axis=1)
    return field.ravel()


def magnetometers() -> NDArray[np.bool_]:
    """Return which of the 306 sensors are magnetometers."""
    return np.array([kind == "mag" for kind in sensor_types()])


def tangential(places: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return unit vectors along the sphere, turned by an angle in radians from the one that points down.

    Parameters
    ----------
    places : array of shape (n, 3)
        Head coordinates; a current that points away from the sphere's centre has no field outside.
    angle : array of shape (n,)

    Returns
    -------
    array of shape (n, 3)
    """
    out = places - SPHERE_M
    out = out / np.linalg.norm(out, axis=1, keepdims=True)
    # Around the axis from ear to ear, for places that are not on it.
    reference = np.where(np.abs(out[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(out, reference)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * np.cross(out, first)


def within_brain(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move places that lie outside the brain onto its surface, head coordinates in metres, shape (n, 3)."""
    away = places - SPHERE_M
    return SPHERE_M + away * np.minimum(1, BRAIN_RADIUS_M / np.linalg.norm(away, axis=1, keepdims=True))


def _dipole(away: NDArray[np.float64], moment: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    return _MU0_4PI * (3 * (away @ moment)[:, None] * away / distance**5 - moment / distance**3)


def _rotation(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", turn).as_matrix(), dtype=np.float64)
