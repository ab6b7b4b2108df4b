import base64
import io

import numpy as np
import pytest
from PIL import Image

from decoders.report.images import colour, indexed_uri, png, table


def read(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


@pytest.mark.parametrize("shape", [(4, 7), (4, 7, 3), (1, 1, 4)])
def test_another_reader_finds_the_same_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_wrong_pixels_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        png(np.zeros((2, 2)))


def test_a_palette_picture_has_the_table_s_colours_and_is_transparent_where_nothing_is():
    found = read(indexed_uri(np.array([[0.0, 1.0, np.nan, 2.0]]), 0, 1, "viridis"))[0]
    assert found[:2, :3].tolist() == table("viridis")[[0, 255]].tolist()
    assert found[:2, 3].tolist() == [255, 255]
    assert found[2, 3] == 0
    # Beyond the scale: the end's colour.
    assert found[3].tolist() == found[1].tolist()


def test_coloured_arrays_agree_with_matplotlib():
    from matplotlib import colormaps

    values = np.linspace(-1, 1, 11)
    assert np.array_equal(
        colour(values, -1, 1, "viridis")[:, :3],
        colormaps["viridis"](np.round((values + 1) / 2 * 255).astype(int), bytes=True)[:, :3],
    )


def test_the_diverging_table_is_pale_in_the_middle_and_dark_at_both_ends():
    brightness = table("diverging").astype(float) @ [0.299, 0.587, 0.114]
    assert brightness[0] < 90
    assert brightness[-1] < 120
    assert brightness[127:129].min() > 235
