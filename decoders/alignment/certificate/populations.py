"""Populations of stimuli, subjects and networks, from which whole studies are drawn anew.

Every factor is random: a study draws its stimuli (latent features), its subjects (how strongly each represents the
features of each model, and what else they represent) and its networks (features plus what the seed adds). What a
model is worth is the same for all studies of a population, so the rates of wrong statements can be counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.certificate.layout import Size
from decoders.alignment.models import Kind, ModelRow, Models
from decoders.alignment.rdm import feature_rdm, recorded_rdm
from decoders.alignment.stage import Recorded

N_FEATURES = 12
REGION = "simulated"


@dataclass(frozen=True)
class Population:
    """How strongly subjects represent the features of each model.

    Attributes
    ----------
    rules, controls : tuple of float
        Mean weight of the features of each learning rule and of each control in the subjects' patterns; 0 for a model
        that has nothing to do with them.
    common : float
        Weight of what all subjects represent alike and no model holds.
    subject_sd : float
        Spread of the weights over subjects, relative to their mean.
    seed_sd : float
        Spread of the features over the seeds of a network; features have unit variance.
    noise : float
        Weight of what only one subject represents.
    """

    rules: tuple[float, ...]
    controls: tuple[float, ...] = ()
    common: float = 0.5
    subject_sd: float = 0.4
    seed_sd: float = 0.5
    noise: float = 1.0

    def draw(self, size: Size, rng: np.random.Generator) -> tuple[Models, list[Recorded]]:
        """Draw a study.

        Parameters
        ----------
        size : Size
        rng : Generator

        Returns
        -------
        models : Models
            Rules ``rule1``, ``rule2``, … of one architecture and layer, and controls ``control:1``, ….
        recorded : list of one Recorded
        """
        weights = np.array([*self.rules, *self.controls, self.common])
        features = rng.standard_normal((len(weights), size.n_stimuli, N_FEATURES))
        names = [f"stimulus {number}" for number in range(size.n_stimuli)]
        rows = []
        for number, feature in enumerate(features[: len(self.rules)], start=1):
            for seed in range(size.n_seeds):
                # With a single seed there is nothing that the seeds could say about other seeds.
                spread = self.seed_sd if size.n_seeds > 1 else 0.0
                own = feature + spread * rng.standard_normal(feature.shape)
                rows.append(_row("network", f"rule{number}", own, names, str(seed)))
        for number, feature in enumerate(features[len(self.rules) : -1], start=1):
            rows.append(_row("control", f"control:{number}", feature, names))
        rdms = [self._subject(features, weights, names, rng) for _ in range(size.n_subjects)]
        subjects = [f"{number:02d}" for number in range(1, size.n_subjects + 1)]
        return Models(rows), [Recorded(REGION, subjects, np.array(rdms))]

    def _subject(
        self, features: NDArray[np.float64], weights: NDArray[np.float64], names: list[str], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        own = weights * (1 + self.subject_sd * rng.standard_normal(len(weights)))
        noise = self.noise * rng.standard_normal(features.shape[1:])
        patterns = np.concatenate([*(own[:, None, None] * features), noise], axis=1)
        return recorded_rdm(patterns, names, ["1"] * len(names), "correlation", "a simulated subject", names)


def _row(kind: Kind, rule: str, features: NDArray[np.float64], names: list[str], seed: str = "") -> ModelRow:
    rdm = feature_rdm(features, names, rule)
    if kind == "control":
        return ModelRow(kind, rule, rdm)
    return ModelRow(kind, rule, rdm, "simulated", seed, "layer", "native")
