"""Differences of a reference and a decoded text: by character in names, by word in longer texts."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from decoders.report.blocks import Piece

_FEW_WORDS = 4  # of a name
_KINDS = {"equal": "same", "replace": "changed", "delete": "missing", "insert": "added"}


def pieces(reference: str, decoded: str) -> list[Piece]:
    """Return the stretches in which two texts agree and differ.

    Joining the `reference` of all pieces gives the reference back, and so for `decoded`.
    """
    # Letters that two long texts share by chance would hide which words they share.
    parts = _words if len(reference.split()) > _FEW_WORDS else list
    one, two = parts(reference), parts(decoded)
    # Without "autojunk": frequent letters are no junk.
    steps = SequenceMatcher(None, one, two, autojunk=False).get_opcodes()
    return [Piece(_KINDS[kind], "".join(one[a:b]), "".join(two[c:d])) for kind, a, b, c, d in steps]


def _words(text: str) -> list[str]:
    """Return words and the white space between them; joined they are the text."""
    return re.findall(r"\s+|\S+", text)


def edits(found: list[Piece]) -> int:
    """Return how many characters are marked: the longer side of each stretch that differs."""
    return sum(max(len(piece.reference), len(piece.decoded)) for piece in found if piece.kind != "same")


def median_first(counts: list[int]) -> list[int]:
    """Return an order of the items that starts at the median and goes outwards to both ends.

    A page that opens with its best item misleads; the median is the honest example.
    """
    ranked = sorted(range(len(counts)), key=lambda i: (counts[i], i))
    middle = len(ranked) // 2
    places = sorted(range(len(ranked)), key=lambda place: (abs(place - middle), place))
    return [ranked[place] for place in places]
