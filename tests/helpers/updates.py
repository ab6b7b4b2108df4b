"""What the identity tests of all families share: the updates of a rule, exact derivatives, a common mutation."""

import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy

from decoders.models.networks import set_mode


def written_gradients(rule, batch):
    """Return what the rule writes for one batch in training mode, by name of the parameter."""
    set_mode(rule.net, training=True)
    rule.companions.train()
    rule.net.zero_grad()
    rule.companions.zero_grad()
    rule.gradients(batch)
    return {
        name: parameter.grad.clone() for name, parameter in rule.net.named_parameters() if parameter.grad is not None
    }


def gradients(rule, batch):
    """Return the same of a rule that must write every parameter of the network."""
    found = written_gradients(rule, batch)
    assert found.keys() == dict(rule.net.named_parameters()).keys()
    return found


def derivatives(net, loss):
    """Return the exact derivatives of a loss by all parameters of a network, by name."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def exact_gradients(net, batch):
    """Return the derivatives of the cross-entropy of a batch."""
    set_mode(net, training=True)
    return derivatives(net, cross_entropy(net(batch.x), batch.y))


def cosine(a, b):
    return float(cosine_similarity(a.flatten(), b.flatten(), dim=0))


class StraightThrough(nn.Module):
    """An activation without its derivative."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def forward(self, z):
        return z + (self.activation(z) - z).detach()
