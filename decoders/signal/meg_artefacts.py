"""Eye and heart artefacts: found in independent components or by projections, removed by one matrix, and reported."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Removed:
    """One direction that was removed.

    Attributes
    ----------
    kind : {"meg", "eeg"}
    artefact : {"eye", "heart"}
    channel : str
        What it was compared with.
    measure : {"correlation", "phase", "projection"}
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
        steps.warn(f"no EOG channel, and no {kind.upper()} channels from which one can be made: blinks are not looked for")
        return one
    series, how = made
    steps.warn(f"no EOG channel: eye artefacts are found by {how}")
    extra = mne.io.RawArray(series[None], mne.create_info([_VIRTUAL], one.info["sfreq"], "eog"), verbose="ERROR")
    return one.add_channels([extra], force_update_info=True)


def _ica(one: Any, kind: str, n: int, rank: int, settings: MegSettings, steps: Steps) -> Cleaning | None:
    import mne

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
        components, method="fastica", random_state=settings.ica_seed, max_iter=500,
        fit_params={"tol": 1e-4}, verbose="ERROR",
    )  # fmt: skip
    ica.fit(one, picks=list(range(n)), verbose="ERROR")
    found = {**_hearts(ica, one, kind, steps), **_eyes(ica, one)}
    topographies = ica.get_components()
    removed = []
    for component, (artefact, channel, measure, score) in sorted(found.items()):
        share = ica.get_explained_variance_ratio(one, components=[component], ch_type=_types(kind, one))
        variance = float(np.mean(list(share.values())))
        removed.append(Removed(kind, artefact, channel, measure, score, variance, topographies[:, component]))
    steps.add("ica", f"fit to {samples / sfreq:.0f} s of good {kind.upper()}, high-passed at 1 Hz", kind=kind,
              n_components=int(ica.n_components_), n_removed=len(found), iterations=int(ica.n_iter_), seed=settings.ica_seed)  # fmt: skip
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
    """Return components whose phase is locked to the heart beat (Dammers et al. 2008, cross-trial phase statistics)."""
    types = one.get_channel_types()
    channel = next((name for name, own in zip(one.ch_names, types, strict=True) if own == "ecg"), None)
    if channel is None and "mag" not in types:
        steps.warn(f"no ECG channel, and no magnetometers to find the heart beat in {kind.upper()}: its artefact stays in")
        return {}
    try:
        found, scores = ica.find_bads_ecg(one, ch_name=channel, method="ctps", threshold="auto", verbose="ERROR")
    except (RuntimeError, ValueError, IndexError) as error:
        steps.warn(f"no heart beat was found ({' '.join(str(error).split())[:120]}): its artefact was not looked for")
        return {}
    source = channel or "mean of the magnetometers"
    return {int(component): ("heart", source, "phase", float(scores[component])) for component in found}


def _ssp(one: Any, kind: str, n: int, rank: int, settings: MegSettings, steps: Steps) -> Cleaning | None:
    import mne

    sensors, removed = one.ch_names[:n], list[Removed]()
    data = one.get_data(picks=list(range(n)))
    counts = {"n_grad": int(kind == "meg"), "n_mag": int(kind == "meg"), "n_eeg": int(kind == "eeg")}
    options = {**counts, "average": True, "l_freq": None, "h_freq": None, "reject": None, "no_proj": True, "verbose": "ERROR"}
    for artefact, make, own in (("eye", mne.preprocessing.compute_proj_eog, "eog"), ("heart", mne.preprocessing.compute_proj_ecg, "ecg")):
        names = [name for name, kind_of in zip(one.ch_names, one.get_channel_types(), strict=True) if kind_of == own]
        if not names and (own == "eog" or "mag" not in one.get_channel_types()):
            steps.warn(f"no {own.upper()} channel: the artefact of the {artefact} stays in {kind.upper()}")
            continue
        try:
            projections, _ = make(one, ch_name=names[0] if names else None, **options)
        except (RuntimeError, ValueError, IndexError) as error:
            steps.warn(f"no artefact of the {artefact} was found in {kind.upper()} ({' '.join(str(error).split())[:120]})")
            continue
        for item in projections or []:
            vector = np.zeros(n)
            for name, value in zip(item["data"]["col_names"], item["data"]["data"][0], strict=True):
                vector[sensors.index(name)] = value
            removed.append(_projected(vector, data, kind, artefact, names[0] if names else "mean of the magnetometers"))
    return Cleaning(_projector([item.topography for item in removed], n), removed)


def _projected(vector: NDArray[np.float64], data: NDArray[np.float64], kind: str, artefact: str, channel: str) -> Removed:
    used = vector != 0
    share = ((vector @ data) ** 2).sum() / max((data[used] ** 2).sum(), 1e-300)
    return Removed(kind, artefact, channel, "projection", float(share), float(share), vector)


def _projector(vectors: Sequence[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    if not vectors:
        return np.eye(n)
    basis, sizes, _ = np.linalg.svd(np.stack(vectors, axis=1), full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]]
    return np.asarray(np.eye(n) - basis @ basis.T)
