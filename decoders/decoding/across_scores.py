"""Scores of decoders of new people, beside their controls, and what they gain over the person's own runs.

Windows, nulls and metrics are those of the refit (`decoders.decoding.refit`). Controls of every method: trained on
shuffled texts, the decoded word rate alone, and time-shifted text. ``control:other_subject`` belongs to all methods:
each other person's own decoder reads the new person's recording as it is, without any adaptation; the mean over
these people is given. What a method adds to that is its way from one brain to another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.across_methods import METHODS, Decoder, Given, Others, possible
from decoders.decoding.across_people import Floats
from decoders.decoding.identification import Identified
from decoders.decoding.refit import N_NULLS, Score, identification_scores, over_windows, shifted_row, window_row
from decoders.decoding.splits_across import Amount, condition

METHOD = f"one-sided; {N_NULLS} circular shifts of the text, answers kept"
METRICS = ("percentile", "top1")
Rng = Callable[..., np.random.Generator]


@dataclass(frozen=True)
class HeldOut:
    """The held-out runs of a new person.

    Attributes
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
    targets : sequence of array of shape (n_volumes, n_targets)
    length : int
        Volumes per window.
    seeds : sequence of int
        Of the shifts of each run, as `story_seeds` returns them.
    """

    x: Sequence[Floats]
    targets: Sequence[Floats]
    length: int
    seeds: Sequence[int]

    def read(self, decode: Decoder) -> list[Floats]:
        """Return what a decoder reads in every run."""
        return [decode(run) for run in self.x]

    def scores(self, decoded: Sequence[Floats], rng: np.random.Generator) -> Scores:
        """Score decoded runs."""
        return identification_scores(decoded, self.targets, self.length, rng, self.seeds)

    def word_rate(self, decoded: Sequence[Floats], rng: np.random.Generator) -> Scores:
        """Score the decoded word count (the first feature) alone."""
        counts = [run[:, :1] for run in self.targets]
        return identification_scores([run[:, :1] for run in decoded], counts, self.length, rng, self.seeds)


Scores = tuple[dict[str, Score], Identified]


@dataclass(frozen=True)
class Read:
    """The scores of one amount of given runs.

    Attributes
    ----------
    amount : int or "all"
    models : dict of str to Scores
        By method.
    controls : dict of (control, method) to dict of metric to Score
        ``other_subject`` has no method.
    """

    amount: Amount
    models: dict[str, Scores]
    controls: dict[tuple[str, str], dict[str, Score]]


def read_new_person(
    others: Others, null: tuple[Others, Given], given: Given, test: HeldOut, methods: Sequence[str], amount: Amount,
    rng: Rng,
) -> Read:  # fmt: skip
    """Decode the held-out runs by every method that the amount of given runs allows, and by its controls.

    Parameters
    ----------
    others : Others
    null : tuple of (Others, Given)
        The same recordings with shuffled texts.
    given : Given
    test : HeldOut
    methods : sequence of str
        Keys of `METHODS`.
    amount : int or "all"
    rng : callable
        Returns a generator from keys.
    """
    models: dict[str, Scores] = {}
    controls = {("other_subject", ""): unadapted(others, test, rng("other_subject", str(amount)))}
    for method in methods:
        if not possible(method, len(given.person.x)):
            continue
        decoded = test.read(METHODS[method](others, given))
        shuffled = test.read(METHODS[method](*null))
        models[method] = test.scores(decoded, rng(method, str(amount)))
        controls["shuffled", method] = test.scores(shuffled, rng("shuffled", method, str(amount)))[0]
        controls["word_rate", method] = test.word_rate(decoded, rng("word_rate", method, str(amount)))[0]
    return Read(amount, models, controls)


def unadapted(others: Others, test: HeldOut, rng: np.random.Generator) -> dict[str, Score]:
    """Score what each other person's own decoder reads in the new person's recording as it is; the mean over people."""
    found: list[Scores] = []
    for person, decode in zip(others.people, others.own, strict=True):
        found.append(test.scores([decode(run[:, person.voxels]) for run in test.x], rng))
    windows = {
        "percentile": np.mean([identified.percentile for _, identified in found], axis=0),
        "top1": np.mean([identified.correct for _, identified in found], axis=0),
    }
    return {
        metric: over_windows(windows[metric], np.mean([scores[metric].null for scores, _ in found], axis=0), rng)
        for metric in METRICS
    }


def score_rows(read: Read, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the decoding table; controls of one method name it in ``control_of``.

    Parameters
    ----------
    read : Read
    about : dict
        ``subject``, ``seed`` and ``task``.
    """
    about = {**about, "split": condition(read.amount)}
    rows = []
    for model, (scores, _) in read.models.items():
        for metric, score in scores.items():
            rows.append({**window_row(about, model, metric, score, METHOD), "control_of": np.nan})
            rows.append({**shifted_row(about, metric, score), "control_of": model})
    for (control, model), found in read.controls.items():
        for metric, score in found.items():
            row = window_row(about, f"control:{control}", metric, score, METHOD)
            rows.append({**row, "control_of": model or np.nan})
    return rows


def windows_of(read: Read) -> dict[str, NDArray[np.float64]]:
    """Return the scores of each window, which gains are made of, by ``windows/<split>/<model>/<metric>``."""
    found = {}
    for model, (_, identified) in read.models.items():
        for metric, windows in (("percentile", identified.percentile), ("top1", identified.correct)):
            found[f"windows/{condition(read.amount)}/{model}/{metric}"] = windows
    return found
