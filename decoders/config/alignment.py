"""Settings of alignment: networks against recordings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.alignment_meg import FusionSettings, TimeSettings
from decoders.config.base import Count, Name, Positive, Settings, Share

Control = Literal[
    "pixel",
    "luminance",
    "silhouette",
    "gabor",
    "gabor_flat",
    "gist",
    "hog",
    "animacy",
    "human",
    "face",
    "natural",
    "category",
]
Comparator = Literal["spearman", "rho_a", "tau_a", "pearson", "cosine", "corr_cov", "cosine_cov"]


class UserModel(Settings):
    """A model of the user's own: an RDM, features, or weights of a registered architecture."""

    name: Name = Field(description="Row of the tables: user:<name>.")
    kind: Literal["rdm", "features", "weights"] = Field(description="What the file holds.")
    path: str = Field(description="rdm: HDF5 or TSV; features: HDF5; weights: safetensors.")
    architecture: Name | None = Field(None, description="Architecture of the weights (kind: weights).")


class EncodingAlignmentSettings(Settings):
    """Encoding models: held-out responses predicted from the features of a layer (alignment.md)."""

    layers: tuple[str, ...] | None = Field(
        None, description="Taps to encode from; those of alignment.layers when absent."
    )
    penalties: tuple[Positive, ...] = Field(
        (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
        min_length=1,
        description="Ridge penalties to choose from in inner folds, for features whose mean square sums to 1.",
    )
    n_folds: int = Field(
        5, ge=2, description="Groups of runs, and groups of stimuli, at most; a test leaves out one of each."
    )
    n_band_weights: int = Field(
        8, ge=3, description="Weights of layer and controls to choose from in inner folds, where both predict together."
    )
    n_permutations: int = Field(200, ge=20, description="Orders of the features' rows; each needs all models anew.")


class SearchlightSettings(Settings):
    """RSA in a sphere around every voxel (trial estimates in volumes only)."""

    radius_mm: Positive = Field(8.0, description="Radius of the spheres in mm; it must reach the next voxel.")
    min_share: Share = Field(0.5, description="Share of a sphere's voxels that must lie in the mask.")
    n_chunks: Count = Field(4, description="Jobs per subject, each on its share of the centres.")
    models: tuple[str, ...] | None = Field(
        None,
        description="Models with maps, named as in inference.tsv (control:pixel, backprop cnn3 fc1 32px); controls, own models and each rule's last layer at the first size when absent.",
    )
    statistic: Literal["max", "tfce"] = Field(
        "max", description="Group test (five subjects or more): largest t, or threshold-free clusters (hours)."
    )
    n_permutations: int = Field(1000, ge=100, description="Random sign flips of the subjects' maps.")


TextControl = Literal["word_rate", "word_length", "position", "nearness", "trigrams"]


class WindowSettings(Settings):
    """Windows of the stories that people heard, as the stimuli of alignment."""

    seconds: Positive = Field(20.0, description="Length of a window in seconds of the story.")
    gap_s: float = Field(
        10.0, ge=0, description="Seconds between two windows, whose responses would overlap otherwise."
    )
    lag_s: float = Field(
        5.0, ge=0, description="Seconds by which the response follows the words: volumes that start that much later."
    )
    controls: tuple[TextControl, ...] = Field(
        ("word_rate", "word_length", "position", "nearness", "trigrams"),
        description="Control RDMs of the windows.",
    )


class AlignmentSettings(Settings):
    """Comparison of networks with recordings by RSA (alignment.md)."""

    recordings: Literal["rdms", "estimates", "windows", "none"] = Field(
        "estimates",
        description="fMRI: RDMs that the data set ships, of our trial estimates, of windows of the stories that people heard (text), or none (MEG or EEG alone).",
    )
    windows: WindowSettings | None = Field(
        None, description="The windows (recordings: windows); an empty block takes the defaults."
    )
    task: str | None = Field(None, description="Task label of the runs (estimates); all when absent.")
    regions: dict[Name, str] = Field(
        default_factory=dict,
        description="Region name to mask image, inside data.root (or absolute); '{subject}' is replaced. All voxels form the region 'all' when empty.",
    )
    rdm: Literal["correlation", "euclidean", "mahalanobis", "crossnobis"] = Field(
        "correlation", description="Dissimilarity of recorded patterns."
    )
    comparators: tuple[Comparator, ...] = Field(
        ("spearman", "rho_a"), min_length=1, description="The first is used for inference."
    )
    controls: tuple[Control, ...] = Field(
        ("pixel", "luminance", "silhouette", "gabor", "gist", "hog"), description="Control RDMs of the pictures."
    )
    models: tuple[UserModel, ...] = Field((), description="The user's own models.")
    layers: tuple[str, ...] | None = Field(None, description="Taps to compare; all when absent.")
    encoding: EncodingAlignmentSettings | None = Field(
        None, description="Encoding models, from trial estimates of two or more runs; not computed when absent."
    )
    weighted_halves: int | None = Field(
        None,
        ge=1,
        description="Random halves of the stimuli on which weights of a network's layers are fitted, and tested on the other half; not computed when absent.",
    )
    n_bootstrap: int = Field(1000, ge=20, description="Bootstrap resamples over stimuli and subjects.")
    correction: Literal["fdr", "max"] = Field("max", description="Correction within a family of tests.")
    alpha: Share = Field(0.05, description="Level of the corrected tests.")
    searchlight: SearchlightSettings | None = None
    time: TimeSettings | None = None
    fusion: FusionSettings | None = None

    @model_validator(mode="after")
    def _searchlight_has_what_it_needs(self) -> AlignmentSettings:
        if self.searchlight is None:
            return self
        if self.recordings != "estimates":
            raise ValueError("'searchlight' needs trial estimates: set alignment.recordings to 'estimates'")
        if self.rdm == "mahalanobis":
            raise ValueError(
                "'searchlight' estimates no noise covariance in its spheres: set alignment.rdm to 'crossnobis' (each "
                "voxel is scaled by its own noise), 'euclidean' or 'correlation'"
            )
        able = ("spearman", "rho_a", "pearson", "cosine")
        if self.comparators[0] not in able:
            raise ValueError(f"'searchlight' compares by the first of alignment.comparators, which must be of {able}")
        return self

    @model_validator(mode="after")
    def _something_to_compare(self) -> AlignmentSettings:
        if self.recordings == "none" and self.time is None:
            raise ValueError("alignment.recordings 'none' leaves nothing to compare: add the block 'time' (MEG or EEG)")
        if self.fusion and (self.time is None or self.recordings == "none"):
            raise ValueError("'fusion' needs fMRI (alignment.recordings) and MEG or EEG (the block 'time')")
        return self

    @model_validator(mode="after")
    def _windows_where_they_are_compared(self) -> AlignmentSettings:
        if (self.windows is None) == (self.recordings == "windows"):
            raise ValueError(
                "the block 'windows' and alignment.recordings 'windows' need each other ('windows: {}' takes the defaults)"
            )
        if self.windows and self.time:
            raise ValueError("'time' compares pictures; alignment.recordings 'windows' compares text")
        if self.windows and self.models:
            raise ValueError("'models' have features of pictures; alignment.recordings 'windows' compares text")
        return self

    @model_validator(mode="after")
    def _responses_to_encode(self) -> AlignmentSettings:
        if self.encoding and self.recordings != "estimates":
            raise ValueError("'encoding' needs responses: set 'recordings' to 'estimates'")
        return self


class CertificateSettings(Settings):
    """Simulated studies of known truth, through the study's own inference: how often it is wrong (alignment.md)."""

    mode: Literal["quick", "full"] = Field(
        "quick", description="Simulated studies of each kind: 60, in minutes (quick), or 2,000 (full)."
    )
    n_studies: int | None = Field(None, ge=20, description="Another number of simulated studies of each kind.")
    cells: tuple[Literal["rsa", "time"], ...] | None = Field(
        None,
        min_length=1,
        description="Kinds of simulated studies: rsa, and time (RSA over time). Absent: rsa, and time where the study aligns in time.",
    )
    n_resamples: int = Field(200, ge=100, description="Bootstrap resamples and permutations within each of them.")
