"""What chance gives: relabelled stimuli, and p-values of a share that needs three relations.

A commonality is above zero only where MEG, fMRI and model are *all* related to each other. Relabelling one of the three
breaks two relations at once: its null is far narrower than what chance gives where a model is related to MEG alone, or
to fMRI alone, and a test by it alone calls such models significant about every second time (the tests hold a
simulation). So the p of a commonality is the largest of four: of the commonality itself, of model with MEG, of model
with fMRI, and of fMRI with MEG (intersection-union; Berger 1982, Technometrics 24:295).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import squareform

from decoders.alignment.fusion.prepared import Prepared
from decoders.alignment.fusion.shared import commonality
from decoders.stats.correction import fdr, max_statistic
from decoders.stats.permutation import permutation_p


@dataclass(frozen=True)
class Statistics:
    """Means over people (and seeds), as observed or (with a first axis of permutations) relabelled.

    Attributes
    ----------
    fusion : array of shape (…, n_regions, n_times)
    sensors : array of shape (…, n_times, n_models)
    regions : array of shape (…, n_regions, n_models)
    shared : array of shape (…, n_regions, n_times, n_models)
    """

    fusion: NDArray[np.float64]
    sensors: NDArray[np.float64]
    regions: NDArray[np.float64]
    shared: NDArray[Any]


def observed_statistics(prepared: Prepared, averaging: NDArray[np.float64]) -> Statistics:
    """Return the means as they are."""
    found = prepared.relations()
    shared = np.array([prepared.shared(found, r).mean(axis=0) for r in range(len(prepared.regions))])
    return Statistics(
        np.array([values.mean(axis=0) for values in found.fusion]),
        found.sensors.mean(axis=0) @ averaging.T,
        np.array([values.mean(axis=0) for values in found.regions]) @ averaging.T,
        shared @ averaging.T,
    )


def relabelled_statistics(
    prepared: Prepared, averaging: NDArray[np.float64], orders: NDArray[np.int64]
) -> Statistics:  # fmt: skip
    """Return the same with the stimuli of fMRI (for `fusion`) or of the models (for all others) relabelled.

    Parameters
    ----------
    prepared : Prepared
    averaging : array of shape (n_models, n_rows)
    orders : array of shape (n_permutations, n_stimuli)

    Returns
    -------
    Statistics
        `shared` in single precision: it is by far the largest.
    """
    n_regions, n_times, n_models = len(prepared.regions), prepared.sensor.shape[1], len(averaging)
    observed = prepared.relations()
    null = Statistics(
        np.empty((len(orders), n_regions, n_times)),
        np.empty((len(orders), n_times, n_models)),
        np.empty((len(orders), n_regions, n_models)),
        np.empty((len(orders), n_regions, n_times, n_models), dtype=np.float32),
    )
    place = squareform(np.arange(prepared.sensor.shape[2]))
    rows, columns = np.triu_indices(orders.shape[1], 1)
    for number, order in enumerate(orders):
        moved = place[order[rows], order[columns]]
        fusion, sensors, regions = _relabelled(prepared, moved)
        null.fusion[number] = fusion
        null.sensors[number] = sensors.mean(axis=0) @ averaging.T
        for r, (plain, with_models) in enumerate(zip(observed.fusion, regions, strict=True)):
            null.regions[number, r] = with_models.mean(axis=0) @ averaging.T
            shared = commonality(plain[:, :, None], sensors[prepared.people[r]], with_models[:, None, :])
            null.shared[number, r] = shared.mean(axis=0) @ averaging.T
    return null


def _relabelled(
    prepared: Prepared, moved: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[NDArray[np.float64]]]:
    """Return mean fusion (n_regions, n_times), and models with MEG and with fMRI, per person."""
    models = np.ascontiguousarray(prepared.models[:, moved])
    n_rows, (n_subjects, n_times, _) = len(models), prepared.sensor.shape
    fusion = np.zeros((len(prepared.regions), n_times))
    sensors = np.empty((n_subjects, n_times, n_rows))
    for person in range(n_subjects):
        # Models and fMRI in one product: each pass over the MEG of a person costs, whatever it meets.
        here = [(r, int(np.flatnonzero(who == person)[0])) for r, who in enumerate(prepared.people) if person in who]
        stacked = np.concatenate([models, *(prepared.regions[r][row, moved][None] for r, row in here)])
        product = prepared.sensor[person] @ stacked.T
        sensors[person] = product[:, :n_rows]
        for column, (r, _) in enumerate(here):
            fusion[r] += product[:, n_rows + column] / len(prepared.people[r])
    return fusion, sensors, [rdms @ models.T for rdms in prepared.regions]


@dataclass(frozen=True)
class Tested:
    """p-values, one-sided (greater).

    Attributes
    ----------
    p, corrected : array
        Of the shape of what was tested; the correction is over all of it.
    """

    p: NDArray[np.float64]
    corrected: NDArray[np.float64]


def fusion_p(observed: Statistics, null: Statistics, correction: Literal["max", "fdr"]) -> Tested:
    """Test fusion in all regions and times as one family."""
    return _family(observed.fusion, null.fusion, correction)


def shared_p(observed: Statistics, null: Statistics, fusion: Tested, correction: Literal["max", "fdr"]) -> Tested:
    """Test the commonality of all models, in all regions and times, as one family.

    Parameters
    ----------
    observed, null : Statistics
    fusion : Tested
        Of the same regions and times: a share of a fusion that is not there is none.
    correction : {"max", "fdr"}

    Returns
    -------
    Tested
        Of shape (n_regions, n_times, n_models): the largest p of the four conditions. With "max" each condition is
        corrected over the family (model with MEG and model with fMRI as one), so that no model passes that lacks any.
    """
    own = _family(observed.shared, null.shared, correction)
    sensors, regions = _related(observed, null, correction)
    p = _largest(own.p, sensors.p, regions.p, fusion.p)
    if correction == "fdr":
        return Tested(p, fdr(p.ravel()).reshape(p.shape))
    return Tested(p, _largest(own.corrected, sensors.corrected, regions.corrected, fusion.corrected))


def _largest(
    shared: NDArray[np.float64], sensors: NDArray[np.float64], regions: NDArray[np.float64], fusion: NDArray[np.float64]
) -> NDArray[np.float64]:
    least = np.maximum(shared, np.maximum(sensors[None], regions[:, None, :]))
    return np.asarray(np.maximum(least, fusion[:, :, None]))


def _related(observed: Statistics, null: Statistics, correction: Literal["max", "fdr"]) -> tuple[Tested, Tested]:
    """Test models with MEG and models with fMRI as one family."""
    n_permutations, cut = len(null.sensors), observed.sensors.size
    values = np.concatenate([observed.sensors.ravel(), observed.regions.ravel()])
    draws = np.hstack([null.sensors.reshape(n_permutations, -1), null.regions.reshape(n_permutations, -1)])
    both = _family(values, draws, correction)
    parts = ((slice(0, cut), observed.sensors.shape), (slice(cut, None), observed.regions.shape))
    first, second = (Tested(both.p[part].reshape(shape), both.corrected[part].reshape(shape)) for part, shape in parts)
    return first, second


def _family(observed: NDArray[Any], null: NDArray[Any], correction: Literal["max", "fdr"]) -> Tested:
    values, draws = observed.ravel(), null.reshape(len(null), -1)
    p = permutation_p(values, draws)
    corrected = max_statistic(values, draws) if correction == "max" else fdr(p)
    return Tested(p.reshape(observed.shape), corrected.reshape(observed.shape))


def over_window(values: Statistics, region: int, window: NDArray[np.bool_]) -> Statistics:
    """Return the statistics of one region, averaged over some times (one time is left)."""
    return Statistics(
        values.fusion[..., region : region + 1, :][..., window].mean(axis=-1, keepdims=True),
        values.sensors[..., window, :].mean(axis=-2, keepdims=True),
        values.regions[..., region : region + 1, :],
        values.shared[..., region : region + 1, window, :].mean(axis=-2, keepdims=True),
    )
