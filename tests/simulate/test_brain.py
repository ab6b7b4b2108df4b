import numpy as np
import pytest

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.simulate.brain import (
    N_SITES,
    _centres,
    affine_of,
    amplitude_of,
    brain_mask,
    draw_brain,
    draw_r,
    grow_sites,
    scale_of,
)
from decoders.simulate.streams import stream

SETTINGS = PhantomSettings()


def test_mask_is_the_ellipsoid():
    mask = brain_mask((16, 20, 16))
    expected = [
        [
            [(-1 + 2 * x / 15) ** 2 + (-1 + 2 * y / 19) ** 2 + (-1 + 2 * z / 15) ** 2 < 0.92 for z in range(16)]
            for y in range(20)
        ]
        for x in range(16)
    ]
    np.testing.assert_array_equal(mask, expected)
    assert mask.sum() == 1992
    np.testing.assert_array_equal(brain_mask((16, 20, 1))[..., 0].any(axis=1).sum(), 16 - 2 * (not mask[0].any()))


def test_affine_has_3_mm_voxels_around_the_origin():
    affine = affine_of((16, 20, 1))
    np.testing.assert_allclose(affine @ [7.5, 9.5, 0, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(np.diag(affine), [3, 3, 3, 1])


@pytest.mark.parametrize("grid", [(16, 20, 16), (8, 10, 8), (32, 40, 32)])
def test_five_sites_of_equal_size_make_the_planted_share(grid):
    brain = draw_brain(PhantomSettings(grid=grid))
    n_voxels = len(brain.site)
    sizes = np.bincount(brain.site[brain.planted], minlength=N_SITES)
    np.testing.assert_array_equal(sizes, int(0.05 * n_voxels / 5))
    assert brain.weights.shape == (brain.planted.sum(), 25)
    assert n_voxels == brain.mask.sum()


def test_centres_keep_their_distance():
    voxels = np.argwhere(brain_mask((16, 20, 16))).astype(float)
    for seed in range(20):
        centres = _centres(voxels, 1.0, stream(seed, "centres"))
        gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)[np.triu_indices(5, 1)]
        assert gaps.min() >= 5


def test_sites_take_the_nearest_free_voxels():
    voxels = np.argwhere(np.ones((9, 1, 1))).astype(float)
    site = grow_sites(voxels, np.array([[0.0, 0, 0], [1.0, 0, 0]]), 3, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(site, [0, 0, 0, 1, 1, 1, -1, -1, -1])


def test_weights_of_a_site_are_alike_and_unit_in_size():
    brain = draw_brain(SETTINGS)
    site = brain.site[brain.planted]
    correlation = np.corrcoef(brain.weights)
    same = np.equal.outer(site, site) & ~np.eye(len(site), dtype=bool)
    # .7^2 of 2 x .7^2.
    assert correlation[same].mean() == pytest.approx(0.5, abs=0.1)
    assert brain.weights.var() == pytest.approx(0.98, abs=0.15)


def test_true_correlations_and_amplitudes():
    r = draw_r(0.2, 5000, np.random.default_rng(0))
    assert 0.1 <= r.min() < r.max() <= 0.3
    assert r.mean() == pytest.approx(0.2, abs=0.002)
    signal, noise = np.random.default_rng(1).standard_normal((2, 200_000))
    x = amplitude_of(np.array(0.3)) * signal + noise
    assert np.corrcoef(signal, x)[0, 1] == pytest.approx(0.3, abs=0.01)


def test_a_second_person_has_shifted_sites_and_the_same_site_weights():
    first, second = draw_brain(SETTINGS, 0), draw_brain(SETTINGS, 1)
    np.testing.assert_array_equal(first.mask, second.mask)
    voxels = np.argwhere(first.mask)
    for number in range(N_SITES):
        shift = voxels[second.site == number].mean(axis=0) - voxels[first.site == number].mean(axis=0)
        assert np.abs(shift).max() < 4
        one, two = (b.weights[b.site[b.planted] == number].mean(axis=0) for b in (first, second))
        assert np.corrcoef(one, two)[0, 1] > 0.7
    assert not np.array_equal(first.site, second.site)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"grid": (4, 4, 4)}, "data.phantom.grid"),
        ({"grid": (12, 12, 1)}, "room for five sites|at least 100 voxels"),
        ({"r0": 0.7}, "at most 0.63, found 0.7"),
    ],
)
def test_impossible_settings_are_sentences(change, sentence):
    with pytest.raises(InputError, match=sentence):
        draw_brain(PhantomSettings(**change))


def test_scale_is_that_of_the_shortest_axis():
    assert scale_of((32, 40, 32)) == 2
