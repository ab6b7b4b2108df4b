"""How MEG, fMRI and models relate, and the variance that all three share (commonality analysis).

All quantities follow from correlations (or cosines) of RDMs, so that a resample or a relabelling costs one matrix
product, and no regression is solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NOTHING_LEFT = 1e-10


@dataclass(frozen=True)
class Relations:
    """Correlations between MEG, fMRI and models.

    Attributes
    ----------
    fusion : list of array of shape (n_people, n_times)
        MEG with fMRI, per region.
    sensors : array of shape (n_subjects, n_times, n_models)
        MEG with models.
    regions : list of array of shape (n_people, n_models)
        fMRI with models, per region.
    left : array of shape (n_subjects, n_times)
        Share of the MEG RDM's variance that is looked at: 1, or what the controls leave of it.
    """

    fusion: list[NDArray[np.float64]]
    sensors: NDArray[np.float64]
    regions: list[NDArray[np.float64]]
    left: NDArray[np.float64]


def commonality(
    fusion: NDArray[np.float64], sensors: NDArray[np.float64], regions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of the MEG RDM's variance that fMRI and model explain in common.

    Parameters
    ----------
    fusion, sensors, regions : array
        Correlations of MEG with fMRI, of MEG with the model, and of fMRI with the model; shapes broadcast.

    Returns
    -------
    array
        C = R2(MEG by fMRI) - R2(MEG by what the model leaves of fMRI) (Hebart et al. 2018, eLife 7:e32816; Flounders et
        al. 2019), which is R2(fMRI) + R2(model) - R2(both): no larger than R2 of fMRI nor than R2 of the model.
        Below 0 where both explain more in company than alone (suppression).
    """
    alone = 1 - regions**2
    beyond = (fusion - sensors * regions) ** 2
    beyond = np.divide(beyond, alone, out=np.zeros(np.broadcast(beyond, alone).shape), where=alone > _NOTHING_LEFT)
    return np.asarray(fusion**2 - beyond)


def region_commonality(found: Relations, number: int, people: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the commonality in one region, array of shape (n_people, n_times, n_models)."""
    shared = commonality(found.fusion[number][:, :, None], found.sensors[people], found.regions[number][:, None, :])
    return shared * found.left[people][:, :, None]


def relate(
    sensor: NDArray[np.float64],
    regions: Sequence[NDArray[np.float64]],
    people: Sequence[NDArray[np.int64]],
    models: NDArray[np.float64],
) -> Relations:
    """Relate prepared RDMs.

    Parameters
    ----------
    sensor : array of shape (n_subjects, n_times, n_pairs)
        Of norm 1, so that inner products are correlations (`partial.unit_rows`).
    regions : sequence of array of shape (n_people, n_pairs)
    people : sequence of array of int of shape (n_people,)
        Rows of `sensor` that the rows of each region belong to.
    models : array of shape (n_models, n_pairs)
    """
    fusion = [
        (sensor[who] @ rdms[:, :, None])[:, :, 0] for rdms, who in zip(regions, people, strict=True)
    ]  # fmt: skip
    with_models = sensor @ models.T
    return Relations(fusion, with_models, [rdms @ models.T for rdms in regions], np.ones(sensor.shape[:2]))


def relate_beyond(
    found: Relations,
    sensor: NDArray[np.float64],
    regions: Sequence[NDArray[np.float64]],
    people: Sequence[NDArray[np.int64]],
    models: NDArray[np.float64],
    basis: NDArray[np.float64],
) -> Relations:
    """Return the relations of what the controls leave of MEG, fMRI and models.

    Parameters
    ----------
    found : Relations
        Of the same RDMs as they are.
    sensor, regions, people, models
        As for `relate`.
    basis : array of shape (n_dimensions, n_pairs)
        Orthonormal rows that span the controls (`partial.basis_of`).

    Returns
    -------
    Relations
        Partial correlations, not a number where the controls leave nothing; `left` in place of 1, so that
        commonalities are shares of the whole variance.
    """
    in_sensor, in_models = sensor @ basis.T, models @ basis.T
    in_regions = [rdms @ basis.T for rdms in regions]
    left_sensor, left_models = 1 - (in_sensor**2).sum(axis=2), 1 - (in_models**2).sum(axis=1)
    left_regions = [1 - (values**2).sum(axis=1) for values in in_regions]
    fusion = [
        _partial(whole - (in_sensor[who] @ inside[:, :, None])[:, :, 0], left_sensor[who], left[:, None])
        for whole, inside, left, who in zip(found.fusion, in_regions, left_regions, people, strict=True)
    ]
    sensors = _partial(found.sensors - in_sensor @ in_models.T, left_sensor[:, :, None], left_models)
    with_models = [
        _partial(whole - inside @ in_models.T, left[:, None], left_models)
        for whole, inside, left in zip(found.regions, in_regions, left_regions, strict=True)
    ]
    return Relations(fusion, sensors, with_models, np.maximum(left_sensor, 0))


def _partial(
    product: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    first, second = np.broadcast_arrays(first, second)
    usable = (first > _NOTHING_LEFT) & (second > _NOTHING_LEFT)
    norms = np.sqrt(np.maximum(first, 0) * np.maximum(second, 0))
    return np.divide(product, norms, out=np.full(product.shape, np.nan), where=usable)
