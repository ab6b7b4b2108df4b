"""Stage `windows`: the windows of the stories that alignment compares, and the RDMs of their controls."""

from __future__ import annotations

import numpy as np

from decoders.stage import Job
from decoders.stimuli.controls import write_controls
from decoders.stimuli.story_windows import story_windows, window_controls
from decoders.store.arrays import Array
from decoders.store.tables import read_table, write_table


def run(job: Job) -> None:
    """Write windows.tsv and control_rdms.h5."""
    words = read_table(job.input("words"), ("stimulus", "word", "text"))
    settings = job.settings.alignment.windows
    windows = story_windows(words, settings.seconds, settings.gap_s)
    write_table(job.outputs["windows"], windows)
    names = Array(np.array(windows["name"].tolist(), dtype=object), ("window",))
    write_controls(job.outputs["controls"], names, window_controls(windows, words, settings.controls))
    job.log.info("%d windows in %d stories", len(windows), windows["stimulus"].nunique())
