"""Small networks, batches and comparisons that the tests of two files share."""

import torch
from torch.nn.functional import cross_entropy, one_hot

from decoders.learning.rule import RuleSpec
from decoders.models.architectures import conv_network, dense_network, residual_network
from decoders.models.trainer import Batch

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
EDGE, N_CLASSES = 8, 5


def dense(depth=3, activation="tanh", edge=4):
    torch.manual_seed(1)
    return dense_network((12, 9, 7)[:depth], N_CLASSES, activation, edge).double()


def conv():
    torch.manual_seed(2)
    return conv_network((4, 6), hidden=16, n_classes=N_CLASSES, activation="tanh", positions=2).double()


def residual():
    torch.manual_seed(3)
    return residual_network((4, 6), units=2, n_classes=N_CLASSES).double()


def batch_for(net, n=6):
    generator = torch.Generator().manual_seed(4)
    y = torch.arange(n) % net.n_classes
    if net.input_kind == "text":
        codes = torch.randint(net.n_classes, (n, 7), generator=generator)
        return Batch(one_hot(codes, net.n_classes).double(), y)
    return Batch(torch.randn((n, 3, EDGE, EDGE), generator=generator, dtype=torch.float64), y)


def set_up(kind, net, **options):
    rule = kind(**options)
    shape = (7, net.n_classes) if net.input_kind == "text" else (3, EDGE, EDGE)
    rule.setup(net, RuleSpec(shape, 1e-2), seed=3)
    return rule


def assert_equal(found, expected, only=""):
    compared = [name for name in expected if name.startswith(only)]
    assert compared
    for name in compared:
        torch.testing.assert_close(found[name], expected[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


class NotCut:
    """Mutation: heads on every layer, but the graph is not cut (deep supervision)."""

    def gradients(self, batch):
        found = self.net.run(batch.x)
        loss = cross_entropy(found.logits, batch.y)
        for name in self.ends:
            loss = loss + self.local_loss(name, found.taps, batch)
        loss.backward()
