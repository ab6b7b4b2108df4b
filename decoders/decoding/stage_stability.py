"""The stage ``stability``: does the map hang on beta, and do halves of the runs agree on it."""

from __future__ import annotations

import pandas as pd

from decoders.config import VoxelMapSettings
from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding.listening import listen, planted_voxels
from decoders.decoding.rate import halves_agreement, rate_distortion
from decoders.stage import Job
from decoders.store.tables import COLUMNS, write_table


def run(job: Job) -> None:
    """Write the rate-distortion curve and the agreement of halves of one subject."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject = job.labels["subject"]
    listening, recordings = listen(job)
    settings = listening.fitting(settings)
    planted = planted_voxels(
        select_runs(read_manifest(job.input("manifest")), subject=subject), recordings, listening.mask
    )
    training, seed = listening.training, job.torch_seed("gate", subject)
    given = (training.x, training.targets, training.mask, settings, training.tr, seed)
    rate, halves = (pd.DataFrame(columns=list(COLUMNS[kind][1:])) for kind in ("rate", "halves"))
    if settings.betas:
        rate = rate_distortion(*given, planted)
    if settings.halves:
        n, least = len(training.x), 2 * settings.folds
        if n < least:
            job.log.warning(
                "sub-%s: %d training runs, but halves need %d (twice decoding.voxels.folds)", subject, n, least
            )
        else:
            halves = halves_agreement(*given, job.rng("halves", subject))
    for name, table in (("rate", rate), ("halves", halves)):
        table.insert(0, "subject", subject)
        write_table(job.outputs[name], table, name)
