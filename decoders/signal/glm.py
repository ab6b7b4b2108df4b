"""Trial estimates: least squares all, least squares separate, and block means.

The model of a trial holds the trial regressors, the drift and the confounds together. Preprocessing has
already projected drift and confounds out of the data and kept their basis Q; by the theorem of Frisch,
Waugh and Lovell the betas of the full model are those of the trial regressors, projected the same way, on
the projected data. So every method is one matrix of weights over volumes: betas = weights @ data.

Sources: Mumford et al. 2012, NeuroImage (least squares separate); Rissman et al. 2004 (all).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.events import Block, Events

# The implicit baseline of a GLM: it gets no regressor.
BASELINE = "rest"
_REMEDY_LSS = "Set preprocess.estimates: lss, or blocks, or join trials in the events."


def trial_events(events: Events) -> list[Block]:
    """Return the events that are trials: those with a trial type other than rest.

    Raises
    ------
    InputError
        There is none.
    """
    rows = zip(events.trial_type, events.onset, events.duration, strict=True)
    trials = [Block(str(kind), float(on), float(on + length)) for kind, on, length in rows if kind and kind != BASELINE]
    if not trials:
        remedy = "Add the column trial_type, or leave preprocess.estimates out."
        raise InputError("events with a trial_type", "none", events.where, remedy)
    return trials


def trial_regressors(
    trials: Sequence[Block], times: NDArray[np.float64], hrf: Literal["spm", "glover"] = "spm"
) -> NDArray[np.float64]:
    """Return the expected response to each trial: its boxcar convolved with the haemodynamic response.

    Parameters
    ----------
    trials : sequence of Block
        Trials without duration are impulses.
    times : array of shape (n_volumes,)
        Moments that the volumes stand for, in seconds, at a constant interval.
    hrf : {"spm", "glover"}
        nilearn's canonical responses (SPM12; Glover 1999), of unit sum: a long trial reaches 1.

    Returns
    -------
    regressors : array of shape (n_volumes, n_trials)
    """
    from nilearn.glm.first_level import compute_regressor

    columns = []
    for trial in trials:
        condition = np.array([[trial.onset], [trial.end - trial.onset], [1.0]])
        # nilearn starts its fine grid at the first volume; trials in dropped volumes need it earlier.
        before = min(-24.0, trial.onset - times[0] - 1)
        columns.append(compute_regressor(condition, hrf, times, min_onset=before)[0][:, 0])
    return np.stack(columns, axis=1)


def residual(columns: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns without their part in the span of an orthonormal basis."""
    return columns - basis @ (basis.T @ columns)


def lsa_weights(
    regressors: NDArray[np.float64], basis: NDArray[np.float64], where: str = "events"
) -> NDArray[np.float64]:
    """Return the weights of least squares all: one model with one regressor per trial.

    Parameters
    ----------
    regressors : array of shape (n_volumes, n_trials)
    basis : array of shape (n_volumes, rank)
        Orthonormal basis of mean, drift and confounds.
    where : str
        The events file, for messages.

    Returns
    -------
    weights : array of shape (n_trials, n_volumes)

    Raises
    ------
    InputError
        The trials cannot be told apart in one model.
    """
    design = residual(regressors, basis)
    rank = np.linalg.matrix_rank(design, tol=1e-6 * np.linalg.norm(design, axis=0).max())
    if rank < design.shape[1]:
        found = f"{design.shape[1]} trials in {len(design)} volumes, of which {rank} can be told apart"
        raise InputError("trials whose responses differ (least squares all)", found, where, _REMEDY_LSS)
    return np.asarray(np.linalg.pinv(design), dtype=np.float64)


def lss_weights(
    regressors: NDArray[np.float64], basis: NDArray[np.float64], where: str = "events"
) -> NDArray[np.float64]:
    """Return the weights of least squares separate: per trial, one model of this trial and all others together.

    Parameters
    ----------
    regressors : array of shape (n_volumes, n_trials)
    basis : array of shape (n_volumes, rank)
    where : str

    Returns
    -------
    weights : array of shape (n_trials, n_volumes)

    Raises
    ------
    InputError
        A trial cannot be told from all others together.
    """
    own = residual(regressors, basis)
    if own.shape[1] == 1:
        return np.asarray(np.linalg.pinv(own), dtype=np.float64)
    others = own.sum(axis=1, keepdims=True) - own
    # The first row of the inverse of the 2 x 2 normal equations, in closed form for every trial.
    oo, tt, to = (np.sum(a * b, axis=0) for a, b in ((others, others), (own, own), (own, others)))
    determinant = tt * oo - to**2
    alike = np.flatnonzero(determinant <= 1e-9 * tt * oo)
    if alike.size:
        found = f"trial {alike[0] + 1} of {own.shape[1]} cannot be told from the others"
        raise InputError("trials whose responses differ (least squares separate)", found, where, "Correct the events.")
    return ((oo * own - to * others) / determinant).T


def block_weights(
    blocks: Sequence[Block], times: NDArray[np.float64], lag_s: float, where: str = "events"
) -> NDArray[np.float64]:
    """Return the weights of block means: the volumes that start in the block, shifted by a lag.

    Parameters
    ----------
    blocks : sequence of Block
    times : array of shape (n_volumes,)
        Start of each volume, on the clock of the blocks.
    lag_s : float
        Seconds added to the edges of each block.
    where : str

    Returns
    -------
    weights : array of shape (n_blocks, n_volumes)
        Each row sums to 1.

    Raises
    ------
    InputError
        A block covers no volume.
    """
    edge = 1e-6
    starts, ends = (np.array([getattr(block, end) for block in blocks]) + lag_s - edge for end in ("onset", "end"))
    inside = (times >= starts[:, None]) & (times < ends[:, None])
    empty = np.flatnonzero(~inside.any(axis=1))
    if empty.size:
        block = blocks[empty[0]]
        found = f"none in '{block.condition}' from {block.onset:g} to {block.end:g} s (lag {lag_s:g} s)"
        remedy = "Set preprocess.estimates: lss for short trials, or correct estimate_lag_s or the events."
        raise InputError("a volume in every block", found, where, remedy)
    return inside / inside.sum(axis=1, keepdims=True)


def apply_weights(weights: NDArray[np.float64], data: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights @ data in double precision, a stretch of columns at a time."""
    out = np.empty((len(weights), data.shape[1]), dtype=np.float32)
    step = max(1, (4 << 20) // (8 * len(data)))
    for start in range(0, data.shape[1], step):
        part = slice(start, start + step)
        out[:, part] = weights @ data[:, part].astype(np.float64)
    return out
