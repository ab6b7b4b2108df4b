"""How often the study's inference is wrong, counted in simulated studies of known truth."""

from __future__ import annotations

from markupsafe import Markup

from decoders.alignment.certificate.layout import DESIGNS
from decoders.report.blocks import Data, Notice, Section, Table, parts, show, worded
from decoders.report.read import Results
from decoders.report.words import count, text

_LABELS = {"name": "what is counted", "design": "simulated studies", "value": "rate", "low": "from", "high": "to"}
_REQUIRED = {"at most": "at most {}", "at least": "at least {}", "p": "not small", "none": "nothing"}


def section(results: Results) -> Section:
    """Return the section on the certificate."""
    lead = (
        "The inference of alignment, with this study's comparator and correction, was run on simulated studies whose "
        "truth is known; their sizes are those of the table, not this study's. Each line counts how often it said "
        "something wrong, or found what was there, with the exact interval of that rate. A bound is broken when the "
        "interval lies wholly beyond it, at a level that allows for the number of bounds: few simulated studies notice "
        "only gross errors."
    )
    return Section("certificate", "Certificate", lead, parts(("", [broken(results), _table(results)])))


def broken(results: Results) -> Notice | None:
    """Return the note that bounds are broken, which belongs to the top of the page too."""
    table = results.table("certificate")
    if not len(table) or not (bad := table[table["verdict"].map(text) == "FAILED"]).size:
        return None
    items = [
        f"{text(row['name'])} ({text(row['design'])}; {text(row['size'])}): {show(float(row['value']))}, "
        f"{_REQUIRED[text(row['bound'])].format(show(float(row['limit'])))} is required"
        for _, row in bad.iterrows()
    ]
    return Notice(f"Certificate refused: {count(len(bad), 'bound is', 'bounds are')} broken", items)


def _table(results: Results) -> Table | None:
    table = results.table("certificate")
    if not len(table):
        return None
    required = [
        _REQUIRED[text(row["bound"])].format(show(float(row["limit"]))) if text(row["bound"]) != "none" else ""
        for _, row in table.iterrows()
    ]
    data = Data.of(table.assign(required=required))
    place = data.columns.index("verdict")
    bad = {
        (i, "verdict"): Markup('<span class="status-bad">FAILED</span>')
        for i, row in enumerate(data.rows)
        if text(row[place]) == "FAILED"
    }
    n = int(table["n"].max())
    caption = (
        f"Up to {n:,} simulated studies per line. Conservative: the whole interval lies on the safe side. Shown: for "
        "comparison, without a bound; the bootstrap over pairs is a published practice that this study does not use."
    )
    return Table(
        "certificate", "Rates of right and wrong statements", caption, data, _LABELS, bad, ("design", "verdict"), 80,
        "", ("bound", "limit", "k", "n", "passed"), worded(data, {"design": lambda name: DESIGNS.get(name, name)}),
    )  # fmt: skip
