"""Courses of how much a model weighs in recorded RDMs: what latencies are read from.

A correlation with an RDM depends on all else that is there: it saturates where the signal is strong, and a
geometry keeps gaining after its own peak while another one fades. The weight of a model in a linear regression of
the (cross-validated, hence unbiased) distances does neither: it is proportional to the power of that geometry alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.contrasts import Model
from decoders.alignment.models import Models
from decoders.alignment.timed.scores import RecordedTimes

_NOTHING_LEFT = 1e-8


def regression_weights(
    vectors: NDArray[np.float64], held: NDArray[np.float64], rdms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weight of each model in a regression of the distances on it, the RDMs held constant and a constant.

    Parameters
    ----------
    vectors : array of shape (n_models, n_pairs)
        Brought to unit variance, so that a weight is in units of the distances.
    held : array of shape (n_held, n_pairs)
        None of them (0 rows) for the weight of the model by itself.
    rdms : array of shape (n_rdms, n_pairs)

    Returns
    -------
    array of shape (n_models, n_rdms)
        Not a number for a model that the held RDMs mix exactly.
    """
    scaled = vectors - vectors.mean(axis=1, keepdims=True)
    scaled /= scaled.std(axis=1, keepdims=True)
    size = np.sqrt(scaled.shape[1])
    centred = held - held.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    _, singular, right = np.linalg.svd(centred / np.where(norms > 0, norms, 1.0), full_matrices=False)
    basis = right[singular > _NOTHING_LEFT]
    # By Frisch, Waugh and Lovell the weight is that of what is left of the model (itself centred) by itself.
    left = scaled - (scaled @ basis.T) @ basis
    power = (left**2).sum(axis=1, keepdims=True)
    missing = power <= (_NOTHING_LEFT * size) ** 2
    return np.asarray(np.where(missing, np.nan, (left @ rdms.T) / np.where(missing, 1.0, power)))


def weight_courses(
    models: Models, wanted: Sequence[Model], recorded: RecordedTimes, beyond: bool
) -> NDArray[np.float64]:
    """Return the weights of models over time, mean over seeds.

    Parameters
    ----------
    models : Models
    wanted : sequence of Model
    recorded : RecordedTimes
    beyond : bool
        With all control RDMs held constant (of a control: all others); else each model by itself.

    Returns
    -------
    array of shape (n_subjects, n_wanted, n_times)
    """
    controls = {index for model in models.joined("control") for index in model.rows.values()} if beyond else set()
    courses = np.empty((len(recorded.subjects), len(wanted), len(recorded.times)))
    # Models with the same RDMs held constant go together.
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, model in enumerate(wanted):
        groups.setdefault(tuple(sorted(controls - set(model.rows.values()))), []).append(place)
    for held, places in groups.items():
        rows = [index for place in places for index in wanted[place].rows.values()]
        owner = np.repeat(places, [len(wanted[place].rows) for place in places])
        found = recorded.unflat(regression_weights(models.vectors[rows], models.vectors[list(held)], recorded.flat))
        for place in places:
            courses[:, place] = found[:, owner == place].mean(axis=1)
    return courses
