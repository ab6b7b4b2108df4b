"""The names study of one subject: every model, its nulls and controls, as tables and arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import NamesSettings
from decoders.decoding import names_scores as scores
from decoders.decoding.closed_form import DECIDERS
from decoders.decoding.names import (
    Samples,
    check_folds,
    closed_form_decisions,
    collect_samples,
    folds_of,
    permuted_labels,
)
from decoders.decoding.names_halves import halves_rows
from decoders.decoding.names_scores import Unit
from decoders.decoding.names_speller import half_split_agreement, leave_one_run_out, speller_options
from decoders.decoding.names_text import text_rows
from decoders.decoding.score_nulls import NULL, scores_frame, story_seeds
from decoders.decoding.speller_fit import SpellerOptions
from decoders.decoding.splits_names import Labels, declare_names
from decoders.errors import InputError
from decoders.stats.correction import holm
from decoders.stats.declared import Declaration, agreed
from decoders.stats.splits import Split
from decoders.stats.timed_runs import recorded
from decoders.store.arrays import Array
from decoders.store.recording import Recording
from decoders.store.tables import COLUMNS

Draw = Callable[..., np.random.Generator]
_REFIT = "labels permuted by block within runs, model refitted"
_RELABEL = "labels of the test runs permuted by block within runs, answers kept"
_MIN_HALVES = 4  # runs below which two halves cannot be trained


@dataclass
class NamesOutcome:
    """What the study found.

    Attributes
    ----------
    rows : list of dict
        Rows of the scores table; columns ``control_of`` (the model a control belongs to) and
        ``method`` (how null and p came about) beside the common ones.
    text : list of dict
        Rows of the text table.
    arrays : dict of str to Array
    attributes : dict
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    text: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def scores_table(self, subject: str) -> pd.DataFrame:
        """Return the scores; p is corrected by Holm over the models, units and seeds of each metric."""
        common = {"level": "subject", "subject": subject, "seed": np.nan, "null_mean": np.nan, "p": np.nan}
        extra = {"control_of": np.nan, "method": np.nan}
        table = scores_frame({**common, **extra, **row} for row in self.rows)
        # Accuracy and error rate are two readings of one claim, hence a family each.
        table["p_corrected"] = table.groupby("metric")["p"].transform(lambda p: holm(p.to_numpy(dtype=np.float64)))
        return table

    def text_table(self, subject: str) -> pd.DataFrame:
        """Return the decoded texts."""
        return pd.DataFrame([{"subject": subject, **row} for row in self.text], columns=list(COLUMNS["text"]))


def decode_names(
    recordings: Sequence[Recording],
    settings: NamesSettings,
    draw: Draw,
    log: logging.Logger,
    audited: Declaration | None = None,
) -> NamesOutcome:
    """Decode category names from the runs of one subject.

    Parameters
    ----------
    recordings : sequence of Recording
        All runs of the subject; those of other tasks than `settings.task` are left out.
    settings : NamesSettings
    draw : callable
        Returns a generator for some keys, as ``Job.rng`` does.
    log : Logger
    audited : Declaration, optional
        The splits of this subject that the leak audit has passed; they must be those of the recordings.

    Raises
    ------
    InputError
        Runs that cannot be decoded so, models that do not fit the split, or other splits than the audited ones.
    """
    wanted = [item for item in recordings if settings.task is None or item.task == settings.task]
    samples = collect_samples(wanted, settings.conditions, settings.lag_s)
    _check_models(settings)
    outcome = NamesOutcome(attributes={"names": list(samples.names), "runs": list(samples.runs)})
    if settings.split != "block_halves":
        check_folds(samples)
    folds = _folds(samples, wanted, settings, audited)
    if settings.split == "block_halves":
        halves_rows(samples, folds[0], settings, draw, outcome.rows, outcome.text, outcome.arrays)
        return outcome
    _Study(samples, folds, settings, draw, log, outcome).run(mask_of(wanted))
    return outcome


def _folds(
    samples: Samples, recordings: Sequence[Recording], settings: NamesSettings, audited: Declaration | None
) -> list[Split]:
    usable = [item for item in recordings if not item.excluded]
    runs = recorded(usable)
    own = declare_names(runs, [Labels(item.conditions, item.groups) for item in usable], settings)
    return folds_of(samples, agreed(own, audited, f"subject {usable[0].subject}").splits, runs)


def _check_models(settings: NamesSettings) -> None:
    halves = settings.split == "block_halves"
    wrong = [model for model in settings.models if (model == "nearest_pattern") != halves]
    if wrong:
        expected = "nearest_pattern with block_halves, and the other models with leave_one_run_out"
        found = f"{', '.join(wrong)} with {settings.split}"
        raise InputError(expected, found, "decoding.names.models", "Change the models or the split.")


def mask_of(recordings: Sequence[Recording]) -> NDArray[np.bool_] | int:
    """Return the voxels on the grid, or the number of features where there is no grid."""
    first = next(recording for recording in recordings if not recording.excluded)
    return first.mask if first.kind == "volume" and first.mask is not None else first.data.shape[1]


class _Study:
    """Leave one run out: the pieces share samples, permutations and the outcome they fill."""

    def __init__(
        self,
        samples: Samples,
        folds: Sequence[Split],
        settings: NamesSettings,
        draw: Draw,
        log: logging.Logger,
        outcome: NamesOutcome,
    ) -> None:
        self.samples, self.folds, self.settings, self.draw = samples, folds, settings, draw
        self.log, self.outcome = log, outcome
        self.items = {unit: scores.items_of(samples, unit) for unit in settings.units}
        self.permuted = self._dealt(settings.n_permutations, "permutations")

    def run(self, mask: NDArray[np.bool_] | int) -> None:
        """Fill the outcome, model by model."""
        for model in self.settings.models:
            if model in DECIDERS:
                self._closed_form(model)
        if "speller" in self.settings.models:
            for seed in self.settings.seeds:
                self._speller(mask, seed)
        self._chance_rows()

    def _closed_form(self, model: str) -> None:
        labels = np.vstack([self.samples.label, self.permuted])
        decisions = closed_form_decisions(self.samples, labels, DECIDERS[model], self.folds)
        for unit, items in self.items.items():
            decoded = scores.chosen(decisions, self.samples, unit)
            truths = self._truths(unit)
            self._add_rows(model, unit, decoded[0], (truths, decoded[1:]), _REFIT)
            for metric in scores.METRICS:
                self._null_row(model, unit, metric, scores.null_scores(items, truths, decoded[1:], metric))
        self._add_text(model, decisions[0])

    def _speller(self, mask: NDArray[np.bool_] | int, seed: int) -> None:
        options = speller_options(self.settings, mask)
        key = int(self.draw("names", "speller", seed).integers(2**31 - 1000))
        self.log.info("speller, seed %d: %d runs in turn", seed, len(np.unique(self.samples.run)))
        result = leave_one_run_out(self.samples, self.samples.label, mask, options, key, self.folds)
        shuffled = self._dealt(1, "shuffled", seed)[0]
        self.log.info("speller, seed %d: the same with shuffled labels", seed)
        control = leave_one_run_out(self.samples, shuffled, mask, options, key, self.folds)
        for unit in self.settings.units:
            decoded = scores.chosen(result.decisions, self.samples, unit)
            truths = self._truths(unit)
            kept = np.broadcast_to(decoded, truths.shape)
            self._add_rows("speller", unit, decoded, (truths, kept), _RELABEL, seed)
            self._greedy_rows(unit, result.volume_text if unit == "volume" else result.block_text, seed)
            self._shuffled_rows(unit, shuffled, control.decisions, seed)
        self._add_text("speller", result.decisions)
        self._gate(result.openness, result.nats, mask, options, key, shuffled, seed)

    def _dealt(self, n: int, *keys: str | int) -> scores.Labels:
        """Return labellings (n, n_volumes) of the runs by their labels: dealt alike in everybody."""
        seeds = story_seeds(lambda *more: self.draw("names", *keys, *more), self.samples.runs)
        return permuted_labels(self.samples, n, seeds)

    def _truths(self, unit: Unit) -> scores.Labels:
        """Return the permuted labels of the items of a unit, (n_permutations, n_items)."""
        return self.permuted[:, self.samples.first] if unit == "block" else self.permuted

    def _greedy_rows(self, unit: Unit, texts: Sequence[str], seed: int) -> None:
        """Add the scores of what the speller writes character by character."""
        items = self.items[unit]
        spelled = np.array([self.samples.names.index(text) for text in texts], dtype=np.int64)
        for metric in scores.METRICS:
            rng = self.draw("names", "bootstrap", "greedy", unit, metric)
            row = scores.score_row(items, spelled, metric, None, rng)
            note = {"metric": f"greedy_{metric}", "seed": seed, "method": "spelled greedily within the trie"}
            self._add(unit, "speller", {**row, **note})

    def _add_rows(
        self,
        model: str,
        unit: Unit,
        decoded: scores.Labels,
        null: tuple[scores.Labels, scores.Labels],
        method: str,
        seed: float = np.nan,
    ) -> None:
        items = self.items[unit]
        for metric in scores.METRICS:
            draws = scores.null_scores(items, *null, metric) if len(null[0]) else None
            row = scores.score_row(items, decoded, metric, draws, self.draw("names", "bootstrap", model, unit, metric))
            note = method if draws is not None else np.nan
            self._add(unit, model, {**row, "seed": seed, "method": note})
        counts = scores.confusion(items, decoded)
        name = f"confusion/{model}_{unit}" + ("" if np.isnan(seed) else f"_seed-{seed:.0f}")
        self.outcome.arrays[name] = Array(counts, ("reference", "decoded"), "count")

    def _add(self, unit: Unit, model: str, row: dict[str, Any]) -> None:
        self.outcome.rows.append({"split": "leave_one_run_out", "task": unit, "model": model, **row})

    def _null_row(self, model: str, unit: Unit, metric: str, draws: NDArray[np.float64]) -> None:
        if not len(draws):
            return
        low, high = np.quantile(draws, [0.025, 0.975])
        row = {"metric": metric, "score": draws.mean(), "ci_low": low, "ci_high": high}
        row["n"] = len(self.items[unit].label)
        method = f"mean and central 95 % of {len(draws)} permutations"
        self._add(unit, "control:shuffled", {**row, "control_of": model, "method": method, NULL: draws})

    def _shuffled_rows(self, unit: Unit, labels: scores.Labels, decisions: NDArray[np.float64], seed: int) -> None:
        """Add the rows of the speller that was trained and tested on shuffled labels."""
        truth = labels[self.samples.first] if unit == "block" else labels
        items = self.items[unit]
        shuffled = scores.Items(truth, items.run, items.distance, items.length)
        decoded = scores.chosen(decisions, self.samples, unit)
        for metric in scores.METRICS:
            rng = self.draw("names", "bootstrap", "shuffled", unit, metric)
            row = scores.score_row(shuffled, decoded, metric, None, rng)
            note = {"seed": seed, "control_of": "speller", "method": "one labelling, model refitted"}
            self._add(unit, "control:shuffled", {**row, **note})

    def _chance_rows(self) -> None:
        for unit, items in self.items.items():
            constant = scores.constant_name(items)
            for metric, expected in scores.random_name_scores(items).items():
                rng = self.draw("names", "bootstrap", "constant", unit, metric)
                row = scores.score_row(items, constant, metric, None, rng)
                row["method"] = "the name with the smallest error rate on the training runs"
                self._add(unit, "control:constant_name", row)
                row = {"metric": metric, "score": expected, "ci_low": np.nan, "ci_high": np.nan, "n": len(items.label)}
                self._add(unit, "control:random_name", {**row, "method": "expectation over all names"})

    def _add_text(self, model: str, decisions: NDArray[np.float64]) -> None:
        """Add the likeliest name of each block (of each volume where blocks are not decoded)."""
        unit: Unit = "block" if "block" in self.settings.units else "volume"
        decoded = [self.samples.names[i] for i in scores.chosen(decisions, self.samples, unit)]
        self.outcome.text.extend(text_rows(self.samples, unit, decoded, model))

    def _gate(
        self,
        openness: NDArray[np.float64],
        nats: NDArray[np.float64],
        mask: NDArray[np.bool_] | int,
        options: SpellerOptions,
        key: int,
        shuffled: scores.Labels,
        seed: int,
    ) -> None:
        arrays, name = self.outcome.arrays, f"gate_seed-{seed}"
        arrays[f"{name}/m"] = Array(openness, ("fold", "voxel"))
        arrays[f"{name}/m_mean"] = Array(openness.mean(axis=0), ("voxel",))
        arrays[f"{name}/nats"] = Array(nats, ("fold",), "nat")
        record: dict[str, Any] = {
            "nats_mean": float(nats.mean()),
            "nats_at_start": float(np.log(2) - 0.25) * openness.shape[1],
            "open_share": float((openness > 0.5).mean()),
            "nats_are": "an upper bound of the information passed per volume",
            "head": options.head,
        }
        if len(np.unique(self.samples.run)) >= _MIN_HALVES:
            self.log.info("speller, seed %d: gates of disjoint halves of the runs", seed)
            for label, labels in (("halves", self.samples.label), ("halves_shuffled", shuffled)):
                found = half_split_agreement(self.samples, labels, mask, options, key)
                record |= {f"{label}_rho": found.rho, f"{label}_dice": found.dice}
        self.outcome.attributes[name] = record
