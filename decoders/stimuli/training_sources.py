"""Catalogues of training pictures: CIFAR-10, MNIST, a folder of classes, the phantom's pictures."""

from __future__ import annotations

import gzip
import io
import math
import re
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.errors import InputError, IntegrityError
from decoders.stimuli.training import (
    Catalogue,
    Part,
    Pixels,
    open_picture,
    part_of_array,
    part_of_files,
    split_pool,
    to_pixels,
)

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
_CIFAR_ROW = 1 + 3 * 32 * 32
_MAX_MEMBER = 1 << 20  # bytes of one JPEG in the archive; they are of 1 KiB


def cifar10(folder: Path) -> Catalogue:
    """Return the catalogue of CIFAR-10 (Krizhevsky 2009), from the official archive or the subset of JPEG files."""
    official, subset = folder / "cifar-10-binary.tar.gz", folder / "cifar10_jpg_2000train_200test_per_class.zip"
    if official.is_file():
        train = _cifar_part(official, [f"data_batch_{number}.bin" for number in range(1, 6)], "training")
        return Catalogue(CIFAR_CLASSES, train, _cifar_part(official, ["test_batch.bin"], "test"), str(official))
    if not subset.is_file():
        remedy = "Run `corticode fetch img_cifar10_subset`."
        raise InputError(f"{official.name} or {subset.name}", "neither", folder, remedy)
    return Catalogue(CIFAR_CLASSES, _zip_part(subset, "train"), _zip_part(subset, "test"), str(subset))


def _cifar_part(archive: Path, members: Sequence[str], title: str) -> Part:
    rows = []
    with tarfile.open(archive, "r:gz") as file:
        # Members are read by name, never unpacked to disk.
        for member in members:
            stream = file.extractfile(f"cifar-10-batches-bin/{member}")
            content = b"" if stream is None else stream.read()
            rows.append(np.frombuffer(content, dtype=np.uint8).reshape(-1, _CIFAR_ROW))
    table = np.concatenate(rows)
    pictures = table[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return part_of_array(np.ascontiguousarray(pictures), table[:, 0].astype(np.int64), title)


def _zip_part(archive: Path, split: str) -> Part:
    file = zipfile.ZipFile(archive)  # open as long as the part is: its directory is long
    pattern = re.compile(rf"{split}/({'|'.join(CIFAR_CLASSES)})/\d+\.jpg")
    names = sorted(name for name in file.namelist() if pattern.fullmatch(name))
    too_large = [name for name in names if file.getinfo(name).file_size > _MAX_MEMBER]
    if too_large or not names:
        found = f"{too_large[0]} of more than 1 MiB" if too_large else "none"
        raise IntegrityError(f"small JPEG files {split}/<class>/<n>.jpg", found, archive, "Fetch the archive again.")
    labels = np.array([CIFAR_CLASSES.index(name.split("/")[1]) for name in names], dtype=np.int64)

    def load(index: int, size: int) -> Pixels:
        return to_pixels(open_picture(io.BytesIO(file.read(names[index])), f"{archive}:{names[index]}"), size)

    return Part(labels, load, lambda index: names[index])


def mnist(folder: Path) -> Catalogue:
    """Return the catalogue of MNIST (LeCun et al. 1998), from the official files or one npz."""
    packed = folder / "mnist.npz"
    parts = []
    for title, prefix, key in (("training", "train", "train"), ("test", "t10k", "test")):
        if packed.is_file():
            with np.load(packed, allow_pickle=False) as file:
                pictures, labels = file[f"x_{key}"], file[f"y_{key}"]
        else:
            pictures = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
            labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        parts.append(part_of_array(pictures, labels.astype(np.int64), title))
    return Catalogue([str(digit) for digit in range(10)], parts[0], parts[1], str(folder))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes: magic number 0 0 8 n_axes, big-endian lengths, values."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise InputError("a gzipped IDX file", f"'{error}'", path, "Run `corticode fetch img_mnist`.") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise IntegrityError("an IDX file of bytes", f"the start {content[:4].hex()}", path, "Fetch it again.")
    start = 4 + 4 * content[3]
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4", count=len(content[4:start]) // 4))
    n_values = math.prod(shape)  # of Python integers: lengths from a file may overflow others
    if len(shape) != content[3] or len(content) - start != n_values:
        found = f"{max(0, len(content) - start)}"
        raise IntegrityError(f"{content[3]} lengths and {n_values} values", found, path, "Fetch it again.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def class_folder(folder: Path, n_test: int, rng: np.random.Generator) -> Catalogue:
    """Return the catalogue of a user's folder: one sub-folder per class, named as the class.

    Raises
    ------
    InputError
        No such folder, fewer than two classes, loose pictures beside the classes, or a class without pictures.
    """
    remedy = "Make one sub-folder per class with its pictures, and name the folder above in learning.training.folder."
    if not folder.is_dir():
        raise InputError("a folder with one sub-folder per class", "no such folder", folder, remedy)
    loose = [path.name for path in sorted(folder.iterdir()) if path.is_file() and _is_picture(path)]
    if loose:
        raise InputError("pictures in sub-folders only", f"{len(loose)} beside them, e.g. {loose[0]}", folder, remedy)
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise InputError("two classes or more", f"{len(classes)}", folder, remedy)
    files: list[Path] = []
    labels: list[int] = []
    for label, path in enumerate(classes):
        members = sorted(file for file in path.iterdir() if file.is_file() and _is_picture(file))
        if not members:
            kinds = ", ".join(sorted(PICTURE_SUFFIXES))
            raise InputError(f"pictures ({kinds})", "none", path, "Add some, or remove it.")
        files += members
        labels += [label] * len(members)
    every = np.array(labels, dtype=np.int64)
    train, test = (
        part_of_files([files[index] for index in part], every[part])
        for part in split_pool(every, len(classes), n_test, rng)
    )
    return Catalogue([path.name for path in classes], train, test, str(folder))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def phantom_pictures(bids: Path) -> Catalogue:
    """Return the catalogue of the phantom's training pictures: ``stimuli/training_split.tsv`` (file, class, split)."""
    path = bids / "stimuli" / "training_split.tsv"
    remedy = "Run the stage 'simulate' again."
    if not path.is_file():
        raise InputError("the phantom's table of training pictures", "no such file", path, remedy)
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    missing = {"file", "class", "split"} - set(table.columns)
    if missing:
        raise InputError("the columns file, class and split", f"no {sorted(missing)}", path, remedy)
    classes = sorted(table["class"].unique())
    parts = []
    for split in ("train", "test"):
        rows = table[table["split"] == split]
        files = [_inside(bids / "stimuli", name, path) for name in rows["file"]]
        labels = np.array([classes.index(name) for name in rows["class"]], dtype=np.int64)
        parts.append(part_of_files(files, labels))
    return Catalogue(classes, parts[0], parts[1], str(path))


def _inside(folder: Path, name: str, where: Path) -> Path:
    """Return the file `name` below `folder`; the name may start at the folder or at the folder above."""
    for base in (folder, folder.parent):
        path = (base / name).resolve()
        if path.is_file() and path.is_relative_to(folder.resolve()):
            return path
    raise InputError(f"a picture below {folder}", f"'{name}'", where, "Run the stage 'simulate' again.")
