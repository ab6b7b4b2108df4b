"""How likely recorded volumes are under an encoding model: Gaussian, whitened once.

With the precision P = L L' the log-likelihood of a row r under a prediction x W is that of r L - x W L under
unit noise. Only what lies in the span of W L can tell predictions apart: rows are rotated into it, and the rest
is kept as a constant, so that the numbers are still the density of all voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError

Floats = NDArray[np.float64]
AMOUNTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_WHERE = "the residuals of the encoding model"


@dataclass(frozen=True)
class Covariance:
    """Covariance of what an encoding model leaves unexplained.

    Attributes
    ----------
    matrix : array of shape (n_voxels, n_voxels)
    amount : float
        Share of the diagonal target; 1 where voxels are taken as independent.
    """

    matrix: Floats
    amount: float


@dataclass(frozen=True)
class Whitened:
    """Data and weights in which the noise is white.

    Attributes
    ----------
    weights : array of shape (n_features, n_dims)
        W L, rotated; n_dims is the smaller of features and voxels.
    data : array of shape (n_rows, n_dims)
        (R - intercept) L, rotated.
    constant : array of shape (n_rows,)
        What the log-density holds beside -|data - x weights|^2 / 2, in nats.
    """

    weights: Floats
    data: Floats
    constant: Floats

    def log_likelihood(self, features: Floats) -> Floats:
        """Return the log-density of each row, in nats.

        Parameters
        ----------
        features : array of shape (..., n_rows, n_features)

        Returns
        -------
        array of shape (..., n_rows)
        """
        error = self.data - features @ self.weights
        return self.constant - np.einsum("...d,...d->...", error, error) / 2


def whiten(rows: Floats, weights: Floats, intercept: Floats, covariance: Floats) -> Whitened:
    """Whiten recorded rows and encoding weights by the covariance of the residuals.

    Parameters
    ----------
    rows : array of shape (n_rows, n_voxels)
        Of the chosen voxels.
    weights : array of shape (n_features, n_voxels)
    intercept : array of shape (n_voxels,)
    covariance : array of shape (n_voxels, n_voxels)
        Positive definite.

    Raises
    ------
    InputError
        Values that are not finite, or a covariance that is not positive definite.
    """
    from scipy.linalg import solve_triangular

    root = _cholesky(covariance)
    for name, values in (("recorded rows", rows), ("weights", weights), ("intercepts", intercept)):
        if not np.isfinite(values).all():
            found = f"{int((~np.isfinite(values)).sum())} of {values.size} that are not"
            raise InputError(f"finite {name}", found, "the brain likelihood", "Leave out voxels without signal.")
    # P = L L' with L = inverse(root)': rows r L are solutions of root y = r'.
    data, seen = (solve_triangular(root, x.T, lower=True).T for x in (rows - intercept, weights))
    rotation, _ = np.linalg.qr(seen.T)  # (n_voxels, n_dims), orthonormal columns
    inside = data @ rotation
    outside = np.maximum((data**2).sum(1) - (inside**2).sum(1), 0.0)
    normaliser = len(root) * np.log(2 * np.pi) / 2 + np.log(np.diag(root)).sum()
    return Whitened(seen @ rotation, inside, -normaliser - outside / 2)


def residual_covariance(residuals: Sequence[Floats], amounts: Sequence[float] = AMOUNTS) -> Covariance:
    """Estimate the covariance of residuals, shrunk towards its diagonal.

    Parameters
    ----------
    residuals : sequence of array of shape (n_volumes, n_voxels)
        One per run, of models that have not seen the run.
    amounts : sequence of float
        Candidates in (0, 1]; the one under which held-out runs are likeliest is taken.

    Raises
    ------
    InputError
        Fewer than two runs, or a voxel without variance.
    """
    if len(residuals) < 2:
        remedy = "Give more runs, or take the voxels as independent."
        raise InputError("residuals of two runs or more", f"{len(residuals)}", _WHERE, remedy)
    squares = [run.T @ run for run in residuals]
    lengths = [len(run) for run in residuals]
    if not (np.diag(sum(squares, np.zeros_like(squares[0]))) > 0).all():
        raise InputError("residuals that vary in every voxel", "some that do not", _WHERE, "Leave these voxels out.")
    scores = [_held_out(squares, lengths, amount) for amount in amounts]
    best = float(amounts[int(np.argmax(scores))])
    return Covariance(_shrunk(sum(squares, np.zeros_like(squares[0])) / sum(lengths), best), best)


def autocorrelation(residuals: Sequence[Floats]) -> float:
    """Return the correlation of neighbouring volumes, over all voxels and runs, in [0, .95]."""
    products = sum(float((run[1:] * run[:-1]).sum()) for run in residuals)
    squares = sum(float((run[1:] ** 2).sum() + (run[:-1] ** 2).sum()) / 2 for run in residuals)
    return float(np.clip(products / squares, 0.0, 0.95)) if squares > 0 else 0.0


def innovations(rows: Floats, phi: float) -> Floats:
    """Take out what the volume before predicts: row t minus phi times row t - 1; the first row is scaled.

    Linear in time, so data and predictions are treated alike: noise that is AR(1) with the same phi in all voxels
    becomes white in time, with the covariance (1 - phi^2) times its own.

    Parameters
    ----------
    rows : array of shape (n_rows, ...)
    phi : float
        In [0, 1).
    """
    out = np.array(rows, dtype=np.float64)
    out[1:] -= phi * rows[:-1]
    out[0] *= np.sqrt(1 - phi**2)
    return out


def _held_out(squares: Sequence[Floats], lengths: Sequence[int], amount: float) -> float:
    """Return the log-likelihood of each run under the covariance of the others, summed, without its constant."""
    total, everything = sum(squares, np.zeros_like(squares[0])), 0.0
    for square, length in zip(squares, lengths, strict=True):
        matrix = _shrunk((total - square) / (sum(lengths) - length), amount)
        try:
            root = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return -np.inf
        everything -= length * np.log(np.diag(root)).sum() + np.trace(np.linalg.solve(matrix, square)) / 2
    return everything


def _shrunk(matrix: Floats, amount: float) -> Floats:
    return (1 - amount) * matrix + amount * np.diag(np.diag(matrix))


def _cholesky(covariance: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        remedy = "Shrink it more, or choose fewer voxels."
        raise InputError("a positive definite covariance", f"'{error}'", _WHERE, remedy) from error
