"""Eye and heart artefacts: found in independent components or by projections, removed by one matrix, and reported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import MegSettings
from decoders.signal.meg_eyes import virtual_eog
from decoders.signal.steps import Steps

# Correlation (1-10 Hz) from which a component is the eye's; with a made-up EOG it must be larger, and spiky too.
_LEAST_R, _LEAST_R_VIRTUAL, _LEAST_KURTOSIS = 0.4, 0.6, 3.0
# ICA wants many more samples than the square of the components; a run must be this long in any case.
_LEAST_S, _SAMPLES_PER_SQUARE = 10.0, 2.0
_VIRTUAL = "virtual EOG"
_ITERATIONS = 200
# Share of a component's variance around heart beats that repeats with them, from which it is the heart's.
_LEAST_LOCKED, _LEAST_LOCKED_VIRTUAL, _LEAST_BEATS = 0.25, 0.4, 8


@dataclass(frozen=True)
class Removed:
    """One direction that was removed.

    Attributes
    ----------
    kind : {"meg", "eeg"}
    artefact : {"eye", "heart"}
    channel : str
        What it was compared with.
    measure : {"correlation", "locked share", "projection"}
    score : float
    variance : float
        Its share of the variance of the sensors of this kind.
    topography : array of shape (n_channels,)
    """

    kind: str
    artefact: str
    channel: str
    measure: str
    score: float
    variance: float
    topography: NDArray[np.float64]

    def record(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        found = {"kind": self.kind, "artefact": self.artefact, "channel": self.channel, "measure": self.measure}
        return {**found, "score": round(self.score, 4), "variance": round(self.variance, 6)}


@dataclass(frozen=True)
class Cleaning:
    """The matrix that removes artefacts, and what it removes."""

    operator: NDArray[np.float64]
    removed: list[Removed] = field(default_factory=list)


def find_artefacts(sample: Any, kinds: Sequence[str], rank: int, settings: MegSettings, steps: Steps) -> Cleaning:
    """Find eye and heart artefacts in a sample of a run.

    Parameters
    ----------
    sample : mne.io.RawArray
        Sensors first, then EOG and ECG channels where there are; high-passed at 1 Hz.
    kinds : sequence of str
        Types of the sensors.
    rank : int
        Dimensions of the sensors.
    settings : MegSettings
    steps : Steps

    Returns
    -------
    cleaning : Cleaning
        Its matrix has shape (n_sensors, n_sensors).
    """
    operator, removed = np.eye(len(kinds)), list[Removed]()
    if settings.artefacts == "none":
        steps.add("artefacts", "eye and heart stay in: set in preprocess.meg.artefacts", method="none", removed=[])
        return Cleaning(operator)
    for kind in ("meg", "eeg"):
        rows = [row for row, own in enumerate(kinds) if (own == "eeg") == (kind == "eeg")]
        if not rows:
            continue
        one = _of_kind(sample, rows, len(kinds), kind, steps)
        method = _ica if settings.artefacts == "ica" else _ssp
        found = method(one, kind, len(rows), min(rank, len(rows)), settings, steps)
        if found is None:
            continue
        operator[np.ix_(rows, rows)] = found.operator
        removed += [_spread(item, rows, len(kinds)) for item in found.removed]
    steps.add(
        "artefacts", "eye and heart components found and removed", method=settings.artefacts,
        removed=[item.record() for item in removed],
    )  # fmt: skip
    return Cleaning(operator, removed)


def _spread(item: Removed, rows: list[int], n: int) -> Removed:
    topography = np.zeros(n)
    topography[rows] = item.topography
    return Removed(item.kind, item.artefact, item.channel, item.measure, item.score, item.variance, topography)


def _of_kind(sample: Any, rows: list[int], n_sensors: int, kind: str, steps: Steps) -> Any:
    """Return the sensors of one kind with the EOG and ECG channels; a made-up EOG where there is none."""
    import mne

    others = list(range(n_sensors, len(sample.ch_names)))
    one = sample.copy().pick([*rows, *others])
    if "eog" in one.get_channel_types():
        return one
    made = virtual_eog(one, kind)
    if made is None:
        steps.warn(
            f"no EOG channel, and no {kind.upper()} channels from which one can be made: blinks are not looked for"
        )
        return one
    series, how = made
    steps.warn(f"no EOG channel: eye artefacts are found by {how}")
    extra = mne.io.RawArray(series[None], mne.create_info([_VIRTUAL], one.info["sfreq"], "eog"), verbose="ERROR")
    return one.add_channels([extra], force_update_info=True)


def _ica(one: Any, kind: str, n: int, rank: int, settings: MegSettings, steps: Steps) -> Cleaning | None:
    import mne
    from sklearn.exceptions import ConvergenceWarning

    samples, sfreq = one.n_times, one.info["sfreq"]
    most = int(np.sqrt(samples / _SAMPLES_PER_SQUARE))
    components = min(settings.ica_components, rank - 1, most)
    if samples < _LEAST_S * sfreq or components < 5:
        steps.warn(
            f"{samples / sfreq:.3g} s of good {kind.upper()} are too short for ICA (at least {_LEAST_S:g} s):"
            " eye and heart artefacts stay in"
        )
        return None
    ica = mne.preprocessing.ICA(
        components, method="fastica", random_state=settings.ica_seed, max_iter=_ITERATIONS,
        fit_params={"tol": 1e-4}, verbose="ERROR",
    )  # fmt: skip
    with warnings.catch_warnings():
        # Components of Gaussian noise have no direction that could be found: their turning does not end.
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(one, picks=list(range(n)), verbose="ERROR")
    found = {**_hearts(ica, one, kind, steps), **_eyes(ica, one)}
    topographies = ica.get_components()
    removed = []
    for component, (artefact, channel, measure, score) in sorted(found.items()):
        share = ica.get_explained_variance_ratio(one, components=[component], ch_type=_types(kind, one))
        variance = float(np.mean(list(share.values())))
        removed.append(Removed(kind, artefact, channel, measure, score, variance, topographies[:, component]))
    steps.add("ica", f"fit to {samples / sfreq:.0f} s of good {kind.upper()}, high-passed at 1 Hz", kind=kind,
              n_components=int(ica.n_components_), n_removed=len(found), iterations=int(ica.n_iter_),
              seed=settings.ica_seed)  # fmt: skip
    return Cleaning(_matrix(ica, one.copy().pick(list(range(n))), sorted(found)), removed)


def _types(kind: str, one: Any) -> list[str]:
    return ["eeg"] if kind == "eeg" else [name for name in ("mag", "grad") if name in one.get_channel_types()]


def _matrix(ica: Any, sensors: Any, exclude: list[int]) -> NDArray[np.float64]:
    """Return ICA's removal as a matrix: what it makes of unit vectors, less what it makes of zero."""
    import mne

    n = len(sensors.ch_names)
    unit = np.concatenate([np.zeros((n, 1)), np.eye(n)], axis=1)
    raw = mne.io.RawArray(unit, sensors.info.copy(), verbose="ERROR")
    made = ica.apply(raw, exclude=exclude, verbose="ERROR").get_data()
    return np.asarray(made[:, 1:] - made[:, :1])


def _eyes(ica: Any, one: Any) -> dict[int, tuple[str, str, str, float]]:
    import mne

    channels = [name for name, own in zip(one.ch_names, one.get_channel_types(), strict=True) if own == "eog"]
    if not channels:
        return {}
    sfreq = one.info["sfreq"]
    sources = ica.get_sources(one).get_data()
    slow = mne.filter.filter_data(sources, sfreq, 1.0, 10.0, verbose="ERROR")
    spiky = _kurtosis(slow)
    found: dict[int, tuple[str, str, str, float]] = {}
    for name in channels:
        eog = mne.filter.filter_data(one.get_data(picks=[name]), sfreq, 1.0, 10.0, verbose="ERROR")[0]
        r = _correlations(slow, eog)
        for component in np.flatnonzero(np.abs(r) >= (_LEAST_R_VIRTUAL if name == _VIRTUAL else _LEAST_R)):
            if name == _VIRTUAL and spiky[component] < _LEAST_KURTOSIS:
                continue
            if int(component) not in found or abs(r[component]) > found[int(component)][3]:
                found[int(component)] = ("eye", name, "correlation", float(abs(r[component])))
    return found


def _correlations(rows: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, one = rows - rows.mean(axis=1, keepdims=True), one - one.mean()
    size = np.sqrt((rows**2).sum(axis=1) * (one**2).sum())
    return np.divide(rows @ one, size, out=np.zeros(len(rows)), where=size > 0)


def _kurtosis(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import kurtosis

    return np.asarray(kurtosis(rows, axis=1))


def _hearts(ica: Any, one: Any, kind: str, steps: Steps) -> dict[int, tuple[str, str, str, float]]:
    """Return components that beat with the heart."""
    beats, channel = _beats(one, kind, steps)
    if beats is None:
        return {}
    shares = locked_share(ica.get_sources(one).get_data(), beats, one.info["sfreq"])
    least = _LEAST_LOCKED if channel else _LEAST_LOCKED_VIRTUAL
    source = channel or "mean of the magnetometers"
    return {int(row): ("heart", source, "locked share", float(shares[row])) for row in np.flatnonzero(shares >= least)}


def _beats(one: Any, kind: str, steps: Steps) -> tuple[NDArray[np.int64] | None, str | None]:
    """Return the samples of the R peaks, and the ECG channel; None where no heart beat is found."""
    import mne

    types = one.get_channel_types()
    channel = next((name for name, own in zip(one.ch_names, types, strict=True) if own == "ecg"), None)
    if channel is None and "mag" not in types:
        steps.warn(
            f"no ECG channel, and no magnetometers to find the heart beat in: its artefact stays in {kind.upper()}"
        )
        return None, None
    why = ""
    try:
        events, _, _ = mne.preprocessing.find_ecg_events(one, ch_name=channel, verbose="ERROR")
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        events, why = np.zeros((0, 3), dtype=np.int64), " ".join(str(error).split())[:120]
    beats = events[:, 0] - one.first_samp
    why = why or _no_heart(np.diff(beats) / one.info["sfreq"])
    if why:
        steps.warn(
            f"no heart beat is seen in {channel or 'the magnetometers'} ({why}): its artefact was not looked for"
        )
        return None, None
    return beats, channel


def _no_heart(intervals: NDArray[np.float64]) -> str:
    """Say what tells intervals of peaks from those of a heart: a stimulus is too regular, noise not enough."""
    if intervals.size < _LEAST_BEATS:
        return f"{intervals.size + 1} peaks"
    middle = float(np.median(intervals))
    irregular = float(1.4826 * np.median(np.abs(intervals - middle)) / middle)
    if not 0.35 <= middle <= 1.7:
        return f"{60 / middle:.0f} per minute"
    return "" if 0.005 <= irregular <= 0.3 else f"intervals vary by {irregular:.1%}"


def locked_share(sources: NDArray[np.float64], events: NDArray[np.int64], sfreq: float) -> NDArray[np.float64]:
    """Return the share of the variance around events that repeats from one to the next.

    Parameters
    ----------
    sources : array of shape (n_sources, n_times)
    events : array of int of shape (n_events,)
        Samples; the window is -0.1 to 0.25 s.
    sfreq : float

    Returns
    -------
    share : array of shape (n_sources,)
        Variance of the mean over events, over the variance of a single event, less what chance gives (1 / n_events).
    """
    window = np.arange(round(-0.1 * sfreq), round(0.25 * sfreq) + 1)
    inside = events[(events + window[0] >= 0) & (events + window[-1] < sources.shape[1])]
    if not inside.size:
        return np.zeros(len(sources))
    parts = sources[:, inside[:, None] + window]
    parts = parts - parts.mean(axis=2, keepdims=True)
    total = (parts**2).mean(axis=(1, 2))
    share = np.divide((parts.mean(axis=1) ** 2).mean(axis=1), total, out=np.zeros(len(sources)), where=total > 0)
    return np.asarray((share - 1 / inside.size).clip(min=0))


def _ssp(one: Any, kind: str, n: int, rank: int, settings: MegSettings, steps: Steps) -> Cleaning | None:
    import mne

    sensors, removed = one.ch_names[:n], list[Removed]()
    data = one.get_data(picks=list(range(n)))
    counts = {"n_grad": int(kind == "meg"), "n_mag": int(kind == "meg"), "n_eeg": int(kind == "eeg")}
    options = {
        **counts,
        "average": True,
        "l_freq": None,
        "h_freq": None,
        "reject": None,
        "no_proj": True,
        "verbose": "ERROR",
    }
    for artefact, make, own in (
        ("eye", mne.preprocessing.compute_proj_eog, "eog"),
        ("heart", mne.preprocessing.compute_proj_ecg, "ecg"),
    ):
        names = [name for name, kind_of in zip(one.ch_names, one.get_channel_types(), strict=True) if kind_of == own]
        if not names and (own == "eog" or "mag" not in one.get_channel_types()):
            steps.warn(f"no {own.upper()} channel: the artefact of the {artefact} stays in {kind.upper()}")
            continue
        try:
            projections, _ = make(one, ch_name=names[0] if names else None, **options)
        except (RuntimeError, ValueError, IndexError) as error:
            steps.warn(
                f"no artefact of the {artefact} was found in {kind.upper()} ({' '.join(str(error).split())[:120]})"
            )
            continue
        for item in projections or []:
            vector = np.zeros(n)
            for name, value in zip(item["data"]["col_names"], item["data"]["data"][0], strict=True):
                vector[sensors.index(name)] = value
            removed.append(_projected(vector, data, kind, artefact, names[0] if names else "mean of the magnetometers"))
    return Cleaning(_projector([item.topography for item in removed], n), removed)


def _projected(
    vector: NDArray[np.float64], data: NDArray[np.float64], kind: str, artefact: str, channel: str
) -> Removed:
    used = vector != 0
    share = ((vector @ data) ** 2).sum() / max((data[used] ** 2).sum(), 1e-300)
    return Removed(kind, artefact, channel, "projection", float(share), float(share), vector)


def _projector(vectors: Sequence[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    if not vectors:
        return np.eye(n)
    basis, sizes, _ = np.linalg.svd(np.stack(vectors, axis=1), full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]]
    return np.asarray(np.eye(n) - basis @ basis.T)
