"""Stage `verdict`: what the tables of decoding, alignment and fusion support."""

from __future__ import annotations

import pandas as pd

from decoders.config import AlignmentSettings
from decoders.stage import Job
from decoders.stats.verdicts import alignment_verdicts, decoding_verdicts, encoding_verdicts
from decoders.stats.verdicts_fusion import fusion_verdicts
from decoders.store.tables import COLUMNS, read_table, write_table

_ALIGNMENT = ("scores", "ceilings", "inference")
_LABELS = ("subject", "split", "seed", "region", "model", "reference")


def run(job: Job) -> None:
    """Write verdicts.tsv."""
    # Without an alignment block the level of its tests, as documented there.
    alpha = job.settings.alignment.alpha or AlignmentSettings.model_fields["alpha"].default
    tables = []
    if job.inputs.get("decoding"):
        tables.append(decoding_verdicts(read_table(job.input("decoding"), _LABELS), alpha))
    if job.inputs.get("inference"):
        scores, ceilings, inference = (read_table(job.input(name), _LABELS) for name in _ALIGNMENT)
        tables.append(alignment_verdicts(scores, ceilings, inference, alpha))
    if job.inputs.get("encoding"):
        scores, inference = (read_table(job.input(name), _LABELS) for name in ("encoding_scores", "encoding"))
        tables.append(encoding_verdicts(scores, inference, alpha))
    if job.inputs.get("fusion"):
        tables.append(fusion_verdicts(read_table(job.input("fusion"), _LABELS), alpha))
    if not tables:
        # A study may stop at preprocessing or at its networks: it then claims nothing.
        tables.append(pd.DataFrame(columns=list(COLUMNS["verdicts"])))
    full = [table for table in tables if len(table)]
    write_table(job.outputs["verdicts"], pd.concat(full, ignore_index=True) if full else tables[0], "verdicts")
