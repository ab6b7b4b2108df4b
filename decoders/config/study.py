"""A study: one tree of settings."""

from __future__ import annotations

from pydantic import Field, model_validator

from decoders.config.alignment import AlignmentSettings, CertificateSettings
from decoders.config.base import Count, Name, Settings
from decoders.config.decoding import DecodingSettings
from decoders.config.learning import LearningSettings
from decoders.config.recordings import DataSettings, PreprocessSettings


class ReportSettings(Settings):
    """What the page shows."""

    title: str | None = Field(None, description="Title of the page; the study's name when absent.")
    thumbnails: bool = Field(False, description="Show the stimulus pictures. Off unless their licence allows it.")


class StudySettings(Settings):
    """A study: data, preprocessing and any of decoding, learning and alignment."""

    study: Name = Field(description="Name of the study; results go to results/<study>.")
    seed: int = Field(0, ge=0, description="Seed of all that is drawn at random.")
    threads: Count = Field(1, description="Numerical threads of torch and BLAS. Other numbers give other bits.")
    data: DataSettings
    preprocess: PreprocessSettings | None = None
    decoding: DecodingSettings | None = None
    learning: LearningSettings | None = None
    alignment: AlignmentSettings | None = None
    certificate: CertificateSettings | None = None
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _blocks_have_what_they_need(self) -> StudySettings:
        blocks = {"preprocess": self.preprocess, "decoding": self.decoding, "alignment": self.alignment}
        if self.data.source == "none" and (given := [name for name, block in blocks.items() if block]):
            raise ValueError(f"data.source 'none' has no recordings, which {given} need")
        if self.decoding and not self.preprocess:
            raise ValueError("'decoding' needs the block 'preprocess'")
        if self.alignment and self.alignment.time and not self.preprocess:
            raise ValueError("'alignment.time' needs the block 'preprocess'")
        estimated = self.preprocess is not None and self.preprocess.estimates is not None
        if self.alignment and self.alignment.recordings == "estimates" and not estimated:
            raise ValueError("'alignment' from estimates needs 'preprocess' with 'estimates'")
        if self.alignment and self.alignment.recordings == "windows":
            if not self.preprocess:
                raise ValueError("'alignment' of windows needs the block 'preprocess'")
            if self.learning and self.learning.training.dataset != "text":
                raise ValueError(
                    "'alignment' of windows compares networks that read: set learning.training.dataset to 'text'"
                )
        if self.alignment and self.alignment.searchlight and self.preprocess:
            kind = self.preprocess.representation
            if kind != "volume":
                raise ValueError(f"'alignment.searchlight' needs preprocess.representation 'volume', found '{kind}'")
        return self
