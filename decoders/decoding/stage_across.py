"""The stage ``across``: decode a subject and a story that no decoder has seen, from no or few runs of the subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import AcrossSettings, VoxelMapSettings
from decoders.data.manifest import read_manifest, select_runs
from decoders.decoding import maps
from decoders.decoding.across_methods import Given, Others
from decoders.decoding.across_people import Common, Floats, Gates, Person, few_shot_gates
from decoders.decoding.across_scores import HeldOut, Read, read_new_person, score_rows, windows_of
from decoders.decoding.bottleneck import lags_in_volumes
from decoders.decoding.common_grid import common_mask, on_common_grid, on_grid
from decoders.decoding.listening import planted_voxels, text_targets, words_embedding
from decoders.decoding.score_nulls import scores_frame, story_seeds, write_nulls
from decoders.decoding.splits_across import SETTING, Amount, declare_across, fold_name
from decoders.decoding.splits_voxels import LEARNT, TEXT_SCALING
from decoders.decoding.stage_encode import runs_with_words
from decoders.decoding.stage_voxels import WINDOW_S
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stats.declared import Declaration, DeclaredSplit, agreed, read_audited
from decoders.stats.timed_runs import by_subject, recorded
from decoders.stimuli.features import zscore_runs
from decoders.stimuli.timings import words_by_stimulus
from decoders.store.arrays import Array, Arrays, read_arrays, write_arrays
from decoders.store.recording import Recording, read_recording
from decoders.store.tables import COLUMNS, read_table, write_table


def run(job: Job) -> None:
    """Write the scores of one held-out subject, the recovery of its gates, and what group scores are made of."""
    subject = job.labels["subject"]
    study = _Study(job)
    new, others, test = study.people(subject)
    prior = np.mean([study.logits[name] for name in study.logits if name != subject], axis=0)
    reads, recovered = [], []
    arrays: dict[str, Floats] = {}
    for amount in study.settings.few_shot:
        given = new.first(len(new.x) if amount == "all" else amount)
        gates = _gates(study, given, prior, amount, subject)
        chosen = Given(
            replace(given, voxels=study.select(gates.found)), None if gates.alone is None else study.select(gates.alone)
        )
        read = _read(study, others, chosen, prior, test, amount, subject)
        reads.append(read)
        recovered += _recovery(gates, amount, study.planted(subject))
        arrays |= {f"gate/{amount}_runs": gates.found}
        for model, (scores, _) in read.models.items():
            job.log.info(
                "sub-%s, %s runs given, %s: percentile %.3f", subject, amount, model, scores["percentile"].score
            )
    about = {"subject": subject, "seed": job.seed, "task": f"window_{WINDOW_S:g}s"}
    rows = [row for read in reads for row in score_rows(read, about)]
    write_table(job.outputs["scores"], scores_frame(rows), "decoding_scores")
    write_nulls(job.outputs["nulls"], rows, subject)
    write_table(job.outputs["recovery"], _recovery_table(recovered, study, subject), "recovery")
    _write(job.outputs["arrays"], reads, arrays, study, len(new.x), subject)


class _Study:
    """The recordings of all subjects on their common grid, with their audited splits and voxel maps."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.settings: AcrossSettings = job.settings.decoding.across
        # What the stage declared of the block; nothing else of it is read.
        self.voxels = VoxelMapSettings.model_validate(job.settings.decoding.voxels.values)
        self.words = words_by_stimulus(read_table(job.input("words"), text_columns=("stimulus", "word", "text")))
        found = [read_recording(path) for path in job.inputs["recording"]]
        grouped: dict[str, list[Recording]] = {}
        for recording in found:
            grouped.setdefault(recording.subject, []).append(recording)
        self.recordings = [
            run for own in grouped.values() for run in runs_with_words(own, self.voxels.task, self.words)
        ]
        self.declared = self._audited()
        mask = _grid_of_all(self.recordings)
        tr = self.recordings[0].tr
        self.common = Common(mask, tr, lags_in_volumes(tr), self.voxels.folds)
        self.number = {run.key: i for i, run in enumerate(recorded(self.recordings))}
        self.logits = self._logits()
        self.kept: dict[bool, Others] = {}

    def _audited(self) -> Declaration:
        runs = list(by_subject(recorded(self.recordings)).values())
        audited = read_audited(self.job.input("splits"), self.job.input("leaks"))
        learnt = audited.splits[0].corpora[0]
        own = declare_across(runs, self.voxels, self.settings, sorted(self.words), learnt)
        return agreed(own, audited, "decoding across subjects")

    def _logits(self) -> dict[str, Floats]:
        """Return every subject's gate map on the common grid, from the stage ``voxels``."""
        found: dict[str, Floats] = {}
        for path in self.job.inputs["maps"]:
            arrays = read_arrays(path)
            subject = str(arrays.attributes["subject"])
            self._check_maps(path, arrays, subject)
            found[subject] = _on_grid(arrays, self.common.mask, path)
        missing = {run.subject for run in self.recordings} - set(found)
        if missing:
            remedy = "Run the stage 'voxels' of every subject first."
            raise InputError("the voxel maps of all subjects", f"none of {min(missing)}", SETTING, remedy)
        return found

    def _check_maps(self, path: Path, arrays: Arrays, subject: str) -> None:
        """Refuse gates that were trained on other runs than the split says."""
        for split in self.declared.splits:
            expected = [rows.run for rows in split.train if self._subject(rows.run) == subject]
            if expected and list(arrays.attributes.get("trained") or ()) != expected:
                found = f"a gate of {arrays.attributes.get('trained')}"
                remedy = "Delete the file and run again: it was made from other runs."
                raise InputError(f"the gate of the training runs of subject {subject}", found, path, remedy)

    def _subject(self, key: str) -> str:
        return self.recordings[self.number[key]].subject

    def people(self, subject: str) -> tuple[Person, list[Person], HeldOut]:
        """Return the held-out subject with all runs that may be given, the others, and the held-out runs."""
        splits = {split.name: split for split in self.declared.splits}
        split = splits[fold_name(subject, self.settings.few_shot[0])]
        scaled = [self.number[rows.run] for rows in split.rows(split.fit("scaling", TEXT_SCALING).on)]
        texts = self._targets(subject, split)
        targets = [run.astype(np.float32) for run in zscore_runs(texts, scaled)]
        x = on_common_grid(self.recordings, self.common.mask)
        tested = [self.number[rows.run] for rows in split.test]
        mine = [i for i, run in enumerate(self.recordings) if run.subject == subject and i not in tested]
        theirs: dict[str, list[int]] = {}
        for rows in split.train:
            theirs.setdefault(self._subject(rows.run), []).append(self.number[rows.run])

        def person(name: str, numbers: Sequence[int]) -> Person:
            told = [(r.stimulus, float(r.time[0]), len(r.time)) for r in (self.recordings[i] for i in numbers)]
            voxels = self.select(self.logits[name])
            return Person([x[i] for i in numbers], [targets[i] for i in numbers], told, voxels)

        seeds = story_seeds(self.job.rng, [self.recordings[i].stimulus for i in tested])
        test = HeldOut([x[i] for i in tested], [targets[i] for i in tested], round(WINDOW_S / self.common.tr), seeds)
        return person(subject, mine), [person(name, numbers) for name, numbers in theirs.items()], test

    def _targets(self, subject: str, split: DeclaredSplit) -> list[NDArray[np.float64]]:
        rows = select_runs(read_manifest(self.job.input("manifest")), subject=subject)
        vectors = self.job.input("vectors") if self.voxels.features in LEARNT else None
        given = (self.voxels, rows, self.words, split.corpora[0], self.job.input("manifest"), vectors)
        embedding = words_embedding(*given)
        return text_targets(self.recordings, self.words, embedding)

    def select(self, logits: Floats) -> NDArray[np.int64]:
        """Return the share of voxels that decoders read."""
        return maps.top_share(logits, self.voxels.select_share)

    def planted(self, subject: str) -> NDArray[np.bool_] | None:
        """Return the planted voxels of a subject of a phantom."""
        rows = select_runs(read_manifest(self.job.input("manifest")), subject=subject)
        return planted_voxels(rows, [r for r in self.recordings if r.subject == subject], self.common.mask)


def _grid_of_all(recordings: Sequence[Recording]) -> NDArray[np.bool_]:
    """Return the voxels that all subjects have."""
    if recordings and not on_grid(recordings):
        remedy = "Set preprocess.representation to 'volume': subjects are compared place by place."
        raise InputError("runs of volumes on a voxel grid", "regions or a surface", SETTING, remedy)
    try:
        return common_mask(recordings, SETTING)
    except InputError as error:
        remedy = "Bring all subjects to one space, as fMRIPrep does (data.space), and choose one protocol."
        raise InputError("recordings of all subjects on one grid", str(error), SETTING, remedy) from error


def _on_grid(arrays: Arrays, mask: NDArray[np.bool_], path: Path) -> Floats:
    own = arrays["mask"].astype(bool)
    if own.shape != mask.shape or (mask & ~own).any():
        found = f"a map of {own.sum()} voxels on {own.shape}"
        remedy = "Delete the file and run again: it was made from other recordings."
        raise InputError(f"a gate on the common grid {mask.shape}", found, path, remedy)
    volume = np.zeros(mask.shape, dtype=np.float32)
    volume[own] = arrays["gate/logits"]
    return volume[mask]


def _gates(study: _Study, given: Person, prior: Floats, amount: Amount, subject: str) -> Gates:
    seed = study.job.torch_seed("gate", subject)
    # From all its runs the subject's own gate is there already.
    alone = study.logits[subject] if amount == "all" else None
    return few_shot_gates(given, prior, study.common, study.voxels, study.settings.gate_prior, seed, alone)


def _read(
    study: _Study, people: Sequence[Person], given: Given, prior: Floats, test: HeldOut, amount: Amount, subject: str
) -> Read:
    others = _others(study, people, prior, subject, False)
    null = _others(study, people, prior, subject, True)
    rng = study.job.rng("null few shot", subject, str(amount))
    rolled = replace(given, person=given.person.with_null_text(rng) if given.person.x else given.person)
    return read_new_person(
        others, (null, rolled), given, test, study.settings.methods, amount,
        lambda *keys: study.job.rng("across", subject, *keys),
    )  # fmt: skip


def _others(study: _Study, people: Sequence[Person], prior: Floats, subject: str, null: bool) -> Others:
    """Return what the others say; of one job the same object, so that nothing is fitted twice."""
    if null not in study.kept:
        rng = study.job.rng("null others", subject)
        chosen = [person.with_null_text(rng) for person in people] if null else people
        seed = study.job.torch_seed("shared", subject)
        study.kept[null] = Others(chosen, study.select(prior), study.common, study.settings, seed)
    return study.kept[null]


def _recovery(gates: Gates, amount: Amount, planted: NDArray[np.bool_] | None) -> list[dict[str, Any]]:
    if planted is None:
        return []
    named = {"gate_alone": gates.alone, "gate_with_prior": gates.found} if gates.alone is not None else {}
    rows = []
    for name, values in (named or {"gate_prior": gates.prior}).items():
        assert values is not None
        auc, ap = maps.recovery(values, planted)
        rows.append({"map": name, "auc": auc, "ap": ap, "runs": str(amount)})
    return rows


def _recovery_table(rows: Sequence[Mapping[str, Any]], study: _Study, subject: str) -> pd.DataFrame:
    phantom = study.job.settings.data.phantom
    about: dict[str, Any] = {"seed": np.nan, "grid": "n/a", "r0": np.nan}
    if phantom is not None:
        about = {"seed": phantom.seed, "grid": "x".join(map(str, phantom.grid)), "r0": phantom.r0}
    columns = [*COLUMNS["recovery"], "subject", "features", "runs"]
    found = [{**about, "subject": subject, "features": study.voxels.features, **row} for row in rows]
    return pd.DataFrame(found, columns=columns)


def _write(
    path: Path, reads: Sequence[Read], gates: Mapping[str, Floats], study: _Study, n_runs: int, subject: str
) -> None:
    arrays = {name: Array(values, ("voxel",)) for name, values in gates.items()}
    for read in reads:
        for name, values in windows_of(read).items():
            arrays[name] = Array(values, (name.split("/")[0],))
    minutes = study.common.tr * len(study.recordings[0].data) / 60
    about = {"subject": subject, "all_runs": n_runs, "minutes_per_run": minutes}
    write_arrays(path, arrays, about)
