"""The stage ``decoding-group``: scores of decoding within people, over the group of them."""

from __future__ import annotations

from decoders.decoding.group_scores import group_rows
from decoders.decoding.score_nulls import read_nulls
from decoders.decoding.stage_tables import LABELS, join_tables
from decoders.stage import Job
from decoders.store.tables import read_table, write_table


def run(job: Job) -> None:
    """Write the scores of the group: of every analysis of single people, for those of them whom it could score."""
    people = [(path, read_table(path, LABELS)) for path in job.inputs.get("scores", [])]
    table = group_rows(join_tables(people, "decoding_scores"), read_nulls(job.inputs.get("nulls", [])))
    write_table(job.outputs["scores"], table, "decoding_scores")
    for row in table[table["p"].notna()].to_dict("records"):
        job.log.info(
            "group of %d, %s, %s, %s: %.3f, p %.4f", *(row[k] for k in ("n", "task", "model", "metric", "score", "p"))
        )
    if not len(table):
        job.log.info("no analysis has scores of two people: there is no group")
