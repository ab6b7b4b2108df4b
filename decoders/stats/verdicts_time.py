"""Verdicts of alignment in time: one for every significant cluster, none beyond the corrected tests.

*Time.* A model has a row for every significant cluster against chance (corrected for the largest cluster over all
models and moments); the score is that of the cluster's peak. It is *above all controls* where a stretch that is
significant against every control (family "models against controls") overlaps the cluster; else *explained by* the
control that is hardest to beat at the peak. A model without a significant cluster is *not above chance*. With too few
subjects for tests over subjects, the family with relabelled stimuli stands in; differences from controls are then not
tested.

No number is computed anew: all are copied from the tables.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from decoders.stats.verdicts import NO_RANKING, UNTESTED, ranking_sentence, verdict
from decoders.store.tables import COLUMNS

CHANCE, RELABELLED = "models against chance, over time", "models against relabelled stimuli, over time"
CONTROLS, RULES = "models against controls, over time", "rules against rules, over time"
_CONTROL = "control:"


def time_verdicts(
    scores: pd.DataFrame, ceilings: pd.DataFrame, inference: pd.DataFrame, clusters: pd.DataFrame, alpha: float
) -> pd.DataFrame:
    """Return a ranking row per region, then the verdicts of every network layer and user model.

    Parameters
    ----------
    scores, ceilings, inference, clusters : DataFrame
        `time_scores`, `time_ceilings`, `time_inference` and `time_clusters` of the stage `align-time`.
    alpha : float
        Level of the corrected p.

    Returns
    -------
    DataFrame
        Columns of `verdicts`.
    """
    who = subjects_of(scores)
    comparator = scores["comparator"].iloc[0] if len(scores) else ""
    limits = ceilings[ceilings["comparator"] == comparator]
    rows = []
    for region in inference["region"].dropna().unique():
        here, found = inference[inference["region"] == region], clusters[clusters["region"] == region]
        rows += [{**who, **row} for row in _ranking(here, found, str(region), alpha)]
        judged = _tested_family(here)
        curves = here[here["family"] == CHANCE] if (here["family"] == CHANCE).any() else here[here["family"] == judged]
        for model, curve in curves.groupby("model", sort=False):
            if not str(model).startswith(_CONTROL):
                mine = found[(found["model"] == model) & (found["family"] == judged)]
                stretches = found[(found["model"] == model) & (found["family"] == CONTROLS)]
                against = here[(here["model"] == model) & (here["family"] == CONTROLS)]
                case = _Case(str(region), str(model), curve, mine, stretches, against, limits, alpha)
                rows += [{**who, **row} for row in case.rows()]
    return pd.DataFrame(rows, columns=list(COLUMNS["verdicts"]))


def subjects_of(scores: pd.DataFrame) -> dict[str, object]:
    """Return level and subject of the rows that a table of scores supports."""
    subjects = scores["subject"].dropna().astype(str).unique()
    one = len(subjects) == 1
    return {"level": "subject" if one else "group", "subject": subjects[0] if one else None}


def _tested_family(here: pd.DataFrame) -> str:
    flipped = here[here["family"] == CHANCE]
    return CHANCE if len(flipped) and flipped["p_corrected"].notna().any() else RELABELLED


class _Case:
    """What is known of one model in one region."""

    def __init__(
        self, region: str, model: str, curve: pd.DataFrame, clusters: pd.DataFrame, stretches: pd.DataFrame,
        against: pd.DataFrame, ceilings: pd.DataFrame, alpha: float,
    ) -> None:  # fmt: skip
        self.curve, self.clusters, self.stretches, self.against = curve, clusters, stretches, against
        self.ceilings = ceilings[ceilings["region"] == region]
        self.name, self.alpha = f"time {region}: {model}", alpha

    def rows(self) -> list[dict[str, object]]:
        above = self.clusters[(self.clusters["p"] <= self.alpha) & (self.clusters["mass"] > 0)]
        if above.empty:
            return [self._nothing()]
        return [self._row(cluster) for cluster in above.sort_values("start_s").to_dict("records")]

    def _nothing(self) -> dict[str, object]:
        """Return the row of a model without a significant cluster: its highest moment, whatever that is worth."""
        estimates = self.curve["estimate"].astype(float)
        peak = self.curve.loc[estimates.idxmax()] if estimates.notna().any() else self.curve.iloc[0]
        smallest = self.clusters["p"].min() if len(self.clusters) else np.nan
        sentence, explained = verdict(False, "")
        tested = self.curve["p_corrected"].notna().any() or len(self.clusters)
        p = smallest if np.isfinite(smallest) else (1.0 if tested else np.nan)
        return self._copied(peak, p) | {"analysis": self.name, "verdict": sentence, "explained_by": explained}

    def _row(self, cluster: dict[object, object]) -> dict[str, object]:
        start, stop, peak = (float(cluster[key]) for key in ("start_s", "stop_s", "peak_s"))  # type: ignore[arg-type]
        sentence, explained = verdict(True, self._reached_by(start, stop, peak))
        row = self._copied(_nearest(self.curve, peak), float(cluster["p"]))  # type: ignore[arg-type]
        name = f"{self.name}, {start * 1000:.0f} to {stop * 1000:.0f} ms"
        return row | {"analysis": name, "verdict": sentence, "explained_by": explained}

    def _copied(self, row: pd.Series, p: float) -> dict[str, object]:
        copied = {"n": row["n_subjects"], "score": row["estimate"], "p_corrected": p}
        copied |= {key: row[key] for key in ("ci_low", "ci_high", "null_mean") if key in row}
        if len(self.ceilings):
            limits = _nearest(self.ceilings, float(row["time"]))
            copied |= {key: limits[key] for key in ("ceiling_low", "ceiling_high")}
        return copied

    def _reached_by(self, start: float, stop: float, peak: float) -> str:
        """Return the control that explains a cluster; empty where the model is above all of them in a part of it."""
        beaten = self.stretches[(self.stretches["p"] <= self.alpha) & (self.stretches["mass"] > 0)]
        if ((beaten["start_s"] <= stop) & (beaten["stop_s"] >= start)).any():
            return ""
        if self.against.empty:
            return UNTESTED
        hardest = _nearest(self.against, peak)
        if pd.isna(hardest["p_corrected"]) and float(hardest["estimate"]) > 0:
            return UNTESTED
        return str(hardest["reference"]).removeprefix(_CONTROL)


def _nearest(table: pd.DataFrame, time: float) -> pd.Series:
    return table.iloc[int((table["time"].astype(float) - time).abs().to_numpy().argmin())]


def _ranking(here: pd.DataFrame, clusters: pd.DataFrame, region: str, alpha: float) -> list[dict[str, object]]:
    pairs = here[here["family"] == RULES].drop_duplicates(["model", "reference"])
    if pairs.empty:
        return []
    found = clusters[clusters["family"] == RULES]
    surviving = found[found["p"] <= alpha].assign(estimate=lambda table: np.sign(table["mass"]))
    surviving = surviving.drop_duplicates(["model", "reference", "estimate"])
    row = {"analysis": f"time ranking of rules, {region}", "n": pairs["n_subjects"].iloc[0]}
    smallest = found["p"].min() if len(found) else (1.0 if here.loc[pairs.index, "p"].notna().any() else np.nan)
    if surviving.duplicated(["model", "reference"]).any():
        words = f"{NO_RANKING}: a difference changes its sign with time"
    else:
        words = ranking_sentence(pairs, surviving)
    return [{**row, "p_corrected": smallest, "verdict": words}]
