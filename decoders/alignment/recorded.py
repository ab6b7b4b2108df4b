"""Recorded RDMs of the regions, as the comparisons read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoders.alignment.models import Stimuli
from decoders.errors import InputError
from decoders.store.arrays import read_arrays


@dataclass(frozen=True)
class Recorded:
    """Recorded RDMs of one region.

    Attributes
    ----------
    region : str
    subjects : list of str
    rdms : array of shape (n_subjects, n_pairs)
    """

    region: str
    subjects: list[str]
    rdms: NDArray[np.float64]


def read_recorded(path: str) -> tuple[list[Recorded], Stimuli]:
    """Read the recorded RDMs; subjects without a usable RDM in a region are left out there.

    Raises
    ------
    InputError
        No subject is left.
    """
    file = read_arrays(path)
    subjects, stimuli = file["subjects"].tolist(), Stimuli(file["stimuli"].tolist())
    recorded = []
    for region in (name for name in file.arrays if name not in ("subjects", "stimuli")):
        kept = np.isfinite(file[region]).all(axis=1)
        if kept.any():
            names = [name for name, flag in zip(subjects, kept, strict=True) if flag]
            recorded.append(Recorded(region, names, file[region][kept]))
    if not recorded:
        raise InputError("recorded RDMs", "none that is usable", path, "See the reasons in the attribute 'excluded'.")
    return recorded, stimuli
