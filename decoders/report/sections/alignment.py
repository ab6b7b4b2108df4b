"""Networks and recordings: RDMs, scores per rule and region, paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from decoders.report.blocks import DASH, Block, Data, Figure, Notice, Prose, Section, Table, parts, show, show_p, worded
from decoders.report.contrasts import places_in_order, scored
from decoders.report.figures import Bar, BarPanel, Dot, Reference, bar_panels
from decoders.report.heat import matrix
from decoders.report.ranking import ranking_sentences
from decoders.report.read import Results
from decoders.report.sections.geometry import geometry_figure
from decoders.report.sections.rdms import rdm_figure, stimuli_table, windows_table
from decoders.report.sections.searchlight import peaks_table, searchlight_maps, searchlight_notice
from decoders.report.words import (
    ModelName,
    colour_of,
    comparator_words,
    control_title,
    is_control,
    layer_words,
    model_words,
    parse_model,
    size_words,
    text,
    title,
)

_MOST_HOVERED = 200
_LINES = ("untrained",)


def section(results: Results) -> Section:
    """Return the section on alignment."""
    inference = scored(results.table("inference"))
    what = "counts and places of the words" if len(results.table("windows")) else "features of the pictures"
    lead = (
        "Every model is compared with every subject's RDM; intervals resample stimuli, subjects and seeds at once. "
        f"Controls ({what}, no learning) and the untrained network stand in every comparison."
    )
    shown = [rdm_figure(results), geometry_figure(results), stimuli_table(results), windows_table(results)]
    order = parts(
        ("Representational dissimilarity", shown),
        ("Rules and regions", [_not_ranked(results), score_bars(results, inference), _definitions(results)]),
        ("Encoding", _encoding(results)),
        ("Paired differences", [_ranking(results, inference), _differences(inference)]),
        ("Searchlight", [searchlight_notice(results), searchlight_maps(results), peaks_table(results)]),
        ("Tables", [_families(results), _inference_table(results), _scores_table(results), _ceilings(results)]),
    )
    return Section("alignment", "Alignment", lead, order)


def _against_chance(inference: pd.DataFrame) -> pd.DataFrame:
    # Encoding models are tested on the mean of a region as well, in a family of their own.
    means = inference["family"].map(text).str.contains("region mean")
    return inference[
        (inference["reference"] == "chance") & inference["analysis"].isin(["rsa", "encoding", "commonality"]) & ~means
    ]


def _encoding(results: Results) -> list[Block | None]:
    """Return the scores and the tests of encoding models, where the study has them."""
    inference = results.table("encoding")
    if not len(inference):
        return []
    tables = {"alignment_scores": results.table("encoding_scores"), "inference": inference}
    own = replace(results, tables={**results.tables, **tables, "ceilings": results.table("ceilings").iloc[:0]})
    figure, table = score_bars(own, scored(inference), "encoding_r"), _inference_table(own)
    if figure is not None:
        figure = replace(figure, key="encoding", title="Held-out responses predicted by each rule", caption=_ENCODING)
    if table is not None:
        table = replace(table, key="encoding-tests", title="Every test of encoding")
    return [figure, table]


_ENCODING = (
    "Ridge from the features of a layer to each voxel; no stimulus and no run of a test is in its training. Score: "
    "correlation with held-out responses, mean over voxels. Interval: 95 % over subjects and seeds; the stimuli are "
    "fixed, because models of different folds share training stimuli. Lines: controls and the untrained network."
)


def score_bars(results: Results, inference: pd.DataFrame, comparator: str = "") -> Figure | None:
    """Return the scores of rules as bars per region, one variant per layer and picture size."""
    scored = _against_chance(inference)
    named = [(parse_model(name), row) for name, (_, row) in zip(scored["model"], scored.iterrows(), strict=True)]
    places = places_in_order([name for name, _ in named])
    if not named:
        return None
    axis = comparator_words(comparator) if comparator else ""
    comparator = comparator or str(results.settings.alignment.comparators[0])
    axis = axis or f"{comparator_words(comparator)} with the recorded RDMs"
    drawings = []
    # The last layer at the first size opens the figure; it is the one whose RDM is drawn above.
    for place in places or [("", "", "")]:
        regions = list(dict.fromkeys(text(row["region"]) for _, row in named))
        panels = [_panel(results, region, place, named, comparator) for region in regions]
        label = (
            ", ".join(
                part
                for part in (
                    layer_words(place[1]),
                    size_words(place[2]),
                    place[0] if len({p[0] for p in places}) > 1 else "",
                )
                if part
            )
            or "models"
        )
        drawings.append(
            (
                label,
                bar_panels(
                    f"Scores per rule and region: {label}",
                    panels,
                    axis,
                ),
            )
        )
    columns = [
        name
        for name in (
            "region",
            "model",
            "estimate",
            "ci_low",
            "ci_high",
            "p",
            "p_corrected",
            "n_subjects",
            "n_stimuli",
            "n_seeds",
        )
        if name in scored
    ]
    return Figure(
        "rules", "Scores per rule and region",
        "Bar and whisker: estimate and 95 % interval over stimuli, subjects and seeds. Dots: one per subject and "
        "seed, each seed with its own shape. Band: noise ceiling. "
        "Lines: controls and the untrained network. Scores beyond the ceiling are shown, not clipped. Layer and "
        "picture size are chosen in the menu: all are in the family that is corrected.",
        drawings, Data.of(scored[columns]),
    )  # fmt: skip


def _panel(
    results: Results,
    region: str,
    place: tuple[str, str, str],
    named: Sequence[tuple[ModelName, pd.Series]],
    comparator: str,
) -> BarPanel:
    # A study of controls alone shows them as bars: there is nothing else that they could be lines for.
    only_controls = all(is_control(name.rule) for name, _ in named)
    bars, lines = [], []
    for name, row in ((name, row) for name, row in named if text(row["region"]) == region):
        if is_control(name.rule) and not only_controls:
            lines.append(Reference(control_title(name.rule), float(row["estimate"]), 1))
        elif name.rule in _LINES and name.place == place:
            lines.append(Reference(title(name.rule), float(row["estimate"]), 3))
        elif name.place == place or not name.layer:
            known = [other.rule for other, _ in named]
            bars.append(_model_bar(name, row, _dots(results, region, name, comparator), colour_of(name.rule, known)))
    return BarPanel(region, bars, lines, _ceiling(results, region, comparator))


def _model_bar(name: ModelName, row: pd.Series, dots: Sequence[Dot], colour: int) -> Bar:
    label = control_title(name.rule) if is_control(name.rule) else title(name.rule)
    estimate, low, high, p = (float(row[key]) for key in ("estimate", "ci_low", "ci_high", "p_corrected"))
    tip = f"{label} in {text(row['region'])}: {show(estimate)} [{show(low)}, {show(high)}], corrected p {show_p(p)}"
    return Bar(label, estimate, low, high, dots, colour, tip)


def _dots(results: Results, region: str, name: ModelName, comparator: str) -> list[Dot]:
    scores = results.table("alignment_scores")
    chosen = scores[(scores["region"] == region) & (scores["rule"] == name.rule) & (scores["comparator"] == comparator)]
    for column, value in (("architecture", name.architecture), ("layer", name.layer), ("size", name.size)):
        if value:
            chosen = chosen[chosen[column].map(text).str.removesuffix(".0").str.removesuffix("px") == value]
    shapes = {seed: i for i, seed in enumerate(dict.fromkeys(chosen["seed"].map(text)))}
    return [
        Dot(
            float(score),
            tip=f"subject {text(who)}, seed {text(seed).removesuffix('.0') or DASH}: {show(float(score))}",
            shape=shapes[text(seed)],
        )
        for who, seed, score in zip(chosen["subject"], chosen["seed"], chosen["score"], strict=True)
    ]


def _ceiling(results: Results, region: str, comparator: str) -> tuple[float, float] | None:
    ceilings = results.table("ceilings")
    row = ceilings[(ceilings["region"] == region) & (ceilings["comparator"] == comparator)]
    return (float(row["ceiling_low"].iloc[0]), float(row["ceiling_high"].iloc[0])) if len(row) else None


def _not_ranked(results: Results) -> Notice | None:
    models = results.first("models")
    names = models.attributes.get("not_ranked", []) if models is not None else []
    words = "did not train a layer that its rule claims to train, and enters no ranking"
    return Notice("Left out of every ranking", [f"{text(name)} {words}" for name in names]) if names else None


def _definitions(results: Results) -> Table | None:
    controls = results.first("controls")
    definitions = controls.attributes.get("definitions", {}) if controls is not None else {}
    if not definitions:
        return None
    data = Data(("control", "definition"), [(control_title(name), text(words)) for name, words in definitions.items()])
    return Table(
        "controls",
        "How each control is defined",
        "The definition of a control can matter more than the learning rule.",
        data,
    )


def _between_rules(inference: pd.DataFrame) -> pd.DataFrame:
    """Return the paired differences of two trained or untrained networks at one layer and size."""
    pairs = inference[(inference["reference"] != "chance") & (inference["analysis"] == "rsa")]
    # The family "models against controls" may hold the same difference again, tested one-sidedly.
    pairs = pairs[pairs["family"].map(text).str.startswith("rules against rules")]
    names = [(parse_model(a), parse_model(b)) for a, b in zip(pairs["model"], pairs["reference"], strict=True)]
    keep = [bool(a.layer) and a.place == b.place and a.rule != b.rule for a, b in names]
    found = pairs[keep].copy()
    for column, part in (("rule_a", 0), ("rule_b", 1)):
        found[column] = [pair[part].rule for pair, kept in zip(names, keep, strict=True) if kept]
    for column in ("architecture", "layer", "size"):
        found[column] = [getattr(pair[0], column) for pair, kept in zip(names, keep, strict=True) if kept]
    return found


def _ranking(results: Results, inference: pd.DataFrame) -> Prose | None:
    pairs = _between_rules(inference)
    return Prose(ranking_sentences(pairs, float(results.settings.alignment.alpha))) if len(pairs) else None


def _differences(inference: pd.DataFrame) -> Figure | None:
    pairs = _between_rules(inference)
    if not len(pairs):
        return None
    rules = list(dict.fromkeys([*pairs["rule_a"], *pairs["rule_b"]]))
    reach = float(np.nanmax(np.abs(pairs["estimate"].to_numpy(float)))) or 1.0
    drawings = []
    groups = list(pairs.groupby(["region", "architecture", "layer", "size"], sort=False))
    layers, sizes = list(dict.fromkeys(pairs["layer"])), list(dict.fromkeys(pairs["size"]))
    groups.sort(key=lambda item: (sizes.index(item[0][3]), -layers.index(item[0][2])))
    for (region, architecture, layer, size), group in groups:
        values, notes = np.full((len(rules), len(rules)), np.nan), [["" for _ in rules] for _ in rules]
        for _, row in group.iterrows():
            a, b = rules.index(row["rule_a"]), rules.index(row["rule_b"])
            values[a, b], values[b, a] = float(row["estimate"]), -float(row["estimate"])
            notes[a][b] = notes[b][a] = _p_note(float(row["p_corrected"]))
        names = [title(rule) for rule in rules]
        label = ", ".join(part for part in (text(region), layer_words(layer), size_words(size), architecture) if part)
        drawings.append(
            (
                label,
                matrix(
                    f"Paired differences: {label}",
                    values,
                    (names, names),
                    ("", ""),
                    (-reach, reach, "diverging", "row less column"),
                    notes,
                ),
            )
        )
    columns = [
        "region",
        "architecture",
        "layer",
        "size",
        "rule_a",
        "rule_b",
        "estimate",
        "ci_low",
        "ci_high",
        "p",
        "p_corrected",
    ]
    return Figure(
        "differences", "Paired differences between rules",
        ("Upper number: score of the row's rule less that of the column's. Lower: p, corrected over the "
"declared family. Orange: the row's rule is higher; blue: lower."),
        drawings, Data.of(pairs[columns]),
    )  # fmt: skip


def _p_note(p: float) -> str:
    return "p " + show_p(p).replace("< ", "<") if math.isfinite(p) else ""


def _families(results: Results) -> Table | None:
    """Return each declared family of tests with its size and its method."""
    table = results.table("inference")
    if not len(table):
        return None
    rows: list[tuple[str | float | int | None, ...]] = []
    for (family, method), group in table.groupby(["family", "method"], sort=False, dropna=False):
        survive = int((pd.to_numeric(group["p_corrected"], errors="coerce") <= results.settings.alignment.alpha).sum())
        rows.append((text(family), len(group), survive, text(method)))
    alpha = f"{results.settings.alignment.alpha:g}"
    caption = f"Each test is corrected within its declared family. Surviving: corrected p at or below {alpha}."
    data = Data(("family", "tests", "surviving", "method"), rows)
    words = worded(data, {"method": _method})
    return Table("families", "Families of tests", caption, data, words=words)


def _method(method: str) -> str:
    """Return the method without the comparator's lower-case name at its head."""
    return method[:1].upper() + method[1:]


def _inference_table(results: Results) -> Table | None:
    table = results.table("inference")
    if not len(table):
        return None
    named = scored(table)
    columns = [name for name in ("family", "region", "model", "reference") if name in named] + [
        name for name in table if name not in ("family", "region", "model", "reference")
    ]
    kept = named[columns]
    bare = [name for name in kept if kept[name].isna().all()]
    bare += ["analysis"] if kept["analysis"].nunique() == 1 else []
    data = Data.of(kept)
    return Table(
        "inference",
        "Every test",
        "A model less its reference; the reference of a model may be chance, a control, a rule or a region.",
        data,
        {"p_corrected": "corrected p", "ci_low": "CI low", "ci_high": "CI high", "reference": "less", **_NUMBERS},
        filters=("family", "region"),
        first=12,
        hide=(*bare, "region", "contrast", "method", "null_mean"),
        words=worded(data, {"model": model_words, "reference": model_words}),
    )


_NUMBERS = {"n_subjects": "subjects", "n_stimuli": "stimuli", "n_seeds": "seeds"}


def _scores_table(results: Results) -> Table | None:
    table = results.table("alignment_scores")
    if not len(table):
        return None
    bare = tuple(name for name in table if table[name].isna().all())
    data = Data.of(table)
    return Table(
        "alignment-scores",
        "Scores",
        "One row per subject, region, network, layer, picture size and comparator; controls have no network.",
        data,
        filters=("region", "rule", "comparator"),
        first=12,
        hide=bare,
        words=worded(data, {"rule": title, "layer": layer_words, "size": _size, "comparator": comparator_words}),
    )


def _size(size: str) -> str:
    return size_words(size.removesuffix("px").removesuffix(".0"))


def _ceilings(results: Results) -> Block | None:
    table = results.table("ceilings")
    if not len(table):
        return None
    bare = tuple(name for name in table if table[name].isna().all())
    data = Data.of(table)
    return Table(
        "ceilings",
        "Noise ceilings",
        "Lower bound: each subject's RDM with the mean of the others; upper bound: with the mean of all.",
        data,
        {"ceiling_low": "lower bound", "ceiling_high": "upper bound", **_NUMBERS},
        hide=bare,
        words=worded(data, {"comparator": comparator_words}),
    )
