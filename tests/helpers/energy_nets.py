"""Small networks, batches and comparisons that the tests of two files share."""

import torch
from torch.nn.functional import cross_entropy, one_hot
from updates import derivatives

from decoders.learning.rule import RuleSpec
from decoders.learning.rules.predictive_coding import squares
from decoders.models.architectures import build_network, conv_network, dense_network
from decoders.models.networks import set_mode
from decoders.models.trainer import Batch

EXACT = {"rtol": 1e-9, "atol": 1e-12}
EDGE = 8


def dense(activation="tanh", depth=3, width=7, n_classes=4):
    torch.manual_seed(1)
    return dense_network((width,) * depth, n_classes=n_classes, activation=activation, edge=2).double()


def conv(norm=True, activation="relu"):
    torch.manual_seed(0)
    return conv_network((4, 5), hidden=9, n_classes=4, activation=activation, positions=2, norm=norm).double()


def registered(architecture):
    return build_network(architecture, 4, 0, 0.1).double()


def batch_for(net, n=5):
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(net.n_classes, (n,), generator=generator)
    if net.input_kind == "text":
        codes = torch.randint(net.n_classes, (n, 5), generator=generator)
        return Batch(one_hot(codes, net.n_classes).double(), y)
    return Batch(torch.randn((n, 3, EDGE, EDGE), generator=generator, dtype=torch.float64), y)


def set_up(kind, net, **options):
    rule = kind(**options)
    shape = (5, net.n_classes) if net.input_kind == "text" else (3, EDGE, EDGE)
    rule.setup(net, RuleSpec(shape, 1e-2), seed=3)
    set_mode(net, training=True)
    return rule


def joined(by_name):
    return torch.cat([value.flatten() for value in by_name.values()])


def backprop(net, batch, squared=False, precision=1.0):
    set_mode(net, training=True)
    logits = net(batch.x)
    if not squared:
        return derivatives(net, cross_entropy(logits, batch.y))
    return derivatives(net, 0.5 * precision * squares(logits - one_hot(batch.y, net.n_classes)).mean())


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def unrolled_gradient(net, batch, sweeps=300):
    """Return the gradient of 1/2 |s_L - y|^2 at the free fixed point, through all sweeps of an own dense relaxation."""
    blocks, x = list(net), net[net.layers[0]].reduce(batch.x)
    weights, biases = [b.affine.weight for b in blocks], [b.affine.bias for b in blocks]
    states, below = [], x
    for weight, bias in zip(weights, biases, strict=True):
        below = (below @ weight.T + bias).clamp(0, 1)
        states.append(below)
    for _ in range(sweeps):
        for index in range(len(blocks)):
            field = (states[index - 1] if index else x) @ weights[index].T + biases[index]
            last = index + 1 == len(blocks)
            states[index] = field if last else (field + states[index + 1] @ weights[index + 1]).clamp(0, 1)
    return derivatives(net, 0.5 * squares(states[-1] - one_hot(batch.y, net.n_classes)).mean())
