"""Praat TextGrid files, long and short, read and written by one small grammar.

Praat itself reads only free-standing numbers, quoted strings and flags, and skips all other
text ("xmin =", "intervals [1]:"); reading by that rule covers both formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from decoders.errors import InputError
from decoders.store.atomic import write_text

_TOKEN = re.compile(r'"(?:[^"]|"")*"|\S+')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_REMEDY = "Open the file in Praat, correct it and save it as a text file."


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of time.

    Attributes
    ----------
    start, end : float
        Seconds; equal for the points of a point tier.
    label : str
    """

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Tier:
    """A tier of a TextGrid: its name, its intervals (or points) in time, its span in seconds."""

    name: str
    intervals: tuple[Interval, ...]
    start: float
    end: float
    points: bool = False


@dataclass(frozen=True)
class TextGrid:
    """The tiers of one file and its span in seconds."""

    tiers: tuple[Tier, ...]
    start: float
    end: float


def read_textgrid(path: str | Path) -> TextGrid:
    """Read a TextGrid, long or short, in UTF-8 or UTF-16.

    Raises
    ------
    InputError
        Not a TextGrid, a file that ends early, an interval that ends before it starts,
        or intervals that overlap.
    """
    return parse_textgrid(_decoded(Path(path)), path)


def parse_textgrid(text: str, where: str | Path = "TextGrid") -> TextGrid:
    """Parse the text of a TextGrid; `where` is named in errors."""
    tokens = _Tokens(text, where)
    kind = (tokens.string("a file type"), tokens.string("an object class"))
    if kind[1] != "TextGrid":
        raise InputError("the object class 'TextGrid'", f"'{kind[1]}'", where, "Give a Praat TextGrid.")
    start, end = tokens.number("xmin"), tokens.number("xmax")
    count = tokens.count("the number of tiers") if tokens.flag() == "<exists>" else 0
    return TextGrid(tuple(_tier(tokens, where) for _ in range(count)), start, end)


def write_textgrid(path: str | Path, grid: TextGrid, short: bool = False) -> None:
    """Write a TextGrid in the long (default) or the short text format, UTF-8."""
    write_text(path, format_textgrid(grid, short))


def format_textgrid(grid: TextGrid, short: bool = False) -> str:
    """Return the text of a TextGrid in the long or the short format."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *_span(grid, short, "")]
    lines += [
        "<exists>" if short else "tiers? <exists>",
        str(len(grid.tiers)) if short else f"size = {len(grid.tiers)}",
    ]
    if not short:
        lines.append("item []:")
    for number, tier in enumerate(grid.tiers, 1):
        lines += _tier_lines(tier, number, short)
    return "\n".join(lines) + "\n"


def word_tier(grid: TextGrid, name: str | None = None, where: str | Path = "TextGrid") -> Tier:
    """Return the tier that holds the words.

    Parameters
    ----------
    grid : TextGrid
    name : str, optional
        Name of the tier; else the interval tier called "word" or "words", else the only one.

    Raises
    ------
    InputError
        No such tier, or several that could be meant.
    """
    tiers = [tier for tier in grid.tiers if not tier.points]
    wanted = {name.lower()} if name else {"word", "words"}
    found = [tier for tier in tiers if tier.name.lower() in wanted]
    if not found and name is None and len(tiers) == 1:
        found = tiers
    if len(found) != 1:
        names = ", ".join(f"'{tier.name}'" for tier in grid.tiers) or "none"
        expected = f"one interval tier named '{name or 'word'}'"
        raise InputError(expected, f"the tiers {names}", where, "Rename the tier that holds the words.")
    return found[0]


class _Tokens:
    """The free-standing numbers, strings and flags of a file, in order."""

    def __init__(self, text: str, where: str | Path) -> None:
        self._tokens = _significant(text)
        self._where = where

    def string(self, what: str) -> str:
        token = self._next(what)
        if not token.startswith('"'):
            raise InputError(f"{what} in quotes", f"'{token[:40]}'", self._where, _REMEDY)
        return token[1:-1].replace('""', '"')

    def number(self, what: str) -> float:
        token = self._next(what)
        if not _NUMBER.fullmatch(token):
            raise InputError(f"a number for {what}", f"'{token[:40]}'", self._where, _REMEDY)
        return float(token)

    def count(self, what: str) -> int:
        value = self.number(what)
        if value < 0 or value != int(value):
            raise InputError(f"a whole number for {what}", f"{value}", self._where, _REMEDY)
        return int(value)

    def flag(self) -> str:
        return self._next("<exists> or <absent>")

    def _next(self, what: str) -> str:
        token = next(self._tokens, None)
        if token is None:
            raise InputError(
                what, "the end of the file", self._where, "The file is cut short: fetch or export it again."
            )
        return token


def _significant(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        token = match.group()
        whole_string = len(token) > 1 and token.startswith('"') and token.endswith('"')
        if whole_string or _NUMBER.fullmatch(token) or token in {"<exists>", "<absent>"}:
            yield token


def _tier(tokens: _Tokens, where: str | Path) -> Tier:
    kind, name = tokens.string("the class of a tier"), tokens.string("the name of a tier")
    if kind not in {"IntervalTier", "TextTier"}:
        raise InputError("'IntervalTier' or 'TextTier'", f"'{kind}'", where, _REMEDY)
    start, end = tokens.number("xmin"), tokens.number("xmax")
    points = kind == "TextTier"
    intervals = tuple(_interval(tokens, points) for _ in range(tokens.count("the number of intervals")))
    _check(intervals, name, where)
    return Tier(name, intervals, start, end, points)


def _interval(tokens: _Tokens, point: bool) -> Interval:
    start = tokens.number("xmin")
    end = start if point else tokens.number("xmax")
    return Interval(start, end, tokens.string("a label"))


def _check(intervals: tuple[Interval, ...], name: str, where: str | Path) -> None:
    for interval in intervals:
        if interval.end < interval.start:
            found = f"'{interval.label}' from {interval.start:g} to {interval.end:g} s in the tier '{name}'"
            raise InputError("intervals that end after they start", found, where, _REMEDY)
    for first, second in pairwise(intervals):
        if second.start < first.end - 1e-6:
            found = f"'{first.label}' until {first.end:g} s, '{second.label}' from {second.start:g} s, tier '{name}'"
            raise InputError("intervals that do not overlap", found, where, _REMEDY)


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
        encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return raw.decode(encoding)
    except FileNotFoundError as error:
        raise InputError("a TextGrid", "no such file", path, "Check the path.") from error
    except UnicodeDecodeError as error:
        remedy = "Save it as UTF-8 in Praat (Text writing preferences)."
        raise InputError("a TextGrid in UTF-8 or UTF-16", f"other bytes ({error.reason})", path, remedy) from error


def _span(item: TextGrid | Tier | Interval, short: bool, indent: str) -> list[str]:
    # repr keeps every bit, so that what is written is read back equal.
    if short:
        return [repr(float(item.start)), repr(float(item.end))]
    return [f"{indent}xmin = {float(item.start)!r}", f"{indent}xmax = {float(item.end)!r}"]


def _tier_lines(tier: Tier, number: int, short: bool) -> list[str]:
    kind = "TextTier" if tier.points else "IntervalTier"
    what = "points" if tier.points else "intervals"
    if short:
        lines = [f'"{kind}"', _quoted(tier.name), *_span(tier, True, ""), str(len(tier.intervals))]
        for interval in tier.intervals:
            lines += [*_span(interval, True, "")[: 1 if tier.points else 2], _quoted(interval.label)]
        return lines
    lines = [
        f"    item [{number}]:",
        f'        class = "{kind}"',
        f"        name = {_quoted(tier.name)}",
        *_span(tier, False, " " * 8),
    ]
    lines.append(f"        {what}: size = {len(tier.intervals)}")
    for index, interval in enumerate(tier.intervals, 1):
        lines.append(f"        {what} [{index}]:")
        if tier.points:
            lines += [
                f"            number = {float(interval.start)!r}",
                f"            mark = {_quoted(interval.label)}",
            ]
        else:
            lines += [*_span(interval, False, " " * 12), f"            text = {_quoted(interval.label)}"]
    return lines


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
