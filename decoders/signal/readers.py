"""Chooses the reader of a run by its modality and by the representation that the study wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.config import PreprocessSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal.masking import NoBrainError, compute_mask, grid_of, read_mask
from decoders.signal.preflight import check_enough, check_n_volumes, same_grid
from decoders.signal.regions import atlas_masks, label_masks, read_region_table, read_regions, roi_masks
from decoders.signal.series import Series, no_series
from decoders.signal.steps import Steps
from decoders.signal.streaming import Image4D, open_image
from decoders.signal.surface import read_surface
from decoders.signal.volumes import VolumeOptions, read_volume

_REPRESENTATIONS = {"bold": ("volume", "region"), "region": ("region",), "surface": ("surface",)}


def read_series(run: Run, runs: Sequence[Run], settings: PreprocessSettings, steps: Steps) -> tuple[Series, float]:
    """Read a run as the study wants it.

    Returns
    -------
    series : Series
    tr : float
        What the file says, in seconds; nan where it is silent.

    Raises
    ------
    InputError
        The run has no such representation, or its file is not what it should be.
    """
    paths = run.paths("image")
    if not paths:
        raise InputError("a file of the run", "none", f"run {run.run_id} of the manifest", "Correct the data set.")
    _check_representation(run, settings)
    if run.modality == "surface":
        series, tr = read_surface(paths, settings.max_bad_share, steps, settings.drop_volumes)
        steps.add("read", "vertices of the surface", files=[path.name for path in paths])
        return series, tr
    if run.modality == "region":
        series = read_region_table(paths[0], run.region, steps, settings.drop_volumes)
        steps.add("read", "region time courses that others have extracted", files=[paths[0].name])
        return series, float("nan")
    return _read_bold(run, runs, settings, steps)


def _check_representation(run: Run, settings: PreprocessSettings) -> None:
    where = run.path("image") or run.image
    possible = _REPRESENTATIONS.get(run.modality, ())
    if settings.representation not in possible:
        wanted = " or ".join(possible) or "none (this modality is not preprocessed as fMRI)"
        remedy = f"Set preprocess.representation: {possible[0]}." if possible else "Leave the run out."
        found = f"'{settings.representation}'"
        raise InputError(f"preprocess.representation {wanted} for {run.modality} data", found, where, remedy)
    moved = [key for key in ("smoothing_fwhm_mm", "resample_mm") if getattr(settings, key) is not None]
    if settings.representation != "volume" and moved:
        remedy = "Remove it: regions are means already, and surfaces are smoothed along the cortex elsewhere."
        found = f"preprocess.{moved[0]}"
        raise InputError("no smoothing or resampling of regions and surfaces", found, where, remedy)


def _read_bold(run: Run, runs: Sequence[Run], settings: PreprocessSettings, steps: Steps) -> tuple[Series, float]:
    image = open_image(run.paths("image")[0])
    check_n_volumes(run, image.n_volumes)
    check_enough(image.n_volumes, settings.drop_volumes, image.path)
    _note_space(run, steps)
    if settings.representation == "region":
        regions = _regions(run, image, settings, steps)
        steps.add("read", "means over the voxels of each region", files=[image.path.name], regions=list(regions))
        return read_regions(image, regions, settings.max_bad_share, steps, settings.drop_volumes), image.tr
    mask = _mask(run, runs, image, settings, steps)
    if mask is None:
        reason = "no brain can be told from air in the images of this subject (constant, or without contrast)"
        return no_series("volume", image.n_volumes, int(np.prod(image.shape)), reason), image.tr
    options = VolumeOptions(
        settings.drop_volumes, settings.resample_mm, settings.smoothing_fwhm_mm, settings.max_bad_share
    )
    steps.add("read", "voxels of the mask, in one pass", files=[image.path.name], n_voxels=int(mask.sum()))
    return read_volume(image, mask, options, steps), image.tr


def _note_space(run: Run, steps: Steps) -> None:
    if run.space:
        steps.add("space", "as the derivatives say", space=run.space)
        return
    why = (
        "raw data stay in native space, without motion correction and normalisation: group maps and tables of MNI"
        " coordinates need fMRIPrep-style derivatives (data.derivatives)"
    )
    steps.add("space", why, space="native")


def _of_subject(path: str, run: Run) -> str:
    return path.replace("{subject}", run.subject)


def _regions(run: Run, image: Image4D, settings: PreprocessSettings, steps: Steps) -> dict[str, NDArray[np.bool_]]:
    grid, rois = grid_of(image), {name: _of_subject(path, run) for name, path in settings.rois.items()}
    regions = roi_masks(rois, grid)
    if settings.atlas is not None:
        is_file = settings.atlas.endswith((".nii", ".nii.gz"))
        atlas = _of_subject(settings.atlas, run)
        labelled = label_masks(atlas, grid) if is_file else atlas_masks(atlas, grid, run.space, steps)
        regions |= labelled
    if not regions:
        remedy = "Name masks in preprocess.rois, or an atlas in preprocess.atlas."
        raise InputError("regions for preprocess.representation: region", "none", image.path, remedy)
    return regions


def _mask(
    run: Run, runs: Sequence[Run], image: Image4D, settings: PreprocessSettings, steps: Steps
) -> NDArray[np.bool_] | None:
    """Return the brain mask; None where none can be computed, because the subject's images hold no brain."""
    given = Path(_of_subject(settings.mask, run)) if settings.mask else run.path("mask")
    if given is not None:
        why = "set in preprocess.mask" if settings.mask else "of the data set"
        steps.add("mask", why, file=given.name)
        return read_mask(given, grid_of(image))
    for candidate in _of_same_grid(run, runs, image):
        try:
            mask = compute_mask(candidate, settings.drop_volumes)
        except NoBrainError:
            continue
        why = "none was given: computed by nilearn (compute_epi_mask) from the mean of the subject's first usable run"
        steps.add("mask", why, run=candidate.path.name)
        return mask
    return None


def _of_same_grid(run: Run, runs: Sequence[Run], image: Image4D) -> Iterator[Image4D]:
    """Yield the subject's runs on the grid of `image`, always in one order: all its runs get the same mask."""
    for other in sorted({*runs, run}, key=lambda candidate: candidate.run_id):
        if other.run_id == run.run_id:
            yield image
        elif other.subject == run.subject and other.modality == "bold" and other.status == "ok":
            candidate = open_image(other.paths("image")[0])
            if same_grid(grid_of(image), grid_of(candidate)):
                yield candidate
