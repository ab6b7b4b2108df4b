"""Decoders of a new person, from other people's recordings and from no or few runs of the person's own.

Every method returns a function from a run on the common grid to text features, as the refit's ridge does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from decoders.config import AcrossSettings
from decoders.decoding.across_align import (
    FOLDS,
    Floats,
    common_template,
    map_to_template,
    pieces,
    ridge_between,
)
from decoders.decoding.across_people import Common, Person, shared_rows, smooth_rows, smooth_run
from decoders.decoding.maps import run_folds
from decoders.decoding.refit import ALPHAS, answers
from decoders.errors import InputError
from decoders.models.ridge import fit_ridge

Decoder = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Given:
    """What is given of a new person.

    Attributes
    ----------
    person : Person
        The given runs; `voxels` by the gate with the prior, or the others' mean gate without any run.
    alone : array of int or None
        Voxels by the gate of the given runs alone; None without any.
    """

    person: Person
    alone: NDArray[np.int64] | None


def ridge_decoder(x: Sequence[Floats], targets: Sequence[Floats], lags: Sequence[int], fold: Sequence[int]) -> Decoder:
    """Fit the refit's ridge on runs of chosen voxels.

    Parameters
    ----------
    x : sequence of array of shape (n_volumes, n_features)
    targets : sequence of array of shape (n_volumes, n_targets)
    lags : sequence of int
    fold : sequence of int
        Inner fold of each run; with a single run, contiguous blocks of it.
    """
    rows = [answers(run, lags) for run in x]
    text = [run[: len(part)] for run, part in zip(targets, rows, strict=True)]
    if len(x) == 1:
        rows, text, fold = pieces(rows, FOLDS), pieces(text, FOLDS), range(FOLDS)
    inner = run_folds([len(part) for part in rows], np.asarray(fold))
    X = np.concatenate(rows)
    model = fit_ridge(X, np.concatenate(text).astype(X.dtype), ALPHAS, inner)
    return lambda run: model.predict(answers(run, lags))


def by_run(n: int, folds: int) -> list[int]:
    """Return interleaved folds over runs."""
    return [i % folds for i in range(n)]


class Others:
    """What other people's training runs say; each part is fitted when a method first asks for it.

    Parameters
    ----------
    people : sequence of Person
    prior : array of int
        Voxels by the others' mean gate.
    common : Common
    settings : AcrossSettings
    seed : int
        Of the shared network.
    """

    def __init__(
        self,
        people: Sequence[Person],
        prior: NDArray[np.int64],
        common: Common,
        settings: AcrossSettings,
        seed: int,
    ) -> None:
        self.people, self.prior, self.common, self.settings, self.seed = list(people), prior, common, settings, seed

    @cached_property
    def own(self) -> list[Decoder]:
        """The decoder of each person, from the voxels of the person's gate."""
        return [self._decoder_of(person) for person in self.people]

    def _decoder_of(self, person: Person) -> Decoder:
        x = [run[:, person.voxels] for run in person.x]
        return ridge_decoder(x, person.targets, self.common.lags, by_run(len(x), self.common.folds))

    @cached_property
    def pooled(self) -> Decoder:
        """One ridge of all people on the voxels of the mean gate, its penalty chosen by people left out."""
        runs = [(i, run) for i, person in enumerate(self.people) for run in person.x]
        targets = [run for person in self.people for run in person.targets]
        x = [self._smoothed(run)[:, self.prior] for _, run in runs]
        # Folds are people: what is asked is how well weights hold for another person.
        fold = [i for i, _ in runs] if len(self.people) > 1 else by_run(len(x), self.common.folds)
        decode = ridge_decoder(x, targets, self.common.lags, fold)
        return lambda run: decode(self._smoothed(run)[:, self.prior])

    @cached_property
    def space(self) -> tuple[Floats, Decoder]:
        """The time course of the common space in the runs that all heard, and the decoder that reads the space."""
        rows = shared_rows(self.people)
        _need_shared(rows[0], "hyperalignment")
        joined = [
            np.concatenate([person.x[i][:, person.voxels] for i in own])
            for person, own in zip(self.people, rows, strict=True)
        ]
        template = common_template(joined, self.settings.components)
        aligned, targets = [], []
        for person, turn in zip(self.people, template.maps, strict=True):
            aligned += [(run[:, person.voxels] @ turn).astype(np.float32) for run in person.x]
            targets += list(person.targets)
        return template.course, ridge_decoder(
            aligned, targets, self.common.lags, by_run(len(aligned), self.common.folds)
        )

    @cached_property
    def network(self):  # type: ignore[no-untyped-def]  # torch is imported late
        """The shared network."""
        from decoders.decoding.shared_decoder import Sizes
        from decoders.decoding.shared_training import train_shared

        n_grid, n_targets = self.people[0].x[0].shape[1], self.people[0].targets[0].shape[1]
        sizes = Sizes(n_grid, n_targets, self.settings.width, self.settings.hidden, self.common.lags)
        return train_shared(
            [person.x for person in self.people], [person.targets for person in self.people],
            [person.voxels for person in self.people], sizes, self.training, self.seed,
        )  # fmt: skip

    @property
    def training(self):  # type: ignore[no-untyped-def]
        """How the shared network is trained."""
        from decoders.decoding.shared_training import Training

        return Training(self.settings.epochs, self.settings.gradient_reversal, self.settings.pull)

    def smooth(self, maps: Floats) -> Floats:
        """Smooth maps of shape (n, n_voxels) in space."""
        return smooth_rows(maps, self.common.mask, self.settings.sigma_voxels)

    def _smoothed(self, run: Floats) -> Floats:
        return smooth_run(run, self.common.mask, self.settings.sigma_voxels)


def within(others: Others, given: Given) -> Decoder:
    """Read the voxels of the gate of the given runs alone, by a ridge fitted to them."""
    voxels = given.alone
    assert voxels is not None  # CONDITIONS: never without a run
    x = [run[:, voxels] for run in given.person.x]
    decode = ridge_decoder(x, given.person.targets, others.common.lags, by_run(len(x), others.common.folds))
    return lambda run: decode(run[:, voxels])


def pooled_grid(others: Others, given: Given) -> Decoder:
    """Read the new person as if it were any of the others, on the common grid."""
    del given
    return others.pooled


def ridge_to_reference(others: Others, given: Given) -> Decoder:
    """Predict each other person's voxels, read them by that person's decoder, and average what is read."""
    voxels, maps = given.person.voxels, []
    for person in others.people:
        own, theirs = shared_rows([given.person, person])
        _need_shared(own, "ridge_to_reference")
        x = [given.person.x[i][:, voxels] for i in own]
        maps.append(ridge_between(x, [person.x[i][:, person.voxels] for i in theirs]))
    decoders = others.own

    def decode(run: Floats) -> Floats:
        read = [decoder(to.predict(run[:, voxels])) for decoder, to in zip(decoders, maps, strict=True)]
        return np.asarray(np.mean(read, axis=0))

    # The decoders take the reference's own voxels, which is what the maps predict.
    return decode


def hyperalignment(others: Others, given: Given) -> Decoder:
    """Rotate the new person's components into the others' common space, and read that."""
    course, decode = others.space
    moments = [others.people[0].told[i] for i in shared_rows(others.people)[0]]
    ends = np.cumsum([0, *(moment[2] for moment in moments)])
    heard = [(i, moments.index(moment)) for i, moment in enumerate(given.person.told) if moment in moments]
    _need_shared([i for i, _ in heard], "hyperalignment")
    voxels = given.person.voxels
    x = np.concatenate([given.person.x[i][:, voxels] for i, _ in heard])
    turn = map_to_template(x, np.concatenate([course[ends[j] : ends[j + 1]] for _, j in heard]))
    return lambda run: decode((run[:, voxels] @ turn).astype(np.float32))


def shared(others: Others, given: Given) -> Decoder:
    """Read by the shared network: as the mean person, or with what the given runs say of the new one."""
    import torch

    from decoders.decoding.shared_training import add_person

    voxels, model = given.person.voxels, others.network
    person, front = None, None
    if given.person.x:
        model, person = add_person(
            model, given.person.x, given.person.targets, voxels, others.training, others.smooth, others.seed
        )
    else:
        front = model.mean_front(others.smooth)[torch.from_numpy(voxels)]

    def decode(run: Floats) -> Floats:
        with torch.no_grad():
            x = torch.from_numpy(np.ascontiguousarray(run[:, voxels], dtype=np.float32))
            return np.asarray(model(x, person, front).numpy())

    return decode


METHODS: dict[str, Callable[[Others, Given], Decoder]] = {
    "shared": shared, "ridge_to_reference": ridge_to_reference, "hyperalignment": hyperalignment,
    "pooled_grid": pooled_grid, "within": within,
}  # fmt: skip
NEED_RUNS = ("ridge_to_reference", "hyperalignment", "within")
WITHOUT_RUNS = ("pooled_grid",)


def possible(method: str, n_runs: int) -> bool:
    """Return whether a method reads a person of whom so many runs are given."""
    return method not in (WITHOUT_RUNS if n_runs else NEED_RUNS)


def _need_shared(runs: Sequence[int], method: str) -> None:
    if not len(runs):
        expected = f"runs of the same stories for {method}, which aligns people by what they heard"
        remedy = "Leave the method out of decoding.across.methods, or give more runs of the new person."
        raise InputError(expected, "no story that all of them heard", "decoding.across.methods", remedy)
