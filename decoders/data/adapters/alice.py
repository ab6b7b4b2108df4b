"""Alice in Wonderland, chapter 1: six language regions of 21 listeners (Brennan et al. 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.data.adapters.common import choose_variant, read_numbers
from decoders.data.images import joint_sha256
from decoders.data.manifest import Run, relative_root
from decoders.errors import InputError

VARIANTS = ("6mm", "10mm")
REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
TR = 2.0
# The first ten volumes were dropped from the time courses: row i is at stimulus time 20 + 2i s.
DROPPED = 10
PREDICTORS = (
    "rate", "frq", "break", "tdp", "tdx", "bup", "bux", "cfgsurp", "bigramlex", "trigramlex", "bigrampos", "trigrampos",
)  # fmt: skip
_DATA = "alice_data_shared"
_TEXT = "alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
_PREDICTOR_FILE = f"{_DATA}/sept18-generic-predictors-under-hrf-with-logfrqhal.txt"
_END = "-timecourses.txt"
# The right offset gives .98, a wrong one .07 (measured).
_LEAST_CORRELATION = 0.9


def read_runs(folder: Path, variant: str | None = None) -> list[Run]:
    """Return one run per subject, constant ones included: preprocessing names and excludes them.

    Parameters
    ----------
    folder : Path
        The data set, as `fetch` returns it.
    variant : {"6mm", "10mm"}, optional
        Radius of the regions; 6 mm when absent.

    Raises
    ------
    InputError
        A time course is no table of six numbers per volume, or a subject's motion file is missing.
    """
    variant = choose_variant(variant, VARIANTS, folder)
    paths = sorted((folder / _DATA / variant).glob(f"s*{_END}"))
    return [_run(folder, path) for path in paths]


def _run(folder: Path, path: Path) -> Run:
    subject = path.name.removeprefix("s").removesuffix(_END)
    motion = sorted((folder / _DATA).glob(f"s{subject}-rp_*.txt"))
    if len(motion) != 1:
        expected = f"one motion file of s{subject}"
        raise InputError(expected, f"{len(motion)}", folder / _DATA, "Fetch the data set again.")
    return Run(
        run_id=f"sub-{subject}_task-alice",
        subject=subject,
        task="alice",
        modality="region",
        root=relative_root(folder),
        image=path.relative_to(folder).as_posix(),
        confounds=motion[0].relative_to(folder).as_posix(),
        text=_TEXT,
        stimulus="alice",
        tr=TR,
        n_volumes=len(read_numbers(path, len(REGIONS))),
        region=",".join(REGIONS),
        start_time=DROPPED * TR,
        sha256=joint_sha256([path]),
    )


def read_timecourses(run: Run) -> NDArray[np.float64]:
    """Return the time courses of a subject.

    Returns
    -------
    array of shape (n_volumes, 6)
        Columns as in `REGIONS`, scanner units.
    """
    return read_numbers(_image(run), len(REGIONS))


def read_motion(run: Run) -> pd.DataFrame:
    """Return the motion of a subject, one row per volume of its time course.

    Returns
    -------
    DataFrame
        trans_x, trans_y, trans_z in mm, rot_x, rot_y, rot_z in radians (SPM's order); the rows of the
        ten dropped volumes are left out.
    """
    path = run.path("confounds")
    if path is None:
        raise InputError("a motion file", "none", run.run_id, "Fetch the data set again.")
    values = drop_first(read_numbers(path, 6), int(run.n_volumes), path)
    return pd.DataFrame(values, columns=["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"])


def read_word_rate(run: Run) -> NDArray[np.float64]:
    """Return the published word rate under the HRF, array of shape (n_volumes,)."""
    return _series(run, "rate")


def read_sound_power(run: Run) -> NDArray[np.float64]:
    """Return the published sound power under the HRF, array of shape (n_volumes,)."""
    return _series(run, "sndpwr")


def _series(run: Run, kind: str) -> NDArray[np.float64]:
    path = Path(run.root) / _DATA / f"s{run.subject}-{kind}.txt"
    values = read_numbers(path, 1)[:, 0]
    if len(values) != run.n_volumes:
        raise InputError(f"{run.n_volumes:g} rows", f"{len(values)}", path, "Fetch the data set again.")
    return values


def read_predictors(root: str | Path, n_volumes: int, drop: int | None = None) -> pd.DataFrame:
    """Return the twelve linguistic predictors, aligned with the time courses.

    The table still holds the ten dropped volumes at its start. The alignment is checked against the
    published word rate of the subjects, which is aligned.

    Parameters
    ----------
    root : str or Path
        The data set.
    n_volumes : int
        Rows to return.
    drop : int, optional
        Rows to drop from the start; the surplus over `n_volumes` when absent.

    Returns
    -------
    DataFrame of shape (n_volumes, 12)
        Columns as in `PREDICTORS`.

    Raises
    ------
    InputError
        The table is too short, or its word rate does not fit that of the subjects at this offset.
    """
    path = Path(root) / _PREDICTOR_FILE
    values = read_numbers(path, len(PREDICTORS))
    drop = len(values) - n_volumes if drop is None else drop
    kept = values[max(drop, 0) : max(drop, 0) + n_volumes]
    if drop < 0 or len(kept) < n_volumes:
        remedy = f"Drop the first {DROPPED} rows, which belong to the dropped volumes."
        raise InputError(f"at least {n_volumes} rows after dropping {drop}", f"{len(values)}", path, remedy)
    _check_alignment(kept[:, 0], values[:, 0], drop, path)
    return pd.DataFrame(kept, columns=list(PREDICTORS))


def _check_alignment(rate: NDArray[np.float64], whole: NDArray[np.float64], drop: int, path: Path) -> None:
    rates = [read_numbers(file, 1)[:, 0] for file in sorted(path.parent.glob("s*-rate.txt"))]
    # Differently scaled from subject to subject, hence z-scored before averaging.
    mean = np.mean([(series - series.mean()) / series.std() for series in rates if series.std() > 0], axis=0)
    if len(mean) != len(rate):
        expected = f"{len(mean)} rows, as the word rate of the subjects has"
        raise InputError(expected, f"{len(rate)}", path, "Ask for as many as the time courses have.")
    found = float(np.corrcoef(rate, mean)[0, 1])
    if found < _LEAST_CORRELATION:
        best = max(range(len(whole) - len(mean) + 1), key=lambda i: np.corrcoef(whole[i : i + len(mean)], mean)[0, 1])
        expected = f"a word rate that correlates above {_LEAST_CORRELATION} with that of the subjects"
        remedy = f"Drop {best} rows, where it fits best: the ten volumes that were dropped from the time courses."
        raise InputError(expected, f"{found:.2f} after dropping {drop} rows", path, remedy)


def drop_first(values: NDArray[np.float64], n_volumes: int, path: Path) -> NDArray[np.float64]:
    """Drop the rows of the ten dropped volumes.

    Raises
    ------
    InputError
        The table has neither as many rows as the recording nor ten more.
    """
    surplus = len(values) - n_volumes
    if surplus not in (0, DROPPED):
        expected = f"{n_volumes} rows, or {n_volumes + DROPPED} with the dropped volumes"
        raise InputError(expected, f"{len(values)}", path, "Fetch the data set again.")
    return values[surplus:]


def _image(run: Run) -> Path:
    path = run.path("image")
    if path is None:
        raise InputError("time courses", "none", run.run_id, "Fetch the data set again.")
    return path
