"""From one person's voxels to another's: ridge to a reference, and rotation to a common template.

Both need stories that the people share: rows of the matrices are the same moments of the same stories.
Hyperalignment is Haxby et al. 2011 (doi:10.1016/j.neuron.2011.08.026), here of principal components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.maps import run_folds
from decoders.models.ridge import Ridge, fit_ridge

Floats = NDArray[np.floating]
PASSES = 3  # over all people; the template hardly changes after the second
FOLDS = 4
REFERENCE_ALPHAS = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)


@dataclass(frozen=True)
class Template:
    """The common space of several people.

    Attributes
    ----------
    course : array of shape (n_rows, n_components)
        Mean of the aligned people.
    maps : list of array of shape (n_voxels, n_components)
        From the voxels of each person into the space.
    """

    course: Floats
    maps: list[Floats]


def pieces(runs: Sequence[Floats], least: int) -> list[Floats]:
    """Return runs, cut into contiguous parts of equal length where there are fewer than `least`."""
    if len(runs) >= least:
        return list(runs)
    per_run = -(-least // len(runs))
    return [part for run in runs for part in np.array_split(run, per_run)]


def principal_axes(x: Floats, n: int) -> Floats:
    """Return the first principal axes of rows as they are (z-scored per run), of shape (n_voxels, at most n)."""
    axes = np.linalg.svd(x, full_matrices=False)[2]
    return axes[:n].T


def rotation_to(source: Floats, target: Floats) -> Floats:
    """Return the orthogonal R of least ``||source R - target||`` (Schönemann 1966, Psychometrika 31:1).

    Parameters
    ----------
    source, target : array of shape (n_rows, n_components)
        A narrower source is filled up with zeros.

    Returns
    -------
    array of shape (n_components of the source, n_components of the target)
    """
    from scipy.linalg import orthogonal_procrustes

    missing = target.shape[1] - source.shape[1]
    filled = np.pad(source, ((0, 0), (0, max(missing, 0))))
    return np.asarray(orthogonal_procrustes(filled, target)[0][: source.shape[1]])


def common_template(people: Sequence[Floats], n_components: int) -> Template:
    """Rotate the principal components of several people into a common space.

    Parameters
    ----------
    people : sequence of array of shape (n_rows, n_voxels)
        The same moments of the same stories.
    n_components : int
        At most; the person with the fewest voxels or rows sets the limit.

    Returns
    -------
    Template
    """
    n = min(n_components, *(min(x.shape) for x in people))
    axes = [principal_axes(x, n) for x in people]
    scores = [x @ own for x, own in zip(people, axes, strict=True)]
    course = scores[0]
    for _ in range(PASSES):
        rotations = [rotation_to(own, course) for own in scores]
        course = np.mean([own @ turn for own, turn in zip(scores, rotations, strict=True)], axis=0)
    return Template(course, [own @ turn for own, turn in zip(axes, rotations, strict=True)])


def map_to_template(x: Floats, course: Floats) -> Floats:
    """Return the map of a new person into a common space.

    Parameters
    ----------
    x : array of shape (n_rows, n_voxels)
    course : array of shape (n_rows, n_components)
        Of the template, at the same moments.

    Returns
    -------
    array of shape (n_voxels, n_components)
    """
    axes = principal_axes(x, course.shape[1])
    return axes @ rotation_to(x @ axes, course)


def ridge_between(x: Sequence[Floats], reference: Sequence[Floats]) -> Ridge:
    """Fit the reference person's voxels from a new person's, the penalty of each chosen by inner folds.

    Parameters
    ----------
    x, reference : sequence of array of shape (n_volumes, n_voxels)
        Runs of the same stories. A single run is cut into blocks for the inner folds.
    """
    own, other = pieces(x, FOLDS), pieces(reference, FOLDS)
    folds = run_folds([len(part) for part in own], np.arange(len(own)) % FOLDS)
    return fit_ridge(np.concatenate(own), np.concatenate(other), REFERENCE_ALPHAS, folds)
