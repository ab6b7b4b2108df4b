"""Voxels in a mask: resampled and smoothed where the study says so, read in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.filtering import keep_columns
from decoders.signal.preflight import judge_features
from decoders.signal.series import Series, no_series
from decoders.signal.steps import Steps
from decoders.signal.streaming import Image4D, Masked, Volume, read_masked, read_transformed


@dataclass(frozen=True)
class VolumeOptions:
    """How voxels are read (see PreprocessSettings)."""

    drop: int = 0
    resample_mm: float | None = None
    smoothing_mm: float | None = None
    max_bad_share: float = 0.05


def read_volume(image: Image4D, mask: NDArray[np.bool_], options: VolumeOptions, steps: Steps) -> Series:
    """Read the voxels of a mask.

    Parameters
    ----------
    image : Image4D
    mask : array of shape (x, y, z), bool
        On the grid of the image.
    options : VolumeOptions
    steps : Steps
        What is done is noted here.

    Returns
    -------
    series : Series
        Of kind "volume"; its mask holds the voxels that are left, on the grid after resampling.

    Raises
    ------
    InputError
        Too many bad voxels, or a damaged file.
    """
    masked, mask, affine = _read(image, mask, options, steps)
    what = "voxels in the mask"
    verdict = judge_features(masked.nonfinite, masked.constant, options.max_bad_share, what, image.path)
    n_bad = verdict.n_nonfinite + verdict.n_constant
    if verdict.excluded:
        return no_series("volume", image.n_volumes, verdict.keep.size, verdict.excluded)
    if verdict.warning:
        steps.warn(verdict.warning)
    left = mask.copy()
    left[mask] = verdict.keep
    data = keep_columns(masked.data, verdict.keep)
    return Series(data, "volume", image.n_volumes, mask=left, affine=affine, n_bad=n_bad, n_features=verdict.keep.size)


def _read(
    image: Image4D, mask: NDArray[np.bool_], options: VolumeOptions, steps: Steps
) -> tuple[Masked, NDArray[np.bool_], NDArray[np.float64]]:
    if options.resample_mm is None and options.smoothing_mm is None:
        return read_masked(image, mask, options.drop), mask, image.affine
    affine, shape = image.affine, image.shape
    transforms: list[Callable[[Volume], Volume]] = []
    carry: Callable[[NDArray[np.bool_]], NDArray[np.bool_]] = np.asarray
    if options.resample_mm is not None:
        affine, shape = target_grid(image, options.resample_mm)
        transforms.append(_resampler(image.affine, affine, shape, "continuous"))
        nearest = _resampler(image.affine, affine, shape, "nearest")

        def carry(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return nearest(flags.astype(np.float32)) > 0.5

        mask = carry(mask)
        if not mask.any():
            remedy = "Choose a smaller preprocess.resample_mm, or a larger mask."
            raise InputError("voxels in the mask after resampling", "none", image.path, remedy)
        why = "set in preprocess.resample_mm; cubic splines for the image, nearest voxel for the mask"
        steps.add("resample", why, mm=options.resample_mm, shape=list(shape))
    if options.smoothing_mm is not None:
        transforms.append(_smoother(affine, options.smoothing_mm))
        why = "set in preprocess.smoothing_fwhm_mm; Gaussian on each volume, before the mask is applied"
        steps.add("smooth", why, fwhm_mm=options.smoothing_mm)

    def transform(volume: Volume) -> Volume:
        for step in transforms:
            volume = step(volume)
        return volume

    return read_transformed(image, mask, transform, carry, options.drop), mask, affine


def target_grid(image: Image4D, mm: float) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return affine and shape of an isotropic grid over the field of view, axes along right, anterior, superior."""
    import nibabel as nib
    from nilearn.image import resample_img

    empty = nib.Nifti1Image(np.zeros(image.shape, dtype=np.float32), image.affine)
    there = resample_img(empty, target_affine=np.eye(3) * mm, interpolation="nearest", copy_header=True)
    shape = (int(there.shape[0]), int(there.shape[1]), int(there.shape[2]))
    return np.asarray(there.affine, dtype=np.float64), shape


def _resampler(
    source: NDArray[np.float64], affine: NDArray[np.float64], shape: tuple[int, int, int], interpolation: str
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    import nibabel as nib
    from nilearn.image import resample_img

    def resample(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        # Clipping to the range of each volume would bend the time course of the brightest voxels.
        options = {"interpolation": interpolation, "clip": False, "copy_header": True, "force_resample": True}
        there = resample_img(nib.Nifti1Image(volume, source), affine, shape, **options)
        return np.asarray(there.dataobj, dtype=np.float32)

    return resample


def _smoother(affine: NDArray[np.float64], fwhm_mm: float) -> Callable[[Volume], Volume]:
    import nibabel as nib
    from nilearn.image import smooth_img

    def smooth(volume: Volume) -> Volume:
        there = smooth_img(nib.Nifti1Image(volume, affine), fwhm_mm)
        return np.asarray(there.dataobj, dtype=np.float32)

    return smooth
