"""Settings of decoding: names, encoding models, voxel maps and free text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, NotNegative, Positive, Settings, Share
from decoders.config.decoding_meg import MegDecodingSettings

LeakCheck = Literal["run", "subject", "stimulus", "text", "gap", "scaling", "selection", "penalty", "corpus"]


class NamesSettings(Settings):
    """Voxels to category names: closed-vocabulary decoding, one run left out at a time."""

    task: str | None = Field(None, description="Task label of the runs; all when absent.")
    conditions: tuple[str, ...] | None = Field(
        None, description="Names to decode; all trial types but 'rest' when absent."
    )
    units: tuple[Literal["volume", "block"], ...] = Field(("volume", "block"), description="What one test sample is.")
    models: tuple[Literal["lda", "ridge", "speller", "nearest_pattern"], ...] = Field(
        ("lda", "ridge", "speller"), min_length=1, description="Decoders; nearest_pattern belongs to block_halves."
    )
    split: Literal["leave_one_run_out", "block_halves"] = Field(
        "leave_one_run_out", description="block_halves: first against second block of each condition, for a single run."
    )
    lag_s: float = Field(0.0, description="Lag in seconds between events and volumes.")
    seeds: tuple[NotNegative, ...] = Field((0,), min_length=1, description="Seeds of the speller.")
    n_permutations: int = Field(200, ge=0, description="Label permutations for the null of the closed-form models.")
    bottleneck: float = Field(1e-3, ge=0, description="Weight of the voxel KL in the speller's loss.")
    epochs: Count = Field(40, description="Passes over the training volumes of the speller.")
    head: Literal["linear", "patchify", "k7"] = Field(
        "patchify", description="Front end of the speller: linear, or a 3D-CNN on the voxel grid."
    )
    sigma_voxels: Positive = Field(1.0, description="Gaussian smoothing of the speller's gate logits, in voxels.")
    gate_folds: NotNegative = Field(
        0,
        description="Folds over training runs by which the speller's gate is cross-fitted before the speller is trained behind it; 0 trains them together, which is faster.",
    )
    n_voxels: Count = Field(
        500, description="Voxels kept by nearest_pattern, largest category spread on the training half."
    )


class EncodingSettings(Settings):
    """Ridge encoding models of continuous text, and identification of windows from the recordings."""

    task: str | None = Field(None, description="Task label of the runs; all when absent.")
    features: tuple[Literal["word_rate", "speech_seconds", "sound_power", "position", "letters", "embedding"], ...] = (
        Field(("word_rate", "speech_seconds"), min_length=1, description="Feature spaces of the model under test.")
    )
    delays: tuple[Count, ...] = Field((1, 2, 3, 4), description="Delays in TR.")
    n_blocks: int = Field(4, ge=2, description="Contiguous test blocks when the set has one run.")
    gap_tr: int = Field(5, ge=0, description="Volumes dropped between training and test blocks.")
    alphas: tuple[Positive, ...] = Field(
        (1.0, 10.0, 100.0, 1e3, 1e4, 1e5), description="Ridge penalties, chosen by inner contiguous folds."
    )
    windows_s: tuple[Positive, ...] = Field(
        (10.0, 20.0, 40.0, 80.0), description="Window lengths for identification in seconds."
    )
    n_nulls: int = Field(200, ge=20, description="Circular shifts for the null.")
    average_subjects: int = Field(
        10, ge=1, description="Unseen subjects that are averaged for the group identification."
    )
    other_text: str | None = Field(
        None,
        description="A text of the same kind (embedded_en, embedded_zh, alice, tinyshakespeare, a UTF-8 file, or a folder of .txt files). Of its passages that nobody heard, word vectors are made, and surrogates of the content: their words at the times of the heard ones.",
    )
    n_surrogates: int = Field(100, ge=100, description="Surrogates behind the gain of content (with other_text).")

    @model_validator(mode="after")
    def _other_text_has_content_to_test(self) -> EncodingSettings:
        content = {"letters", "embedding"} & set(self.features)
        if self.other_text and not content:
            raise ValueError("'other_text' tests the gain of content: put 'embedding' or 'letters' into 'features'")
        if self.other_text and content == set(self.features):
            raise ValueError("'other_text' tests what content adds to timing: put 'word_rate' into 'features' too")
        return self


class VoxelMapSettings(Settings):
    """Voxel information bottleneck on the grid (decoding.md, section 2)."""

    task: str | None = Field(None, description="Task label of the runs; all when absent.")
    beta: float = Field(
        10.0,
        ge=0,
        description="Weight of the mean KL per voxel (nats) in the loss; beyond 2,000 voxels it grows with their number.",
    )
    betas: tuple[float, ...] = Field(
        (), description="Further betas at which the gate is trained, for the rate-distortion curve; none: no curve."
    )
    sigma_voxels: Positive = Field(1.0, description="Gaussian smoothing of the gate logits, in voxels.")
    gate_lr: Positive = Field(0.05, description="Adam learning rate of the gate logits.")
    readout_lr: Positive = Field(3e-3, description="Adam learning rate of the read-out.")
    window_s: Positive = Field(10.0, description="Windows contrasted by InfoNCE, in seconds.")
    hidden: Count = Field(32, description="Dimensions of the linear read-out.")
    epochs: Count = Field(120, description="Passes over the training runs.")
    folds: int = Field(4, ge=2, description="Cross-fitting folds over runs; at most as many as training runs.")
    n_null_gates: int = Field(
        8, ge=0, description="Null pairings (text of other runs, rolled in time): their maximum is the cut of the maps."
    )
    gate: Literal["voxel", "volume"] = Field(
        "voxel", description="One openness per voxel, or per voxel and volume by a 3D-CNN (an experiment)."
    )
    head: Literal["linear", "patchify", "k7"] = Field(
        "linear", description="Read-out after the gate: linear, or a 3D-CNN."
    )
    features: Literal["phantom", "trigram", "cooccurrence", "language_model"] = Field(
        "trigram",
        description="Word features: the phantom's own embedding (bounds only), letter trigrams, or, learnt from the corpus of `free_text` without any held-out story, co-occurrence or the states of our language model.",
    )
    test_runs: int = Field(3, ge=1, description="Runs (or blocks) held out from the end for the refit's scores.")
    blocks: int | None = Field(
        None,
        ge=3,
        description="Contiguous blocks into which the only run of a subject is cut, with gaps; `test_runs` counts the last of them. Absent: a subject with one run is refused.",
    )
    select_share: Share = Field(0.05, description="Share of voxels kept for the refit.")
    halves: bool = Field(
        True, description="Train gates on disjoint halves of the runs too, beside a null, to see how stable the map is."
    )
    atlas: str | None = Field(
        None,
        description="A nilearn atlas name (MNI space) or a label image on the maps' grid ('{subject}' is replaced), to name clusters.",
    )


class FreeTextSettings(Settings):
    """Free text from the runs that `voxels` holds out: a language model and a beam search read its selected voxels."""

    corpus: tuple[str, ...] = Field(
        (),
        description="Texts that the language model learns from beside the stories of training runs: embedded_en, embedded_zh (our stories), alice, tinyshakespeare (registry), UTF-8 text files, or folders of .txt files. Test stories in them stop the study.",
    )
    corpus_unheard: bool = Field(
        False, description="Of `corpus` only the passages that are told in none of the study's stimuli."
    )
    epochs: Count = Field(20, description="Passes of the language model over its corpus; the best one is kept.")
    max_words: Count = Field(2500, description="Commonest words of the corpus that may be written.")
    width: Count = Field(200, description="Hypotheses that the beam search keeps.")
    language_weight: Positive = Field(0.5, description="Weight of the language model's log P; the recording's is 1.")
    window_s: Positive = Field(20.0, description="Windows in which texts are compared, in seconds, without overlap.")
    blur_s: Positive = Field(
        1.0, description="Seconds by which each word is spread in time when windows are told apart by their text."
    )
    n_permutations: int = Field(1000, ge=200, description="Rolls of windows within their runs behind each p.")
    baselines: tuple[Literal["retrieval", "tang2023"], ...] = Field(
        ("retrieval",),
        description="Other decoders in the same table: ridge and retrieval of training passages, and Tang et al. 2023 (slow).",
    )
    tang_width: Count = Field(200, description="Hypotheses that the beam of tang2023 keeps; theirs is 200.")
    bert_model: str | None = Field(
        None, description="Folder of a transformers model for BERTScore (needs bert-score); nothing is downloaded."
    )
    bert_layer: Count = Field(9, description="Layer of bert_model whose states are compared.")


class AcrossSettings(Settings):
    """Decoding of a person and a story that no decoder has seen, from no or few runs of that person.

    The story of the runs that `voxels` holds out is held out of all people; every person is held out in turn.
    """

    few_shot: tuple[NotNegative | Literal["all"], ...] = Field(
        (0, 1, 3, "all"), min_length=1, description="Runs given of the new person, the first of those that train."
    )
    methods: tuple[
        Literal["shared", "ridge_to_reference", "hyperalignment", "pooled_grid", "within"], ...
    ] = Field(
        ("shared", "ridge_to_reference", "hyperalignment", "pooled_grid", "within"), min_length=1,
        description="shared: one network with a front end, scales and biases per person. ridge_to_reference, hyperalignment: maps to other people's responses to the same stories. pooled_grid: one ridge for all, from no run. within: the new person's given runs alone.",
    )  # fmt: skip
    epochs: Count = Field(30, description="Passes of the shared network over the training runs.")
    width: Count = Field(32, description="Outputs per volume of a front end of the shared network.")
    hidden: Count = Field(64, description="Units of the temporal layer of the shared network.")
    pull: float = Field(
        1.0, ge=0, description="Weight that holds a person's front end, scales and biases at the mean person's."
    )
    gradient_reversal: float = Field(
        0.0, ge=0, description="Weight of the reversed gradient of a network that tells people apart; 0 for none."
    )
    gate_prior: float = Field(
        3.0,
        ge=0,
        description="Weight, over the number of given runs, that holds the new person's gate at the others' mean.",
    )
    components: Count = Field(80, description="Dimensions that hyperalignment rotates (at most).")
    sigma_voxels: Positive = Field(
        1.0,
        description="Gaussian smoothing of what is read on the common grid without any run of the person, in voxels.",
    )


class AllowedLeak(Settings):
    """A leak between training and test data that a study accepts; the page shows it with its reason."""

    analysis: Literal["encode", "names", "voxels", "free_text", "across", "meg"] = Field(description="Whose splits.")
    check: LeakCheck = Field(description="Check of the leak audit that is not passed.")
    reason: str = Field(min_length=20, description="Why it is accepted, as a sentence.")


class DecodingSettings(Settings):
    """What is decoded from the recordings. Each part may be absent."""

    names: NamesSettings | None = None
    encoding: EncodingSettings | None = None
    voxels: VoxelMapSettings | None = None
    free_text: FreeTextSettings | None = None
    across: AcrossSettings | None = None
    meg: MegDecodingSettings | None = None
    allowed_leaks: tuple[AllowedLeak, ...] = Field(
        (),
        description="Leaks between training and test data that the study accepts, e.g. [{analysis: encode, check: gap, reason: …}]; any other stops it.",
    )

    @model_validator(mode="after")
    def _free_text_has_its_voxels(self) -> DecodingSettings:
        if self.free_text and not self.voxels:
            raise ValueError("'free_text' reads the voxels that 'voxels' selects: give that block too")
        if self.voxels and self.voxels.features in ("cooccurrence", "language_model") and not self.free_text:
            raise ValueError(
                f"the features '{self.voxels.features}' are learnt from the corpus of 'free_text': give that block too"
            )
        return self

    @model_validator(mode="after")
    def _across_has_its_voxels(self) -> DecodingSettings:
        if self.across and not self.voxels:
            raise ValueError("'across' starts from the gates of 'voxels' and holds out its test runs: give that block")
        if self.across and self.voxels and self.voxels.blocks:
            raise ValueError("'across' holds whole runs out: leave 'blocks' out of 'voxels', or drop 'across'")
        return self
