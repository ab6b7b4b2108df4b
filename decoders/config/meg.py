"""Settings of MEG and EEG recordings: what is done to each run, and how it is cut into trials."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.base import Positive, Settings


class MegSettings(Settings):
    """What is done to each MEG or EEG run."""

    channels: tuple[Literal["mag", "grad", "eeg"], ...] = Field(
        ("mag", "grad"), min_length=1, description="Types of sensors that are kept; others are read for artefacts only."
    )
    high_pass_hz: Positive | None = Field(0.1, description="Lower edge of the pass band in Hz; null for none.")
    low_pass_hz: Positive = Field(40.0, description="Upper edge of the pass band in Hz.")
    sfreq: Positive = Field(
        200.0, description="Samples per second that are kept, at least 2.5 times low_pass_hz; the low-pass comes first."
    )
    epoch_s: tuple[float, float] = Field(
        (-0.2, 0.8), description="Start and end of a trial in seconds from its onset (trial estimates)."
    )
    baseline_s: tuple[float, float] | None = Field(
        (-0.2, 0.0), description="Stretch of a trial whose mean is subtracted, in seconds; null for none."
    )

    @model_validator(mode="after")
    def _rates_fit(self) -> MegSettings:
        if self.sfreq < 2.5 * self.low_pass_hz:
            raise ValueError(f"sfreq {self.sfreq:g} is less than 2.5 times low_pass_hz {self.low_pass_hz:g}")
        if self.high_pass_hz is not None and self.high_pass_hz >= self.low_pass_hz:
            raise ValueError("high_pass_hz must lie below low_pass_hz")
        if self.epoch_s[0] >= self.epoch_s[1]:
            raise ValueError("epoch_s must start before it ends")
        return self
