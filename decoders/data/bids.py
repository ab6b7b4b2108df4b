"""From a BIDS folder, raw or fMRIPrep-style derivatives, to the runs of the manifest."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from decoders.config import DataSettings
from decoders.data.entities import BidsName
from decoders.data.images import image_header
from decoders.data.manifest import Modality, Run, relative_root
from decoders.data.sensors import sensor_runs
from decoders.data.sources import GRAYORDINATES, SURFACES, VOLUMES, Source, find_recordings, open_source
from decoders.data.stimulus import Stimulus, find_stimulus
from decoders.data.tree import BidsFile, Tree, metadata, refuse_two, repetition_time
from decoders.errors import InputError

# Entities that tell derivatives of one recording apart, not recordings.
_OF_DERIVATIVES = ("space", "res", "den", "hemi", "desc")
_log = logging.getLogger("corticode")


def read_bids(settings: DataSettings) -> list[Run]:
    """Return the runs of a BIDS folder that the settings ask for.

    Parameters
    ----------
    settings : DataSettings
        `root`, `derivatives`, `subjects`, `sessions`, `tasks` and `space` are used. With `derivatives`,
        their preprocessed images are read in place of the raw ones; MEG and EEG are always read raw.

    Raises
    ------
    InputError
        Nothing fits the filters; a name is not BIDS; two files claim one run; a repetition time is
        stated nowhere; an image or recording cannot be read; a stimulus file is missing or outside the folder.
    """
    source = open_source(settings)
    groups: dict[str, list[BidsFile]] = defaultdict(list)
    images, sensors = find_recordings(source, settings)
    for file in images:
        groups[_run_key(file.name)].append(file)
    runs = [_run(source, files) for _, files in sorted(groups.items())] + sensor_runs(source, sensors)
    _report(source, runs)
    return runs


def _run_key(name: BidsName) -> str:
    """Return what makes a recording: its entities; run-1 and run-01 are the same."""
    kept = {key: label for key, label in name.entities.items() if key not in (*_OF_DERIVATIVES, "part")}
    if kept.get("run", "").isdigit():
        kept["run"] = str(int(kept["run"]))
    return "_".join(f"{key}-{label}" for key, label in kept.items())


def _run(source: Source, files: list[BidsFile]) -> Run:
    tree = source.derived or source.raw
    first, modality = files[0], _modality(tree, files)
    recorded = BidsFile(first.path, first.name.without(*_OF_DERIVATIVES, "part"))
    tr, sidecar = _timing(source, first, recorded)
    header = image_header([tree.root / file.path for file in files])
    events = source.raw.nearest(_in_raw(source, recorded), "events", ".tsv")
    stimulus = _stimulus(source, events)
    name = recorded.name
    return Run(
        run_id="_".join(f"{key}-{label}" for key, label in name.entities.items()),
        subject=name.get("sub"),
        session=name.get("ses"),
        task=name.get("task"),
        run=name.get("run"),
        modality=modality,
        root=relative_root(source.root),
        image=";".join(source.relative(tree, file) for file in files),
        mask=_mask(source, first) if modality == "bold" else "",
        sidecar=sidecar,
        events=source.relative(source.raw, events),
        confounds=_confounds(source, recorded),
        text=stimulus.text,
        stimulus=stimulus.name,
        truth=_truth(source, recorded),
        tr=tr,
        n_volumes=header.n_volumes,
        start_time=stimulus.start_time,
        space=first.name.get("space"),
        sha256=header.sha256,
    )


def _modality(tree: Tree, files: list[BidsFile]) -> Modality:
    """Check that the files of a run belong together, in place: hemispheres are ordered L, R."""
    where = tree.root / files[0].path
    surfaces = [file for file in files if file.name.extension in SURFACES]
    if len(surfaces) == len(files):
        files.sort(key=lambda file: file.name.get("hemi"))
        hemispheres = [file.name.get("hemi") for file in files]
        if hemispheres == ["L", "R"]:
            return "surface"
        if len(set(hemispheres)) == len(hemispheres):
            remedy = "Add the other hemisphere's file."
            raise InputError("both hemispheres (hemi-L and hemi-R)", f"{', '.join(hemispheres)}", where, remedy)
    if len(files) > 1:
        refuse_two(files[0].path, files[1].path, tree.root)
    return "surface" if files[0].name.extension in GRAYORDINATES else "bold"


def _timing(source: Source, image: BidsFile, recorded: BidsFile) -> tuple[float, str]:
    """Return the repetition time and the sidecar that states it: the image's own, else the raw one's."""
    for tree, target in ((source.derived, image), (source.raw, _in_raw(source, recorded))):
        if tree is None:
            continue
        values, sidecar = metadata(tree, target)
        if sidecar:
            path = BidsFile(sidecar, BidsName())
            return repetition_time(values, tree.root / sidecar), source.relative(tree, path)
    tree = source.derived or source.raw
    remedy = (
        "Add the sidecar: a JSON file of the same name, or task-<label>_bold.json beside the subjects, "
        'with {"RepetitionTime": seconds}.'
    )
    raise InputError("a sidecar that states RepetitionTime", "none", tree.root / image.path, remedy)


def _in_raw(source: Source, recorded: BidsFile) -> BidsFile:
    """Return the raw image that a derivative comes from, as far as names tell."""
    folder = f"sub-{recorded.name.get('sub')}"
    session = recorded.name.get("ses")
    path = "/".join([folder, *([f"ses-{session}"] if session else []), "func", "image"])
    return recorded if source.derived is None else BidsFile(path, recorded.name)


def _stimulus(source: Source, events: BidsFile | None) -> Stimulus:
    if events is None:
        return Stimulus("", "", math.nan)
    return find_stimulus(source.raw.root, source.raw.root / events.path, source.root)


def _mask(source: Source, image: BidsFile) -> str:
    if source.derived is not None:
        masks = [
            file
            for file in source.derived.find("mask", *VOLUMES)
            if file.name.get("desc") == "brain" and file.name.without("desc").applies_to(image.name)
        ]
        same = [file for file in masks if file.name.get("space") == image.name.get("space")]
        return source.relative(source.derived, _most_specific(same))
    return _planted_mask(source, image)


def _planted_mask(source: Source, image: BidsFile) -> str:
    found = [file for file in source.planted.find("mask", *VOLUMES) if file.name.get("desc") == "brain"]
    return source.relative(source.planted, _most_specific(_applying(found, image)))


def _truth(source: Source, recorded: BidsFile) -> str:
    """Return the planted truth of a run: an image below derivatives/truth that is not the brain mask."""
    found = [
        file
        for suffix in ("mask", "statmap", "dseg")
        for file in source.planted.find(suffix, *VOLUMES)
        if file.path.startswith("derivatives/truth/") and file.name.get("desc") != "brain"
    ]
    return source.relative(source.planted, _most_specific(_applying(found, recorded)))


def _applying(files: list[BidsFile], image: BidsFile) -> list[BidsFile]:
    return [file for file in files if file.name.without("desc", "space").applies_to(image.name)]


def _most_specific(files: list[BidsFile]) -> BidsFile | None:
    """Return the file with most entities; of equals, the first."""
    return max(files, key=lambda file: len(file.name.without("desc").entities), default=None)


def _confounds(source: Source, recorded: BidsFile) -> str:
    if source.derived is None:
        return ""
    tables = source.derived.find("timeseries", ".tsv") + source.derived.find("regressors", ".tsv")
    found = [
        file
        for file in tables
        if file.name.get("desc") == "confounds" and _run_key(file.name) == _run_key(recorded.name)
    ]
    if len(found) > 1:
        refuse_two(found[0].path, found[1].path, source.derived.root)
    return source.relative(source.derived, found[0] if found else None)


def _report(source: Source, runs: Sequence[Run]) -> None:
    subjects = {run.subject for run in runs}
    if source.derived is None and any(run.modality == "bold" for run in runs):
        _log.info("Raw data stay in their native space: group maps need fMRIPrep-style derivatives (data.derivatives).")
    if not (source.raw.root / "dataset_description.json").exists():
        _log.warning("%s: no dataset_description.json, so it is not valid BIDS; read as it is.", source.raw.root)
    missing = sorted(_participants(source.raw.root) - {file.name.get("sub") for file in source.raw.files})
    if missing:
        _log.warning("%s: participants.tsv lists %s, who have no files here.", source.raw.root, ", ".join(missing))
    _log.info("%d subjects.", len(subjects))


def _participants(root: Path) -> set[str]:
    path = root / "participants.tsv"
    if not path.exists():
        return set()
    remedy = "Correct the table; its first column is participant_id."
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError("a tab-separated table", f"'{error}'", path, remedy) from error
    if "participant_id" not in table:
        raise InputError("the column participant_id", f"{', '.join(map(str, table.columns))}", path, remedy)
    return {label.removeprefix("sub-") for label in table["participant_id"]}
