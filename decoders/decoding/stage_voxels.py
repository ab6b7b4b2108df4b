"""The stage ``voxels``: which voxels respond to the text, and what can be decoded from them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings, VoxelMapSettings
from decoders.data.manifest import Run, read_manifest, select_runs
from decoders.decoding import maps
from decoders.decoding.bottleneck import GateFit, lags_in_volumes, null_pairing, paired, train_gate
from decoders.decoding.common_grid import common_mask, on_common_grid
from decoders.decoding.phantom_vectors import phantom_vectors
from decoders.decoding.refit import N_NULLS, Score, decode_runs, identification_scores, window_row
from decoders.decoding.splits_voxels import SETTING, TEXT_SCALING, declare_voxels
from decoders.decoding.stage_encode import runs_with_words
from decoders.stage import Job
from decoders.stats.declared import Corpus, DeclaredSplit, agreed, read_audited
from decoders.stats.timed_runs import recorded
from decoders.stimuli.embedding import Embedding, trigram_embedding
from decoders.stimuli.features import feature_matrix, zscore_runs
from decoders.stimuli.timings import Words, words_by_stimulus
from decoders.store.arrays import Array, write_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import COLUMNS, read_table, write_table

WINDOW_S = 20.0
METHOD = f"one-sided; {N_NULLS} circular shifts of the text, answers kept"
_FEATURES = ("word_rate", "embedding")
_UNITS = {
    "gate": "KL, nats per voxel and volume",
    "encoding": "encoding r, smoothed",
    "combined": "mean z of gate and encoding",
}


@dataclass(frozen=True)
class Listening:
    """The runs of one subject, and what was heard in them.

    Attributes
    ----------
    x : list of array of shape (n_volumes, n_voxels)
        One per run, z-scored per run.
    targets : list of array of shape (n_volumes, n_targets)
        Word count and word vectors per volume; z-scored by the training runs.
    features : list of array of shape (n_volumes, n_targets)
        The same with the haemodynamic response.
    mask : array of shape (x, y, z), bool
    tr : float
    trained, tested : sequence of int
        Runs by number, as declared.
    """

    x: list[NDArray[np.float32]]
    targets: list[NDArray[np.float32]]
    features: list[NDArray[np.float32]]
    mask: NDArray[np.bool_]
    tr: float
    trained: Sequence[int] = ()
    tested: Sequence[int] = ()

    @property
    def training(self) -> Listening:
        """The runs that train."""
        return self._part(self.trained)

    @property
    def test(self) -> Listening:
        """The runs that are held out."""
        return self._part(self.tested)

    def _part(self, runs: Sequence[int]) -> Listening:
        x, targets, features = ([part[run] for run in runs] for part in (self.x, self.targets, self.features))
        return replace(self, x=x, targets=targets, features=features, trained=(), tested=())


@dataclass
class VoxelMaps:
    """Maps of one subject and their nulls.

    Attributes
    ----------
    gate : GateFit
    encoding_r, encoding, combined : array of shape (n_voxels,)
        Held-out r, the same smoothed within the mask, and the mean z of gate logits and smoothed r.
    nulls : dict of str to list of array
        The three maps of each null pairing.
    """

    gate: GateFit
    encoding_r: NDArray[np.float32]
    encoding: NDArray[np.float32]
    combined: NDArray[np.float32]
    nulls: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, NDArray[np.float32]]:
        """The maps that are written, by name."""
        return {"gate": self.gate.kl, "encoding": self.encoding, "combined": self.combined}


def run(job: Job) -> None:
    """Write the maps, their recovery of a planted truth, and the scores of the refit, of one subject."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    listening, recordings = listen(job)
    rows = select_runs(read_manifest(job.input("manifest")), subject=subject)
    found = locate(
        listening.training,
        settings,
        job.torch_seed("gate", subject),
        job.rng("null gates", subject),
    )
    scores, arrays = refit(listening, found, settings, job.rng("refit", subject))
    planted = planted_voxels(rows, recordings, listening.mask)
    keys = [run.key for run in recorded(recordings)]
    about: dict[str, Any] = {
        "subject": subject, "features": settings.features, "trained": [keys[i] for i in listening.trained]
    }  # fmt: skip
    if planted is not None:
        best = oracle(listening, planted, settings, job.rng("oracle", subject))
        about["oracle"] = {metric: score.score for metric, score in best.items()}
    table = recovery_table(found, planted, job.settings.data.phantom)
    for row in table.to_dict("records"):
        job.log.info("sub-%s, map %s: AUC %.3f, AP %.3f", subject, row["map"], row["auc"], row["ap"])
    write_table(job.outputs["scores"], scores_table(scores, subject, job.seed), "decoding_scores")
    write_table(job.outputs["recovery"], table.assign(subject=subject, features=settings.features), "recovery")
    affine = recordings[0].affine
    assert affine is not None  # a volume has one (`prepare`)
    for name, values in found.shown.items():
        maps.write_map(job.outputs[name], values, listening.mask, affine, _UNITS[name])
    _write(job.outputs["arrays"], listening, found, arrays, planted, affine, about)


def listen(job: Job) -> tuple[Listening, list[Recording]]:
    """Return the runs of the job's subject by the audited split, and their recordings."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    words = words_by_stimulus(read_table(job.input("words"), text_columns=("stimulus", "word", "text")))
    recordings = runs_with_words([read_recording(path) for path in job.inputs["recording"]], settings.task, words)
    rows = select_runs(read_manifest(job.input("manifest")), subject=subject)
    own = declare_voxels(recorded(recordings), settings, sorted(words))
    audited = read_audited(job.input("splits"), job.input("leaks")).of_subject(subject)
    split = agreed(own, audited, f"subject {subject}").splits[0]
    embedding = words_embedding(settings, rows, words, split.corpora[0], job.input("manifest"))
    return prepare(recordings, words, embedding, split), recordings


def prepare(
    recordings: Sequence[Recording], words: Mapping[str, Words], embedding: Embedding, split: DeclaredSplit
) -> Listening:
    """Bring the runs of a subject to common voxels, and compute the features of their text.

    Parameters
    ----------
    recordings : sequence of Recording
        Kind "volume", axis "time", in order.
    words : mapping of str to Words
        By stimulus.
    embedding : Embedding
        Word vectors.
    split : DeclaredSplit
        Which runs train, which are held out, and which the text features are z-scored by.

    Raises
    ------
    InputError
        No volumes on one grid, or runs of different TR.
    """
    mask = common_mask(recordings, SETTING)
    x = on_common_grid(recordings, mask)
    plain, convolved = (text_targets(recordings, words, embedding, hrf) for hrf in (False, True))
    number = {run.key: i for i, run in enumerate(recorded(recordings))}
    trained, tested, scaled = (
        [number[rows.run] for rows in part]
        for part in (split.train, split.test, split.rows(split.fit("scaling", TEXT_SCALING).on))
    )
    targets, features = ([run.astype(np.float32) for run in zscore_runs(runs, scaled)] for runs in (plain, convolved))
    return Listening(x, targets, features, mask, recordings[0].tr, trained, tested)


def text_targets(
    recordings: Sequence[Recording], words: Mapping[str, Words], embedding: Embedding, hrf: bool = False
) -> list[NDArray[np.float64]]:
    """Return word count and word vectors per volume of each run, of shape (n_volumes, n_targets)."""
    return [
        feature_matrix(_FEATURES, words[r.stimulus], r.time, r.tr, hrf=hrf, embedding=embedding)[0] for r in recordings
    ]


def locate(training: Listening, settings: VoxelMapSettings, seed: int, rng: np.random.Generator) -> VoxelMaps:
    """Compute the gate map, the encoding map and their combination from training runs, and the same for null pairings.

    Parameters
    ----------
    training : Listening
    settings : VoxelMapSettings
    seed : int
        Of the gates and of the search over band penalties.
    rng : Generator
        Draws the null pairings.

    Returns
    -------
    VoxelMaps
    """
    gate, r, smooth = _two_maps(training, settings, seed)
    found = VoxelMaps(
        gate, r, smooth, maps.combine([gate.logits, smooth]), {"gate": [], "encoding": [], "combined": []}
    )
    for _ in range(settings.n_null_gates):
        pairing = null_pairing([len(run) for run in training.x], rng)
        null = replace(training, targets=paired(training.targets, pairing), features=paired(training.features, pairing))
        null_gate, _, null_smooth = _two_maps(null, settings, seed)
        found.nulls["gate"].append(null_gate.kl)
        found.nulls["encoding"].append(null_smooth)
        # On the scale of the real maps, so that the null's maximum is a cut for the combined map.
        found.nulls["combined"].append(maps.combine([null_gate.logits, null_smooth], [gate.logits, smooth]))
    return found


def refit(
    listening: Listening, found: VoxelMaps, settings: VoxelMapSettings, rng: np.random.Generator
) -> tuple[dict[str, dict[str, Score]], dict[str, Array]]:
    """Refit ridge decoders and score them on the test runs.

    Returns
    -------
    scores : dict of model to dict of metric to Score
        ``bottleneck_refit`` reads the top share of the gate map, ``ridge_all_voxels`` every voxel;
        ``control:shuffled`` is trained on a null pairing, ``control:word_rate`` compares the word count alone.
    arrays : dict of str to Array
        What the report draws.
    """
    train, test = listening.training, listening.test
    lags, length = lags_in_volumes(listening.tr), round(WINDOW_S / listening.tr)
    chosen = maps.top_share(found.gate.logits, settings.select_share)
    shuffled = paired(train.targets, null_pairing([len(run) for run in train.x], rng))
    every = np.arange(int(listening.mask.sum()))
    decoded = {
        name: decode_runs(train.x, targets, test.x, voxels, lags, settings.folds)
        for name, targets, voxels in (
            ("bottleneck_refit", train.targets, chosen),
            ("ridge_all_voxels", train.targets, every),
            ("control:shuffled", shuffled, chosen),
        )
    }
    identified = {name: identification_scores(runs, test.targets, length, rng) for name, runs in decoded.items()}
    rate = [run[:, :1] for run in decoded["bottleneck_refit"]]
    identified["control:word_rate"] = identification_scores(rate, [run[:, :1] for run in test.targets], length, rng)
    arrays = {"selected": Array(chosen, ("selected",))}
    for i, run_ in enumerate(decoded["bottleneck_refit"]):
        arrays[f"decoded/{i + 1:02d}"] = Array(run_, ("time", "feature"), "z")
        arrays[f"heard/{i + 1:02d}"] = Array(test.targets[i][: len(run_)], ("time", "feature"), "z")
    arrays["window_percentile"] = Array(identified["bottleneck_refit"][1].percentile, ("window",))
    return {name: scores for name, (scores, _) in identified.items()}, arrays


def oracle(
    listening: Listening, planted: NDArray[np.bool_], settings: VoxelMapSettings, rng: np.random.Generator
) -> dict[str, Score]:
    """Score a decoder that is told the planted voxels: what the refit could reach at best."""
    train, test = listening.training, listening.test
    lags = lags_in_volumes(listening.tr)
    decoded = decode_runs(train.x, train.targets, test.x, np.flatnonzero(planted), lags, settings.folds)
    return identification_scores(decoded, test.targets, round(WINDOW_S / listening.tr), rng)[0]


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


def scores_table(scores: Mapping[str, Mapping[str, Score]], subject: str, seed: int) -> pd.DataFrame:
    """Return the scores as rows of the decoding table; the shifted text of the refit is the control ``shifted``."""
    about = {"subject": subject, "seed": seed, "task": f"window_{WINDOW_S:g}s"}
    rows = []
    for model, metrics in scores.items():
        for metric, score in metrics.items():
            rows.append(window_row(about, model, metric, score, METHOD))
    for metric, score in scores["bottleneck_refit"].items():
        low, high = np.quantile(score.null, [0.025, 0.975])
        shifted = Score(float(score.null.mean()), float(low), float(high), len(score.null), np.array([np.nan]))
        rows.append(window_row(about, "control:shifted", metric, shifted, METHOD))
    return pd.DataFrame(rows)


def _two_maps(
    training: Listening, settings: VoxelMapSettings, seed: int
) -> tuple[GateFit, NDArray[np.float32], NDArray[np.float32]]:
    gate = train_gate(training.x, training.targets, training.mask, settings, training.tr, seed)
    bands = [1, training.features[0].shape[1] - 1]  # word count, word vectors
    r = maps.encoding_map(training.x, training.features, bands, settings.folds, seed)
    return gate, r, maps.smooth_in_mask(r, training.mask, settings.sigma_voxels)


def words_embedding(
    settings: VoxelMapSettings, rows: Sequence[Run], words: Mapping[str, Words], corpus: Corpus, where: Path
) -> Embedding:
    """Return the word vectors that the targets are made of.

    Parameters
    ----------
    settings : VoxelMapSettings
    rows : sequence of Run
        Of the manifest, where a phantom's own vectors lie.
    words : mapping of str to Words
        By stimulus.
    corpus : Corpus
        As declared.
    where : Path
        The manifest, for errors.
    """
    if settings.features == "trigram":
        # From the letters of all words, those of the test runs too: no recording is seen.
        return trigram_embedding([word for name in corpus.stimuli for word in words[name].word])
    return phantom_vectors(rows, where)


def planted_voxels(
    rows: Sequence[Run], recordings: Sequence[Recording], mask: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Return the planted voxels of a phantom, shape (n_voxels,); None where nothing or everything is planted."""
    tasks = {r.task for r in recordings}
    paths = sorted({path for row in rows if row.task in tasks and (path := row.path("truth")) is not None})
    if not paths:
        return None
    planted = maps.read_planted(paths[0], mask)
    return planted if planted.any() and not planted.all() else None


def _write(
    path: Path, listening: Listening, found: VoxelMaps, extra: Mapping[str, Array],
    planted: NDArray[np.bool_] | None, affine: NDArray[np.float64], about: Mapping[str, Any],
) -> None:  # fmt: skip
    gate = found.gate
    arrays = {
        "mask": Array(listening.mask.astype(np.uint8), ("x", "y", "z")),
        "affine": Array(affine, ("row", "column"), "mm"),
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
    if planted is not None:
        arrays["planted"] = Array(planted.astype(np.uint8), ("voxel",))
    write_arrays(path, arrays, {**about, "null_maximum": maps.null_maximum(found.nulls), "bits_are_bounds": True})
