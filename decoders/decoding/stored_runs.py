"""Runs that stay on disk until they are needed, so that memory does not grow with their number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from decoders.store.arrays import read_columns

# A block of voxels of all runs, as models that are fitted voxel by voxel read them.
BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class StoredRun:
    """One run in a file of `decoders.store.recording`.

    Attributes
    ----------
    path : Path
    n_volumes : int
    voxels : array of int of shape (n_voxels,)
        Columns of the file that are read.
    """

    path: Path
    n_volumes: int
    voxels: NDArray[np.int64]

    def read(self, part: slice = slice(None)) -> NDArray[np.float32]:
        """Return all volumes of some of the voxels, shape (n_volumes, n_voxels)."""
        voxels = self.voxels[part]
        if not len(voxels):
            return np.zeros((self.n_volumes, 0), dtype=np.float32)
        first, last = int(voxels[0]), int(voxels[-1]) + 1
        data = read_columns(self.path, "data", slice(first, last))
        whole = last - first == len(voxels)
        return np.ascontiguousarray(data if whole else data[:, voxels - first], dtype=np.float32)


class StoredRuns(Sequence[NDArray[np.float32]]):
    """A sequence of runs (n_volumes, n_voxels) of which the last few that were read are kept in memory.

    Parameters
    ----------
    runs : sequence of StoredRun
    n_kept : int
        Runs kept. A training step that reads the runs of one batch needs no more.
    """

    def __init__(self, runs: Sequence[StoredRun], n_kept: int = 1) -> None:
        self.runs, self.n_kept = tuple(runs), max(1, n_kept)
        self._kept: OrderedDict[int, NDArray[np.float32]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    @overload
    def __getitem__(self, index: slice) -> StoredRuns: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | StoredRuns:
        if isinstance(index, slice):
            return StoredRuns(self.runs[index], self.n_kept)
        index = range(len(self.runs))[index]
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        while len(self._kept) >= self.n_kept:
            self._kept.popitem(last=False)
        self._kept[index] = self.runs[index].read()
        return self._kept[index]

    def part(self, indices: Sequence[int], n_kept: int | None = None) -> StoredRuns:
        """Return some of the runs, in that order; none of them is read."""
        return StoredRuns([self.runs[i] for i in indices], n_kept or self.n_kept)

    def forget(self) -> None:
        """Free the runs that are kept."""
        self._kept.clear()


Runs = Sequence[NDArray[np.float32]]


def some_runs(x: Runs, indices: Sequence[int]) -> Runs:
    """Return some of the runs, in that order; runs on disk stay there."""
    return x.part(indices) if isinstance(x, StoredRuns) else [x[i] for i in indices]


def lengths_of(x: Runs) -> list[int]:
    """Return the number of volumes of each run; none is read."""
    return [run.n_volumes for run in x.runs] if isinstance(x, StoredRuns) else [len(run) for run in x]


def n_voxels_of(x: Runs) -> int:
    """Return the number of voxels; no run is read."""
    return len(x.runs[0].voxels) if isinstance(x, StoredRuns) else x[0].shape[1]


def voxel_blocks(x: Runs, n_bytes: int | None = None) -> Iterator[tuple[slice, list[NDArray[np.float32]]]]:
    """Yield the voxels of all runs block by block: the more volumes, the fewer voxels, and memory stays the same.

    Yields
    ------
    voxels : slice
    runs : list of array of shape (n_volumes, n_voxels of the block)
    """
    if isinstance(x, StoredRuns):
        x.forget()
    width = max(1, (n_bytes or BLOCK_BYTES) // (4 * sum(lengths_of(x))))
    for start in range(0, n_voxels_of(x), width):
        block = slice(start, start + width)
        if isinstance(x, StoredRuns):
            yield block, [run.read(block) for run in x.runs]
        else:
            # In the layout of what is read from disk: sums over other strides have other bits.
            yield block, [np.ascontiguousarray(run[:, block]) for run in x]
