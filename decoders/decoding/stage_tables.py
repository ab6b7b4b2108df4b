"""The stage ``decoding``: one table of scores, of texts and of recovery, with the family's corrected p-values.

The family is declared here: at each level (subject, group) all tests of models against chance, whatever the
subject, split, task and metric; controls are not tested. Correction is by the false discovery rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.correction import fdr
from decoders.store.tables import COLUMNS, read_table, write_table

LABELS = ("level", "subject", "split", "task", "model", "metric", "run", "mode", "reference", "decoded", "grid", "map")


def run(job: Job) -> None:
    """Write the joined tables."""
    tables = {
        name: join_tables([(path, read_table(path, LABELS)) for path in job.inputs.get(name, [])], kind)
        for name, kind in (("scores", "decoding_scores"), ("text", "text"), ("recovery", "recovery"))
    }
    scores = correct(tables["scores"])
    decoding = job.settings.decoding
    # None where a block is absent.
    asked = (decoding.names.split, decoding.encoding.delays, decoding.voxels.test_runs, decoding.meg.test_runs)
    if not len(scores) and any(value is not None for value in asked):
        remedy = "Look at preprocessed/quality.tsv for the runs that were excluded, and why."
        raise InputError("a subject who can be decoded", "none", "the block 'decoding' of the study", remedy)
    tested = int(scores["p_corrected"].notna().sum())
    job.log.info("%d scores, %d of them tested", len(scores), tested)
    write_table(job.outputs["scores"], scores, "decoding_scores")
    write_table(job.outputs["text"], tables["text"], "text")
    write_table(job.outputs["recovery"], tables["recovery"], "recovery")


def join_tables(parts: Sequence[tuple[Path, pd.DataFrame]], kind: str) -> pd.DataFrame:
    """Return tables of one kind one below the other; without any, a table of its columns and no rows.

    Parameters
    ----------
    parts : sequence of (path, DataFrame)
        The path is named in errors.
    kind : str
        Key of `COLUMNS`.

    Raises
    ------
    InputError
        A table lacks a column.
    """
    for path, table in parts:
        missing = [column for column in COLUMNS[kind] if column not in table]
        if missing:
            remedy = "Delete it and run again: the stage that wrote it will write it anew."
            raise InputError(f"the columns {', '.join(COLUMNS[kind])}", f"no {', '.join(missing)}", path, remedy)
    # Empty tables have columns of no type, which would turn numbers into text.
    filled = [table for _, table in parts if len(table)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return parts[0][1] if parts else pd.DataFrame(columns=list(COLUMNS[kind]))


def correct(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with `p_corrected` over the declared family of each level.

    Rows without p, and controls, stay untested.
    """
    scores = scores.copy()
    p = pd.to_numeric(scores["p"], errors="coerce").to_numpy(np.float64)
    tested = np.isfinite(p) & ~scores["model"].astype(str).str.startswith("control:").to_numpy()
    corrected = np.full(len(scores), np.nan)
    for level in dict.fromkeys(scores["level"]):
        family = tested & (scores["level"] == level).to_numpy()
        corrected[family] = fdr(p[family])
    return scores.assign(p_corrected=corrected)
