"""Real recordings whose stimulus labels are permuted: whatever the data look like, nothing may be found in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.alignment.certificate.findings import Finding, rate
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models
from decoders.alignment.stage import Recorded, infer
from decoders.stats.permutation import label_permutations, permute_pairs

DESIGN = "permuted"
ALPHA = 0.05


def certify_recorded(
    recorded: Sequence[Recorded], rows: Sequence[ModelRow], n_stimuli: int, n: int, plan: Plan, rng: np.random.Generator
) -> list[Finding]:
    """Return how often the study's own recordings, with permuted stimulus labels, give a finding.

    All subjects and regions are permuted alike, so that subjects still agree with each other.

    Parameters
    ----------
    recorded : sequence of Recorded
    rows : sequence of ModelRow
        The study's control models.
    n_stimuli, n : int
        Stimuli, and permuted studies.
    plan : Plan
    rng : Generator

    Returns
    -------
    list of Finding
        None without a usable control: nothing is there to be tested. Differences need two, and stimuli or subjects
        that can be resampled.
    """
    models = Models(list(rows))
    if not models.usable:
        return []
    wrong: dict[str, list[bool]] = {"alone": [], "family": [], "difference": [], "differences": []}
    for order in label_permutations(n_stimuli, n, rng):
        _count(infer(models, _relabelled(recorded, order), n_stimuli, plan, rng), wrong)
    subjects = max(len(region.subjects) for region in recorded)
    size = f"{n_stimuli} stimuli, up to {subjects} subjects, {len(recorded)} regions, recorded"
    names = {
        "alone": "p against chance <= .05 of one control in permuted recordings",
        "family": "any corrected p against chance <= .05 in the first region",
        "difference": "p of a difference <= .05 between two controls in permuted recordings",
        "differences": "any corrected p of a difference <= .05 in the first region",
    }
    return [rate(names[key], DESIGN, size, happened, "at most", ALPHA) for key, happened in wrong.items() if happened]


def _relabelled(recorded: Sequence[Recorded], order: NDArray[np.int64]) -> list[Recorded]:
    return [
        Recorded(region.region, region.subjects, np.array([permute_pairs(rdm, order) for rdm in region.rdms]))
        for region in recorded
    ]


def _count(table: pd.DataFrame, wrong: dict[str, list[bool]]) -> None:
    first = table["region"].iloc[0]
    for family, single, several in (
        (f"models against chance, {first}", "alone", "family"),
        (f"controls against controls, {first}", "difference", "differences"),
    ):
        rows = table[(table["family"] == family) & table["p"].notna()]
        # What is not tested is not right either: it does not count.
        if not len(rows):
            continue
        wrong[single].append(bool(rows["p"].iloc[0] <= ALPHA))
        wrong[several].append(bool((rows["p_corrected"] <= ALPHA).any()))
