"""Which recordings of MEG and fMRI are compared: stimuli by name, people by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.comparators import pool
from decoders.alignment.contrasts import MIN_STIMULI
from decoders.alignment.models import Stimuli, reorder
from decoders.alignment.recorded import Recorded
from decoders.errors import InputError
from decoders.store.arrays import read_arrays

Reference = Literal["own", "others"]
HOW = {
    "own": "each person's MEG with the person's own fMRI",
    "others": "each person's MEG with the mean fMRI RDM of all other people (held fixed)",
}


@dataclass(frozen=True)
class SensorRDMs:
    """RDMs of MEG or EEG in time.

    Attributes
    ----------
    subjects : list of str
    times : array of shape (n_times,)
        Seconds from the onset of the stimulus.
    stimuli : list of str
    rdms : array of shape (n_subjects, n_times, n_pairs)
        Finite.
    excluded : dict of str to str
        Who is left out, and why.
    """

    subjects: list[str]
    times: NDArray[np.float64]
    stimuli: list[str]
    rdms: NDArray[np.float64]
    excluded: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paired:
    """One region with the people whose MEG it is compared with.

    Attributes
    ----------
    region : str
    people : array of int of shape (n_people,)
        Rows of the sensor RDMs.
    reference : array of shape (n_people, n_pairs)
        fMRI RDM that each of them is compared with.
    left_out : dict of str to str
        People without a reference, and why.
    """

    region: str
    people: NDArray[np.int64]
    reference: NDArray[np.float64]
    left_out: dict[str, str] = field(default_factory=dict)


def read_time_rdms(path: str | Path) -> SensorRDMs:
    """Read the RDMs in time; subjects with RDMs that are constant or not finite are left out by name.

    Raises
    ------
    InputError
        Shapes that do not fit each other, or nobody left.
    """
    file = read_arrays(path, ["rdms", "subjects", "times", "stimuli"])
    rdms, subjects, stimuli = file["rdms"], file["subjects"].tolist(), file["stimuli"].tolist()
    expected = (len(subjects), len(file["times"]), len(stimuli) * (len(stimuli) - 1) // 2)
    if rdms.shape != expected:
        remedy = "Delete it and run the stage 'rdms-time' again."
        raise InputError(f"sensor RDMs of the shape {expected}", f"{rdms.shape}", path, remedy)
    flaws = [_flaw(rdm) for rdm in rdms]
    kept = np.array([not flaw for flaw in flaws], dtype=bool)
    excluded = {str(name): flaw for name, flaw in zip(subjects, flaws, strict=True) if flaw}
    if not kept.any():
        found = f"none ({'; '.join(map(': '.join, excluded.items())) or 'no subject at all'})"
        remedy = "See the attribute 'excluded' there for the reasons, and check the MEG runs."
        raise InputError("usable sensor RDMs of one subject or more", found, path, remedy)
    names = [str(name) for name, flag in zip(subjects, kept, strict=True) if flag]
    return SensorRDMs(names, np.asarray(file["times"], dtype=np.float64), stimuli, rdms[kept], excluded)


def _flaw(rdms: NDArray[np.float64]) -> str:
    if not np.isfinite(rdms).all():
        return "dissimilarities that are not finite"
    return "one dissimilarity throughout at some time" if (np.ptp(rdms, axis=-1) == 0).any() else ""


def shared_stimuli(fmri: Sequence[str], meg: Sequence[str], choice: Literal["equal", "common"], where: str) -> Stimuli:
    """Return the stimuli of both, in the order of fMRI.

    Raises
    ------
    InputError
        Sets that differ (unless `choice` is "common"), none in common, or fewer than ten.
    """
    both = [name for name in fmri if name in set(meg)]
    if not both:
        found = f"none (fMRI: '{fmri[0]}', …; MEG: '{meg[0]}', …)"
        remedy = "Name the stimuli alike in the events (trial_type) of the MEG and the fMRI runs."
        raise InputError("stimuli that MEG and fMRI have in common", found, where, remedy)
    alone = [*(f"'{name}' in fMRI alone" for name in fmri if name not in set(meg))]
    alone += [f"'{name}' in MEG alone" for name in meg if name not in set(fmri)]
    if alone and choice == "equal":
        found = f"{alone[0]}" + (f" and {len(alone) - 1} more in one of them alone" if len(alone) > 1 else "")
        remedy = f"Set alignment.fusion.stimuli to 'common' to use the {len(both)} in both."
        raise InputError("the same stimuli in MEG and fMRI", found, where, remedy)
    if len(both) < MIN_STIMULI:
        remedy = "Fusion permutes and resamples stimuli: record more of them in both."
        raise InputError(f"{MIN_STIMULI} stimuli or more in MEG and fMRI", f"{len(both)}", where, remedy)
    return Stimuli(both)


def in_order(meg: SensorRDMs, fmri: Sequence[Recorded], names: Sequence[str], stimuli: Stimuli, where: str) -> tuple[
    SensorRDMs, list[Recorded]
]:  # fmt: skip
    """Return all RDMs with the stimuli chosen and ordered alike; `names` are the stimuli of fMRI."""
    place = stimuli.positions(meg.stimuli, where)
    sensor = np.array([[reorder(rdm, place) for rdm in subject] for subject in meg.rdms])
    place = stimuli.positions(names, where)
    regions = [Recorded(r.region, r.subjects, np.array([reorder(rdm, place) for rdm in r.rdms])) for r in fmri]
    return SensorRDMs(meg.subjects, meg.times, stimuli.names, sensor, meg.excluded), regions


def choose_reference(meg: Sequence[str], fmri: Sequence[Recorded], wanted: Reference | None) -> Reference:
    """Return what everybody's MEG is compared with: one choice for all regions, or they could not be compared."""
    if wanted is not None:
        return wanted
    return "own" if all(set(meg) <= set(region.subjects) for region in fmri) else "others"


def pair_region(meg: Sequence[str], region: Recorded, reference: Reference, comparator: str) -> Paired:
    """Pair a region with the people whose MEG it can be compared with.

    Parameters
    ----------
    meg : sequence of str
        Subjects with MEG.
    region : Recorded
    reference : {"own", "others"}
        The mean of all others leaves out the person, so that one brain is never on both sides.
    comparator : str
        Decides how RDMs are pooled (`comparators.pool`).

    Raises
    ------
    InputError
        Nobody can be paired.
    """
    place = {name: number for number, name in enumerate(region.subjects)}
    people, rdms, left_out = [], [], {}
    for number, name in enumerate(meg):
        rest = [row for other, row in place.items() if other != name]
        if reference == "own" and name in place:
            rdm = region.rdms[place[name]]
        elif reference == "others" and rest:
            rdm = pool(region.rdms[rest], comparator)
        else:
            left_out[name] = "no fMRI of this person" if reference == "own" else "no fMRI of another person"
            continue
        people.append(number)
        rdms.append(rdm)
    if not people:
        found = f"MEG of {', '.join(meg)} and fMRI of {', '.join(region.subjects)}"
        remedy = "Label the subjects alike in both, or change alignment.fusion.reference."
        what = "people with both" if reference == "own" else "fMRI of other people than those with MEG"
        raise InputError(what, found, f"region {region.region}", remedy)
    return Paired(region.region, np.array(people, dtype=np.int64), np.array(rdms), left_out)


def same_people(pairs: Mapping[str, Paired], first: str, second: str) -> bool:
    """Return whether two regions have the same people, so that they can be contrasted within person."""
    return np.array_equal(pairs[first].people, pairs[second].people)
