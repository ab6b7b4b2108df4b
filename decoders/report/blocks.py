"""What a section is made of: figures, tables, notes. Plain values in, escaped by the templates."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd
from markupsafe import Markup

from decoders.report.svg import clean

Value = str | float | int | None
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Data:
    """The numbers behind a figure or a table: column names and rows."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Data:
        """Take over a table; missing values become ``None``."""
        columns = [_column(str(name), [_plain(value) for value in frame[name]]) for name in frame]
        return cls(tuple(str(name) for name in frame), [tuple(row) for row in zip(*columns, strict=True)])

    def tsv(self) -> str:
        """Return the rows as tab-separated text, ``n/a`` for missing."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([["n/a" if _missing(v) else _exact(v) for v in row] for row in self.rows])
        return buffer.getvalue()

    def embedded(self) -> Markup:
        """Return the rows as JSON for a data block: no ``<`` is left that could end the block.

        In long tables a column of words holds their places in the list ``coded``: a method or a family that is written
        out in each of ten thousand rows would make the page too large to open. The script puts the words back.
        """
        rows = [[None if _missing(v) else _exact(v) for v in row] for row in self.rows]
        coded = _code_words(rows) if len(rows) > _CODED_FROM else {}
        return json_block({"columns": self.columns, "rows": rows, **({"coded": coded} if coded else {})})


_CODED_FROM = 200


def _code_words(rows: list[list[Value]]) -> dict[str, list[str]]:
    """Replace words that come again by their places, in place; return the words of each such column."""
    coded = {}
    for column in range(len(rows[0])):
        values = [row[column] for row in rows]
        words = list(dict.fromkeys(value for value in values if isinstance(value, str)))
        if not words or 2 * len(words) > len(rows) or not all(isinstance(v, str | None) for v in values):
            continue
        places = {word: place for place, word in enumerate(words)}
        for row, value in zip(rows, values, strict=True):
            row[column] = None if value is None else places[str(value)]
        coded[str(column)] = words
    return coded


def _column(name: str, values: list[Value]) -> list[Value]:
    """Undo what a missing value does to a column of whole numbers: it turns them into floats."""
    if name not in _WHOLE_NUMBERS and not name.startswith("n"):
        return values
    floats = [value for value in values if isinstance(value, float)]
    if not all(value.is_integer() for value in floats):
        return values
    return [int(value) if isinstance(value, float) else value for value in values]


def json_block(value: object) -> Markup:
    """Return JSON that is safe between ``<script type="application/json">`` and its end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    text = clean(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


_WHOLE_NUMBERS = ("seed", "epoch", "epochs", "step", "row", "volume", "size", "onset")


def _plain(value: Any) -> Value:
    item = value.item() if hasattr(value, "item") else value
    if item is None or (isinstance(item, float) and math.isnan(item)) or item is pd.NA:
        return None
    return item if isinstance(item, str | int | float) else str(item)


def _missing(value: Value) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _exact(value: Value) -> Value:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def show(value: Value, digits: int = 3) -> str:
    """Return a number as a reader wants it; text stays, missing is a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
        return DASH
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return f"{int(value):,}".replace("-", MINUS).replace(",", "\N{THIN SPACE}")
    if math.isinf(value):
        return "\N{INFINITY}"
    size = abs(value)
    if size != 0 and size < 0.5 * 10.0**-digits:
        text = f"{value:.1e}"
    elif value == int(value) and size >= 1:
        text = f"{int(value):,}".replace(",", "\N{THIN SPACE}")
    else:
        text = f"{value:.{digits if size < 10 else max(digits - 2, 1)}f}"
    return text.replace("-", MINUS)


def show_p(value: Value) -> str:
    """Return a p-value: three decimals, never zero."""
    if _missing(value) or isinstance(value, str):
        return DASH
    return "< 0.001" if float(value or 0) < 0.001 else f"{float(value or 0):.3f}"


def is_p(column: str) -> bool:
    """Return whether a column holds p-values."""
    return column == "p" or column.startswith("p_")


@dataclass(frozen=True)
class Figure:
    """A figure with its data beside it; several variants are chosen by a menu.

    Attributes
    ----------
    key : str
        Unique on the page; the name of downloads.
    title, caption : str
    drawings : list of (str, Markup)
        Name of the variant and its drawing.
    data : Data
    hover : dict, optional
        What the script needs to name the cell under the pointer.
    wide : bool
        Scrolls sideways on narrow screens instead of shrinking.
    """

    template: ClassVar[str] = "figure"
    key: str
    title: str
    caption: str
    drawings: list[tuple[str, Markup]]
    data: Data
    hover: Mapping[str, Any] | None = None
    wide: bool = True

    @property
    def hover_block(self) -> Markup:
        """Return the hover data as a JSON block."""
        return json_block(self.hover)


@dataclass(frozen=True)
class Table:
    """A table that sorts, filters and downloads.

    Attributes
    ----------
    key, title, caption : str
    data : Data
    labels : mapping of str to str
        Headings; the column's name where absent.
    cells : mapping of (int, str) to Markup
        Drawn in place of the plain value.
    filters : tuple of str
        Columns with a menu of their values.
    first : int
        Rows drawn at once; the script shows the others on demand.
    css : str
        Class of the table.
    hide : tuple of str
        Columns that are only in the download.
    words : mapping of str to mapping of str to str
        Words shown for the values of a column; the download keeps the values.
    """

    template: ClassVar[str] = "table"
    key: str
    title: str
    caption: str
    data: Data
    labels: Mapping[str, str] = field(default_factory=dict)
    cells: Mapping[tuple[int, str], Markup] = field(default_factory=dict)
    filters: tuple[str, ...] = ()
    first: int = 25
    css: str = ""
    hide: tuple[str, ...] = ()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def words_block(self) -> Markup:
        """Return the words as a JSON block."""
        return json_block({name: dict(words) for name, words in self.words.items()})

    @property
    def visible(self) -> list[str]:
        """Return the columns that are shown."""
        return [column for column in self.data.columns if column not in self.hide]

    def heading(self, column: str) -> str:
        """Return the heading of a column."""
        return self.labels.get(column, column.replace("_", " "))

    def is_number(self, column: str) -> bool:
        """Return whether a column holds numbers only."""
        place = self.data.columns.index(column)
        values = [row[place] for row in self.data.rows if row[place] is not None]
        return bool(values) and all(isinstance(value, int | float) for value in values)

    def css_of(self, column: str) -> str:
        """Return the class of a column: numbers to the right, short words on one line, long ones with room."""
        if self.is_number(column):
            return "n"
        place = self.data.columns.index(column)
        values = {str(row[place]) for row in self.data.rows if row[place] is not None}
        longest = max([len(self.words.get(column, {}).get(value, value)) for value in values] + [0])
        return "w" if longest <= 56 else "long"

    def shown(self, row: int, column: str) -> str | Markup:
        """Return what a cell shows."""
        if (row, column) in self.cells:
            return self.cells[row, column]
        value = self.data.rows[row][self.data.columns.index(column)]
        known = self.words.get(column, {})
        if value is not None and str(value) in known:
            return known[str(value)]
        return show_p(value) if is_p(column) else show(value)


def worded(data: Data, columns: Mapping[str, Callable[[str], str]]) -> dict[str, dict[str, str]]:
    """Return the words of each value of some columns, where they differ from the value.

    Parameters
    ----------
    data : Data
    columns : mapping of str to function
        From a value's text to its words; columns that the data lack are skipped.
    """
    found: dict[str, dict[str, str]] = {}
    for column, name in columns.items():
        if column in data.columns:
            place = data.columns.index(column)
            values = dict.fromkeys(str(row[place]) for row in data.rows if row[place] is not None)
            found[column] = {value: name(value) for value in values if name(value) != value}
    return {column: words for column, words in found.items() if words}


@dataclass(frozen=True)
class Prose:
    """Paragraphs of plain text."""

    template: ClassVar[str] = "prose"
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Notice:
    """Something that must not be overlooked."""

    template: ClassVar[str] = "notice"
    title: str
    items: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """Names and values in two columns."""

    template: ClassVar[str] = "facts"
    title: str
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """Text to copy or to download."""

    template: ClassVar[str] = "code"
    key: str
    title: str
    caption: str
    text: str
    file_name: str


@dataclass(frozen=True)
class Piece:
    """A stretch of two texts: ``same``, ``changed``, ``missing`` (reference only) or ``added`` (decoded only)."""

    kind: str
    reference: str
    decoded: str


@dataclass(frozen=True)
class Pair:
    """A reference and what was decoded from the recording."""

    about: str
    edits: int
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Pairs:
    """Texts side by side."""

    template: ClassVar[str] = "pairs"
    key: str
    title: str
    caption: str
    pairs: Sequence[Pair]
    data: Data
    first: int = 12


@dataclass(frozen=True)
class Viewer:
    """Volumes that the reader can slice; the static mosaic beside it serves print."""

    template: ClassVar[str] = "viewer"
    key: str
    title: str
    caption: str
    payload: Mapping[str, Any]

    @property
    def block(self) -> Markup:
        """Return the volumes as a JSON block."""
        return json_block(self.payload)


@dataclass(frozen=True)
class Fold:
    """A table that the reader opens; print shows it opened."""

    template: ClassVar[str] = "fold"
    summary: str
    table: Table


Block = Figure | Table | Prose | Notice | Facts | Code | Pairs | Viewer | Fold


@dataclass(frozen=True)
class Subsection:
    """Blocks under a smaller heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A section of the page; without content it is not shown."""

    key: str
    title: str
    lead: str
    parts: Sequence[Subsection]

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to show."""
        return not any(part.blocks for part in self.parts)


def parts(*pairs: tuple[str, Iterable[Block | None]]) -> list[Subsection]:
    """Return subsections, those without a block left out."""
    kept = [(title, [block for block in blocks if block is not None]) for title, blocks in pairs]
    return [Subsection(title, blocks) for title, blocks in kept if blocks]
