"""How derived files of the registry are made; the result must have the registered checksum."""

from __future__ import annotations

import json
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from decoders.data.dicom import Slice, join_slices, nifti_bytes, read_slice
from decoders.data.download import download
from decoders.errors import InputError

# Writes a file; the second argument turns a published address into the one to ask.
Recipe = Callable[[Path, Callable[[str], str]], None]

# Last picture of each category in the published order, and its 0/1 columns animate, human, face, natural.
_OBJECTS92 = (
    (12, "human bodypart", (1, 1, 0, 1)),
    (24, "human face", (1, 1, 1, 1)),
    (36, "nonhuman bodypart", (1, 0, 0, 1)),
    (48, "nonhuman face", (1, 0, 1, 1)),
    (71, "natural inanimate", (0, 0, 0, 1)),
    (92, "artificial inanimate", (0, 0, 0, 0)),
)
LOCALIZER_ARCHIVE = (
    "https://codeload.github.com/datalad/example-dicom-functional/tar.gz/074ec8da288f9912a485b972006052d714d2922f"
)
_LARGEST_SLICE = 1 << 20


def objects92_labels(path: Path, address: Callable[[str], str]) -> None:
    """Write the category labels of the 92 object pictures.

    The pictures are numbered by category: source Kriegeskorte et al. (2008), Neuron 60:1126-1141,
    figure 1 and supplement.
    """
    lines = ["stimulus\tcategory\tanimate\thuman\tface\tnatural"]
    first = 1
    for last, category, columns in _OBJECTS92:
        values = "\t".join(str(value) for value in columns)
        lines += [f"92images_{number:05d}\t{category}\t{values}" for number in range(first, last + 1)]
        first = last + 1
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def localizer_sidecar(path: Path, address: Callable[[str], str]) -> None:
    """Write the sidecar of the studyforrest localizer, from its DICOM headers."""
    values = {
        "TaskName": "oneback (visual area localizer)",
        "RepetitionTime": 2.0,
        "EchoTime": 0.03,
        "FlipAngle": 90,
        "MagneticFieldStrength": 3,
        "Manufacturer": "Philips",
    }
    path.write_text(json.dumps(values, indent=1), encoding="utf-8", newline="\n")


def localizer_bold(path: Path, address: Callable[[str], str]) -> None:
    """Download the DICOM files of the studyforrest localizer and join them to one image.

    Stored values are kept. The mirror's image, made by dcm2niix, holds the same ones times 75.54
    (Philips' scale), which no step after z-scoring sees.
    """
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        archive = Path(folder) / "dicoms.tar.gz"
        # What GitHub packs on demand has no stable checksum; the image that is made of it has.
        download(address(LOCALIZER_ARCHIVE), archive, None)
        data, affine, tr = join_slices(archived_slices(archive), str(archive))
    path.write_bytes(nifti_bytes(data, affine, tr))


def archived_slices(archive: Path) -> Iterator[Slice]:
    """Yield the slices below a folder ``dicoms`` of an archive, in memory: nothing is unpacked to disk."""
    try:
        with tarfile.open(archive, "r|gz") as file:
            for member in file:
                wanted = member.isfile() and Path(member.name).parent.name == "dicoms"
                stream = file.extractfile(member) if wanted and member.size < _LARGEST_SLICE else None
                if stream is not None:
                    yield read_slice(stream.read(), member.name)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InputError("a gzipped tar archive", f"'{error}'", archive, "Run again to download it anew.") from error


RECIPES: dict[str, Recipe] = {
    "localizer_bold": localizer_bold,
    "localizer_sidecar": localizer_sidecar,
    "objects92_labels": objects92_labels,
}
