"""The test that is not used here: pairs of stimuli resampled as if they were independent.

Shown in the certificate with its real rate of wrong statements, because published comparisons rest on it.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from decoders.alignment.models import Models
from decoders.alignment.stage import Recorded
from decoders.stats.resampling import draw_counts


def pair_level_p(models: Models, recorded: Recorded, rng: np.random.Generator, n_resamples: int = 200) -> float:
    """Return the two-sided p of the difference between the first two rules, by a bootstrap over pairs of stimuli.

    The RDMs of the subjects are averaged first, and each resample correlates the ranks of the drawn pairs.
    """
    first, second = (np.flatnonzero([row.rule == rule for row in models.usable]) for rule in ("rule1", "rule2"))
    mean = recorded.rdms.mean(axis=0)
    ranks = rankdata(np.stack([models.vectors[first].mean(axis=0), models.vectors[second].mean(axis=0), mean]), axis=1)
    weights = draw_counts(len(mean), n_resamples, rng) / len(mean)
    centred = ranks[None] - (weights @ ranks.T)[:, :, None]
    products = np.einsum("bip,bjp,bp->bij", centred, centred, weights, optimize=True)
    spread = np.sqrt(np.einsum("bii->bi", products))
    correlation = products[:, :2, 2] / (spread[:, :2] * spread[:, 2:])
    difference = correlation[:, 0] - correlation[:, 1]
    k = min((difference <= 0).sum(), (difference >= 0).sum())
    return float(min(1.0, 2 * (1 + k) / (1 + n_resamples)))
