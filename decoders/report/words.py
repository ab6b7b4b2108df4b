"""Words of the page for the names in the tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

RULES = {
    "untrained": "Untrained",
    "random_features": "Random features",
    "backprop": "Backpropagation",
    "feedback_alignment": "Feedback alignment",
    "direct_feedback_alignment": "Direct feedback alignment",
}
_CONTROLS = {
    "pixel": "pixels",
    "gabor": "pooled Gabor energy",
    "gabor_flat": "flat Gabor energy",
    "gist": "GIST",
    "hog": "HOG",
    "word_rate": "word rate",
    "word_length": "length of words",
    "nearness": "nearness in time",
    "trigrams": "letter trigrams",
    "sound_power": "sound power",
    "speech_seconds": "seconds of speech",
    "position": "place in the story",
    "language_model": "language model alone",
    "shifted": "time-shifted text",
    "shuffled": "shuffled labels",
    "constant_name": "best constant name",
    "random_name": "random name",
    "noise": "noise input",
    "other_subject": "other subject",
    "other_text": "text that nobody heard",
    "timing": "timing alone",
    "duration": "seconds of speech",
}
N_WORDS = "subjects in rows of the group; tested samples in rows of one subject (1 where they are one series)"
_MODELS = {
    "lda": "LDA",
    "ridge": "ridge",
    "speller": "character speller",
    "nearest_pattern": "nearest pattern",
    "bottleneck_refit": "ridge on what the gate selects",
    "encoder": "convolutional encoder",
    "ridge_all_sensors": "ridge on all sensors",
    "ridge_all_voxels": "ridge on all voxels",
    "beam": "beam search of free text",
    "ridge_retrieval": "ridge and retrieval of passages",
    "tang2023": "Tang et al. 2023",
    "content": "content beyond timing",
    "shared": "shared network, adapted",
    "ridge_to_reference": "ridge to other people's voxels",
    "hyperalignment": "hyperalignment",
    "pooled_grid": "one ridge for all, common grid",
    "within": "the person's given runs alone",
}
_METRICS = {
    "cer": "character error rate",
    "percentile": "identification percentile",
    "r": "correlation r",
    "accuracy": "accuracy",
    "greedy_accuracy": "accuracy, spelled greedily",
    "greedy_cer": "character error rate, spelled greedily",
    "auc": "AUC",
    "ap": "average precision",
    "bits_per_char": "bits per character",
    "meteor": "METEOR",
    "bertscore": "BERTScore",
    "bits_gain": "bits per character saved",
    "wer": "word error rate",
    "bleu1": "BLEU-1",
    "chrf": "chrF",
    "similarity": "similarity of meaning",
}
_SPLITS = {
    "leave_one_run_out": "one run left out at a time",
    "block_halves": "block against block",
    "unseen_time": "unseen time",
    "test_runs": "held-out runs",
    "unseen_subject": "unseen subject and time",
    "unseen_subjects_averaged": "average of unseen subjects, unseen time",
}
_NEW_PERSON = re.compile(r"^held_out_subject_(all|\d+)_runs$")
_REST = re.compile(r"(split|seed) (\S+?)(?=,|$)")
_RSA = re.compile(
    r"^(?P<what>rsa|encoding|time|commonality) (?P<region>.+?): (?P<model>.+?)(, (?P<when>-?\d+ to -?\d+ ms))?$"
)
_FUSION = re.compile(r"^(?P<what>fusion) (?P<region>.+?): (?P<when>.+)$")
_DECODED = re.compile(
    r"^((?P<modality>meg|eeg) )?(?P<task>\w[\w.]*): (?P<model>[\w:]+), (?P<metric>\w+)(?P<rest>, .*)?$"
)
_RANKING = re.compile(r"^(?P<what>rsa|encoding|time|commonality) ranking of rules, (?P<region>.+)$")
_ALIGNMENT = {
    "rsa": "Alignment",
    "encoding": "Encoding",
    "time": "Alignment in time",
    "fusion": "Fusion",
    "commonality": "Share of the fusion",
}
_MOMENT = re.compile(r"^meg:(\d+)ms$")
_TOP = re.compile(r"^top(\d+)$")
_WINDOW = re.compile(r"^window_(\d+(?:\.\d+)?)s$")


def is_control(name: str) -> bool:
    """Return whether a rule or a model is a control."""
    return str(name).startswith("control:")


def title(name: str) -> str:
    """Return the words for a rule, a model or a control."""
    name = str(name)
    if is_control(name):
        bare = name.removeprefix("control:")
        return "control: " + _CONTROLS.get(bare, bare.replace("_", " "))
    name = name.removeprefix("user:")
    return RULES.get(name) or _MODELS.get(name) or name.replace("_", " ")


def control_title(name: str) -> str:
    """Return the words for a control without the prefix."""
    name = str(name).removeprefix("control:").strip()
    return _CONTROLS.get(name) or title(name)


@dataclass(frozen=True)
class ModelName:
    """The parts of a model's name: rule, architecture, layer, size (empty where it has none)."""

    rule: str
    architecture: str = ""
    layer: str = ""
    size: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """Return where the features were taken."""
        return self.architecture, self.layer, self.size

    @property
    def words(self) -> str:
        """Return the name in words, without the architecture."""
        return ", ".join(part for part in (title(self.rule), layer_words(self.layer), size_words(self.size)) if part)


def parse_model(name: str) -> ModelName:
    """Return the parts of ``"backprop cnn3 fc1 32px"``; a control or a user's model has a rule only."""
    words = text(name).split(" ")
    if len(words) != 4:
        return ModelName(text(name))
    rule, architecture, layer, size = words
    return ModelName(rule, architecture, layer, size.removesuffix("px"))


def layer_words(layer: str) -> str:
    """Return the words for a layer."""
    return layer.removesuffix("_pooled") + " pooled" if layer.endswith("_pooled") else layer


def size_words(size: str) -> str:
    """Return the words for a picture size; text has none."""
    return "" if size in ("", "text") else "native size" if size in ("0", "native") else f"{size} px"


def split(name: str) -> str:
    """Return the words for a split."""
    if match := _NEW_PERSON.match(str(name)):
        amount = match[1]
        given = "all runs" if amount == "all" else "no run" if amount == "0" else count(int(amount), "run")
        return f"held-out subject, {given} given"
    return _SPLITS.get(str(name), str(name).replace("_", " "))


@dataclass(frozen=True)
class AnalysisName:
    """The parts of the name of an analysis; those that it lacks are empty.

    `what` tells encoding models, alignment in time and fusion from RSA in the kinds "rsa" and "ranking"; `when` is the
    cluster of alignment in time. `modality` tells the decoding of MEG or EEG from that of fMRI, for which it is empty.
    """

    kind: str
    region: str = ""
    model: str = ""
    task: str = ""
    metric: str = ""
    split: str = ""
    seed: str = ""
    what: str = ""
    when: str = ""
    modality: str = ""


def parse_analysis(name: str) -> AnalysisName:
    """Return the parts of ``"rsa IT: backprop cnn3 fc1 32px"`` or ``"volume: lda, accuracy, split block_halves"``.

    The kind is "ranking", "rsa", "decoding" or "other" (whose name stands as the task).
    """
    if ranking := _RANKING.match(name):
        return AnalysisName("ranking", ranking["region"], what=ranking["what"])
    if rsa := _RSA.match(name):
        return AnalysisName("rsa", rsa["region"], rsa["model"], what=rsa["what"], when=rsa["when"] or "")
    if fused := _FUSION.match(name):
        return AnalysisName("rsa", fused["region"], what="fusion", when=fused["when"])
    if decoded := _DECODED.match(name):
        rest = dict(_REST.findall(decoded["rest"] or ""))
        parts = (rest.get("split", ""), rest.get("seed", ""))
        named = ("", decoded["model"], decoded["task"], decoded["metric"], *parts)
        return AnalysisName("decoding", *named, modality=decoded["modality"] or "")
    return AnalysisName("other", task=name)


def analysis(name: str) -> str:
    """Return the words for an analysis of the verdict table."""
    rsa, decoded, fused = _RSA.match(name), _DECODED.match(name), _FUSION.match(name)
    if fused:
        return f"Fusion of MEG and fMRI, {fused['region']}: {fused['when']}"
    if ranking := _RANKING.match(name):
        return f"{alignment_words(ranking['what'])}, ranking of the rules, {ranking['region']}"
    if rsa:
        when = f", {rsa['when']}" if rsa["when"] else ""
        return f"{alignment_words(rsa['what'])}, {rsa['region']}: {parse_model(rsa['model']).words}{when}"
    if decoded:
        rest = re.sub(r"split (\w+)", lambda match: split(match[1]), decoded["rest"] or "")
        head = (f"{decoded['modality'].upper()}, " if decoded["modality"] else "") + task(decoded["task"])
        return f"{head[:1].upper()}{head[1:]}: {title(decoded['model'])}, {metric(decoded['metric'])}{rest}"
    return name


def alignment_words(what: str) -> str:
    """Return the words for a way of comparing networks with recordings."""
    return _ALIGNMENT.get(what, "Alignment")


def is_alignment(name: str) -> bool:
    """Return whether an analysis of the verdict table compares models with recordings."""
    return parse_analysis(name).kind in ("rsa", "ranking")


def analysis_of(name: str) -> str:
    """Return which part of a study a verdict belongs to: Decoding, Alignment, Alignment in time or Fusion."""
    what = parse_analysis(name).what
    if what in ("fusion", "commonality"):
        return "Fusion"
    return "Alignment in time" if what == "time" else "Alignment" if is_alignment(name) else "Decoding"


def metric(name: str) -> str:
    """Return the words for a metric."""
    if best := best_of(name):
        return f"top-{best} identification"
    return _METRICS.get(str(name), str(name).replace("_", " "))


def best_of(name: object) -> int | None:
    """Return k of the metric "top-k identification" (the true window is among the k best), None for other metrics."""
    match = _TOP.match(str(name))
    return int(match[1]) if match else None


def window_seconds(task: str) -> float | None:
    """Return the length of a window task in seconds, None for other tasks."""
    match = _WINDOW.match(str(task))
    return float(match[1]) if match else None


def level(name: str) -> str:
    """Return the words for a level."""
    return {"subject": "one subject", "group": "group"}.get(str(name), str(name))


def model_words(name: str) -> str:
    """Return the words for a control, a user's model, a layer of a network or a MEG time; a region stays."""
    if moment := _MOMENT.match(name):
        return f"MEG at {moment[1]} ms"
    return title(name) if is_control(name) else parse_model(name).words if " " in name else name


def comparator_words(name: str) -> str:
    """Return the words for what compares two RDMs."""
    known = {"spearman": "Spearman correlation", "rho_a": "rho-a", "kendall_tau_a": "Kendall's tau-a"}
    known |= {"encoding_r": "held-out correlation, mean over voxels", "linear_cka": "linear CKA, debiased"}
    known |= {"commonality": "variance shared by MEG, fMRI and model (R²)", "pearson": "Pearson correlation"}
    known |= {"encoding_r_region_mean": "held-out correlation of the region's mean"}
    return known.get(str(name), str(name).replace("_", "-"))


def task(name: str) -> str:
    """Return the words for a task; one of sensors has their kind in front of it (``"meg window_3s"``)."""
    kind, separator, rest = str(name).partition(" ")
    if separator and kind in ("meg", "eeg"):
        return f"{task(rest)}, {kind.upper()}"
    seconds = window_seconds(name)
    known = {
        "volume": "names from single volumes",
        "block": "names from single blocks",
        "free_text": "freely decoded text",
        "text": "freely decoded text",
    }
    if name.endswith("_gain"):
        return f"{task(name.removesuffix('_gain'))}, gain"
    return f"{seconds:g}-s windows" if seconds is not None else known.get(str(name), str(name).replace("_", " "))


def colour_of(rule: str, known: list[str]) -> int:
    """Return the colour (and marker) of a rule: the same all over the page."""
    fixed = {
        "backprop": 0,
        "feedback_alignment": 1,
        "direct_feedback_alignment": 2,
        "random_features": 3,
        "untrained": 7,
    }
    if rule in fixed:
        return fixed[rule]
    others = sorted(name for name in set(known) if name not in fixed)
    return 4 + others.index(rule) % 3 if rule in others else 6


def text(value: object) -> str:
    """Return a table's value as text, empty where it is missing."""
    return "" if value is None or value is pd.NA or value != value else str(value)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listed(names: list[str], most: int = 12) -> str:
    """Return names as a phrase; beyond `most` their number is given."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
