"""Verdicts of fusion: is a region related to MEG, do controls explain that, and what do models explain of it.

*Fusion of a region.* Above chance where the corrected p of any time is at or below alpha. Above all controls where,
also at some time, the fusion beyond linear mixtures of all control RDMs survives in its own family. Otherwise it is
*explained by* the control with the largest commonality at the peak of the region's fusion (where that share does not
survive: by all controls together).

*Commonality of models.* The families of alignment, on the commonality averaged over the times at which fusion survives;
a region without such a time has no row.

No number is computed anew: all are copied from the table.
"""

from __future__ import annotations

import pandas as pd

from decoders.stats.verdicts import UNTESTED, judged_families, verdict
from decoders.store.tables import COLUMNS

_CONTROL = "control:"
# No single one has a share that survives, and yet nothing is left beyond them.
TOGETHER = "all controls together"


def fusion_verdicts(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Return a verdict for the fusion of every region, then those of the models' commonality.

    Parameters
    ----------
    table : DataFrame
        Table of the stage `fusion`.
    alpha : float
        Level of the corrected p.

    Returns
    -------
    DataFrame
        Columns of `verdicts`.
    """
    subjects = table["subject"].dropna().astype(str).unique()
    who = {"level": "subject", "subject": subjects[0]} if len(subjects) else {"level": "group", "subject": None}
    rows = [{**who, **_region_row(here, alpha)} for _, here in table.groupby("region", sort=False) if _is_region(here)]
    verdicts = [pd.DataFrame(rows, columns=list(COLUMNS["verdicts"]))]
    families = table[table["family"].str.startswith("commonality: ")]
    if len(families):
        families = families.assign(family=families["family"].str.removeprefix("commonality: "))
        verdicts.append(judged_families(families, pd.DataFrame(), who, alpha, "commonality"))
    return pd.concat(verdicts, ignore_index=True)


def _is_region(here: pd.DataFrame) -> bool:
    return bool((here["analysis"] == "fusion").any())


def _region_row(here: pd.DataFrame, alpha: float) -> dict[str, object]:
    fusion = here[here["analysis"] == "fusion"]
    surviving = fusion[fusion["p_corrected"] <= alpha]
    peak = fusion.loc[(surviving if len(surviving) else fusion)["estimate"].idxmax()]
    sentence, explained = verdict(len(surviving) > 0, _explained_by(here, peak["time"], alpha))
    return {
        "analysis": f"fusion {peak['region']}: peak at {1000 * peak['time']:.0f} ms", "n": peak["n_subjects"],
        "score": peak["estimate"], "ci_low": peak["ci_low"], "ci_high": peak["ci_high"],
        "null_mean": peak["null_mean"], "p_corrected": peak["p_corrected"], "verdict": sentence,
        "explained_by": explained,
    }  # fmt: skip


def _explained_by(here: pd.DataFrame, peak: float, alpha: float) -> str:
    """Return the control that explains a region's fusion; empty where fusion goes beyond all controls."""
    beyond = here[here["analysis"] == "partial_fusion"]
    if (beyond["p_corrected"] <= alpha).any():
        return ""
    shared = here[(here["analysis"] == "commonality") & (here["time"] == peak)]
    controls = shared[shared["model"].astype(str).str.startswith(_CONTROL)]
    if beyond.empty or controls.empty or controls["estimate"].isna().all():
        return UNTESTED
    best = controls.loc[controls["estimate"].idxmax()]
    return str(best["model"]).removeprefix(_CONTROL) if best["p_corrected"] <= alpha else TOGETHER
