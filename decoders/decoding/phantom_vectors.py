"""The word vectors that a phantom's brain responds to, where a data set is a phantom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from decoders.data.manifest import Run
from decoders.errors import InputError
from decoders.stimuli.embedding import EMBEDDING_FILE, Embedding, read_embedding


def phantom_vectors(rows: Sequence[Run], where: Path) -> Embedding:
    """Return the vectors that lie in the data set's folder.

    Parameters
    ----------
    rows : sequence of Run
        Of the manifest.
    where : Path
        The manifest, for errors.

    Raises
    ------
    InputError
        The data set is no phantom.
    """
    paths = {Path(row.root) / EMBEDDING_FILE for row in rows}
    found = [path for path in sorted(paths) if path.exists()]
    if len(found) != 1:
        remedy = "Set the decoder's features to 'trigram'."
        raise InputError("the phantom's own word vectors", f"{len(found)} files {EMBEDDING_FILE}", where, remedy)
    return read_embedding(found[0])
