"""Settings of decoding from MEG or EEG."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, Positive, Settings, Share


class MegTextSettings(Settings):
    """Free text from MEG or EEG: a language model and a beam search read the selected sensors."""

    corpus: tuple[str, ...] = Field(
        (),
        description="Texts that the language model learns from beside the stories of training runs: embedded_en, embedded_zh (our stories), alice, tinyshakespeare (registry), UTF-8 text files, or folders of .txt files. Test stories in them stop the study.",
    )
    epochs: Count = Field(20, description="Passes of the language model over its corpus; the best one is kept.")
    max_words: Count = Field(2500, description="Commonest words of the corpus that may be written.")
    width: Count = Field(40, description="Hypotheses that the beam search keeps.")
    language_weight: Positive = Field(0.5, description="Weight of the language model's log P; the recording's is 1.")
    sensors: Count = Field(60, description="Sensors that the search reads, at most: the highest of the combined map.")
    window_s: Positive = Field(5.0, description="Windows in which texts are compared, in seconds, without overlap.")
    blur_s: Positive = Field(
        0.5, description="Seconds by which each word is spread in time when windows are told apart by their text."
    )
    n_permutations: int = Field(1000, ge=200, description="Rolls of windows within their runs behind each p.")


class MegDecodingSettings(Settings):
    """Heard text from MEG or EEG: sensors that carry it, windows identified, characters written."""

    task: str | None = Field(None, description="Task label of the MEG or EEG runs; all when absent.")
    window_s: Positive = Field(3.0, description="Windows that are identified, in seconds.")
    test_runs: int = Field(1, ge=1, description="Runs held out from the end.")
    test_share: Share = Field(
        0.25, description="Share at the end of the run that is held out, where a person has one run."
    )
    features: Literal["phantom", "trigram"] = Field(
        "trigram", description="Word features: the phantom's own embedding (bounds only) or letter trigrams."
    )
    sfreq: Positive = Field(100.0, description="Samples per second that the convolutional encoder reads.")
    text_hz: Positive = Field(
        25.0, description="Samples per second of the text's features and of the gate; sfreq is a multiple of it."
    )
    response_s: Positive = Field(0.6, description="Seconds after a word in which sensors answer to it.")
    whiten: bool = Field(
        False, description="Whiten sensors by their noise covariance (symmetric, so that sensors stay sensors)."
    )
    beta: float = Field(10.0, ge=0, description="Weight of the mean KL per sensor (nats) in the loss of the gate.")
    smoothing_m: float = Field(
        0.02,
        ge=0,
        description="Gaussian smoothing of the gate's logits over sensors of one type, in metres; 0 for none.",
    )
    gate_lr: Positive = Field(0.05, description="Adam learning rate of the gate's logits.")
    readout_lr: Positive = Field(3e-3, description="Adam learning rate of the gate's read-out.")
    hidden: Count = Field(16, description="Dimensions of the gate's read-out.")
    epochs: Count = Field(40, description="Passes of the gate over the training runs.")
    folds: int = Field(
        4, ge=2, description="Cross-fitting folds over runs, or over parts of them where there are fewer."
    )
    n_null_gates: int = Field(
        4, ge=1, description="Null pairings (text rolled in time): their maximum is the cut of the sensors."
    )
    encoder_width: Count = Field(32, description="Channels of the convolutional encoder.")
    encoder_epochs: Count = Field(40, description="Passes of the encoder over the training runs; the best one is kept.")
    encoder_lr: Positive = Field(2e-3, description="Peak AdamW learning rate of the encoder.")
    n_nulls: int = Field(200, ge=100, description="Circular shifts of the text behind the p of identification.")
    text: MegTextSettings | None = Field(None, description="Free text; none when absent.")

    @model_validator(mode="after")
    def _rates_fit(self) -> MegDecodingSettings:
        factor = self.sfreq / self.text_hz
        if factor < 1 or abs(factor - round(factor)) > 1e-9:
            raise ValueError(f"sfreq {self.sfreq:g} must be a multiple of text_hz {self.text_hz:g}")
        if self.response_s * self.text_hz < 2:
            raise ValueError("response_s must hold two samples of text_hz or more")
        if self.window_s * self.text_hz < 4:
            raise ValueError("window_s must hold four samples of text_hz or more")
        return self
