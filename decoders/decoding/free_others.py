"""The control of another person: recordings of other subjects that a listener's decoder can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from decoders.store.recording import Recording

ONE_SUBJECT = "there is no usable run of text of another subject"


def others_runs(
    tested: Sequence[Recording],
    others: Sequence[Recording],
    mask: NDArray[np.bool_],
    voxels: NDArray[np.int64],
) -> list[NDArray[np.float32]] | str:
    """Return a recording of another subject for every test run, or why there is none.

    One who heard the same story is taken before one who heard another: what a decoder reads out of any brain that
    listens to the story is not read out of this subject's own.

    Parameters
    ----------
    tested : sequence of Recording
        Test runs of the subject.
    others : sequence of Recording
        Usable runs of text of all subjects; the subject's own ones are passed over.
    mask : array of shape (x, y, z), bool
        Voxels of the subject's runs.
    voxels : array of int
        Places within `mask` of the voxels that the decoder reads.

    Returns
    -------
    list of array of shape (n_volumes, n_voxels in mask), or str
        Voxels that the decoder does not read are zero where the other subject lacks them.
    """
    read = np.zeros(mask.shape, dtype=bool)
    read[mask] = np.isin(np.arange(int(mask.sum())), voxels)
    strangers = [run for run in others if run.subject != tested[0].subject]
    if not strangers:
        return ONE_SUBJECT
    fitting = [run for run in strangers if _fits(run, tested[0], read)]
    if not fitting:
        return f"no run of another subject has the grid, the TR and the {len(voxels)} voxels that are read"
    found = []
    for number, run in enumerate(tested):
        same = [other for other in fitting if other.stimulus == run.stimulus]
        choice = same or fitting
        found.append(_in_mask(_stretch(choice[number % len(choice)], run), mask))
    return found


def _stretch(other: Recording, own: Recording) -> Recording:
    """Return as many volumes of another subject as a block has: those of the same moments of a story."""
    n = len(own.time)
    if len(other.time) <= n:
        return other
    start = int(np.searchsorted(other.time, own.time[0] - own.tr / 2)) if other.stimulus == own.stimulus else 0
    part = slice(min(start, len(other.time) - n), None)
    return replace(other, data=other.data[part][:n], time=other.time[part][:n])


def _fits(run: Recording, own: Recording, read: NDArray[np.bool_]) -> bool:
    if run.mask is None and own.mask is None:
        same = list(run.names) == list(own.names) and run.data.shape[1] == own.data.shape[1]
        return bool(same and np.isclose(run.tr, own.tr))
    if run.mask is None or run.affine is None or own.affine is None or run.mask.shape != read.shape:
        return False
    same = np.allclose(run.affine, own.affine) and np.isclose(run.tr, own.tr)
    return bool(same and run.mask[read].all())


def _in_mask(run: Recording, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    if run.mask is None:
        return np.ascontiguousarray(run.data, dtype=np.float32)
    volumes = np.zeros((len(run.data), *mask.shape), dtype=np.float32)
    volumes[:, run.mask] = run.data
    return np.ascontiguousarray(volumes[:, mask])
