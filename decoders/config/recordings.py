"""Settings of the recordings: where they come from, and what is done to each run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, Name, Positive, Settings, Share
from decoders.config.meg import MegSettings
from decoders.config.phantom_meg import PhantomMegSettings


class PhantomSettings(Settings):
    """The phantom of known truth: text, pictures and fMRI written as valid BIDS."""

    grid: tuple[Count, Count, Count] = Field((16, 20, 16), description="Voxels per axis.")
    r0: Positive = Field(0.2, description="Mean true correlation of a planted voxel with its signal.")
    story_subjects: int = Field(1, ge=0, description="People who listen to the stories.")
    story_runs: int = Field(
        12,
        ge=3,
        description="Runs of the story task, 150 volumes of 2 s each; the embedded English stories fill 13, the Chinese ones 5, the Alice book 30.",
    )
    picture_subjects: int = Field(6, ge=0, description="People who look at the pictures.")
    picture_runs: Count = Field(3, description="Runs of the picture task per person.")
    n_pictures: int = Field(24, ge=10, description="Pictures, spread over the planted categories.")
    text: Literal["embedded_en", "embedded_zh", "alice"] = Field(
        "embedded_en", description="Embedded stories (ours), or the Alice book from the registry."
    )
    meg: PhantomMegSettings | None = Field(None, description="MEG of the same people; none when absent.")
    seed: int = Field(0, ge=0, description="Seed of the phantom itself, apart from the study's seed.")


class DataSettings(Settings):
    """Where the recordings come from."""

    source: Literal["bids", "registry", "phantom", "none"] = Field(
        description="A BIDS folder, a registered public set, the phantom, or no recordings at all (learning rules alone)."
    )
    root: str | None = Field(None, description="BIDS folder (source: bids).")
    derivatives: str | None = Field(None, description="fMRIPrep-style derivatives; read in place of the raw images.")
    name: Name | None = Field(None, description="Registry entry (source: registry).")
    phantom: PhantomSettings | None = Field(None, description="The phantom's settings (source: phantom).")
    mirror: str | None = Field(
        None, description="Folder that is read instead of the network; CORTICODE_MIRROR does the same."
    )
    subjects: tuple[str, ...] | None = Field(None, description="Subject labels without 'sub-'; all when absent.")
    sessions: tuple[str, ...] | None = Field(None, description="Session labels; all when absent.")
    tasks: tuple[str, ...] | None = Field(None, description="Task labels; all when absent.")
    space: str | None = Field(None, description="Space entity of the derivatives, e.g. MNI152NLin2009cAsym.")
    variant: str | None = Field(None, description="A part of a registered set, e.g. '6mm' (Alice) or '1slice' (Haxby).")
    tr: Positive | None = Field(None, description="Repetition time in seconds, checked against header and sidecar.")

    @model_validator(mode="after")
    def _source_has_its_key(self) -> DataSettings:
        if self.source == "none":
            return self
        needed = {"bids": self.root, "registry": self.name, "phantom": self.phantom}[self.source]
        key = {"bids": "root", "registry": "name", "phantom": "phantom"}[self.source]
        if needed is None:
            raise ValueError(f"source '{self.source}' needs the key '{key}'")
        return self


class PreprocessSettings(Settings):
    """What is done to each run; but for `meg`, the keys are of fMRI. Motion correction and normalisation are fMRIPrep's work."""

    representation: Literal["volume", "region", "surface"] = Field(
        "volume", description="Voxels in a mask, region means, or surface vertices."
    )
    mask: str | None = Field(
        None,
        description="Brain mask image, a path from the working folder; '{subject}' is replaced. The data set's own, else computed, when absent.",
    )
    rois: dict[Name, str] = Field(
        default_factory=dict, description="Region name to mask image (path as for mask), for region time courses."
    )
    atlas: str | None = Field(None, description="A nilearn atlas name or a label image, for region time courses.")
    drop_volumes: int = Field(0, ge=0, description="Volumes dropped from the start of each run.")
    high_pass_s: Positive | None = Field(
        128.0, description="Cut-off period of the DCT high-pass in seconds; null for none."
    )
    confounds: tuple[str, ...] = Field(
        (), description="Confound columns, or 'motion6', 'motion24', 'compcor', 'scrub' where the tables have them."
    )
    smoothing_fwhm_mm: Positive | None = Field(
        None, description="Gaussian smoothing, full width at half maximum in mm."
    )
    resample_mm: Positive | None = Field(None, description="Isotropic resampling in mm. Never done unless set.")
    standardize: bool = Field(True, description="z-score each voxel within each run.")
    max_bad_share: Share = Field(
        0.05,
        description="Share of non-finite or constant voxels inside the mask that is dropped with a warning; more is refused.",
    )
    estimates: Literal["lsa", "lss", "blocks"] | None = Field(
        None, description="Trial estimates: least squares all, least squares separate, or block means."
    )
    estimate_lag_s: float = Field(0.0, description="Lag in seconds added to block onsets (blocks only).")
    hrf: Literal["spm", "glover"] = Field("spm", description="Haemodynamic response of the GLM.")
    meg: MegSettings | None = Field(None, description="MEG and EEG runs; the defaults of the block when absent.")
