"""Decoding of new people: the score by the amount of their own recordings, beside the controls."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import Block, Data, Figure, Table, worded
from decoders.report.figures import Reference
from decoders.report.lines import Series, line_chart
from decoders.report.read import Results
from decoders.report.words import control_title, is_control, level, metric, split, text, title

_LABELS = {
    "ci_low": "CI low",
    "ci_high": "CI high",
    "runs": "runs given",
    "minutes": "minutes given",
    "over_within": "gain over the person's runs alone",
    "over_within_low": "gain, CI low",
    "over_within_high": "gain, CI high",
}
_ABOUT_OTHERS = (
    "Control, other subject: the decoder of each other person, as it is, reads the new person's recording; the mean "
    "over these people. It stands for what brains share without any adaptation."
)


def across_blocks(results: Results) -> list[Block]:
    """Return the figure and the table of decoding across people; nothing where it was not asked for."""
    found = results.table("across")
    return [_curves(found), _table(found)] if len(found) else []


def _curves(found: pd.DataFrame) -> Figure:
    rows = found[found["metric"] == "percentile"]
    grouped = (rows["level"] == "group").any()
    drawings: list[tuple[str, Markup]] = []
    for subject, here in rows.groupby("subject", sort=False):
        label = "group" if subject == "group" else f"subject {text(subject)}"
        chart = line_chart(
            f"Identification by the amount of a new person's data: {label}",
            _lines(here),
            ("minutes of the new person's recordings that were given", "identification percentile"),
            level=Reference("chance", 0.5),
        )
        drawings.append((label, chart))
    # The group first: it is what the verdict is about.
    drawings.sort(key=lambda drawing: drawing[0] != "group")
    caption = (
        "Percentile of the true 20-s window in runs whose story nobody was trained on, of a person whom no decoder was "
        "trained on; of that person only the minutes given. With 95 % intervals"
        + (" (of the group: over people). " if grouped else ". ")
        + "A method transfers something where it lies above the person's given runs alone. "
        + _ABOUT_OTHERS
    )
    return Figure("across", "Decoding of new people by the amount of their data", caption, drawings, Data.of(rows))


def _lines(here: pd.DataFrame) -> list[Series]:
    lines: list[Series] = []
    reach = float(here["minutes"].max())
    for i, (model, rows) in enumerate(here[here["control_of"].isna()].groupby("model", sort=False)):
        lines.append(_line(text(model), rows, i, reach))
    # One line per control: the highest of what the methods' own controls reach. Shifted text is the null: chance.
    owned = here[here["control_of"].notna() & (here["model"] != "control:shifted")]
    for model, rows in owned.groupby("model", sort=False):
        worst = rows.sort_values("score").groupby("minutes", as_index=False).last()
        lines.append(_line(text(model), worst, len(lines), reach, ", highest"))
    return lines


def _line(model: str, rows: pd.DataFrame, colour: int, reach: float, more: str = "") -> Series:
    def column(name: str) -> list[float]:
        return [float(value) for value in pd.to_numeric(rows[name], errors="coerce")]

    rows = rows.sort_values("minutes")
    # Side by side, so that intervals at one amount do not hide each other; the data have the true amounts.
    beside = 0.006 * (colour - 3) * reach
    label = f"control: {control_title(model)}{more}" if is_control(model) else title(model)
    low, high = ((), ()) if is_control(model) else (column("ci_low"), column("ci_high"))
    minutes = [value + beside for value in column("minutes")]
    return Series(label, minutes, column("score"), colour % 8, colour, low, high, marks=True)


def _table(found: pd.DataFrame) -> Table:
    rows = found.sort_values(["level", "subject", "metric", "minutes"], kind="stable")
    data = Data.of(rows.assign(minutes=rows["minutes"].astype(float).round(1)))
    caption = (
        "Every method and control by the runs given of the new person. Gain: the paired difference from a decoder of "
        "the person's given runs alone (windows of one person, people of the group); where its interval holds zero, "
        "nothing shows that other people helped. " + _ABOUT_OTHERS
    )
    words = {"level": level, "metric": metric, "model": title, "control_of": title, "split": split}
    hide = tuple(name for name in found if found[name].isna().all() or name == "split")
    return Table(
        "across-scores", "Scores of new people", caption, data, _LABELS, filters=("level", "metric", "model"), first=12,
        hide=hide, words=worded(data, words),
    )  # fmt: skip
