"""Settings of the MEG half of the phantom."""

from __future__ import annotations

from pydantic import Field

from decoders.config.base import Count, Positive, Settings


class PhantomMegSettings(Settings):
    """MEG of people who hear the phantom's stories and see its pictures, with planted dipoles."""

    story_subjects: int = Field(0, ge=0, description="People who listen to the stories in the MEG.")
    story_runs: Count = Field(3, description="Runs of the story task in the MEG.")
    picture_subjects: int = Field(8, ge=0, description="People who look at the pictures in the MEG.")
    picture_runs: Count = Field(2, description="Runs of the picture task per person in the MEG.")
    sfreq: Positive = Field(250.0, description="Samples per second.")
