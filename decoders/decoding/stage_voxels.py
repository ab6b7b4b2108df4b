"""The stage ``voxels``: which voxels respond to the text, and what can be decoded from them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings, VoxelMapSettings
from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding import maps
from decoders.decoding.bottleneck import lags_in_volumes, null_pairing, paired
from decoders.decoding.listening import Listening, listen, planted_voxels
from decoders.decoding.refit import (
    N_NULLS,
    Score,
    decode_runs,
    identification_scores,
    shifted_row,
    window_row,
)
from decoders.decoding.score_nulls import Draw, scores_frame, story_seeds, write_nulls
from decoders.decoding.stage_gate import read_pairings
from decoders.decoding.stored_runs import lengths_of
from decoders.decoding.voxel_maps import VoxelMaps, gather
from decoders.stage import Job
from decoders.store.arrays import Array, write_arrays
from decoders.store.images import write_map
from decoders.store.tables import COLUMNS, write_table

WINDOW_S = 20.0
METHOD = f"one-sided; {N_NULLS} circular shifts of the text, answers kept"
_UNITS = {
    "gate": "KL, nats per voxel and volume",
    "encoding": "encoding r, smoothed",
    "combined": "mean z of gate, encoding r and encoding r smoothed",
}


def run(job: Job) -> None:
    """Write the maps, their recovery of a planted truth, and the scores of the refit, of one subject."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    listening, recordings = listen(job)
    rows = select_runs(read_manifest(job.input("manifest")), subject=subject)
    trained = listening.trained_labels
    found = gather(*read_pairings(job.inputs["gates"], listening.mask, trained))
    scores, arrays = refit(listening, found, settings, job.rng, subject)
    planted = planted_voxels(rows, recordings, listening.mask)
    about: dict[str, Any] = {"subject": subject, "features": settings.features, "trained": trained}
    if planted is not None:
        best = oracle(listening, planted, settings, job.rng, subject)
        about["oracle"] = {metric: score.score for metric, score in best.items()}
    table = recovery_table(found, planted, job.settings.data.phantom)
    for row in table.to_dict("records"):
        job.log.info("sub-%s, map %s: AUC %.3f, AP %.3f", subject, row["map"], row["auc"], row["ap"])
    scored = score_rows(scores, subject, job.seed)
    write_table(job.outputs["scores"], scores_frame(scored), "decoding_scores")
    write_nulls(job.outputs["nulls"], scored, subject)
    write_table(job.outputs["recovery"], table.assign(subject=subject, features=settings.features), "recovery")
    affine = recordings[0].affine
    if affine is None:
        names = recordings[0].names.tolist() or list(range(int(listening.mask.sum())))
        table = features_table(found, [str(name) for name in names], subject)
        write_table(job.outputs["features"], table, "voxel_features")
    else:
        for name, values in found.shown.items():
            write_map(job.outputs[name], values, listening.mask, affine, _UNITS[name])
    _write(job.outputs["arrays"], listening, found, arrays, planted, affine, about)


def features_table(found: VoxelMaps, names: Sequence[str], subject: str) -> pd.DataFrame:
    """Return the maps of regions or vertices as a table, with the maximum of the nulls; they have no place in an image.

    Parameters
    ----------
    found : VoxelMaps
    names : sequence of str
        Of the regions, or numbers of the vertices.
    subject : str
    """
    cuts = maps.null_maximum(found.nulls)
    table = pd.DataFrame({"subject": subject, "feature": names, **found.shown})
    return table.assign(**{f"null_maximum_{name}": cuts.get(name, np.nan) for name in found.shown})


def refit(
    listening: Listening, found: VoxelMaps, settings: VoxelMapSettings, draw: Draw, subject: str
) -> tuple[dict[str, dict[str, Score]], dict[str, Array]]:
    """Refit ridge decoders and score them on the test runs.

    Parameters
    ----------
    listening : Listening
    found : VoxelMaps
    settings : VoxelMapSettings
    draw : callable
        Returns a generator for some keys, as ``Job.rng`` does.
    subject : str

    Returns
    -------
    scores : dict of model to dict of metric to Score
        ``bottleneck_refit`` reads the top share of the gate map, ``ridge_all_voxels`` every voxel;
        ``control:shuffled`` is trained on a null pairing, ``control:word_rate`` compares the word count alone.
    arrays : dict of str to Array
        What the report draws.
    """
    train, test, rng = listening.training, listening.test, draw("refit", subject)
    lags, length = lags_in_volumes(listening.tr), round(WINDOW_S / listening.tr)
    seeds = story_seeds(draw, test.stories)
    chosen = maps.top_share(found.gate.logits, settings.select_share)
    shuffled = paired(train.targets, null_pairing(lengths_of(train.x), rng))
    every = np.arange(int(listening.mask.sum()))
    decoded = {
        name: decode_runs(train.x, targets, test.x, voxels, lags, settings.folds)
        for name, targets, voxels in (
            ("bottleneck_refit", train.targets, chosen),
            ("ridge_all_voxels", train.targets, every),
            ("control:shuffled", shuffled, chosen),
        )
    }
    identified = {name: identification_scores(runs, test.targets, length, rng, seeds) for name, runs in decoded.items()}
    rate, counts = ([run[:, :1] for run in runs] for runs in (decoded["bottleneck_refit"], test.targets))
    identified["control:word_rate"] = identification_scores(rate, counts, length, rng, seeds)
    arrays = {"selected": Array(chosen, ("selected",))}
    for i, run_ in enumerate(decoded["bottleneck_refit"]):
        arrays[f"decoded/{i + 1:02d}"] = Array(run_, ("time", "feature"), "z")
        arrays[f"heard/{i + 1:02d}"] = Array(test.targets[i][: len(run_)], ("time", "feature"), "z")
    arrays["window_percentile"] = Array(identified["bottleneck_refit"][1].percentile, ("window",))
    return {name: scores for name, (scores, _) in identified.items()}, arrays


def oracle(
    listening: Listening, planted: NDArray[np.bool_], settings: VoxelMapSettings, draw: Draw, subject: str
) -> dict[str, Score]:
    """Score a decoder that is told the planted voxels: what the refit could reach at best."""
    train, test = listening.training, listening.test
    lags = lags_in_volumes(listening.tr)
    decoded = decode_runs(train.x, train.targets, test.x, np.flatnonzero(planted), lags, settings.folds)
    rng, seeds = draw("oracle", subject), story_seeds(draw, test.stories)
    return identification_scores(decoded, test.targets, round(WINDOW_S / listening.tr), rng, seeds)[0]


def recovery_table(
    found: VoxelMaps, planted: NDArray[np.bool_] | None, phantom: PhantomSettings | None
) -> pd.DataFrame:
    """Return how well each map recovers the planted voxels; no rows where nothing is planted.

    Beside AUC and AP: the share of false voxels above the null's maximum (``fdr``), and of planted voxels
    that are found there (``tpr``). Rows ``null_<map>`` are the maps of the first null pairing.
    """
    columns = [*COLUMNS["recovery"], "fdr", "tpr"]
    if planted is None:
        return pd.DataFrame(columns=columns)
    about = {"seed": np.nan, "grid": "x".join(map(str, phantom.grid)) if phantom else "n/a", "r0": np.nan}
    if phantom is not None:
        about |= {"seed": phantom.seed, "r0": phantom.r0}
    cuts = maps.null_maximum(found.nulls)
    rows: list[dict[str, Any]] = []
    for name, values in found.shown.items():
        auc, ap = maps.recovery(values, planted)
        fdr, tpr = maps.above_cut(values, cuts[name], planted) if name in cuts else (np.nan, np.nan)
        rows.append({**about, "map": name, "auc": auc, "ap": ap, "fdr": fdr, "tpr": tpr})
    for name, nulls in found.nulls.items():
        if nulls:
            auc, ap = maps.recovery(nulls[0], planted)
            rows.append({**about, "map": f"null_{name}", "auc": auc, "ap": ap, "fdr": np.nan, "tpr": np.nan})
    return pd.DataFrame(rows, columns=columns)


def score_rows(scores: Mapping[str, Mapping[str, Score]], subject: str, seed: int) -> list[dict[str, Any]]:
    """Return the scores as rows of the decoding table; the shifted text of the refit is the control ``shifted``."""
    about = {"subject": subject, "seed": seed, "task": f"window_{WINDOW_S:g}s"}
    rows = []
    for model, metrics in scores.items():
        for metric, score in metrics.items():
            rows.append(window_row(about, model, metric, score, METHOD))
    for metric, score in scores["bottleneck_refit"].items():
        rows.append(shifted_row(about, metric, score))
    return rows


def _write(
    path: Path, listening: Listening, found: VoxelMaps, extra: Mapping[str, Array],
    planted: NDArray[np.bool_] | None, affine: NDArray[np.float64] | None, about: Mapping[str, Any],
) -> None:  # fmt: skip
    gate = found.gate
    arrays = {
        "mask": Array(listening.mask.astype(np.uint8), ("x", "y", "z")),
        "gate/logits": Array(gate.logits, ("voxel",)),
        "gate/m": Array(gate.m, ("voxel",)),
        "gate/kl": Array(gate.kl, ("voxel",), "nat"),
        "gate/capacity": Array(gate.capacity, ("voxel",), "nat"),
        "gate/curve": Array(gate.curve, ("epoch", "held_out_training_kl"), "nat"),
        "encoding/r": Array(found.encoding_r, ("voxel",)),
        "encoding/smoothed": Array(found.encoding, ("voxel",)),
        "combined": Array(found.combined, ("voxel",)),
        **extra,
    }
    for name, nulls in found.nulls.items():
        if nulls:
            arrays[f"null/{name}"] = Array(np.stack(nulls), ("null", "voxel"))
    if affine is not None:
        arrays["affine"] = Array(affine, ("row", "column"), "mm")
    if planted is not None:
        arrays["planted"] = Array(planted.astype(np.uint8), ("voxel",))
    write_arrays(path, arrays, {**about, "null_maximum": maps.null_maximum(found.nulls), "bits_are_bounds": True})
