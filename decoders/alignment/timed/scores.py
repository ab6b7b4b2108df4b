"""Scores, noise ceilings and partial scores of all models at every moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.comparators import RANKED, compare, embed
from decoders.alignment.models import ModelRow, Models, Stimuli
from decoders.alignment.partial import partition
from decoders.alignment.ranks import midranks
from decoders.errors import InputError
from decoders.store.arrays import read_arrays

REGION = "sensors"
# A ceiling below this is as good as none: what a model scores cannot be set against it.
NEAR_ZERO = 0.02


@dataclass(frozen=True)
class RecordedTimes:
    """Recorded RDMs over time.

    Attributes
    ----------
    subjects : list of str
    times : array of shape (n_times,)
        Seconds from the onset.
    rdms : array of shape (n_subjects, n_times, n_pairs)
    stimuli : Stimuli
    method : str
        How the RDMs were computed, in words.
    patterns : array of shape (n_subjects, n_times, n_times) or None
        Generalisation of patterns from one time to another (crossnobis alone).
    """

    subjects: list[str]
    times: NDArray[np.float64]
    rdms: NDArray[np.float64]
    stimuli: Stimuli
    method: str = ""
    patterns: NDArray[np.float64] | None = None

    @property
    def flat(self) -> NDArray[np.float64]:
        """RDMs as rows, (n_subjects * n_times, n_pairs)."""
        return self.rdms.reshape(-1, self.rdms.shape[2])

    def unflat(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values (n_models, n_subjects * n_times) as (n_subjects, n_models, n_times)."""
        shaped = values.reshape(len(values), len(self.subjects), len(self.times))
        return np.ascontiguousarray(shaped.transpose(1, 0, 2))


def read_recorded_times(path: str) -> RecordedTimes:
    """Read time_rdms.h5.

    Raises
    ------
    InputError
        RDMs that are not finite.
    """
    file = read_arrays(path)
    if not np.isfinite(file["rdms"]).all():
        raise InputError("finite dissimilarities", "others", path, "Delete it and run again.")
    patterns = file["generalisation"] if "generalisation" in file.arrays else None
    return RecordedTimes(
        file["subjects"].tolist(), file["times"], file["rdms"], Stimuli(file["stimuli"].tolist()),
        str(file.attributes.get("method", "")), patterns,
    )  # fmt: skip


def time_scores(models: Models, recorded: RecordedTimes, comparator: str) -> NDArray[np.float64]:
    """Return the scores of all rows of the models, array of shape (n_subjects, n_rows, n_times)."""
    return recorded.unflat(compare(models.vectors, recorded.flat, comparator))


def partial_scores(
    models: Models, recorded: RecordedTimes, held: NDArray[np.float64], comparator: str
) -> NDArray[np.float64]:
    """Return scores beyond other RDMs, all held constant together, array (n_subjects, n_rows, n_times).

    Parameters
    ----------
    models : Models
    recorded : RecordedTimes
    held : array of shape (n_held, n_pairs)
    comparator : str
        See `decoders.alignment.partial.PLAIN` for what stands for it.
    """
    once = np.ones((1, len(recorded.stimuli.names)), dtype=np.int64)
    return recorded.unflat(partition(models.vectors, held, recorded.flat, once, comparator).partial[0])


def time_score_table(
    models: Models, recorded: RecordedTimes, scores: NDArray[np.float64], comparator: str
) -> pd.DataFrame:
    """Return one row per subject, moment and model row; refused models have one row per subject, without a score."""
    index = {id(row): number for number, row in enumerate(models.usable)}
    n_times = len(recorded.times)
    parts = []
    for row in models.rows:
        if row.rdm is None:
            parts.append(_rows(row, recorded.subjects, np.nan, np.nan, comparator))
        else:
            subjects = np.repeat(recorded.subjects, n_times)
            times = np.tile(recorded.times, len(recorded.subjects))
            parts.append(_rows(row, subjects, times, scores[:, index[id(row)]].ravel(), comparator))
    return pd.concat(parts, ignore_index=True)


def _rows(row: ModelRow, subjects: object, times: object, values: object, comparator: str) -> pd.DataFrame:
    labels = {"rule": row.rule, "architecture": row.architecture, "seed": row.seed, "layer": row.layer}
    return pd.DataFrame(
        {
            "subject": subjects, "region": REGION, "time": times,
            **{key: value or None for key, value in labels.items()},
            "size": row.size, "comparator": comparator, "score": values, "refused": row.refused or None,
        }
    )  # fmt: skip


def time_ceilings(rdms: NDArray[np.float64], comparator: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and the upper noise ceiling at every moment.

    Parameters
    ----------
    rdms : array of shape (n_subjects, n_times, n_pairs)
    comparator : str

    Returns
    -------
    low, high : array of shape (n_times,)
        As `decoders.alignment.ceilings.noise_ceiling` at each moment; not a number for a single subject.
    """
    n_subjects, n_times, _ = rdms.shape
    if n_subjects < 2:
        return np.full(n_times, np.nan), np.full(n_times, np.nan)
    low, high = np.empty(n_times), np.empty(n_times)
    for moment in range(n_times):
        mine = rdms[:, moment]
        prepared = _poolable(mine, comparator)
        total = prepared.sum(axis=0)
        high[moment] = compare(total[None], mine, comparator).mean()
        others = total - prepared
        if comparator == "tau_a":
            low[moment] = np.mean(
                [compare(a[None], b[None], comparator)[0, 0] for a, b in zip(others, mine, strict=True)]
            )
        else:
            low[moment] = (embed(others, comparator) * embed(mine, comparator)).sum(axis=1).mean()
    return low, high


def _poolable(rdms: NDArray[np.float64], comparator: str) -> NDArray[np.float64]:
    """Return RDMs whose sum is their pool: ranks, or values of equal scale (see `comparators.pool`)."""
    if comparator in RANKED:
        return midranks(rdms)
    centre = 0.0 if comparator in ("cosine", "cosine_cov") else rdms.mean(axis=1, keepdims=True)
    centred = rdms - centre
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True)))


def time_ceiling_table(recorded: RecordedTimes, comparators: tuple[str, ...]) -> pd.DataFrame:
    """Return the noise ceilings per moment and comparator; `note` says where a ceiling is near zero."""
    parts = []
    for comparator in comparators:
        low, high = time_ceilings(recorded.rdms, comparator)
        # The upper ceiling holds each subject's own noise, and is above zero where nothing is shared.
        note = np.where(low < NEAR_ZERO, "near zero: the subjects share nothing that a model could explain", None)
        parts.append(
            pd.DataFrame(
                {
                    "region": REGION, "time": recorded.times, "comparator": comparator, "ceiling_low": low,
                    "ceiling_high": high, "n_subjects": len(recorded.subjects), "note": note,
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)
