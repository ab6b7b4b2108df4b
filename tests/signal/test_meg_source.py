"""Source estimates on the template: a planted dipole comes back in its region."""

from dataclasses import replace

import made_up_meg as made
import mne
import nibabel
import numpy as np
import pytest

from decoders.config.meg import SourceSettings
from decoders.errors import InputError
from decoders.signal import meg_source
from decoders.signal.meg_source import fit_template, grid, minimum_norm, region_kernel, regions_of, to_mni, to_regions
from decoders.signal.steps import Steps, parameter_of
from decoders.store.recording import Recording, read_recording, write_recording


@pytest.fixture(scope="module")
def info():
    return mne.pick_info(made.recording_info(500.0, False, False, True), range(306))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Two lobes, left and right temporal, and the top of the head: boxes in MNI space (2 mm)."""
    affine = np.array([[2.0, 0, 0, -90], [0, 2.0, 0, -126], [0, 0, 2.0, -72], [0, 0, 0, 1]])
    labels = np.zeros((91, 109, 91), dtype=np.int16)
    x, y, z = np.meshgrid(
        *(affine[i, i] * np.arange(n) + affine[i, 3] for i, n in enumerate(labels.shape)), indexing="ij"
    )
    labels[(x < -30) & (np.abs(y + 20) < 25) & (np.abs(z) < 25)] = 1
    labels[(x > 30) & (np.abs(y + 20) < 25) & (np.abs(z) < 25)] = 2
    labels[(np.abs(x) < 20) & (z > 40)] = 7
    labels[(x < -85)] = 9
    path = tmp_path_factory.mktemp("atlas") / "atlas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture(scope="module")
def settings(atlas):
    return SourceSettings(atlas=str(atlas), spacing_mm=15.0)


def test_the_template_fits_the_fiducials(info):
    template = fit_template(info, "a.fif")
    assert 0.85 < template.scale < 1.05
    assert template.misfit_mm < 8
    places = grid(template, 15.0)
    head = mne.transforms.apply_trans(template.to_head, places * template.scale)
    assert (np.linalg.norm(head - [0, 0, 0.04], axis=1) < 0.1).all()
    assert 300 < len(places) < 700


def test_the_field_of_a_shell_that_is_a_sphere_is_the_closed_form(info):
    template = fit_template(info, "a.fif")
    inverse = mne.transforms.invert_transform(template.to_head)
    centre = mne.transforms.apply_trans(inverse, [0.0, 0.0, 0.04])
    spokes = template.skull["rr"] - centre
    skull = {**template.skull, "rr": centre + 0.085 * spokes / np.linalg.norm(spokes, axis=1, keepdims=True)}
    mne.surface.complete_surface_info(skull, copy=False, verbose="ERROR")
    ball = meg_source.Template(skull, template.to_head, template.scale, 0.0)
    places = np.array([[-0.035, -0.02, 0.01], [0.03, 0.03, 0.03]])
    field = meg_source.lead_field(info, ball, places)
    head = mne.transforms.apply_trans(template.to_head, places * template.scale)
    sphere = made.field_of(np.repeat(head, 3, axis=0), np.tile(np.eye(3), (2, 1)))
    turn = template.to_head["trans"][:3, :3].T
    turned = np.concatenate([field[:, 3 * k : 3 * k + 3] @ turn for k in range(2)], axis=1)
    for kind in ("mag", "grad"):
        own = np.array(info.get_channel_types()) == kind
        assert np.linalg.norm(turned[own] - sphere[own]) < 0.05 * np.linalg.norm(sphere[own])
    # bug: the scale of the template is forgotten
    wrong = made.field_of(
        np.repeat(mne.transforms.apply_trans(template.to_head, places), 3, axis=0), np.tile(np.eye(3), (2, 1))
    )
    assert np.linalg.norm(turned - wrong) > 0.05 * np.linalg.norm(wrong)


def test_a_dipole_comes_back_in_its_region(info, settings, tmp_path):
    template = fit_template(info, "a.fif")
    places = grid(template, 15.0)
    names, members, left_out = regions_of(places, settings)
    assert (names, left_out) == (["1", "2", "7"], 1)
    rng = np.random.default_rng(0)
    kinds = np.array(info.get_channel_types())
    noise = np.array([made.NOISE[kind] for kind in kinds])
    course = np.sin(2 * np.pi * 7 * np.arange(2000) / 200)
    places_head = [
        mne.transforms.apply_trans(template.to_head, places[rows].mean(axis=0) * template.scale) for rows in members
    ]
    for target in (0, 1):
        field = made.field_of(places_head[target], [0.1, 0.5, 0.86])[:, 0]
        data = np.outer(course, field * 60e-9) + rng.standard_normal((2000, 306)) * noise
        recording = Recording(
            data=data.astype(np.float32), kind="sensor", subject="01", time=np.arange(2000) / 200, sfreq=200.0, unit="SI",
            names=np.array(info["ch_names"], dtype=object), channel_types=kinds.astype(object), positions=np.zeros((306, 3)),
            noise_covariance=np.diag(noise**2), quality={"bad": np.zeros(2000, dtype=np.uint8)}, steps=[{"step": "rank", "rank": 306}],
        )  # fmt: skip
        found = to_regions(recording, info, settings, "a.fif", Steps("x"))
        assert (found.kind, found.unit, found.data.shape) == ("region", "1", (2000, 3))
        r = np.abs([np.corrcoef(found.data[:, k], course)[0, 1] for k in range(3)])
        power = found.data.std(axis=0)
        assert r[target] > 0.97
        assert power.argmax() == target
        assert power[1 - target] < 0.5 * power[target]
    write_recording(tmp_path / "a.h5", found)
    back = read_recording(tmp_path / "a.h5")
    np.testing.assert_allclose(back.noise_covariance, found.noise_covariance)
    assert parameter_of(back.steps, "source estimates", "n_regions") == 3


def test_the_two_sides_of_a_fold_do_not_cancel():
    rng = np.random.default_rng(0)
    pattern = rng.standard_normal(20)
    up = np.zeros((3, 20))
    up[2] = pattern
    kernel = np.concatenate([up, -up, up, -up])
    covariance = np.outer(pattern, pattern) + 0.01 * np.eye(20)
    (found,) = region_kernel(kernel, [np.arange(4)], covariance)
    assert abs(found @ pattern) == pytest.approx(pattern @ pattern, rel=1e-6)
    # bug: a plain mean over the sources
    assert abs(kernel.reshape(4, 3, 20).mean(axis=0)[2] @ pattern) < 1e-12


def test_the_noise_of_dspm_is_one(settings):
    rng = np.random.default_rng(1)
    field, covariance = rng.standard_normal((20, 30)), np.diag(rng.uniform(0.5, 2, 20))
    kernel = minimum_norm(field, covariance, 20, settings)
    power = np.einsum("sc,cd,sd->s", kernel, covariance, kernel).reshape(-1, 3).sum(axis=1)
    np.testing.assert_allclose(power, 3.0, rtol=1e-6)


def test_the_origin_of_mni_is_near_that_of_fsaverage():
    np.testing.assert_allclose(to_mni(np.zeros((1, 3)))[0], [-0.04, 1.55, 1.18], atol=0.01)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda i, r: (i, replace(r, channel_types=np.array(["eeg"] * 306, dtype=object))),
            "MEG with a known place of the head",
        ),
        (lambda i, r: (_without_fiducials(i), r), "nasion and both preauricular points, found 0 of them"),
    ],
)
def test_what_source_estimates_need_is_said(info, settings, change, sentence):
    kinds = np.array(info.get_channel_types(), dtype=object)
    recording = Recording(
        data=np.zeros((10, 306), dtype=np.float32), kind="sensor", subject="01", sfreq=200.0, channel_types=kinds,
        noise_covariance=np.eye(306), quality={"bad": np.zeros(10)},
    )  # fmt: skip
    changed = change(info.copy(), recording)
    with pytest.raises(InputError, match=sentence):
        to_regions(changed[1], changed[0], settings, "a.fif", Steps("x"))


def _without_fiducials(info):
    with info._unlock():
        info["dig"] = None
    return info


def test_an_atlas_outside_the_brain_is_refused(info, tmp_path):
    nibabel.save(
        nibabel.Nifti1Image(np.ones((4, 4, 4), dtype=np.int16), np.diag([1, 1, 1, 1]) + np.eye(4, k=3) * 500),
        tmp_path / "a.nii",
    )
    with pytest.raises(InputError, match=r"regions that hold sources, found none of 1"):
        regions_of(grid(fit_template(info, "a"), 15.0), SourceSettings(atlas=str(tmp_path / "a.nii")))
