"""Maps of responding voxels: encoding r, its combination with the gate, their recovery of a planted truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.encoding import correlate
from decoders.decoding.stored_runs import voxel_blocks
from decoders.models.ridge import Fold, fit_banded_ridge

ALPHAS = (10.0, 100.0, 1e3, 1e4)
Runs = Sequence[NDArray[np.floating]]


def encoding_map(
    x: Sequence[NDArray[np.float32]], features: Runs, bands: Sequence[int], n_folds: int, seed: int
) -> NDArray[np.float32]:
    """Return the held-out correlation of every voxel with its banded-ridge prediction from the text.

    Parameters
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        One per run; they are read a block of voxels at a time.
    features : sequence of array of shape (n_volumes, n_features)
        Features of the text convolved with the haemodynamic response.
    bands : sequence of int
        Columns per band of features; each band has a penalty of its own.
    n_folds : int
        Folds over runs (interleaved); penalties are chosen on the runs of the other folds.
    seed : int
        Of the random search over band penalties.

    Returns
    -------
    array of shape (n_voxels,)
        Mean over held-out runs.
    """
    features = [run.astype(np.float32) for run in features]
    return np.concatenate([_encoding_r(block, features, bands, n_folds, seed) for _, block in voxel_blocks(x)])


def _encoding_r(x: Runs, features: Runs, bands: Sequence[int], n_folds: int, seed: int) -> NDArray[np.float32]:
    fold = np.arange(len(x)) % n_folds
    r = []
    for k in range(n_folds):
        seen = np.flatnonzero(fold != k).tolist()
        X, Y = np.concatenate([features[i] for i in seen]), np.concatenate([x[i] for i in seen])
        inner = run_folds([len(x[i]) for i in seen], fold[seen])
        model = fit_banded_ridge(X, Y, bands, ALPHAS, inner, seed)
        r += [correlate(model.predict(features[i]), x[i]) for i in np.flatnonzero(fold == k).tolist()]
    return np.mean(r, axis=0).astype(np.float32)


def run_folds(lengths: Sequence[int], fold: NDArray[np.int64]) -> list[Fold]:
    """Return (train, validation) rows of joined runs, holding out the runs of each fold in turn (by run with one)."""
    fold = fold if len(np.unique(fold)) > 1 else np.arange(len(fold))
    rows = np.repeat(fold, lengths)
    return [(np.flatnonzero(rows != k), np.flatnonzero(rows == k)) for k in np.unique(fold)]


def smooth_in_mask(values: NDArray[np.floating], mask: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Smooth a map by a Gaussian, normalised by the smoothed mask: nothing leaks in from outside.

    Parameters
    ----------
    values : array of shape (n_voxels,)
    mask : array of shape (x, y, z), bool
    sigma : float
        In voxels.

    Returns
    -------
    array of shape (n_voxels,)
    """
    from scipy.ndimage import gaussian_filter

    volume = np.zeros(mask.shape)
    volume[mask] = values
    weight = gaussian_filter(mask.astype(float), sigma, mode="constant")[mask]
    return (gaussian_filter(volume, sigma, mode="constant")[mask] / weight).astype(np.float32)


def combine(
    maps: Sequence[NDArray[np.floating]], scale: Sequence[NDArray[np.floating]] | None = None
) -> NDArray[np.float32]:
    """Return the mean of z-scored maps.

    Parameters
    ----------
    maps : sequence of array of shape (n_voxels,)
    scale : sequence of array of shape (n_voxels,), optional
        Maps whose mean and standard deviation are used (null maps are put on the scale of the real ones);
        `maps` themselves when absent.

    Returns
    -------
    array of shape (n_voxels,)
    """
    scored = [(m - s.mean()) / max(float(s.std()), 1e-12) for m, s in zip(maps, scale or maps, strict=True)]
    return np.mean(scored, axis=0).astype(np.float32)


def top_share(values: NDArray[np.floating], share: float) -> NDArray[np.int64]:
    """Return the indices of the highest values, sorted; at least one. Ties go to the lower index."""
    n = max(1, round(share * len(values)))
    return np.sort(np.argsort(-values, kind="stable")[:n])


def recovery(values: NDArray[np.floating], planted: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the ROC curve and the average precision of a map against planted voxels.

    Chance is .5, and the share of planted voxels.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    return float(roc_auc_score(planted, values)), float(average_precision_score(planted, values))


def above_cut(values: NDArray[np.floating], cut: float, planted: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the share of false voxels above a cut and the share of planted voxels found; nan where none is above."""
    above = values > cut
    false = float((above & ~planted).sum() / above.sum()) if above.any() else float("nan")
    return false, float((above & planted).sum() / planted.sum())


def read_planted(path: str | Path, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Read the planted voxels of a phantom: non-zero voxels of an image, those in the mask.

    Raises
    ------
    InputError
        The image has another grid than the recording.
    """
    import nibabel as nib

    from decoders.errors import InputError

    image = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
    if image.shape != mask.shape:
        raise InputError(f"the recording's grid {mask.shape}", f"{image.shape}", path, "Do not resample the phantom.")
    return np.asarray(image[mask] != 0)


def null_maximum(nulls: Mapping[str, Sequence[NDArray[np.floating]]]) -> dict[str, float]:
    """Return the largest value of the null maps, by the name of the map."""
    return {name: float(max(values.max() for values in maps)) for name, maps in nulls.items() if maps}
