"""The rate-distortion curve of the gate, and how stable its map is over disjoint halves of the runs.

One beta fixes one compromise between what the gate lets through (rate, nats) and what it costs the task
(distortion, the held-out loss). A sweep shows the whole compromise, and whether the map hangs on the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from decoders.config import VoxelMapSettings
from decoders.decoding.bottleneck import GateFit, null_pairing, paired, train_gate
from decoders.decoding.maps import recovery, top_share
from decoders.decoding.stored_runs import Runs, some_runs

RATE_COLUMNS = ("beta", "rate", "distortion", "openness", "rho_to_map", "dice_to_map", "auc", "ap")
_LAST = 0.1  # share of the epochs over which the held-out loss is averaged: single epochs are noisy


def agreement(one: NDArray[np.floating], other: NDArray[np.floating], share: float) -> tuple[float, float]:
    """Return Spearman's rho of two maps and the Dice overlap of their highest voxels.

    Parameters
    ----------
    one, other : array of shape (n_voxels,)
    share : float
        Of voxels that count as highest.
    """
    first, second = top_share(one, share), top_share(other, share)
    both = len(np.intersect1d(first, second))
    return float(spearmanr(one, other).statistic), 2 * both / (len(first) + len(second))


def rate_distortion(
    x: Runs,
    targets: Runs,
    mask: NDArray[np.bool_],
    settings: VoxelMapSettings,
    tr: float,
    seed: int,
    planted: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Train the gate at every beta of the sweep.

    Parameters
    ----------
    x, targets : sequence of array
        As for `train_gate`.
    mask : array of shape (x, y, z), bool
    settings : VoxelMapSettings
        Its `betas` are swept; its `beta` is the one that the other maps are compared with.
    tr : float
        Seconds per volume.
    seed : int
    planted : array of shape (n_voxels,), bool, optional
        Known truth of a phantom.

    Returns
    -------
    DataFrame with a row per beta
        rate (upper bound of the information passed, nats per volume, all voxels), distortion (held-out InfoNCE,
        nats), openness (mean m), rho_to_map and dice_to_map (agreement with the map at `beta`), auc and ap (nan
        without truth).
    """
    fits = {
        beta: train_gate(x, targets, mask, settings, tr, seed, beta=beta)
        for beta in dict.fromkeys((*settings.betas, settings.beta))
    }
    rows = [_rate_row(beta, fit, fits[settings.beta], settings.select_share, planted) for beta, fit in fits.items()]
    return pd.DataFrame(rows, columns=list(RATE_COLUMNS)).sort_values("beta", ignore_index=True)


def _rate_row(
    beta: float, fit: GateFit, chosen: GateFit, share: float, planted: NDArray[np.bool_] | None
) -> dict[str, Any]:
    last = max(1, round(_LAST * len(fit.curve)))
    rho, dice = agreement(fit.logits, chosen.logits, share)
    auc, ap = (np.nan, np.nan) if planted is None else recovery(fit.logits, planted)
    return {
        "beta": beta, "rate": float(fit.kl.sum()), "distortion": float(fit.curve[-last:, 0].mean()),
        "openness": float(fit.m.mean()), "rho_to_map": rho, "dice_to_map": dice, "auc": auc, "ap": ap,
    }  # fmt: skip


def halves_agreement(
    x: Runs,
    targets: Runs,
    mask: NDArray[np.bool_],
    settings: VoxelMapSettings,
    tr: float,
    seed: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare gates of disjoint halves of the runs, and gates of the same halves under null pairings.

    Null gates are smoothed as the real ones are, so that what smoothness alone makes agree is in all rows.

    Returns
    -------
    DataFrame with the rows ``data``, ``null`` (mean over pairings) and ``null_maximum`` (each column's highest)
        rho (Spearman, logits) and dice (of the highest `select_share` of voxels). There are `n_null_gates` null
        pairings, whose number is in n_pairings; without any, the row ``data`` stands alone.

    Raises
    ------
    InputError
        Fewer than twice as many runs as folds.
    """
    parts = [list(range(start, len(x), 2)) for start in (0, 1)]
    found = []
    for pairing in range(1 + settings.n_null_gates):
        source = rng if pairing else None
        one, other = (_half(x, targets, part, mask, settings, tr, seed, source) for part in parts)
        found.append(agreement(one, other, settings.select_share))
    nulls = np.array(found[1:])
    rows = {"data": found[0]} | ({"null": nulls.mean(0), "null_maximum": nulls.max(0)} if len(nulls) else {})
    return pd.DataFrame(
        {"pairing": name, "rho": rho, "dice": dice, "n_runs": min(map(len, parts)),
         "n_pairings": 1 if name == "data" else len(nulls)}
        for name, (rho, dice) in rows.items()
    )  # fmt: skip


def _half(
    x: Runs, targets: Runs, runs: Sequence[int], mask: NDArray[np.bool_], settings: VoxelMapSettings, tr: float,
    seed: int, rng: np.random.Generator | None,
) -> NDArray[np.float32]:  # fmt: skip
    brain, text = some_runs(x, runs), [targets[run] for run in runs]
    if rng is not None:
        text = paired(text, null_pairing([len(run) for run in text], rng))
    return train_gate(brain, text, mask, settings, tr, seed).logits
