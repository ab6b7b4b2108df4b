"""The runs of a declared split: as they are, or the single run of a subject cut into its declared blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from decoders.stats.declared import DeclaredSplit, Rows
from decoders.stats.timed_runs import recorded
from decoders.store.recording import Recording, read_recording


@dataclass(frozen=True)
class Parts:
    """The parts of a subject's runs that train and are held out.

    Attributes
    ----------
    recordings : list of Recording
    trained, tested : list of int
        By number.
    """

    recordings: list[Recording]
    trained: list[int]
    tested: list[int]

    @property
    def labels(self) -> list[str]:
        """The name of each part."""
        return [run.key for run in recorded(self.recordings)]

    @property
    def trained_labels(self) -> list[str]:
        """The names of those that train."""
        labels = self.labels
        return [labels[i] for i in self.trained]


def parts_of(recordings: Sequence[Recording], split: DeclaredSplit) -> Parts:
    """Return the recordings of a split.

    Parameters
    ----------
    recordings : sequence of Recording
        Runs of one subject, in the order in which they were declared.
    split : DeclaredSplit

    Returns
    -------
    Parts
        Whole runs as they are; of a run that is cut its blocks, in order of time, with the data in memory.
    """
    timed = recorded(recordings)
    length = {run.key: run.n_rows for run in timed}
    number = {run.key: i for i, run in enumerate(timed)}
    if all(rows.first == 0 and rows.stop == length[rows.run] for rows in (*split.train, *split.test)):
        trained, tested = ([number[rows.run] for rows in part] for part in (split.train, split.test))
        return Parts(list(recordings), trained, tested)
    every = sorted({*split.train, *split.test}, key=lambda rows: (number[rows.run], rows.first))
    read = {key: _with_data(recordings[number[key]]) for key in {rows.run for rows in every}}
    place = {rows: i for i, rows in enumerate(every)}
    blocks = [_block(read[rows.run], rows, i + 1) for rows, i in place.items()]
    return Parts(blocks, [place[rows] for rows in split.train], [place[rows] for rows in split.test])


def _with_data(recording: Recording) -> Recording:
    return recording if recording.path is None else read_recording(recording.path)


def _block(recording: Recording, rows: Rows, number: int) -> Recording:
    """Return some rows of a run under a name of their own; what is known of each volume is cut with them."""
    part, n = slice(rows.first, rows.stop), len(recording.time)
    cut = {name: getattr(recording, name) for name in ("conditions", "groups")}
    return replace(
        recording, data=recording.data[part], time=recording.time[part], run=f"{recording.run or '1'}block{number:02d}",
        path=None, **{name: values[part] if len(values) == n else values for name, values in cut.items()},
    )  # fmt: skip
