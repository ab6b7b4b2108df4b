"""Small networks, batches and comparisons that the tests of two files share."""

import torch

from decoders.learning.rule import RuleSpec
from decoders.models.architectures import conv_network, dense_network, residual_network
from decoders.models.sequence import recurrent_network, transformer_network
from decoders.models.trainer import Batch

TOLERANCE = {"rtol": 1e-8, "atol": 1e-11}
EDGE, N_SYMBOLS, N_CHARACTERS = 8, 5, 4


def dense(activation="tanh", widths=(9, 8, 7), n_classes=4):
    torch.manual_seed(1)
    return dense_network(widths, n_classes=n_classes, activation=activation, edge=2).double()


def conv(activation="relu"):
    torch.manual_seed(0)
    return conv_network((4, 6), hidden=9, n_classes=4, activation=activation, positions=2).double()


def residual():
    torch.manual_seed(2)
    return residual_network((4, 6), units=1, n_classes=4).double()


def recurrent():
    torch.manual_seed(3)
    return recurrent_network(N_SYMBOLS, (6, 7)).double()


def transformer():
    torch.manual_seed(4)
    return transformer_network(N_SYMBOLS, n_units=8, layers=1, n_heads=2).double()


def input_shape(net):
    return (N_CHARACTERS, N_SYMBOLS) if net.input_kind == "text" else (3, EDGE, EDGE)


def batch_for(net, n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((n, *input_shape(net)), generator=generator, dtype=torch.float64)
    return Batch(x, torch.randint(net.n_classes, (n,), generator=generator))


def set_up(kind, net, seed=3, **options):
    rule = kind(**options)
    rule.setup(net, RuleSpec(input_shape(net), 1e-2), seed=seed)
    rule.n_done = 1  # past the beginning, in which target propagation learns its feedback alone
    return rule


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **TOLERANCE)


def matched(rule):
    """Set the feedback weights to W, so that the Jacobian of g is the transposed one of the forward map."""
    for block in list(rule.net)[1:]:
        rule.companions[f"feedback_{block.name}"].weight.data.copy_(block.affine.weight.detach())
    return rule
