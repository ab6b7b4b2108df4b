import itertools

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from decoders.config import PhantomSettings
from decoders.errors import InputError
from decoders.signal.filtering import cosine_basis
from decoders.simulate.noise import high_pass_zscore
from decoders.simulate.pictures import (
    REGIONS,
    draw_picture_brain,
    draw_pictures,
    picture_events,
    picture_features,
    picture_series,
    picture_volumes,
    training_pictures,
)
from decoders.simulate.shapes import ROUND, SHAPES, TEXTURES, Look, draw_look, render
from decoders.stimuli.hrf import convolve_events

SETTINGS = PhantomSettings()
SHOWN = draw_pictures(SETTINGS)


def _look(size=0.5, texture="plain", angle=0.0):
    return Look((0.0, 0.0), size, angle, np.array([[0.0, 0, 0], [1, 1, 1]]), texture)


def test_a_disc_has_its_area():
    picture = render("disc", _look()) / 255
    # Radius .8 x .5 half widths of a picture of 2 x 2.
    assert picture.mean() * 4 == pytest.approx(np.pi * 0.4**2, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_seen_whole_and_turns(shape):
    picture = render(shape, _look())
    assert picture.shape == (64, 64, 3)
    assert 0.04 < (picture > 127).mean() < 0.4
    assert picture[0].max() == picture[-1].max() == picture[:, 0].max() == 0
    turned = render(shape, _look(angle=np.pi / 2))
    np.testing.assert_allclose(turned.astype(int), np.rot90(picture, -1).astype(int), atol=1)


@pytest.mark.parametrize("texture", TEXTURES[1:])
def test_textures_darken_a_part(texture):
    plain, textured = render("disc", _look()), render("disc", _look(texture=texture))
    assert (textured <= plain).all()
    assert 0.3 < (textured < plain).sum() / (plain > 0).sum() < 0.7


def test_looks_differ_in_brightness_of_ground_and_shape():
    rng = np.random.default_rng(0)
    for _ in range(50):
        dark, bright = sorted(draw_look("plain", rng).colours.mean(axis=1))
        assert bright - dark > 0.2


@pytest.mark.parametrize("n", [10, 24, 31])
def test_pictures_are_spread_over_the_categories(n):
    shown = draw_pictures(PhantomSettings(n_pictures=n))
    assert len(set(shown.names)) == len(shown.pictures) == n
    counts = [shown.categories.count(shape) for shape in SHAPES]
    assert max(counts) - min(counts) <= 1
    labels = shown.labels()
    assert list(labels.columns) == ["stimulus", "file", "category", "round", *SHAPES]
    np.testing.assert_array_equal(labels[list(SHAPES)].sum(axis=1), 1)
    assert labels["round"].sum() == sum(c in ROUND for c in shown.categories)


def test_what_the_regions_code():
    early, late = picture_features(SHOWN)
    inner = late @ late.T
    for i, one in enumerate(SHOWN.categories):
        for j, two in enumerate(SHOWN.categories):
            expected = 1.0 if one == two else 0.5 if (one in ROUND) == (two in ROUND) else 0.0
            assert inner[i, j] == pytest.approx(expected)
    pixels = SHOWN.pictures.reshape(24, -1) / 255
    assert spearmanr(1 - (early @ early.T)[np.triu_indices(24, 1)], pdist(pixels, "correlation"))[0] > 0.95
    # The two geometries are unrelated: what explains one does not explain the other.
    assert abs(spearmanr(pdist(early), pdist(late))[0]) < 0.15


def test_training_pictures_are_many_and_are_not_those_shown():
    rows = list(training_pictures(SETTINGS))
    assert len(rows) == len({file for file, _, _ in rows}) == 1500
    assert sum(split == "test" for _, split, _ in rows) == 300
    shown = {picture.tobytes() for picture in SHOWN.pictures}
    seen = {picture.tobytes() for _, _, picture in rows}
    assert len(seen) == 1500
    assert not shown & seen


def test_events_show_each_picture_twice_never_in_a_row_within_the_run():
    for run in range(10):
        events = picture_events(SETTINGS, SHOWN, 0, run)
        order = list(events["trial_type"])
        assert sorted(order) == sorted(SHOWN.names * 2)
        assert all(a != b for a, b in itertools.pairwise(order))
        assert set(np.diff(events["onset"])) <= {3.0, 4.0, 5.0}
        assert events["onset"].iloc[-1] + 12 <= picture_volumes(SETTINGS) * 2
    assert list(picture_events(SETTINGS, SHOWN, 0, 0)["trial_type"]) != list(
        picture_events(SETTINGS, SHOWN, 1, 0)["trial_type"]
    )


def test_regions_are_apart_and_equal_in_size():
    for subject in range(3):
        site = draw_picture_brain(SETTINGS, SHOWN, subject).brain.site
        np.testing.assert_array_equal(np.bincount(site[site >= 0]), int(0.05 * len(site)))


def test_regions_carry_their_geometry_and_no_other():
    """Least squares over three runs of two people: what a study will find."""
    early, late = (pdist(code) for code in picture_features(SHOWN))
    for subject in range(2):
        person = draw_picture_brain(SETTINGS, SHOWN, subject)
        beta = sum(_estimate(person, subject, run) for run in range(3))
        rdms = [pdist(beta[:, person.brain.site == number], "correlation") for number in range(len(REGIONS))]
        assert spearmanr(rdms[0], early)[0] > 0.35
        assert spearmanr(rdms[1], late)[0] > 0.3
        assert abs(spearmanr(rdms[0], late)[0]) < 0.2
        assert abs(spearmanr(rdms[1], early)[0]) < 0.2


def _estimate(person, subject, run):
    events = picture_events(SETTINGS, SHOWN, subject, run)
    y = high_pass_zscore(picture_series(SETTINGS, SHOWN, person, events, subject, run), 2.0)
    shown = np.array([[name == kind for name in SHOWN.names] for kind in events["trial_type"]], dtype=float)
    design = convolve_events(events["onset"].to_numpy() + 0.5, shown, 2.0 * np.arange(len(y)))
    design -= design.mean(axis=0)
    basis = cosine_basis(len(y), 2.0, 128.0)
    return np.linalg.lstsq(design - basis @ (basis.T @ design), y, rcond=None)[0]


def test_a_grid_too_small_is_refused():
    with pytest.raises(InputError, match=r"data\.phantom\.grid"):
        draw_picture_brain(PhantomSettings(grid=(3, 3, 3)), SHOWN)
