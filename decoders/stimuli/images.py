"""Pictures that were shown: found, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")
# Where data sets keep pictures, below their root: BIDS, and the public set of 92 objects.
FOLDERS = ("stimuli", "stimuli/pictures", "stimuli/images", "images")
TABLES = ("stimuli/pictures.tsv", "92images_labels.tsv")


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size, and what they show.

    Attributes
    ----------
    values : array of shape (n_pictures, n_rows, n_columns, 3), uint8
    names : list of str
        File names without suffix: what events and RDMs call the stimulus.
    labels : DataFrame
        Column ``stimulus``, and category columns where a table of labels is there.
    """

    values: NDArray[np.uint8]
    names: list[str]
    labels: pd.DataFrame


def find_pictures(root: Path) -> Pictures:
    """Read the pictures of a data set.

    Parameters
    ----------
    root : Path
        Root of the data set. Names and categories come from ``stimuli/pictures.tsv`` (column ``stimulus``) or the
        labels of the set; without a table all pictures in the folder are taken, in the order of their names.

    Returns
    -------
    Pictures

    Raises
    ------
    InputError
        No pictures, a picture that is missing or cannot be read, or pictures of several sizes.
    """
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    files = _files(root)
    if table is None:
        names = sorted(files)
        labels = pd.DataFrame({"stimulus": names})
    else:
        labels = read_labels(table)
        names = labels["stimulus"].tolist()
    missing = [name for name in names if name not in files]
    if missing or not names:
        remedy = "Put the pictures into the folder 'stimuli', named as in the column 'stimulus'."
        found = f"none for '{missing[0]}'" if missing else "none"
        raise InputError(f"a picture for each of {len(names)} stimuli", found, table or root, remedy)
    return Pictures(read_pictures([files[name] for name in names]), names, labels)


def read_labels(path: Path) -> pd.DataFrame:
    """Read the table of picture labels; its first column is ``stimulus``, without the file's suffix.

    Raises
    ------
    InputError
        It cannot be read, lacks the column, or names a picture twice.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype={"stimulus": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError("a table of picture labels", f"'{error}'", path, "Open the file and correct it.") from error
    if "stimulus" not in table:
        found = f"the columns {', '.join(map(str, table.columns))}"
        raise InputError("the column 'stimulus'", found, path, "Name the pictures in it.")
    table["stimulus"] = [Path(name).stem if name.lower().endswith(SUFFIXES) else name for name in table["stimulus"]]
    twice = table["stimulus"][table["stimulus"].duplicated()].tolist()
    if twice:
        raise InputError("each picture once", f"'{twice[0]}' twice", path, "Remove one of the rows.")
    return table[["stimulus", *(column for column in table if column != "stimulus")]]


def _files(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        paths = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
        for path in paths:
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            if path.stem in found:
                remedy = "Remove or rename one of the two."
                raise InputError("one picture per name", f"also {found[path.stem].name}", path, remedy)
            found[path.stem] = path
    return found


def read_pictures(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Read pictures of one size as RGB; what is transparent is shown on white.

    Returns
    -------
    array of shape (n_pictures, n_rows, n_columns, 3), uint8

    Raises
    ------
    InputError
        A picture cannot be read, or differs in size from the first.
    """
    pictures = [_read(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            sizes = [f"{p.shape[1]} x {p.shape[0]} pixels" for p in (pictures[0], picture)]
            remedy = "Bring all pictures to one size: they are never resized in silence."
            raise InputError(f"{sizes[0]}, as {paths[0].name}", sizes[1], path, remedy)
    return np.stack(pictures)


def _read(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("a readable picture", f"'{error}'", path, "Copy or convert it again.") from error
