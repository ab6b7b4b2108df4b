"""Verdicts: what the tables support, in three sentences and no more.

``above all controls``
    The corrected p is at or below alpha, the score lies above chance, and every control lies below it.
``above chance but explained by <control>``
    Above chance after correction, but the named control reaches the score.
``not above chance``
    Anything else; also where nothing was tested.

*Decoding.* The controls of a row are the rows ``control:<name>`` of the same level, subject, task, metric and
split; one that names its model in a column ``control_of`` counts for that model only. A control reaches a score if the
upper end of its interval is no lower. One without an interval reaches it from the lower end of the score's own interval
on; where neither has an interval nothing shows that they differ, so the control counts as reaching it. Of those that
reach the score the one with the highest score is named. A control whose score is missing was not tested.
Rows whose table holds a p but no corrected p are corrected here (Holm, over the judged rows of one level, subject and
metric).

*Alignment.* Above chance by the family "models against chance"; above all controls by the family "models against
controls", whose one-sided test against the control that the model beats least clearly is a test against all of
them. A model that is higher than its controls, but not significantly so, is *explained by* that control.

*Ranking of rules.* From the family "rules against rules" of a region, all layers and picture sizes included. No
surviving contrast: ``no ranking supported``. A pair whose sign changes with layer or size: none is supported either.

*Alignment in time, fusion.* See `decoders.stats.verdicts_time` and `decoders.stats.verdicts_fusion`.

No other number here is computed anew: all are copied from the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from decoders.stats.correction import holm

ABOVE = "above all controls"
CHANCE = "not above chance"
NO_RANKING = "no ranking supported"
UNTESTED = "controls that were not tested"
# Metrics in which a larger score is better, in the order of preference.
MAIN_METRICS = ("accuracy", "percentile", "r", "auc", "top1", "similarity", "bits_gain")
_CONTROL = "control:"
_COPIED = ("level", "subject", "n", "score", "ci_low", "ci_high", "null_mean", "p_corrected")


def verdict(above_chance: bool, reached_by: str) -> tuple[str, str | None]:
    """Return the sentence, and the control that explains the score (None where there is none).

    Parameters
    ----------
    above_chance : bool
    reached_by : str
        Control that reaches the score; empty when every control lies below.
    """
    if not above_chance:
        return CHANCE, None
    return (f"above chance but explained by {reached_by}", reached_by) if reached_by else (ABOVE, None)


def decoding_verdicts(scores: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Return a verdict for every model of every task.

    Parameters
    ----------
    scores : DataFrame
        Columns of `decoding_scores`. Rows of single seeds or splits are judged as they are; where a table also has rows
        over all of them (no seed or no split), only those are judged.
    alpha : float
        Level of the corrected p.

    Returns
    -------
    DataFrame
        Columns of `verdicts`.
    """
    table = _corrected(scores[scores["metric"].str.lower().isin(MAIN_METRICS)])
    is_control = table["model"].str.startswith(_CONTROL)
    # Tables of several kinds of recordings hold a column that names them; tasks of two kinds may have one name.
    place = ["level", "subject", "task", "metric", *(name for name in ("modality",) if name in table)]
    rows = []
    for _, group in table[~is_control].groupby([*place, "model"], dropna=False, sort=False):
        for row in _summaries(group).to_dict("records"):
            controls = table[is_control & _same(table, row, place) & _control_of(table, row["model"])]
            # A control of another split was scored on other samples: it says nothing here.
            rows.append(_decoding_row(row, controls[_same(controls, row, ["split"])], alpha))
    return _table(rows)


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Fill in corrected p-values where a family has none."""
    judged = table[~table["model"].str.startswith(_CONTROL)]
    corrected = table["p_corrected"].astype(float)
    for _, family in judged.groupby(["level", "subject", "metric"], dropna=False):
        if corrected[family.index].isna().all():
            corrected[family.index] = holm(family["p"].to_numpy(dtype=np.float64))
    return table.assign(p_corrected=corrected)


def _control_of(table: pd.DataFrame, model: object) -> pd.Series:
    if "control_of" not in table:
        return pd.Series(True, index=table.index)
    return table["control_of"].isna() | (table["control_of"] == model)


def _summaries(group: pd.DataFrame) -> pd.DataFrame:
    """Return the rows over all seeds and splits where there are such, else all."""
    for column in ("seed", "split"):
        values = group[column].astype(object)
        whole = values.isna() | values.astype(str).str.lower().isin(["all", "mean"])
        group = group[whole] if whole.any() else group
    return group


def _same(table: pd.DataFrame, row: dict[str, object], columns: list[str]) -> pd.Series:
    same = pd.Series(True, index=table.index)
    for column in columns:
        same &= table[column].isna() if pd.isna(row[column]) else table[column] == row[column]
    return same


def _decoding_row(row: dict[str, object], controls: pd.DataFrame, alpha: float) -> dict[str, object]:
    score, null = float(row["score"]), float(row["null_mean"])  # type: ignore[arg-type]
    above = bool(float(row["p_corrected"]) <= alpha and not score <= null)  # type: ignore[arg-type]
    sentence, explained = verdict(above, _reached_by(score, float(row["ci_low"]), controls))  # type: ignore[arg-type]
    kind = row.get("modality")
    analysis = f"{'' if kind is None or pd.isna(kind) else f'{kind} '}{row['task']}: {row['model']}, {row['metric']}"
    for key in ("split", "seed"):
        if not (pd.isna(row[key]) or str(row[key]).lower() in ("all", "mean")):
            analysis += f", {key} {row[key]}"
    return {**{key: row[key] for key in _COPIED}, "analysis": analysis, "verdict": sentence, "explained_by": explained}


def _reached_by(score: float, low: float, controls: pd.DataFrame) -> str:
    """Return the control that reaches a score with the lower limit `low`; empty where none does."""
    own, high = controls["score"].astype(float), controls["ci_high"].astype(float)
    reaching = own[(high >= score) | (own >= score) | (high.isna() & ~(own < low))]
    if len(reaching) and reaching.notna().any():
        return str(controls.loc[reaching.idxmax(), "model"]).removeprefix(_CONTROL)
    return UNTESTED if controls.empty or own.isna().any() else ""


def alignment_verdicts(
    scores: pd.DataFrame, ceilings: pd.DataFrame, inference: pd.DataFrame, alpha: float, kind: str = "rsa"
) -> pd.DataFrame:
    """Return a ranking row per region, then a verdict for every network layer and user model.

    Parameters
    ----------
    scores, ceilings, inference : DataFrame
        Tables of the stage `align`.
    alpha : float
        Level of the corrected p.
    kind : {"rsa", "encoding"}
        Head of the names of the analyses.

    Returns
    -------
    DataFrame
        Columns of `verdicts`.
    """
    subjects = scores["subject"].dropna().astype(str).unique()
    who = {"level": "group", "subject": None} if len(subjects) > 1 else {"level": "subject", "subject": subjects[0]}
    comparator = scores["comparator"].iloc[0]
    limits = ceilings[ceilings["comparator"] == comparator].set_index("region")
    return judged_families(inference, limits, who, alpha, kind)


def judged_families(
    inference: pd.DataFrame, limits: pd.DataFrame, who: Mapping[str, str | None], alpha: float, kind: str
) -> pd.DataFrame:
    """Return the verdicts that the families of one comparison support.

    Parameters
    ----------
    inference : DataFrame
    limits : DataFrame
        Columns ceiling_low and ceiling_high, indexed by region; may be empty.
    who : mapping
        Level and subject of all rows.
    alpha : float
    kind : str
        Head of the names of the analyses.
    """
    rows = []
    for region in inference.loc[_family(inference, "models against chance"), "region"].unique():
        here = inference[inference["region"] == region]
        ceiling = limits.loc[region, ["ceiling_low", "ceiling_high"]].to_dict() if region in limits.index else {}
        rows += [{**who, **row} for row in _ranking(here, region, alpha, kind)]
        controls = here[_family(here, "models against controls")].set_index("model")
        for row in here[_family(here, "models against chance")].to_dict("records"):
            if not str(row["model"]).startswith(_CONTROL):
                rows.append({**who, **ceiling, **_alignment_row(row, controls, alpha, kind)})
    return _table(rows)


def encoding_verdicts(scores: pd.DataFrame, inference: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Return the verdicts of encoding models, by the families and the sentences of alignment.

    Parameters
    ----------
    scores, inference : DataFrame
        Tables of the stage `align-encoding`; families start with ``encoding: ``.
    alpha : float
    """
    held_out = scores[scores["comparator"] == "encoding_r"]
    families = inference["family"].str.removeprefix("encoding: ")
    none = pd.DataFrame(columns=["region", "comparator", "ceiling_low", "ceiling_high"])
    return alignment_verdicts(held_out, none, inference.assign(family=families), alpha, "encoding")


def _family(table: pd.DataFrame, name: str) -> pd.Series:
    return table["family"].str.startswith(f"{name}, ")


def _alignment_row(row: dict[str, object], controls: pd.DataFrame, alpha: float, kind: str) -> dict[str, object]:
    model = row["model"]
    above = bool(float(row["p_corrected"]) <= alpha)  # type: ignore[arg-type]
    if model not in controls.index:
        by = UNTESTED
    else:
        hardest = controls.loc[model]
        beaten = hardest["p_corrected"] <= alpha and hardest["estimate"] > 0
        by = "" if beaten else str(hardest["reference"]).removeprefix(_CONTROL)
    sentence, explained = verdict(above, by)
    return {
        "analysis": f"{kind} {row['region']}: {model}", "n": row["n_subjects"], "score": row["estimate"],
        "ci_low": row["ci_low"], "ci_high": row["ci_high"], "null_mean": row["null_mean"],
        "p_corrected": row["p_corrected"], "verdict": sentence, "explained_by": explained,
    }  # fmt: skip


def _ranking(here: pd.DataFrame, region: str, alpha: float, kind: str) -> list[dict[str, object]]:
    pairs = here[_family(here, "rules against rules")]
    if pairs.empty:
        return []
    surviving = pairs[pairs["p_corrected"] <= alpha]
    row = {"analysis": f"{kind} ranking of rules, {region}", "n": pairs["n_subjects"].iloc[0]}
    smallest = pairs["p_corrected"].min()
    return [{**row, "p_corrected": smallest, "verdict": ranking_sentence(pairs, surviving)}]


def ranking_sentence(pairs: pd.DataFrame, surviving: pd.DataFrame) -> str:
    """Return what the surviving contrasts of rules (with their signs as `estimate`) support."""
    if surviving.empty:
        return NO_RANKING
    rules = surviving[["model", "reference"]].map(lambda name: str(name).split(" ", 1)[0])
    signs = np.sign(surviving["estimate"])
    # Either order of a pair counts as one.
    flipped = rules["model"] > rules["reference"]
    names = rules.min(axis=1) + " " + rules.max(axis=1)
    both = signs.where(~flipped, -signs).groupby(names).nunique()
    if (both > 1).any():
        return f"{NO_RANKING}: a difference changes its sign with layer or picture size"
    return f"{len(surviving)} of {len(pairs)} contrasts of rules survive correction; see the table for layer and size"


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    from decoders.store.tables import COLUMNS

    return pd.DataFrame(rows, columns=list(COLUMNS["verdicts"]))
