"""Character differences of a reference and a decoded text."""

from __future__ import annotations

from difflib import SequenceMatcher

from decoders.report.blocks import Piece

_KINDS = {"equal": "same", "replace": "changed", "delete": "missing", "insert": "added"}


def pieces(reference: str, decoded: str) -> list[Piece]:
    """Return the stretches in which two texts agree and differ.

    Joining the `reference` of all pieces gives the reference back, and so for `decoded`.
    """
    # Without "autojunk": frequent letters are no junk.
    steps = SequenceMatcher(None, reference, decoded, autojunk=False).get_opcodes()
    return [Piece(_KINDS[kind], reference[a:b], decoded[c:d]) for kind, a, b, c, d in steps]


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
