"""Tidy tables: tab-separated, one header row, ``n/a`` for missing, a checksum beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from decoders.errors import IntegrityError
from decoders.store.atomic import atomic_path, sha256_of, write_text

# The columns of the named results are an interface: add, do not rename.
COLUMNS: dict[str, tuple[str, ...]] = {
    "networks": (
        "rule",
        "architecture",
        "seed",
        "dataset",
        "epochs",
        "test_accuracy",
        "readout_accuracy",
        "untrained_readout_accuracy",
        "layer",
        "layer_accuracy",
        "untrained_layer_accuracy",
        "layer_p",
        "gain_over_random_features",
        "p_random_features",
        "displacement_min",
        "displacement_max",
        "trained",
        "cpu_seconds",
        "peak_mb",
        "status",
    ),
    "plausibility": (
        "rule",
        "architecture",
        "c1_claimed",
        "c1_measured",
        "c2_claimed",
        "c2_measured",
        "c3_claimed",
        "c3_measured",
        "o_claimed",
        "o_measured",
        "s_claimed",
        "s_measured",
        "transport_change",
        "locality_change",
        "label_change",
        "forward",
        "backward",
        "inference_steps",
        "memory_slope",
        "agrees",
    ),
    "ceilings": ("region", "time", "comparator", "ceiling_low", "ceiling_high"),
    "alignment_scores": (
        "subject",
        "region",
        "time",
        "rule",
        "architecture",
        "seed",
        "layer",
        "size",
        "comparator",
        "score",
    ),
    "inference": (
        "family",
        "analysis",
        "contrast",
        "region",
        "time",
        "estimate",
        "ci_low",
        "ci_high",
        "p",
        "p_corrected",
        "n_subjects",
        "n_stimuli",
        "n_seeds",
        "method",
    ),
    "time_clusters": (
        "family",
        "model",
        "reference",
        "region",
        "start_s",
        "stop_s",
        "peak_s",
        "mass",
        "p",
        "n_subjects",
        "n_stimuli",
        "method",
    ),
    "latencies": (
        "model",
        "reference",
        "region",
        "measure",
        "latency_s",
        "ci_low",
        "ci_high",
        "p",
        "n_subjects",
        "method",
    ),
    "geometry": ("item", "kind", "x", "y", "other", "distance", "share", "comparator"),
    "searchlight": (
        "level",
        "subject",
        "analysis",
        "model",
        "region",
        "x_mm",
        "y_mm",
        "z_mm",
        "peak",
        "p_corrected",
        "n_voxels",
        "n_above",
        "n_subjects",
        "n_stimuli",
        "method",
    ),
    "decoding_scores": (
        "level",
        "subject",
        "split",
        "seed",
        "task",
        "model",
        "metric",
        "score",
        "ci_low",
        "ci_high",
        "n",
        "null_mean",
        "p",
        "p_corrected",
    ),
    "text": ("subject", "run", "split", "mode", "onset", "duration", "reference", "decoded", "model"),
    "recovery": ("seed", "grid", "r0", "map", "auc", "ap"),
    "voxel_features": ("subject", "feature", "gate", "encoding", "combined"),
    "clusters": ("subject", "map", "cluster", "x_mm", "y_mm", "z_mm", "peak", "volume_mm3", "cut", "region", "n_nulls"),
    "rate": ("subject", "beta", "rate", "distortion", "openness", "rho_to_map", "dice_to_map", "auc", "ap"),
    "halves": ("subject", "pairing", "rho", "dice", "n_runs", "n_pairings"),
    "across": (
        "level",
        "subject",
        "runs",
        "minutes",
        "model",
        "metric",
        "score",
        "ci_low",
        "ci_high",
        "over_within",
        "over_within_low",
        "over_within_high",
    ),
    "leaks": ("split", "analysis", "check", "found", "needed", "passed", "detail"),
    "verdicts": (
        "level",
        "subject",
        "analysis",
        "n",
        "score",
        "ci_low",
        "ci_high",
        "null_mean",
        "p_corrected",
        "ceiling_low",
        "ceiling_high",
        "verdict",
        "explained_by",
    ),
}


def write_table(path: str | Path, table: pd.DataFrame, kind: str | None = None) -> None:
    """Write a table and its checksum (``<name>.sha256``).

    Parameters
    ----------
    path : str or Path
    table : DataFrame
        One row per observation; the index is dropped.
    kind : str, optional
        Key of `COLUMNS`: those columns must be there and come first; others follow.
    """
    path = Path(path)
    if kind is not None:
        missing = [column for column in COLUMNS[kind] if column not in table]
        if missing:
            raise ValueError(f"a table '{kind}' lacks the columns {missing}")
        table = table[[*COLUMNS[kind], *(column for column in table if column not in COLUMNS[kind])]]
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", lineterminator="\n", float_format="%.10g")
        digest = sha256_of(temporary)
        # First the checksum: a kill in between leaves a mismatch that is noticed, never an unchecked table.
        write_text(_checksum_path(path), f"{digest}  {path.name}\n")


def read_table(path: str | Path, text_columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table and verify its checksum.

    Parameters
    ----------
    path : str or Path
    text_columns : tuple of str
        Columns kept as text (labels such as ``01`` lose their zeros otherwise); ``n/a`` stays missing.

    Raises
    ------
    IntegrityError
        No such table, no checksum, or a table that was changed after it was written.
    """
    path = Path(path)
    remedy = "Delete it and run again: the stage that wrote it will write it anew."
    if not path.exists():
        raise IntegrityError("a table", "no such file", path, "Run the stage that writes it.")
    try:
        stated = _checksum_path(path).read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError) as error:
        raise IntegrityError(f"its checksum in {_checksum_path(path).name}", "none", path, remedy) from error
    found = sha256_of(path)
    if found != stated:
        raise IntegrityError(f"the SHA-256 {stated[:12]}…", f"{found[:12]}…", path, remedy)
    # 'text' labels: only n/a is missing, so that a region called NA or a subject 'null' survives.
    return pd.read_csv(
        path, sep="\t", na_values=["n/a"], keep_default_na=False, dtype=dict.fromkeys(text_columns, str), quoting=0
    )


def write_json(path: str | Path, value: object) -> None:
    """Write JSON with sorted keys in one step."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def _checksum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
