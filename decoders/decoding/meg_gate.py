"""The sensor gate: which sensors of MEG or EEG carry what is heard, in nats per sensor and sample.

The gate of voxels (`decoders.decoding.gate`, `decoders.decoding.bottleneck`) with one logit per sensor, smooth over
neighbouring sensors of one type, cross-fitted over runs or parts of them. What a gate opens for a text that was not
heard at that moment (rolled in time, or of another run) is its null; the largest of all nulls is the cut.

A gate need not open for a sensor that says what others say already, and opens for one that tells only the noise of
others. Beside it therefore stands how well each sensor is predicted from the text (encoding r, held out), and the mean
of both maps, as of voxels; sensors are selected by that mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoders.config import MegDecodingSettings, VoxelMapSettings
from decoders.decoding.bottleneck import Answers, GateFit, null_pairing, paired, train_gate
from decoders.decoding.encoding import correlate
from decoders.decoding.gate import VoxelGate
from decoders.decoding.maps import combine, run_folds
from decoders.decoding.meg_runs import Stretch, fold_parts
from decoders.decoding.splits_meg import SETTING
from decoders.models.ridge import delayed, fit_ridge

_ALPHAS = (1e2, 1e3, 1e4, 1e5)
_TRUNCATE = 4.0  # standard deviations, as the smoothing over voxels


class SensorGate(VoxelGate):
    """One gate per sensor, ``m = sigmoid(K theta)``.

    Parameters
    ----------
    kernel : array of shape (n_sensors, n_sensors)
        Smoothing of the free logits; rows sum to 1 (`sensor_kernel`).
    """

    def __init__(self, kernel: NDArray[np.floating]) -> None:
        super().__init__(len(kernel), 0.0)
        self.register_buffer("kernel", torch.from_numpy(np.asarray(kernel, dtype=np.float32)), persistent=False)

    def logits(self) -> Tensor:
        """Return the smoothed logits, of shape (n_sensors,)."""
        kernel: Tensor = self.kernel  # type: ignore[assignment]
        return kernel.to(self.theta.dtype) @ self.theta


@dataclass(frozen=True)
class SensorMap:
    """The maps of the text as it was heard, beside those of null pairings.

    Attributes
    ----------
    fit : GateFit
        ``fit.kl`` are the nats per sensor and sample.
    encoding, combined : array of shape (n_sensors,)
        Held-out r of each sensor with its prediction from the text; the mean z of that and of the gate's logits.
    nulls : dict of str to array of shape (n_nulls, n_sensors)
        Of ``gate`` (nats), ``encoding`` and ``combined``, the last on the scale of the real map.
    z : array of shape (n_sensors,)
        Nats minus the nulls' mean over the nulls' sd, both over the sensors of one type.
    """

    fit: GateFit
    encoding: NDArray[np.float32]
    combined: NDArray[np.float32]
    nulls: dict[str, NDArray[np.float32]]
    z: NDArray[np.float64]

    @property
    def cuts(self) -> dict[str, float]:
        """The largest null of each map."""
        return {name: float(values.max()) for name, values in self.nulls.items()}

    @property
    def selected(self) -> NDArray[np.int64]:
        """Sensors whose combined map is above all nulls; there may be none."""
        return np.flatnonzero(self.combined > self.cuts["combined"])


def sensor_kernel(
    positions: NDArray[np.floating], types: Sequence[str] | NDArray[np.object_], sigma: float
) -> NDArray[np.float64]:
    """Return the Gaussian smoothing over sensors of one type, as a matrix whose rows sum to 1.

    Parameters
    ----------
    positions : array of shape (n_sensors, 3)
        In metres; sensors without a place (not a number) stay as they are.
    types : sequence of str
        Sensors of different types measure in different units and depths: they are not smoothed into each other.
    sigma : float
        Metres; 0 for none. The two gradiometers of a site are at distance 0 of each other.
    """
    n = len(positions)
    if sigma <= 0:
        return np.eye(n)
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    np.fill_diagonal(distance, 0.0)
    labels = np.asarray(types, dtype=object)
    near = (labels[:, None] == labels[None]) & (distance <= _TRUNCATE * sigma)
    weight = np.where(near, np.exp(-((distance / sigma) ** 2) / 2), 0.0)
    kernel: NDArray[np.float64] = weight / weight.sum(1, keepdims=True)
    return kernel


def map_sensors(
    train: Sequence[Stretch],
    positions: NDArray[np.floating],
    types: Sequence[str] | NDArray[np.object_],
    settings: MegDecodingSettings,
    seed: int,
    rng: np.random.Generator,
) -> SensorMap:
    """Compute the maps of the text as it was heard, and those of null pairings.

    Parameters
    ----------
    train : sequence of Stretch
        With their text. Nothing else is seen.
    positions, types
        As for `sensor_kernel`.
    settings : MegDecodingSettings
    seed : int
        Of the gates.
    rng : Generator
        Of the null pairings.
    """
    kernel = sensor_kernel(positions, types, settings.smoothing_m)
    fit, r = fit_gate(train, kernel, settings, seed), encoding_r(train, settings)
    nulls: dict[str, list[NDArray[np.float32]]] = {"gate": [], "encoding": [], "combined": []}
    for _ in range(settings.n_null_gates):
        other = with_null_text(train, rng)
        null, null_r = fit_gate(other, kernel, settings, seed), encoding_r(other, settings)
        maps = (null.kl, null_r, combine([null.logits, null_r], [fit.logits, r]))
        for values, kept in zip(maps, nulls.values(), strict=True):
            kept.append(values)
    stacked = {name: np.stack(values) for name, values in nulls.items()}
    return SensorMap(fit, r, combine([fit.logits, r]), stacked, null_z(fit.kl, stacked["gate"], types))


def encoding_r(train: Sequence[Stretch], settings: MegDecodingSettings) -> NDArray[np.float32]:
    """Return the correlation of each sensor with its prediction from the text before, mean over held-out parts."""
    parts = fold_parts(train, settings)
    delays = range(round(settings.response_s * settings.text_hz) + 1)
    X, fold = [delayed(part.text, delays) for part in parts], np.arange(len(parts)) % settings.folds
    found = []
    for k in range(settings.folds):
        seen = np.flatnonzero(fold != k).tolist()
        given, answers = (np.concatenate(side) for side in ([X[i] for i in seen], [parts[i].slow for i in seen]))
        # One inner fold chooses the penalty.
        inner = run_folds([len(X[i]) for i in seen], fold[seen])[:1]
        model = fit_ridge(given, answers, _ALPHAS, inner)
        found += [correlate(model.predict(X[i]), parts[i].slow) for i in np.flatnonzero(fold == k).tolist()]
    return np.mean(found, axis=0).astype(np.float32)


def fit_gate(
    train: Sequence[Stretch],
    kernel: NDArray[np.floating],
    settings: MegDecodingSettings,
    seed: int,
    cross_fit: bool = True,
) -> GateFit:
    """Train one gate over runs or parts of them (`decoders.decoding.bottleneck.train_gate`)."""
    parts = fold_parts(train, settings)
    hz = settings.text_hz
    answers = Answers(tuple(range(round(settings.response_s * hz) + 1)), SETTING)
    own = VoxelMapSettings(
        beta=settings.beta, gate_lr=settings.gate_lr, readout_lr=settings.readout_lr, window_s=settings.window_s,
        hidden=settings.hidden, epochs=settings.epochs, folds=settings.folds,
    )  # fmt: skip
    x, text = [part.slow for part in parts], [part.text for part in parts]
    return train_gate(x, text, SensorGate(kernel), own, 1 / hz, seed, cross_fit, answers=answers)


def with_null_text(train: Sequence[Stretch], rng: np.random.Generator) -> list[Stretch]:
    """Return runs with text rolled in time, of another run where one has as many samples (`null_pairing`)."""
    texts = [one.text for one in train]
    pairing = null_pairing([len(text) for text in texts], rng)
    return [
        replace(one, text=np.asarray(text, dtype=np.float32))
        for one, text in zip(train, paired(texts, pairing), strict=True)
    ]


def null_z(
    nats: NDArray[np.floating], nulls: NDArray[np.floating], types: Sequence[str] | NDArray[np.object_]
) -> NDArray[np.float64]:
    """Return nats minus the mean of the nulls over their sd, over all nulls and sensors of one type."""
    labels, z = np.asarray(types, dtype=object), np.zeros(len(nats))
    for kind in dict.fromkeys(labels.tolist()):
        own = labels == kind
        null = nulls[:, own].astype(np.float64)
        z[own] = (nats[own] - null.mean()) / max(float(null.std()), 1e-12)
    return z
