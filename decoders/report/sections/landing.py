"""What the study found: the verdict table. No other section claims more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from decoders.report.blocks import DASH, Block, Data, Notice, Section, Table, parts, show
from decoders.report.exclusions import left_out
from decoders.report.figures import interval_cell
from decoders.report.read import Results
from decoders.report.svg import escape
from decoders.report.words import analysis, control_title, count, listed, parse_model, text

# A share of a ceiling below this says more about the ceiling than about the score.
LEAST_CEILING = 0.05
_KINDS = {
    "above": ("above all controls", "c2", '<circle class="sym full" cx="7" cy="7" r="5.5"/>'),
    "control": (
        "above chance but explained by a control",
        "c1",
        '<circle class="sym" cx="7" cy="7" r="5.5"/><path class="full" d="M7 1.5a5.5 5.5 0 0 0 0 11z"/>',
    ),
    "ranking": ("ranking", "c0", '<path class="sym" d="M2 11.5h3v-4H2zM5.5 11.5h3v-9h-3zM9 11.5h3v-6H9z"/>'),
    "unranked": ("no ranking supported", "c7", '<path class="sym" d="M2 5h10M2 9h10"/>'),
    "chance": ("not above chance", "c7", '<circle class="sym" cx="7" cy="7" r="5.5"/>'),
}
_LABELS = {
    "analysis": "Analysis",
    "level": "Level",
    "score": "Score",
    "ci_low": "Interval",
    "null_mean": "Null mean",
    "p_corrected": "Corrected p",
    "ceiling_low": "Noise ceiling",
    "share": "Share of ceiling",
    "n": "n",
    "verdict": "Verdict",
    "explained_by": "Explained by",
}


def section(results: Results) -> Section:
    """Return the landing section."""
    blocks: list[Block | None] = [excluded_notice(results), _verdict_table(results.table("verdicts"))]
    lead = (
        "Each analysis gets one of three verdicts: above all controls, above chance but explained by a control, "
        "or not above chance. "
        "The other sections show what the verdicts rest on and claim no more."
    )
    return Section("verdicts", "Verdicts", lead, parts(("", blocks)))


def kind_of(verdict: str) -> str:
    """Return "above", "control", "chance", "unranked" or "ranking" for the words of a verdict."""
    words = verdict.lower()
    if "no ranking" in words:
        return "unranked"
    if "contrasts of rules" in words:
        return "ranking"
    if "not above chance" in words:
        return "chance"
    return "control" if "explained" in words else "above" if "above all controls" in words else "chance"


def summary(results: Results) -> list[str]:
    """Return the paragraph under the title."""
    verdicts, manifest = results.table("verdicts"), results.table("manifest")
    sentences = []
    if len(manifest):
        used = manifest[manifest["status"] == "ok"]
        noun = "RDM" if "modality" in used and (used["modality"] == "rdm").all() else "recording"
        rest = len(manifest) - len(used)
        sentence = (
            f"The study rests on {count(len(used), noun)} of {count(used['subject'].nunique(), 'person', 'people')}"
        )
        sentences.append(f"{sentence}; {rest} {'was' if rest == 1 else 'were'} excluded." if rest else f"{sentence}.")
    aligned = verdicts["analysis"].map(text).str.startswith("rsa ")
    for name, rows in (("Decoding", verdicts[~aligned]), ("Alignment", verdicts[aligned])):
        sentences += _counted(name, rows)
    found = [(kind_of(text(row["verdict"])), text(row["analysis"])) for _, row in verdicts.iterrows()]
    unranked = [name.rsplit(", ", 1)[-1] for kind, name in found if kind == "unranked"]
    if unranked:
        sentences.append(f"No ranking of learning rules is supported in {listed(unranked)}.")
    return [" ".join(sentences)] if sentences else []


def _counted(name: str, verdicts: pd.DataFrame) -> list[str]:
    """Return a sentence that counts the verdicts of the group, or of the subjects where there is no group."""
    whole = bool((verdicts["level"] == "group").any())
    rows = verdicts[verdicts["level"] == "group"] if whole else verdicts
    kinds = [kind_of(text(verdict)) for verdict in rows["verdict"]]
    numbers = [(kinds.count(kind), _KINDS[kind][0]) for kind in ("above", "control", "chance")]
    phrases = [f"{number} {'is' if number == 1 else 'are'} {words}" for number, words in numbers if number]
    total = sum(number for number, _ in numbers)
    level = "of the group" if whole else "of single subjects"
    return [f"{name}: of {count(total, 'analysis', 'analyses')} {level}, {listed(phrases)}."] if phrases else []


def excluded_notice(results: Results) -> Notice | None:
    """Return the note that names everything that was left out, and why."""
    items = left_out(results.table("manifest"), results.first("rdms"))
    return Notice(f"{count(len(items), 'recording')} left out", items) if items else None


def share_of_ceiling(score: float, low: float, high: float) -> float:
    """Return the score over the lower bound of the ceiling; nan where that bound is missing or near zero."""
    return score / low if math.isfinite(low) and math.isfinite(high) and low >= LEAST_CEILING else math.nan


def _verdict_table(verdicts: pd.DataFrame) -> Table | None:
    if not len(verdicts):
        return None
    aligned = verdicts["analysis"].map(text).str.startswith("rsa ")
    single = verdicts["level"] != "group"
    verdicts = verdicts.assign(_order=2 * aligned + single).sort_values("_order", kind="stable").drop(columns="_order")
    number = {
        name: pd.to_numeric(verdicts[name], errors="coerce")
        for name in ("score", "ci_low", "ci_high", "null_mean", "ceiling_low", "ceiling_high")
    }
    shares = [
        share_of_ceiling(*row)
        for row in zip(number["score"], number["ceiling_low"], number["ceiling_high"], strict=True)
    ]
    frame = pd.DataFrame(
        {
            "analysis": verdicts["analysis"],
            "level": verdicts["level"],
            "subject": verdicts["subject"],
            "score": number["score"],
            "ci_low": number["ci_low"],
            "ci_high": number["ci_high"],
            "null_mean": number["null_mean"],
            "p_corrected": pd.to_numeric(verdicts["p_corrected"], errors="coerce"),
            "ceiling_low": number["ceiling_low"],
            "ceiling_high": number["ceiling_high"],
            "share": shares,
            "n": verdicts["n"],
            "verdict": verdicts["verdict"],
            "explained_by": verdicts["explained_by"],
        }
    )
    # A column that is empty in every row says nothing: it stays in the download.
    bare = [name for name in ("null_mean", "ceiling_low", "share") if frame[name].isna().all()]
    data = Data.of(frame)
    menus = ("level", "verdict") if len(frame) > 6 else ()
    hide = ("level", "subject", "ci_high", "ceiling_high", "explained_by", *bare)
    return Table(
        "verdicts",
        "Verdict table",
        _caption(bare),
        data,
        _LABELS,
        _cells(data),
        menus,
        first=40,
        css="landing",
        hide=hide,
    )


def _caption(bare: Sequence[str]) -> str:
    words = "Interval: 95 %, the dot is the score, the upright line the mean of the null"
    words += ". " if "ceiling_low" in bare else ", the grey band the noise ceiling. "
    if "share" not in bare:
        words += f"Share of ceiling: score over the lower bound, left empty where that bound is below {LEAST_CEILING}."
    return words


def _cells(data: Data) -> dict[tuple[int, str], Markup]:
    place = {name: i for i, name in enumerate(data.columns)}
    wanted = [
        row[place[name]]
        for row in data.rows
        for name in ("score", "ci_low", "ci_high", "null_mean", "ceiling_low", "ceiling_high")
    ]
    finite = [float(value) for value in wanted if isinstance(value, int | float)]
    ends = (min([0.0, *finite]), max([0.0, *finite]) or 1.0)
    cells: dict[tuple[int, str], Markup] = {}
    for i, values in enumerate(data.rows):
        row = dict(zip(data.columns, values, strict=True))
        cells |= {(i, name): markup for name, markup in _row_cells(row, ends).items()}
    return cells


def _words(verdict: str, explained: str) -> str:
    """Return a verdict with its control in words."""
    if kind_of(verdict) != "control":
        return verdict
    return "above chance but explained by " + (
        control_title(parse_model(explained).words) if explained else "a control"
    )


def _row_cells(row: Mapping[str, object], ends: tuple[float, float]) -> dict[str, Markup]:
    def number(name: str) -> float:
        value = row[name]
        return float(value) if isinstance(value, int | float) else math.nan

    who = "group" if row["level"] == "group" else f"subject {text(row['subject'])}"
    _, colour, symbol = _KINDS[kind_of(text(row["verdict"]))]
    interval = f"{show(number('ci_low'))} to {show(number('ci_high'))}" if math.isfinite(number("ci_low")) else ""
    tip = f"{analysis(text(row['analysis']))}, {who}: {show(number('score'))}" + (
        f", 95 % interval {interval}" if interval else ""
    )
    limits = (number("ceiling_low"), number("ceiling_high"))
    mini = interval_cell(
        number("score"), number("ci_low"), number("ci_high"), number("null_mean"), limits, ends, colour, tip
    )
    drawing = f'<span>{mini}<span class="ci-text">{escape(interval)}</span></span>'
    kind = kind_of(text(row["verdict"]))
    badge = f'<svg viewBox="0 0 14 14" aria-hidden="true">{symbol}</svg>'
    ceiling = (
        f"{show(number('ceiling_low'))} {DASH} {show(number('ceiling_high'))}"
        if math.isfinite(number("ceiling_low"))
        else DASH
    )
    share = number("share")
    explained = text(row["explained_by"])
    plain = {
        "analysis": (
            f'<span class="what">{escape(analysis(text(row["analysis"])))}</span><span class="who">{escape(who)}</span>'
        ),
        "score": f"<b>{escape(show(number('score')))}</b>",
        "ci_low": drawing if math.isfinite(number("score")) else DASH,
        # A null mean of a ten-thousandth is zero to a reader.
        "null_mean": escape(show(round(number("null_mean"), 3) + 0.0)),
        "ceiling_low": escape(ceiling),
        "share": f"{share * 100:.0f}\N{THIN SPACE}%" if math.isfinite(share) else DASH,
        "verdict": f'<span class="verdict {kind}">{badge}{escape(_words(text(row["verdict"]), explained))}</span>',
    }
    return {name: Markup(value) for name, value in plain.items()}
