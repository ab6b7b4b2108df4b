"""One fMRI run from its files to a Recording: checks, mask, one projection for drift and confounds, z-score.

Motion correction, slice timing and normalisation are fMRIPrep's work and are not done here: raw data
stay in native space.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PreprocessSettings
from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.signal import confounds as nuisance
from decoders.signal.events import check_events, label_volumes, merge_blocks, overlaps, read_events
from decoders.signal.filtering import CleanStats, clean_in_place, keep_columns, nuisance_basis
from decoders.signal.preflight import check_n_volumes, judge_features, read_sidecar, resolve_tr, sidecar_seconds
from decoders.signal.readers import read_series
from decoders.signal.series import Series
from decoders.signal.steps import Steps
from decoders.store.recording import Recording


@dataclass(frozen=True)
class Timing:
    """When the volumes were taken.

    Attributes
    ----------
    tr : float
        Repetition time in seconds.
    slice_time : float
        Seconds from the start of a volume to the moment that its values stand for (fMRIPrep's StartTime after
        slice-timing correction); 0 otherwise.
    """

    tr: float
    slice_time: float = 0.0


def prepare_run(
    run: Run,
    runs: Sequence[Run],
    settings: PreprocessSettings,
    tr: float | None = None,
    needs_sidecar: bool = False,
    log: logging.Logger | None = None,
) -> Recording:
    """Read and preprocess one run.

    Parameters
    ----------
    run : Run
    runs : sequence of Run
        The whole manifest: a computed mask comes from the subject's first run on this grid.
    settings : PreprocessSettings
    tr : float, optional
        The setting data.tr.
    needs_sidecar : bool
        Whether a run without a JSON sidecar is refused (BIDS demands one), unless `tr` is given.
    log : Logger, optional

    Returns
    -------
    recording : Recording
        With `excluded` set, and no data, if the manifest excludes the run or all its features are bad.
        ``quality["nuisance"]`` is the orthonormal basis (n_volumes, rank) that was projected out.

    Raises
    ------
    InputError
        The run is not what the settings need; see `decoders.signal.preflight`.
    """
    steps = Steps(run.run_id, log)
    if run.status == "excluded":
        return _excluded(run, run.reason or "excluded in the manifest", steps, settings)
    sidecar = _sidecar(run, needs_sidecar and tr is None)
    if settings.drop_volumes:
        steps.add("drop volumes", "set in preprocess.drop_volumes", n=settings.drop_volumes)
    series, header_tr = read_series(run, runs, settings, steps)
    if series.excluded:
        steps.warn(f"the run is excluded, and the study goes on without it: {series.excluded}")
        return _excluded(run, series.excluded, steps, settings)
    check_n_volumes(run, series.n_file)
    timing = _timing(run, sidecar, header_tr, tr, steps)
    return _clean(run, series, timing, settings, steps)


def _excluded(run: Run, reason: str, steps: Steps, settings: PreprocessSettings) -> Recording:
    kind = run.modality if run.modality in ("region", "surface") else settings.representation
    empty = np.zeros((0, 0), dtype=np.float32)
    tr = run.tr if np.isfinite(run.tr) else 0.0
    return Recording(
        data=empty, kind=kind, subject=run.subject, session=run.session, task=run.task, run=run.run,
        stimulus=run.stimulus, tr=tr, steps=steps.entries, excluded=reason,
    )  # fmt: skip


def _sidecar(run: Run, required: bool) -> dict[str, Any]:
    path = run.path("sidecar")
    if path is not None:
        return read_sidecar(path)
    if required:
        image = run.path("image") or Path(run.root)
        missing = image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")
        remedy = "Add the sidecar (dcm2niix writes it) with RepetitionTime in seconds, or set data.tr."
        raise InputError("the JSON sidecar of the BOLD image", "none in the data set", missing, remedy)
    return {}


def _timing(run: Run, sidecar: dict[str, Any], header_tr: float, chosen: float | None, steps: Steps) -> Timing:
    where = run.path("image") or run.image
    if "VolumeTiming" in sidecar:
        remedy = "Runs with sparse or irregular sampling cannot be filtered and modelled yet: leave them out."
        raise InputError("volumes at a constant interval", "VolumeTiming in the sidecar", where, remedy)
    path = run.path("sidecar") or where
    statements = {
        "the header": header_tr,
        "the sidecar": sidecar_seconds(sidecar, "RepetitionTime", path),
        "the manifest": run.tr,
    }
    tr = resolve_tr(statements, chosen, where)
    start = sidecar_seconds(sidecar, "StartTime", path)
    timing = Timing(tr, 0.0 if np.isnan(start) else start)
    stated = {name: value for name, value in statements.items() if np.isfinite(value) and value > 0}
    if any(abs(value - tr) > 1e-3 for value in stated.values()):
        listed = ", ".join(f"{value:g} s in {name}" for name, value in stated.items())
        steps.warn(f"the sources disagree about the TR ({listed}): data.tr chose {tr:g} s")
    steps.add("timing", "TR that header, sidecar and settings agree on", tr=tr, slice_time=timing.slice_time)
    return timing


def _clean(run: Run, series: Series, timing: Timing, settings: PreprocessSettings, steps: Steps) -> Recording:
    drop = settings.drop_volumes
    n_volumes = len(series.data)
    frame = timing.tr * np.arange(drop, drop + n_volumes, dtype=np.float64)
    conditions, groups = _conditions(run, series.n_file, timing.tr, frame, steps)
    columns, displacement = _confounds(run, series.n_file, timing.tr, settings, steps)
    basis = _basis(run, n_volumes, timing.tr, columns, settings, steps)
    stats = clean_in_place(series.data, basis, settings.standardize)
    series, tsnr = _without_flat(run, series, stats, settings, steps)
    if series.excluded:
        return _excluded(run, series.excluded, steps, settings)
    unit = "z" if settings.standardize else "a.u."
    if settings.standardize:
        steps.add("standardize", "each feature to mean 0 and mean square 1 within the run", ddof=0)
    steps.add("features", "what is left", n=series.data.shape[1], n_bad=series.n_bad, n_before=series.n_features)
    start = run.start_time if np.isfinite(run.start_time) else 0.0
    quality: dict[str, NDArray[Any]] = {"tsnr": tsnr, "nuisance": basis}
    if displacement is not None:
        quality["framewise_displacement"] = displacement[drop:]
    return Recording(
        data=series.data, kind=series.kind, subject=run.subject, session=run.session, task=run.task, run=run.run,
        stimulus=run.stimulus, time=start + frame, tr=timing.tr, names=series.names, conditions=conditions,
        groups=groups, mask=series.mask, affine=series.affine, unit=unit, steps=steps.entries, quality=quality,
    )  # fmt: skip


def _conditions(
    run: Run, n_file: int, tr: float, frame: NDArray[np.float64], steps: Steps
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    path = run.path("events")
    if path is None:
        return np.zeros(0, dtype=object), np.zeros(0, dtype=np.int64)
    events = read_events(path)
    check_events(events, n_file, tr)
    if not events.typed:
        steps.warn("the events have no column trial_type: the volumes get no conditions")
    blocks = merge_blocks(events, tr)
    if number := overlaps(blocks):
        steps.warn(f"{number} blocks of events overlap: a volume has the condition that started last")
    why = "of the block that covers the start of the volume; gaps up to 2 TR are closed"
    steps.add("conditions", why, n_blocks=len(blocks))
    return label_volumes(blocks, frame)


def _confounds(
    run: Run, n_file: int, tr: float, settings: PreprocessSettings, steps: Steps
) -> tuple[pd.DataFrame | None, NDArray[np.float64] | None]:
    path = run.path("confounds")
    if path is None:
        if settings.confounds:
            remedy = "Give fMRIPrep-style derivatives or motion files, or leave preprocess.confounds empty."
            where = run.path("image") or run.image
            raise InputError(f"confounds ({', '.join(settings.confounds)})", "no table for this run", where, remedy)
        return None, None
    before = round(run.start_time / tr) if np.isfinite(run.start_time) and run.start_time > 0 else 0
    table, left_out = nuisance.fit_rows(nuisance.read_confounds(path), n_file, before)
    if left_out:
        why = "they belong to volumes that were dropped before the image was published"
        steps.add("confound rows left out", why, n=left_out)
    displacement = nuisance.framewise_displacement(table) if nuisance.has_motion(table) else None
    if not settings.confounds:
        return None, displacement
    columns = nuisance.select(table, settings.confounds, settings.drop_volumes)
    why = "set in preprocess.confounds; taken out in one projection with the drift"
    steps.add("confounds", why, columns=[str(column) for column in columns], convention=table.kind)
    return columns, displacement


def _basis(
    run: Run, n_volumes: int, tr: float, columns: pd.DataFrame | None, settings: PreprocessSettings, steps: Steps
) -> NDArray[np.float64]:
    values = None if columns is None else columns.to_numpy()
    basis = nuisance_basis(n_volumes, tr, settings.high_pass_s, values)
    left = n_volumes - basis.shape[1]
    if left < 2:
        remedy = "Choose fewer confounds, a longer preprocess.high_pass_s, or leave this run out."
        found = f"{basis.shape[1]} independent columns for {n_volumes} volumes"
        raise InputError("fewer nuisance columns than volumes", found, run.path("image") or run.image, remedy)
    if left < n_volumes / 2:
        steps.warn(f"drift and confounds take {basis.shape[1]} of {n_volumes} degrees of freedom")
    why = "mean, DCT high-pass and confounds taken out in one projection"
    steps.add("project out", why, high_pass_s=settings.high_pass_s, rank=int(basis.shape[1]))
    return basis


def _without_flat(
    run: Run, series: Series, stats: CleanStats, settings: PreprocessSettings, steps: Steps
) -> tuple[Series, NDArray[np.float32]]:
    """Leave out features of which the projection left nothing (a pure drift, rounding noise)."""
    flat, tsnr = stats.flat, stats.tsnr
    if not flat.any():
        return series, tsnr
    # A region is left out whatever its share; voxels beyond the limit say that the image is wrong.
    limit = 1.0 if series.kind == "region" else settings.max_bad_share
    what = "features that are left after drift and confounds were taken out"
    verdict = judge_features(np.zeros_like(flat), flat, limit, what, run.path("image") or run.image)
    if verdict.excluded:
        steps.warn(f"the run is excluded, and the study goes on without it: {verdict.excluded}")
        return replace(series, excluded=verdict.excluded), tsnr
    left_out = f" ({', '.join(series.names[flat][:12])})" if series.names.size else ""
    steps.warn(verdict.warning + left_out)
    mask = series.mask
    if mask is not None:
        mask = mask.copy()
        mask[mask] = ~flat
    names = series.names[~flat] if series.names.size else series.names
    n_bad = series.n_bad + int(flat.sum())
    return replace(series, data=keep_columns(series.data, ~flat), mask=mask, names=names, n_bad=n_bad), tsnr[~flat]
