"""The common detached read-out: one linear classifier for every rule, on features that it cannot change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Weight of the squared norm against the mean cross-entropy. Fixed beforehand, the same for all rules.
PENALTY = 1e-3
# Of the loss, relative. 1e-10 moved the accuracy on held-out training pictures of CIFAR-10 by .0006 at most.
_TOLERANCE = 1e-7
_MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Readout:
    """A fitted linear read-out.

    Attributes
    ----------
    mean, sd : array of shape (n_features,)
        Of the training pictures; constant features have sd 1.
    weights : array of shape (n_features, n_classes)
    bias : array of shape (n_classes,)
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the logits, array of shape (n_pictures, n_classes)."""
        return ((features - self.mean) / self.sd) @ self.weights + self.bias

    def accuracy(self, features: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
        """Return the share of pictures whose largest logit is that of their label."""
        return float(np.mean(self.logits(features).argmax(1) == labels))


def fit_readout(features: NDArray[np.floating], labels: NDArray[np.int64], n_classes: int) -> Readout:
    """Fit softmax regression on standardised features.

    The loss (mean cross-entropy + `PENALTY`/2 x squared norm of the weights) is strictly convex: the
    solution depends neither on a seed nor on a schedule. L-BFGS starts at zero.

    Parameters
    ----------
    features : array of shape (n_pictures, n_features)
    labels : array of shape (n_pictures,), int
        0 .. n_classes - 1.
    n_classes : int
    """
    from scipy.optimize import minimize

    values = np.asarray(features, dtype=np.float64)
    mean, sd = values.mean(0), values.std(0)
    sd = np.where(sd > 1e-8 * max(1.0, float(sd.max(initial=0))), sd, 1.0)
    x, target = (values - mean) / sd, np.eye(n_classes)[labels]
    shape = (values.shape[1] + 1, n_classes)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return _loss(flat.reshape(shape), x, target)

    options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-5, "ftol": _TOLERANCE}
    solution = minimize(loss, np.zeros(shape).reshape(-1), jac=True, method="L-BFGS-B", options=options)
    fitted = solution.x.reshape(shape)
    return Readout(mean, sd, fitted[:-1], fitted[-1])


def _loss(
    parameters: NDArray[np.float64], x: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    weights, bias = parameters[:-1], parameters[-1]
    logits = x @ weights + bias
    logits -= logits.max(1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    error = (np.exp(log_p) - target) / len(x)
    value = -float((target * log_p).sum()) / len(x) + PENALTY / 2 * float((weights**2).sum())
    gradient = np.vstack([x.T @ error + PENALTY * weights, error.sum(0)])
    return value, gradient.reshape(-1)
