"""Settings of decoding from MEG or EEG."""

from __future__ import annotations

from pydantic import Field

from decoders.config.base import Positive, Settings


class MegDecodingSettings(Settings):
    """Heard text from MEG or EEG: sensors that carry it, windows identified, characters written."""

    task: str | None = Field(None, description="Task label of the MEG or EEG runs; all when absent.")
    window_s: Positive = Field(3.0, description="Windows that are identified, in seconds.")
    test_runs: int = Field(1, ge=1, description="Runs held out from the end.")
