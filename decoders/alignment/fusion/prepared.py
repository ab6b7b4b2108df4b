"""RDMs of MEG, fMRI and models as the computation needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.contrasts import Model
from decoders.alignment.fusion.pairing import Paired, SensorRDMs
from decoders.alignment.fusion.shared import Relations, region_commonality, relate, relate_beyond
from decoders.alignment.models import Models
from decoders.alignment.partial import PLAIN, basis_of, unit_rows
from decoders.alignment.ranks import RankedRDMs
from decoders.errors import SettingsError


@dataclass(frozen=True)
class Study:
    """Everything that is compared.

    Attributes
    ----------
    sensor : SensorRDMs
    pairs : list of Paired
        The regions.
    rows : Models
        Model RDMs, those of the controls first.
    comparator : str
        Rank comparators stand for Spearman's, whitened ones for the plain ones (`partial.PLAIN`).
    """

    sensor: SensorRDMs
    pairs: list[Paired]
    rows: Models
    comparator: str

    @property
    def n_stimuli(self) -> int:
        """Number of stimuli."""
        return len(self.sensor.stimuli)

    @property
    def people(self) -> list[NDArray[np.int64]]:
        """Rows of the sensor RDMs per region."""
        return [pair.people for pair in self.pairs]

    @property
    def n_controls(self) -> int:
        """Rows of the models that are controls."""
        return sum(row.kind == "control" for row in self.rows.usable)

    @cached_property
    def models(self) -> list[Model]:
        """Rows joined over seeds; networks that may not be ranked are left out."""
        return self.rows.joined("control", "network", "user")

    @cached_property
    def averaging(self) -> NDArray[np.float64]:
        """Means over seeds as an array of shape (n_models, n_rows)."""
        weights = np.zeros((len(self.models), len(self.rows.usable)))
        for number, model in enumerate(self.models):
            weights[number, list(model.rows.values())] = 1 / len(model.rows)
        return weights


def choose_models(models: Models, names: Sequence[str] | None) -> Models:
    """Return all controls (they are held constant together, whoever is shown), then the chosen models.

    Raises
    ------
    SettingsError
        A name that no model has.
    """
    known = list(dict.fromkeys(row.name for row in models.usable))
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SettingsError(f"alignment.fusion.models: '{unknown[0]}' is no model here; they are {', '.join(known)}.")
    controls = [row for row in models.usable if row.kind == "control"]
    others = [row for row in models.usable if row.kind != "control" and (names is None or row.name in names)]
    return Models([*controls, *others])


@dataclass(frozen=True)
class Prepared:
    """RDMs of norm 1, whose inner products are correlations, in one resample of the stimuli.

    Attributes
    ----------
    sensor : array of shape (n_subjects, n_times, n_pairs)
    regions : list of array of shape (n_people, n_pairs)
    models : array of shape (n_rows, n_pairs)
    people : list of array of int
    n_controls : int
    """

    sensor: NDArray[np.float64]
    regions: list[NDArray[np.float64]]
    models: NDArray[np.float64]
    people: list[NDArray[np.int64]]
    n_controls: int

    def relations(self) -> Relations:
        """Return the correlations of all with all."""
        return relate(self.sensor, self.regions, self.people, self.models)

    def beyond(self, found: Relations) -> Relations | None:
        """Return the relations beyond the controls; None without a control."""
        if not self.n_controls:
            return None
        # A control that a resample leaves constant explains nothing there.
        basis = basis_of(np.nan_to_num(self.models[: self.n_controls]))
        return relate_beyond(found, self.sensor, self.regions, self.people, self.models, basis)

    def shared(self, found: Relations, number: int) -> NDArray[np.float64]:
        """Return the commonality in one region, array of shape (n_people, n_times, n_rows)."""
        return region_commonality(found, number, self.people[number])


class Resampler:
    """Prepares the RDMs of a study in resamples of its stimuli; each RDM is sorted once.

    Parameters
    ----------
    study : Study
    """

    def __init__(self, study: Study) -> None:
        self.study, self.plain = study, PLAIN[study.comparator]
        n_pairs = study.sensor.rdms.shape[-1]
        parts = [study.sensor.rdms.reshape(-1, n_pairs), *(pair.reference for pair in study.pairs)]
        if study.rows.usable:
            parts.append(study.rows.vectors)
        self._ends = np.cumsum([len(part) for part in parts])[:-1]
        self._all = np.concatenate(parts)
        self._ranked = RankedRDMs(self._all) if self.plain == "spearman" else None
        self._rows, self._columns = np.triu_indices(study.n_stimuli, 1)

    def prepare(self, count: NDArray[np.int64] | None = None) -> Prepared:
        """Return the prepared RDMs when each stimulus is drawn so often (once each when None); copies are dropped."""
        drawn = np.ones(self.study.n_stimuli, dtype=np.int64) if count is None else count
        weights = drawn[self._rows] * drawn[self._columns]
        pairs = np.flatnonzero(weights)
        values = self._all if self._ranked is None else self._ranked.centred(weights[None])[0]
        unit = unit_rows(values[:, pairs], weights[pairs].astype(np.float64), self.plain != "cosine")
        # A constant RDM has no correlation.
        unit[~unit.any(axis=1)] = np.nan
        sensor, *regions = np.split(unit, self._ends)
        models = regions.pop() if self.study.rows.usable else np.zeros((0, len(pairs)))
        shape = (*self.study.sensor.rdms.shape[:2], len(pairs))
        return Prepared(sensor.reshape(shape), regions, models, self.study.people, self.study.n_controls)
