"""Settings of alignment in time (MEG, EEG), and of its fusion with fMRI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from decoders.config.base import Settings

SinceOnset = Annotated[float, Field(ge=0)]


class TimeSettings(Settings):
    """Time-resolved RSA of MEG or EEG trials (alignment.md)."""

    task: str | None = Field(None, description="Task label of the MEG or EEG runs; all when absent.")
    n_permutations: int = Field(1000, ge=100, description="Permutations behind clusters and their largest sums.")


class FusionSettings(Settings):
    """Representations of MEG in time against those of fMRI in space, and what each model explains of them."""

    n_permutations: int = Field(1000, ge=100, description="Permutations behind each family of tests.")
    reference: Literal["own", "others"] | None = Field(
        None,
        description="fMRI RDM that each person's MEG is compared with: the person's own, or the mean of all other people; own when absent and everybody with MEG has every region, else others.",
    )
    stimuli: Literal["equal", "common"] = Field(
        "equal", description="MEG and fMRI must show the same stimuli (equal), or those in both are used (common)."
    )
    models: tuple[str, ...] | None = Field(
        None,
        description="Models whose share of the fusion is computed, named as in inference.tsv (control:pixel, backprop cnn3 fc1 32px); all when absent.",
    )
    map_times_ms: tuple[SinceOnset, ...] | None = Field(
        None, description="Times in ms after onset with a map of fusion (searchlight); every 50 ms when absent."
    )
