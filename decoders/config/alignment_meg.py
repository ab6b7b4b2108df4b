"""Settings of alignment in time (MEG, EEG), and of its fusion with fMRI."""

from __future__ import annotations

from pydantic import Field

from decoders.config.base import Count, Settings


class TimeSettings(Settings):
    """Time-resolved RSA of MEG or EEG trials (alignment.md)."""

    task: str | None = Field(None, description="Task label of the MEG or EEG runs; all when absent.")
    n_permutations: int = Field(1000, ge=100, description="Permutations behind clusters and their largest sums.")


class FusionSettings(Settings):
    """Representations of MEG in time against those of fMRI in space, and what each network explains of them."""

    n_permutations: Count = Field(1000, description="Permutations behind each family of tests.")
