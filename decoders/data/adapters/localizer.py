"""studyforrest visual localizer: one person, one run, six picture categories, two blocks each."""

from __future__ import annotations

from pathlib import Path

from decoders.data.adapters.common import choose_variant
from decoders.data.images import image_header
from decoders.data.manifest import Run, relative_root
from decoders.data.tree import read_json, repetition_time

_STEM = "sub-02_task-oneback_run-1"


def read_runs(folder: Path, variant: str | None = None) -> list[Run]:
    """Return the run, in the native space of the scanner.

    The sidecar is the corrected one: that of dcm2niix, ``…_bold_dcm2niix.json``, guesses a repetition
    time of 1.79 s, while DICOM and image header say 2.0 s.

    Parameters
    ----------
    folder : Path
        The data set, as `fetch` returns it.
    variant : str, optional
        There is none but "raw".
    """
    choose_variant(variant, ("raw",), folder)
    # The mirror holds dcm2niix's image, a download our own of the same DICOM files.
    packed, plain = f"{_STEM}_bold.nii.gz", f"{_STEM}_bold.nii"
    image = packed if (folder / packed).is_file() else plain
    sidecar = f"{_STEM}_bold.json"
    header = image_header([folder / image])
    return [
        Run(
            run_id=_STEM,
            subject="02",
            task="oneback",
            run="1",
            modality="bold",
            root=relative_root(folder),
            image=image,
            sidecar=sidecar,
            events=f"{_STEM}_events.tsv",
            tr=repetition_time(read_json(folder / sidecar), folder / sidecar),
            n_volumes=header.n_volumes,
            start_time=0.0,
            sha256=header.sha256,
        )
    ]
