"""Small networks, batches and comparisons that the tests of two files share."""

import pytest
import torch
from updates import gradients

from decoders.learning.rule import RuleSpec
from decoders.learning.rules import evolution, perturbation
from decoders.models.architectures import conv_network, dense_network, residual_network, to_pixels
from decoders.models.networks import set_mode
from decoders.models.sequence import recurrent_network
from decoders.models.trainer import Batch
from decoders.models.vectorised import vectorised_network

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def seeded(build):
    torch.manual_seed(0)
    net = build().double()
    for norm in net.norms():
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
    return net


def dense():
    return seeded(lambda: dense_network((6, 5), n_classes=3, activation="tanh", edge=2))


def conv():
    return seeded(lambda: conv_network((3,), hidden=5, n_classes=3, activation="tanh", positions=2))


def residual():
    return seeded(lambda: residual_network((3,), units=1, n_classes=3))


def recurrent():
    return seeded(lambda: recurrent_network(3, (5,)))


def vectorised(width=6, n_classes=3, edge=2):
    pixels = to_pixels(edge, grey=True)
    return seeded(lambda: vectorised_network(pixels, edge**2, (width, width), n_classes))


def batch_for(net, n=4, edge=4):
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(net.n_classes, (n,), generator=generator)
    if net.input_kind == "text":
        codes = torch.randint(net.n_classes, (n, 3), generator=generator)
        return Batch(torch.nn.functional.one_hot(codes, net.n_classes).double(), y)
    return Batch(torch.randn((n, 3, edge, edge), generator=generator, dtype=torch.float64), y)


def set_up(kind, net, seed=3, rate=1e-2, **options):
    rule = kind(**options)
    shape = (3, net.n_classes) if net.input_kind == "text" else (3, 4, 4)
    rule.setup(net, RuleSpec(shape, rate), seed)
    set_mode(net, training=True)
    return rule


def assert_unbiased(samples, expected, limit=4.5):
    """Assert |mean - expected| < `limit` standard errors in every entry (z-test); samples of shape (draws, ...)."""
    error = samples.std(0) / len(samples) ** 0.5
    z = (samples.mean(0) - expected).abs() / error.clamp(min=1e-12)
    assert float(z.max()) < limit, f"z = {float(z.max()):.1f}"


def repeated(batch, times):
    return Batch(torch.cat([batch.x] * times), torch.cat([batch.y] * times))


def check_wp_unbiased(kind, quadratic, n_samples=2000, **options):
    net, _, gradient = quadratic
    rule, batch = set_up(kind, net, **options), batch_for(net)
    rule.loss = lambda logits, batch: perturbation.loss_at(net, rule.weights(), batch)
    samples = torch.stack([flat(gradients(rule, batch)) for _ in range(n_samples)])
    assert_unbiased(samples, gradient)


def flat(found):
    return torch.cat([value.flatten() for value in found.values()])


@pytest.fixture
def quadratic(monkeypatch):
    """Make the loss 1/2 w^T A w + c^T w of all weights, and return its gradient."""
    net = dense()
    size = sum(weight.numel() for weight in net.parameters())
    generator = torch.Generator().manual_seed(5)
    half, c = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((size, size), (size,)))
    a = half @ half.T / size

    def loss(net, weights, batch):
        w = torch.cat([weight.flatten() for weight in weights.values()])
        return 0.5 * w @ a @ w + c @ w

    for module in (perturbation, evolution):
        monkeypatch.setattr(module, "loss_at", loss)
    start = torch.cat([weight.detach().flatten() for weight in net.parameters()])
    return net, loss, a @ start + c
