import mne
import numpy as np
import pytest

from decoders.config import PhantomSettings
from decoders.config.phantom_meg import PhantomMegSettings
from decoders.simulate.meg_head import (
    SPHERE_M,
    device_to_head,
    leadfield,
    magnet_field,
    magnetometers,
    person_info,
    tangential,
)
from decoders.simulate.meg_sensors import sensor_info, sites

SETTINGS = PhantomSettings(meg=PhantomMegSettings())


def _angle(one, two):
    return np.degrees(np.arccos(np.clip((one * two).sum(axis=1), -1, 1)))


@pytest.mark.mirror
def test_the_helmet_is_that_of_a_real_vectorview(mirror):
    path = mirror / "meg_mne_testdata" / "test-ave.fif.gz"
    real = mne.read_evokeds(path, condition=0, verbose="error").info
    sensors = [channel for channel in real["chs"] if channel["ch_name"].startswith("MEG")]
    mine = sensor_info(250.0, np.eye(4))["chs"][:306]
    assert [c["ch_name"].replace(" ", "") for c in sensors] == [c["ch_name"] for c in mine]
    assert [int(c["coil_type"]) for c in sensors] == [int(c["coil_type"]) for c in mine]
    there, here = (np.array([c["loc"] for c in chs], dtype=float) for chs in (sensors, mine))
    assert np.linalg.norm(there[:, :3] - here[:, :3], axis=1).max() < 0.01
    assert _angle(there[:, 9:], here[:, 9:]).max() < 10
    # Gradiometers of a site swapped would be 90 degrees off.
    along = _angle(there[:, 3:6], here[:, 3:6])
    assert np.median(along) < 5
    assert along.max() < 45


def test_coils_are_right_handed_and_the_two_gradiometers_of_a_site_cross():
    loc = np.array([c["loc"] for c in sensor_info(250.0, np.eye(4))["chs"][:306]]).reshape(102, 3, 4, 3)
    x, y, z = loc[:, :, 1], loc[:, :, 2], loc[:, :, 3]
    np.testing.assert_allclose(np.cross(x, y), z, atol=1e-6)
    np.testing.assert_allclose((x[:, 0] * x[:, 1]).sum(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-6)


def _sarvas(place, direction, at):
    """Field of a current dipole of 1 Am in a sphere (Sarvas 1987, equation 25); places from the sphere's centre."""
    a, r = np.linalg.norm(at - place, axis=-1), np.linalg.norm(at, axis=-1)
    along = ((at - place) * at).sum(axis=-1)
    f = a * (r * a + r**2 - at @ place)
    gradient = (a**2 / r + along / a + 2 * a + 2 * r)[..., None] * at - (a + 2 * r + along / a)[..., None] * place
    moment = np.cross(direction, place)
    return 1e-7 * (f[..., None] * moment - (at @ moment)[..., None] * gradient) / f[..., None] ** 2


@pytest.mark.parametrize("mutant", [None, "axes swapped"])
def test_fields_are_those_of_sarvas(mutant):
    """The closed form, averaged over the square of 21 mm of each magnetometer, which lies .3 mm above its site."""
    info = person_info(SETTINGS, 0)
    place = SPHERE_M + np.array([0.02, -0.04, 0.03])
    direction = tangential(place[None], np.array([0.4]))
    turn, shift = info["dev_head_t"]["trans"][:3, :3], info["dev_head_t"]["trans"][:3, 3]
    _, positions, axes = sites()
    x, y, z = (axes[:, i] @ turn.T for i in range(3))
    centres = positions @ turn.T + shift - SPHERE_M + 0.0003 * z
    if mutant:
        x, z = z, x
    nodes, weights = np.polynomial.legendre.leggauss(4)
    expected = sum(
        one * two / 4 * _sarvas(place - SPHERE_M, direction[0], centres + u * x + v * y)
        for u, one in zip(0.0105 * nodes, weights, strict=True)
        for v, two in zip(0.0105 * nodes, weights, strict=True)
    )
    field = leadfield(info, place[None], direction)[magnetometers(), 0]
    error = np.abs(field - (expected * z).sum(axis=1)).max() / np.abs(field).max()
    assert (error < 0.01) == (mutant is None), error


def test_a_radial_current_is_silent():
    info = person_info(SETTINGS, 0)
    place = SPHERE_M + np.array([[0.02, -0.04, 0.03]])
    out = (place - SPHERE_M) / np.linalg.norm(place - SPHERE_M)
    loud = leadfield(info, place, tangential(place, np.zeros(1)))
    assert np.abs(leadfield(info, place, out)).max() < 1e-6 * np.abs(loud).max()


def test_distant_magnets_are_outside_for_the_maxwell_filter():
    """Signal space separation takes fields of currents within the helmet from those of magnets outside."""
    info, transform = person_info(SETTINGS, 0), device_to_head(SETTINGS, 0)
    place = SPHERE_M + np.array([[0.02, -0.04, 0.03]])
    mains = magnet_field(transform, np.array([2.0, 1.0, -0.5]), np.array([0.2, 0.5, 0.8]))
    brain = leadfield(info, place, tangential(place, np.zeros(1)))[:, 0]
    swapped = mains.reshape(102, 3)[:, [1, 0, 2]].ravel()
    kept = []
    for field in (mains, brain, swapped):
        data = np.zeros((309, 500))
        data[:306] = np.outer(field / np.linalg.norm(field[magnetometers()]) * 1e-12, np.sin(np.arange(500)))
        raw = mne.io.RawArray(data, info, verbose="error")
        separated = mne.preprocessing.maxwell_filter(
            raw, origin=SPHERE_M, regularize=None, bad_condition="ignore", verbose="error"
        )
        mags = separated.get_data(picks="mag"), raw.get_data(picks="mag")
        kept.append(np.linalg.norm(mags[0]) / np.linalg.norm(mags[1]))
    assert kept[0] < 0.02
    assert 0.9 < kept[1] < 1.1
    # The mutant: the two gradiometers of each site swapped.
    assert kept[2] > 2 * kept[0]


def test_a_head_moves_between_runs_a_little():
    rest, one, two = (device_to_head(SETTINGS, 0, run) for run in (None, "pictures 0", "pictures 1"))
    np.testing.assert_array_equal(device_to_head(SETTINGS, 0, "pictures 0"), one)
    assert 0 < np.linalg.norm(one[:3, 3] - two[:3, 3]) < 0.03
    still = SETTINGS.model_copy(update={"meg": SETTINGS.meg.model_copy(update={"head_shift_mm": 0.0})})
    np.testing.assert_array_equal(device_to_head(still, 0, "pictures 0"), rest)
