"""Haxby et al. (2001), subject 1, as PyMVPA ships it: one slice, or the whole brain at 25 mm.

The labels are shifted already: an event begins when its response does. Convolving them with a
haemodynamic response, or adding a lag, would shift them twice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.data.adapters.common import choose_variant
from decoders.data.images import image_header
from decoders.data.manifest import Run, relative_root
from decoders.errors import InputError

VARIANTS = ("1slice", "25mm")
N_RUNS = 12
REST = "rest"
_BOLD = "haxby2001/sub001/BOLD/task001_run{run:03d}"
_MASKS = {"1slice": "mask.nii.gz", "25mm": "haxby2001/sub001/masks/25mm/brain.nii.gz"}


def read_runs(folder: Path, variant: str | None = None) -> list[Run]:
    """Return the twelve runs.

    Parameters
    ----------
    folder : Path
        The data set, as `fetch` returns it.
    variant : {"1slice", "25mm"}, optional
        One ventral slice with 530 voxels in its mask (the default), or the whole brain at 25 mm.

    Raises
    ------
    InputError
        An image cannot be read, or the events contradict the published label of a volume.
    """
    variant = choose_variant(variant, VARIANTS, folder)
    tr = repetition_time(folder / "haxby2001" / "scan_key.txt")
    runs = [_run(folder, variant, number, tr) for number in range(1, N_RUNS + 1)]
    check_labels(folder, runs)
    return runs


def _run(folder: Path, variant: str, number: int, tr: float) -> Run:
    place = _BOLD.format(run=number)
    image = f"{place}/bold_{variant}.nii.gz"
    header = image_header([folder / image])
    return Run(
        run_id=f"sub-001_task-objectviewing_run-{number:02d}",
        subject="001",
        task="objectviewing",
        run=f"{number:02d}",
        modality="bold",
        root=relative_root(folder),
        image=image,
        mask=_MASKS[variant],
        events=f"{place}/bold_events.tsv",
        confounds=f"{place}/bold_moest.txt",
        tr=tr,
        n_volumes=header.n_volumes,
        start_time=0.0,
        sha256=header.sha256,
    )


def repetition_time(path: Path) -> float:
    """Read the repetition time in seconds from the scan key of the OpenfMRI layout (``TR 2.5``)."""
    try:
        key, value = path.read_text(encoding="utf-8").split()
        if key != "TR":
            raise ValueError(f"{key} in place of TR")
        return float(value)
    except (OSError, ValueError) as error:
        raise InputError("a line 'TR <seconds>'", f"'{error}'", path, "Fetch the data set again.") from error


def check_labels(folder: Path, runs: list[Run]) -> None:
    """Compare the events with the published label of every volume.

    Raises
    ------
    InputError
        They differ.
    """
    path = folder / "attributes_literal.txt"
    table = pd.read_csv(path, sep=" ", names=["label", "run"], dtype={"label": str, "run": int})
    for number, run in enumerate(runs):
        stated = table.loc[table["run"] == number, "label"].to_numpy(dtype=object)
        found = volume_labels(folder / run.events, int(run.n_volumes), run.tr)
        if len(stated) != len(found) or (stated != found).any():
            different = int((stated != found).sum()) if len(stated) == len(found) else len(found)
            remedy = "Fetch the data set again."
            raise InputError(f"events as in {path.name}", f"{different} other volumes", folder / run.events, remedy)


def volume_labels(events: Path, n_volumes: int, tr: float) -> NDArray[np.object_]:
    """Return the condition whose event covers the start of each volume, "rest" for none."""
    table = pd.read_csv(events, sep="\t")
    start = np.arange(n_volumes) * tr
    labels = np.full(n_volumes, REST, dtype=object)
    for onset, duration, name in zip(table["onset"], table["duration"], table["trial_type"], strict=True):
        labels[(start >= onset) & (start < onset + duration)] = name
    return labels
