"""Does a ranking of learning rules hold, and does it depend on layer or picture size? Read from the inference table."""

from __future__ import annotations

import pandas as pd

from decoders.report.words import listed, text, title


def ranking_sentences(pairs: pd.DataFrame, alpha: float) -> list[str]:
    """Return a sentence per region.

    Parameters
    ----------
    pairs : DataFrame
        Paired differences: region, layer, size, rule_a, rule_b, estimate, p_corrected.
    alpha : float
        Level of the corrected tests.
    """
    return [_region_sentence(text(region), group, alpha) for region, group in pairs.groupby("region", sort=False)]


def _region_sentence(region: str, pairs: pd.DataFrame, alpha: float) -> str:
    number = f"{len(pairs)} paired differences between rules"
    sure = pairs[pairs["p_corrected"].astype(float) <= alpha]
    if not len(sure):
        sentence = (
            f"{region}: none of {number} survives correction (at {alpha:g}). The study supports no ranking of "
            "learning rules here."
        )
        return sentence + (" The order of the estimates changes with layer or picture size." if _flips(pairs) else "")
    reversed_pairs = _flips(sure)
    head = f"{region}: {len(sure)} of {number} {'survives' if len(sure) == 1 else 'survive'} correction (at {alpha:g})."
    if reversed_pairs:
        return (
            f"{head} The ranking depends on layer or picture size: {listed(reversed_pairs, 4)} come out reversed, "
            "each time after correction."
        )
    unsure = _flips(
        pairs[[tuple(sorted(p)) in _names(sure) for p in zip(pairs["rule_a"], pairs["rule_b"], strict=True)]]
    )
    if unsure:
        return (
            f"{head} No corrected difference reverses, but the estimates of {listed(unsure, 4)} change sign with "
            "layer or picture size."
        )
    return f"{head} Their direction is the same at every layer and picture size."


def _names(pairs: pd.DataFrame) -> set[tuple[str, ...]]:
    return {tuple(sorted(pair)) for pair in zip(pairs["rule_a"], pairs["rule_b"], strict=True)}


def _flips(pairs: pd.DataFrame) -> list[str]:
    """Return the pairs of rules whose difference is positive at one place and negative at another."""
    signs: dict[tuple[str, ...], set[bool]] = {}
    for a, b, estimate in zip(pairs["rule_a"], pairs["rule_b"], pairs["estimate"].astype(float), strict=True):
        pair = tuple(sorted((a, b)))
        signs.setdefault(pair, set()).add((estimate > 0) == (pair[0] == a))
    return [f"{title(a)} and {title(b)}" for (a, b), found in sorted(signs.items()) if len(found) > 1]
