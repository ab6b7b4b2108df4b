"""From a BIDS folder to the MEG and EEG runs of the manifest."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from decoders.data.entities import BidsName
from decoders.data.manifest import Modality, Run, relative_root
from decoders.data.raw_files import RawHeader, raw_header
from decoders.data.sensor_files import EMPTY_ROOM, NOISE_TASKS, empty_rooms, recordings
from decoders.data.sources import Source
from decoders.data.stimulus import Stimulus, find_stimulus
from decoders.data.tree import BidsFile, Tree, refuse_two
from decoders.errors import InputError

_log = logging.getLogger("corticode")


def sensor_runs(source: Source, files: Sequence[BidsFile]) -> list[Run]:
    """Return the runs of some recordings.

    Parameters
    ----------
    source : Source
    files : sequence of BidsFile
        As `sensor_files` returns them; the parts of a split FIF are joined.

    Raises
    ------
    InputError
        A recording cannot be opened, lacks a part of it, or two files claim one run; an empty-room recording that
        a sidecar names is missing.
    """
    groups: dict[tuple[str, str], list[BidsFile]] = defaultdict(list)
    for file in files:
        groups[_run_id(file.name), file.name.suffix].append(file)
    return [_run(source, parts) for _, parts in sorted(groups.items())]


def _run_id(name: BidsName) -> str:
    kept = name.without("split")
    return "_".join([*(f"{key}-{label}" for key, label in kept.entities.items()), kept.suffix])


def _run(source: Source, parts: list[BidsFile]) -> Run:
    tree, parts = source.raw, _ordered(source.raw, parts)
    # Tables may or may not name the part: those of the first part apply to the whole.
    recorded = parts[0]
    name, modality = recorded.name.without("split"), _modality(recorded)
    shape = _headshape(tree, recorded)
    header = raw_header([tree.root / part.path for part in parts], [tree.root / file.path for file in shape])
    sidecars = tree.inherited(recorded, name.suffix, ".json")
    events = tree.nearest(recorded, "events", ".tsv")
    stimulus = find_stimulus(tree.root, tree.root / events.path, source.root) if events else Stimulus("", "", math.nan)

    def relative(*found: BidsFile | None) -> str:
        return ";".join(source.relative(tree, file) for file in found if file is not None)

    run = Run(
        run_id=_run_id(name), subject=name.get("sub"), session=name.get("ses"), task=name.get("task"),
        run=name.get("run"), modality=modality, root=relative_root(source.root), image=relative(*parts),
        sidecar=relative(*sidecars), events=relative(events), text=stimulus.text, stimulus=stimulus.name,
        start_time=stimulus.start_time, n_volumes=header.n_samples, sfreq=header.sfreq, sha256=header.sha256,
        channels=relative(tree.nearest(recorded, "channels", ".tsv")), headshape=relative(*shape),
        electrodes=relative(_nearest_of(tree, recorded, "electrodes", (".tsv",))),
    )  # fmt: skip
    return _with_helpers(source, run, recorded, header) if modality == "meg" else run


def _modality(file: BidsFile) -> Modality:
    return "meg" if file.name.suffix == "meg" else "eeg"


def _with_helpers(source: Source, run: Run, recorded: BidsFile, header: RawHeader) -> Run:
    """Add what the Maxwell filter and the noise covariance need."""
    tree = source.raw
    calibration = _nearest_of(tree, recorded, "meg", (".dat",), acq="calibration")
    crosstalk = _nearest_of(tree, recorded, "meg", (".fif",), acq="crosstalk")
    moved = _nearest_of(tree, recorded, "headpos", (".pos",)) or _nearest_of(tree, recorded, "meg", (".pos",))
    empty = _empty_room(tree, recorded, header.day)
    if empty is None:
        _log.warning("%s: no empty-room recording (neither AssociatedEmptyRoom nor one of that day).", run.run_id)
    return replace(
        run, calibration=source.relative(tree, calibration), crosstalk=source.relative(tree, crosstalk),
        head_positions=source.relative(tree, moved), empty_room=source.relative(tree, empty),
    )  # fmt: skip


def _ordered(tree: Tree, parts: list[BidsFile]) -> list[BidsFile]:
    """Return the parts of a recording in order; there is one, or each has its number."""
    parts = sorted(parts, key=lambda part: (part.name.get("split").zfill(6), part.path))
    numbers = [part.name.get("split") for part in parts]
    if len(parts) > 1 and (len(set(numbers)) < len(parts) or not all(numbers)):
        refuse_two(parts[0].path, parts[1].path, tree.root)
    expected = [str(number) for number in range(1, len(parts) + 1)]
    if any(numbers) and [number.lstrip("0") for number in numbers] != expected:
        remedy = "Copy the parts that are missing, or correct the entity split."
        raise InputError(f"the parts {', '.join(expected)}", ", ".join(numbers), tree.root / parts[0].path, remedy)
    return parts


def _nearest_of(
    tree: Tree, target: BidsFile, suffix: str, endings: tuple[str, ...], acq: str | None = None
) -> BidsFile | None:
    """Return the file of a suffix that applies most closely; entities that describe the file itself do not count."""
    folder = PurePosixPath(target.path).parent
    found = [
        file
        for file in tree.find(suffix, *endings)
        if (acq is None or file.name.get("acq") == acq)
        and file.name.without("space", "desc", *(["acq"] if acq else [])).applies_to(target.name)
        and folder.is_relative_to(PurePosixPath(file.path).parent)
    ]
    return max(
        found,
        key=lambda file: (len(PurePosixPath(file.path).parts), len(file.name.without("space", "desc").entities)),
        default=None,
    )


def _headshape(tree: Tree, target: BidsFile) -> list[BidsFile]:
    """Return markers, coils and head shape of a KIT run that lie beside it."""
    if target.name.extension not in (".con", ".sqd"):
        return []
    wanted = [("markers", (".mrk", ".sqd", ".con")), ("headshape", (".elp",)), ("headshape", (".hsp",))]
    found = [_nearest_of(tree, target, suffix, endings) for suffix, endings in wanted]
    return [file for file in found if file is not None]


def _empty_room(tree: Tree, target: BidsFile, day: str) -> BidsFile | None:
    """Return the recording without a person: the one that the sidecar names, of the session, or of that day."""
    named = _named_empty_room(tree, target)
    if named is not None:
        return named
    first = ("", "01", "1")
    empty = [file for file in recordings(tree) if file.name.suffix == "meg" and file.name.get("split") in first]
    same = ("sub", "ses")
    own = [
        file
        for file in empty
        if file.name.get("task").lower() in NOISE_TASKS
        and all(file.name.get(key) == target.name.get(key) for key in same)
    ]
    of_day = [file for file in empty if file.name.get("sub") == EMPTY_ROOM and day and file.name.get("ses") == day]
    return next(iter([*own, *of_day]), None)


def _named_empty_room(tree: Tree, target: BidsFile) -> BidsFile | None:
    named = [name for file in tree.inherited(target, "meg", ".json") for name in empty_rooms(tree, file)]
    if not named:
        return None
    known = {file.path: file for file in recordings(tree)}
    if named[-1] not in known:
        remedy = "Add the recording, or take AssociatedEmptyRoom out of the sidecar."
        found = f"no file {named[-1]}"
        raise InputError("the AssociatedEmptyRoom of the sidecar", found, tree.root / target.path, remedy)
    return known[named[-1]]
