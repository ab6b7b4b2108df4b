"""The noise of sensors: covariance of residuals, shrunk with trials as samples, and the whitener in its rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.rdm import MIN_REPEATS
from decoders.alignment.timed.distances import Cells
from decoders.errors import InputError
from decoders.store.recording import Recording

# Moments at which the residuals are looked at: neighbours in time hold nearly the same noise.
_MAX_MOMENTS = 50
_NOTHING = 1e-10


def residual_covariance(patterns: NDArray[np.float32], cells: Cells, whose: str) -> NDArray[np.float64]:
    """Return the covariance of trials about the mean of their condition and fold, shrunk.

    Parameters
    ----------
    patterns : array of shape (n_trials, n_channels, n_times)
    cells : Cells
        Residuals are taken within a fold: differences between folds must not serve, because channels in which folds
        agree by chance would count more, and cross-validated distances would no longer be zero on average.
    whose : str

    Returns
    -------
    array of shape (n_channels, n_channels)

    Raises
    ------
    InputError
        Fewer than `MIN_REPEATS` repeats of conditions within a fold, all in all.
    """
    counts = cells.counts
    dof = int((counts - 1).sum())
    if dof < MIN_REPEATS:
        remedy = "Set alignment.time.noise to 'baseline', which needs no repeats."
        raise InputError(f"{MIN_REPEATS} or more repeats of conditions within folds", f"{dof}", whose, remedy)
    moments = np.unique(np.linspace(0, patterns.shape[2] - 1, _MAX_MOMENTS).round().astype(int))
    chosen = patterns[:, :, moments]
    residuals = []
    for trials in cells.members.ravel():
        if len(trials) > 1:
            values = chosen[trials].astype(np.float64)
            # Trials of a cell of n lose 1/n of their variance to its mean.
            residuals.append((values - values.mean(axis=0)) * np.sqrt(len(values) / (len(values) - 1)))
    return shrunk_covariance(np.concatenate(residuals), dof)


def shrunk_covariance(residuals: NDArray[np.float64], dof: int | None = None) -> NDArray[np.float64]:
    """Return a covariance shrunk towards uncorrelated channels of their own variances.

    Parameters
    ----------
    residuals : array of shape (n_trials, n_channels, n_times)
        Of mean zero.
    dof : int, optional
        Independent trials; all of them when absent.

    Returns
    -------
    array of shape (n_channels, n_channels)

    Notes
    -----
    Ledoit & Wolf (2004, J. Multivar. Anal. 88:365) with the identity as target, on channels scaled to unit variance
    (their units differ). A sample is a trial with the covariance over its moments, not a moment: noise is correlated
    in time, and moments taken as independent would call for too little shrinkage. With one moment it is theirs.
    """
    n, n_channels, n_times = residuals.shape
    scale = np.sqrt((residuals**2).mean(axis=(0, 2)))
    safe = np.where(scale > 0, scale, 1.0)
    scaled = residuals / safe[:, None]
    flat = scaled.transpose(1, 0, 2).reshape(n_channels, -1)
    covariance = flat @ flat.T / (n * n_times)
    squares = sum(float(((trial.T @ trial) ** 2).sum()) for trial in scaled) / n_times**2
    spread = max(squares / n - float((covariance**2).sum()), 0.0) / (dof or n)
    mean = float(np.trace(covariance)) / n_channels
    distance = float(((covariance - mean * np.eye(n_channels)) ** 2).sum())
    share = min(1.0, spread / distance) if distance > 0 else 1.0
    shrunk = (1 - share) * covariance + share * mean * np.eye(n_channels)
    return np.asarray(shrunk * np.outer(safe, safe))


def baseline_covariance(recordings: Sequence[Recording], whose: str) -> NDArray[np.float64]:
    """Return the mean over runs of the noise covariance of their baselines.

    Raises
    ------
    InputError
        A run without one, or with one of other channels.
    """
    for recording in recordings:
        n = recording.data.shape[1] or len(recording.names)
        if recording.noise_covariance.shape != (n, n) or not np.isfinite(recording.noise_covariance).all():
            found = f"the shape {recording.noise_covariance.shape} in run {recording.run or '1'}"
            remedy = "Set alignment.time.noise to 'residuals', or preprocess.meg.baseline_s."
            raise InputError(f"a finite noise covariance of {n} channels", found, whose, remedy)
    return np.asarray(np.mean([recording.noise_covariance for recording in recordings], axis=0))


def rank_of(recordings: Sequence[Recording]) -> int | None:
    """Return the smallest rank that preprocessing left in the runs; None where it says nothing."""
    ranks = [int(step["rank"]) for item in recordings for step in item.steps if step.get("step") == "rank"]
    return min(ranks) if ranks else None


def whitener_of(covariance: NDArray[np.float64], rank: int | None, whose: str) -> NDArray[np.float64]:
    """Return the matrix that whitens sensors in the subspace that preprocessing left.

    Parameters
    ----------
    covariance : array of shape (n_channels, n_channels)
    rank : int or None
        Dimensions that hold signal (after SSS or projections fewer than channels); all when None.
    whose : str

    Returns
    -------
    array of shape (rank, n_channels)
        Channels are scaled to unit variance first, so that units (T, T/m, V) do not choose the subspace.

    Raises
    ------
    InputError
        A covariance without a positive variance in a channel, or of lower rank than said.
    """
    scale = np.sqrt(np.diag(covariance))
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        remedy = "Check the channels; a flat one must be marked as bad."
        raise InputError("noise of positive variance in every channel", "none in one", whose, remedy)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    wanted = len(scale) if rank is None else min(rank, len(scale))
    values, vectors = values[::-1][:wanted], vectors[:, ::-1][:, :wanted]
    if values[-1] <= _NOTHING * values[0]:
        there = int((values > _NOTHING * values[0]).sum())
        remedy = "Preprocess anew: the rank that projections leave must be recorded."
        raise InputError(f"noise in {wanted} dimensions", f"{there}", whose, remedy)
    return np.asarray((vectors / np.sqrt(values)).T / scale)


def own_scale(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the diagonal matrix that brings each channel to units of its own noise."""
    return np.diag(1 / np.sqrt(np.diag(covariance)))
