"""What the manifest says of an image: its number of volumes and its checksum."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decoders.errors import InputError
from decoders.store.atomic import sha256_of


@dataclass(frozen=True)
class ImageHeader:
    """Number of volumes and checksum of the image(s) of a run."""

    n_volumes: int
    sha256: str


def image_header(paths: Sequence[Path]) -> ImageHeader:
    """Read the headers of the images of one run.

    Parameters
    ----------
    paths : sequence of Path
        One image, or one per hemisphere.

    Raises
    ------
    InputError
        An image is missing (a link of an undownloaded data set, say), cannot be read or is no time
        series; the hemispheres differ in length.
    """
    lengths = [n_volumes(path) for path in paths]
    if len(set(lengths)) > 1:
        found = " and ".join(f"{length}" for length in lengths)
        raise InputError("as many volumes in both hemispheres", found, paths[0], "Project the whole run again.")
    return ImageHeader(lengths[0], joint_sha256(paths))


def joint_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of their digests joined."""
    digests = [sha256_of(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def n_volumes(path: Path) -> int:
    """Return the number of volumes of a NIfTI, GIFTI or CIFTI time series."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not path.exists():
        remedy = "Download it: in a DataLad data set, `datalad get` fetches the content of links."
        raise InputError("an image", "no such file", path, remedy)
    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError("a readable image", f"'{error}'", path, "Copy or convert it again.") from error
    if isinstance(image, nibabel.gifti.GiftiImage):
        return len(image.darrays)
    shape = tuple(getattr(image, "shape", ()))
    if isinstance(image, nibabel.cifti2.Cifti2Image):
        return int(shape[0])
    if len(shape) != 4:
        found = f"{len(shape)} axes, {' x '.join(map(str, shape))}"
        raise InputError("a time series with 4 axes", found, path, "Join the volumes of the run into one file.")
    return int(shape[3])
