"""Opens the raw file or folder of an MEG or EEG run, whatever system wrote it."""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decoders.data.images import joint_sha256
from decoders.errors import InputError
from decoders.store.atomic import sha256_of

# What BIDS allows for each modality. A folder without an ending is BTi/4D, or a KIT run with its markers.
MEG_ENDINGS = (".fif", ".ds", "", ".con", ".sqd")
EEG_ENDINGS = (".edf", ".bdf", ".vhdr", ".set")
# Whatever a reader makes of a damaged file: each has its own way to fail.
_FAULTS = (
    OSError, EOFError, ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, NotImplementedError,
    MemoryError, OverflowError, ZeroDivisionError, AssertionError, struct.error,
)  # fmt: skip
# Of no interest to the reader of a report: BIDS has its own names.
_SILENT = ("does not conform to MNE naming", "This file contains raw Internal Active Shielding")


@dataclass(frozen=True)
class RawHeader:
    """Samples per second, number of samples, day of the recording (YYYYMMDD, "" if not stated) and checksum."""

    sfreq: float
    n_samples: int
    day: str
    sha256: str


def open_raw(paths: Sequence[Path], headshape: Sequence[Path] = ()) -> tuple[Any, list[str]]:
    """Open a recording without reading its data.

    Parameters
    ----------
    paths : sequence of Path
        The file or folder; of a FIF that was split, all parts in order.
    headshape : sequence of Path
        Markers (.mrk, .sqd), digitised coils (.elp) and head shape (.hsp) of a KIT run.

    Returns
    -------
    raw : mne.io.BaseRaw
    notes : list of str
        What the reader said about the file.

    Raises
    ------
    InputError
        The file is absent, of no known format, damaged, or lacks its later parts.
    """
    path = paths[0]
    if not path.exists():
        remedy = "Download it: in a DataLad data set, `datalad get` fetches the content of links."
        raise InputError("an MEG or EEG recording", "no such file", path, remedy)
    reader = _reader(path, headshape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            raw = reader(path)
        except ImportError as error:
            raise InputError("a package that reads this format", f"'{error}'", path, "Install the package.") from error
        except _FAULTS as error:
            remedy = "Copy it again from the system, or convert it to FIF with mne."
            raise InputError("a readable MEG or EEG recording", f"'{_one_line(error)}'", path, remedy) from error
    _check_parts(raw, paths)
    notes = [_one_line(item.message) for item in caught if issubclass(item.category, RuntimeWarning | UserWarning)]
    return raw, [note for note in dict.fromkeys(notes) if not any(part in note for part in _SILENT)]


def _one_line(message: object) -> str:
    return " ".join(str(message).split())[:300]


def _reader(path: Path, headshape: Sequence[Path]) -> Callable[[Path], Any]:
    import mne

    quiet: dict[str, Any] = {"verbose": "ERROR"}
    ending = ".fif" if path.name.endswith(".fif.gz") else path.suffix.lower()
    if path.is_dir() and ending != ".ds":
        return _bti if any(path.glob("config")) else _kit_folder
    readers: dict[str, Callable[[Path], Any]] = {
        ".fif": lambda file: mne.io.read_raw_fif(file, allow_maxshield="yes", **quiet),
        ".ds": lambda file: mne.io.read_raw_ctf(file, **quiet),
        ".con": lambda file: _kit(file, headshape),
        ".sqd": lambda file: _kit(file, headshape),
        ".edf": lambda file: mne.io.read_raw_edf(file, **quiet),
        ".bdf": lambda file: mne.io.read_raw_bdf(file, **quiet),
        ".vhdr": lambda file: mne.io.read_raw_brainvision(file, **quiet),
        ".set": lambda file: mne.io.read_raw_eeglab(file, **quiet),
    }
    if ending not in readers:
        expected = "a FIF, CTF (.ds), BTi, KIT (.con, .sqd), EDF, BDF, BrainVision or EEGLAB recording"
        raise InputError(expected, f"the ending '{path.suffix}'", path, "Convert it to FIF with mne.")
    return readers[ending]


def _bti(folder: Path) -> Any:
    import mne

    data = [file for file in sorted(folder.iterdir()) if file.is_file() and _is_bti_data(file.name)]
    if len(data) != 1:
        raise ValueError(f"a BTi folder needs one data file (such as c,rfDC), found {[file.name for file in data]}")
    shape = folder / "hs_file"
    return mne.io.read_raw_bti(
        data[0], folder / "config", str(shape) if shape.exists() else None, sort_by_ch_name=False, verbose="ERROR"
    )


def _is_bti_data(name: str) -> bool:
    """Tell data of BTi by their names, which hold filters (c,rfDC; e,rfhp1.0Hz,COH); hc,rfDC has the head coils."""
    return "rf" in name and "," in name and not name.startswith("hc,")


def _kit_folder(folder: Path) -> Any:
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    data = [file for file in files if file.suffix in (".con", ".sqd") and "_markers" not in file.name]
    if len(data) != 1:
        found = ", ".join(file.name for file in files[:6]) or "nothing"
        raise ValueError(f"a folder of BTi holds 'config', one of KIT a .con or .sqd file; this one holds {found}")
    others = [file for file in files if file != data[0]]
    return _kit(data[0], [file for file in others if file.suffix in (".mrk", ".elp", ".hsp", ".sqd", ".con")])


def _kit(file: Path, headshape: Sequence[Path]) -> Any:
    """All three of markers, coils and head shape take the sensors to the head; fewer do not."""
    import mne

    kinds = {path.suffix.lower(): str(path) for path in headshape}
    markers = kinds.get(".mrk") or kinds.get(".sqd") or kinds.get(".con")
    found = (markers, kinds.get(".elp"), kinds.get(".hsp"))
    mrk, elp, hsp = found if all(found) else (None, None, None)
    return mne.io.read_raw_kit(file, mrk=mrk, elp=elp, hsp=hsp, verbose="ERROR")


def _check_parts(raw: Any, paths: Sequence[Path]) -> None:
    if len(paths) == 1:
        return
    opened = [Path(name).name for name in raw.filenames]
    if opened != [path.name for path in paths]:
        found = f"the first leads to {', '.join(opened)}"
        remedy = "Copy all parts of the split recording, and rename none of them without mne."
        raise InputError(f"the parts {', '.join(path.name for path in paths)}", found, paths[0], remedy)


def raw_header(paths: Sequence[Path], headshape: Sequence[Path] = ()) -> RawHeader:
    """Return what the manifest says of a recording; the data are read for their checksum alone."""
    raw, _ = open_raw(paths, headshape)
    moment = raw.info["meas_date"]
    day = "" if moment is None else moment.strftime("%Y%m%d")
    return RawHeader(float(raw.info["sfreq"]), int(raw.n_times), day, recording_sha256(paths))


def recording_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a recording; of a folder, that of the names and digests of its files."""
    paths = [beside for path in paths for beside in (path, *_companions(path))]
    if not any(path.is_dir() for path in paths):
        return joint_sha256(paths)
    digest = hashlib.sha256()
    for folder in paths:
        for file in sorted(item for item in folder.rglob("*") if item.is_file()):
            digest.update(f"{file.relative_to(folder).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _companions(path: Path) -> list[Path]:
    """Return the files that hold the data of a header: .eeg of BrainVision, .fdt of EEGLAB."""
    endings = {".vhdr": (".eeg", ".dat"), ".set": (".fdt",)}.get(path.suffix, ())
    return [file for ending in endings if (file := path.with_suffix(ending)).exists()]
