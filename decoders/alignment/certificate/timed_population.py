"""Populations of people in the MEG, from which whole studies over time are drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.certificate.layout import Size
from decoders.alignment.models import ModelRow, Models, Stimuli
from decoders.alignment.rdm import feature_rdm
from decoders.alignment.timed.distances import cells_of, crossnobis, pattern_generalisation
from decoders.alignment.timed.noise import residual_covariance, whitener_of
from decoders.alignment.timed.scores import RecordedTimes

TIMES = np.round(np.arange(-0.1, 0.2951, 0.01), 6)
ONSET_S, PEAK_S, END_S = 0.06, 0.11, 0.24
N_FEATURES, N_CHANNELS, N_FOLDS, N_REPEATS = 6, 12, 2, 2
# Correlation of noise with that of the moment before.
SERIAL = 0.85


@dataclass(frozen=True)
class TimedPopulation:
    """How strongly sensors see the features of each model, at their peak.

    Attributes
    ----------
    rules, controls : tuple of float
        Size of the features of each rule and of each control in the patterns of the sensors, in units of a trial's
        noise; 0 for a model that has nothing to do with them.
    evoked : float
        Size of the response that all stimuli share.
    subject_sd : float
        Spread of the sizes over subjects, relative to their mean.
    """

    rules: tuple[float, ...]
    controls: tuple[float, ...] = ()
    evoked: float = 2.0
    subject_sd: float = 0.3

    def draw(self, size: Size, rng: np.random.Generator) -> tuple[Models, RecordedTimes]:
        """Draw a study: stimuli, subjects, their noise; RDMs by the very functions of `rdms-time`.

        Parameters
        ----------
        size : Size
            Numbers of stimuli and subjects.
        rng : Generator
        """
        sizes = np.array([*self.rules, *self.controls])
        features = rng.standard_normal((len(sizes), size.n_stimuli, N_FEATURES))
        names = [f"stimulus {number:02d}" for number in range(size.n_stimuli)]
        rows = []
        for number, values in enumerate(features):
            network = number < len(self.rules)
            rule = f"rule{number + 1}" if network else f"control:{number + 1 - len(self.rules)}"
            rdm = feature_rdm(values, names, rule)
            rows.append(
                ModelRow("network", rule, rdm, "simulated", "0", "layer", "native")
                if network
                else ModelRow("control", rule, rdm)
            )
        drawn = [self._subject(features, sizes, rng) for _ in range(size.n_subjects)]
        subjects = [f"{number:02d}" for number in range(1, size.n_subjects + 1)]
        rdms, tables = np.array([item[0] for item in drawn]), np.array([item[1] for item in drawn])
        return Models(rows), RecordedTimes(subjects, TIMES, rdms, Stimuli(names), "crossnobis, simulated", tables)

    def _subject(
        self, features: NDArray[np.float64], sizes: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n_stimuli = features.shape[1]
        course = rise_and_fall(TIMES)
        own = np.maximum(sizes * (1 + self.subject_sd * rng.standard_normal(len(sizes))), 0.0)
        mixing = rng.standard_normal((len(sizes), N_FEATURES, N_CHANNELS)) / np.sqrt(N_FEATURES)
        code = np.einsum("m,msf,mfc->sc", own, features, mixing)
        code = code + self.evoked * rng.standard_normal(N_CHANNELS)
        conditions = np.tile(np.arange(n_stimuli), N_FOLDS * N_REPEATS)
        noise = serial_noise((len(conditions), N_CHANNELS, len(TIMES)), rng)
        patterns = (code[conditions][:, :, None] * course + noise).astype(np.float32)
        folds = np.repeat(np.arange(N_FOLDS), n_stimuli * N_REPEATS)
        cells = cells_of(conditions, folds, n_stimuli, N_FOLDS)
        whitener = whitener_of(residual_covariance(patterns, cells, "a simulated subject"), None, "a simulated subject")
        return crossnobis(patterns, cells, whitener), pattern_generalisation(patterns, cells, whitener)


def rise_and_fall(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a response that leaves zero at `ONSET_S`, is one at `PEAK_S` and zero again from `END_S` on."""
    rise = np.clip((times - ONSET_S) / (PEAK_S - ONSET_S), 0, 1)
    fall = np.clip((times - PEAK_S) / (END_S - PEAK_S), 0, 1)
    return np.asarray((1 - np.cos(np.pi * rise)) * (1 + np.cos(np.pi * fall)) / 4)


def serial_noise(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise of unit variance, correlated over time (first order) and between channels."""
    from scipy.signal import lfilter

    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - SERIAL**2)
    mixed = (noise + np.roll(noise, 1, axis=1)) / np.sqrt(2)
    return np.asarray(lfilter([1.0], [1.0, -SERIAL], mixed, axis=-1))
