"""Stage `pictures`: the pictures, their labels and the control RDMs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from decoders.data.manifest import Run, read_manifest
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stimuli.controls import ControlRDM, control_rdms, write_controls
from decoders.stimuli.images import Pictures, find_pictures
from decoders.store.arrays import Array, write_arrays
from decoders.store.tables import write_table


def picture_root(runs: Sequence[Run], root: str | None) -> Path:
    """Return the folder whose pictures were shown.

    Parameters
    ----------
    runs : sequence of Run
        Their roots are searched after `root`: derivatives hold no pictures, the raw data set does.
    root : str or None
        The BIDS folder of the study.

    Raises
    ------
    InputError
        No folder has pictures.
    """
    folders = [Path(root)] if root else []
    folders += [Path(name) for name in dict.fromkeys(run.root for run in runs)]
    for folder in folders:
        if any((folder / name).is_dir() for name in ("stimuli", "images")):
            return folder
    raise InputError(
        "a folder 'stimuli' (or 'images') with the pictures that were shown",
        "none",
        ", ".join(map(str, folders)) or "the manifest",
        "Add the pictures to the data set, or take the controls and the learning block out of the study.",
    )


def run(job: Job) -> None:
    """Write pictures.h5, pictures.tsv and control_rdms.h5."""
    pictures = find_pictures(picture_root(read_manifest(job.input("manifest")), job.settings.data.root))
    names = Array(np.array(pictures.names, dtype=object), ("picture",))
    axes = ("picture", "row", "column", "channel")
    write_arrays(job.outputs["pictures"], {"pictures": Array(pictures.values, axes), "names": names})
    write_table(job.outputs["labels"], pictures.labels)
    write_controls(job.outputs["controls"], names, _controls(job, pictures))


def _controls(job: Job, pictures: Pictures) -> list[ControlRDM]:
    controls = control_rdms(pictures, job.settings.alignment.controls or ())
    for control in controls:
        if control.refused:
            job.log.warning("The control '%s' is left out: %s.", control.name, control.refused)
    return controls
