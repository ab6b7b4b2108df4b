"""Front ends: place-keeping, clipped kernels, and every voxel read."""

import numpy as np
import pytest
import torch
from torch import nn

from decoders.decoding.frontend import FrontEnd, GridEmbedding, bounding_box, first_convolution, same_convolution


def blob(shape, seed=0):
    mask = np.random.default_rng(seed).random(shape) < 0.7
    mask[tuple(0 for _ in shape)] = mask[tuple(n - 1 for n in shape)] = True
    return mask


def test_embedding_puts_features_where_the_mask_says():
    mask = np.zeros((9, 8, 7), dtype=bool)
    mask[2:6, 1:4, 3:7] = blob((4, 3, 4))
    volume = np.random.default_rng(1).standard_normal(mask.shape).astype(np.float32)
    grid = GridEmbedding(mask)(torch.from_numpy(volume[mask]))
    assert grid.shape == (4, 3, 4)
    assert np.array_equal(grid.numpy(), np.where(mask, volume, 0)[bounding_box(mask)])


def test_embedding_keeps_leading_axes():
    mask = blob((3, 4, 5))
    assert GridEmbedding(mask)(torch.zeros(2, 6, int(mask.sum()))).shape == (2, 6, 3, 4, 5)


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        bounding_box(np.zeros((2, 2, 2), dtype=bool))


@pytest.mark.parametrize("shape", [(40, 20, 1), (6, 10, 10), (16, 20, 16), (3, 1, 2), (5, 7, 9), (13, 4, 2)])
@pytest.mark.parametrize("head", ["linear", "patchify", "k7"])
def test_every_voxel_reaches_the_brain_vector(shape, head):
    mask = np.ones(shape, dtype=bool)
    torch.manual_seed(0)
    front = FrontEnd(mask, 6, head, n_channels=4)
    x = torch.zeros(2, mask.size, requires_grad=True)
    front(x)[1].sum().backward()
    assert front(x).shape == (2, 6)
    assert (x.grad[1] != 0).all()
    assert (x.grad[0] == 0).all()


def test_unpadded_patches_would_lose_voxels():
    """Mutation: without the padding the rest of an axis is never read, which the test above would show."""
    padded, out = first_convolution((7, 4, 1), 1, 2, 4, 4)
    assert out == (2, 1, 1)
    x = torch.zeros(1, 1, 7, 4, 1, requires_grad=True)
    padded[1](x).sum().backward()
    assert (x.grad[0, 0, 4:] == 0).all()


@pytest.mark.parametrize(("kernel", "stride"), [(4, 4), (7, 4)])
@pytest.mark.parametrize("shape", [(40, 20, 1), (6, 10, 10), (2, 3, 5)])
def test_the_stated_shape_is_the_shape(kernel, stride, shape):
    layer, out = first_convolution(shape, 1, 3, kernel, stride)
    found = layer(torch.zeros(1, 1, *shape))
    assert found.shape == (1, 3, *out)
    assert same_convolution(out, 3, 3)(found).shape == found.shape


def test_the_head_keeps_the_place():
    """The same blob at two places of the patch grid gives other brain vectors: no global pooling."""
    mask = np.ones((8, 8, 1), dtype=bool)
    torch.manual_seed(0)
    front = FrontEnd(mask, 5, "patchify", n_channels=4)
    volumes = torch.zeros(2, 8, 8, 1)
    volumes[0, :4, :4] = volumes[1, 4:, 4:] = 1
    answers = front(volumes.reshape(2, -1))
    assert (answers[0] - answers[1]).abs().max() > 1e-3


def test_windows_are_channels_and_linear_is_linear():
    front = FrontEnd(10, 3, "linear", n_volumes=2)
    assert isinstance(front.layers[1], nn.Linear)
    assert front(torch.zeros(4, 2, 10)).shape == (4, 3)
    assert FrontEnd(blob((4, 4, 4)), 3, "patchify", n_volumes=2)(
        torch.zeros(5, 2, int(blob((4, 4, 4)).sum()))
    ).shape == (5, 3)


def test_convolutions_need_a_grid():
    with pytest.raises(ValueError, match="needs voxels on a grid"):
        FrontEnd(10, 3, "patchify")
