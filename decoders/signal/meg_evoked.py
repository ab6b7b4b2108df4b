"""Averages over trials (FIF evokeds): conditions over time, when they differ, and the RDM of every moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.errors import InputError
from decoders.signal.whitening import numerical_rank, whitener


@dataclass(frozen=True)
class Averages:
    """Averages of some conditions.

    Attributes
    ----------
    data : array of shape (n_conditions, n_channels, n_times)
        T, T/m or V; whitened (without unit) after `whitened`.
    times : array of shape (n_times,)
        Seconds from the onset.
    conditions : list of str
    names, kinds : list of str
        Channels and their types; after whitening the dimensions.
    n_trials : list of int
    info : mne.Info
    """

    data: NDArray[np.float64]
    times: NDArray[np.float64]
    conditions: list[str]
    names: list[str]
    kinds: list[str]
    n_trials: list[int]
    info: Any


def read_averages(
    path: str | Path,
    kinds: Sequence[str] = ("mag", "grad"),
    baseline: tuple[float | None, float | None] | None = (None, 0.0),
    low_pass_hz: float | None = None,
) -> Averages:
    """Read all averages of a FIF file.

    Parameters
    ----------
    path : str or Path
        ``-ave.fif`` or ``-ave.fif.gz``.
    kinds : sequence of str
        Types of channels: mag, grad, eeg. Bad channels are left out; projections of the file are applied.
    baseline : tuple, optional
        Seconds; None within it is the start or end.
    low_pass_hz : float, optional
        Low-pass of mne's design.

    Raises
    ------
    InputError
        The file holds no averages, or none of these channels; the averages have different times.
    """
    import mne

    try:
        found = mne.read_evokeds(path, baseline=baseline, proj=True, verbose="ERROR")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        found_text = f"'{' '.join(str(error).split())[:200]}'"
        raise InputError("averages in FIF (-ave.fif)", found_text, path, "Name a file of mne.Evoked.") from error
    first = found[0]
    rows = [
        row
        for row, (name, kind) in enumerate(zip(first.ch_names, first.get_channel_types(), strict=True))
        if kind in kinds and name not in first.info["bads"]
    ]
    if not rows:
        there = ", ".join(sorted(set(first.get_channel_types())))
        raise InputError(f"channels of the types {', '.join(kinds)}", there, path, "Choose other types.")
    if any(item.data.shape != first.data.shape or not np.allclose(item.times, first.times) for item in found):
        raise InputError("averages over the same times", "different ones", path, "Cut them to the same epoch.")
    if low_pass_hz is not None:
        found = [item.filter(None, low_pass_hz, verbose="ERROR") for item in found]
    types = first.get_channel_types()
    return Averages(
        np.stack([item.data[rows] for item in found]), np.asarray(first.times), [item.comment for item in found],
        [first.ch_names[row] for row in rows], [types[row] for row in rows], [int(item.nave) for item in found],
        mne.pick_info(first.info, rows),
    )  # fmt: skip


def of_trials(
    data: NDArray[np.floating], conditions: NDArray[Any], times: NDArray[np.float64], info: Any = None
) -> Averages:
    """Return the averages over trials (n_trials, n_channels, n_times) of each condition, sorted by name."""
    names = sorted({str(name) for name in conditions})
    chosen = [np.flatnonzero(conditions == name) for name in names]
    means = np.stack([data[rows].mean(axis=0, dtype=np.float64) for rows in chosen])
    return Averages(means, times, names, [], [], [len(rows) for rows in chosen], info)


def read_covariance(path: str | Path, names: Sequence[str]) -> NDArray[np.float64]:
    """Read a noise covariance of mne, in the order of some channels.

    Raises
    ------
    InputError
        The file holds no covariance, or none of these channels.
    """
    import mne

    try:
        covariance = mne.read_cov(path, verbose="ERROR")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        found = f"'{' '.join(str(error).split())[:200]}'"
        raise InputError("a covariance in FIF (-cov.fif)", found, path, "Name a file of mne.Covariance.") from error
    missing = [name for name in names if name not in covariance.ch_names]
    if missing:
        found = f"no {', '.join(missing[:5])} ({len(missing)} missing)"
        raise InputError("a covariance of these channels", found, path, "Name the covariance of this recording.")
    order = [covariance.ch_names.index(name) for name in names]
    data = np.diag(covariance.data) if covariance["diag"] else covariance.data
    return np.asarray(data[np.ix_(order, order)])


def whitened(averages: Averages, covariance: NDArray[np.float64], rank: int | None = None) -> Averages:
    """Return averages in units of their noise: the covariance is that of a single trial, divided by the trials of each.

    Parameters
    ----------
    averages : Averages
    covariance : array of shape (n_channels, n_channels)
    rank : int, optional
        Dimensions of the data; those of the covariance when absent.
    """
    W = whitener(covariance, rank or numerical_rank(covariance))
    scale = np.sqrt(np.array(averages.n_trials, dtype=np.float64))[:, None, None]
    data = np.einsum("rc,kct->krt", W, averages.data) * scale
    names = [f"dimension {i + 1}" for i in range(len(W))]
    return Averages(data, averages.times, averages.conditions, names, [], averages.n_trials, averages.info)


def rdms_over_time(averages: Averages) -> NDArray[np.float64]:
    """Return the squared Euclidean distance of all pairs of conditions at each moment, per dimension.

    Returns
    -------
    rdms : array of shape (n_times, n_pairs)
        Pairs in the order of `numpy.triu_indices`. Without crossing halves the distances are biased upward by noise.
    """
    first, second = np.triu_indices(len(averages.conditions), 1)
    difference = averages.data[first] - averages.data[second]
    return np.asarray((difference**2).mean(axis=1).T)


def field_strength(averages: Averages, groups: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the root mean square over channels of the mean of some conditions (n_groups, n_times)."""
    found = []
    for names in groups:
        rows = [averages.conditions.index(name) for name in names]
        found.append(np.sqrt((averages.data[rows].mean(axis=0) ** 2).mean(axis=0)))
    return np.stack(found)


def contrast_strength(averages: Averages, one: Sequence[str], other: Sequence[str]) -> NDArray[np.float64]:
    """Return the root mean square over channels of the difference of two groups of conditions (n_times,)."""
    means = [averages.data[[averages.conditions.index(name) for name in names]].mean(axis=0) for names in (one, other)]
    return np.asarray(np.sqrt(((means[0] - means[1]) ** 2).mean(axis=0)))


def peak(strength: NDArray[np.float64], times: NDArray[np.float64], span: tuple[float, float]) -> float:
    """Return the time of the largest value within a span, in seconds."""
    inside = np.flatnonzero((times >= span[0]) & (times <= span[1]))
    return float(times[inside[np.argmax(strength[inside])]])


def separation(averages: Averages, one: Sequence[str], other: Sequence[str]) -> NDArray[np.float64]:
    """Return how far two groups of conditions lie apart, relative to how far the conditions of a group do.

    Parameters
    ----------
    averages : Averages
        Whitened.
    one, other : sequence of str
        Conditions of each group, at least two each.

    Returns
    -------
    ratio : array of shape (n_times,)
        Mean distance between the groups over that within them; 1 where the groups do not differ.
    """
    rdms = rdms_over_time(averages)
    first, second = np.triu_indices(len(averages.conditions), 1)
    group = dict.fromkeys(one, 0) | dict.fromkeys(other, 1)
    labels = [group.get(name, -1) for name in averages.conditions]
    pairs = [(labels[i], labels[j]) for i, j in zip(first, second, strict=True)]
    between = [k for k, pair in enumerate(pairs) if -1 not in pair and pair[0] != pair[1]]
    within = [k for k, pair in enumerate(pairs) if -1 not in pair and pair[0] == pair[1]]
    return np.asarray(rdms[:, between].mean(axis=1) / rdms[:, within].mean(axis=1))
