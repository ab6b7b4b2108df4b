"""What was left out, whoever found it: the manifest, the preprocessing, or the RDMs."""

from __future__ import annotations

import pandas as pd

from decoders.report.words import text
from decoders.store.arrays import Arrays


def mark_excluded(manifest: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest with the runs that preprocessing excluded (a constant subject, …) marked as such.

    Parameters
    ----------
    manifest : DataFrame
        With run_id, status and reason.
    quality : DataFrame
        With run_id and excluded; may be empty.
    """
    if not len(manifest) or not {"run_id", "excluded"} <= set(quality.columns):
        return manifest
    found = {text(run): text(why) for run, why in zip(quality["run_id"], quality["excluded"], strict=True) if text(why)}
    reasons = [
        text(why) if text(status) != "ok" else found.get(text(run), "")
        for run, status, why in zip(manifest["run_id"], manifest["status"], manifest["reason"], strict=True)
    ]
    states = [
        "excluded" if text(status) != "ok" or text(run) in found else "ok"
        for run, status in zip(manifest["run_id"], manifest["status"], strict=True)
    ]
    return manifest.assign(status=states, reason=reasons)


def left_out(manifest: pd.DataFrame, rdms: Arrays | None, scores: pd.DataFrame | None = None) -> list[str]:
    """Return a sentence for everything that was left out: runs, subjects of decoding, RDMs of subjects and regions."""
    items, known = [], set()
    if len(manifest):
        for _, row in manifest[manifest["status"] != "ok"].iterrows():
            why = text(row["reason"]) or "no reason given"
            items.append(f"{text(row['run_id'])} (subject {text(row['subject'])}): {why}")
            known.add(why)
    extra = rdms.attributes.get("excluded", {}) if rdms is not None else {}
    items += [f"Decoding of subject {who}: too few of its runs are left" for who in undecoded(manifest, scores)]
    # A run that is named above also leaves its RDM out, for the same reason.
    return [*items, *(f"RDM of {text(who)}: {text(why)}" for who, why in dict(extra).items() if text(why) not in known)]


def undecoded(manifest: pd.DataFrame, scores: pd.DataFrame | None) -> list[str]:
    """Return the subjects with some usable runs who have no scores because other runs of theirs were left out."""
    if scores is None or not len(scores) or not {"subject", "task"} <= set(manifest.columns):
        return []
    decoded = {text(who) for who in scores.loc[scores["level"] == "subject", "subject"]}
    who, bad = manifest["subject"].map(text), manifest["status"] != "ok"
    # Runs of other tasks were never meant to be decoded.
    same_task = manifest["task"].isin(manifest.loc[who.isin(decoded), "task"])
    partly = set(who[bad & same_task]) & set(who[~bad & same_task])
    return sorted(partly - decoded)
