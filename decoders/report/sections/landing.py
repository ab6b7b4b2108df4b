"""What the study found: the verdict table. No other section claims more."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from decoders.data.registry import registry
from decoders.report.blocks import Block, Fold, Notice, Section, parts
from decoders.report.exclusions import left_out
from decoders.report.read import Results
from decoders.report.sections.certificate import broken
from decoders.report.sections.verdict_groups import group_table
from decoders.report.sections.verdicts import KINDS, kind_of, verdict_table
from decoders.report.words import analysis_of, control_title, count, listed, parse_model, text


def section(results: Results) -> Section:
    """Return the landing section."""
    lead = (
        "Each analysis gets one of three verdicts: above all controls, above chance but explained by a control, "
        "or not above chance. "
        "The other sections show what the verdicts rest on and claim no more."
    )
    blocks = [broken(results), excluded_notice(results), matched_notice(results), *_tables(results.table("verdicts"))]
    return Section("verdicts", "Verdicts", lead, parts(("", blocks)))


def _tables(verdicts: pd.DataFrame) -> list[Block | None]:
    """Return every verdict; where these are many, their short form first and the others to be opened."""
    if not len(verdicts):
        return []
    short, full = group_table(verdicts), verdict_table(verdicts)
    return [short, Fold(f"Every verdict, one by one: {len(verdicts)} rows", full)] if short else [full]


def summary(results: Results) -> list[str]:
    """Return the paragraph under the title."""
    verdicts, manifest = results.table("verdicts"), results.table("manifest")
    data = results.settings.data
    sentences = [f"{registry().entry(data.name).title.rstrip('.')}."] if data.source == "registry" else []
    if len(manifest):
        used = manifest[manifest["status"] == "ok"]
        noun = "RDM" if of_rdms(used) else "recording"
        rest = len(manifest) - len(used)
        people = count(used["subject"].nunique(), "person", "people")
        noun = "simulated " * (results.settings.data.source == "phantom") + noun
        sentence = f"The study rests on {count(len(used), noun)} of {people}"
        sentences.append(f"{sentence}; {rest} {'was' if rest == 1 else 'were'} excluded." if rest else f"{sentence}.")
    kinds = verdicts["analysis"].map(text).map(analysis_of)
    for name in ("Decoding", "Alignment", "Alignment in time", "Fusion"):
        sentences += _counted(name, verdicts[kinds == name])
    found = [(kind_of(text(row["verdict"])), text(row["analysis"])) for _, row in verdicts.iterrows()]
    unranked = list(dict.fromkeys(name.rsplit(", ", 1)[-1] for kind, name in found if kind == "unranked"))
    if unranked:
        place = "region" if len(unranked) == 1 else "regions"
        sentences.append(f"No ranking of learning rules is supported in the {place} {listed(unranked)}.")
    return [" ".join(sentences)] if sentences else []


def matched_notice(results: Results) -> Notice | None:
    """Return the note that a phantom's decoder was given the features that made the signal, where it was."""
    if not matched_features(results):
        return None
    words = (
        "The voxel decoder of this phantom was given the very word features that generated the simulated signal. No "
        "recording of a real brain offers that: scores of windows, decoded text, voxel maps and the recovery of "
        "planted voxels are upper bounds. Set decoding.voxels.features to trigram for features that a real study could "
        "have."
    )
    return Notice("Matched features: an upper bound", [words])


def matched_features(results: Results) -> bool:
    """Return whether the voxel maps come from the phantom's own word features."""
    made = [text(item.content.attributes.get("features")) for item in results.arrays.get("voxels_arrays", [])]
    return "phantom" in made


def of_rdms(manifest: pd.DataFrame) -> bool:
    """Return whether the data set ships dissimilarity matrices in place of recordings."""
    return "modality" in manifest and len(manifest) > 0 and bool((manifest["modality"] == "rdm").all())


def _counted(name: str, verdicts: pd.DataFrame) -> list[str]:
    """Return sentences that count the verdicts of the group, and of subjects those that the group has not."""
    group = verdicts["level"] == "group"
    names = verdicts["analysis"].map(text).str.replace(r", seed \d+$", "", regex=True)
    alone = ~group & ~names.isin(names[group])
    return [*_sentence(name, verdicts[group], "of the group"), *_sentence(name, verdicts[alone], "of single subjects")]


def _sentence(name: str, rows: pd.DataFrame, level: str) -> list[str]:
    kinds = [kind_of(text(verdict)) for verdict in rows["verdict"]]
    numbers = [(kinds.count(kind), _kind_words(kind, rows)) for kind in ("above", "control", "chance")]
    total = sum(number for number, _ in numbers)
    if total > 1 and (alone := [words for number, words in numbers if number == total]):
        return [f"{name}: all {total} analyses {level} are {alone[0]}."]
    phrases = [f"{number} {'is' if number == 1 else 'are'} {words}" for number, words in numbers if number]
    return [f"{name}: of {count(total, 'analysis', 'analyses')} {level}, {listed(phrases)}."] if phrases else []


def _kind_words(kind: str, rows: pd.DataFrame) -> str:
    if kind != "control":
        return KINDS[kind][0]
    names = Counter(control_title(parse_model(text(name)).words) for name in rows["explained_by"] if text(name))
    phrase = listed([name for name, _ in names.most_common()], 3)
    return "above chance but explained by " + (phrase.replace(" and ", " or ") or "a control")


def excluded_notice(results: Results) -> Notice | None:
    """Return the note that names everything that was left out, and why."""
    items = left_out(results.table("manifest"), results.first("rdms"), results.table("decoding_scores"))
    return Notice("Left out", items) if items else None
