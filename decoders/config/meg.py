"""Settings of MEG and EEG recordings: what is done to each run, and how it is cut into trials."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, NotNegative, Positive, Settings

SensorType = Literal["mag", "grad", "eeg"]


class SourceSettings(Settings):
    """Source estimates on a template head, averaged to the regions of an atlas; in place of the sensors."""

    atlas: str = Field(
        description="Label image in MNI space (NIfTI, one number per region; path from the working folder)."
    )
    labels: str | None = Field(
        None,
        description="Table (tab-separated, columns index and name) that names the atlas's numbers; numbers when absent.",
    )
    method: Literal["dSPM", "MNE"] = Field("dSPM", description="Minimum norm, or the same divided by its noise.")
    spacing_mm: Positive = Field(10.0, description="Distance of the sources in the template's inner skull.")
    snr: Positive = Field(3.0, description="Assumed ratio of signal to noise in amplitude; its square regularises.")


class MegSettings(Settings):
    """What is done to each MEG or EEG run."""

    channels: tuple[SensorType, ...] = Field(
        ("mag", "grad"), min_length=1, description="Types of sensors that are kept; others are read for artefacts only."
    )
    bad_channels: Literal["interpolate", "drop"] = Field(
        "interpolate",
        description="Bad channels are interpolated from their neighbours, or dropped in all runs of the subject.",
    )
    noisy_z: Positive = Field(
        6.0,
        description="A channel is noisy above this robust z of its log deviation (and 3 times the median deviation).",
    )
    maxwell: Literal["auto", "sss", "tsss", "none"] = Field(
        "auto",
        description="Signal space separation; auto does SSS for Elekta, Neuromag and MEGIN, none for other systems.",
    )
    tsss_window_s: Positive = Field(10.0, description="Window of temporal SSS in seconds.")
    movement: bool = Field(True, description="Compensate head movement where head positions (.pos, cHPI) are there.")
    notch: bool = Field(True, description="Remove line noise below the upper edge of the pass band.")
    line_hz: Positive | None = Field(
        None, description="Line frequency in Hz; the sidecar's, the header's or the spectrum's when absent."
    )
    high_pass_hz: Positive | None = Field(0.1, description="Lower edge of the pass band in Hz; null for none.")
    low_pass_hz: Positive = Field(40.0, description="Upper edge of the pass band in Hz.")
    sfreq: Positive = Field(
        200.0, description="Samples per second that are kept, at least 2.5 times low_pass_hz; the low-pass comes first."
    )
    rates: Literal["refuse", "resample"] = Field(
        "refuse",
        description="Runs of a subject with other sampling rates are refused, or all runs are resampled to exactly sfreq.",
    )
    artefacts: Literal["ica", "ssp", "none"] = Field("ica", description="How eye and heart artefacts are removed.")
    ica_components: Count = Field(40, description="Independent components per kind of sensor, at most.")
    ica_seed: NotNegative = Field(0, description="Seed of the ICA.")
    eeg_reference: Literal["average", "none"] = Field("average", description="Reference of EEG channels.")
    noise: Literal["auto", "empty_room", "baseline", "run"] = Field(
        "auto",
        description="Where the noise covariance comes from; auto takes the empty room, else baselines, else the run itself.",
    )
    end_trigger: Literal["shift", "refuse"] = Field(
        "shift", description="An onset that is really the end of the stimulus is shifted by the duration, or refused."
    )
    epoch_s: tuple[float, float] = Field(
        (-0.2, 0.8), description="Start and end of a trial in seconds from its onset (trial estimates)."
    )
    baseline_s: tuple[float, float] | None = Field(
        (-0.2, 0.0), description="Stretch of a trial whose mean is subtracted, in seconds; null for none."
    )
    reject: Literal["auto", "fixed", "none"] = Field(
        "auto",
        description="Trials of too large an amplitude are dropped: by a threshold from the data, or reject_above.",
    )
    reject_above: dict[SensorType, Positive] = Field(
        default_factory=dict, description="Peak-to-peak amplitude per type of sensor (T, T/m, V), for reject 'fixed'."
    )
    source: SourceSettings | None = Field(None, description="Source estimates in place of sensors; none when absent.")

    @model_validator(mode="after")
    def _rates_fit(self) -> MegSettings:
        if self.sfreq < 2.5 * self.low_pass_hz:
            raise ValueError(f"sfreq {self.sfreq:g} is less than 2.5 times low_pass_hz {self.low_pass_hz:g}")
        if self.high_pass_hz is not None and self.high_pass_hz >= self.low_pass_hz:
            raise ValueError("high_pass_hz must lie below low_pass_hz")
        return self

    @model_validator(mode="after")
    def _trials_fit(self) -> MegSettings:
        start, stop = self.epoch_s
        if start >= stop:
            raise ValueError("epoch_s must start before it ends")
        if self.baseline_s is not None and not start <= self.baseline_s[0] < self.baseline_s[1] <= stop:
            raise ValueError("baseline_s must lie inside epoch_s")
        if (self.reject == "fixed") != bool(self.reject_above):
            raise ValueError("reject 'fixed' and the thresholds reject_above need each other")
        return self
