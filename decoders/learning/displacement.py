"""How far the weights moved, and whether a rule trained what it claims to train."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from decoders.models.networks import Network

# A layer that moved less than this share of its initial norm counts as not trained.
MOVED = 0.01


def initial_weights(net: Network) -> dict[str, Tensor]:
    """Return copies of every layer's affine weight."""
    return {block.name: block.affine.weight.detach().clone() for block in net}


def relative_displacement(net: Network, initial: Mapping[str, Tensor]) -> dict[str, float]:
    """Return ||W - W0|| / ||W0|| (Frobenius, in float64) of every layer's affine weight.

    Published "STDP" and "predictive coding" networks moved by 1-8 % at most: their scores were those of
    random weights under a trained read-out. Hence this number stands beside every score.
    """
    result = {}
    for block in net:
        before = initial[block.name].double()
        after = block.affine.weight.detach().double()
        result[block.name] = float((after - before).norm() / before.norm())
    return result


def trained(displacement: Mapping[str, float], claimed: Mapping[str, bool]) -> bool:
    """Return whether the rule claims to train anything, and every claimed layer moved by at least `MOVED`."""
    moved = [displacement[layer] >= MOVED for layer, claim in claimed.items() if claim]
    return bool(moved) and all(moved)


def moved_without_claim(displacement: Mapping[str, float], claimed: Mapping[str, bool]) -> list[str]:
    """Return the layers that moved although the rule claims to leave them alone: a defect of the rule."""
    return [layer for layer, claim in claimed.items() if not claim and displacement[layer] > 0]
