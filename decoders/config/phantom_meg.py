"""Settings of the MEG half of the phantom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, NotNegative, Positive, Settings

Level = Annotated[float, Field(ge=0)]
# Sharp enough for a time course that rises within 35 ms, and for the line frequency.
_MIN_SFREQ = 150.0


class PhantomMegSettings(Settings):
    """MEG of people who hear the phantom's stories and see its pictures, with planted dipoles."""

    story_subjects: int = Field(0, ge=0, description="People who listen to the stories in the MEG.")
    story_runs: Count = Field(3, description="Runs of the story task in the MEG, at most those of the phantom.")
    story_s: float = Field(
        300.0, ge=20.0, le=300.0, description="Seconds of each story that are told in the MEG; 300 is all of it."
    )
    picture_subjects: int = Field(8, ge=0, description="People who look at the pictures in the MEG.")
    picture_runs: Count = Field(2, description="Runs of the picture task per person in the MEG.")
    repeats: Count = Field(5, description="Times that each picture is shown in a run.")
    sfreq: Positive = Field(250.0, description="Samples per second, at least 150.")
    evoked_snr: Level = Field(
        1.0,
        description="Peak of the response that all pictures (or words) share, root mean square over the quarter of the sensors that see it best, in standard deviations of a sample of noise.",
    )
    geometry_snr: Level = Field(
        1.5,
        description="Peak of what tells one picture from the others, as a distance in whitened sensors (d'); root mean square over pictures.",
    )
    story_snr: Level = Field(
        1.0, description="The same for words: peak of what their vectors say, as a distance in whitened sensors."
    )
    null: Literal["geometry", "response"] | None = Field(
        None,
        description="A phantom of nothing: 'geometry' gives every picture and word the same response, 'response' evokes none. Nulls are for family-wise tests.",
    )
    jitter_s: Level = Field(0.003, description="Standard deviation over people of the planted latencies in seconds.")
    sensor_noise: Level = Field(
        3.0, description="White sensor noise in fT/rtHz (magnetometers) and fT/cm/rtHz (gradiometers)."
    )
    brain_noise: Level = Field(
        20.0, description="Median spectral density of brain noise over magnetometers at 10 Hz, in fT/rtHz."
    )
    alpha: Level = Field(150.0, description="Alpha rhythm: root mean square over occipital magnetometers in fT.")
    line_hz: Positive | None = Field(50.0, description="Frequency of the power line in Hz, 50 or 60; null for none.")
    line: Level = Field(400.0, description="Line noise: root mean square over magnetometers in fT.")
    blinks_per_s: float = Field(0.2, ge=0, le=0.8, description="Eye blinks per second.")
    blink: Level = Field(1200.0, description="Peak of a blink over magnetometers in fT.")
    heart: Level = Field(500.0, description="Peak of the heart beat over magnetometers in fT.")
    head_shift_mm: float = Field(3.0, ge=0, le=15, description="Standard deviation of the head's place between runs.")
    flat_channels: NotNegative = Field(1, description="Sensors per person that record nothing.")
    noisy_channels: NotNegative = Field(1, description="Sensors per person with 20 times the sensor noise.")
    declare_bad: bool = Field(True, description="Whether channels.tsv says which sensors are bad.")
    empty_room_s: Positive = Field(60.0, description="Seconds of the recording without a person.")

    @model_validator(mode="after")
    def _can_be_recorded(self) -> PhantomMegSettings:
        if self.sfreq < _MIN_SFREQ:
            raise ValueError(f"sfreq {self.sfreq:g} is less than {_MIN_SFREQ:g} Hz")
        if self.line_hz not in (None, 50.0, 60.0):
            raise ValueError(f"line_hz {self.line_hz:g} is neither 50 nor 60 Hz")
        if self.flat_channels + self.noisy_channels > 30:
            raise ValueError("flat_channels and noisy_channels are more than 30 of 306 sensors")
        return self
