import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from skimage.feature import hog

from decoders.errors import InputError
from decoders.stimuli.controls import (
    CATEGORY_COLUMNS,
    DEFINITIONS,
    FEATURES,
    category_rdm,
    control_rdms,
    silhouette_features,
)
from decoders.stimuli.filters import gabor_energy, grey, grid_means, normalised, wavelengths
from decoders.stimuli.images import Pictures

EDGE = 48


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    values = np.full((5, EDGE, EDGE, 3), 255, dtype=np.uint8)
    for number, picture in enumerate(values):
        size = 10 + 4 * number
        picture[number : number + size, 5 : 5 + size] = rng.integers(0, 240, (size, size, 3))
    labels = pd.DataFrame(
        {"stimulus": list("abcde"), "animate": [1, 1, 0, 0, 1], "category": ["x", "y", "x", "z", "z"]}
    )
    return Pictures(values, list("abcde"), labels)


def one(pictures, name):
    return control_rdms(pictures, [name])[0]


def test_every_control_is_defined_by_a_sentence(pictures):
    names = [*FEATURES, "luminance", "animacy", "category"]
    controls = control_rdms(pictures, names)
    assert [control.name for control in controls] == names
    for control in controls:
        assert control.definition.endswith(".")
        assert "{" not in control.definition
        assert control.rdm.shape == (10,)
        assert not control.refused
    assert set(FEATURES) | {"luminance"} == set(DEFINITIONS)
    assert "48 x 48" in one(pictures, "pixel").definition


def test_pixels_luminance_and_silhouette_by_their_definition(pictures):
    values = pictures.values / 255
    np.testing.assert_allclose(one(pictures, "pixel").rdm, pdist(values.reshape(5, -1), "correlation"), atol=1e-12)
    mask = (values < 0.97).any(axis=-1).reshape(5, -1)
    np.testing.assert_allclose(one(pictures, "silhouette").rdm, pdist(mask.astype(float), "correlation"), atol=1e-12)
    means = (values @ [0.299, 0.587, 0.114]).mean(axis=(1, 2))
    np.testing.assert_allclose(one(pictures, "luminance").rdm, pdist(means[:, None], "cityblock"), atol=1e-12)


def test_a_saturated_colour_belongs_to_the_silhouette():
    # One channel below .97 is enough: pure yellow is no white ground.
    picture = np.full((4, 4, 3), 255, dtype=np.uint8)
    picture[1, 2] = (255, 255, 0)
    mask = silhouette_features(picture)
    assert mask.sum() == mask.reshape(4, 4)[1, 2] == 1


def test_hog_is_that_of_scikit_image(pictures):
    features = [hog(p, 8, (8, 8), (2, 2), block_norm="L2-Hys") for p in grey(pictures.values)]
    np.testing.assert_allclose(one(pictures, "hog").rdm, pdist(np.array(features), "correlation"), atol=1e-12)


def test_category_models(pictures):
    np.testing.assert_array_equal(category_rdm(pictures.labels, "animate"), [0, 1, 1, 0, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(one(pictures, "category").rdm, [1, 0, 1, 1, 1, 1, 1, 1, 1, 0])
    with pytest.raises(InputError, match="the label column 'face'"):
        control_rdms(pictures, ["face"])
    assert set(CATEGORY_COLUMNS.values()) == {"animate", "human", "face", "natural", "category"}


def test_a_control_without_variation_is_refused_by_picture_and_the_others_stand(pictures):
    dark = Pictures(np.minimum(pictures.values, 200), pictures.names, pictures.labels)
    silhouette, pixel = control_rdms(dark, ["silhouette", "pixel"])
    assert np.isnan(silhouette.rdm).all()
    assert "one value throughout in 5 pictures ('a', 'b', 'c')" in silhouette.refused
    assert np.isfinite(pixel.rdm).all()


def grating(wave, angle, edge=96):
    rows, columns = np.mgrid[:edge, :edge]
    return 0.5 + 0.5 * np.cos(2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / wave)


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("orientation", [0, 2, 5])
def test_gabor_energy_peaks_at_the_grating(scale, orientation):
    wave = wavelengths(96, 96)[scale]
    energy = gabor_energy(grating(wave, np.pi * orientation / 8))[:, 20:-20, 20:-20]
    assert energy.mean(axis=(1, 2)).argmax() == 8 * scale + orientation
    # Energy of a quadrature pair does not depend on the phase.
    best = energy[8 * scale + orientation]
    assert best.std() < 0.02 * best.mean()


def test_a_uniform_picture_has_no_gabor_energy():
    assert np.abs(gabor_energy(np.full((40, 40), 0.7))).max() < 1e-10
    assert wavelengths(40, 40) == (4.0, 8.0, 16.0)


def test_grid_means():
    maps = np.arange(32.0).reshape(2, 4, 4)
    np.testing.assert_array_equal(grid_means(maps, 2), [2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5])
    np.testing.assert_array_equal(grid_means(maps, 4), maps.ravel())


def test_normalisation_removes_slow_luminance():
    ramp = np.tile(np.linspace(0.1, 0.9, 96), (96, 1))
    texture = 0.02 * np.random.default_rng(0).standard_normal((96, 96))
    plain, ramped = normalised(0.5 + texture), normalised(ramp + texture)
    assert np.corrcoef(ramped[10:-10, 10:-10].ravel(), plain[10:-10, 10:-10].ravel())[0, 1] > 0.9
