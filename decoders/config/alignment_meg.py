"""Settings of alignment in time (MEG, EEG), and of its fusion with fMRI."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, Positive, Settings, Share

SinceOnset = Annotated[float, Field(ge=0)]


class SensorSettings(Settings):
    """RSA in the neighbourhood of every sensor, over time."""

    radius_mm: Positive | None = Field(
        None,
        description="Sensors of one type within this radius in mm; those that touch (mne's triangulation) when absent.",
    )
    models: tuple[str, ...] | None = Field(
        None,
        description="Models that are shown, named as in time_inference.tsv (control:pixel, backprop cnn3 fc1 32px); controls, own models and each rule's last layer at the first size when absent.",
    )
    statistic: Literal["cluster", "tfce", "max"] = Field(
        "cluster", description="Group test over sensors and time (five subjects or more); tfce takes hours."
    )
    step: Count = Field(1, description="Every so many-th moment is looked at.")


class TimeSettings(Settings):
    """Time-resolved RSA of MEG or EEG trials (alignment.md)."""

    task: str | None = Field(None, description="Task label of the MEG or EEG runs; all when absent.")
    window_s: tuple[float, float] | None = Field(
        None, description="First and last moment in seconds from the onset; whole trials when absent."
    )
    ignore: tuple[str, ...] = Field(
        ("catch", "fixation", "response", "button"), description="Trial types that are no stimuli."
    )
    noise: Literal["residuals", "baseline"] = Field(
        "residuals", description="Where the noise covariance comes from: repeats of conditions, or the baselines."
    )
    folds: Literal["runs", "trials"] = Field(
        "runs", description="Crossnobis across runs, or across blocks of trials (so for a subject with one run, too)."
    )
    n_folds: int = Field(5, ge=2, description="Blocks of trials, at most.")
    statistic: Literal["tfce", "max"] = Field(
        "tfce", description="Corrected p of each moment: threshold-free cluster enhancement, or the largest t."
    )
    cluster_p: Share = Field(0.05, gt=0, lt=0.5, description="Uncorrected p that a moment needs to be in a cluster.")
    n_permutations: int = Field(1000, ge=100, description="Permutations behind clusters and their largest sums.")
    sensors: SensorSettings | None = Field(None, description="RSA around every sensor; not computed when absent.")

    @model_validator(mode="after")
    def _window_has_a_length(self) -> TimeSettings:
        if self.window_s and self.window_s[0] >= self.window_s[1]:
            raise ValueError("window_s must start before it ends")
        return self


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
