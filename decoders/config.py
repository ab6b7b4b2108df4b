"""Every setting of a study, defined once: closed, strict, with units and sources.

A study is a data set plus what to preprocess, and any of a decoding, a learning and an
alignment block. A block that is absent is not computed. The same model tree is exported
as the JSON schema in ``workflow/schemas``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from decoders.errors import SettingsError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
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
LeakCheck = Literal["run", "subject", "stimulus", "text", "gap", "scaling", "selection", "penalty", "corpus"]


class Settings(BaseModel):
    """Base: unknown keys are errors, values are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


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
    """What is done to each fMRI run. Motion correction and normalisation are fMRIPrep's work."""

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
    beta: float = Field(10.0, ge=0, description="Weight of the mean KL per voxel (nats) in the loss.")
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
    n_null_gates: int = Field(1, ge=0, description="Null gates (targets rolled in time).")
    gate: Literal["voxel", "volume"] = Field(
        "voxel", description="One openness per voxel, or per voxel and volume by a 3D-CNN (an experiment)."
    )
    head: Literal["linear", "patchify", "k7"] = Field(
        "linear", description="Read-out after the gate: linear, or a 3D-CNN."
    )
    features: Literal["phantom", "trigram"] = Field(
        "trigram", description="Word features: the phantom's own embedding (bounds only) or letter trigrams."
    )
    test_runs: int = Field(3, ge=1, description="Runs held out from the end for the refit's scores.")
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
    epochs: Count = Field(20, description="Passes of the language model over its corpus; the best one is kept.")
    max_words: Count = Field(2500, description="Commonest words of the corpus that may be written.")
    width: Count = Field(200, description="Hypotheses that the beam search keeps.")
    language_weight: Positive = Field(0.5, description="Weight of the language model's log P; the recording's is 1.")
    window_s: Positive = Field(20.0, description="Windows in which texts are compared, in seconds, without overlap.")
    blur_s: Positive = Field(
        1.0, description="Seconds by which each word is spread in time when windows are told apart by their text."
    )
    n_permutations: int = Field(1000, ge=200, description="Rolls of windows within their runs behind each p.")


class AllowedLeak(Settings):
    """A leak between training and test data that a study accepts; the page shows it with its reason."""

    analysis: Literal["encode", "names", "voxels", "free_text"] = Field(description="Whose splits.")
    check: LeakCheck = Field(description="Check of the leak audit that is not passed.")
    reason: str = Field(min_length=20, description="Why it is accepted, as a sentence.")


class DecodingSettings(Settings):
    """What is decoded from the recordings. Each part may be absent."""

    names: NamesSettings | None = None
    encoding: EncodingSettings | None = None
    voxels: VoxelMapSettings | None = None
    free_text: FreeTextSettings | None = None
    allowed_leaks: tuple[AllowedLeak, ...] = Field(
        (),
        description="Leaks between training and test data that the study accepts, e.g. [{analysis: encode, check: gap, reason: …}]; any other stops it.",
    )

    @model_validator(mode="after")
    def _free_text_has_its_voxels(self) -> DecodingSettings:
        if self.free_text and not self.voxels:
            raise ValueError("'free_text' reads the voxels that 'voxels' selects: give that block too")
        return self


class TrainingSettings(Settings):
    """The common budget of all learning rules."""

    dataset: Literal["cifar10", "mnist", "phantom", "folder", "text"] = Field(
        "cifar10", description="Training pictures, or characters of a text to be continued (text)."
    )
    folder: str | None = Field(None, description="Folder with one sub-folder per class (dataset: folder).")
    text: str = Field(
        "embedded_en",
        min_length=1,
        description="Training text (dataset: text): embedded_en, embedded_zh (our stories), alice (registry), a UTF-8 text file, or a folder of .txt files.",
    )
    window: int = Field(
        32, ge=2, le=1024, description="Characters that a network reads to predict the next one (dataset: text)."
    )
    n_train: Count = Field(8000, description="Training pictures, balanced over classes unless all are taken.")
    n_test: Count = Field(2000, description="Test pictures, balanced over classes unless all are taken.")
    size: int = Field(32, ge=8, description="Edge in pixels to which the training pictures are brought.")
    epochs: Count = Field(2, description="Passes over the training pictures.")
    batch_size: Count = Field(128, description="Pictures per update.")
    learning_rate: Positive = Field(3e-3, description="Peak of the one-cycle schedule of Adam.")
    n_readout: Count = Field(
        10_000, description="Training pictures (at equal distances) that the common linear read-outs are fitted on."
    )


class LearningSettings(Settings):
    """Networks to train: every rule on every architecture with every seed."""

    rules: tuple[Name, ...] = Field(
        ("untrained", "random_features", "backprop", "feedback_alignment", "direct_feedback_alignment"),
        min_length=1,
        description="Registered learning rules; `corticode rules` lists them.",
    )
    architectures: tuple[Name, ...] = Field(("cnn3",), min_length=1, description="Registered architectures.")
    only: dict[Name, tuple[Name, ...]] = Field(
        default_factory=dict,
        description="Architecture to the rules that train it, where these are not all, e.g. {spikingmlp: [stdp]}.",
    )
    seeds: tuple[NotNegative, ...] = Field((0, 1, 2), min_length=1, description="Seeds; each is one network per rule.")
    training: TrainingSettings = TrainingSettings()
    options: dict[Name, dict[Name, bool | int | float | str]] = Field(
        default_factory=dict,
        description="Rule to its options, e.g. {backprop: {learning_rate: 0.001}}; `corticode rules --options` lists them.",
    )
    jobs: Literal["rule", "seed"] = Field(
        "rule",
        description="A job trains all seeds of a rule and architecture (rule), or one network (seed: more jobs side by side).",
    )
    sizes: tuple[NotNegative, ...] = Field(
        (32, 0),
        min_length=1,
        description="Edge lengths in pixels at which features of the study's pictures are taken; 0 is the native size.",
    )

    def pairs(self) -> list[tuple[str, str]]:
        """Return rule and architecture of all networks, in the order of the settings."""
        return [
            (rule, architecture)
            for rule in self.rules
            for architecture in self.architectures
            if rule in self.only.get(architecture, self.rules)
        ]

    @model_validator(mode="after")
    def _every_rule_trains_something(self) -> LearningSettings:
        if unknown := sorted(set(self.only) - set(self.architectures)):
            raise ValueError(f"'only' names {unknown}, which is not among the architectures {list(self.architectures)}")
        named = {rule for rules in self.only.values() for rule in rules}
        if unknown := sorted(named - set(self.rules)):
            raise ValueError(f"'only' names {unknown}, which is not among the rules")
        idle = [rule for rule in self.rules if rule not in {pair[0] for pair in self.pairs()}]
        if idle:
            raise ValueError(f"the rules {idle} would train no network: 'only' leaves them out everywhere")
        return self


class UserModel(Settings):
    """A model of the user's own: an RDM, features, or weights of a registered architecture."""

    name: Name = Field(description="Row of the tables: user:<name>.")
    kind: Literal["rdm", "features", "weights"] = Field(description="What the file holds.")
    path: str = Field(description="rdm: HDF5 or TSV; features: HDF5; weights: safetensors.")
    architecture: Name | None = Field(None, description="Architecture of the weights (kind: weights).")


class AlignmentSettings(Settings):
    """Comparison of networks with recordings by RSA (alignment.md)."""

    recordings: Literal["rdms", "estimates"] = Field(
        "estimates", description="RDMs that the data set ships, or RDMs of our trial estimates."
    )
    task: str | None = Field(None, description="Task label of the runs (estimates); all when absent.")
    regions: dict[Name, str] = Field(
        default_factory=dict,
        description="Region name to mask image, inside data.root (or absolute); '{subject}' is replaced. All voxels form the region 'all' when empty.",
    )
    rdm: Literal["correlation", "euclidean", "crossnobis"] = Field(
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
    n_bootstrap: int = Field(1000, ge=20, description="Bootstrap resamples over stimuli and subjects.")
    correction: Literal["fdr", "max"] = Field("max", description="Correction within a family of tests.")
    alpha: Share = Field(0.05, description="Level of the corrected tests.")


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
    report: ReportSettings = ReportSettings()

    @model_validator(mode="after")
    def _blocks_have_what_they_need(self) -> StudySettings:
        blocks = {"preprocess": self.preprocess, "decoding": self.decoding, "alignment": self.alignment}
        if self.data.source == "none" and (given := [name for name, block in blocks.items() if block]):
            raise ValueError(f"data.source 'none' has no recordings, which {given} need")
        if self.decoding and not self.preprocess:
            raise ValueError("'decoding' needs the block 'preprocess'")
        estimated = self.preprocess is not None and self.preprocess.estimates is not None
        if self.alignment and self.alignment.recordings == "estimates" and not estimated:
            raise ValueError("'alignment' from estimates needs 'preprocess' with 'estimates'")
        return self


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed beside the unknown one at `location`."""
    node: Any = StudySettings.model_json_schema()
    definitions = node["$defs"]
    for key in location[:-1]:
        if isinstance(key, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(key, node.get("additionalProperties", {}))
        node = _resolve(node, definitions)
    return list(node.get("properties", {}))


def _resolve(node: Any, definitions: dict[str, Any]) -> Any:
    for option in node.get("anyOf", [node]):
        if "$ref" in option:
            return definitions[option["$ref"].rsplit("/", 1)[-1]]
        if option.get("type") == "array":
            return option
    return node


def _sentence(error: Any, above: tuple[int | str, ...] = ()) -> str:
    location = (*above, *error["loc"])
    key = ".".join(str(part) for part in location) or "the study"
    if error["type"] == "extra_forbidden":
        known = _known_keys(location)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known keys here: {', '.join(known)}."
        return f"'{key}' is not a setting. {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = "" if error["type"] == "missing" else f" (found {json.dumps(error['input'], default=str)[:80]})"
    hint = " Put it in quotes." if error["type"] == "string_type" and isinstance(error["input"], int | float) else ""
    return f"'{key}': {message}{found}.{hint}"


def parse_settings(values: dict[str, Any], where: str | Path = "settings") -> StudySettings:
    """Check the raw values of a study.

    Parameters
    ----------
    values : dict
        What the YAML file holds.
    where : str or Path
        Named in the error.

    Raises
    ------
    SettingsError
        One sentence per fault; unknown keys name the closest known one.
    """
    try:
        # JSON mode: strict about types, yet lists may become tuples.
        return StudySettings.model_validate_json(json.dumps(values))
    except TypeError as error:
        raise SettingsError(
            f"{where}: a value is neither text, number, list nor mapping ({error}). Quote dates and the like."
        ) from error
    except ValidationError as error:
        faults = "\n".join(f"  - {_sentence(fault)}" for fault in error.errors())
        raise SettingsError(f"{where}: the study cannot be used as it stands:\n{faults}") from error


def load_settings(path: str | Path) -> StudySettings:
    """Read a study file (YAML) and check it."""
    return parse_settings(read_study(path), path)


class _OnceLoader(yaml.SafeLoader):
    """YAML would let the last of two equal keys win, in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        doubled = next((key for key in keys if keys.count(key) > 1), None)
        if doubled is not None:
            raise yaml.MarkedYAMLError("in a mapping", node.start_mark, f"the key '{doubled}' comes twice")
        return super().construct_mapping(node, deep)


def read_study(path: str | Path) -> dict[str, Any]:
    """Read the raw values of a study file.

    Raises
    ------
    SettingsError
        It cannot be read, is no mapping, or gives a setting twice.
    """
    path = Path(path)
    try:
        values = _OnceLoader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read as YAML ({error}). Start from `corticode init STUDY`.") from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path}: expected a mapping of settings, found {type(values).__name__}. Start from `corticode init STUDY`."
        )
    return values


def pick(study: StudySettings, key: str) -> Any:
    """Return a setting by its dotted name; None below a block that is absent."""
    value: Any = study
    for part in key.split("."):
        value = None if value is None else getattr(value, part)
    return value


def parse_slice(values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Check some settings, as a stage receives them.

    Parameters
    ----------
    values : dict
        Raw values of exactly the settings `keys` (dotted names); None below a block that is absent.
    keys : sequence of str

    Raises
    ------
    SettingsError
        A setting that is missing, surplus or not valid.
    """
    if set(values) != set(keys):
        raise SettingsError(f"This stage takes the settings {sorted(keys)}, found {sorted(values)}.")
    return {key: _parse_one(key, values[key]) for key in keys}


def _parse_one(key: str, value: Any) -> Any:
    if value is None and "." in key:
        return None
    location = tuple(key.split("."))
    annotation: Any = StudySettings
    for part in location:
        # A block is a model or None.
        options = [option for option in (annotation, *get_args(annotation)) if hasattr(option, "model_fields")]
        annotation = options[0].model_fields[part].annotation
    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        faults = "\n".join(f"  - {_sentence(fault, location)}" for fault in error.errors())
        raise SettingsError(f"The settings of this stage cannot be used:\n{faults}") from error


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a study file, as exported to workflow/schemas."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **StudySettings.model_json_schema()}
