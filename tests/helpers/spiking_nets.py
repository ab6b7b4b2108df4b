"""Small networks, batches and comparisons that the tests of two files share."""

import torch
from torch.nn.functional import cross_entropy

from decoders.learning.rule import RuleSpec
from decoders.models.architectures import to_pixels
from decoders.models.spiking_networks import spiking_dense_network
from decoders.models.trainer import Batch

TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}
EDGE = 4


def dense(widths=(9, 8), steps=5, leak=0.8, threshold=0.4):
    torch.manual_seed(1)
    net = spiking_dense_network(to_pixels(EDGE), 3 * EDGE**2, widths, 4, steps, threshold).double()
    for name in net.taps:
        net[name].activation.leak = leak
    return net


def batch_for(net, n=6, seed=2, edge=EDGE):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((n, 3, edge, edge), generator=generator, dtype=torch.float64)
    return Batch(x, torch.arange(n) % net.n_classes)


def set_up(kind, net, shape=(3, EDGE, EDGE), **options):
    rule = kind(**options)
    rule.setup(net, RuleSpec(shape, 1e-2), seed=3)
    return rule


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert all(float(value.abs().max()) > 0 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


def step_loss(net, h, y):
    """Return the mean over time of the cross-entropy of each step, of the spikes of the last hidden layer."""
    output = net["output"]
    over_time = output.activation.over_time(output.preactivation(h))
    return torch.stack([cross_entropy(y_t, y) for y_t in over_time.unbind(1)]).mean()
