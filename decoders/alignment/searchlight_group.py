"""Group maps of a searchlight: sign flips of the subjects' maps, corrected for the maximum over voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Five subjects have 32 sign patterns: below, no map could reach .05.
MIN_SUBJECTS = 5
Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class GroupMap:
    """The test of one model in every voxel.

    Attributes
    ----------
    mean : array of shape (n_voxels,)
        Score, mean over subjects.
    statistic : array of shape (n_voxels,)
        t, or its threshold-free cluster enhancement.
    p : array of shape (n_voxels,)
        One-sided (greater), corrected for the maximum over voxels.
    """

    mean: NDArray[np.float64]
    statistic: NDArray[np.float64]
    p: NDArray[np.float64]

    def cut(self, alpha: float) -> float:
        """Return the value of the statistic above which exactly the voxels with p <= alpha lie."""
        below = self.statistic[self.p > alpha]
        return float(below.max() if len(below) else np.nextafter(self.statistic.min(), -np.inf))


def no_test(comparator: str, method: str, n_subjects: int) -> str:
    """Return why there is no group test; empty where there is one."""
    if n_subjects < MIN_SUBJECTS:
        count = f"{n_subjects} subject" + ("" if n_subjects == 1 else "s")
        return f"{count}: no group test below {MIN_SUBJECTS}"
    if comparator == "cosine" and method != "crossnobis":
        # Distances that are never negative have a positive cosine with any model: zero is not chance.
        return "the cosine of distances that are not cross-validated is above zero by chance: no group test"
    return ""


def group_map(
    scores: NDArray[np.float64],
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    statistic: Literal["max", "tfce"],
    n_permutations: int,
    seed: int,
) -> GroupMap:
    """Test whether the mean over subjects is above zero, by nilearn.

    Parameters
    ----------
    scores : array of shape (n_subjects, n_voxels)
        Finite.
    mask : array of shape (x, y, z), bool
        Where the voxels lie, in C order.
    affine : array of shape (4, 4)
    statistic : {"max", "tfce"}
        Largest t, or threshold-free cluster enhancement (Smith & Nichols 2009).
    n_permutations : int
        Random sign flips of whole maps: valid where a subject's score is symmetric around zero under the null.
    seed : int
    """
    from nilearn.mass_univariate import permuted_ols

    found = permuted_ols(
        np.ones((len(scores), 1)), scores, model_intercept=False, two_sided_test=False, n_perm=n_permutations,
        random_state=seed, n_jobs=1, masker=_masker(mask, affine) if statistic == "tfce" else None,
        tfce=statistic == "tfce", output_type="dict",
    )  # fmt: skip
    value, p = ("tfce", "logp_max_tfce") if statistic == "tfce" else ("t", "logp_max_t")
    return GroupMap(
        scores.mean(axis=0), np.asarray(found[value][0], dtype=np.float64), 10.0 ** -np.asarray(found[p][0])
    )


def _masker(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> object:
    import nibabel
    from nilearn.maskers import NiftiMasker

    return NiftiMasker(nibabel.Nifti1Image(mask.astype(np.uint8), affine), standardize=None).fit()


def surviving(found: GroupMap, mask: NDArray[np.bool_], alpha: float) -> list[NDArray[np.int64]]:
    """Return the connected regions of surviving voxels (sharing a face), the largest first; the peak leads each.

    Returns
    -------
    list of array of shape (n_voxels_of_the_region,)
        Numbers of voxels in the mask.
    """
    from scipy.ndimage import label

    volume = np.zeros(mask.shape, dtype=bool)
    volume[mask] = found.p <= alpha
    labels, n = label(volume)
    inside = labels[mask]
    regions = [np.flatnonzero(inside == number) for number in range(1, n + 1)]
    regions = [voxels[np.argsort(-found.statistic[voxels], kind="stable")] for voxels in regions]
    return sorted(regions, key=len, reverse=True)


def place_of(voxel: int, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return where a voxel of the mask lies, in mm."""
    x, y, z = (affine @ [*np.argwhere(mask)[voxel], 1])[:3]
    return float(x), float(y), float(z)


def region_of(voxel: int, mask: NDArray[np.bool_], regions: list[Masks]) -> str:
    """Return the first region that holds a voxel in half of the subjects or more; empty for none.

    Parameters
    ----------
    voxel : int
        In `mask`.
    mask : array of shape (x, y, z), bool
    regions : list of mapping of str to array of shape (x, y, z)
        Per subject.
    """
    place = tuple(np.argwhere(mask)[voxel])
    for name in regions[0] if regions else ():
        if 2 * sum(bool(masks[name][place]) for masks in regions) >= len(regions):
            return name
    return ""
